"""Which model the app serves, loaded once for all readers.

Settings, as environment variables (a Space's variables): MODEL_ID, a Hub id or a folder, and
MODEL_REVISION, a commit to pin. Without MODEL_ID it serves the model that the notebooks made last.
"""

import os
import re
from pathlib import Path

import streamlit as st
from huggingface_hub import ModelCard, snapshot_download
from scoring import FILES, Classifier


def model() -> tuple[str | None, str | None]:
    """The model to serve and its revision: MODEL_ID, else the newest under the artifacts."""
    if os.environ.get("MODEL_ID"):
        return os.environ["MODEL_ID"], os.environ.get("MODEL_REVISION") or None
    here = Path(__file__).resolve().parent
    base = Path(os.environ.get("TUTORIAL_ARTIFACTS") or here.parent.parent / "artifacts")
    newest = max(base.glob("*/release"), key=lambda folder: folder.stat().st_mtime, default=None)
    return str(newest) if newest else None, None


@st.cache_resource(show_spinner=False)
def load(name: str, revision: str | None) -> tuple[Classifier, str | None, str]:
    """The model, the commit it is of (a folder has none) and what its card says of its test."""
    folder, commit = Path(name), None
    if not folder.is_dir():
        wanted = [*FILES, "README.md"]
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=wanted))
        commit = folder.name
    classifier = Classifier(folder)
    classifier.explain("A first review is slower than the next.")
    return classifier, commit, test_score(folder / "README.md")


def test_score(card: Path) -> str:
    """The test accuracy in a model's card, with its interval, or a note that there is none."""
    try:
        found = ModelCard.load(card)
        results = found.data.eval_results or []
        score = next(result for result in results if result.metric_type == "accuracy")
        accuracy = f"{score.metric_value:.2f}"
    except Exception:  # none, or whatever is wrong with a card: its model still works
        return "no test score in its card"
    interval = re.search(r"interval:? (\d\.\d+) to (\d\.\d+)", found.text)
    within = f" (95 % interval {interval[1]} to {interval[2]})" if interval else ""
    return f"test accuracy {accuracy}{within} on {score.dataset_name}"
