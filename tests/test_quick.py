"""The profile `quick` for real: its ids, its downloads and its metrics, from a rehearsal Hub.

What is small here is only what the Hub serves: a few hundred reviews and a random DistilBERT.
"""

import json
import os
import subprocess
import sys

import pandas as pd
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Value
from transformers import DistilBertConfig, DistilBertForMaskedLM

from helpers import ROOT, artifacts, checkpoint, local_hub
from helpers.evaluation import METRICS

# `evaluate` runs a metric's script from the Hub; the Hub's own scripts wrap scikit-learn as this does.
SCRIPT = """
import datasets
import evaluate
from sklearn.metrics import {name}_score


class Metric(evaluate.Metric):
    def _info(self):
        integers = datasets.Value("int32")
        return evaluate.MetricInfo(
            description="{name}", citation="", inputs_description="",
            features=datasets.Features({{"predictions": integers, "references": integers}}),
        )

    def _compute(self, predictions, references):
        return {{"{name}": float({name}_score(references, predictions))}}
"""


def the_hub(folder):
    """What `quick` asks the Hub for, made small, by kind and id."""
    frame = pd.read_csv(artifacts.EMBEDDED)
    frame["label"] = (frame["label"] == "positive").astype(int)
    frame["text"] = frame["text"].str.replace(". ", ".<br /><br />", n=1, regex=False)
    features = Features({"text": Value("string"), "label": ClassLabel(names=["neg", "pos"])})
    reviews = folder / "imdb" / "plain_text"
    reviews.mkdir(parents=True)
    for split, source, rows in (
        ("train", "train", 300),
        ("test", "test", 150),
        ("unsupervised", "validation", 50),
    ):
        part = frame[frame["split"] == source].head(rows)[["text", "label"]]
        dataset = Dataset.from_pandas(part, features=features, preserve_index=False)
        dataset.to_parquet(reviews / f"{split}-00000-of-00001.parquet")
    model = folder / "model"
    checkpoint.lay_into_distilbert(checkpoint.minilm_files(), model)  # for its tokenizer
    torch.manual_seed(0)
    config = DistilBertConfig(dim=64, hidden_dim=128, n_layers=2, n_heads=4)
    DistilBertForMaskedLM(config).save_pretrained(model)  # as the published checkpoint is
    publish = {
        ("datasets", "stanfordnlp/imdb"): folder / "imdb",
        ("models", "distilbert/distilbert-base-uncased"): model,
    }
    for name in METRICS:
        space = folder / name
        space.mkdir()
        (space / f"{name}.py").write_text(SCRIPT.format(name=name))
        publish["spaces", f"evaluate-metric/{name}"] = space
    return publish


@pytest.mark.skipif(
    not os.environ.get("TUTORIAL_COLAB_VENV"), reason="takes minutes: make test-colab runs it"
)
def test_the_series_with_the_profile_quick(tmp_path):
    made = tmp_path / "artifacts"
    (tmp_path / "source").mkdir()
    with local_hub.running(tmp_path / "hub", the_hub(tmp_path / "source")) as endpoint:
        environment = os.environ | {
            "TUTORIAL_PROFILE": "quick",
            "TUTORIAL_ARTIFACTS": str(made),
            "HF_ENDPOINT": endpoint,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HOME": str(tmp_path / "home"),
            "HF_DATASETS_CACHE": str(tmp_path / "home" / "datasets"),
            "HF_MODULES_CACHE": str(tmp_path / "home" / "modules"),
        }
        for variable in ("TUTORIAL_DATA", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN"):
            environment.pop(variable, None)
        command = [sys.executable, "-m", "helpers", "run"]
        run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]
    rows = json.loads((made / "quick" / "metrics.json").read_text())["rows"]
    test = {row["system"]: row for row in rows if row["split"] == "test"}
    assert set(test) == {
        "majority", "TF-IDF + logistic regression", "frozen features", "fine-tuned",
    }  # fmt: skip
    assert test["fine-tuned"]["n"] == 150
    assert test["fine-tuned"]["checkpoint"] == "distilbert/distilbert-base-uncased"
    first = json.loads((made / "quick" / "notebooks" / "01_data.ipynb").read_text())
    printed = "".join(
        text for c in first["cells"] for out in c.get("outputs", []) for text in out.get("text", [])
    )
    assert "{'train': '300 reviews', 'test': '150 reviews'}" in printed
    assert "100% of the reviews hold <br />" in printed
    assert list((tmp_path / "home").rglob("accuracy.py")), "the metric did not come from the Hub"
