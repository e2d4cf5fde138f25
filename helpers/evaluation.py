"""Statistics of 04_evaluation: metrics without a network, and differences with their intervals."""

from dataclasses import dataclass

import datasets
import evaluate
import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from scipy.stats import binomtest, bootstrap, norm, rankdata
from sklearn import metrics

from helpers import TutorialError, ledger, profiles
from helpers.profiles import Profile

METRICS = {
    "accuracy": metrics.accuracy_score,
    "f1": metrics.f1_score,
    "precision": metrics.precision_score,
    "recall": metrics.recall_score,
}


class _LocalMetric(evaluate.Metric):
    """A metric of the Hub, by its name there, computed by scikit-learn as the Hub's script does."""

    def _info(self):
        integers = datasets.Value("int32")
        return evaluate.MetricInfo(
            description=f"{self.config_name}, of the positive label where it has one",
            citation="",
            inputs_description="predictions and references: lists of int, one for each review",
            features=datasets.Features({"predictions": integers, "references": integers}),
        )

    def _compute(self, predictions, references):
        options = {} if self.config_name == "accuracy" else {"zero_division": 0}
        value = METRICS[self.config_name](references, predictions, **options)
        return {self.config_name: float(value)}


def metric_sources(profile: Profile) -> list:
    """What to give `evaluate.combine`: the metrics' names, or the same metrics made locally.

    By its name `evaluate` fetches a metric's script from the Hub and runs it; `sample` needs no
    network, and computes the same values with scikit-learn.
    """
    if profile.dataset and profiles.hub_reachable():
        return list(METRICS)
    return [_LocalMetric(config_name=name) for name in METRICS]


@dataclass(frozen=True)
class PairedDifference:
    """Two systems compared on the same reviews.

    `difference` is the accuracy of the first less that of the second, in `interval` with 95 %
    confidence. `only_first` and `only_second` count the reviews that one of them alone gets right.
    """

    difference: float
    interval: tuple[float, float]
    only_first: int
    only_second: int
    p_value: float


def compare(labels, first, second, seed: int, resamples: int = 9_999) -> PairedDifference:
    """Compare the predictions `first` and `second`, arrays of int of shape (n,), review by review.

    The interval is a percentile bootstrap over reviews (`scipy.stats.bootstrap`), the p value that
    of McNemar's exact test: a binomial test on the reviews where just one system is right.

    Raises
    ------
    TutorialError
        If the arrays differ in shape or hold fewer than 30 reviews.
    """
    labels, first, second = map(np.asarray, (labels, first, second))
    if not labels.shape == first.shape == second.shape:
        raise TutorialError(
            f"A paired comparison needs predictions for the same reviews: got {labels.shape} "
            f"labels, {first.shape} and {second.shape} predictions."
        )
    _enough(labels)
    gain = (first == labels).astype(float) - (second == labels)
    only_first, only_second = int((gain > 0).sum()), int((gain < 0).sum())
    if only_first + only_second == 0:
        return PairedDifference(0.0, (0.0, 0.0), 0, 0, 1.0)
    interval = bootstrap(
        (gain,), np.mean, n_resamples=resamples, method="percentile", rng=seed, batch=500
    ).confidence_interval
    return PairedDifference(
        difference=float(gain.mean()),
        interval=(float(interval.low), float(interval.high)),
        only_first=only_first,
        only_second=only_second,
        p_value=float(binomtest(only_first, only_first + only_second).pvalue),
    )


def _enough(labels) -> None:
    if len(labels) < 30:
        raise TutorialError(
            f"{len(labels)} reviews are too few for an interval to mean anything: use 30 or more."
        )


def check_scores(labels, scores) -> None:
    """Refuse what no score of two labels can be computed from.

    `labels` has shape (n,), `scores` (probabilities or logits) shape (n,) or (n, 2).

    Raises
    ------
    TutorialError
        If the two differ in length, hold fewer than 30 reviews or one label only, or if a score is
        not a number.
    """
    labels, scores = np.asarray(labels), np.asarray(scores)
    if len(labels) != len(scores):
        raise TutorialError(f"There are {len(labels)} labels and {len(scores)} scores.")
    _enough(labels)
    if len(np.unique(labels)) < 2:
        raise TutorialError(
            f"All {len(labels)} reviews have the label {labels[0]}: a score needs both labels. "
            "Check the file's column of labels."
        )
    broken = np.flatnonzero(~np.isfinite(scores.reshape(len(scores), -1)).all(axis=1))
    if len(broken):
        raise TutorialError(
            f"{len(broken)} reviews have scores that are not numbers, the first is review "
            f"{broken[0]}: training diverged. Lower the learning rate and run 03_training again."
        )


def metric_intervals(labels, positive, seed: int, resamples: int = 9_999) -> pd.DataFrame:
    """Accuracy, macro F1, MCC and ROC AUC, each with a 95 % percentile bootstrap interval.

    Parameters
    ----------
    labels : array of int, shape (n,)
    positive : array of float, shape (n,)
        The probability of the positive label.

    Returns
    -------
    pandas.DataFrame
        One row a metric; columns `value`, `low`, `high`.
    """
    labels, positive = np.asarray(labels), np.asarray(positive)
    check_scores(labels, positive)
    rows = {}
    for name, metric in _RESAMPLED.items():
        ends = bootstrap(
            (labels, positive),
            metric,
            paired=True,
            vectorized=True,
            n_resamples=resamples,
            method="percentile",
            batch=500,
            rng=seed,
        ).confidence_interval
        value = float(metric(labels, positive))
        rows[name] = {"value": value, "low": float(ends.low), "high": float(ends.high)}
    return pd.DataFrame(rows).T


# Metrics of labels and probabilities along an axis, for thousands of resamples at once: the same
# values as scikit-learn's, which takes one resample at a time.


def _accuracy(labels, positive, axis=-1):
    return np.mean(labels == (positive >= 0.5), axis=axis)


def _macro_f1(labels, positive, axis=-1):
    answers = positive >= 0.5
    found = []
    for label in (0, 1):
        hits = ((labels == label) & (answers == label)).sum(axis)
        called = (labels == label).sum(axis) + (answers == label).sum(axis)
        found.append(2 * hits / np.maximum(called, 1))
    return np.mean(found, axis=0)


def _mcc(labels, positive, axis=-1):
    answers = positive >= 0.5
    share, called = np.mean(labels, axis), np.mean(answers, axis)
    spread = np.sqrt(share * (1 - share) * called * (1 - called))
    together = np.mean(labels * answers, axis) - share * called
    return np.divide(together, spread, out=np.zeros_like(spread), where=spread > 0)


def _roc_auc(labels, positive, axis=-1):
    n_positive = labels.sum(axis)
    pairs = n_positive * (labels.shape[axis] - n_positive)
    above = (rankdata(positive, axis=axis) * labels).sum(axis) - n_positive * (n_positive + 1) / 2
    return np.divide(above, pairs, out=np.full(np.shape(pairs), 0.5), where=pairs > 0)


_RESAMPLED = {
    "accuracy": _accuracy,
    "macro F1": _macro_f1,
    "MCC": _mcc,
    "ROC AUC": _roc_auc,
}


def reviews_needed(disagreement: float, difference: float, power: float = 0.8) -> int:
    """How many reviews a paired test needs to see a `difference` in accuracy at the 5 % level.

    `disagreement` is the share of reviews on which just one of the systems is right. The normal
    approximation for McNemar's test (Connor, 1987, Biometrics 43).
    """
    if not 0 < difference <= disagreement <= 1:
        raise TutorialError(
            f"A difference of {difference} needs systems that disagree at least so often: got "
            f"{disagreement}."
        )
    spread = np.sqrt(disagreement - difference**2)
    wanted = norm.ppf(0.975) * np.sqrt(disagreement) + norm.ppf(power) * spread
    return int(np.ceil((wanted / difference) ** 2))


def slices(labels, predictions, masks: dict) -> pd.DataFrame:
    """Accuracy with its interval in parts of the reviews; parts without a review are left out.

    `masks` maps a name to an array of bool of shape (n,). The column `note` warns where fewer than
    50 reviews leave the interval wide.
    """
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    rows = {}
    for name, mask in masks.items():
        mask = np.asarray(mask, bool)
        if mask.any():
            score = ledger.score(labels[mask], predictions[mask])
            low, high = score["interval"]
            rows[name] = {
                "n": score["n"],
                "accuracy": f"{score['accuracy']:.2f}",
                "95 % interval": f"{low:.2f} to {high:.2f}",
                "note": "few" if score["n"] < 50 else "",
            }
    return pd.DataFrame(rows).T.rename_axis("reviews")


def reliability(labels, positive, bins: int = 10) -> pd.DataFrame:
    """Stated confidence beside the share of right answers, in `bins` equal steps of confidence.

    Confidence is the probability of the label that is answered, from 0.5 to 1. Columns
    `confidence`, `accuracy` and `n`; empty bins are left out.
    """
    labels, positive = np.asarray(labels), np.asarray(positive)
    confidence = np.maximum(positive, 1 - positive)
    right = (positive >= 0.5) == labels
    step = np.minimum(((confidence - 0.5) * 2 * bins).astype(int), bins - 1)
    table = pd.DataFrame({"confidence": confidence, "accuracy": right, "n": 1, "step": step})
    return table.groupby("step").agg({"confidence": "mean", "accuracy": "mean", "n": "sum"})


def expected_calibration_error(labels, positive, bins: int = 10) -> float:
    """How far stated confidence is from the share of right answers, on average over reviews.

    Naeini et al., 2015 (AAAI), as used by Guo et al., 2017 (arXiv:1706.04599).
    """
    table = reliability(labels, positive, bins)
    gap = (table["confidence"] - table["accuracy"]).abs()
    return float((gap * table["n"]).sum() / table["n"].sum())


def fit_temperature(labels, logits) -> float:
    """The temperature that makes `logits`, of shape (n, 2), most probable for `labels`.

    Guo et al., 2017 (arXiv:1706.04599): dividing the logits by it changes no prediction.
    """
    labels, logits = np.asarray(labels), np.asarray(logits, float)
    check_scores(labels, logits)

    def loss(log_temperature):
        scaled = log_softmax(logits / np.exp(log_temperature), axis=1)
        return -scaled[np.arange(len(labels)), labels].mean()

    return float(np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x))


def fold_temperature(model, temperature: float) -> None:
    """Divide the classifier's last layer by `temperature`, in place: the logits come out scaled."""
    import torch

    with torch.no_grad():
        model.classifier.weight /= temperature
        model.classifier.bias /= temperature


def risk_coverage(labels, positive) -> tuple[np.ndarray, np.ndarray]:
    """Coverage and error when only the most confident share of the reviews is answered.

    Returns two arrays of shape (n,): the share answered, and the share of errors among those.
    """
    labels, positive = np.asarray(labels), np.asarray(positive)
    order = np.argsort(-np.maximum(positive, 1 - positive), kind="stable")
    wrong = ((positive >= 0.5) != labels)[order]
    answered = np.arange(1, len(labels) + 1)
    return answered / len(labels), wrong.cumsum() / answered
