"""The results ledger: `metrics.json`, one row for each system on each split."""

import importlib.metadata
import json
import os
import platform
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, f1_score

from helpers import TutorialError, artifacts, profiles, shown

LIBRARIES = ("torch", "transformers", "datasets", "evaluate", "scikit-learn")
SYSTEMS = ("majority", "TF-IDF + logistic regression", "frozen features", "fine-tuned")


def score(labels, predictions) -> dict:
    """Accuracy with its 95 % interval, and macro F1.

    Parameters
    ----------
    labels, predictions : array of int, shape (n,)

    Returns
    -------
    dict
        `n`, `accuracy`, `interval` (Wilson's, from `scipy.stats.binomtest`), `macro_f1`.
    """
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    if labels.shape != predictions.shape or labels.ndim != 1 or not len(labels):
        raise TutorialError(
            f"Scoring needs one prediction for each label: got {labels.shape} labels and "
            f"{predictions.shape} predictions."
        )
    hits = int((labels == predictions).sum())
    interval = binomtest(hits, len(labels)).proportion_ci(0.95, method="wilson")
    return {
        "n": len(labels),
        "accuracy": float(accuracy_score(labels, predictions)),
        "interval": [float(interval.low), float(interval.high)],
        "macro_f1": float(f1_score(labels, predictions, average="macro", zero_division=0)),
    }


def path() -> Path:
    """Where the ledger of the current profile lies."""
    return artifacts.folder() / "metrics.json"


def record(
    system: str,
    split: str,
    labels,
    predictions,
    *,
    seconds: float | None = None,
    parameters: int | None = None,
    checkpoint: str | None = None,
) -> dict:
    """Score `predictions` and keep the row, replacing an earlier one for that system and split.

    `seconds` is the time to fit, `parameters` the number of weights fitted. The row also counts how
    often its system was scored on its split: more than once on test is once too often.
    """
    profile = profiles.current()
    row = {
        "system": system,
        "split": split,
        **score(labels, predictions),
        "seconds": seconds,
        "parameters": parameters,
        "seed": profile.seed,
        "checkpoint": checkpoint,
        "data": profile.source,
        "versions": {name: importlib.metadata.version(name) for name in LIBRARIES}
        | {"python": platform.python_version()},
    }
    kept = [r for r in rows() if (r["system"], r["split"]) != (system, split)]
    before = next((r for r in rows() if r not in kept), {})
    row["times_scored"] = before.get("times_scored", 0) + 1
    path().parent.mkdir(parents=True, exist_ok=True)
    content = {"made_from": artifacts.fingerprint(), "rows": [*kept, row]}
    with tempfile.NamedTemporaryFile("w", dir=path().parent, suffix=".tmp", delete=False) as file:
        json.dump(content, file, indent=2)
    os.replace(file.name, path())
    return row


def rows(split: str | None = None) -> list[dict]:
    """The ledger's rows, of one split or of all; those of other settings or data do not count."""
    try:
        content = json.loads(path().read_text(encoding="utf-8"))
        found = content["rows"] if content["made_from"] == artifacts.fingerprint() else []
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError):
        raise TutorialError(
            f"{shown(path())} is damaged: delete it and run the notebooks again (make run)."
        ) from None
    return [row for row in found if split in (None, row["split"])]


def select(split: str, systems=SYSTEMS) -> list[dict]:
    """The rows of `split` for `systems`, in their order.

    Raises
    ------
    TutorialError
        If one of them is not in the ledger.
    """
    found = {row["system"]: row for row in rows(split)}
    for name in systems:
        if name not in found:
            maker = "04_evaluation" if split == "test" else "01_data and 03_training"
            raise TutorialError(
                f"{shown(path())} has no row of {name!r} for the {split} split: run {maker}."
            )
    return [found[name] for name in systems]


def table(split: str, systems=SYSTEMS) -> pd.DataFrame:
    """The rows of `split` for `systems` as a table to print, metrics to two decimals."""
    ordered = select(split, systems)
    return pd.DataFrame(
        {
            "accuracy": [f"{row['accuracy']:.2f}" for row in ordered],
            "95 % interval": [
                f"{row['interval'][0]:.2f} to {row['interval'][1]:.2f}" for row in ordered
            ],
            "macro F1": [f"{row['macro_f1']:.2f}" for row in ordered],
            "n": [row["n"] for row in ordered],
        },
        index=pd.Index([row["system"] for row in ordered], name=f"{split} split"),
    )


def markdown(split: str, systems=SYSTEMS) -> str:
    """The same table in Markdown, for README and the model card."""
    return to_markdown(table(split, systems))


def to_markdown(frame: pd.DataFrame) -> str:
    """A table in Markdown, its index as the first column."""
    lines = [f"| {frame.index.name} | " + " | ".join(frame.columns) + " |"]
    lines += ["| --- " * (len(frame.columns) + 1) + "|"]
    lines += [
        f"| {name} | " + " | ".join(map(str, row)) + " |" for name, *row in frame.itertuples()
    ]
    return "\n".join(lines)
