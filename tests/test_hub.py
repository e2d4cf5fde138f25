"""The rehearsal Hub, through the unmodified client, in a process of its own as a reader has it."""

import json
import os
import subprocess
import sys

import pytest

from helpers import ROOT, local_hub


@pytest.fixture(scope="module")
def storage(tmp_path_factory):
    return tmp_path_factory.mktemp("hub")


@pytest.fixture(scope="module")
def endpoint(storage):
    with local_hub.running(storage) as address:
        yield address


def client(endpoint, program, token="rehearsal-write", **variables):
    """Run `program` with `api`, an HfApi, at hand; returns what it printed as JSON."""
    setup = (
        "import json, io, os, pathlib, tempfile\n"
        "from huggingface_hub import *\nfrom huggingface_hub import errors\n"
        "api = HfApi()\ntmp = pathlib.Path(tempfile.mkdtemp())\nshow = lambda x: print(json.dumps(x))\n"
    )
    environment = os.environ | {
        "HF_ENDPOINT": endpoint,
        "HF_TOKEN": token,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    environment |= variables
    answer = subprocess.run(
        [sys.executable, "-c", setup + program],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0, answer.stderr[-2000:]
    return json.loads(answer.stdout.strip().splitlines()[-1])


def test_push_list_download_and_go_back(endpoint):
    found = client(
        endpoint,
        """
api.create_repo("rehearsal/m"); api.create_repo("rehearsal/m", exist_ok=True)
folder = tmp / "folder"; (folder / "sub").mkdir(parents=True)
big = os.urandom(70 * 2**20)  # over two parts of a multipart upload
(folder / "model.safetensors").write_bytes(big); (folder / "sub" / "a.txt").write_text("one")
(folder / "README.md").write_text("---\\nlicense: mit\\ntags: [films]\\n---\\n# Card")
first = api.upload_folder(repo_id="rehearsal/m", folder_path=folder, commit_message="first")
api.upload_file(repo_id="rehearsal/m", path_or_fileobj=b"two", path_in_repo="sub/a.txt", commit_message="second")
api.delete_file("README.md", "rehearsal/m", commit_message="third")
read = lambda **k: open(api.hf_hub_download("rehearsal/m", cache_dir=tmp / "cache", **k)).read()
whole = snapshot_download("rehearsal/m", revision=first.oid, cache_dir=tmp / "again")
show({
  "files": sorted(api.list_repo_files("rehearsal/m")),
  "commits": [c.title for c in api.list_repo_commits("rehearsal/m")],
  "new": read(filename="sub/a.txt"), "old": read(filename="sub/a.txt", revision=first.oid),
  "same": (pathlib.Path(whole) / "model.safetensors").read_bytes() == big,
  "license": api.model_info("rehearsal/m", revision=first.oid).card_data.license,
  "exists": [api.file_exists("rehearsal/m", n) for n in ("sub/a.txt", "none")],
})
""",
    )
    assert found == {
        "files": ["model.safetensors", "sub/a.txt"],
        "commits": ["third", "second", "first", "initial commit"],
        "new": "two",
        "old": "one",
        "same": True,
        "license": "mit",
        "exists": [True, False],
    }


def test_spaces_have_variables_and_hidden_secrets(endpoint):
    found = client(
        endpoint,
        """
api.create_repo("rehearsal/s", repo_type="space", space_sdk="docker")
api.add_space_variable("rehearsal/s", "MODEL_ID", "a/b"); api.add_space_secret("rehearsal/s", "KEY", "x")
api.add_space_variable("rehearsal/s", "GONE", "1"); api.delete_space_variable("rehearsal/s", "GONE")
show([{k: v.value for k, v in api.get_space_variables("rehearsal/s").items()}, api.space_info("rehearsal/s").sdk])
""",
    )
    assert found == [{"MODEL_ID": "a/b"}, "docker"]


@pytest.mark.parametrize(
    ("token", "call", "error"),
    [
        ("rehearsal-write", 'api.model_info("rehearsal/none")', "RepositoryNotFoundError"),
        ("rehearsal-write", 'api.model_info("rehearsal/e", revision="nope")', "RevisionNotFoundError"),
        ("rehearsal-write", 'api.hf_hub_download("rehearsal/e", "none.txt")', "RemoteEntryNotFoundError"),
        ("rehearsal-read", 'api.create_repo("rehearsal/other")', "403"),
        ("rehearsal-write", 'api.create_commit("rehearsal/e", operations=[CommitOperationAdd("x", b"x")], commit_message="m", parent_commit="0" * 40)', "412"),
        ("made-up", "api.whoami()", "401"),
    ],
)  # fmt: skip
def test_errors_are_the_clients_own(endpoint, token, call, error):
    client(endpoint, 'api.create_repo("rehearsal/e", exist_ok=True); show(1)')
    found = client(
        endpoint,
        f"""
try:
    {call}
    show("no error")
except Exception as e:
    show(type(e).__name__ + " " + str(e) + " " + str(getattr(getattr(e, "response", None), "status_code", "")))
""",
        token=token,
    )
    assert error in found


def test_cards_are_validated(endpoint):
    found = client(
        endpoint, 'ModelCard("---\\nlicense: mit\\n---\\n# Card").validate(); show("valid")'
    )
    assert found == "valid"
    for bad in ("---\nlicense: [\n---\n", "---\n- a list\n---\n"):
        with pytest.raises(ValueError, match=r"YAML|mapping"):
            local_hub.front_matter(bad)


def test_private_repositories_need_a_token(endpoint):
    client(endpoint, 'api.create_repo("rehearsal/p", private=True); show(1)')
    found = client(
        endpoint,
        """
try: HfApi(token=False).model_info("rehearsal/p"); show("read")
except errors.RepositoryNotFoundError: show("hidden")
""",
    )
    assert found == "hidden"


def test_a_damaged_upload_is_refused(tmp_path):
    store = local_hub.Store(tmp_path)
    partial = tmp_path / "partial"
    partial.write_bytes(b"data")
    with pytest.raises(local_hub.HubError, match="sha256"):
        store.adopt(partial, "0" * 64)
    assert list(store.objects.iterdir()) == []


def test_nothing_outside_the_folder_can_be_written(tmp_path):
    store = local_hub.Store(tmp_path)
    store.create("models", "rehearsal/m")
    for path in ("../x", "/x", "a/../../x"):
        lines = [
            {"key": "header", "value": {"summary": "s"}},
            {"key": "file", "value": {"path": path, "content": "", "encoding": "base64"}},
        ]
        with pytest.raises(local_hub.HubError, match="can't be stored"):
            store.commit("models", "rehearsal/m", lines)
    with pytest.raises(local_hub.HubError):
        store.load("models", "../etc")


def test_the_quick_profiles_own_ids_load_through_it(endpoint, storage, tmp_path):
    """`load_dataset("stanfordnlp/imdb")` and DistilBERT by its id, as `quick` loads them."""
    import pandas as pd
    from transformers import DistilBertConfig, DistilBertModel

    from helpers import checkpoint

    folder = tmp_path / "imdb"
    folder.mkdir()
    for split in ("train", "test"):
        rows = {"text": [f"{split} {i}<br />" for i in range(60)], "label": [0, 1] * 30}
        pd.DataFrame(rows).to_parquet(folder / f"{split}-00000-of-00001.parquet")
    model = tmp_path / "model"
    checkpoint.lay_into_distilbert(checkpoint.minilm_files(), model)  # for its tokenizer
    tiny = DistilBertConfig(dim=32, hidden_dim=64, n_layers=1, n_heads=2)
    DistilBertModel(tiny).save_pretrained(model)
    store = local_hub.Store(storage)
    store.publish("datasets", "stanfordnlp/imdb", folder)
    store.publish("models", "distilbert/distilbert-base-uncased", model)
    found = client(
        endpoint,
        """
from datasets import load_dataset
from transformers import AutoTokenizer, AutoModelForSequenceClassification as A
d = load_dataset("stanfordnlp/imdb"); m = "distilbert/distilbert-base-uncased"
t = AutoTokenizer.from_pretrained(m); a = A.from_pretrained(m)
show([d["train"].num_rows, d["test"][1]["text"], a.config.dim, t("a film")["input_ids"]])
""",
        HF_HUB_CACHE=str(tmp_path / "hub_cache"),
        HF_DATASETS_CACHE=str(tmp_path / "datasets_cache"),
    )
    assert found == [60, "test 1<br />", 32, [101, 1037, 2143, 102]]
