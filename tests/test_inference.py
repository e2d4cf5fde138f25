"""Scoring files: `python -m helpers score`, on a tiny random model."""

import csv
import datetime
import io
import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from test_app import tiny_model
from transformers import pipeline

from helpers import ROOT, TutorialError, __main__, artifacts, inference, local_hub

TEXTS = [
    "A warm film.",
    'He said "no",\r\nand left.\n\nTwice.',
    "Ünïcode – 映画 😀; tabs\tand, commas\u2028too.",
    "word " * 900,  # longer than the model reads
    "=1+1",
    "  NA ",
]
EXTRA = {"id": ["007", "8", "", "10", "11", "12"], "predicted_label": list("abcdef")}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model"), seed=1)


@pytest.fixture(scope="module")
def scorer(model):
    return inference.Scorer(str(model), device="cpu")


@pytest.fixture
def score(model, tmp_path, monkeypatch):
    """Score rows or the contents of a file, and return the output's rows and what was said."""
    monkeypatch.setattr(inference, "PIECE", 4)  # so that a few rows make several pieces

    def run(content, source="in.csv", target="out.jsonl", **options):
        write(tmp_path / source, content)
        said = inference.score_file(
            tmp_path / source, tmp_path / target, options.pop("model", str(model)), **options
        )
        return read(tmp_path / target), said

    return run


def write(path, content):
    if isinstance(content, str | bytes):
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    elif isinstance(content, pa.Table):
        pq.write_table(content, path)
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(content), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in content), encoding="utf-8")
    else:
        with open(path, "w", encoding="utf-8", newline="") as stream:
            lines = csv.DictWriter(stream, content[0].keys())
            lines.writeheader()
            lines.writerows(content)


def read(path):
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    text = path.read_bytes().decode()
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in text.split("\n") if line]
    return list(csv.DictReader(io.StringIO(text, newline="")))


def rejected(folder, name="out.rejected.csv"):
    return {int(row["row"]): row["reason"] for row in read(folder / name)}


def reviews(count, seed=0):
    draw = random.Random(seed)
    words = ["the", "film", "was", "very", "good", "bad", "dull", "warm", "and", "slow"]
    return [{"text": " ".join(draw.choices(words, k=draw.randint(2, 12)))} for _ in range(count)]


def start(*arguments, before):
    """The command in a process of its own, which executes `before` first."""
    program = "import runpy, sys; sys.argv = ['helpers', 'score', *sys.argv[1:]]\n" + before
    program += "\nrunpy.run_module('helpers', run_name='__main__')"
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},  # faster on so small a model
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


# The scores


def test_probabilities_are_those_of_a_plain_pipeline_one_by_one(scorer, model):
    texts = TEXTS + [row["text"] for row in reviews(40)]
    plain = pipeline("text-classification", str(model), truncation=True, top_k=None, device="cpu")
    expected = [
        next(answer["score"] for answer in plain([text])[0] if answer["label"] == "positive")
        for text in texts
    ]
    assert np.ptp(expected) > 0.1  # the model tells these texts apart, so their order matters
    for size in (None, 1, 7):
        scorer.batch_size = size
        assert np.abs(scorer.probabilities(texts) - expected).max() < 1e-5
    scorer.batch_size = None


def test_batches_hold_so_many_tokens_and_no_more(scorer, monkeypatch):
    monkeypatch.setitem(inference.BATCH_TOKENS, "cpu", 600)
    shapes = []
    handle = scorer.model.register_forward_pre_hook(
        lambda module, args, kwargs: shapes.append(tuple(kwargs["input_ids"].shape)),
        with_kwargs=True,
    )
    shares = []
    scorer.probabilities(["word " * 900, *["short one"] * 300], shares.append)
    handle.remove()
    assert shapes[0] == (1, 512) and len(shapes) == 3
    assert all(rows * tokens <= 600 for rows, tokens in shapes)
    assert shares == sorted(shares) and shares[-1] == 1


def test_nothing_to_score(scorer):
    assert scorer.probabilities([]).shape == (0,)


def test_labels(scorer, monkeypatch):
    assert [scorer.label(p) for p in (0.1, 0.49, 0.5, 0.9)] == [
        "negative", "negative", "positive", "positive",
    ]  # fmt: skip
    monkeypatch.setattr(scorer, "not_sure_below", 0.8)
    assert [scorer.label(p) for p in (0.1, 0.3, 0.79, 0.81)] == [
        "negative", "not sure", "not sure", "positive",
    ]  # fmt: skip


def configured(model, folder, **settings):
    shutil.copytree(model, folder)
    config = json.loads((folder / "config.json").read_text()) | settings
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


def test_not_sure_comes_from_the_configuration(score, model, tmp_path):
    unsure = configured(model, tmp_path / "unsure", not_sure_below=1.1)
    rows, _ = score(reviews(3), model=unsure)
    assert {row["predicted_label"] for row in rows} == {"not sure"}


def test_labels_in_capitals_and_in_the_other_order(score, model, tmp_path):
    names = {"id2label": {"0": "POSITIVE", "1": "NEGATIVE"}}
    names["label2id"] = {"POSITIVE": 0, "NEGATIVE": 1}
    turned = configured(model, tmp_path / "turned", **names)
    ours, theirs = score(reviews(3))[0], score(reviews(3), model=turned)[0]
    for one, other in zip(ours, theirs, strict=True):
        assert one["probability_positive"] == pytest.approx(1 - other["probability_positive"])


# The files


@pytest.mark.parametrize("target", ["out.csv", "out.jsonl", "out.parquet"])
@pytest.mark.parametrize("source", ["in.csv", "in.jsonl", "in.parquet"])
def test_every_format_into_every_other(score, scorer, source, target):
    columns = {"id": EXTRA["id"], "text": TEXTS, "predicted_label": EXTRA["predicted_label"]}
    given = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    rows, said = score(given, source, target)
    names = ["id", "text", "predicted_label", "predicted_label_new", "probability_positive"]
    assert list(rows[0]) == names
    assert [{name: row[name] for name in columns} for row in rows] == given
    expected = scorer.probabilities(TEXTS)
    np.testing.assert_allclose(
        [float(r["probability_positive"]) for r in rows], expected, atol=1e-5
    )
    assert [r["predicted_label_new"] for r in rows] == [scorer.label(p) for p in expected]
    assert "Scored 6 reviews" in said and "aside" not in said


def test_excel_s_csv_with_review_for_text(score):
    rows, _ = score("\ufeffStars; Review \r\n5;Fine, really\r\n\r\n1;Dull\r\n")
    assert [row[" Review "] for row in rows] == ["Fine, really", "Dull"]
    assert [row["Stars"] for row in rows] == ["5", "1"]


def test_types_of_a_parquet_file_are_kept(score, tmp_path):
    when = datetime.datetime(2024, 5, 17, 12, 0, 0, 123456)
    table = pa.table(
        {
            "when": pa.array([when, None, when], pa.timestamp("ns")),
            "kind": pa.array(["a", "b", "a"]).dictionary_encode(),
            "text": pa.array(["Fine.", "Dull.", None], pa.large_string()),
            "nested": [{"a": [1, 2]}, None, {"a": []}],
        }
    )
    score(table, "in.parquet", "out.parquet")
    found = pq.read_table(tmp_path / "out.parquet")
    assert found.select(table.column_names).equals(table.slice(0, 2))
    rows, _ = score(table, "in.parquet", "out.csv")
    assert rows[0]["nested"] == '{"a": [1, 2]}' and rows[1]["when"] == ""
    rows, _ = score(table, "in.parquet", "out.jsonl")
    assert rows[0]["nested"] == {"a": [1, 2]} and rows[0]["when"].startswith("2024-05-17")


def test_types_of_json_lines_are_kept(score, tmp_path):
    given = [
        {"text": "Fine.", "stars": 5, "share": 1, "seen": True, "tags": ["a"], "mixed": 1},
        {"text": "Dull.", "stars": None, "share": 0.5, "mixed": "one", "late": 2**70},
    ]
    rows, _ = score(given, "in.jsonl", "out.jsonl")
    for row, line in zip(rows, given, strict=True):
        names = ["text", "stars", "share", "seen", "tags", "mixed", "late"]
        assert {name: row[name] for name in names} == {name: line.get(name) for name in names}
    score(given, "in.jsonl", "out.parquet")
    types = {field.name: str(field.type) for field in pq.read_schema(tmp_path / "out.parquet")}
    assert types["stars"] == "int64" and types["share"] == "double" and types["seen"] == "bool"
    assert types["tags"] == types["mixed"] == types["late"] == "string"


def test_bad_rows_of_a_csv_file_are_set_aside(score, tmp_path):
    lines = [
        "id,text",
        "1,Fine.",
        "2,",
        '3,"  "',
        "4,too,many",
        "5",
        '6,"he said "no""',
        "7,NA",
        '8,"two',
        'lines" and more',
        "9,Good.",
        '10,"never closed',
        "11,lost in it",
    ]
    rows, said = score("\n".join(lines))
    assert [row["id"] for row in rows] == ["1", "7", "9"]
    reasons = rejected(tmp_path)
    assert list(reasons) == [2, 3, 4, 5, 6, 8, 10]
    assert reasons[2] == reasons[3] == "text is empty"
    assert reasons[4] == "it has 3 fields, the header 2" and reasons[5].startswith("it has 1 ")
    assert reasons[6].startswith("not CSV, line 7:")
    assert reasons[8].startswith("not CSV, line 9 to 10:")
    assert reasons[10].startswith("not CSV, line 12 to 13:")
    assert "Scored 3 reviews" in said and "Set aside 7 rows" in said and "out.rejected.csv" in said


def test_bad_rows_of_json_lines_are_set_aside(score, tmp_path):
    lines = ['{"text": "Fine."}', '{"text": 5}', "", '{"text": null}', "{", "[1]", '"text"', "{}"]
    lines += ['{"text": "half \\ud83d of one"}', '{"text": "NaN", "x": NaN}']
    rows, _ = score("\n".join(lines), "in.jsonl")
    assert [row["text"] for row in rows] == ["Fine.", "NaN"]
    reasons = rejected(tmp_path)
    assert list(reasons) == [2, 3, 4, 5, 6, 7, 8]  # a blank line is no row
    assert reasons[2] == "text is not a string" and reasons[3] == reasons[7] == "text is missing"
    assert "line 5" in reasons[4] and "object" in reasons[5] and "object" in reasons[6]
    assert "surrogate" in reasons[8]


def test_bad_rows_of_a_parquet_file_are_set_aside(score, tmp_path):
    texts = [None, "Fine.", " ", "Dull."] + [None] * 5 + ["Good."]
    rows, _ = score(pa.table({"text": texts}), "in.parquet")
    assert [row["text"] for row in rows] == ["Fine.", "Dull.", "Good."]
    assert list(rejected(tmp_path)) == [1, 3, 5, 6, 7, 8, 9]


def test_an_old_list_of_rejected_rows_does_not_stay(score, tmp_path):
    score("text\nFine.\n\n'',x\n")
    assert (tmp_path / "out.rejected.csv").exists()
    score("text\nFine.\n")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["in.csv", "out.jsonl"]


# Refusals


@pytest.mark.parametrize(
    ("source", "content", "words"),
    [
        ("in.txt", "text\nFine.\n", "in.txt ends in .txt: name a .csv, .jsonl, .parquet file"),
        ("in.csv", "", "in.csv is empty"),
        ("in.csv", "text\n", "it has columns but no rows"),
        ("in.jsonl", "\n", "has no column text or review"),
        ("in.parquet", pa.table({"text": pa.array([], pa.string())}), "no rows"),
        ("in.csv", "a,b\n1,2\n", "no column text or review, only ['a', 'b']: rename"),
        ("in.jsonl", '{"a": 1}\n', "no column text or review, only ['a']"),
        ("in.parquet", pa.table({"a": [1]}), "no column text or review"),
        ("in.csv", "text,a,a\nx,1,2\n", "two columns 'a'"),
        ("in.csv", "text\nfine\ncaf\xe9\n".encode("latin-1"), "in.csv, line 3, is not UTF-8"),
        ("in.jsonl", '{"text": "caf\xe9"}\n'.encode("latin-1"), "in.jsonl, line 1, is not UTF-8"),
        ("in.csv", "text\nFine.\n".encode("utf-16"), "line 1, is not UTF-8"),
        ("in.parquet", "text\nFine.\n", "in.parquet can't be read"),
        ("in.csv", "text,a\n,1\n,2\n", "no review to score. Row 1, for one: text is empty"),
        ("in.parquet", pa.table({"text": [1, 2]}), "text is not a string"),
    ],
)
def test_unusable_input(score, tmp_path, source, content, words):
    with pytest.raises(TutorialError, match=re.escape(words)):
        score(content, source)
    assert [file.name for file in tmp_path.iterdir()] == [source]


def test_unusable_paths(tmp_path, model):
    source = tmp_path / "in.csv"
    for target, words in [
        ("out.jsonl", "There is no file"),
        ("in.csv", "would be overwritten"),
        ("out.xlsx", "ends in .xlsx"),
        ("out", "ends in no suffix"),
        ("no/out.csv", "There is no folder"),
        ("folder.csv", "is a folder"),
    ]:
        (tmp_path / "folder.csv").mkdir(exist_ok=True)
        with pytest.raises(TutorialError, match=words):
            inference.score_file(source, tmp_path / target, str(model))
        source.write_text("text\nFine.\n")
    (tmp_path / "out.rejected.csv").write_text("text\nFine.\n")
    with pytest.raises(TutorialError, match="would be overwritten"):
        inference.score_file(tmp_path / "out.rejected.csv", tmp_path / "out.csv", str(model))
    names = sorted(file.name for file in tmp_path.iterdir())
    assert names == ["folder.csv", "in.csv", "out.rejected.csv"]


def test_unusable_models(score, model, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    inference.profiles.hub_reachable.cache_clear()
    names = {"id2label": {"0": "LABEL_0", "1": "LABEL_1"}, "label2id": {"LABEL_0": 0, "LABEL_1": 1}}
    other = configured(model, tmp_path / "other", **names)
    broken = configured(model, tmp_path / "broken")
    (tmp_path / "broken" / "model.safetensors").write_bytes(b"no weights")
    (tmp_path / "bare").mkdir()
    for name, words in [
        (other, "has the labels LABEL_0, LABEL_1, not negative and positive"),
        (broken, "broken can't be loaded"),
        (str(tmp_path / "bare"), "bare can't be loaded"),
        (str(tmp_path / "absent"), "absent can't be loaded"),
        ("nobody/nothing", "nobody/nothing can't be loaded"),
    ]:
        with pytest.raises(TutorialError, match=words) as error:
            score("text\nFine.\n", model=name)
        assert "\n" not in str(error.value)
    with pytest.raises(TutorialError, match="batch size is 0"):
        score("text\nFine.\n", batch_size=0)
    assert not list(tmp_path.glob("*out*"))
    inference.profiles.hub_reachable.cache_clear()


def test_the_default_is_the_newest_model_of_the_series(fresh, score, model, monkeypatch):
    with pytest.raises(TutorialError, match="run make run"):
        score("text\nFine.\n", model=None)
    for name in ("model", "release", "calibrated", "model"):
        with artifacts.write(name) as folder:
            shutil.copytree(model, folder, dirs_exist_ok=True)
        assert inference.newest_model() == artifacts.path(name)
    assert str(artifacts.path("model")) in score("text\nFine.\n", model=None)[1]
    other = fresh / "mine.csv"
    other.write_text("text,label\n")
    monkeypatch.setenv("TUTORIAL_DATA", str(other))
    with pytest.raises(TutorialError, match="no model of these settings and data"):
        inference.newest_model()


def test_a_folder_has_no_revision(score):
    with pytest.raises(TutorialError, match="leave --revision out"):
        score("text\nFine.\n", revision="main")


def test_a_disk_that_fails(score, tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(inference.review_files, "write", full)
    with pytest.raises(TutorialError, match=r"can't be written: .*No space left"):
        score("text\nFine.\n")
    assert not (tmp_path / "out.jsonl").exists()


def test_a_model_on_the_hub_at_a_revision(tmp_path, model):
    """Weights, configuration and tokenizer are of that revision, and so is the identity."""
    later = Path(configured(model, tmp_path / "later", not_sure_below=0.9))
    settings = json.loads((later / "tokenizer_config.json").read_text()) | {"model_max_length": 64}
    (later / "tokenizer_config.json").write_text(json.dumps(settings))
    push = (
        "import sys; from huggingface_hub import HfApi; HfApi().create_repo('rehearsal/m')\n"
        "for folder in sys.argv[1:]:\n"
        "    print(HfApi().upload_folder(repo_id='rehearsal/m', folder_path=folder).oid)"
    )
    show = (
        "import sys; from helpers.inference import Scorer\n"
        "for revision in (sys.argv[1], None):\n"
        "    scorer = Scorer('rehearsal/m', revision)\n"
        "    print(scorer.identity, scorer.not_sure_below, scorer.max_length)"
    )
    with local_hub.running(tmp_path / "hub") as endpoint:
        env = os.environ | {"HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_XET": "1"}
        env |= {"HF_TOKEN": "rehearsal-write", "HF_HOME": str(tmp_path / "home")}
        env |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        options = {"env": env, "cwd": ROOT, "capture_output": True, "text": True}
        pushed = subprocess.run([sys.executable, "-c", push, model, later], check=True, **options)
        commits = pushed.stdout.split()
        found = subprocess.run([sys.executable, "-c", show, commits[0]], **options)
    assert found.stdout.splitlines() == [
        f"rehearsal/m@{commits[0]} 0.0 512",
        f"rehearsal/m@{commits[1]} 0.9 64",
    ], found.stderr[-500:]


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    """The model with its 8-bit file, made as 06_faster_inference makes it."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    folder = tmp_path_factory.mktemp("exported") / "model"
    shutil.copytree(model, folder)
    whole = folder / "onnx" / "model.onnx"
    eight = folder / "onnx" / inference.INT8
    quantize_dynamic(whole, eight, weight_type=QuantType.QInt8, reduce_range=True)
    return folder


def test_an_export_names_no_path_of_this_machine(model):
    content = (Path(model) / "onnx" / "model.onnx").read_bytes()
    for place in (ROOT, sys.prefix, ROOT.home(), "site-packages"):
        assert f"{place}".encode() not in content


def test_eight_bits_answer_nearly_the_same(scorer, exported):
    texts = [row["text"] for row in reviews(60)]
    eight = inference.Scorer(str(exported), int8=True)
    full, found = scorer.probabilities(texts), eight.probabilities(texts)
    assert 0 < np.abs(full - found).mean() < 0.05
    assert eight.device.type == "cpu" and eight.identity != scorer.identity


def test_eight_bits_that_are_not_there(model):
    with pytest.raises(TutorialError, match=r"no onnx/model_int8.onnx: run 06_faster_inference"):
        inference.Scorer(str(model), int8=True)


# Interruptions

SLOW_AND_LOGGED = """
import time
from helpers import inference
inference.PIECE, log = 10, sys.argv.pop()
score = inference.Scorer.probabilities
def slow(self, texts, progress):
    time.sleep(0.1)
    open(log, "a").write("".join(f"{text}\\n" for text in texts))
    return score(self, texts, progress)
inference.Scorer.probabilities = slow
"""


def test_a_killed_run_goes_on_where_it_stopped(tmp_path, model, monkeypatch):
    rows = [{"text": f"{row['text']} {i}"} for i, row in enumerate(reviews(120))]
    write(tmp_path / "in.csv", [*rows[:75], {"text": ""}, *rows[75:]])
    log, work = tmp_path / "log.txt", tmp_path / ".out.csv.parts"

    arguments = [tmp_path / "in.csv", "--out", tmp_path / "out.csv", "--model", model, log]
    first = start(*arguments, before=SLOW_AND_LOGGED)
    while not len(list(work.glob("*.parquet"))) >= 3:
        time.sleep(0.02)
        assert first.poll() is None
    first.kill()
    first.communicate()
    assert not (tmp_path / "out.csv").exists() and not (tmp_path / "out.rejected.csv").exists()
    kept = [row["text"] for part in sorted(work.glob("*.parquet")) for row in read(part)]
    assert kept == [row["text"] for row in rows[: len(kept)]] and len(kept) < 120
    log.unlink()
    second = start(*arguments, before=SLOW_AND_LOGGED)
    said, errors = second.communicate(timeout=120)
    assert second.returncode == 0, errors
    assert log.read_text().splitlines() == [row["text"] for row in rows[len(kept) :]]
    assert f"{len(kept):,} of them before" in errors and "120 of 120 reviews" in errors
    assert "Scored 120 reviews" in said and "reviews," not in said
    assert [row["text"] for row in read(tmp_path / "out.csv")] == [row["text"] for row in rows]
    assert rejected(tmp_path) == {76: "text is empty"}
    assert not work.exists()
    monkeypatch.setattr(inference, "PIECE", 10)
    inference.score_file(tmp_path / "in.csv", tmp_path / "whole.csv", str(model))
    for one, other in zip(read(tmp_path / "out.csv"), read(tmp_path / "whole.csv"), strict=True):
        score, expected = (float(row.pop("probability_positive")) for row in (one, other))
        assert one == other and score == pytest.approx(expected, abs=1e-6)


def test_a_changed_input_or_model_starts_over(score, scorer, model, tmp_path, monkeypatch, capsys):
    probabilities, scored = inference.Scorer.probabilities, []

    def interrupted(self, texts, progress):
        scored.extend(texts)
        if len(scored) > 8:
            raise KeyboardInterrupt
        return probabilities(self, texts, progress)

    def interrupt(rows, **options):
        scored.clear()
        monkeypatch.setattr(inference.Scorer, "probabilities", interrupted)
        with pytest.raises(KeyboardInterrupt):
            score(rows, **options)
        monkeypatch.setattr(inference.Scorer, "probabilities", probabilities)
        capsys.readouterr()

    rows = reviews(20)
    interrupt(rows)
    changed = reviews(20, seed=1)
    found, _ = score(changed)
    assert "the input changed: starting over" in capsys.readouterr().err
    assert [row["text"] for row in found] == [row["text"] for row in changed]
    interrupt(rows)
    other = configured(model, tmp_path / "other", not_sure_below=1.1)
    found, _ = score(rows, model=other)
    assert "the model changed: starting over" in capsys.readouterr().err
    assert {row["predicted_label"] for row in found} == {"not sure"}
    interrupt(rows)
    found, _ = score(rows, batch_size=1)  # smaller, say, because memory ran out
    assert "8 of them before" in capsys.readouterr().err
    expected = scorer.probabilities([row["text"] for row in rows])
    np.testing.assert_allclose([row["probability_positive"] for row in found], expected, atol=1e-5)


def test_an_interruption_says_how_to_go_on(monkeypatch, capsys):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(inference, "score_file", interrupted)
    monkeypatch.setattr(sys, "argv", ["helpers", "score", "a.csv", "--out", "b.csv"])
    assert __main__.main() == 130
    assert "the same command goes on where it stopped" in capsys.readouterr().err


def test_one_line_for_a_mistake(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["helpers", "score", "absent.csv", "--out", "b.csv"])
    assert __main__.main() == 1
    assert capsys.readouterr().err == "\nThere is no file absent.csv: correct the path.\n"


def test_progress_says_how_long_the_rest_takes(monkeypatch, capsys):
    clock = iter([100.0, 105.0, 120.0, 140.0])
    monkeypatch.setattr(inference.time, "monotonic", lambda: next(clock))
    progress = inference._Progress(10_000, 2_000)
    progress(2_000, 512, 0.5)  # too soon after the line before
    progress(2_000, 4_000, 0.5)
    progress(6_000, 4_000, 1.0)
    assert capsys.readouterr().err.splitlines() == [
        "10,000 reviews to score, 2,000 of them before.",
        "    4,000 of 10,000 reviews, 100 a second, 0:01:00 left",
        "    10,000 of 10,000 reviews, 200 a second, 0:00:00 left",
    ]


# Memory


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's peak of memory")
def test_memory_does_not_grow_with_the_file(tmp_path, model):
    """By VmHWM: `getrusage` would count the memory of the process that starts this one."""
    before = (
        "import atexit, re; status = open('/proc/self/status').read\n"
        "atexit.register(lambda: print(re.search(r'VmHWM:\\s*(\\d+)', status())[1]))"
    )
    peaks = []
    for count in (2_000, 40_000):
        write(tmp_path / "in.csv", [row | {"page": "x" * 2_000} for row in reviews(count)])
        arguments = [tmp_path / "in.csv", "--out", tmp_path / "out.parquet", "--model", model]
        said, errors = start(*arguments, before=before).communicate(timeout=300)
        assert f"{count:,} of {count:,} reviews" in errors
        peaks.append(int(said.split()[-1]))
        assert pq.read_metadata(tmp_path / "out.parquet").num_rows == count
    assert peaks[1] < 1.05 * peaks[0]


def test_the_gpu_computes_in_half_precision(model):
    if not torch.cuda.is_available():
        pytest.skip("needs CUDA")
    texts = TEXTS + [row["text"] for row in reviews(40)]
    half = inference.Scorer(str(model), device="cuda").probabilities(texts)
    whole = inference.Scorer(str(model), device="cpu").probabilities(texts)
    assert 0 < np.abs(half - whole).max() < 0.01
