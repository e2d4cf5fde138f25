"""`python -m helpers preflight` and `reset`: is this machine ready, and how to start over."""

import importlib.metadata
import os
import platform
import shutil
import sys
import time

from helpers import ROOT, TutorialError, artifacts, profiles, shown

DISK = 5  # GB that the artifacts, caches and a checkpoint of each epoch may take
MEMORY = {
    "sample": 4,
    "quick": 8,
    "full": 10,
}  # GB free, the notebook's kernel and the browser in it


def preflight(prefetch: bool = False) -> bool:
    """Check what the series needs, in under half a minute; print a line of advice for each fault.

    With `prefetch` also fetch what the profile will download, so that a class need not wait.
    Returns whether the series can run.
    """
    try:
        print(f"Profile {profiles.current().name}, with {profiles.current().source}.")
    except TutorialError as error:
        print(f"FAIL profile: {error}")
        return False
    checks = [_python, _packages, _disk, _memory, _gpu, _network, _checkpoint, _forward_pass]
    ready = True
    for check in [*checks, _prefetch] if prefetch else checks:
        try:
            good, finding, advice = check()
        except TutorialError as error:
            good, finding, advice = False, "failed", str(error)
        name = check.__name__.strip("_").replace("_", " ")
        print(f"{'ok  ' if good else 'FAIL' if good is False else 'note'} {name}: {finding}")
        if not good:
            print(f"     {advice}")
        ready &= good is not False
    print("Ready." if ready else "Not ready: follow the advice above, then run this again.")
    return ready


# Each check returns True, False or None (works, but), what was found, and what to do about it.


def _python() -> tuple:
    return sys.version_info >= (3, 11), platform.python_version(), "Install Python 3.11 or newer."


def _packages() -> tuple:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    missing, other = [], []
    for name, version in pins.items():
        try:
            found = importlib.metadata.version(name).split("+")[0]
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
            continue
        if found != version.split("+")[0]:
            other.append(f"{name} {found}")
    again = "Run: pip install -r requirements.txt (or delete .venv and run make)"
    if missing:
        return False, f"{len(missing)} are missing: {', '.join(missing[:5])}", again + "."
    if other:
        some = ", ".join(other[:5])
        return None, f"{len(other)} have another version than the lock: {some}", again + "."
    return True, f"{len(pins)}, as in requirements.txt", ""


def _disk() -> tuple:
    folder = artifacts.folder()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / 1e9
    advice = f"Free {DISK} GB, or set TUTORIAL_ARTIFACTS to a folder on another disk."
    if not os.access(folder, os.W_OK):
        return False, f"{shown(folder)} can't be written", advice
    return free >= DISK, f"{free:.0f} GB free for {shown(artifacts.folder())}", advice


def _memory() -> tuple:
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    except (ValueError, OSError, AttributeError):
        return True, "not known on this system", ""
    try:  # what the kernel holds as a cache of files is free on demand
        with open("/proc/meminfo") as stream:
            fields = dict(line.split(":") for line in stream)
        free = int(fields["MemAvailable"].split()[0]) * 1024 / 1e9
    except (OSError, KeyError):
        pass
    need = MEMORY[profiles.current().name]
    return free >= need, f"{free:.0f} GB free, {need} needed", "Close other programs."


def _gpu() -> tuple:
    import torch

    profile = profiles.current()
    if torch.cuda.is_available():
        return True, torch.cuda.get_device_name(0), ""
    advice = "Choose a GPU runtime (on Colab: Runtime, Change runtime type), or the profile sample."
    return True if profile.name == "sample" else None, f"none, for {profile.name}", advice


def _network() -> tuple:
    if profiles.hub_reachable():
        return True, "the Hugging Face Hub answers", ""
    return True, "the Hugging Face Hub does not answer, and sample needs no network", ""


def _checkpoint() -> tuple:
    from helpers import checkpoint

    profile = profiles.current()
    if profile.checkpoint == checkpoint.MINILM:
        checkpoint.minilm_files()  # compares the weights with their published digest
        return True, f"{profile.checkpoint}, its weights as published", ""
    from huggingface_hub import try_to_load_from_cache

    there = isinstance(try_to_load_from_cache(profile.checkpoint, "model.safetensors"), str)
    advice = (
        "It is downloaded when it is needed: python -m helpers preflight --prefetch fetches it."
    )
    return (
        there or None,
        f"{profile.checkpoint} {'in the cache' if there else 'not here yet'}",
        advice,
    )


def _forward_pass() -> tuple:
    import torch
    from transformers import AutoModel, AutoTokenizer

    from helpers import checkpoint

    profile = profiles.current()
    local = {} if profile.checkpoint == checkpoint.MINILM else {"local_files_only": True}
    try:
        name = checkpoint.locate(profile)
        tokenizer = AutoTokenizer.from_pretrained(name, **local)
        model = AutoModel.from_pretrained(name, **local).to(profile.device).eval()
    except OSError:
        return None, "not tried without the checkpoint", "Run it again with --prefetch."
    batch = tokenizer(["A film."] * 8, return_tensors="pt").to(profile.device)
    began = time.perf_counter()
    with torch.inference_mode():
        finite = bool(model(**batch).last_hidden_state.isfinite().all())
    seconds = time.perf_counter() - began
    found = f"{seconds:.2f} s on the {profile.device.upper()}"
    return finite, found, "The model gave no numbers: install torch and transformers again."


def _prefetch() -> tuple:
    """Fill the caches with the profile's data, checkpoint and metrics."""
    import evaluate
    from datasets import load_dataset
    from transformers import AutoModel, AutoTokenizer

    from helpers import checkpoint, data
    from helpers.evaluation import metric_sources

    profile = profiles.current()
    name = checkpoint.locate(profile)
    AutoTokenizer.from_pretrained(name)
    AutoModel.from_pretrained(name)
    splits = load_dataset(**data.locate(profile))
    evaluate.combine(metric_sources(profile))
    rows = sum(split.num_rows for split in splits.values())
    return True, f"{profile.checkpoint} and {rows:,} reviews are on this machine", ""


def reset() -> None:
    """Remove what the series made with the current profile, so that it starts over.

    Only what the notebooks write is removed; anything else in the folder stays.
    """
    made = [name for names in artifacts.WRITES.values() for name in names]
    made += ["checkpoint", "checkpoints", "source", "hub", "hub_cache", "notebooks", "metrics.json"]
    removed = []
    for name in made:
        target = artifacts.path(name)
        if target.is_dir():
            shutil.rmtree(target)
        elif target.exists():
            target.unlink()
        else:
            continue
        removed.append(name)
    where = shown(artifacts.folder())
    print(
        f"Removed from {where}: {', '.join(removed)}." if removed else f"{where} is empty already."
    )
