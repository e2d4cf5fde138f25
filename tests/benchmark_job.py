"""What `benchmark.py` measures, and on what: the reviews, the model, the settings."""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from benchmark_machine import Limit
from datasets import Dataset
from sklearn.model_selection import train_test_split
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DistilBertConfig,
    set_seed,
)

from helpers import TutorialError, artifacts, checkpoint, data, profiles

LABELS = {
    "id2label": dict(enumerate(data.LABELS)),
    "label2id": {name: label for label, name in enumerate(data.LABELS)},
}


@dataclass
class Job:
    """What is measured, and on what."""

    args: argparse.Namespace
    seed: int
    start: str  # where training begins
    folder: Path  # the classifier that is asked
    trained: bool
    tokenizer: object
    train: Dataset
    validation: Dataset
    texts: list[str]  # of `validation`
    limit: Limit

    @property
    def cuda(self) -> bool:
        return self.args.device == "cuda"

    @staticmethod
    def lengths(dataset: Dataset) -> np.ndarray:
        return np.array([len(ids) for ids in dataset["input_ids"]])


def reviews(args, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Reviews to train on and reviews to validate on, columns `text` and `label`."""
    if not args.data and artifacts.is_current("splits"):
        folder = artifacts.read("splits")
        return tuple(
            pd.read_parquet(folder / f"{part}.parquet") for part in ("train", "validation")
        )
    if args.data and not args.data.exists():
        raise TutorialError(f"There is nothing at {args.data}: correct --data.")
    own = data.own_reviews(args.data or profiles.current().data or artifacts.EMBEDDED, seed)
    if args.data and "validation" not in own:
        own["validation"] = own["test"]
    if "validation" not in own:
        options = {"test_size": 0.2, "stratify": own["train"]["label"], "random_state": seed}
        own["train"], own["validation"] = train_test_split(own["train"], **options)
    return own["train"], own["validation"]


def encode(tokenizer, frame: pd.DataFrame, max_length: int) -> Dataset:
    found = tokenizer(frame["text"].tolist(), truncation=True, max_length=max_length)
    return Dataset.from_dict({**found, "labels": frame["label"].tolist()})


def classifier(name, seed: int):
    set_seed(seed)
    return AutoModelForSequenceClassification.from_pretrained(name, **LABELS)


def tiny_model(folder: Path, tokenizer) -> Path:
    """A random classifier of one thin layer, to see what is left when the model costs nothing."""
    sizes = {"dim": 32, "hidden_dim": 64, "n_layers": 1, "n_heads": 2}
    config = DistilBertConfig(vocab_size=len(tokenizer), **sizes, **LABELS)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def prepare(args, work: Path) -> Job:
    profile = profiles.current()
    args.device = args.device or profile.device
    args.max_length = args.max_length or profile.max_length
    args.epochs = args.epochs or profile.epochs
    args.batch_size, args.learning_rate = profile.batch_size, profile.learning_rate
    start = args.model or checkpoint.locate(profile)
    tokenizer = AutoTokenizer.from_pretrained(start, model_max_length=args.max_length)
    train, validation = reviews(args, profile.seed)
    most = min(len(train), args.train_reviews or len(train))
    train = train.sample(most, random_state=profile.seed)
    validation = validation.sample(frac=1, random_state=profile.seed)  # some files are sorted
    trained = not args.model and artifacts.is_current("calibrated")
    if trained:
        folder = artifacts.read("calibrated")
    else:
        folder = work / "classifier"
        classifier(start, profile.seed).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    encoded = [encode(tokenizer, frame, args.max_length) for frame in (train, validation)]
    texts, limit = validation["text"].tolist(), Limit(args.device, args.matrix)
    return Job(args, profile.seed, start, folder, trained, tokenizer, *encoded, texts, limit)
