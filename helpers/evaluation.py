"""Statistics of 04_evaluation: metrics without a network, and differences with their intervals."""

from dataclasses import dataclass

import datasets
import evaluate
import numpy as np
from scipy.stats import binomtest, bootstrap
from sklearn import metrics

from helpers import TutorialError, profiles
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
    if len(labels) < 30:
        raise TutorialError(
            f"{len(labels)} reviews are too few for an interval to mean anything: use 30 or more."
        )
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
