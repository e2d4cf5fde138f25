"""`make bench`: the usual way and ours, side by side: training, inference, and the machine's limit.

The ways take turns, because a machine's speed changes from minute to minute. Rates count real
tokens only: padding is work for nothing. Tables go to the output, all numbers to a JSON file.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from benchmark_inference import measure_inference, measure_memory
from benchmark_job import Job, prepare
from benchmark_machine import machine, summary, versions
from benchmark_training import OURS, USUAL, measure_accuracy, measure_training, only
from benchmark_training import PARTS as TRAINING
from transformers.utils import logging

from helpers import TutorialError, artifacts, profiles, shown

PLANTS = ("sorting-off", "batch-1", "fp32")
PARTS = ("training", "accuracy", "inference", "memory")


def positive(text: str) -> int:
    if int(text) < 1:
        raise ValueError
    return int(text)


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmark.py", description=__doc__)
    add = parser.add_argument
    add("--repetitions", type=positive, default=5, help="of everything timed")
    add("--reviews", type=positive, default=200, help="of validation, for inference")
    add("--singles", type=positive, default=40, help="reviews asked one at a time, for the latency")
    add(
        "--timed-reviews", type=positive, default=160, help="of an epoch, for the speed of training"
    )
    add("--train-reviews", type=positive, help="use this many of the training reviews")
    add("--epochs", type=float, help="of the full training; by default the profile's")
    add("--data", type=Path, help="CSV, JSON Lines or Parquet with text and label, or a folder")
    add("--model", help="a DistilBERT, folder or Hub id; by default the series' own")
    add("--max-length", type=int, help="in tokens; by default the profile's")
    add("--device", choices=("cpu", "cuda"), help="by default the profile's")
    add("--matrix", type=int, help="side of the matrices multiplied for the limit")
    add("--memory-reviews", type=int, nargs="+", default=[1_000, 10_000, 100_000], metavar="N")
    add("--plant", choices=PLANTS, help="make ours worse: the tables must show it")
    add("--json", type=Path, help="where the numbers go; by default artifacts/benchmark.json")
    for part in PARTS:
        add(f"--no-{part}", dest=part, action="store_false", help=f"leave out the {part}")
    add("--only", choices=(USUAL, OURS), help=argparse.SUPPRESS)  # for the peak of its memory
    return parser.parse_args(argv)


def measure(job: Job, argv: list[str]) -> dict:
    """All that is asked for. The limit is measured in between everything."""
    args, limit = job.args, job.limit
    limit.measure()
    found = {
        "training": measure_training(job, argv) if args.training else {},
        "accuracy": measure_accuracy(job) if args.accuracy else {},
        "inference": measure_inference(job) if args.inference else {},
        "memory": measure_memory(job) if args.memory else {},
    }
    trained = [row[part] for row in found["training"].values() for part in TRAINING]
    for row in [*trained, *found["inference"].values()]:
        row["share_of_limit"] = limit.share(row["flops_per_second"], row["limit"])
    rates = {name: summary(each) for name, each in limit.rates.items()}
    return {
        "machine": machine(),
        "versions": versions(),
        "settings": settings(job),
        "limit": {"matrix": limit.size, "flops_per_second": rates},
        **found,
    }


def settings(job: Job) -> dict:
    """What was measured, with names and no paths."""
    args = vars(job.args)
    names = {name: Path(args[name]).name for name in ("data", "model") if args[name]}
    left_out = ("json", "only", *PARTS)
    return {
        **{name: value for name, value in args.items() if name not in left_out},
        **names,
        "profile": profiles.current().name,
        "seed": job.seed,
        "model_trained": job.trained,
        "reviews_to_train_on": len(job.train),
        "reviews_to_validate_on": len(job.validation),
        "tokens_median": float(np.median(job.lengths(job.validation))),
    }


def table(rows: list[dict]) -> str:
    """An aligned Markdown table; the first column to the left, the others to the right."""
    cells = [list(rows[0]), *([str(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    cells.insert(1, ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])])
    return "\n".join(
        "| " + " | ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) + " |"
        for row in cells
    )


def spread(values: dict, digits: int = 0) -> str:
    """The median, and the least and the greatest."""
    middle, low, high = (f"{values[key]:,.{digits}f}" for key in ("median", "min", "max"))
    return f"{middle} ({low} to {high})" if len(values["values"]) > 1 else middle


def share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def megabytes(row: dict) -> str:
    return f"{row['peak_memory'] / 1e6:,.0f}"


def difference(row: dict) -> str:
    """Points of accuracy, with their interval."""
    if row["interval"] is None:
        return ""
    middle, low, high = (100 * each for each in (row["difference"], *row["interval"]))
    return f"{middle:+.1f} ({low:+.1f} to {high:+.1f})"


def training_table(results: dict, part: str) -> str:
    return table(
        [
            {
                {"steps": "training steps"}.get(part, part): name,
                "real tokens/s": spread(row[part]["real_tokens_per_second"]),
                "times the usual": spread(row[part]["ratio_to_usual"], 2),
                "batch": row[part]["batch_size"],
                "padding": share(row[part]["padding"]),
                "of the limit": share(row[part]["share_of_limit"]),
                "for all reviews, s": f"{row[part]['epoch_seconds']:,.1f}",
                "precision": row["precision"],
                **({"peak memory, MB": megabytes(row)} if part == "steps" else {}),
            }
            for name, row in results.items()
        ]
    )


def accuracy_table(results: dict) -> str:
    return table(
        [
            {
                "full training": name,
                "seconds": f"{row['seconds']:,.0f}",
                "accuracy": f"{row['accuracy']:.3f}",
                "less the usual, points": difference(row),
                "reviews": row["reviews"],
            }
            for name, row in results.items()
        ]
    )


def speed_table(results: dict) -> str:
    return table(
        [
            {
                "inference": name + ("" if row["counted"] else " *"),
                "reviews/s": spread(row["reviews_per_second"], 1),
                "real tokens/s": f"{row['real_tokens_per_second']['median']:,.0f}",
                "times the loop": spread(row["ratio_to_loop"], 2),
                "times batches of 32": spread(row["ratio_to_batched"], 2),
                "reviews a batch": f"{row['reviews_per_batch']:.1f}",
                "padding": share(row["padding"]),
                "of the limit": share(row["share_of_limit"]),
            }
            for name, row in results.items()
        ]
    )


def answers_table(results: dict) -> str:
    return table(
        [
            {
                "answers": name,
                "accuracy": f"{row['accuracy']:.3f}",
                "less the loop, points": difference(row),
                "changed": share(row["changed"]),
                "one review, ms": f"{row['latency_ms']['median']:.1f}",
                "95th percentile": f"{row['latency_ms']['p95']:.1f}",
            }
            for name, row in results.items()
            if row["counted"]
        ]
    )


def limit_table(limit: dict) -> str:
    return table(
        [
            {
                f"product of {limit['matrix']} x {limit['matrix']}": name,
                "best, GFLOP/s": f"{rates['max'] / 1e9:,.0f}",
                "median": f"{rates['median'] / 1e9:,.0f}",
                "worst": f"{rates['min'] / 1e9:,.0f}",
                "measured": len(rates["values"]),
            }
            for name, rates in limit["flops_per_second"].items()
        ]
    )


def memory_table(results: dict) -> str:
    return table(
        [
            {
                "python -m helpers score, a tiny random model": f"{int(size):,} short reviews",
                "peak memory, MB": megabytes(row),
                "seconds": f"{row['seconds']:,.0f}",
            }
            for size, row in results.items()
        ]
    )


def report(results: dict) -> str:
    """The tables, and what has to be known to read them."""
    its, parts = results["settings"], [introduction(results)]
    training, accuracy, inference = (
        {
            name + (f" ({its['plant']})" if its["plant"] and name.startswith(OURS) else ""): row
            for name, row in results[part].items()
        }
        for part in ("training", "accuracy", "inference")
    )
    if its["plant"]:
        parts.append(f"**Planted slowdown: {its['plant']}. Ours is worse on purpose.**")
    if training:
        parts += [training_table(training, part) for part in TRAINING]
    if accuracy:
        parts.append(accuracy_table(accuracy))
        if any(row["accuracy"] < row["majority"] + 0.05 for row in accuracy.values()):
            parts.append("Too short a training to compare: it hardly beats the majority.")
    if inference:
        parts.append(speed_table(inference))
        if not all(row["counted"] for row in inference.values()):
            parts.append(
                f"\\* Imitated: this {its['device'].upper()} has no bfloat16. Few reviews."
            )
        parts.append(answers_table(inference))
        if not its["model_trained"]:
            parts.append("This model may be untrained: then these accuracies mean nothing.")
    parts.append(limit_table(results["limit"]))
    if results["memory"]:
        parts.append(memory_table(results["memory"]))
    return "\n\n".join(parts)


def introduction(results: dict) -> str:
    its, place, versions = results["settings"], results["machine"], results["versions"]
    gpu = f"{place['gpu']}, " if its["device"] == "cuda" else ""
    return (
        f"{gpu}{place['cpu']}, {place['threads']} threads; torch {versions['torch']}, transformers "
        f"{versions['transformers']}. {its['reviews_to_train_on']:,} reviews to train on, "
        f"{its['reviews_to_validate_on']:,} to validate on, at most {its['max_length']} tokens, "
        f"{its['tokens_median']:.0f} at the median. Everything in turns, {its['repetitions']} "
        "times: medians, in brackets the least and the greatest. Rates and shares of the limit count "
        "real tokens only."
    )


def main(argv: list[str]) -> int:
    args = parse(argv)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with tempfile.TemporaryDirectory() as work:
            job = prepare(args, Path(work))
            if args.only:
                only(job, args.only)
                return 0
            results = measure(job, argv)
        target = args.json or artifacts.folder().parent / "benchmark.json"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    except TutorialError as error:
        print(error, file=sys.stderr)
        return 1
    print(report(results))
    print(f"The numbers are in {shown(target)}.", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
