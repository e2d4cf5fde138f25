"""Device settings and comparisons that 03_training would otherwise stop to explain."""

import numpy as np

from helpers.profiles import Profile


def device_settings(profile: Profile) -> dict[str, bool]:
    """The arguments of `TrainingArguments` that depend on the profile's device.

    Mixed precision is bf16 where the GPU computes in it (compute capability 8.0 and later), fp16
    on older GPUs such as the T4, and neither on the CPU, where `sample` must repeat exactly.
    Pinned memory speeds up the copying of batches to a GPU.
    """
    import torch

    cuda = profile.device == "cuda"
    modern = cuda and torch.cuda.get_device_capability()[0] >= 8
    return {
        "use_cpu": not cuda,
        "dataloader_pin_memory": cuda,
        "fp16": cuda and not modern,
        "bf16": modern,
    }


def curves(history: list[dict]) -> dict[str, np.ndarray]:
    """The losses in a `Trainer`'s `state.log_history`.

    Returns arrays `train` (shape (n, 2): step, loss) and `validation` (shape (m, 3): step, loss,
    accuracy).
    """
    train = [(row["step"], row["loss"]) for row in history if "loss" in row]
    validation = [
        (row["step"], row["eval_loss"], row["eval_accuracy"])
        for row in history
        if "eval_accuracy" in row
    ]
    return {"train": np.array(train), "validation": np.array(validation)}


def same_weights(model, other) -> bool:
    """Whether two models hold the same parameters, to the last bit."""
    import torch

    mine, yours = model.state_dict(), other.state_dict()
    return mine.keys() == yours.keys() and all(
        torch.equal(mine[name].cpu(), yours[name].cpu()) for name in mine
    )
