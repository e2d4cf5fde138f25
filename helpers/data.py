"""Reviews from the Hub, from the embedded sample, or from the reader's own files (01_data)."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
from datasets import ClassLabel, Dataset, load_dataset
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import train_test_split
from sklearn.neighbors import NearestNeighbors

from helpers import TutorialError, artifacts
from helpers.profiles import Profile

LABELS = ("negative", "positive")
_NAMES = {"negative": 0, "neg": 0, "0": 0, "positive": 1, "pos": 1, "1": 1}
_SPLITS = ("train", "validation", "test")
_READERS = {
    ".csv": lambda path: pd.read_csv(path, keep_default_na=False),  # a review may say "None"
    ".jsonl": lambda path: pd.read_json(path, lines=True),
    ".json": lambda path: pd.read_json(path, lines=True),
    ".parquet": pd.read_parquet,
}
_FEWEST = 15  # reviews of each label in a split: 30 in all, the fewest an interval makes sense for


def locate(profile: Profile) -> dict:
    """The arguments that make `load_dataset` load the profile's reviews.

    A Hub data set is named by its id. The embedded reviews and the reader's own files are checked
    first and laid out as Parquet files, one for each split.

    Raises
    ------
    TutorialError
        If a file of the reader's can't be used; the message names the file, the row and the cure.
    """
    if profile.dataset and not profile.data:
        return {"path": profile.dataset}
    splits = own_reviews(profile.data or artifacts.EMBEDDED, profile.seed)
    with artifacts.write("source") as folder:
        for name, frame in splits.items():
            dataset = Dataset.from_pandas(frame, preserve_index=False)
            dataset = dataset.cast_column("label", ClassLabel(names=list(LABELS)))
            dataset.to_parquet(folder / f"{name}.parquet")
    files = {name: str(artifacts.path("source") / f"{name}.parquet") for name in splits}
    return {"path": "parquet", "data_files": files}


def own_reviews(path: Path, seed: int) -> dict[str, pd.DataFrame]:
    """Read and check reviews: frames with `text` and `label` (0 or 1) for train and test at least.

    `path` is a CSV, JSON Lines or Parquet file, or a folder whose file names hold the words
    `train` and `test` (and perhaps `validation`). A single file may name each row's split in a
    column `split`; without one, a quarter of its rows become the test split.
    """
    if path.is_dir():
        splits = {}
        for file in sorted(path.iterdir()):
            words = re.split(r"[^a-z]+", file.stem.lower())  # "latest" is no test
            named = [split for split in _SPLITS if split in words]
            if file.suffix.lower() in _READERS and len(named) == 1:
                if named[0] in splits:
                    raise TutorialError(f"{path} holds two {named[0]} files: leave one of them.")
                splits[named[0]] = _read(file)
        for split in ("train", "test"):
            if split not in splits:
                raise TutorialError(
                    f"{path} holds no {split} file: TUTORIAL_DATA wants a folder with a train and "
                    f"a test file ({', '.join(_READERS)}), or one such file."
                )
    else:
        frame = _read(path)
        if "split" in frame:
            splits = {name: part.drop(columns="split") for name, part in frame.groupby("split")}
            if not {"train", "test"} <= set(splits) <= set(_SPLITS):
                raise TutorialError(
                    f"{path}: the column split holds {sorted(splits)}; it must hold train and "
                    "test, and may hold validation."
                )
        else:
            _enough(frame, path.name)
            train, test = train_test_split(
                frame, test_size=0.25, stratify=frame["label"], random_state=seed
            )
            splits = {"train": train, "test": test}
    for name, frame in splits.items():
        _enough(frame, f"the {name} split of {path.name}")
    return {name: splits[name].reset_index(drop=True) for name in _SPLITS if name in splits}


def _read(path: Path) -> pd.DataFrame:
    suffix = path.suffix.lower()
    if suffix not in _READERS:
        raise TutorialError(
            f"{path.name} ends in {path.suffix or 'nothing'}: TUTORIAL_DATA takes "
            f"{', '.join(_READERS)}."
        )
    if suffix != ".parquet":
        for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                raise TutorialError(
                    f"{path.name}, line {number}: not UTF-8. Save the file as UTF-8 and try again."
                ) from None
    try:
        frame = _READERS[suffix](path)
    except pd.errors.EmptyDataError:
        raise TutorialError(f"{path.name} is empty: it needs columns text and label.") from None
    except (ValueError, OSError) as error:
        raise TutorialError(
            f"{path.name} can't be read: {error}. Repair or export it again."
        ) from None
    for column in ("text", "label"):
        if column not in frame:
            raise TutorialError(
                f"{path.name} has no column {column!r}, only {list(frame.columns)}: rename the "
                "column that holds it."
            )
    if frame.empty:
        raise TutorialError(f"{path.name} is empty: it has columns but no rows.")
    text = frame["text"].fillna("").astype(str)
    blank = np.flatnonzero(text.str.strip() == "")
    if len(blank):
        raise TutorialError(
            f"{path.name} has {len(blank)} empty reviews, the first in row {blank[0] + 1}: fill or "
            "delete those rows."
        )
    label = frame["label"].astype(str).str.strip().str.lower().str.removesuffix(".0").map(_NAMES)
    strange = np.flatnonzero(label.isna())
    if len(strange):
        raise TutorialError(
            f"{path.name}, row {strange[0] + 1}: the label is {frame['label'].iloc[strange[0]]!r}. "
            "Two labels are known, negative (or 0) and positive (or 1): drop or map the others."
        )
    return frame.assign(text=text, label=label.astype("int64"))


def _enough(frame: pd.DataFrame, where: str) -> None:
    counts = frame["label"].value_counts().reindex([0, 1], fill_value=0)
    if counts.min() < _FEWEST:
        raise TutorialError(
            f"{where} has {counts[0]} negative and {counts[1]} positive reviews: at least "
            f"{_FEWEST} of each are needed."
        )


def subsample(dataset, size: int | None, seed: int):
    """At most `size` rows of `dataset`, in random order, both labels in their proportion."""
    if size is None or size > len(dataset) - 2:  # too few would be left over to hold both labels
        return dataset.shuffle(seed=seed).select(range(min(size or len(dataset), len(dataset))))
    return dataset.train_test_split(train_size=size, stratify_by_column="label", seed=seed)["train"]


def similar_pairs(texts, others=None, threshold: float = 0.8) -> pd.DataFrame:
    """Near duplicates: for each of `texts` the most similar of `others`, where the cosine is high.

    Without `others` each text is compared with those before it. Texts become TF-IDF vectors over
    runs of three words, so a high cosine means shared phrases and not merely a shared subject.
    Columns: `text` and `other` (positions), `cosine`.
    """
    alone = others is None
    vectorizer = TfidfVectorizer(ngram_range=(3, 3), dtype=np.float32)
    reference = vectorizer.fit_transform(texts if alone else others)
    nearest = NearestNeighbors(radius=1 - threshold, metric="cosine", algorithm="brute")
    nearest.fit(reference)
    distances, positions = nearest.radius_neighbors(
        reference if alone else vectorizer.transform(texts)
    )
    pairs = pd.DataFrame(
        {
            "text": np.repeat(np.arange(len(texts)), [len(found) for found in positions]),
            "other": np.concatenate(positions).astype(int),
            "cosine": 1 - np.concatenate(distances),
        }
    )
    if alone:
        pairs = pairs[pairs["other"] < pairs["text"]]
    pairs = pairs.sort_values("cosine", ascending=False, kind="stable").drop_duplicates("text")
    return pairs.sort_values("text").reset_index(drop=True)


def contrast_pairs(test, profile: Profile) -> pd.DataFrame:
    """The embedded test reviews' minimal edits with the opposite label; empty for other data.

    Columns `text`, `label` (0 or 1), and `row`, the place of the unedited review in `test`.
    """
    pairs = pd.read_csv(artifacts.EMBEDDED.parent / "contrast_pairs.csv")
    if profile.data or profile.dataset:
        pairs = pairs[:0]
    rows = {name: row for row, name in enumerate(test["id"][:])} if len(pairs) else {}
    pairs = pairs[pairs["id"].isin(list(rows))]
    labels = pairs["label"].map(LABELS.index).astype(int)
    return pairs.assign(label=labels, row=pairs["id"].map(rows).astype(int)).reset_index(drop=True)


def save_splits(splits) -> None:
    """Store a `DatasetDict` as the artifact that the other notebooks read, one Parquet a split."""
    with artifacts.write("splits") as folder:
        for name, dataset in splits.items():
            dataset.to_parquet(folder / f"{name}.parquet")
    print(f"Stored {', '.join(f'{len(d):,} {n}' for n, d in splits.items())} reviews.")


def load_splits():
    """The `DatasetDict` that 01 stored: train, validation and test, `label` as a `ClassLabel`."""
    folder = artifacts.read("splits")
    return load_dataset(
        "parquet", data_files={name: str(folder / f"{name}.parquet") for name in _SPLITS}
    )
