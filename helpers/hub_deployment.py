"""Where 05_hub_deployment publishes: the rehearsal Hub by default, the real one on request."""

import atexit
import inspect
import os
import sys

from helpers import TutorialError, artifacts, profiles
from helpers.profiles import Profile


def connect(rehearse: bool) -> str:
    """Point `huggingface_hub` at a Hub, check the token there, and return the account's name.

    With `rehearse` a rehearsal Hub starts on this machine, empty, and stops with the kernel.
    Otherwise the real Hub is used with the reader's own token: from the environment variable
    HF_TOKEN, from the Colab secret of that name, or from an earlier `huggingface_hub.login()`.

    Raises
    ------
    TutorialError
        If `huggingface_hub` already reads other settings, if the real Hub does not answer, or if
        no valid token that may write is found there.
    """
    if rehearse:
        _start_rehearsal()
        _validate_here()
    elif os.environ.get("HF_ENDPOINT", "").startswith("http://127.0.0.1"):
        raise TutorialError("This kernel rehearsed already: restart it, then set REHEARSE = False.")
    elif not profiles.hub_reachable():
        raise TutorialError(
            "The Hugging Face Hub does not answer: connect to the internet, or set REHEARSE = True."
        )
    from huggingface_hub import get_token, whoami
    from huggingface_hub.errors import HfHubHTTPError

    if get_token() is None:
        raise TutorialError(
            "No token for the Hugging Face Hub: make one with the role write at "
            "https://huggingface.co/settings/tokens, then store it as the Colab secret HF_TOKEN, "
            "or run `hf auth login` in a terminal."
        )
    try:
        account = whoami()
    except HfHubHTTPError as error:
        raise TutorialError(f"The Hub did not accept the token: {error}") from None
    role = account.get("auth", {}).get("accessToken", {}).get("role")
    if role == "read":
        raise TutorialError("Your token may only read: make one with the role write.")
    where = "the rehearsal Hub, on this machine only" if rehearse else "the Hugging Face Hub"
    print(f"Connected to {where}, as {account['name']}.")
    if rehearse:
        print(f"What you push shows at {os.environ['HF_ENDPOINT']} while this notebook runs.")
    return account["name"]


def training_data(profile: Profile) -> str:
    """What the model card says of the reviews: where they come from, and what that means."""
    if profile.data:
        return f"Data: {profile.source}, the author's own reviews."
    if profile.dataset:
        rows = f"{profile.train_size:,} reviews" if profile.train_size else "the reviews"
        return (
            f"Data: {rows} of the train split of `{profile.dataset}` (Maas et al., 2011), without "
            "those that stand in its test split too; scores are on the official test split"
            f"{f', a balanced part of {profile.test_size:,}' if profile.test_size else ''}."
        )
    return (
        "Data: 1,000 film reviews invented for a tutorial, of films that do not exist. They were "
        "revised with the scores of the baseline and of the fine-tuned model in view: the gap "
        "between the two is partly made, and the scores hold for these reviews only."
    )


def _start_rehearsal() -> None:
    import shutil

    from helpers import local_hub

    if "huggingface_hub" in sys.modules:
        from huggingface_hub import constants

        if not constants.ENDPOINT.startswith("http://127.0.0.1"):
            raise TutorialError(
                "huggingface_hub was imported before the rehearsal began, and reads its address "
                "only once: restart the kernel and run the notebook from its top."
            )
        return
    storage = artifacts.path("hub")
    shutil.rmtree(storage, ignore_errors=True)
    process, endpoint = local_hub.start(storage)
    atexit.register(process.terminate)
    os.environ |= {
        "HF_ENDPOINT": endpoint,
        "HF_TOKEN": "rehearsal-write",
        "HF_HUB_DISABLE_XET": "1",  # against any other server than the real Hub
        "HF_HUB_CACHE": str(artifacts.path("hub_cache")),
    }
    os.environ.pop("HF_HUB_OFFLINE", None)


def _validate_here() -> None:
    """Send the cards that `card.validate()` checks to the rehearsal Hub with any client.

    That of huggingface_hub 1.27, which Colab has, asks huggingface.co whatever HF_ENDPOINT says.
    """
    from huggingface_hub import HfApi, RepoCard

    def validate(card: RepoCard, repo_type: str | None = None) -> None:
        HfApi()._validate_yaml(str(card), repo_type=repo_type or card.repo_type)

    if "https://huggingface.co/api/" in inspect.getsource(RepoCard.validate):
        RepoCard.validate = validate
