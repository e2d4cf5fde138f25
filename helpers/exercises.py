"""The exercises' self-checks, and the command that copies the exercises into the notebooks.

A check takes the learner's answer first and then what the notebook made. It prints "Right" and what
the answer shows, or "Not yet" and a hint: a wrong answer is no reason for a traceback.
"""

import functools
import json
import math
import re

import numpy as np

from helpers import ROOT, TutorialError


class Hint(Exception):
    """What stands between an answer and the right one."""


def exercise(check):
    """Make a function that raises `Hint` or returns a finding print it, whatever it was given."""

    @functools.wraps(check)
    def run(answer, *made) -> None:
        try:
            print("Right.", check(answer, *made))
        except Exception as error:  # any answer may come, of any type
            hint = error
            if answer is ...:
                hint = "put your own code in place of the dots, and run both cells again."
            elif not isinstance(error, Hint | TutorialError):
                reason = " ".join(f"{type(error).__name__}: {error}".split())[:120]
                wanted = check.__doc__.splitlines()[0]
                hint = f"the check can't use this ({reason}). Wanted: {wanted}"
            print("Not yet:", hint)

    return run


def _mask(answer, length: int) -> np.ndarray:
    found = np.asarray(answer)
    if found.shape != (length,):
        raise Hint(f"there should be {length:,} values, one for each review, not {found.shape}.")
    if found.dtype != bool:
        raise Hint("the values should be True or False: compare, or use `str.contains`.")
    return found


def _share(answer, wanted: float) -> bool:
    """Whether a share is the one wanted; nearly right ones get hints of their own."""
    if isinstance(answer, str):
        raise Hint("give a number, not text.")
    if answer > 1:
        raise Hint("a share lies between 0 and 1: no percentage, and no number of tokens.")
    if math.isclose(answer, wanted, abs_tol=1e-6):
        return True
    _refuse_rounded(answer, wanted)
    return False


def _refuse_rounded(answer, wanted) -> None:
    if np.allclose(answer, wanted, rtol=0, atol=0.006) and np.all(answer == np.round(answer, 4)):
        raise Hint("right as far as it goes: leave it unrounded, so that the check can be sure.")


def _verdict(low: float, high: float) -> str:
    return "excludes zero" if low > 0 or high < 0 else "holds zero: these reviews can't tell"


def _around(text: str, pattern: str) -> str:
    found = re.search(pattern, text, flags=re.I)
    place = found.start() if found else 0
    return " ".join(text[max(0, place - 25) : place + 25].split())


# 01_data


@exercise
def negations(answer, frame):
    """One True or False for each row of `frame`."""
    pattern = r"\bnot\b|n['’]t\b"
    found, wanted = _mask(answer, len(frame)), frame["text"].str.contains(pattern, case=False)
    if np.array_equal(found, ~wanted):
        raise Hint("it is turned round: True should stand for the reviews that hold them.")
    missed, extra = frame["text"][wanted & ~found], frame["text"][~wanted & found]
    if len(missed):
        raise Hint(
            f"missing: {len(missed)}, one with “{_around(missed.iloc[0], pattern)}”. Look at "
            "capitals, at n't, at commas or markup after the word, and at the r that a string "
            "with \\b needs before it."
        )
    if len(extra):
        raise Hint(
            f"too many: {len(extra)}, one with “{_around(extra.iloc[0], 'not|never|n.t|no')}”. "
            "Only *not* and *n't* count, and no longer word such as “nothing”: in a regular "
            "expression, \\b is the edge of one."
        )
    within, others = frame["label"][wanted].mean(), frame["label"][~wanted].mean()
    return f"Positive among them: {within:.0%}; among the rest: {others:.0%}."


@exercise
def word_pairs(answer, tfidf, train, validation):
    """A fitted scikit-learn pipeline like `tfidf`, with ngram_range=(1, 2)."""
    from sklearn.base import clone
    from sklearn.exceptions import NotFittedError

    from helpers import evaluation

    if answer is tfidf:
        raise Hint("this is the old pipeline. Make a new one, so that both can be compared.")
    if len(tfidf[0].vocabulary_) != tfidf[1].n_features_in_ or tfidf[0].ngram_range == (1, 2):
        raise Hint(
            "`tfidf` itself was changed: run the cell that makes it again, and give the new "
            "pipeline steps of its own, `LogisticRegression()` among them."
        )
    kinds = [type(step).__name__ for _, step in answer.steps]
    if kinds != [type(step).__name__ for _, step in tfidf.steps]:
        raise Hint(f"its steps are {', '.join(kinds)}: take those of `tfidf`, to change one thing.")
    if tuple(answer[0].ngram_range) != (1, 2):
        raise Hint(
            f"its ngram_range is {answer[0].ngram_range}: pairs as well as words are (1, 2)."
        )
    try:
        second = answer.predict(validation["text"][:])
    except NotFittedError:
        raise Hint("it has not learned anything: call its `fit` with train's texts.") from None
    words = len(answer[0].vocabulary_)
    if words != len(clone(answer[0]).fit(train["text"][:]).vocabulary_):
        raise Hint("its vocabulary is not that of train: fit it on train, and on nothing else.")
    if np.mean(answer.predict(train["text"][:]) == np.array(train["label"][:])) < 0.8:
        raise Hint('it gets its own training reviews wrong: fit it with `train["label"][:]`.')
    first = tfidf.predict(validation["text"][:])
    paired = evaluation.compare(np.array(validation["label"][:]), second, first, 0)
    low, high = (100 * end for end in paired.interval)
    return (
        f"{words:,} words and pairs instead of {len(tfidf[0].vocabulary_):,}, and "
        f"{100 * paired.difference:+.1f} points on validation ({low:+.1f} to {high:+.1f}), which "
        f"{_verdict(low, high)}."
    )


@exercise
def three_classes(answer, frame):
    """For each row of `frame` one of "negative", "neutral" and "positive"."""
    if "stars" not in frame:
        return "These reviews came without stars, so there is nothing to sort. Go on."
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score
    from sklearn.pipeline import make_pipeline

    found = np.asarray(answer, dtype=str)
    wanted = np.select(
        [frame["stars"] <= 3, frame["stars"] >= 8], ["negative", "positive"], "neutral"
    )
    if found.shape != wanted.shape:
        raise Hint(f"there should be {len(wanted):,} values, one for each row, not {found.shape}.")
    wrong = np.flatnonzero(found != wanted)
    if len(wrong):
        stars = frame["stars"].iloc[wrong[0]]
        raise Hint(f"{stars} stars became “{found[wrong[0]]}”, not “{wanted[wrong[0]]}”.")
    model = make_pipeline(TfidfVectorizer(), LogisticRegression())
    score = cross_val_score(model, frame["text"], wanted, cv=3).mean()
    most = max(np.mean(wanted == name) for name in set(wanted))
    return (
        f"{np.mean(wanted == 'neutral'):.0%} are neutral. TF-IDF scores {score:.2f} on three "
        f"classes in cross-validation, where always giving the most frequent scores {most:.2f}."
    )


# 02_tokenization


@exercise
def many_pieces(answer, tokenizer):
    """One English word, as a string."""
    if not isinstance(answer, str) or not (answer.isalpha() and answer.isascii()):
        raise Hint("give one word in quotes, English letters only.")
    pieces = tokenizer.tokenize(answer)
    if len(pieces) < 5:
        raise Hint(
            f"it becomes {len(pieces)}: {' '.join(pieces)}. Try a longer word, or a rarer one."
        )
    return " ".join(pieces)


@exercise
def head_and_tail(answer, tokenizer, full):
    """A function of a list of ids and a limit that returns a list of ids."""
    start, end = tokenizer.cls_token_id, tokenizer.sep_token_id
    for limit in (16, 65):
        for ids in sorted(full, key=len)[:: max(1, len(full) // 50)]:
            kept = answer(list(ids), limit)
            if kept is None:
                raise Hint(f"it returns nothing for {len(ids)} tokens: is a `return` missing?")
            kept = list(kept)
            if len(ids) <= limit:
                if kept != ids:
                    raise Hint(f"a review of {len(ids)} tokens fits into {limit}: leave it alone.")
                continue
            if len(kept) != limit:
                raise Hint(f"of {len(ids)} tokens {len(kept)} are left, and {limit} would fit.")
            if kept[0] != start or kept[-1] != end:
                raise Hint("[CLS] must stay first and [SEP] last.")
            head = next(
                (n for n, (a, b) in enumerate(zip(kept, ids, strict=False)) if a != b), limit
            )
            tail = next(
                (n for n, (a, b) in enumerate(zip(kept[::-1], ids[::-1], strict=False)) if a != b),
                limit,
            )
            if head + tail < limit or min(head, tail) < limit // 2:
                raise Hint(
                    f"with a limit of {limit}, the first {limit // 2} tokens and the last "
                    f"{limit // 2} should be there; yours begins as the review does for {head} "
                    f"tokens and ends as it does for {tail}."
                )
    longest = max(full, key=len)
    text = tokenizer.decode(list(answer(list(longest), 32))[1:-1])
    return f"The longest review in 32 tokens: “{text}”."


@exercise
def padding_shares(answer, lengths, order):
    """A dictionary from batch size to the share of padding, for the sizes 4 and 64."""
    from helpers.tokenization import tokens_processed

    for size in (4, 64):
        if size not in answer:
            raise Hint(f"there is no entry for batches of {size}.")
        tokens = tokens_processed(lengths, order, size)
        share = 1 - np.sum(lengths) / tokens
        if not _share(answer[size], share):
            near = math.isclose(answer[size], np.sum(lengths) / tokens, abs_tol=1e-6)
            raise Hint(
                f"for {size}: that is the share of real tokens; padding is the rest."
                if near
                else f"for {size}: divide the sum of `kept` by the tokens that `tokens_processed` "
                "counts for `kept` in the order `at_random`, and take that from 1."
            )
    return f"Padding is {answer[4]:.0%} of the tokens in batches of 4, {answer[64]:.0%} of 64."


# 03_training


@exercise
def fooled(answer, model, tokenizer):
    """A review of at least five words, and its right label in words: two strings."""
    import torch

    review, label = answer
    if review is ... or label is ...:
        raise Hint("put a review and its label in place of the dots.")
    if label not in model.config.label2id:
        raise Hint(f"the label is “{label}”: write “negative” or “positive”.")
    if len(review.split()) < 5:
        raise Hint("the review should have at least five words: be fair to the model.")
    batch = tokenizer(review, truncation=True, return_tensors="pt").to(model.device)
    with torch.inference_mode():
        shares = model.eval()(**batch).logits[0].float().softmax(-1)
    said = model.config.id2label[int(shares.argmax())]
    if said == label:
        raise Hint(
            f"the model says {said} too, with {shares.max():.2f}. Try irony, a negation far from "
            "its word, or praise for everything but the film."
        )
    return f"You say {label}, the model says {said} with {shares.max():.2f}."


@exercise
def optimizer_steps(answer, n_reviews):
    """The number of optimiser steps, an integer."""
    batches = math.ceil(n_reviews / 16)
    wanted = 3 * math.ceil(batches / 2)
    if answer == 3 * batches:
        raise Hint("that is the number of batches: two of them are accumulated for one step.")
    if answer == math.ceil(batches / 2):
        raise Hint("that is one epoch, and there are three.")
    if not isinstance(answer, int | float | np.number):
        raise Hint("give a number.")
    if 0 < wanted - answer < 4:
        raise Hint("close: round up in each epoch, whose last step may be smaller, not at the end.")
    if answer != wanted:
        raise Hint(
            f"{n_reviews:,} reviews are {batches} batches of 16, the last one smaller; every two "
            "of them make a step, in each of three epochs."
        )
    return f"{wanted} steps, each on the gradients of up to 32 reviews, in the memory of 16."


@exercise
def mean_loss(answer, logits, labels):
    """The mean cross-entropy on validation, a number."""
    from scipy.special import log_softmax

    each = -log_softmax(logits, axis=-1)[np.arange(len(labels)), labels]
    if np.ndim(answer):
        raise Hint("that is one loss for each review: take their mean.")
    if math.isclose(answer, -each.mean(), abs_tol=1e-3):
        raise Hint("the sign: a probability below 1 has a negative logarithm.")
    if math.isclose(answer, each.mean() / math.log(2), abs_tol=1e-3):
        raise Hint("take the natural logarithm, `np.log`.")
    if math.isclose(answer, each.sum(), rel_tol=1e-3):
        raise Hint("that is the sum over all reviews: take their mean.")
    if not math.isclose(answer, each.mean(), abs_tol=1e-3):
        _refuse_rounded(answer, each.mean())
        raise Hint(
            "make each row of logits into probabilities (`scipy.special.softmax`, axis=-1), pick "
            "the right label's, and take the mean of minus its logarithm."
        )
    worst = np.sort(each)[-max(1, len(each) // 10) :]
    return (
        f"{each.mean():.2f}; the worst tenth of the reviews makes {worst.sum() / each.sum():.0%}."
    )


# 04_evaluation


@exercise
def own_slice(answer, labels, tuned):
    """One True or False for each test review."""
    from helpers import ledger

    found = _mask(answer, len(labels))
    right = tuned == labels
    if np.array_equal(found, right) or np.array_equal(found, ~right):
        raise Hint("that goes by the model's answers: choose by the reviews, whatever it said.")
    if found.sum() < 30 or found.all():
        raise Hint(
            f"it holds {found.sum()} reviews: fewer than 30 tell nothing, and all are no slice. "
            "Try another word, a length, or a shorter pattern."
        )
    inside = ledger.score(labels[found], tuned[found])
    low, high = inside["interval"]
    outside = right[~found].mean()
    holds = "holds" if low <= outside <= high else "does not hold"
    return (
        f"{inside['accuracy']:.2f} ({low:.2f} to {high:.2f}) on {inside['n']} reviews; the "
        f"interval {holds} the {outside:.2f} of the others."
    )


@exercise
def functionality_test(answer, probability):
    """A list of at least six pairs of a sentence and a label, 0 or 1."""
    sentences, labels = zip(*answer, strict=True)
    if ... in sentences or ... in labels:
        raise Hint("put sentences and their labels in place of the dots.")
    if not all(isinstance(sentence, str) for sentence in sentences):
        raise Hint("the sentence comes first in each pair, then its label.")
    strange = [label for label in labels if label not in (0, 1)]
    if strange:
        raise Hint(f"the labels are the numbers 0 and 1, not {strange[0]!r}.")
    if len(set(sentences)) < 6:
        raise Hint(f"{len(set(sentences))} different sentences: write at least six.")
    if set(labels) != {0, 1}:
        raise Hint("label some sentences 0 (negative) and some 1 (positive).")
    given = np.asarray(probability(list(sentences)))
    failed = (given >= 0.5) != np.array(labels)
    worst = sentences[int(np.argmax(np.abs(given - np.array(labels))))]
    return f"{failed.sum()} of {len(failed)} fail. Furthest off: “{worst}”."


@exercise
def paired_difference(answer, labels, predictions):
    """What `evaluation.compare` returns for frozen features against TF-IDF."""
    from helpers import evaluation

    frozen, tfidf = predictions["frozen features"], predictions["TF-IDF + logistic regression"]
    wanted = evaluation.compare(labels, frozen, tfidf, 0)
    if not hasattr(answer, "difference"):
        raise Hint("call `evaluation.compare` with the labels, both predictions and a seed.")
    if math.isclose(answer.difference, -wanted.difference) and wanted.difference:
        raise Hint("the sign: frozen features come first, TF-IDF second.")
    if not math.isclose(answer.difference, wanted.difference, abs_tol=1e-9):
        raise Hint("other systems were compared: take “frozen features” and the TF-IDF baseline.")
    low, high = (100 * end for end in answer.interval)
    return (
        f"{100 * answer.difference:+.0f} points ({low:+.0f} to {high:+.0f}), which "
        f"{_verdict(low, high)}."
    )


# 05_hub_deployment


@exercise
def intended_use(answer, api, repository):
    """What `api.upload_file` returns."""
    from huggingface_hub import ModelCard

    if not hasattr(answer, "oid"):
        raise Hint("keep what `api.upload_file` returns: it says which commit was made.")
    card = ModelCard.load(
        api.hf_hub_download(repository, "README.md", revision=answer.oid),
        ignore_metadata_errors=True,
    )
    section = re.search(r"^## Intended use\s*\n(.*?)(?=^## |\Z)", card.text, flags=re.M | re.S)
    if not section:
        raise Hint("the card of that commit has no heading “## Intended use” on a line of its own.")
    if len(section[1].split()) < 8:
        raise Hint(
            "the section says too little: for whom, and for which texts, is the model? Eight "
            "words at least."
        )
    if not card.data.to_dict().get("license"):
        raise Hint("the card lost its metadata: start from `card.content`, not from `card.text`.")
    return f"Commit “{answer.commit_message}” is number {len(api.list_repo_commits(repository))}."


@exercise
def first_versions(answer, api, repository, revision):
    """A dictionary from a library's name to its version."""
    path = api.hf_hub_download(repository, "metrics.json", revision=revision)
    with open(path, encoding="utf-8") as stream:
        content = json.load(stream)
    wanted = next(row["versions"] for row in content["rows"] if row["system"] == "fine-tuned")
    if isinstance(answer, str):
        raise Hint("that is where the file lies: open it and read it with `json.load`.")
    if answer in (content, content["rows"]):
        raise Hint("that is the whole ledger: take one row of it, and its “versions”.")
    if answer != wanted:
        raise Hint("take “versions” of the row whose system is “fine-tuned”.")
    return f"The ledger keeps the versions of {', '.join(wanted)}."


@exercise
def through_the_app(answer, folder):
    """A list of at least three reviews, each a string."""
    import sys

    reviews = [text for text in answer if isinstance(text, str) and text.strip()]
    if ... in answer or len(set(reviews)) < 3:
        empty = " Empty ones do not count." if len(reviews) < len(answer) else ""
        raise Hint(f"put at least three different reviews in place of the dots.{empty}")
    app = str(ROOT / "helpers" / "space")
    if app not in sys.path:
        sys.path.append(app)
    from scoring import Classifier  # the very module that the Space runs

    classifier = Classifier(str(folder))
    lines = [
        f"{classifier.label(score.positive)} ({score.positive:.2f} positive): {text[:60]}"
        for text, score in zip(reviews, classifier.score(reviews), strict=True)
    ]
    return "The app says:\n" + "\n".join(lines)


# 06_faster_inference


@exercise
def sorting_saves(answer, lengths):
    """A share between 0 and 1."""
    from helpers.tokenization import tokens_processed

    before = tokens_processed(lengths, np.arange(len(lengths)), 8)
    after = tokens_processed(lengths, np.argsort(lengths), 8)
    if not _share(answer, 1 - after / before):
        if math.isclose(answer, before / after - 1, abs_tol=1e-6):
            raise Hint("divide by the tokens before sorting: a share of those is saved.")
        if math.isclose(answer, after / before, abs_tol=1e-6):
            raise Hint("that share is still processed; what is saved is the rest.")
        raise Hint("count the tokens of both orders with `tokens_processed`, in batches of 8.")
    return f"{before:,} tokens become {after:,}: {answer:.0%} saved."


@exercise
def moved_by_rounding(answer, full, eight):
    """One number for each review of `texts`."""
    found, wanted = np.asarray(answer, float), np.abs(eight - full)
    if found.shape != wanted.shape:
        raise Hint(
            f"there should be {len(wanted)} numbers, one for each review, not {found.shape}."
        )
    if np.allclose(np.abs(found), wanted, atol=1e-3) and (found < -1e-3).any():
        raise Hint("how far, not in which direction: take the absolute value.")
    if not np.allclose(found, wanted, atol=1e-3):
        _refuse_rounded(found, wanted)
        raise Hint(
            "score all of `texts` in one call with each of the two, and subtract the "
            "probabilities. One by one won't do: in eight bits an answer depends on its batch."
        )
    most = int(np.argmax(wanted))
    return f"At most {wanted[most]:.2f}, for a review that was {full[most]:.2f} positive."


def write_stubs() -> None:
    """Copy the exercises of `notebooks/solutions/` into the notebooks, without their solutions.

    In a solutions notebook the cells tagged `exercise` are the exercises; in their code, all from
    the line `# Solution` on is left out. They replace the cells so tagged in the notebook.

    Raises
    ------
    TutorialError
        If a notebook has no heading "## Exercises" to put them under.
    """
    for path in sorted((ROOT / "notebooks" / "solutions").glob("*.ipynb")):
        target = ROOT / "notebooks" / path.name
        solved, notebook = (json.loads(file.read_text(encoding="utf-8")) for file in (path, target))
        cells = [cell for cell in notebook["cells"] if not _tagged(cell)]
        stored = [cell for cell in notebook["cells"] if _tagged(cell)]
        if [_written(cell) for cell in stored] == [_written(cell) for cell in stubs(solved)]:
            continue  # its outputs are those of these stubs
        place = [
            i for i, cell in enumerate(cells) if "".join(cell["source"]).startswith("## Exercises")
        ]
        if not place:
            raise TutorialError(f"{target.name} has no heading ## Exercises in a cell of its own.")
        cells[place[0] + 1 : place[0] + 1] = stubs(solved)
        notebook["cells"] = cells
        text = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
        target.write_text(text, encoding="utf-8")


def stubs(solved: dict) -> list[dict]:
    """The exercise cells of a solutions notebook, given as parsed JSON, with nothing solved."""
    found = []
    for cell in solved["cells"]:
        if _tagged(cell):
            stub = cell | {"source": _unsolved("".join(cell["source"])).splitlines(keepends=True)}
            if cell["cell_type"] == "code":
                stub |= {"execution_count": None, "outputs": []}
            found.append(stub)
    return found


def _tagged(cell: dict) -> bool:
    return "exercise" in cell["metadata"].get("tags", [])


def _written(cell: dict) -> tuple:
    return cell["cell_type"], cell["id"], cell["metadata"], "".join(cell["source"])


def _unsolved(source: str) -> str:
    return re.split(r"^# Solution\s*$", source, flags=re.M)[0].rstrip()
