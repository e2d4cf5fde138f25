"""The embedded reviews: what their card says of them, measured. `pytest -s` shows the figures.

What needs a trained model is measured by `make sample-report`.
"""

import collections
import itertools
import re

import numpy as np
import pandas as pd
import pytest
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer

from helpers import artifacts

FOLDER = artifacts.EMBEDDED.parent
SIZES = {"train": 1_000, "validation": 200, "test": 600}
TRAITS = {
    "negation",
    "contrast",
    "sarcasm",
    "understatement",
    "comparison",
    "expectation",
    "plot_heavy",
    "long",
}


def words(text):
    return re.findall(r"[^\W_]+(?:['’][^\W_]+)*", text.lower())


def runs(text, length):
    return {" ".join(run) for run in zip(*(words(text)[i:] for i in range(length)), strict=False)}


@pytest.fixture(scope="module")
def reviews():
    return pd.read_csv(artifacts.EMBEDDED, encoding="utf-8", keep_default_na=False)


@pytest.fixture(scope="module")
def pairs(reviews):
    edits = pd.read_csv(FOLDER / "contrast_pairs.csv", encoding="utf-8", keep_default_na=False)
    return edits.merge(reviews, on="id", suffixes=("", "_before"), how="left", validate="1:1")


def test_columns_counts_and_balance(reviews):
    assert list(reviews) == ["id", "split", "text", "label", "stars", "genre", "traits", "film"]
    counts = reviews.groupby(["split", "label"]).size()
    print(counts.to_string())
    assert counts.to_dict() == {
        (split, label): size // 2
        for split, size in SIZES.items()
        for label in ("negative", "positive")
    }
    assert reviews["id"].is_unique and reviews["text"].is_unique
    assert (reviews["text"] == reviews["text"].str.strip()).all() and reviews["genre"].all()
    assert not reviews["text"].str.contains("\ufffd").any()


def test_stars_follow_imdbs_rule(reviews):
    print(reviews.groupby("stars").size().to_string())
    assert set(reviews.loc[reviews["label"] == "negative", "stars"]) == {1, 2, 3, 4}
    assert set(reviews.loc[reviews["label"] == "positive", "stars"]) == {7, 8, 9, 10}


def test_each_trait_is_common_enough(reviews):
    traits = reviews["traits"].str.split()
    assert set(traits.explode().dropna()) == TRAITS
    for trait in sorted(TRAITS):
        has = traits.map(lambda found, trait=trait: trait in found)
        total, test = has.sum(), (has & (reviews["split"] == "test")).sum()
        print(f"{trait:15} {total:4} reviews, {test:3} of them in test")
        assert total >= 60 and test >= 25
    n_words = reviews["text"].str.split().str.len()
    assert (traits.map(lambda found: "long" in found) == (n_words > 250)).all()


def test_lengths_are_those_of_life(reviews):
    from helpers import checkpoint

    n_words = reviews["text"].str.split().str.len()
    usual, long = n_words.between(15, 120).mean(), (n_words > 250).sum()
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(checkpoint.minilm_files())
    tokenizer.backend_tokenizer.no_truncation()
    pieces = [len(ids) for ids in tokenizer(reviews["text"].tolist(), verbose=False)["input_ids"]]
    over = sum(n > 512 for n in pieces)
    print(f"{usual:.0%} have 15 to 120 words, {long} more than 250, {over} over 512 WordPieces")
    print("words, tenths:", np.quantile(n_words, np.arange(0.1, 1, 0.1)).astype(int).tolist())
    assert usual > 0.75 and long >= 40 and over >= 15
    low, high = np.quantile(n_words, [0.1, 0.9])
    assert high > 3 * low, "nearly all reviews are of one length"


def test_vocabulary_is_wide(reviews):
    distinct = {word for text in reviews["text"] for word in words(text)}
    print(f"{len(distinct):,} distinct words")
    assert len(distinct) >= 9_000


def test_no_phrase_repeats(reviews):
    seen = {}
    for row, text in zip(reviews["id"], reviews["text"], strict=True):
        for run in runs(text, 8):
            assert seen.setdefault(run, row) == row, f"{row} and {seen[run]} share: {run}"
    fours = collections.Counter(run for text in reviews["text"] for run in runs(text, 4))
    run, most = fours.most_common(1)[0]
    print(f"the most frequent 4-word run, {run!r}, is in {most} reviews")
    assert most <= len(reviews) // 100


def test_no_two_reviews_are_alike(reviews):
    vectors = TfidfVectorizer().fit_transform(reviews["text"])
    cosines = (vectors @ vectors.T).toarray()
    np.fill_diagonal(cosines, 0)
    print(f"highest cosine between two reviews: {cosines.max():.2f}")
    assert cosines.max() < 0.6


def test_no_film_stands_in_two_splits(reviews):
    film = reviews["film"].map(lambda title: re.sub(r"[\W_]", "", title.lower()))
    assert film.all() and reviews.groupby(film)["split"].nunique().max() == 1


def test_no_word_and_no_length_gives_the_label_away(reviews):
    positive = (reviews["label"] == "positive").to_numpy()
    vectorizer = CountVectorizer(binary=True, token_pattern=r"[^\W_]+")
    present = vectorizer.fit_transform(reviews["text"]).astype(float)
    share = [np.asarray(present[rows].mean(axis=0)).ravel() for rows in (~positive, positive)]
    accuracy = 0.5 + np.abs(share[1] - share[0]) / 2
    word = vectorizer.get_feature_names_out()[accuracy.argmax()]
    print(f"the most telling word, {word!r}, predicts {accuracy.max():.3f} of the labels")
    assert accuracy.max() <= 0.60
    n_words = reviews["text"].str.split().str.len().to_numpy()
    by_length = [((n_words > limit) == positive).mean() for limit in np.unique(n_words)]
    best = max(max(by_length), 1 - min(by_length))
    print(f"the best limit on length predicts {best:.3f}")
    assert best <= 0.60


def test_contrast_pairs(pairs):
    assert len(pairs) == 150 and (pairs["split"] == "test").all()
    assert (pairs["label"] != pairs["label_before"]).all()
    assert set(pairs["label"]) == {"negative", "positive"}
    kept = [
        len(set(words(after)) & set(words(before))) / len(set(words(before)))
        for after, before in zip(pairs["text"], pairs["text_before"], strict=True)
    ]
    print(
        f"an edit keeps {np.median(kept):.0%} of its review's words (median), {min(kept):.0%} at least"
    )
    assert min(kept) >= 0.4 and np.median(kept) >= 0.7
    balance = (pairs["label"] == "positive").mean()
    print(f"{balance:.0%} of the edits are positive")
    assert 0.4 <= balance <= 0.6
    both = itertools.combinations(pairs["text"], 2)
    assert all(one != other for one, other in both)
