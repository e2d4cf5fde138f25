"""The exercises: stubs that run and can't pass, hints for wrong answers, solutions that agree."""

import json
import math
import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from datasets import Dataset
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from test_app import tiny_model
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from helpers import ROOT, artifacts, checkpoint, evaluation, exercises

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SOLUTIONS = sorted((ROOT / "notebooks" / "solutions").glob("*.ipynb"))


def load(path):
    return json.loads(path.read_text(encoding="utf-8"))


def tagged(notebook):
    return [cell for cell in notebook["cells"] if "exercise" in cell["metadata"].get("tags", [])]


def printed(cell):
    return "".join("".join(out.get("text", "")) for out in cell["outputs"])


def bare(cell):
    return cell["cell_type"], cell["id"], cell["metadata"], "".join(cell["source"])


def ids(path):
    return path.stem


# The notebooks


def test_every_notebook_has_solutions():
    assert {path.stem for path in SOLUTIONS} == {path.stem for path in NOTEBOOKS}
    wanted = {f"solutions/{path.stem}" for path in SOLUTIONS}
    assert {name for name in artifacts.READS if name.startswith("solutions/")} == wanted


@pytest.mark.parametrize("path", SOLUTIONS, ids=ids)
def test_stubs_agree_with_their_solutions(path):
    stubs = exercises.stubs(load(path))
    shown = tagged(load(ROOT / "notebooks" / path.name))
    assert [bare(cell) for cell in shown] == [bare(cell) for cell in stubs]
    assert not any("# Solution" in "".join(cell["source"]) for cell in shown)


def test_writing_the_stubs_changes_what_differs(tmp_path, monkeypatch):
    folder = tmp_path / "notebooks"
    (folder / "solutions").mkdir(parents=True)
    for path in [*NOTEBOOKS, *SOLUTIONS]:
        (tmp_path / path.relative_to(ROOT)).write_bytes(path.read_bytes())
    monkeypatch.setattr(exercises, "ROOT", tmp_path)
    exercises.write_stubs()
    assert [path.read_bytes() for path in sorted(folder.glob("*.ipynb"))] == [
        path.read_bytes() for path in NOTEBOOKS
    ]
    changed = folder / "01_data.ipynb"
    changed.write_text(changed.read_text(encoding="utf-8").replace("Pairs of words", "Spoiled"))
    exercises.write_stubs()
    for path in NOTEBOOKS:
        written = load(folder / path.name)
        assert [bare(c) for c in written["cells"]] == [bare(c) for c in load(path)["cells"]]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=ids)
def test_no_stub_passes_and_each_gets_a_hint(path):
    checks = [cell for cell in tagged(load(path)) if "exercises." in "".join(cell["source"])]
    checks = [cell for cell in checks if cell["outputs"]]
    assert 2 <= len(checks) <= 4
    for cell in checks:
        assert printed(cell).startswith("Not yet: "), "".join(cell["source"])
        assert "can't use this" not in printed(cell)


@pytest.mark.parametrize("path", SOLUTIONS, ids=ids)
def test_every_solution_passes(path):
    notebook = load(path)
    code = [cell for cell in tagged(notebook) if cell["cell_type"] == "code"]
    answers, checks = code[::2], code[1::2]
    assert all("# Solution" in "".join(cell["source"]) for cell in answers)
    assert checks and all(printed(cell).startswith("Right. ") for cell in checks)
    counts = [c["execution_count"] for c in notebook["cells"] if c["cell_type"] == "code"]
    assert counts == list(range(1, len(counts) + 1))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=ids)
def test_minutes_and_difficulty_are_given(path):
    text = [c for c in tagged(load(path)) if c["cell_type"] == "markdown"]
    for cell in text:
        assert re.match(
            r"\*\*\d\. .+\*\* \*\(\d+ minutes, (easy|medium|hard)\)\*: ", "".join(cell["source"])
        )


# The checks


FRAME = pd.DataFrame(
    {
        "text": ["Not good.", "I can't say.", "Nothing new.", "A joy."],
        "label": [0, 1, 0, 1],
        "stars": [2, 7, 4, 9],
    }
)
TEXTS = ["a fine film", "a fine day", "a dull film", "a dull day"] * 10
TRAIN = Dataset.from_dict({"text": TEXTS, "label": [1, 1, 0, 0] * 10})
TFIDF = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(TEXTS, TRAIN["label"][:])
LABELS = np.array([0, 1] * 40)
TUNED = np.where(np.arange(80) % 5 == 0, 1 - LABELS, LABELS)
LOGITS = np.array([[2.0, -1.0], [0.5, 0.0], [-3.0, 1.0]])


def pairs(ngrams=(1, 2), texts=TEXTS, labels=(1, 1, 0, 0) * 10, fitted=True, **options):
    model = make_pipeline(TfidfVectorizer(ngram_range=ngrams, **options), LogisticRegression())
    return model.fit(texts, list(labels)[: len(texts)]) if fitted else model


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(checkpoint.minilm_files())


@pytest.fixture(scope="module")
def full(tokenizer):
    texts = ["A film " * n + "and its end." for n in (2, 10, 30, 60, 100)]
    return tokenizer(texts, verbose=False)["input_ids"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tiny_model(tmp_path_factory.mktemp("model"), seed=1)
    return folder, AutoModelForSequenceClassification.from_pretrained(folder)


def said(capsys, check, answer, *made):
    check(answer, *made)
    return capsys.readouterr().out


def both_ends(ids, limit):
    head = limit // 2
    return ids if len(ids) <= limit else ids[:head] + ids[len(ids) - (limit - head) :]


def test_a_stub_left_alone(capsys):
    for check in vars(exercises).values():
        if hasattr(check, "__wrapped__"):
            assert "in place of the dots" in said(capsys, check, ...)


@pytest.mark.parametrize("answer", [None, 7, "text", [], {}, object(), lambda: 1, np.zeros(3), b""])
def test_no_answer_ends_in_a_traceback(capsys, answer):
    frame = [FRAME, FRAME, FRAME]
    for check in vars(exercises).values():
        if hasattr(check, "__wrapped__"):
            number = check.__wrapped__.__code__.co_argcount - 1
            assert said(capsys, check, answer, *frame[:number]).startswith("Not yet: ")


def test_negations(capsys):
    right = [True, True, False, False]
    assert said(capsys, exercises.negations, right, FRAME).startswith(
        "Right. Positive among them: 50%"
    )
    for answer, hint in (
        ([True, False, False, False], "missing: 1, one with “I can't"),
        ([True, True, True, False], "too many: 1"),
        ([True, True], "4 values"),
        ([False, False, True, True], "turned round"),
        ([1, 1, 0, 0], "True or False"),
    ):
        assert hint in said(capsys, exercises.negations, answer, FRAME)


def test_word_pairs(capsys):
    made = TFIDF, TRAIN, TRAIN
    assert said(capsys, exercises.word_pairs, pairs(), *made).startswith("Right. 8 words and pairs")
    for answer, hint in (
        (TFIDF, "the old pipeline"),
        (pairs((2, 2)), "ngram_range is (2, 2)"),
        (pairs(fitted=False), "call its `fit`"),
        (pairs(texts=TEXTS[:3]), "not that of train"),
        (pairs(min_df=2), "Right. "),  # a choice of the learner's own
        (pairs(labels=[0, 0, 1, 1] * 10), "training reviews wrong"),
        (pairs(labels=["positive", "positive", "negative", "negative"] * 10), "reviews wrong"),
        (make_pipeline(CountVectorizer(ngram_range=(1, 2)), LogisticRegression()), "CountVect"),
    ):
        assert hint in said(capsys, exercises.word_pairs, answer, *made)
    found = said(capsys, exercises.word_pairs, pairs(), *made)
    assert "which holds zero" in found
    spoiled = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(TEXTS, TRAIN["label"][:])
    sharing = make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), spoiled[1])
    sharing.fit(TEXTS, TRAIN["label"][:])
    found = said(capsys, exercises.word_pairs, sharing, spoiled, TRAIN, TRAIN)
    assert "`tfidf` itself was changed" in found


def test_three_classes(capsys):
    frame = pd.concat([FRAME] * 5)
    right = ["negative", "neutral", "neutral", "positive"] * 5
    assert said(capsys, exercises.three_classes, right, frame).startswith("Right. 50% are neutral")
    assert "2 stars became “positive”" in said(
        capsys, exercises.three_classes, ["positive"] * 20, frame
    )
    assert "20 values" in said(capsys, exercises.three_classes, ["positive"], frame)
    without = FRAME.drop(columns="stars")
    for answer in ([1], ...):  # the stub as it stands: there is nothing to do
        assert "came without stars" in said(capsys, exercises.three_classes, answer, without)


def test_many_pieces(capsys, tokenizer):
    assert said(capsys, exercises.many_pieces, "overintellectualization", tokenizer).startswith(
        "Right"
    )
    assert "becomes 1: film" in said(capsys, exercises.many_pieces, "film", tokenizer)
    for answer in ("two words", "日本語映画", "counter-revolutionary"):
        assert "one word" in said(capsys, exercises.many_pieces, answer, tokenizer)


@pytest.mark.parametrize(
    "cut, hint",
    [
        (lambda ids, limit: ids[:limit], "must stay first and [SEP] last"),
        (lambda ids, limit: ids, "would fit"),
        (lambda ids, limit: ids[: limit - 1] + ids[-1:], "with a limit of 16"),
        (lambda ids, limit: ids[:2] + ids[2 - limit :], "begins as the review does for 2"),
        (lambda ids, limit: ids[: limit // 2] + ids[-(limit // 2) :], "64 are left, and 65"),
    ],
)
def test_head_and_tail(capsys, tokenizer, full, cut, hint):
    def careful(ids, limit):
        return ids if len(ids) <= limit else cut(ids, limit)

    assert said(capsys, exercises.head_and_tail, both_ends, tokenizer, full).startswith("Right")
    found = said(capsys, exercises.head_and_tail, careful, tokenizer, full)
    assert found.startswith("Not yet: ") and hint in found
    found = said(capsys, exercises.head_and_tail, lambda ids, n: ids[: n // 2], tokenizer, full)
    assert "leave it alone" in found
    found = said(capsys, exercises.head_and_tail, lambda ids, n: None, tokenizer, full)
    assert "is a `return` missing" in found
    found = said(capsys, exercises.head_and_tail, lambda ids, n: ids[: n / 2], tokenizer, full)
    assert "TypeError: slice indices must be integers" in found


def test_padding_shares(capsys):
    lengths, order = np.array([2, 4, 6, 8, 10]), [0, 4, 1, 3, 2]
    right = {4: 1 - 30 / 46, 64: 1 - 30 / 50}
    assert said(capsys, exercises.padding_shares, right, lengths, order).startswith("Right")
    for answer, hint in (
        ({4: right[4]}, "no entry for batches of 64"),
        ({size: 1 - share for size, share in right.items()}, "share of real tokens"),
        ({4: 0.5, 64: 0.5}, "divide the sum of `kept`"),
        ({size: round(share, 2) for size, share in right.items()}, "leave it unrounded"),
        ({size: 100 * share for size, share in right.items()}, "between 0 and 1"),
        ({size: f"{share:.0%}" for size, share in right.items()}, "not text"),
    ):
        assert hint in said(capsys, exercises.padding_shares, answer, lengths, order)


def test_fooled(capsys, model, tokenizer):
    folder, net = model
    tokenizer = AutoTokenizer.from_pretrained(folder)
    review = "a warm film that I liked"
    found = [
        said(capsys, exercises.fooled, (review, x), net, tokenizer)
        for x in ("negative", "positive")
    ]
    assert sorted(text.split()[0] for text in found) == ["Not", "Right."]
    assert "at least five words" in said(
        capsys, exercises.fooled, ("Bad.", "negative"), net, tokenizer
    )
    assert "write “negative”" in said(capsys, exercises.fooled, (review, "bad"), net, tokenizer)
    assert "in place of the dots" in said(capsys, exercises.fooled, (..., ...), net, tokenizer)


def test_optimizer_steps(capsys):
    assert said(capsys, exercises.optimizer_steps, 96, 1_000).startswith("Right")
    for answer, hint in (
        (189, "two of them"),
        (32, "one epoch"),
        (7, "63 batches"),
        (94.5, "round up in each epoch"),
        (93, "round up in each epoch"),
        ("96", "give a number"),
    ):
        assert hint in said(capsys, exercises.optimizer_steps, answer, 1_000)


def test_mean_loss(capsys):
    labels = np.array([0, 1, 1])
    each = np.log(np.exp(LOGITS).sum(1)) - LOGITS[np.arange(3), labels]
    assert said(capsys, exercises.mean_loss, each.mean(), LOGITS, labels).startswith("Right")
    for answer, hint in (
        (-each.mean(), "the sign"),
        (each, "take their mean"),
        (each.mean() / math.log(2), "natural logarithm"),
        (9.0, "softmax"),
        (each.sum(), "the sum over all"),
        (round(each.mean(), 2), "unrounded"),
    ):
        assert hint in said(capsys, exercises.mean_loss, answer, LOGITS, labels)


def test_own_slice(capsys):
    mine = np.arange(80) < 40
    assert said(capsys, exercises.own_slice, mine, LABELS, TUNED).startswith("Right. 0.80 (0.65 to")
    assert "fewer than 30" in said(capsys, exercises.own_slice, np.arange(80) < 5, LABELS, TUNED)
    assert "no slice" in said(capsys, exercises.own_slice, np.ones(80, bool), LABELS, TUNED)
    for errors in (TUNED != LABELS, TUNED == LABELS):
        assert "by the reviews" in said(capsys, exercises.own_slice, errors, LABELS, TUNED)


def test_functionality_test(capsys):
    def probability(sentences):
        return np.array([0.9 if "good" in text else 0.2 for text in sentences])

    right = [(f"good {n}", 1) for n in range(3)] + [(f"bad {n}", 0) for n in range(3)]
    check = exercises.functionality_test
    assert said(capsys, check, right, probability).startswith("Right. 0 of 6 fail")
    assert "1 of 7 fail. Furthest off: “good but no”" in said(
        capsys, check, [*right, ("good but no", 0)], probability
    )
    assert "at least six" in said(capsys, check, right[:5], probability)
    assert "some 1" in said(capsys, check, [(text, 0) for text, _ in right], probability)
    named = [(text, "positive") for text, _ in right]
    assert "not 'positive'" in said(capsys, check, named, probability)
    turned = [(label, text) for text, label in right]
    assert "sentence comes first" in said(capsys, check, turned, probability)


def test_paired_difference(capsys):
    tfidf = np.where(np.arange(80) % 3 == 0, 1 - LABELS, LABELS)
    predictions = {"frozen features": TUNED, "TF-IDF + logistic regression": tfidf}
    made = LABELS, predictions
    right = evaluation.compare(LABELS, TUNED, tfidf, 1)
    assert said(capsys, exercises.paired_difference, right, *made).startswith("Right. +14 points")
    for answer, hint in (
        (evaluation.compare(LABELS, tfidf, TUNED, 1), "the sign"),
        (evaluation.compare(LABELS, LABELS, tfidf, 1), "other systems"),
        (0.14, "call `evaluation.compare`"),
    ):
        assert hint in said(capsys, exercises.paired_difference, answer, *made)


class Hub:
    """What the two checks of 05 ask of `HfApi`; the notebook's solution asks the rehearsal Hub."""

    def __init__(self, folder, card=""):
        self.folder = folder
        (folder / "README.md").write_text(card)
        rows = [{"system": "fine-tuned", "versions": {"torch": "2.13.0"}}]
        (folder / "metrics.json").write_text(json.dumps({"rows": rows}))

    def hf_hub_download(self, repository, name, revision):
        return str(self.folder / name)

    def list_repo_commits(self, repository):
        return [1, 2]


HEAD = "---\nlicense: apache-2.0\n---\n# A model\n"
WORDS = "For people who sort film reviews in English by hand today."


@pytest.mark.parametrize(
    "card, expected",
    [
        (f"{HEAD}\n## Intended use\n\n{WORDS}\n", "Right. Commit “Why” is number 2"),
        (f"{HEAD}\n## Intended use\n\n## Limits\n\n{WORDS}\n", "says too little"),
        (f"{HEAD}\n{WORDS}\n", "no heading"),
        (f"# A model\n\n## Intended use\n\n{WORDS}\n", "lost its metadata"),
    ],
)
def test_intended_use(capsys, tmp_path, card, expected):
    commit = SimpleNamespace(oid="a", commit_message="Why")
    assert expected in said(capsys, exercises.intended_use, commit, Hub(tmp_path, card), "me/m")
    assert "keep what" in said(capsys, exercises.intended_use, "done", Hub(tmp_path, card), "me/m")


def test_first_versions(capsys, tmp_path):
    made = Hub(tmp_path), "me/m", "a"
    check = exercises.first_versions
    assert said(capsys, check, {"torch": "2.13.0"}, *made).startswith(
        "Right. The ledger keeps the versions of torch"
    )
    assert "take “versions”" in said(capsys, check, {"torch": "2"}, *made)
    whole = json.loads((tmp_path / "metrics.json").read_text())
    assert "whole ledger" in said(capsys, check, whole, *made)
    assert "open it" in said(capsys, check, str(tmp_path / "metrics.json"), *made)


def test_through_the_app(capsys, model):
    reviews = ["A warm film.", "Dull from end to end.", "I left early."]
    found = said(capsys, exercises.through_the_app, reviews, model[0])
    assert found.startswith("Right. The app says:") and found.count("positive):") == 3
    for answer in (["a", "a", "a"], ["a", "", "b"]):
        found = said(capsys, exercises.through_the_app, answer, model[0])
        assert "three different" in found and ("Empty ones" in found) == ("" in answer)


def test_sorting_saves(capsys):
    lengths = np.array([10, 20] * 8)
    check = exercises.sorting_saves
    assert said(capsys, check, 0.25, lengths).startswith("Right. 320 tokens become 240: 25% saved")
    for answer, hint in (
        (1 / 3, "divide by the tokens before"),
        (0.75, "that share is still processed"),
        (25, "no percentage"),
        (80, "no number of tokens"),
        ("25%", "not text"),
        (0.4, "count the tokens of both orders"),
    ):
        assert hint in said(capsys, check, answer, lengths)
    uneven = np.array([10, 10, 20] * 8)
    assert "leave it unrounded" in said(capsys, check, 0.333, uneven)


def test_moved_by_rounding(capsys):
    full, eight = np.array([0.95, 0.52, 0.1]), np.array([0.94, 0.3333, 0.1])
    check = exercises.moved_by_rounding
    found = said(capsys, check, np.abs(eight - full), full, eight)
    assert found.startswith("Right. At most 0.19, for a review that was 0.52 positive")
    for answer, hint in (
        (eight - full, "take the absolute value"),
        (np.abs(eight - full).round(2), "unrounded"),
        ([0.1], "3 numbers"),
        (np.abs(eight - full) / 2, "depends on its batch"),
    ):
        assert hint in said(capsys, check, answer, full, eight)
