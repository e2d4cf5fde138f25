"""The rehearsal Hub, through the unmodified client, in a process of its own as a reader has it."""

import base64
import hashlib
import http.client
import json
import os
import re
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from helpers import ROOT, TutorialError, hub_deployment, local_hub

CARD = "---\nlicense: mit\ntags: [films]\n---\n# Card"


@pytest.fixture(scope="module")
def storage(tmp_path_factory):
    return tmp_path_factory.mktemp("hub")


@pytest.fixture(scope="module")
def endpoint(storage):
    with local_hub.running(storage) as address:
        yield address


@pytest.fixture
def connect(monkeypatch):
    """Makes clients for an address; Xet is switched off, as HF_HUB_DISABLE_XET=1 does."""
    import huggingface_hub as hub
    from huggingface_hub import constants

    for name, value in {"HF_HUB_DISABLE_XET": True, "HF_HUB_OFFLINE": False}.items():
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")

    def client(endpoint, token="rehearsal-write"):
        return hub.HfApi(endpoint, token=token)

    yield client
    hub.close_session()


@pytest.fixture
def api(connect, endpoint):
    return connect(endpoint)


def run_client(endpoint, program, **variables):
    """Run `program` where the client reads its settings from the environment, as readers do."""
    environment = {
        "HF_ENDPOINT": endpoint,
        "HF_TOKEN": "rehearsal-write",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    answer = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import json, os\nshow = lambda x: print(json.dumps(x))\n{program}",
        ],
        env=os.environ | environment | variables,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0, answer.stderr[-2000:]
    return json.loads(answer.stdout.strip().splitlines()[-1])


def raw(endpoint, method, path, body=None, token=None, **headers):
    """Status, headers and text of an answer; unlike a client, it sends any path and header."""
    connection = http.client.HTTPConnection(urlsplit(endpoint).netloc, timeout=20)
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    body = json.dumps(body) if isinstance(body, dict) else body
    connection.request(method, path, body, headers)
    response = connection.getresponse()
    text = response.read().decode("latin-1")
    connection.close()
    return response.status, response.headers, text


def commit_line(key, **value):
    return json.dumps({"key": key, "value": value})


def push(endpoint, repo, *lines, token="rehearsal-write"):
    """A commit as a client might send it that checks nothing."""
    body = "\n".join([commit_line("header", summary="raw"), *lines])
    return raw(endpoint, "POST", f"/api/models/{repo}/commit/main", body, token)


def text_line(path, text="x"):
    content = base64.b64encode(text.encode()).decode()
    return commit_line("file", path=path, content=content, encoding="base64")


# What a client does


def test_push_list_download_and_go_back(api, tmp_path):
    assert api.create_repo("rehearsal/m") == api.create_repo("rehearsal/m", exist_ok=True)
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(os.urandom(1000))
    (folder / "sub" / "a.txt").write_text("one")
    (folder / "README.md").write_text(CARD)
    first = api.upload_folder(
        repo_id="rehearsal/m", folder_path=folder, commit_message="first", commit_description="why"
    )
    api.upload_file(
        repo_id="rehearsal/m",
        path_or_fileobj=b"two",
        path_in_repo="sub/a.txt",
        commit_message="second",
    )
    old = api.model_info("rehearsal/m", revision=first.oid, files_metadata=True)
    assert old.card_data.license == "mit"
    assert {item.rfilename: item.size for item in old.siblings}["model.safetensors"] == 1000
    api.delete_file("README.md", "rehearsal/m", commit_message="third")

    assert sorted(api.list_repo_files("rehearsal/m")) == ["model.safetensors", "sub/a.txt"]
    tree = [item.path for item in api.list_repo_tree("rehearsal/m")]
    assert tree == ["sub", "model.safetensors"]
    (item,) = api.get_paths_info("rehearsal/m", ["model.safetensors"])
    assert item.lfs.size == 1000
    commits = api.list_repo_commits("rehearsal/m")
    assert [c.title for c in commits] == ["third", "second", "first", "initial commit"]
    assert commits[2].message == "why"
    assert commits[2].authors == ["rehearsal"]

    def read(**revision):
        cache = tmp_path / "cache"
        return Path(
            api.hf_hub_download("rehearsal/m", "sub/a.txt", cache_dir=cache, **revision)
        ).read_text()

    assert read() == "two"
    assert read(revision=first.oid) == "one"
    assert read(revision=first.oid[:8]) == "one"
    whole = Path(api.snapshot_download("rehearsal/m", revision=first.oid, cache_dir=tmp_path / "b"))
    for file in ("model.safetensors", "sub/a.txt", "README.md"):
        assert (whole / file).read_bytes() == (folder / file).read_bytes()
    assert [api.file_exists("rehearsal/m", name) for name in ("sub/a.txt", "none")] == [True, False]
    # Nothing is sent twice: the client asks first, and makes no empty commit.
    api.upload_file(repo_id="rehearsal/m", path_or_fileobj=b"two", path_in_repo="sub/a.txt")
    assert len(api.list_repo_commits("rehearsal/m")) == 4


def test_a_repository_can_be_deleted(api):
    api.create_repo("rehearsal/short-lived", repo_type="dataset")
    assert api.repo_exists("rehearsal/short-lived", repo_type="dataset")
    assert not api.repo_exists("rehearsal/short-lived")
    api.delete_repo("rehearsal/short-lived", repo_type="dataset")
    assert not api.repo_exists("rehearsal/short-lived", repo_type="dataset")


def test_ranges(api, endpoint):
    api.create_repo("rehearsal/r")
    api.upload_file(repo_id="rehearsal/r", path_or_fileobj=b"0123456789", path_in_repo="a.bin")
    address = "/rehearsal/r/resolve/main/a.bin"
    for wanted, found in {"bytes=2-4": "234", "bytes=7-": "789", "bytes=-2": "89"}.items():
        status, headers, text = raw(endpoint, "GET", address, Range=wanted)
        assert (status, text) == (206, found)
        assert headers["Content-Range"].endswith("/10")
    assert raw(endpoint, "GET", address, Range="bytes=99-")[0] == 416
    status, headers, text = raw(endpoint, "HEAD", address)
    assert (status, text, headers["Content-Length"]) == (200, "", "10")
    assert headers["X-Linked-ETag"].strip('"') == hashlib.sha256(b"0123456789").hexdigest()
    assert headers["X-Repo-Commit"] == api.model_info("rehearsal/r").sha


def test_spaces_have_variables_and_hidden_secrets(api, storage):
    repo = "rehearsal/s"
    api.create_repo(
        repo,
        repo_type="space",
        space_sdk="docker",
        space_secrets=[{"key": "FIRST", "value": "hush-1"}],
        space_variables=[{"key": "AT_BIRTH", "value": "1"}],
    )
    api.add_space_variable(repo, "MODEL_ID", "a/b", description="which")
    api.add_space_secret(repo, "KEY", "hush-2")
    api.add_space_variable(repo, "GONE", "1")
    api.delete_space_variable(repo, "GONE")
    found = {name: item.value for name, item in api.get_space_variables(repo).items()}
    assert found == {"AT_BIRTH": "1", "MODEL_ID": "a/b"}
    assert api.get_space_variables(repo)["MODEL_ID"].description == "which"
    assert set(api.get_space_secrets(repo)) == {"FIRST", "KEY"}
    assert api.space_info(repo).sdk == "docker"
    assert api.get_space_runtime(repo).stage == "STOPPED"
    stored = (storage / "spaces" / "rehearsal" / "s.json").read_text()
    assert "hush" not in stored  # never returned, for it is not even kept


def test_a_large_file_goes_up_in_parts_through_flat_memory(connect, tmp_path, monkeypatch):
    from huggingface_hub import lfs

    if not Path("/proc/self/status").exists():
        pytest.skip("the memory of another process is read from /proc")
    parts = []
    iterate = lfs._get_sorted_parts_urls
    monkeypatch.setattr(
        lfs,
        "_get_sorted_parts_urls",
        lambda **given: parts.extend(found := iterate(**given)) or found,
    )
    large = tmp_path / "large.bin"
    with open(large, "wb") as file:
        for number in range(200):
            file.write(bytes([number]) * 2**20)
    process, endpoint = local_hub.start(tmp_path / "hub")
    with process:
        try:
            api = connect(endpoint)
            api.create_repo("rehearsal/large")
            api.upload_file(repo_id="rehearsal/large", path_or_fileobj=b"x", path_in_repo="x.bin")

            def peak():
                status = Path(f"/proc/{process.pid}/status").read_text()
                return int(re.search(r"VmHWM:\s+(\d+)", status).group(1)) // 1024

            before = peak()
            api.upload_file(repo_id="rehearsal/large", path_or_fileobj=large, path_in_repo="a.bin")
            got = api.hf_hub_download("rehearsal/large", "a.bin", local_dir=tmp_path / "got")
            grown = peak() - before
        finally:
            process.terminate()
    assert len(parts) == 7
    assert os.path.getsize(got) == 200 * 2**20
    assert grown < 16, f"the server's memory grew from {before} MiB by {grown} MiB"
    assert list((tmp_path / "hub" / "partials").iterdir()) == []


def test_restarted_it_has_everything(connect, tmp_path):
    with local_hub.running(tmp_path) as endpoint:
        api = connect(endpoint)
        api.create_repo("rehearsal/kept", private=True)
        made = api.upload_file(
            repo_id="rehearsal/kept", path_or_fileobj=b"one", path_in_repo="a.bin"
        )
    (tmp_path / "partials" / "left").write_text("by a server that was killed in an upload")
    with local_hub.running(tmp_path) as endpoint:
        api = connect(endpoint)
        assert api.model_info("rehearsal/kept").sha == made.oid
        assert api.model_info("rehearsal/kept").private
        assert (
            raw(endpoint, "GET", "/rehearsal/kept/resolve/main/a.bin", token="rehearsal-read")[2]
            == "one"
        )
    assert list((tmp_path / "partials").iterdir()) == []


def test_two_clients_at_once_lose_nothing(api):
    api.create_repo("rehearsal/both")
    errors = []

    def work(name):
        try:
            for number in range(6):
                path = f"{name}/{number}.txt"
                api.upload_file(
                    repo_id="rehearsal/both", path_or_fileobj=path.encode(), path_in_repo=path
                )
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(api.list_repo_files("rehearsal/both")) == 18
    commits = api.list_repo_commits("rehearsal/both")
    assert len({commit.commit_id for commit in commits}) == 19


def test_it_stops_when_its_parent_is_killed(tmp_path):
    program = (
        "import sys, time; from pathlib import Path; from helpers import local_hub; "
        "print(local_hub.start(Path(sys.argv[1]))[1], flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    with parent:
        address = urlsplit(parent.stdout.readline().strip())
        assert raw(address.geturl(), "GET", "/")[0] == 200
        parent.send_signal(signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex((address.hostname, address.port)):
                return
        time.sleep(0.05)
    pytest.fail("the server outlived its parent")


# Connections that drop


class Proxy(socketserver.ThreadingTCPServer):
    """An HTTP proxy that drops the first request whose first line holds `drop`."""

    daemon_threads = True

    def __init__(self, drop, after_the_answer=False):
        self.drop, self.after_the_answer, self.seen = drop, after_the_answer, []
        super().__init__(("127.0.0.1", 0), ProxiedRequest)


class ProxiedRequest(socketserver.BaseRequestHandler):
    def handle(self):
        head = b""
        while b"\r\n\r\n" not in head:
            if not (chunk := self.request.recv(65536)):
                return
            head += chunk
        head, _, body = head.partition(b"\r\n\r\n")
        first, *headers = head.split(b"\r\n")
        method, url, version = first.split(b" ")
        url = urlsplit(url.decode())
        path = f"{url.path}?{url.query}".rstrip("?")
        self.server.seen.append(f"{method.decode()} {path}")
        # One request for each connection, so that nothing but its head need be understood.
        headers = [h for h in headers if not h.lower().startswith((b"connection", b"proxy-"))]
        head = b"\r\n".join([b" ".join((method, path.encode(), version)), *headers])
        with socket.create_connection((url.hostname, url.port)) as server:
            server.sendall(head + b"\r\nConnection: close\r\n\r\n")
            drops = bool(self.server.drop) and self.server.drop in self.server.seen[-1]
            if drops:
                self.server.drop = None
            if drops and not self.server.after_the_answer:
                body = body or self.request.recv(65536)
                server.sendall(body[: len(body) // 2])
                return
            server.sendall(body)
            threading.Thread(target=self.pass_on, args=(server,), daemon=True).start()
            while chunk := server.recv(65536):
                if not drops:
                    self.request.sendall(chunk)

    def pass_on(self, server):
        try:
            while chunk := self.request.recv(65536):
                server.sendall(chunk)
        except OSError:
            pass  # the answer came before the request's end


@pytest.fixture
def through(connect, endpoint, monkeypatch):
    """A client and the proxy between it and the Hub."""
    from huggingface_hub import close_session

    proxies = []

    def client(**settings):
        proxies.append(proxy := Proxy(**settings))
        threading.Thread(target=proxy.serve_forever, args=(0.02,), daemon=True).start()
        for name in ("HTTP_PROXY", "http_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.server_address[1]}")
        for name in ("NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.delenv(name, raising=False)
        close_session()  # the next one reads the variables
        return connect(endpoint), proxy

    yield client
    for proxy in proxies:
        proxy.shutdown()
        proxy.server_close()


def test_an_upload_that_drops_is_sent_again_and_leaves_nothing(through, storage):
    api, proxy = through(drop="PUT /lfs/")
    data = os.urandom(300_000)
    api.create_repo("rehearsal/dropped")
    api.upload_file(repo_id="rehearsal/dropped", path_or_fileobj=data, path_in_repo="a.bin")
    oid = hashlib.sha256(data).hexdigest()
    assert [line for line in proxy.seen if "PUT" in line] == [f"PUT /lfs/{oid}"] * 2
    assert (storage / "objects" / oid).read_bytes() == data
    for _ in range(40):  # the server may still be noticing
        left = list((storage / "partials").iterdir())
        if not left:
            break
        time.sleep(0.05)
    assert left == []


@pytest.mark.parametrize("after", [False, True], ids=["in the request", "before the answer"])
def test_a_commit_that_drops_is_completed_by_a_second_run(through, tmp_path, after):
    api, proxy = through(drop="/commit/main", after_the_answer=after)
    repo = f"rehearsal/second-{after}".lower()
    api.create_repo(repo)
    (tmp_path / "a.bin").write_bytes(os.urandom(100_000))
    (tmp_path / "b.txt").write_text("b")
    with pytest.raises(Exception, match="Server disconnected"):
        api.upload_folder(repo_id=repo, folder_path=tmp_path)
    assert len(api.list_repo_commits(repo)) == 1 + after
    api.upload_folder(repo_id=repo, folder_path=tmp_path)
    assert sorted(api.list_repo_files(repo)) == ["a.bin", "b.txt"]
    assert len(api.list_repo_commits(repo)) == 2
    assert len([line for line in proxy.seen if line.startswith("PUT")]) == 1


# What it refuses


def test_errors_are_the_clients_own(api, connect, endpoint, tmp_path):
    from huggingface_hub import CommitOperationAdd, errors

    repo = "rehearsal/e"
    api.create_repo(repo)
    with pytest.raises(errors.RepositoryNotFoundError):
        api.model_info("rehearsal/none")
    with pytest.raises(errors.RevisionNotFoundError):
        api.model_info(repo, revision="nope")
    with pytest.raises(errors.RevisionNotFoundError):
        api.list_repo_files(repo, revision="refs/pr/1")
    with pytest.raises(errors.RemoteEntryNotFoundError):
        api.hf_hub_download(repo, "none.txt", cache_dir=tmp_path)
    with pytest.raises(errors.RemoteEntryNotFoundError):
        api.delete_file("none.txt", repo)
    with pytest.raises(errors.HfHubHTTPError, match="already created") as found:
        api.create_repo(repo)
    assert found.value.response.status_code == 409
    assert found.value.response.json()["url"] == f"{endpoint}/{repo}"
    add = [CommitOperationAdd("x", b"x")]
    with pytest.raises(errors.HfHubHTTPError, match="moved on") as found:
        api.create_commit(repo, add, commit_message="m", parent_commit="0" * 40)
    assert found.value.response.status_code == 412
    newest = api.model_info(repo).sha
    api.create_commit(repo, add, commit_message="m", parent_commit=newest)
    with pytest.raises(errors.HfHubHTTPError, match="Invalid user token") as found:
        connect(endpoint, "made-up").whoami()
    assert found.value.response.status_code == 401
    with pytest.raises(errors.HfHubHTTPError, match="403"):
        connect(endpoint, "rehearsal-read").create_repo("rehearsal/other")
    with pytest.raises(errors.HfHubHTTPError, match="403"):
        api.create_repo("stanfordnlp/imdb", repo_type="dataset")
    assert api.whoami()["auth"]["accessToken"]["role"] == "write"


def test_a_foreign_token_gets_nowhere(api, endpoint):
    api.create_repo("rehearsal/f", exist_ok=True)
    message = "Invalid credentials in Authorization header"
    create = {"name": "x", "organization": "rehearsal"}
    for method, path, body in [
        ("GET", "/api/whoami-v2", None),
        ("GET", "/api/models/rehearsal/f", None),
        ("GET", "/rehearsal/f/resolve/main/x", None),
        ("POST", "/api/repos/create", create),
        ("DELETE", "/api/repos/delete", create),
        ("POST", "/api/models/rehearsal/f/commit/main", "{}"),
    ]:
        status, headers, _ = raw(endpoint, method, path, body, token="hf_made_up")
        assert (status, headers["X-Error-Message"]) == (401, message), path
    for scheme in ("rehearsal-write", "Basic rehearsal-write", "Bearer ", "Bearer"):
        assert raw(endpoint, "GET", "/api/whoami-v2", Authorization=scheme)[0] == 401, scheme
    assert push(endpoint, "rehearsal/f", text_line("x"), token=None)[0] == 401
    assert push(endpoint, "rehearsal/f", text_line("x"), token="rehearsal-read")[0] == 403
    assert push(endpoint, "rehearsal/f", text_line("x"), token="rehearsal-free")[0] == 403
    assert api.list_repo_files("rehearsal/f") == []


def test_a_free_account_pays_for_docker_and_gradio_spaces(connect, endpoint):
    from huggingface_hub.errors import HfHubHTTPError

    free = connect(endpoint, "rehearsal-free")
    assert free.whoami()["name"] == "rehearsal-free"
    for sdk in ("docker", "gradio"):
        with pytest.raises(HfHubHTTPError, match="paid plan") as found:
            free.create_repo("rehearsal-free/app", repo_type="space", space_sdk=sdk, exist_ok=True)
        assert found.value.response.status_code == 402
    free.create_repo("rehearsal-free/app", repo_type="space", space_sdk="static")
    free.create_repo("rehearsal-free/model")


def test_private_repositories_are_their_owners(api, connect, endpoint):
    from huggingface_hub.errors import RepositoryNotFoundError

    api.create_repo("rehearsal/p", private=True)
    assert connect(endpoint, "rehearsal-read").model_info("rehearsal/p").private
    for token in (False, "rehearsal-free"):
        with pytest.raises(RepositoryNotFoundError):
            connect(endpoint, token).model_info("rehearsal/p")
    assert raw(endpoint, "GET", "/rehearsal/p")[0] == 401
    older = {"name": "q", "organization": "rehearsal", "private": True}  # as older clients say it
    assert raw(endpoint, "POST", "/api/repos/create", older, "rehearsal-write")[0] == 200
    assert raw(endpoint, "GET", "/api/models/rehearsal/q")[0] == 401
    assert "rehearsal/p<" not in raw(endpoint, "GET", "/")[2]


@pytest.mark.parametrize(
    ("kind", "head", "message"),
    [
        ("model", "license: [", "YAML"),
        ("model", "- a list", "mapping"),
        ("model", "a: &a [1]\nb: [*a, *a]", "alias"),
        ("model", "language: no", "'language' must be str or list, not false"),
        ("model", "tags: films", "'tags'"),
        ("model", "tags: [1]", "'tags'"),
        ("model", "pipeline_tag: [a]", "'pipeline_tag'"),
        ("model", "[" * 5000, "nesting"),
        ("model", 'a: "\\ud800"', "surrogates"),
        ("model", "a: .nan", "JSON"),
        ("model", "a: " + "b" * 40_000, "longer"),
        ("space", "sdk: streamlit", "'sdk' must be one of gradio, docker, static"),
        ("space", "title: A title", "'sdk'"),
        ("space", "sdk: docker\napp_port: '8501'", "'app_port'"),
        ("space", "sdk: docker\napp_port: true", "'app_port'"),
    ],
)
def test_cards_are_validated(api, endpoint, monkeypatch, kind, head, message):
    from huggingface_hub import ModelCard, constants

    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    ModelCard(CARD).validate()
    ModelCard("---\nsdk: static\n---\n").validate(repo_type="space")
    body = {"content": f"---\n{head}\n---\n# Card", "repoType": kind}
    status, _, text = raw(endpoint, "POST", "/api/validate-yaml", body)
    assert status == 400
    assert message in json.loads(text)["errors"][0]["message"]


def test_colabs_client_validates_cards_here_too(api, endpoint, monkeypatch):
    from huggingface_hub import ModelCard, RepoCard, constants

    from helpers import hub_deployment

    def elsewhere(card, repo_type=None):
        raise AssertionError("asked https://huggingface.co/api/validate-yaml")

    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(RepoCard, "validate", elsewhere)
    hub_deployment._validate_here()
    ModelCard(CARD).validate()
    with pytest.raises(ValueError, match="language"):
        ModelCard("---\nlanguage: no\n---\n").validate()


def test_a_bad_card_is_not_committed(api, endpoint):
    api.create_repo("rehearsal/bad-card", exist_ok=True)
    status, _, text = push(
        endpoint, "rehearsal/bad-card", text_line("README.md", "---\ntags: 1\n---\n")
    )
    assert status == 400
    assert "tags" in text


PATHS = [
    "../x", "/x", "a/../../x", "a/..", ".", "", "..\\x", "a\\..\\x", "\\x", "C:\\x", "C:x",
    "%2e%2e/x", "%2e%2e%2fx", "%252e%252e%252fx", "%5c..%5cx", "%2fx", "a//x", ".git/config",
    "a\0b", "a\nb", "\ud800",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS, ids=ascii)
def test_no_path_leads_outside(api, endpoint, storage, path):
    api.create_repo("rehearsal/paths", exist_ok=True)
    for line in (text_line(path), commit_line("deletedFile", path=path)):
        assert push(endpoint, "rehearsal/paths", line)[0] == 400
    assert api.list_repo_files("rehearsal/paths") == []


def test_no_address_leads_outside(endpoint, storage):
    (storage.parent / "outside.txt").write_text("outside")
    (storage.parent / "outside.json").write_text('{"private": false, "commits": []}')
    ups = ("..", "%2e%2e", "%252e%252e", "..%2f..", "%2e%2e%2f%2e%2e", "..%5c..", "..\\..", "%2f")
    for up in ups:
        for address in (
            f"/rehearsal/paths/resolve/main/{up}/{up}/{up}/outside.txt",
            f"/rehearsal/paths/resolve/{up}/outside.txt",
            f"/rehearsal/{up}/resolve/main/outside.txt",
            f"/{up}/outside",
            f"/api/models/{up}/outside",
            f"/api/{up}/{up}/outside",
            f"/api/models/rehearsal/paths/tree/main/{up}",
            f"/api/models/rehearsal/paths/tree/{up}",
        ):
            status, _, text = raw(endpoint, "GET", address)
            assert status in (400, 403, 404), address
            assert text != "outside"
        oid = f"{up}/{up}/outside.txt"
        assert raw(endpoint, "PUT", f"/lfs/{oid}", b"x")[0] in (400, 403, 404)
        assert raw(endpoint, "POST", f"/lfs/{oid}/verify", {"size": 7})[0] in (400, 403, 404)
    for name in ("..", ".", "a/b", "..\\x", "%2e%2e", "/etc", "a" * 300, "\ud800", "a\n"):
        body = {"name": name, "organization": "rehearsal"}
        status = raw(endpoint, "POST", "/api/repos/create", body, "rehearsal-write")[0]
        assert status in (400, 403, 404), name
    assert (storage.parent / "outside.txt").read_text() == "outside"


@pytest.mark.parametrize("oid", ["../../outside", "0" * 63, "A" * 64, "0" * 40, "", 7, None])
def test_an_id_that_is_no_sha256_is_refused_everywhere(api, endpoint, oid):
    api.create_repo("rehearsal/paths", exist_ok=True)
    line = commit_line("lfsFile", path="x", oid=oid, algo="sha256", size=1)
    assert push(endpoint, "rehearsal/paths", line)[0] == 400
    batch = {"objects": [{"oid": oid, "size": 1}]}
    address = "/rehearsal/paths.git/info/lfs/objects/batch"
    assert raw(endpoint, "POST", address, batch, "rehearsal-write")[0] == 400
    assert raw(endpoint, "PUT", f"/lfs/{oid}", b"x")[0] in (400, 404)
    for act, body in {"verify": {"size": 1}, "complete": {"parts": []}}.items():
        assert raw(endpoint, "POST", f"/lfs/{oid}/{act}", body)[0] in (400, 404)


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="no symbolic links")
def test_links_in_the_storage_are_not_followed(api, endpoint, storage, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("secret")
    api.create_repo("rehearsal/linked")
    api.upload_file(repo_id="rehearsal/linked", path_or_fileobj=b"mine", path_in_repo="a.bin")
    oid = hashlib.sha256(b"mine").hexdigest()
    stored = storage / "objects" / oid
    stored.unlink()
    stored.symlink_to(secret)
    status, _, text = raw(endpoint, "GET", "/rehearsal/linked/resolve/main/a.bin")
    assert status == 403
    assert "secret" not in text
    assert raw(endpoint, "PUT", f"/lfs/{oid}", b"mine")[0] == 403
    stored.unlink()
    state = (storage / "models" / "rehearsal" / "linked.json").read_text()
    (tmp_path / "out.json").write_text(state)
    (storage / "models" / "rehearsal" / "out.json").symlink_to(tmp_path / "out.json")
    (storage / "models" / "away").symlink_to(tmp_path)
    for repo in ("rehearsal/out", "away/out"):
        assert raw(endpoint, "GET", f"/api/models/{repo}")[0] == 403
    assert push(endpoint, "rehearsal/out", text_line("x"))[0] == 403
    assert (tmp_path / "out.json").read_text() == state
    status, _, text = raw(endpoint, "GET", "/")
    assert status == 200
    assert "rehearsal/linked" in text
    assert "out" not in re.findall(r"href=\"(.*?)\"", text)
    (storage / "models" / "rehearsal" / "out.json").unlink()
    (storage / "models" / "away").unlink()


def test_only_its_own_name_is_answered(endpoint):
    port = urlsplit(endpoint).port
    for host in (f"127.0.0.1:{port}", f"localhost:{port}"):
        assert raw(endpoint, "GET", "/", Host=host)[0] == 200
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "",
                 f"127.0.0.1:{port}.evil.example", f"127.0.0.1:{port}@evil.example"):  # fmt: skip
        for method, path in (("GET", "/"), ("GET", "/api/whoami-v2"), ("PUT", f"/lfs/{'0' * 64}")):
            status, _, text = raw(endpoint, method, path, Host=host)
            assert status in (400, 421), host
            assert "Rehearsal" not in text
    # A forwarded address is not believed either: it would be in the addresses for uploads.
    forged = {"X_Forwarded_Host": "evil.example", "X_Forwarded_Proto": "https"}
    assert "evil" not in raw(endpoint, "GET", "/", **forged)[2]


def test_an_object_with_another_hash_is_refused_and_not_kept(endpoint, storage):
    before = set((storage / "objects").iterdir())
    status, _, text = raw(endpoint, "PUT", f"/lfs/{'0' * 64}", b"data")
    assert (status, "sha256" in text) == (400, True)
    assert raw(endpoint, "PUT", f"/lfs/{'0' * 64}/1", b"data")[0] == 200
    for parts in ([{"partNumber": 1}, {"partNumber": 2}], [{"partNumber": 1}]):
        body = {"oid": "0" * 64, "parts": parts}
        assert raw(endpoint, "POST", f"/lfs/{'0' * 64}/complete", body)[0] == 400
    assert raw(endpoint, "POST", f"/lfs/{'0' * 64}/verify", {"size": 4})[0] == 404
    assert raw(endpoint, "PUT", f"/lfs/{'0' * 64}/0", b"x")[0] == 400
    assert raw(endpoint, "PUT", f"/lfs/{'0' * 64}/10001", b"x")[0] == 400
    assert set((storage / "objects").iterdir()) == before
    assert list((storage / "partials").iterdir()) == []


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"1", b"null", b'{"name": 1}', b"\xff", b"[" * 100_000, b'{"name": ["a"]}', b'{"key": ["a"], "value": "1"}',
     b'{"name": "x", "organization": {"a": 1}}', b'{"name": "x", "type": ["t"]}', b"9" * 5000],
    ids=lambda body: body[:20],
)  # fmt: skip
def test_a_malformed_body_is_a_400(api, endpoint, body):
    api.create_repo("rehearsal/malformed", exist_ok=True)
    api.create_repo("rehearsal/malformed", exist_ok=True, repo_type="space", space_sdk="static")
    repo = "/api/models/rehearsal/malformed"
    for method, path in [
        ("POST", "/api/repos/create"),
        ("DELETE", "/api/repos/delete"),
        ("POST", "/api/validate-yaml"),
        ("POST", f"{repo}/commit/main"),
        ("POST", f"{repo}/preupload/main"),
        ("POST", "/api/spaces/rehearsal/malformed/variables"),
        ("POST", "/rehearsal/malformed.git/info/lfs/objects/batch"),
        ("POST", f"/lfs/{'0' * 64}/complete"),
    ]:
        status, headers, _ = raw(endpoint, method, path, body, "rehearsal-write")
        assert status in (400, 403, 404), path
        assert headers["X-Error-Message"]
    assert api.list_repo_files("rehearsal/malformed") == []


def test_a_file_is_no_folder(api, endpoint):
    api.create_repo("rehearsal/nested", exist_ok=True)
    assert push(endpoint, "rehearsal/nested", text_line("a"))[0] == 200
    assert push(endpoint, "rehearsal/nested", text_line("a/b"))[0] == 400
    assert push(endpoint, "rehearsal/nested", text_line("ab/c"), text_line("ab"))[0] == 200
    assert sorted(api.list_repo_files("rehearsal/nested")) == ["a", "ab"]


def test_a_long_hash_does_not_hold_up_others(tmp_path, monkeypatch):
    """While one upload is being hashed, other requests are answered."""
    import uvicorn

    hashing, hashed = threading.Event(), threading.Event()

    def adopt(*_, **__):
        hashing.set()
        assert hashed.wait(60)  # longer than the other request waits for its answer

    monkeypatch.setattr(local_hub.Store, "adopt", adopt)
    server = uvicorn.Server(uvicorn.Config(local_hub.application(tmp_path), log_level="error"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
        work = [
            threading.Thread(target=server.run, kwargs={"sockets": [listener]}),
            threading.Thread(target=raw, args=(endpoint, "PUT", f"/lfs/{'1' * 64}", b"x")),
        ]
        for thread in work:
            thread.start()
        try:
            assert hashing.wait(20)
            assert raw(endpoint, "GET", "/api/agent-harnesses")[0] == 200
        finally:
            hashed.set()
            work[1].join()
            server.should_exit = True
            work[0].join()


# What a learner sees and loads


def test_a_page_shows_what_was_pushed(api, endpoint):
    api.create_repo("rehearsal/shown")
    api.upload_file(
        repo_id="rehearsal/shown",
        path_or_fileobj=(CARD + "\n\nA **bold** word.\n").encode(),
        path_in_repo="README.md",
        commit_message="A card | with <b>",
    )
    made = api.upload_file(
        repo_id="rehearsal/shown", path_or_fileobj=b"12345", path_in_repo="x y.bin"
    )
    index = raw(endpoint, "GET", "/")[2]
    assert '<a href="/rehearsal/shown">' in index
    page = raw(endpoint, "GET", "/rehearsal/shown")[2]
    for text in (index, page):
        assert "on this machine only" in text
    assert f'href="/rehearsal/shown/resolve/{made.oid}/x%20y.bin"' in page
    assert raw(endpoint, "GET", f"/rehearsal/shown/resolve/{made.oid}/x%20y.bin")[2] == "12345"
    assert "<td>5</td>" in page
    assert "A card | with &lt;b&gt;" in page
    assert made.oid[:8] in page
    assert "<strong>bold</strong>" in page
    assert "<td>license</td>\n<td>mit</td>" in page
    assert raw(endpoint, "GET", urlsplit(made.commit_url).path)[0] == 200
    assert raw(endpoint, "GET", "/rehearsal/no-such-page")[0] == 404


def test_an_unsafe_card_is_harmless(api, endpoint):
    from html.parser import HTMLParser

    unsafe = """---
license: "<script>alert(1)</script> | <img src=x onerror=alert(1)>"
---
<script>alert(1)</script> <img src=x onerror=alert(1)> <svg/onload=alert(1)>

[a](javascript:alert(1)) [b](JaVaScRiPt:alert(1)) [c](data:text/html,<script>alert(1)</script>)
[d](&#106;avascript:alert(1)) <javascript:alert(1)> ![e](javascript:alert(1))
[f](vbscript:x) [g]: javascript:alert(1)

<iframe srcdoc="<script>alert(1)</script>"></iframe> <a href="javascript:alert(1)">h</a> {evil}
"""
    api.create_repo("rehearsal/unsafe")
    title = "<script>alert(1)</script> [x](javascript:alert(1))"
    push(
        endpoint,
        "rehearsal/unsafe",
        text_line("README.md", unsafe),
        text_line("<img src=x onerror=alert(1)>"),
    )
    push(endpoint, "rehearsal/unsafe", commit_line("header", summary=title), text_line("x"))
    status, headers, page = raw(endpoint, "GET", "/rehearsal/unsafe")
    assert status == 200
    assert "script-src" not in headers["Content-Security-Policy"]
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    tags, attributes = set(), []

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attrs):
            tags.add(tag)
            attributes.extend(attrs)

    Reader().feed(page)
    assert tags.isdisjoint({"script", "img", "iframe", "svg", "object", "form"})
    assert not [name for name, _ in attributes if name.startswith("on")]
    links = [value for name, value in attributes if name in ("href", "src")]
    assert links
    assert all(link.startswith(("/", "https://")) for link in links)
    assert "alert(1)" in page  # it is shown, as text
    status, headers, _ = raw(endpoint, "GET", "/rehearsal/unsafe/resolve/main/README.md")
    assert headers["Content-Type"] == "application/octet-stream"
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_the_quick_profiles_own_ids_load_through_it(tmp_path):
    """`load_dataset("stanfordnlp/imdb")` and DistilBERT by its id, as `quick` loads them."""
    import pandas as pd
    from transformers import DistilBertConfig, DistilBertModel

    from helpers import checkpoint

    folder, model = tmp_path / "imdb", tmp_path / "model"
    folder.mkdir()
    for split in ("train", "test"):
        rows = {"text": [f"{split} {i}<br />" for i in range(60)], "label": [0, 1] * 30}
        pd.DataFrame(rows).to_parquet(folder / f"{split}-00000-of-00001.parquet")
    checkpoint.lay_into_distilbert(checkpoint.minilm_files(), model)  # for its tokenizer
    tiny = DistilBertConfig(dim=32, hidden_dim=64, n_layers=1, n_heads=2)
    DistilBertModel(tiny).save_pretrained(model)
    publish = {
        ("datasets", "stanfordnlp/imdb"): folder,
        ("models", "distilbert/distilbert-base-uncased"): model,
    }
    for _ in range(2):  # the second start finds them published
        with local_hub.running(tmp_path / "hub", publish) as endpoint:
            assert "stanfordnlp/imdb" in raw(endpoint, "GET", "/")[2]
    with local_hub.running(tmp_path / "hub") as endpoint:
        found = run_client(
            endpoint,
            """
from datasets import load_dataset
from transformers import AutoTokenizer, AutoModelForSequenceClassification as A
d = load_dataset("stanfordnlp/imdb"); m = "distilbert/distilbert-base-uncased"
t = AutoTokenizer.from_pretrained(m); a = A.from_pretrained(m)
show([d["train"].num_rows, d["test"][1]["text"], a.config.dim, t("a film")["input_ids"]])
""",
            HF_HOME=str(tmp_path / "home"),
            HF_HUB_CACHE=str(tmp_path / "home" / "hub"),
            HF_DATASETS_CACHE=str(tmp_path / "home" / "datasets"),
        )
    assert found == [60, "test 1<br />", 32, [101, 1037, 2143, 102]]


def test_a_hub_that_does_not_answer_is_named(monkeypatch):
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    monkeypatch.setattr("helpers.profiles.hub_reachable", lambda: False)
    with pytest.raises(TutorialError, match="does not answer: connect to the internet"):
        hub_deployment.connect(rehearse=False)


def test_the_card_names_the_training_data(monkeypatch):
    from helpers.hub_deployment import training_data
    from helpers.profiles import PROFILES

    assert "invented" in training_data(PROFILES["sample"])
    assert "4,000 reviews of the train split of `stanfordnlp/imdb`" in training_data(
        PROFILES["quick"]
    )
    assert "the official test split." in training_data(PROFILES["full"])
    monkeypatch.setenv("TUTORIAL_DATA", "shop.csv")
    assert "shop.csv, the author's own" in training_data(PROFILES["sample"])
