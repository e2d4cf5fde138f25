"""Reading reviews: good files, and one clear message for each kind of bad one."""

import pandas as pd
import pytest
from datasets import Dataset

from helpers import TutorialError, artifacts, data, profiles


def reviews(n=40):
    return pd.DataFrame(
        {
            "text": [f"review {i}, {'fine' if i % 2 else 'dull'}" for i in range(n)],
            "label": [["negative", "positive"][i % 2] for i in range(n)],
        }
    )


def save(frame, path):
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    elif path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_json(path, orient="records", lines=True)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("labels", [("negative", "positive"), ("neg", "POS"), (0, 1), (0.0, 1.0)])
def test_reads_each_format_and_naming_of_labels(tmp_path, suffix, labels):
    frame = reviews(120)
    frame["label"] = [labels[name == "positive"] for name in frame["label"]]
    splits = data.own_reviews(save(frame, tmp_path / f"mine{suffix}"), seed=1)
    assert {name: len(part) for name, part in splits.items()} == {"train": 90, "test": 30}
    for part in splits.values():
        assert part["label"].mean() == 0.5
        assert (part["text"].str.contains("fine") == part["label"].astype(bool)).all()


def test_reads_a_folder_and_a_column_of_splits(tmp_path):
    save(reviews(), tmp_path / "my_train.csv")
    save(reviews(32), tmp_path / "my_test.parquet")
    assert {n: len(p) for n, p in data.own_reviews(tmp_path, 1).items()} == {
        "train": 40,
        "test": 32,
    }
    split = ["train"] * 40 + ["test"] * 30 + ["validation"] * 30
    one = save(reviews(100).assign(split=split), tmp_path / "one.csv")
    assert list(data.own_reviews(one, 1)) == ["train", "validation", "test"]


def test_names_are_read_as_words(tmp_path):
    save(reviews(), tmp_path / "Train.csv").rename(tmp_path / "Train.CSV")
    save(reviews(32), tmp_path / "test.csv")
    save(reviews(34), tmp_path / "latest.csv")  # no test split, though its name ends like one
    assert {n: len(p) for n, p in data.own_reviews(tmp_path, 1).items()} == {
        "train": 40,
        "test": 32,
    }


@pytest.mark.parametrize("text", ["None", "NA", "null"])
def test_words_that_pandas_takes_for_missing_are_reviews(tmp_path, text):
    frame = reviews(120)
    frame.loc[3, "text"] = text
    splits = data.own_reviews(save(frame, tmp_path / "mine.csv"), seed=1)
    assert sum((part["text"] == text).sum() for part in splits.values()) == 1


def bad_files():
    frame = reviews()
    third, blank = frame.copy(), frame.copy()
    third.loc[7, "label"] = "mixed"
    blank.loc[4, "text"] = "  "
    return {
        "no column 'text'": frame.rename(columns={"text": "body"}),
        "no column 'label'": frame.drop(columns="label"),
        "row 8: the label is 'mixed'": third,
        "1 empty reviews, the first in row 5": blank,
        "is empty: it has columns but no rows": frame.head(0),
        "at least 15 of each": frame[frame["label"] == "negative"],
    }


@pytest.mark.parametrize("message", bad_files())
def test_bad_tables(tmp_path, message):
    path = save(bad_files()[message], tmp_path / "bad.csv")
    with pytest.raises(TutorialError, match=message) as caught:
        data.own_reviews(path, 1)
    assert "bad.csv" in str(caught.value)


def test_bad_files(tmp_path):
    path = tmp_path / "latin.csv"
    path.write_bytes("text,label\nfine,1\nna\xefve,0\n".encode("latin-1"))
    with pytest.raises(TutorialError, match=r"latin\.csv, line 3: not UTF-8"):
        data.own_reviews(path, 1)
    (tmp_path / "nothing.csv").write_bytes(b"")
    with pytest.raises(TutorialError, match=r"nothing\.csv is empty"):
        data.own_reviews(tmp_path / "nothing.csv", 1)
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(TutorialError, match=r"broken\.parquet can't be read"):
        data.own_reviews(tmp_path / "broken.parquet", 1)
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(TutorialError, match=r"notes\.txt ends in \.txt"):
        data.own_reviews(tmp_path / "notes.txt", 1)
    (tmp_path / "only").mkdir()
    save(reviews(), tmp_path / "only" / "train.csv")
    with pytest.raises(TutorialError, match="no test file"):
        data.own_reviews(tmp_path / "only", 1)


def test_bad_input_leaves_no_artifact(fresh, monkeypatch):
    monkeypatch.setenv(
        "TUTORIAL_DATA", str(save(bad_files()["no column 'text'"], fresh / "bad.csv"))
    )
    with pytest.raises(TutorialError):
        data.locate(profiles.current())
    assert not (fresh / "artifacts").exists()


def test_subsample_keeps_the_proportion_of_labels():
    rows = Dataset.from_dict({"label": [0] * 300 + [1] * 100}).class_encode_column("label")
    part = data.subsample(rows, 100, seed=3)
    assert sorted(part["label"][:]) == [0] * 75 + [1] * 25
    assert part["label"][:] == data.subsample(rows, 100, seed=3)["label"][:]
    assert len(data.subsample(rows, 399, seed=3)) == 399
    assert len(data.subsample(rows, None, seed=3)) == 400


def test_contrast_pairs_are_found_in_test_or_there_are_none():
    test = Dataset.from_pandas(pd.read_csv(artifacts.EMBEDDED).query("split == 'test'"))
    pairs = data.contrast_pairs(test, profiles.PROFILES["sample"])
    assert len(pairs) == 150 and set(pairs["label"]) == {0, 1}
    labels = [data.LABELS.index(name) for name in test["label"][:]]
    assert all(
        labels[row] != label for row, label in zip(pairs["row"], pairs["label"], strict=True)
    )
    other = data.contrast_pairs(Dataset.from_dict({"text": ["x"]}), profiles.PROFILES["quick"])
    assert len(other) == 0 and "row" in other


def test_similar_pairs_finds_edited_copies_only():
    others = [f"the {w} film about a man who sells {w} boats to his own brother" for w in
              ("slow", "loud", "strange", "funny")]  # fmt: skip
    others[1:] = [
        "nothing here is like the rest of them at all",
        "a b c d e f g",
        "quite another text",
    ]
    edited = others[0].replace("his own", "his older")
    pairs = data.similar_pairs(
        [edited, "a film about ships and men and more"], others, threshold=0.6
    )
    assert pairs[["text", "other"]].values.tolist() == [[0, 0]]
    alone = data.similar_pairs([*others, edited, others[1]], threshold=0.6)
    assert alone[["text", "other"]].values.tolist() == [[4, 0], [5, 1]]
