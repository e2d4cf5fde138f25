"""What the model says of a review, and which words made it say so. Knows nothing of Streamlit."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

BATCH_SIZE = 32  # windows scored together
MOST_WINDOWS = 16  # of one review
MOST_CHARACTERS = 100_000  # of one review; the longest on IMDB have 14,000
# Steps of integrated gradients, in a window of up to 32 tokens and in a longer one. Deleting the
# three words named by 4, 8 or 16 steps moved the model equally on short reviews; on longer ones 8
# beat 4. See `explain`.
STEPS = (4, 8)
TOKENS_AT_ONCE = 1024  # in their backward pass, which keeps every layer's activations in memory
NOT_SURE_BELOW = 0.60  # for a model whose configuration has no `not_sure_below`


@dataclass(frozen=True)
class Score:
    """What the model says of one review.

    `positive` is the probability of the positive label, averaged over the review's `windows` as
    logits are; `read` is the share of its `tokens` that these windows hold, which is below 1 only
    for a review too long to be read whole.
    """

    positive: float
    tokens: int
    windows: int
    read: float


class Classifier:
    """A fine-tuned model with its tokenizer: `score` for many reviews, `explain` for one.

    Parameters
    ----------
    name : str
        A Hub id or a folder.
    revision : str, optional
        A commit, branch or tag on the Hub.

    Raises
    ------
    ValueError
        If the model has other labels than negative and positive.
    """

    def __init__(self, name: str, revision: str | None = None):
        self.tokenizer = AutoTokenizer.from_pretrained(name, revision=revision)
        model = AutoModelForSequenceClassification.from_pretrained(name, revision=revision)
        self.model = model.eval().requires_grad_(False)  # gradients are taken of the input alone
        labels = model.config.label2id
        if set(labels) != {"negative", "positive"}:
            raise ValueError(f"its labels are {', '.join(labels)}, not negative and positive")
        self._positive = labels["positive"]
        self.not_sure_below = getattr(model.config, "not_sure_below", NOT_SURE_BELOW)
        # The notebooks store the length that training cut reviews to as the tokenizer's.
        positions = getattr(model.config, "max_position_embeddings", 512)
        self.window = min(self.tokenizer.model_max_length, positions)

    def label(self, positive: float) -> str:
        """Name what a probability of positive stands for: negative, not sure or positive."""
        if max(positive, 1 - positive) < self.not_sure_below:
            return "not sure"
        return "positive" if positive >= 0.5 else "negative"

    @torch.inference_mode()
    def score(
        self, texts: Sequence[str], progress: Callable[[float], None] = lambda share: None
    ) -> list[Score]:
        """Score reviews in batches of windows of like length.

        `progress` is called after each batch with the share of all tokens read so far.
        """
        encoded = self._encode([text[:MOST_CHARACTERS] for text in texts])["input_ids"]
        spans = [self._windows(len(ids)) for ids in encoded]
        pieces = [
            self._framed(ids[start:stop])
            for ids, review in zip(encoded, spans, strict=True)
            for start, stop in review
        ]
        logits = np.zeros((len(pieces), 2))
        order = np.argsort([len(ids) for ids in pieces])
        total, done = sum(map(len, pieces)), 0
        for rows in np.split(order, range(BATCH_SIZE, len(order), BATCH_SIZE)):
            batch = self.tokenizer.pad(
                {"input_ids": [pieces[i] for i in rows]}, return_tensors="pt"
            )
            logits[rows] = self.model(**batch).logits.float().numpy()
            done += sum(len(pieces[i]) for i in rows)
            progress(done / total)
        by_review = np.split(logits, np.cumsum([len(review) for review in spans])[:-1])
        return [
            self._score(text, ids, review, found.mean(axis=0))
            for text, ids, review, found in zip(texts, encoded, spans, by_review, strict=True)
        ]

    def explain(self, text: str) -> list[tuple[int, int, float]]:
        """Share the answer out among the words, by integrated gradients.

        Sundararajan et al., 2017 (arXiv:1703.01365), from a review of nothing but padding, as in
        04_evaluation. A single gradient times its input is cheaper and was no better than chance:
        deleting the words it names did not move the model.

        Returns
        -------
        list of (start, stop, weight)
            A word's place in `text` and what it adds to the logit of positive less that of
            negative.
        """
        encoded = self._encode([text[:MOST_CHARACTERS]], return_offsets_mapping=True)
        ids, places = encoded["input_ids"][0], encoded["offset_mapping"][0]
        weights = np.zeros(len(ids))
        windows = self._windows(len(ids))
        for start, stop in windows:
            weights[start:stop] += self._attribute(ids[start:stop]) / len(windows)
        words = [[*match.span(), 0.0] for match in re.finditer(r"\S+", text)]
        starts = np.array([word[0] for word in words])
        for (start, stop), weight in zip(places, weights, strict=True):
            if stop > start:
                words[int(np.searchsorted(starts, start, side="right")) - 1][2] += float(weight)
        return [tuple(word) for word in words]

    def _attribute(self, ids: list[int]) -> np.ndarray:
        """Weights of one window's tokens, shape (n,)."""
        framed = torch.tensor([self._framed(ids)])
        empty = torch.tensor([self._framed([self.tokenizer.pad_token_id] * len(ids))])
        embed = self.model.get_input_embeddings()
        start, way = embed(empty), embed(framed) - embed(empty)
        steps = STEPS[len(ids) > 32]
        points = (torch.arange(steps) + 0.5) / steps
        total = torch.zeros_like(way)
        for some in points.split(max(1, TOKENS_AT_ONCE // framed.shape[1])):
            inputs = (start + some[:, None, None] * way).requires_grad_(True)
            mask = torch.ones(inputs.shape[:2], dtype=torch.long)
            logits = self.model(inputs_embeds=inputs, attention_mask=mask).logits
            margin = logits[:, self._positive] - logits[:, 1 - self._positive]
            total += torch.autograd.grad(margin.sum(), inputs)[0].sum(0)
        return (total / steps * way)[0].sum(-1)[1:-1].numpy()

    def _encode(self, texts: list[str], **options) -> dict:
        return self.tokenizer(
            texts, add_special_tokens=False, truncation=False, verbose=False, **options
        )

    def _framed(self, ids: list[int]) -> list[int]:
        return [self.tokenizer.cls_token_id, *ids, self.tokenizer.sep_token_id]

    def _windows(self, n_tokens: int) -> list[tuple[int, int]]:
        """Spans of a review's windows, spread evenly from its first token to its last."""
        size = self.window - 2  # [CLS] and [SEP] take two places
        count = min(max(1, -(-n_tokens // size)), MOST_WINDOWS)
        starts = np.linspace(0, max(0, n_tokens - size), count).astype(int).tolist()
        return [(start, min(start + size, n_tokens)) for start in starts]

    def _score(self, text, ids, windows, logits) -> Score:
        margin = logits[self._positive] - logits[1 - self._positive]
        places = {place for start, stop in windows for place in range(start, stop)}
        read = len(places) / max(1, len(ids)) * min(1, MOST_CHARACTERS / max(1, len(text)))
        return Score(
            positive=float(1 / (1 + np.exp(-margin))),
            tokens=len(ids),
            windows=len(windows),
            read=read if ids else 1.0,
        )
