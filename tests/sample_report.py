"""`make sample-report`: what models make of the embedded reviews, checked against what they are for.

Uses the model that the notebooks fine-tuned (made first where it is missing). Pass a Parquet file of
real reviews with columns `text` and `label` (0 or 1) to measure how well it transfers to them.
"""

import argparse
import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ["TUTORIAL_PROFILE"] = "sample"
os.environ.pop("TUTORIAL_DATA", None)

from helpers import artifacts, data, evaluation, ledger, profiles

failures = []


def report(name, score, low=0.0, high=1.0):
    """Print a share of right answers with its interval, and note when it is out of bounds."""
    value, (lower, upper) = score["accuracy"], score["interval"]
    inside = low <= value <= high
    bounds = f"  wanted {low:.2f} to {high:.2f}" if (low, high) != (0, 1) else ""
    print(f"{name:42} {value:.3f} ({lower:.3f} to {upper:.3f}), n = {score['n']}{bounds}")
    if not inside:
        failures.append(name)


def main(transfer):
    artifacts.require("05_hub_deployment")
    profile = profiles.current()
    splits = data.load_splits()
    train, test = splits["train"], splits["test"]
    labels = np.array(test["label"][:])
    predictions = pd.read_parquet(artifacts.read("predictions") / "test.parquet")
    tuned = predictions["fine-tuned"].to_numpy()

    print("Test split")
    report("majority", ledger.score(labels, predictions["majority"]))
    tfidf = predictions["TF-IDF_+_logistic_regression"].to_numpy()
    report("TF-IDF, scikit-learn's defaults", ledger.score(labels, tfidf), 0.68, 0.85)
    pairs_of_words = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2),
        LogisticRegression(C=10, max_iter=1_000),
    ).fit(train["text"][:], train["label"][:])
    bigrams = pairs_of_words.predict(test["text"][:])
    report("TF-IDF with word pairs, C = 10", ledger.score(labels, bigrams), 0.0, 0.85)
    report("frozen features", ledger.score(labels, predictions["frozen_features"]))
    report("fine-tuned", ledger.score(labels, tuned), 0.85, 0.95)
    for name, other in (("the defaults", tfidf), ("word pairs", bigrams)):
        paired = evaluation.compare(labels, tuned, other, profile.seed)
        low, high = paired.interval
        print(f"  fine-tuned less {name}: {paired.difference:+.3f} ({low:+.3f} to {high:+.3f})")
        if name == "the defaults" and (paired.difference < 0.08 or low <= 0):
            failures.append("gap of 8 points")

    print("\nFine-tuned, by trait")
    traits = pd.Series(test["traits"][:]).fillna("").str.split()
    for trait in sorted({name for found in traits for name in found}):
        rows = traits.map(lambda found, trait=trait: trait in found).to_numpy()
        report(f"  {trait}", ledger.score(labels[rows], tuned[rows]))
    rows = traits.map(len).to_numpy() == 0
    report("  none", ledger.score(labels[rows], tuned[rows]))

    from transformers import pipeline

    classify = pipeline(
        "text-classification",
        model=str(artifacts.read("model")),
        truncation=True,
        max_length=profile.max_length,
    )

    def predict(texts):
        """Labels in the texts' own order; those of like length share a batch."""
        cleaned = [" ".join(text.replace("<br />", " ").split()) for text in texts]
        order = np.argsort([len(text) for text in cleaned])
        found = np.empty(len(cleaned), int)
        answers = classify([cleaned[row] for row in order], batch_size=32)
        found[order] = [data.LABELS.index(answer["label"]) for answer in answers]
        return found

    edits = pd.read_csv(artifacts.EMBEDDED.parent / "contrast_pairs.csv").set_index("id")
    position = {row: place for place, row in enumerate(test["id"][:])}
    edited_right = predict(edits["text"]) == edits["label"].map(data.LABELS.index)
    places = [position[row] for row in edits.index]
    both = edited_right.to_numpy() & (tuned[places] == labels[places])
    print("\nContrast pairs")
    report("fine-tuned, both of a pair right", ledger.score(np.ones(len(both)), both), 0.55, 0.90)

    if transfer:
        real = pd.read_parquet(transfer)
        print(f"\nTransfer to {Path(transfer).name}, cut at {profile.max_length} tokens")
        score = ledger.score(real["label"], predict(real["text"]))
        report("fine-tuned on the embedded reviews", score, 0.80, 1.0)

    if failures:
        sys.exit(f"\nOut of bounds: {', '.join(failures)}.")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("transfer", nargs="?", help="a Parquet file of real reviews")
    main(parser.parse_args().transfer)
