"""How large everything is: one profile for each place where the series runs."""

import functools
import os
import socket
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlparse

from helpers import ROOT, TutorialError

# Minutes on two CPU cores (sample) and on a T4 (quick, full; estimates until measured there).
MINUTES = {
    "01_data": {"sample": 0.2, "quick": 2, "full": 4},
    "02_tokenization": {"sample": 0.3, "quick": 2, "full": 5},
    "03_training": {"sample": 3, "quick": 7, "full": 45},
    "04_evaluation": {"sample": 1.5, "quick": 2, "full": 8},
    "05_hub_deployment": {"sample": 0.7, "quick": 2, "full": 2},
    "06_faster_inference": {"sample": 0.5, "quick": 2, "full": 3},
}
SOLUTIONS_MINUTES = 0.3  # of any notebook in notebooks/solutions, with any profile


@dataclass(frozen=True)
class Profile:
    """The sizes that differ between profiles; code paths do not.

    `max_length` is in tokens, `*_size` in reviews (None: all there are).
    """

    name: str
    dataset: str | None  # a Hub id; None stands for the embedded reviews
    checkpoint: str  # a Hub id
    train_size: int | None
    validation_size: int
    test_size: int | None
    max_length: int
    batch_size: int
    epochs: int
    learning_rate: float
    seed: int = 42

    @property
    def data(self) -> Path | None:
        """The reader's own reviews, from TUTORIAL_DATA; None without it."""
        return path_setting("TUTORIAL_DATA")

    @property
    def source(self) -> str:
        """Where the reviews come from, in words."""
        return self.data.name if self.data else self.dataset or "the embedded reviews"

    @property
    def device(self) -> str:
        """`cuda` or `cpu`; `sample` keeps to the CPU, where its results repeat to the bit."""
        return "cuda" if self.name != "sample" and _has_cuda() else "cpu"


_SAMPLE = Profile(
    name="sample",
    dataset=None,
    checkpoint="sentence-transformers/all-MiniLM-L6-v2",
    train_size=1_000,
    validation_size=200,
    test_size=600,
    max_length=128,
    batch_size=8,
    epochs=2,
    learning_rate=1e-4,
)
_QUICK = Profile(
    name="quick",
    dataset="stanfordnlp/imdb",
    checkpoint="distilbert/distilbert-base-uncased",
    train_size=4_000,
    validation_size=1_000,
    test_size=4_000,
    max_length=256,
    batch_size=16,
    epochs=2,
    learning_rate=5e-5,
)
_FULL = Profile(
    name="full",
    dataset="stanfordnlp/imdb",
    checkpoint="distilbert/distilbert-base-uncased",
    train_size=None,
    validation_size=2_500,
    test_size=None,
    max_length=512,
    batch_size=16,
    epochs=2,
    learning_rate=3e-5,
)
PROFILES = {profile.name: profile for profile in (_SAMPLE, _QUICK, _FULL)}


def path_setting(variable: str) -> Path | None:
    """The path that an environment variable names; a relative one starts at the project's root.

    Not at the current folder, which is another one in a notebook than in a terminal.
    """
    value = os.environ.get(variable, "").strip()
    return (ROOT / Path(value).expanduser()).resolve() if value else None


@functools.cache
def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


@functools.cache
def hub_reachable(timeout: float = 3.0) -> bool:
    """Whether the Hub answers a connection within `timeout` seconds.

    The libraries themselves take most of a minute to give up without a network.
    """
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        return False
    endpoint = urlparse(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    port = endpoint.port or (443 if endpoint.scheme == "https" else 80)
    try:
        socket.create_connection((endpoint.hostname, port), timeout=timeout).close()
    except OSError:
        return False
    return True


def current() -> Profile:
    """The profile that TUTORIAL_PROFILE names, else `quick` on CUDA with the Hub, else `sample`.

    Raises
    ------
    TutorialError
        If the name is unknown, if TUTORIAL_DATA points nowhere, or if the profile needs the Hub
        and there is no network.
    """
    name = os.environ.get("TUTORIAL_PROFILE", "").strip()
    if not name:
        name = "quick" if _has_cuda() and hub_reachable() else "sample"
    if name not in PROFILES:
        raise TutorialError(
            f"TUTORIAL_PROFILE is {name!r}, and there is no such profile: set it to one of "
            f"{', '.join(PROFILES)}, or unset it."
        )
    profile = PROFILES[name]
    if profile.data and not profile.data.exists():
        raise TutorialError(
            f"TUTORIAL_DATA names {profile.data}, and nothing is there: correct the path or "
            "unset TUTORIAL_DATA."
        )
    if profile.dataset and not hub_reachable():
        raise TutorialError(
            f"The profile {name!r} downloads from the Hugging Face Hub, which does not answer: "
            "connect to the internet, or set TUTORIAL_PROFILE=sample, which needs no network."
        )
    return profile


def start(notebook: str) -> Profile:
    """Return the current profile after printing what `notebook` will do with it."""
    profile = current()
    warnings.filterwarnings("ignore", message="IProgress not found")  # text progress bars will do
    if profile.name == "sample":
        _repeatable()
    data = profile.source + (", from TUTORIAL_DATA" if profile.data else "")
    duration = minutes([notebook], profile)
    print(
        f"{notebook} with the profile {profile.name}: {data}, "
        f"{profile.checkpoint.split('/')[-1]}, {profile.max_length} tokens, "
        f"on the {profile.device.upper()}, "
        f"{f'about {duration:.0f} min' if duration >= 1.5 else 'about a minute or less'}. "
        f"The whole series takes about {minutes(MINUTES, profile):.0f} min here."
    )
    if "google.colab" in sys.modules and profile.device == "cpu":
        print(
            "There is no GPU here, so this is the small embedded job. For IMDB and DistilBERT "
            "choose Runtime, Change runtime type, T4 GPU, and run the notebook again.",
            file=sys.stderr,
        )
    if profile.data and profile.name == "sample":
        print("Reviews longer than the embedded ones take up to twice as long.", file=sys.stderr)
    return profile


def minutes(notebooks, profile: Profile) -> float:
    """Minutes that the `notebooks` take together with `profile`, reading not counted."""
    return sum(
        MINUTES[name][profile.name] if name in MINUTES else SOLUTIONS_MINUTES for name in notebooks
    )


def _repeatable() -> None:
    """Fix what would make two runs on the CPU differ: the number of threads."""
    os.environ.setdefault("OMP_NUM_THREADS", "2")
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(2)
