"""Counting what truncation cuts and what padding costs (02_tokenization)."""

import numpy as np
import pandas as pd

from helpers import TutorialError


def truncation(lengths, limits) -> pd.DataFrame:
    """How much each limit cuts.

    Parameters
    ----------
    lengths : array of int, shape (n_reviews,)
        Tokens in each review, special tokens included.
    limits : sequence of int
        Maximum numbers of tokens.

    Returns
    -------
    pandas.DataFrame
        For each limit the share of reviews cut and the share of all tokens lost.
    """
    lengths = np.asarray(lengths)
    if not len(lengths):
        raise TutorialError("There are no reviews to measure: run 01_data again.")
    return pd.DataFrame(
        {
            "reviews cut": [float((lengths > limit).mean()) for limit in limits],
            "tokens lost": [
                float(np.clip(lengths - limit, 0, None).sum() / lengths.sum()) for limit in limits
            ],
        },
        index=pd.Index(limits, name="limit in tokens"),
    )


def tokens_processed(lengths, order, batch_size: int) -> int:
    """Tokens in an epoch, padding included, when each batch is padded to its longest review.

    `lengths` has shape (n_reviews,); `order` is the order in which a sampler draws the reviews.
    """
    drawn = np.asarray(lengths)[np.asarray(order)]
    batches = [drawn[start : start + batch_size] for start in range(0, len(drawn), batch_size)]
    return int(sum(batch.max() * len(batch) for batch in batches))
