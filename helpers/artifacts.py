"""Files that one notebook writes and another reads, under `artifacts/<profile>/`."""

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from helpers import ROOT, TutorialError, profiles, shown

# `require` finds from these two which notebooks to run for what is missing.
WRITES = {
    "01_data": ("splits", "baselines"),
    "02_tokenization": ("tokenized",),
    "03_training": ("model", "frozen_features"),
    "04_evaluation": ("predictions", "calibrated", "evaluation"),
    "05_hub_deployment": ("release",),
    "06_faster_inference": ("faster",),
}
READS = {
    "01_data": (),
    "02_tokenization": ("splits", "baselines"),
    "03_training": ("tokenized",),
    "04_evaluation": ("splits", "baselines", "frozen_features", "model"),
    "05_hub_deployment": ("splits", "calibrated", "evaluation"),
    "06_faster_inference": ("splits", "release"),
    "solutions/01_data": ("splits", "baselines"),
    "solutions/02_tokenization": ("splits",),
    "solutions/03_training": ("tokenized", "model"),
    "solutions/04_evaluation": ("splits", "predictions", "calibrated"),
    "solutions/05_hub_deployment": ("release",),
    "solutions/06_faster_inference": ("splits", "faster"),
}
MANIFEST = "artifact.json"
EMBEDDED = ROOT / "helpers" / "sample" / "reviews.csv"


def folder() -> Path:
    """The current profile's folder of artifacts; TUTORIAL_ARTIFACTS moves its parent."""
    base = profiles.path_setting("TUTORIAL_ARTIFACTS") or ROOT / "artifacts"
    return base / profiles.current().name


def path(name: str) -> Path:
    """Where the artifact `name` lies, whether it is there or not."""
    return folder() / name


def fingerprint() -> str:
    """Sixteen hex digits that change with the profile's settings or the reader's own data."""
    profile = profiles.current()
    state = [dataclasses.asdict(profile)]
    data = profile.data or (None if profile.dataset else EMBEDDED)
    if data:
        files = sorted(data.iterdir()) if data.is_dir() else [data]
        state += [
            (file.name, file.stat().st_size, sha256(file)) for file in files if file.is_file()
        ]
    return hashlib.sha256(json.dumps(state, default=str).encode()).hexdigest()[:16]


@contextlib.contextmanager
def write(name: str) -> Iterator[Path]:
    """Yield an empty folder that becomes the artifact `name` if the block ends well.

    An interrupted block leaves the previous artifact, or none: never half of one.
    """
    target = path(name)
    target.parent.mkdir(parents=True, exist_ok=True)
    for stale in target.parent.glob(f".{name}-*"):  # what an interrupted run left behind
        shutil.rmtree(stale, ignore_errors=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=target.parent))
    try:
        yield partial
        files = {
            file.relative_to(partial).as_posix(): sha256(file)
            for file in sorted(partial.rglob("*"))
            if file.is_file() and file.name != MANIFEST  # a copied artifact brings its own
        }
        manifest = {"artifact": name, "made_from": fingerprint(), "sha256": files}
        (partial / MANIFEST).write_text(json.dumps(manifest, indent=2), encoding="utf-8")
        partial.chmod(0o755)
        if target.exists():
            shutil.rmtree(target)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def read(name: str) -> Path:
    """Return the folder of the artifact `name` after checking every file in it.

    Raises
    ------
    TutorialError
        If the artifact is missing, or a file in it is missing or not what was written.
    """
    target = path(name)
    maker = _maker(name)
    again = f"run {maker}, which makes it" if maker else "run the notebook again"
    cure = f"delete the folder {shown(target)} and {again}"
    try:
        manifest = json.loads((target / MANIFEST).read_text(encoding="utf-8"))
        recorded = manifest["sha256"]
    except FileNotFoundError:
        raise TutorialError(f"There is no artifact {shown(target)}: {again}.") from None
    except (ValueError, KeyError, TypeError):
        raise TutorialError(f"{shown(target / MANIFEST)} is damaged: {cure}.") from None
    for file, digest in recorded.items():
        if not (target / file).is_file():
            raise TutorialError(f"{shown(target / file)} is missing: {cure}.")
        if sha256(target / file) != digest:
            raise TutorialError(f"{shown(target / file)} is damaged: {cure}.")
    return target


def is_current(name: str) -> bool:
    """Whether the artifact `name` is there and was made from today's settings and data."""
    try:
        manifest = json.loads((path(name) / MANIFEST).read_text(encoding="utf-8"))
        return manifest["made_from"] == fingerprint()
    except FileNotFoundError:
        return False
    except (ValueError, KeyError, TypeError):
        return True  # damaged: `read` says so by name


def require(notebook: str) -> None:
    """Get every artifact that `notebook` reads: from the reader's Hub repository, else by running.

    TUTORIAL_HUB_REPO names the repository that 05 pushed `release` to. What is not there is made
    by running the earlier notebooks headlessly, after saying how long that takes.
    """
    missing = _missing(notebook)
    repository = os.environ.get("TUTORIAL_HUB_REPO", "").strip()
    if "release" in missing and repository and profiles.hub_reachable() and _pull(repository):
        missing = _missing(notebook)
    needed = _producers(missing)
    if not needed:
        return
    from helpers import series

    minutes = profiles.minutes(needed, profiles.current())
    print(
        f"{notebook} reads {', '.join(missing)}, not made yet in {shown(folder())}: "
        f"running {', '.join(needed)} first, about {max(1, round(minutes))} min.",
        file=sys.stderr,
        flush=True,
    )
    series.run(needed)


def _maker(name: str) -> str | None:
    return next((notebook for notebook, names in WRITES.items() if name in names), None)


def _missing(notebook: str) -> list[str]:
    return [name for name in READS[notebook] if not is_current(name)]


def _producers(missing: list[str]) -> list[str]:
    """The notebooks to run for `missing`, and for whatever those read in turn, in order."""
    needed: set[str] = set()
    queue = list(missing)
    while queue:
        name = queue.pop()
        maker = _maker(name)
        if maker not in needed:
            needed.add(maker)
            queue += _missing(maker)
    return [notebook for notebook in WRITES if notebook in needed]


def _pull(repository: str) -> bool:
    """Fetch `release` from the reader's `repository`; False, saying why, if it does not fit."""
    # In a process of its own: importing the client here would fix its address for the kernel.
    program = "import sys, huggingface_hub as h; print(h.snapshot_download(sys.argv[1]))"
    command = [sys.executable, "-c", program, repository]
    answer = subprocess.run(command, capture_output=True, text=True)
    if answer.returncode:
        reason = (answer.stderr.strip().splitlines() or ["no reason given"])[-1]
        print(f"{repository} on the Hub gave no model: {reason}", file=sys.stderr)
        return False
    fetched = Path(answer.stdout.strip().splitlines()[-1])
    try:
        made_from = json.loads((fetched / MANIFEST).read_text(encoding="utf-8"))["made_from"]
    except (OSError, ValueError, KeyError):
        print(f"{repository} on the Hub was not pushed by 05_hub_deployment.", file=sys.stderr)
        return False
    if made_from != fingerprint():
        print(f"{repository} was trained with other settings or data.", file=sys.stderr)
        return False
    with write("release") as partial:
        shutil.copytree(fetched, partial, dirs_exist_ok=True)
    print(f"The model was fetched from {repository}.", file=sys.stderr)
    return True


def sha256(file: Path) -> str:
    """The SHA-256 digest of `file`, in hex digits."""
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
