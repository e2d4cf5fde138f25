"""Clocks, counts and the machine's own limit, for `benchmark.py`."""

import contextlib
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from helpers import TutorialError, evaluation

LIBRARIES = ("torch", "transformers", "tokenizers", "onnxruntime", "numpy", "accelerate")
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
# Linux starts a program's peak at that of the process it was started from: a small one in between.
PEAK = """import resource, subprocess, sys
code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)"""


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def summary(values) -> dict:
    values = [float(value) for value in values]
    middle = float(np.median(values))
    return {"median": middle, "min": min(values), "max": max(values), "values": values}


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def timed(call: Callable):
    """Seconds that `call` takes, work queued on a GPU included, and what it returns."""
    synchronize()
    start = time.perf_counter()
    found = call()
    synchronize()
    return time.perf_counter() - start, found


def interleave(calls: dict[str, Callable], repetitions: int, between=lambda: None) -> dict:
    """Results of each call, by name: all of them once, then all of them again, and so on."""
    found = {name: [] for name in calls}
    for repetition in range(repetitions):
        for name, call in calls.items():
            found[name].append(call())
            say(f"  {name}, {repetition + 1} of {repetitions}")
            between()
    return found


def forward_flops(model, lengths) -> float:
    """Operations of scoring reviews of `lengths` tokens, padding not counted.

    Two for each weight of the layers and token, and four for each pair of tokens, dimension and
    layer in attention; the classifier reads one token of each review. Training takes three times
    as many.
    """
    lengths = np.asarray(lengths, dtype=float)
    layers = classifier = 0
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2 and "transformer" in name:
            layers += parameter.numel()
        elif parameter.ndim == 2 and "classifier" in name:
            classifier += parameter.numel()
    attention = 4 * model.config.dim * model.config.n_layers * (lengths**2).sum()
    return float(2 * (layers * lengths.sum() + classifier * len(lengths)) + attention)


class Limit:
    """The fastest matrix product that this machine reaches, measured now and again."""

    def __init__(self, device: str, size: int | None):
        self.device, self.size = device, size or (8192 if device == "cuda" else 2048)
        names = ("fp32", "fp16", "bf16") if device == "cuda" else ("fp32",)
        self.rates = {name: [] for name in names if name != "bf16" or computes_bf16(device)}

    def measure(self, times: int = 3) -> None:
        for name, rates in self.rates.items():
            left = torch.rand(self.size, self.size, device=self.device, dtype=DTYPES[name])
            left @ left  # the first product is slower
            for _ in range(times):
                rates.append(2 * self.size**3 / timed(lambda left=left: left @ left)[0])

    def share(self, flops: float, precision: str) -> float | None:
        """Of the best rate at this precision, the share that `flops` a second are."""
        rates = self.rates.get(precision)
        return float(flops / max(rates)) if rates else None


def computes_bf16(device: str) -> bool:
    """Whether the hardware multiplies bfloat16, and need not imitate it."""
    if device == "cuda":
        return torch.cuda.get_device_capability()[0] >= 8
    return bool(re.search(r"\b(avx512_bf16|amx_bf16|bf16)\b", cpuinfo()))


def cpuinfo() -> str:
    file = Path("/proc/cpuinfo")
    return file.read_text() if file.exists() else ""


def machine() -> dict:
    model = re.search(r"^model name\s*: (.*)$", cpuinfo(), flags=re.M)
    return {
        "cpu": model[1] if model else platform.processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": platform.system(),
    }


def versions() -> dict:
    return {"python": platform.python_version()} | {name: version(name) for name in LIBRARIES}


def paired_accuracy(labels, found, reference, seed: int) -> dict:
    """Accuracy, and the paired difference to the `reference` answers with its 95 % interval."""
    result = {"accuracy": float((found == labels).mean()), "difference": None, "interval": None}
    with contextlib.suppress(TutorialError):  # fewer than 30 reviews
        paired = evaluation.compare(labels, found, reference, seed)
        result |= {"difference": paired.difference, "interval": list(paired.interval)}
    return result


def peak_memory(command: list[str], folder: Path | None = None) -> tuple[int, float]:
    """The most memory that `command`, run in `folder`, held in bytes, and its seconds."""
    start = time.perf_counter()
    answer = subprocess.run(
        [sys.executable, "-S", "-c", PEAK, *command], capture_output=True, text=True, cwd=folder
    )
    if answer.returncode:
        raise TutorialError(f"{' '.join(command[1:4])} failed: {answer.stderr.strip()[-500:]}")
    unit = 1 if sys.platform == "darwin" else 1024
    return int(answer.stdout.split()[-1]) * unit, time.perf_counter() - start
