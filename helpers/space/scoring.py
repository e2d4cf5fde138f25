"""What the model says of a review, and which words made it say so. Knows nothing of Streamlit.

It runs the model's ONNX file: without PyTorch and transformers the app starts in a quarter of the
time and needs a fraction of the memory.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

FILES = ("config.json", "tokenizer_config.json", "tokenizer.json", "onnx/model.onnx")
BATCH_SIZE = 16  # windows scored together
MOST_WINDOWS = 16  # of one review
MOST_CHARACTERS = 100_000  # of one review; the longest on IMDB have 14,000
CLAUSE = r"[.,;:!?…)]+[\"'”’]*$"  # the end of a word that ends one
LONGEST_CLAUSE = 25  # words
MOST_BLOCKS = 10  # runs of clauses, each left out once to explain a review
NOT_SURE_BELOW = 0.60  # for a model whose configuration has no `not_sure_below`


@dataclass(frozen=True)
class Score:
    """What the model says of one review.

    `logit` is that of positive less that of negative, averaged over the review's `windows`; `read`
    is the share of its `tokens` that these windows hold, which is below 1 only for a review too
    long to be read whole.
    """

    logit: float
    tokens: int
    windows: int
    read: float

    @property
    def positive(self) -> float:
        """The probability of the positive label."""
        return float(1 / (1 + np.exp(-self.logit)))


class Classifier:
    """A fine-tuned model with its tokenizer: `score` for many reviews, `explain` for one.

    Parameters
    ----------
    folder : str or Path
        Holds `FILES`, as 05_hub_deployment pushes them.

    Raises
    ------
    ValueError
        If a file is missing, or the model has other labels than negative and positive.
    """

    def __init__(self, folder: str | Path):
        missing = [name for name in FILES if not Path(folder, name).is_file()]
        if missing:
            raise ValueError(f"it has no {' and no '.join(missing)}: notebook 5 makes them")
        config, tokens = (json.loads(Path(folder, name).read_text("utf-8")) for name in FILES[:2])
        labels = config.get("label2id") or {}
        if set(labels) != {"negative", "positive"}:
            raise ValueError(f"its labels are {', '.join(labels)}, not negative and positive")
        self._sign = 1 if labels["positive"] else -1
        self.not_sure_below = config.get("not_sure_below", NOT_SURE_BELOW)
        # The notebooks store the length that training cut reviews to as the tokenizer's.
        positions = config.get("max_position_embeddings", 512)
        self.window = min(tokens.get("model_max_length", positions), positions)
        self.tokenizer = Tokenizer.from_file(str(Path(folder, "tokenizer.json")))
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        ends = (tokens["cls_token"], tokens["sep_token"])
        self._first, self._last = map(self.tokenizer.token_to_id, ends)
        self._session = onnxruntime.InferenceSession(
            Path(folder, "onnx", "model.onnx"), providers=["CPUExecutionProvider"]
        )

    def label(self, positive: float) -> str:
        """Name what a probability of positive stands for: negative, not sure or positive."""
        if max(positive, 1 - positive) < self.not_sure_below:
            return "not sure"
        return "positive" if positive >= 0.5 else "negative"

    def score(
        self, texts: Sequence[str], progress: Callable[[float], None] = lambda share: None
    ) -> list[Score]:
        """Score reviews in batches of windows of like length.

        `progress` is called after each batch with the share of all tokens read so far.
        """
        if not texts:
            return []
        encoded = self.tokenizer.encode_batch_fast(
            [text[:MOST_CHARACTERS] for text in texts], add_special_tokens=False
        )
        spans = [self._windows(len(review)) for review in encoded]
        pieces = [
            [self._first, *review.ids[start:stop], self._last]
            for review, windows in zip(encoded, spans, strict=True)
            for start, stop in windows
        ]
        logits = np.zeros(len(pieces))
        order = np.argsort([len(ids) for ids in pieces])
        total, done = sum(map(len, pieces)), 0
        for rows in np.split(order, range(BATCH_SIZE, len(order), BATCH_SIZE)):
            logits[rows] = self._logits([pieces[row] for row in rows])
            done += sum(len(pieces[row]) for row in rows)
            progress(done / total)
        by_review = np.split(logits, np.cumsum([len(windows) for windows in spans])[:-1])
        return [
            _score(text, len(review), windows, float(found.mean()))
            for text, review, windows, found in zip(texts, encoded, spans, by_review, strict=True)
        ]

    def explain(self, text: str) -> list[tuple[int, int, float]]:
        """Share the answer out among the words, by leaving parts of the review out.

        Each block of clauses weighs what leaving it out moves the answer (occlusion; Li et al.,
        2016, arXiv:1612.08220), and its words share that by their weights inside their clause: the
        mean of what a word adds alone and of what the clause loses without it. That costs about as
        much as 30 predictions and needs no gradients. Deleting the three heaviest words of 83
        validation reviews moved the model as far as with integrated gradients, which 04 uses.

        Returns
        -------
        list of (start, stop, weight)
            A word's place in `text` and its weight: above 0 towards positive, in logits.
        """
        places = [match.span() for match in re.finditer(r"\S+", text)]
        if not places:
            return []
        words = [text[start:stop] for start, stop in places]
        clauses = _clauses(words)
        runs = np.array_split(clauses, min(len(clauses), MOST_BLOCKS))
        blocks = [(run[0, 0], run[-1, 1]) for run in runs]
        asked = [words, [], *(words[first:stop] for first, stop in clauses)]
        asked += [words[:first] + words[stop:] for first, stop in blocks]
        asked += [[word] for word in words]
        for first, stop in clauses:
            asked += [words[first:i] + words[i + 1 : stop] for i in range(first, stop)]
        logits = np.array([score.logit for score in self.score([" ".join(each) for each in asked])])
        whole, empty, *_ = logits
        cuts = np.cumsum([2, len(clauses), len(blocks), len(words)])
        _, clause, rest, alone, without = np.split(logits, cuts)
        clause = np.repeat(clause, [stop - first for first, stop in clauses])
        weights = (alone - empty + clause - without) / 2
        for (first, stop), left in zip(blocks, rest, strict=True):
            total = np.abs(weights[first:stop]).sum()
            weights[first:stop] *= abs(whole - left) / max(total, 1e-9)
        return [(*place, float(weight)) for place, weight in zip(places, weights, strict=True)]

    def _logits(self, pieces: list[list[int]]) -> np.ndarray:
        """Logits of positive less those of negative, shape (n,), of one batch of windows."""
        longest = max(map(len, pieces))
        ids = np.zeros((len(pieces), longest), dtype=np.int64)  # what stands in padding is masked
        mask = np.zeros_like(ids)
        for row, piece in enumerate(pieces):
            ids[row, : len(piece)] = piece
            mask[row, : len(piece)] = 1
        logits = self._session.run(None, {"input_ids": ids, "attention_mask": mask})[0]
        return self._sign * (logits[:, 1] - logits[:, 0])

    def _windows(self, n_tokens: int) -> list[tuple[int, int]]:
        """Spans of a review's windows, spread evenly from its first token to its last."""
        size = self.window - 2  # [CLS] and [SEP] take two places
        count = min(max(1, -(-n_tokens // size)), MOST_WINDOWS)
        starts = np.linspace(0, max(0, n_tokens - size), count).astype(int).tolist()
        return [(start, min(start + size, n_tokens)) for start in starts]


def _clauses(words: list[str]) -> list[tuple[int, int]]:
    """Runs of words, first and stop, that end with a clause or at `LONGEST_CLAUSE` words."""
    found, first = [], 0
    for stop, word in enumerate(words, start=1):
        if re.search(CLAUSE, word) or stop - first == LONGEST_CLAUSE or stop == len(words):
            found.append((first, stop))
            first = stop
    return found


def _score(text: str, n_tokens: int, windows: list[tuple[int, int]], logit: float) -> Score:
    places = {place for start, stop in windows for place in range(start, stop)}
    read = len(places) / max(1, n_tokens) * min(1, MOST_CHARACTERS / max(1, len(text)))
    return Score(logit, n_tokens, len(windows), read if n_tokens else 1.0)
