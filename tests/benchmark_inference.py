"""The ways to ask a model, for `benchmark.py`: `pipeline`, ours, and ONNX as 06 exports it."""

import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
import torch
from benchmark_job import Job, classifier, tiny_model
from benchmark_machine import (
    DTYPES,
    computes_bf16,
    forward_flops,
    interleave,
    paired_accuracy,
    peak_memory,
    say,
    summary,
    timed,
)
from onnxruntime.quantization import QuantType, quantize_dynamic
from transformers import pipeline

from helpers import ROOT, artifacts, inference

LOOP, BATCHED = "pipeline, a loop", "pipeline, batches of 32"
HANDFUL = 8  # reviews for what is too slow to be counted


@dataclass
class Way:
    """One way to ask: `score` gives the probabilities of positive for a list of reviews."""

    score: Callable[[list[str]], np.ndarray]
    precision: str | None = None  # the limit to compare with; None where it does not apply
    counted: bool = True


class Processed:
    """Counts the batches and the tokens, padding included, that a model is given."""

    def __init__(self):
        self.batches = self.tokens = 0

    def add(self, ids) -> None:
        self.batches += 1
        self.tokens += ids.numel()


def pipelines(job: Job, processed: Processed) -> dict[str, Way]:
    classify = pipeline("text-classification", str(job.folder), device=job.args.device, top_k=None)
    classify.tokenizer.model_max_length = job.args.max_length
    classify.model.register_forward_pre_hook(
        lambda module, args, inputs: processed.add(inputs["input_ids"]), with_kwargs=True
    )

    def positive(found):
        return np.array(
            [{one["label"]: one["score"] for one in each}["positive"] for each in found]
        )

    return {
        LOOP: Way(
            lambda texts: positive([classify([text], truncation=True)[0] for text in texts]), "fp32"
        ),
        BATCHED: Way(
            lambda texts: positive(classify(texts, truncation=True, batch_size=32)), "fp32"
        ),
    }


def scorer(job: Job, device: str, run: Callable, processed: Processed) -> Callable:
    """Our batches, with `run` in the place of the model: ids and mask to logits."""

    def model(input_ids, attention_mask):
        processed.add(input_ids)
        return SimpleNamespace(logits=run(input_ids, attention_mask))

    sizes = {"batch-1": 1, "sorting-off": 32}
    size = sizes.get(job.args.plant)
    ours = inference.Scorer(str(job.folder), device=device, batch_size=size)
    ours.max_length = job.args.max_length
    ours.model = model
    if job.args.plant == "sorting-off":
        return lambda texts: np.concatenate(
            [ours.probabilities(texts[i : i + size]) for i in range(0, len(texts), size)]
        )
    return ours.probabilities


def in_torch(job: Job, precision: str) -> Callable:
    model = classifier(job.folder, job.seed).eval().to(job.args.device)
    half = precision != "fp32"

    def run(ids, mask):
        with torch.autocast(job.args.device, DTYPES[precision] if half else None, enabled=half):
            return model(input_ids=ids, attention_mask=mask).logits

    return run


def in_onnx(path: Path) -> Callable:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    opened = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda *inputs: torch.from_numpy(
        opened.run(
            None, dict(zip(inference.INPUTS, (each.numpy() for each in inputs), strict=True))
        )[0]
    )


def ways(job: Job, work: Path, processed: Processed) -> dict[str, Way]:
    device, plant = job.args.device, job.args.plant
    found = pipelines(job, processed)
    for precision in ("fp32", "fp16", "bf16") if job.cuda else ("fp32", "bf16"):
        used = "fp32" if plant == "fp32" else precision
        counted = used != "bf16" or computes_bf16(device)
        score = scorer(job, device, in_torch(job, used), processed)
        limit = used if counted else None  # an imitation has no limit of its own
        found[f"ours, {precision}"] = Way(score, limit, counted)
    files = onnx_files(job, work)
    for name in ("fp32", "int8"):
        file = files["fp32" if plant == "fp32" else name]
        score = scorer(job, "cpu", in_onnx(file), processed)
        limit = "fp32" if name == "fp32" and not job.cuda else None
        found[f"ours, ONNX {name}"] = Way(score, limit)
    return found


def onnx_files(job: Job, work: Path) -> dict[str, Path]:
    """The files that 06 made of this very model, else the same made now."""
    if job.trained and artifacts.is_current("faster"):
        folder = artifacts.read("faster")
        weights = [each / "model.safetensors" for each in (folder, job.folder)]
        if artifacts.sha256(weights[0]) == artifacts.sha256(weights[1]):
            return {"fp32": folder / "onnx" / "model.onnx", "int8": folder / "onnx/model_int8.onnx"}
    files = {"fp32": work / "model.onnx", "int8": work / "model_int8.onnx"}
    say("  exporting to ONNX")
    inference.export_onnx(classifier(job.folder, job.seed), job.tokenizer, files["fp32"])
    quantize_dynamic(
        files["fp32"],
        files["int8"],
        weight_type=QuantType.QInt8,
        per_channel=True,
        reduce_range=True,
    )
    return files


def measure_inference(job: Job) -> dict:
    """Speed, answers and waiting time of each way."""
    say("Inference")
    processed = Processed()
    texts = job.texts[: job.args.reviews]
    with tempfile.TemporaryDirectory() as work:
        found = ways(job, Path(work), processed)

    def ask(way: Way) -> dict:
        asked = texts if way.counted else texts[:HANDFUL]
        processed.__init__()
        seconds, answers = timed(lambda: way.score(asked))
        return {"seconds": seconds, "answers": answers, **vars(processed)}

    for way in found.values():
        way.score(texts[:HANDFUL])  # the first call of anything is slower
    calls = {name: lambda way=way: ask(way) for name, way in found.items()}
    runs = interleave(calls, job.args.repetitions, job.limit.measure)
    waits = latencies(job, found)
    model = classifier(job.folder, job.seed)
    results = {n: described(job, model, found[n], runs[n], runs[LOOP]) for n in found}
    for name, row in results.items():
        rates = row["real_tokens_per_second"]["values"]
        for key, other in (("ratio_to_loop", LOOP), ("ratio_to_batched", BATCHED)):
            others = results[other]["real_tokens_per_second"]["values"]
            row[key] = summary(np.divide(rates, others))
        row["latency_ms"] = waits.get(name)
    return results


def described(job: Job, model, way: Way, runs: list[dict], loop: list[dict]) -> dict:
    lengths = job.lengths(job.validation)[: len(runs[0]["answers"])]
    seconds = np.array([run["seconds"] for run in runs])
    row = {
        "counted": way.counted,
        "limit": way.precision,
        "flops_per_second": forward_flops(model, lengths) * summary(1 / seconds)["median"],
        "reviews": len(lengths),
        "reviews_per_second": summary(len(lengths) / seconds),
        "real_tokens_per_second": summary(lengths.sum() / seconds),
        "seconds": summary(seconds),
        "padding": float(1 - lengths.sum() / runs[0]["tokens"]),
        "reviews_per_batch": len(lengths) / runs[0]["batches"],
    }
    if way.counted:
        labels = np.array(job.validation["labels"])[: len(lengths)]
        answers, usual = (run[0]["answers"] >= 0.5 for run in (runs, loop))
        row |= paired_accuracy(labels, answers, usual, job.seed)
        row["changed"] = float((answers != usual).mean())
    return row


def latencies(job: Job, found: dict[str, Way]) -> dict[str, dict]:
    """Milliseconds for one review: median and 95th percentile."""
    counted = {name: way for name, way in found.items() if way.counted}
    texts = (job.texts * job.args.singles)[: job.args.singles]
    taken = {name: [] for name in counted}
    for text in [*texts[:3], *texts]:  # the first ones warm up
        for name, way in counted.items():
            taken[name].append(1_000 * timed(lambda way=way, text=text: way.score([text]))[0])
    return {
        name: dict(zip(("median", "p95"), np.quantile(each[3:], [0.5, 0.95]).tolist(), strict=True))
        for name, each in taken.items()
    }


def measure_memory(job: Job) -> dict:
    """The most memory that `python -m helpers score` holds, for files of several lengths."""
    results = {}
    with tempfile.TemporaryDirectory() as work:
        model = tiny_model(Path(work, "tiny"), job.tokenizer)
        for size in job.args.memory_reviews:
            say(f"Memory, {size:,} reviews")
            source = Path(work, f"{size}.csv")
            lines = (f"Take {i}: tender and funny and a little slow." for i in range(size))
            source.write_text("\n".join(["text", *lines]) + "\n", encoding="utf-8")
            program = [sys.executable, "-m", "helpers", "score", str(source)]
            options = ["--out", f"{work}/{size}.parquet", "--model", str(model)]
            peak, seconds = peak_memory([*program, *options], ROOT)
            results[str(size)] = {"peak_memory": peak, "seconds": seconds}
    return results
