"""Which model the app serves, loaded once for all readers.

Settings, as environment variables (a Space's variables): MODEL_ID, a Hub id or a folder, and
MODEL_REVISION, a commit to pin. Without MODEL_ID it serves the model that the notebooks made last.
"""

import os
import re
from pathlib import Path

import streamlit as st
from huggingface_hub import ModelCard, hf_hub_download
from scoring import Classifier


def model() -> tuple[str | None, str | None]:
    """The model to serve and its revision: MODEL_ID, else the newest under the artifacts."""
    if os.environ.get("MODEL_ID"):
        return os.environ["MODEL_ID"], os.environ.get("MODEL_REVISION") or None
    here = Path(__file__).resolve().parent
    base = Path(os.environ.get("TUTORIAL_ARTIFACTS") or here.parent.parent / "artifacts")
    found = [
        folder for kind in ("release", "calibrated", "model") for folder in base.glob(f"*/{kind}")
    ]
    found = [folder for folder in found if (folder / "config.json").is_file()]
    newest = max(found, key=lambda folder: folder.stat().st_mtime, default=None)
    return str(newest) if newest else None, None


@st.cache_resource(show_spinner=False)
def load(name: str, revision: str | None) -> tuple[Classifier, str | None, str]:
    """The model, the commit it is of (a folder has none) and what its card says of its test."""
    commit = None
    if not Path(name).is_dir():
        # Resolved once: weights, tokenizer and card are then of the same commit.
        commit = Path(hf_hub_download(name, "config.json", revision=revision)).parent.name
    classifier = Classifier(name, commit)
    classifier.explain("A first review is slower than the next.")
    return classifier, commit, test_score(name, commit)


def test_score(name: str, commit: str | None) -> str:
    """The test accuracy in the model's card, with its interval, or a note that there is none."""
    try:
        local = Path(name, "README.md")
        card = ModelCard.load(
            local if Path(name).is_dir() else hf_hub_download(name, "README.md", revision=commit)
        )
        results = card.data.eval_results or []
    except Exception:  # whatever is wrong with a card, its model still works
        return "no test score in its card"
    scores = [result for result in results if result.metric_type == "accuracy"]
    if not scores:
        return "no test score in its card"
    interval = re.search(r"interval:? (\d\.\d+) to (\d\.\d+)", card.text)
    within = f" (95 % interval {interval[1]} to {interval[2]})" if interval else ""
    return f"test accuracy {scores[0].metric_value:.2f}{within} on {scores[0].dataset_name}"
