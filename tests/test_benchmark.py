"""What `make bench` counts. Times are its own business: none is judged here."""

import json
import socket
import sys
from pathlib import Path

import benchmark
import benchmark_inference
import benchmark_training
import numpy as np
import pandas as pd
import pytest
from benchmark_inference import HANDFUL, Processed, measure_memory, scorer, ways
from benchmark_job import prepare, tiny_model
from benchmark_machine import Limit, forward_flops, interleave, peak_memory
from benchmark_training import OURS, USUAL, plan, plans
from transformers import (
    AutoTokenizer,
    DistilBertConfig,
    DistilBertForSequenceClassification,
)

from helpers import ROOT, artifacts, checkpoint


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    """A random model of one layer and 240 reviews, 60 of them held out."""
    folder = tmp_path_factory.mktemp("benchmark")
    tokenizer = AutoTokenizer.from_pretrained(checkpoint.minilm_files(), model_max_length=512)
    model = tiny_model(folder / "tiny", tokenizer)
    pd.read_csv(artifacts.EMBEDDED).head(240)[["text", "label"]].to_csv(folder / "some.csv")
    return ["--model", str(model), "--data", str(folder / "some.csv"), "--matrix", "64"]


@pytest.fixture
def job(arguments, tmp_path):
    return lambda *more: prepare(benchmark.parse([*arguments, *more]), tmp_path)


def test_operations_by_hand():
    config = DistilBertConfig(dim=4, hidden_dim=8, n_layers=1, n_heads=2, vocab_size=10)
    model = DistilBertForSequenceClassification(config)
    layers, classifier = 4 * 4 * 4 + 2 * 4 * 8, 4 * 4 + 4 * 2
    attention = 4 * 4 * (3**2 + 5**2)
    by_hand = 2 * layers * (3 + 5) + 2 * classifier * 2 + attention
    assert forward_flops(model, [3, 5]) == by_hand == 2_688


def test_ways_take_turns():
    order, between = [], []
    calls = {name: lambda name=name: order.append(name) or len(order) for name in "abc"}
    found = interleave(calls, 2, lambda: between.append(len(order)))
    assert order == list("abcabc")
    assert found == {"a": [1, 4], "b": [2, 5], "c": [3, 6]}
    assert between == [1, 2, 3, 4, 5, 6]


def test_batches_are_picked_from_short_to_long():
    lengths = np.array([9, 8, 1, 2, 5, 6, 3, 3, 7])
    found = plan([[0, 1], [2, 3], [4, 5], [6, 7], [8]], lengths, wanted=4)
    assert found.picked == [[6, 7], [0, 1]]  # of [2, 3], [6, 7], [4, 5], [0, 1]
    assert found.longest == [0, 1]
    assert found.tokens == lengths.sum() == 44
    assert found.padding == pytest.approx(1 - 44 / (18 + 4 + 12 + 6 + 7))


def test_the_limit_is_the_best_rate():
    limit = Limit("cpu", 32)
    limit.measure()
    assert len(limit.rates["fp32"]) == 3
    limit.rates["fp32"] = [4.0, 8.0]
    assert limit.share(2.0, "fp32") == 0.25
    assert limit.share(2.0, None) is None


def test_planted_in_training(job):
    ours, *planted = (
        plans(job(*more), OURS)[0]
        for more in ((), ("--plant", "sorting-off"), ("--plant", "batch-1"))
    )
    usual = plans(job(), USUAL)[0]
    assert ours.batch_size == usual.batch_size == 8
    assert planted[0].padding > 2 * ours.padding
    assert planted[1].batch_size == 1
    assert ours.tokens == planted[0].tokens == planted[1].tokens == usual.tokens


def test_planted_in_inference(job):
    found = {}
    for plant in (None, "sorting-off", "batch-1"):
        its, processed = job(*(["--plant", plant] if plant else [])), Processed()
        run = benchmark_inference.in_torch(its, "fp32")
        answers = scorer(its, "cpu", run, processed)(its.texts)
        found[plant] = processed.tokens, processed.batches, answers
    assert found["sorting-off"][0] > 1.2 * found[None][0]
    assert found["batch-1"][1] == len(its.texts) > 5 * found[None][1]
    np.testing.assert_allclose(found["sorting-off"][2], found[None][2], atol=1e-5)
    np.testing.assert_allclose(found["batch-1"][2], found[None][2], atol=1e-5)


def test_planted_precision(job, tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark_inference, "onnx_files", lambda *_: {"fp32": "32", "int8": "8"})
    opened, computed = [], []
    monkeypatch.setattr(benchmark_inference, "in_onnx", opened.append)
    monkeypatch.setattr(benchmark_inference, "in_torch", lambda _, name: computed.append(name))
    for more in ((), ("--plant", "fp32")):
        ways(job(*more), tmp_path, Processed())
    assert opened == ["32", "8", "32", "32"]
    assert computed == ["fp32", "bf16", "fp32", "fp32"]


def source(notebook):
    cells = json.loads((ROOT / "notebooks" / f"{notebook}.ipynb").read_text())["cells"]
    return "".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


def test_settings_are_those_of_the_notebooks(job):
    its = benchmark_training.recipe(job(), OURS)
    notebook = source("03_training")
    for name in ("warmup_steps", "weight_decay", "train_sampling_strategy"):
        assert f"{name}={json.dumps(getattr(its, name))}," in notebook
    assert "per_device_eval_batch_size=profile.batch_size" in notebook
    assert its.per_device_eval_batch_size == its.per_device_train_batch_size == 8
    program = Path(benchmark_inference.__file__).read_text()
    for setting in ("per_channel=True", "reduce_range=True", "QInt8"):
        assert setting in source("06_faster_inference")
        assert setting in program


def test_memory_is_the_programs_own():
    """This process holds far more than what it starts."""
    idle, seconds = peak_memory([sys.executable, "-c", "pass"])
    busy, _ = peak_memory([sys.executable, "-c", "bytearray(200_000_000).find(b'x')"])
    assert idle < 60e6 < 200e6 < busy < 260e6
    assert seconds > 0


def test_memory_of_scoring(job):
    found = measure_memory(job("--memory-reviews", "40"))
    assert list(found) == ["40"]
    assert found["40"]["peak_memory"] > 50e6


def test_end_to_end(arguments, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(benchmark_training, "peak_memory", lambda command: (1_000_000, 1.0))
    target = tmp_path / "numbers.json"
    few = ["--repetitions", "1", "--reviews", "40", "--timed-reviews", "32", "--singles", "2"]
    short = ["--train-reviews", "64", "--epochs", "1", "--no-memory", "--json", str(target)]
    assert benchmark.main([*arguments, *few, *short]) == 0
    written = target.read_text()
    assert not any(word in written for word in (str(tmp_path.parent), "/", socket.gethostname()))
    results = json.loads(written)
    assert set(results) == {
        *("machine", "versions", "settings", "limit"),
        *("training", "accuracy", "inference", "memory"),
    }
    assert set(results["machine"]) == {"cpu", "cores", "threads", "gpu", "system"}
    assert results["settings"]["data"] == "some.csv"
    assert results["limit"]["flops_per_second"]["fp32"]["median"] > 0
    for name in (USUAL, OURS):
        row = results["training"][name]["steps"]
        assert set(row["real_tokens_per_second"]) == {"median", "min", "max", "values"}
        assert row["reviews_timed"] == 32
        assert 0 <= row["padding"] < 1 and row["share_of_limit"] > 0
        assert results["accuracy"][name]["reviews"] == 60
        assert len(results["accuracy"][name]["interval"]) == 2
    assert results["inference"]["pipeline, a loop"]["padding"] == 0
    assert results["inference"]["pipeline, a loop"]["reviews_per_batch"] == 1
    same = results["inference"]["ours, fp32"], results["inference"]["ours, ONNX fp32"]
    assert all(row["changed"] == 0 and row["latency_ms"]["p95"] > 0 for row in same)
    assert same[0]["padding"] < results["inference"]["pipeline, batches of 32"]["padding"]
    assert results["inference"]["ours, bf16"]["reviews"] in (HANDFUL, 40)
    printed = capsys.readouterr().out
    tables = [block for block in printed.split("\n\n") if block.startswith("|")]
    assert len(tables) == 6
    assert all(len({len(line) for line in block.strip().splitlines()}) == 1 for block in tables)


def test_unusable_data_is_told_in_a_sentence(tmp_path, capsys, arguments):
    assert benchmark.main([*arguments, "--data", str(tmp_path / "none.csv")]) == 1
    assert "none.csv" in capsys.readouterr().err
