"""The usual training recipe and ours, for `benchmark.py`."""

import gc
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from benchmark_job import Job, classifier
from benchmark_machine import (
    forward_flops,
    interleave,
    paired_accuracy,
    peak_memory,
    say,
    summary,
    synchronize,
    timed,
)
from datasets import Dataset
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from helpers import training

USUAL, OURS = "the usual recipe", "ours"
PARTS = ("steps", "evaluation")
PROGRAM = Path(__file__).with_name("benchmark.py")


def recipe(job: Job, name: str, **more) -> TrainingArguments:
    """The usual recipe is the Trainer's defaults; ours is what 03_training says."""
    args, plant = job.args, job.args.plant
    device = training.device_settings(SimpleNamespace(device=args.device))
    settings = {
        "output_dir": tempfile.gettempdir(),
        "num_train_epochs": args.epochs,
        "learning_rate": args.learning_rate,  # the same for both, or their accuracies would differ
        "seed": job.seed,
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": device["use_cpu"],
        "dataloader_pin_memory": device["dataloader_pin_memory"],
    }
    if name == OURS:
        batch = 1 if plant == "batch-1" else args.batch_size
        settings |= {
            "warmup_steps": 0.1,
            "weight_decay": 0.01,
            "per_device_train_batch_size": batch,
            "per_device_eval_batch_size": 1 if plant == "batch-1" else batch,
            "train_sampling_strategy": "random" if plant == "sorting-off" else "group_by_length",
            **({} if plant == "fp32" else {key: device[key] for key in ("fp16", "bf16")}),
        }
    return TrainingArguments(**{**settings, **more})


def trainer(
    job: Job, name: str, train: Dataset, evaluate: Dataset, callbacks=(), **more
) -> Trainer:
    found = Trainer(
        classifier(job.start, job.seed),
        recipe(job, name, **more),
        train_dataset=train,
        eval_dataset=evaluate,
        processing_class=job.tokenizer,
        callbacks=list(callbacks),
    )
    found.remove_callback(PrinterCallback)
    return found


@dataclass
class Plan:
    """The batches of an epoch, and those of them that are timed."""

    padding: float  # the share of the epoch's tokens
    batch_size: int
    tokens: int  # real ones in the epoch
    longest: list[int]
    picked: list[list[int]]

    @property
    def rows(self) -> np.ndarray:
        return np.concatenate(self.picked).astype(int)


def plan(batches: list[list[int]], lengths: np.ndarray, wanted: int) -> Plan:
    """Pick whole batches of about `wanted` reviews, spread evenly from short reviews to long.

    The first steps of an epoch would not do: grouping by length puts the longest reviews there.
    """
    size = max(len(rows) for rows in batches)
    tokens = sum(lengths[rows].sum() for rows in batches)
    processed = sum(lengths[rows].max() * len(rows) for rows in batches)
    full = sorted((rows for rows in batches if len(rows) == size), key=lambda r: lengths[r].max())
    count = min(len(full), max(1, wanted // size))
    picked = [full[int((i + 0.5) * len(full) / count)] for i in range(count)]
    return Plan(float(1 - tokens / processed), size, int(tokens), full[-1], picked)


def plans(job: Job, name: str) -> tuple[Plan, Plan]:
    """Of the training and of the evaluation, in the order in which the Trainer draws reviews."""
    drawing = trainer(job, name, job.train, job.validation)
    found = []
    for loader, dataset in (
        (drawing.get_train_dataloader(), job.train),
        (drawing.get_eval_dataloader(), job.validation),
    ):
        batches = list(loader.batch_sampler)
        found.append(plan(batches, job.lengths(dataset), job.args.timed_reviews))
    return tuple(found)


class Clock(TrainerCallback):
    """The time at the end of each step. The first step warms up."""

    def __init__(self):
        self.ends = []

    def on_step_end(self, args, state, control, **kwargs):
        synchronize()
        self.ends.append(time.perf_counter())


def train_and_evaluate(job: Job, name: str, planned: tuple[Plan, Plan]) -> dict[str, float]:
    """Seconds of the planned steps and of the planned evaluation, and the memory on a GPU."""
    if job.cuda:
        gc.collect()  # the model of the run before
        torch.cuda.reset_peak_memory_stats()
    steps, evaluated = planned
    rows = [row for batch in (steps.longest, *steps.picked) for row in batch]
    clock = Clock()
    running = trainer(
        job,
        name,
        job.train.select(rows),
        None,
        [clock],
        max_steps=1 + len(steps.picked),
        train_sampling_strategy="sequential",
    )
    running.train()
    running.predict(job.validation.select(evaluated.longest))
    seconds, _ = timed(lambda: running.predict(job.validation.select(evaluated.rows)))
    memory = torch.cuda.max_memory_allocated() if job.cuda else 0
    return {"steps": clock.ends[-1] - clock.ends[0], "evaluation": seconds, "memory": memory}


def measure_training(job: Job, argv: list[str]) -> dict:
    """Real tokens a second of each recipe's steps and evaluation, padding, and memory."""
    say("Training")
    planned = {name: plans(job, name) for name in (USUAL, OURS)}
    runs = interleave(
        {n: lambda n=n: train_and_evaluate(job, n, planned[n]) for n in planned},
        job.args.repetitions,
        job.limit.measure,
    )
    model = classifier(job.folder, job.seed)
    results = {name: described(job, model, name, planned[name], runs[name]) for name in planned}
    for name, row in results.items():
        for part in PARTS:
            rates = (results[n][part]["real_tokens_per_second"]["values"] for n in (name, USUAL))
            row[part]["ratio_to_usual"] = summary(np.divide(*rates))
        if not job.cuda:
            again = [sys.executable, str(PROGRAM), *argv, "--only", name]
            row["peak_memory"] = peak_memory(again)[0]
    return results


def described(job: Job, model, name: str, planned: tuple[Plan, Plan], runs: list[dict]) -> dict:
    settings = recipe(job, name)
    precision = "bf16" if settings.bf16 else "fp16" if settings.fp16 else "fp32"
    row = {"precision": precision, "peak_memory": max(run["memory"] for run in runs)}
    for part, its, dataset in zip(PARTS, planned, (job.train, job.validation), strict=True):
        lengths = job.lengths(dataset)[its.rows]
        seconds = np.array([run[part] for run in runs])
        flops = (3 if part == "steps" else 1) * forward_flops(model, lengths)
        rates = summary(lengths.sum() / seconds)
        row[part] = {
            "limit": precision,
            "flops_per_second": flops * summary(1 / seconds)["median"],
            "real_tokens_per_second": rates,
            "seconds": summary(seconds),
            "reviews_timed": len(lengths),
            "batch_size": its.batch_size,
            "padding": its.padding,
            "epoch_seconds": its.tokens / rates["median"],
        }
    return row


def measure_accuracy(job: Job) -> dict:
    """One full run of each recipe; the weights of the last step are taken."""
    labels, answers, results = np.array(job.validation["labels"]), {}, {}
    for name in (USUAL, OURS):
        say(f"A full training, {name}")
        running = trainer(job, name, job.train, None)
        seconds, _ = timed(running.train)
        running.args.train_sampling_strategy = "sequential"  # predict in the order of the labels
        answers[name] = running.predict(job.validation).predictions.argmax(-1)
        paired = paired_accuracy(labels, answers[name], answers[USUAL], job.seed)
        majority = max(labels.mean(), 1 - labels.mean())
        counts = {"reviews": len(labels), "majority": float(majority)}
        results[name] = {"seconds": seconds, **counts, **paired}
    return results


def only(job: Job, name: str) -> None:
    """Train on the longest batch and another, and evaluate: for the peak of the memory."""
    steps, evaluated = plans(job, name)
    steps.picked = steps.picked[-1:]
    train_and_evaluate(job, name, (steps, evaluated))
