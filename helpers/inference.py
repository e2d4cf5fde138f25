"""Scores files of reviews, as large as they come: `python -m helpers score`."""

import contextlib
import csv
import datetime
import functools
import hashlib
import json
import logging
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from huggingface_hub import hf_hub_download
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils.logging import disable_progress_bar

from helpers import TutorialError, artifacts, profiles, review_files, shown

MODELS = ("release", "calibrated", "model")  # the artifacts that hold one
PIECE = 512  # rows of the file read, scored and stored together; an interruption loses one piece
BATCH_TOKENS = {"cpu": 2_048, "cuda": 16_384}  # in a batch, padding included
INPUTS = ("input_ids", "attention_mask")
INT8 = "model_int8.onnx"
SECONDS_BETWEEN = 10  # lines of progress


class Scorer:
    """A fine-tuned model that says how likely reviews are positive, many at a time.

    A review is read up to the tokenizer's `model_max_length`; the rest of it is not.

    Parameters
    ----------
    name : str
        A folder or a Hub id.
    revision : str, optional
        A commit, branch or tag on the Hub.
    device : str, optional
        By default `cuda` where there is one, else `cpu`.
    batch_size : int, optional
        Reviews in a batch. By default as many as make up `BATCH_TOKENS`.
    int8 : bool
        Score on the CPU with `onnx/model_int8.onnx`, which 06_faster_inference makes.

    Raises
    ------
    TutorialError
        If the model can't be loaded or has other labels than negative and positive.
    """

    def __init__(
        self,
        name: str,
        revision: str | None = None,
        device: str | None = None,
        batch_size: int | None = None,
        int8: bool = False,
    ):
        if batch_size is not None and batch_size < 1:
            raise TutorialError(f"The batch size is {batch_size}: give 1 or more.")
        is_local = Path(name).is_dir()
        if is_local and revision:
            raise TutorialError(f"{name} is a folder and has no revisions: leave --revision out.")
        cached_only = is_local or not profiles.hub_reachable()
        options = {"local_files_only": cached_only}
        commit = None
        try:
            if not is_local:  # resolved once, so that weights and tokenizer are of one commit
                config = hf_hub_download(name, "config.json", revision=revision, **options)
                commit = Path(config).parent.name
            self.tokenizer = AutoTokenizer.from_pretrained(name, revision=commit, **options)
            config = AutoConfig.from_pretrained(name, revision=commit, **options)
            if int8:
                weights = _int8_file(name, commit, options)
            else:
                model = AutoModelForSequenceClassification.from_pretrained(
                    name, revision=commit, **options
                )
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise TutorialError(
                f"The model {name} can't be loaded: {reason} "
                "Name a folder with a fine-tuned model, or a model on the Hub."
            ) from None
        labels = {label.lower(): index for label, index in config.label2id.items()}
        if set(labels) != {"negative", "positive"}:
            raise TutorialError(
                f"The model {name} has the labels {', '.join(config.label2id)}, not negative "
                "and positive: name one that was fine-tuned for sentiment."
            )
        best = "cuda" if torch.cuda.is_available() and not int8 else "cpu"
        self.device = torch.device(device or best)
        self.model = _Int8(weights) if int8 else model.eval().to(self.device)
        self.batch_size = batch_size
        positions = getattr(config, "max_position_embeddings", 512)
        self.max_length = min(self.tokenizer.model_max_length, positions)
        self.not_sure_below = getattr(config, "not_sure_below", 0.0)
        self.identity = _identity(name, commit)
        self._positive = labels["positive"]

    @torch.inference_mode()
    def probabilities(
        self, texts: Sequence[str], progress: Callable[[float], None] = lambda share: None
    ) -> np.ndarray:
        """Probabilities of positive, shape (n,), in the order of `texts`.

        A batch is padded to its longest review, so each takes reviews of like length. `progress`
        is called after each batch with the share of all tokens read so far.
        """
        found = np.empty(len(texts))
        if not len(texts):
            return found
        encoded = self.tokenizer(list(texts), truncation=True, max_length=self.max_length)
        lengths = np.array([len(ids) for ids in encoded["input_ids"]])
        done = 0
        for rows in self._batches(lengths):
            batch = self.tokenizer.pad(
                {"input_ids": [encoded["input_ids"][row] for row in rows]}, return_tensors="pt"
            )
            # float16 keeps three more bits than bfloat16, and a T4 has no bfloat16.
            with torch.autocast(
                self.device.type, torch.float16, enabled=self.device.type == "cuda"
            ):
                logits = self.model(**batch.to(self.device)).logits
            found[rows] = logits.double().softmax(-1)[:, self._positive].cpu().numpy()
            done += lengths[rows].sum()
            progress(done / lengths.sum())
        return found

    def label(self, probability: float) -> str:
        """The label for a probability of positive: negative, not sure or positive."""
        if max(probability, 1 - probability) < self.not_sure_below:
            return "not sure"
        return "positive" if probability >= 0.5 else "negative"

    def _batches(self, lengths: np.ndarray) -> Iterator[np.ndarray]:
        """Rows of each batch, the longest reviews first: if memory runs out, it does at once."""
        order = np.argsort(-lengths, kind="stable")
        while len(order):
            fitting = BATCH_TOKENS[self.device.type] // lengths[order[0]]
            size = self.batch_size or max(1, fitting)
            yield order[:size]
            order = order[size:]


class _Int8:
    """A session of ONNX Runtime that is called as a model of transformers is."""

    def __init__(self, weights: str):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        self.session = onnxruntime.InferenceSession(
            weights, options, providers=["CPUExecutionProvider"]
        )

    def __call__(self, **batch):
        inputs = {name: tensor.numpy() for name, tensor in batch.items()}
        return SimpleNamespace(logits=torch.from_numpy(self.session.run(None, inputs)[0]))


def _int8_file(name: str, commit: str | None, options: dict) -> str:
    try:
        if commit:
            return hf_hub_download(name, f"onnx/{INT8}", revision=commit, **options)
        return str((Path(name) / "onnx" / INT8).resolve(strict=True))
    except OSError:
        raise TutorialError(
            f"The model {name} has no onnx/{INT8}: run 06_faster_inference, which makes it, or "
            "score without --int8."
        ) from None


def export_onnx(model, tokenizer, path: Path) -> None:
    """Write a classifier as an ONNX file that takes batches of any size and length."""

    class Logits(torch.nn.Module):  # tensors in, tensors out
        def forward(self, input_ids, attention_mask):
            return model(input_ids=input_ids, attention_mask=attention_mask).logits

    wrapped = Logits().eval()
    wrapped.model = model.eval()
    # Of unlike lengths: an example without padding would export a model that ignores the mask.
    example = tokenizer(["Two", "short reviews"], padding=True, return_tensors="pt")
    logging.disable(logging.WARNING)  # the exporter reports packages that it could have used
    with warnings.catch_warnings(action="ignore"):
        torch.onnx.export(
            wrapped,
            tuple(example[name].to(model.device) for name in INPUTS),
            path,
            input_names=INPUTS,
            output_names=["logits"],
            dynamic_shapes={name: {0: "reviews", 1: "tokens"} for name in INPUTS},
            external_data=False,
            verbose=False,
        )
    logging.disable(logging.NOTSET)
    _forget_origins(path)


def _forget_origins(path: Path) -> None:
    """Remove what the exporter notes of where each step came from: this machine's paths."""
    import onnx

    exported = onnx.load(path)
    graph = exported.graph
    for part in (exported, graph, *graph.node, *graph.input, *graph.output, *graph.value_info):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    onnx.save(exported, path)


def newest_model(int8: bool = False) -> Path:
    """The folder of the newest model that the series made with the current profile.

    Raises
    ------
    TutorialError
        If there is none, or it is damaged.
    """
    names = [name for name in (("faster",) if int8 else MODELS) if artifacts.is_current(name)]
    if names:
        return artifacts.read(max(names, key=lambda name: artifacts.path(name).stat().st_mtime_ns))
    raise TutorialError(
        f"There is no model of these settings and data in {shown(artifacts.folder())}: run "
        "make run, which trains one, or name another with --model."
    )


def score_file(
    source: Path,
    target: Path,
    model: str | None = None,
    revision: str | None = None,
    batch_size: int | None = None,
    int8: bool = False,
) -> str:
    """Score the reviews in `source` and write its rows, with two more columns, to `target`.

    Finished pieces wait in a hidden folder beside `target`, and an interrupted call that is made
    again goes on from them. Rows without a review are listed in `<stem>.rejected.csv`.

    Returns
    -------
    str
        What was done, in a sentence or two.

    Raises
    ------
    TutorialError
        If the source, the model or the target can't be used; `target` is as it was then.
    """
    aside = target.with_name(f"{target.stem}.rejected.csv")
    _check_target(source, target, aside)
    reviews = review_files.inspect(source, PIECE)
    disable_progress_bar()  # transformers' own, of loading weights
    name = model or str(newest_model(int8))
    scorer = Scorer(name, revision, batch_size=batch_size, int8=int8)
    made_from = {
        "the input": artifacts.sha256(source),
        "the model": scorer.identity,
        "the settings": [PIECE, scorer.max_length, scorer.device.type, int8, pa.__version__],
    }
    try:
        work = _work_folder(target, made_from)
        _score_in_pieces(reviews, scorer, work, target, aside)
    except OSError as error:
        raise TutorialError(
            f"{target} can't be written: {error}. Make room there, or choose another place. "
            "Finished pieces are kept, and the same command goes on from them."
        ) from None
    done = f"Scored {reviews.rows:,} reviews with {name}: {target}."
    if reviews.rejected:
        done += f" Set aside {reviews.rejected:,} rows, for the reasons in {aside}."
    return done


def _check_target(source: Path, target: Path, aside: Path) -> None:
    review_files.check_suffix(target)
    if source.resolve() in (target.resolve(), aside.resolve()):
        raise TutorialError(f"{source} would be overwritten: choose another name for the output.")
    if not target.parent.is_dir():
        raise TutorialError(f"There is no folder {target.parent}: make it, or correct the path.")
    if target.is_dir():
        raise TutorialError(f"{target} is a folder: name a file to write.")


def _work_folder(target: Path, made_from: dict) -> Path:
    """The folder of the finished pieces, empty unless they were made from the same things."""
    folder = target.with_name(f".{target.name}.parts")
    manifest = folder / "manifest.json"
    before = None
    with contextlib.suppress(OSError, ValueError):
        before = json.loads(manifest.read_text(encoding="utf-8"))
    if before == made_from:
        return folder
    if before:
        changed = [name for name, value in made_from.items() if before.get(name) != value]
        print(
            f"Since the interrupted run {' and '.join(changed)} changed: starting over.",
            file=sys.stderr,
        )
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    with review_files.replacing(manifest, folder) as partial:
        partial.write_text(json.dumps(made_from), encoding="utf-8")
    return folder


def _score_in_pieces(
    reviews: review_files.Reviews, scorer: Scorer, work: Path, target: Path, aside: Path
) -> None:
    kept = sum(pq.read_metadata(part).num_rows for part in work.glob("*.parquet"))
    progress = _Progress(reviews.rows, kept)
    parts, done = [], kept
    with (
        review_files.replacing(aside, work) as listed,
        open(listed, "w", encoding="utf-8", newline="") as stream,
    ):
        rejected = csv.writer(stream)
        rejected.writerow(["row", "reason"])
        for number, (table, problems) in enumerate(reviews.pieces(PIECE)):
            rejected.writerows(problems)
            parts.append(work / f"{number:06}.parquet")
            if not parts[-1].exists():
                report = functools.partial(progress, done, len(table))
                scored = _with_scores(table, reviews.column, scorer, report)
                with review_files.replacing(parts[-1], work) as partial:
                    review_files.write(partial, [scored], ".parquet")
                done += len(table)
    if not reviews.rejected:
        aside.unlink()
    tables = (pq.ParquetFile(part).read() for part in parts)
    with review_files.replacing(target, work) as partial:
        review_files.write(partial, tables, target.suffix.lower())
    shutil.rmtree(work)


def _with_scores(table: pa.Table, column: str, scorer: Scorer, report) -> pa.Table:
    probabilities = scorer.probabilities(table[column].to_pylist(), report)
    labels = [scorer.label(probability) for probability in probabilities]
    for name, values in (
        ("predicted_label", pa.array(labels, pa.string())),
        ("probability_positive", pa.array(probabilities)),
    ):
        while name in table.column_names:
            name += "_new"
        table = table.append_column(name, values)
    return table


class _Progress:
    """Prints how many reviews are scored and how long the rest takes, now and then."""

    def __init__(self, total: int, kept: int):
        self.total, self.kept = total, kept
        self.started = self.said = time.monotonic()
        before = f", {kept:,} of them before" if kept else ""
        print(f"{total:,} reviews to score{before}.", file=sys.stderr, flush=True)

    def __call__(self, done: int, more: int, share: float) -> None:
        done += more * share
        now = time.monotonic()
        if now - self.said < SECONDS_BETWEEN and done < self.total:
            return
        self.said = now
        rate = (done - self.kept) / (now - self.started)
        left = datetime.timedelta(seconds=round((self.total - done) / rate))
        print(
            f"    {done:,.0f} of {self.total:,} reviews, {rate:,.0f} a second, {left} left",
            file=sys.stderr,
            flush=True,
        )


def _identity(name: str, commit: str | None) -> str:
    """A Hub id with its commit, or the digest of the files of a model's folder."""
    if commit:
        return f"{name}@{commit}"
    digest = hashlib.sha256()
    for file in sorted(Path(name).rglob("*")):
        if file.is_file() and file.suffix != ".md":
            digest.update(f"{file.name} {artifacts.sha256(file)}\n".encode())
    return digest.hexdigest()
