"""A rehearsal Hub on 127.0.0.1 that the unmodified `huggingface_hub` client talks to.

It speaks the part of the Hub's HTTP protocol that publishing needs: repositories for models, data
sets and Spaces; commits with history; LFS uploads streamed to disk; downloads with ranges; tokens
with roles. It is for rehearsal and tests: it listens on the loopback address only, and its
accounts are made up.
"""

import base64
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from helpers import ROOT, TutorialError

USER = "rehearsal"
TOKENS = {"rehearsal-write": "write", "rehearsal-read": "read"}
KINDS = ("models", "datasets", "spaces")
LFS_OVER = 5 * 2**20  # bytes; smaller files travel inside the commit unless binary by their suffix
LFS_SUFFIXES = {".safetensors", ".bin", ".parquet", ".onnx", ".pt"}
PART = 32 * 2**20  # bytes in one part of a multipart upload


def now() -> str:
    """The time in UTC, as the Hub writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class HubError(Exception):
    """An answer that the client turns into an exception of its own."""

    def __init__(self, status: int, message: str, code: str | None = None):
        super().__init__(message)
        self.status, self.message, self.code = status, message, code


@dataclass
class Store:
    """Repositories, commits and objects in a folder; every change is one file moved into place."""

    folder: Path

    def __post_init__(self):
        self.objects = self.folder / "objects"
        self.objects.mkdir(parents=True, exist_ok=True)
        self.lock = threading.RLock()

    def repositories(self) -> Iterator[tuple[str, str]]:
        """Kind and id of each repository."""
        for kind in KINDS:
            for file in sorted((self.folder / kind).glob("*/*/repo.json")):
                yield kind, f"{file.parent.parent.name}/{file.parent.name}"

    def path(self, kind: str, repo: str) -> Path:
        if kind not in KINDS or not re.fullmatch(r"[\w.-]+/[\w.-]+", repo) or ".." in repo:
            raise HubError(404, f"No such repository: {repo}", "RepoNotFound")
        return self.folder / kind / repo / "repo.json"

    def load(self, kind: str, repo: str) -> dict:
        try:
            return json.loads(self.path(kind, repo).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise HubError(404, f"Repository {repo} not found.", "RepoNotFound") from None

    def save(self, kind: str, repo: str, state: dict) -> None:
        path = self.path(kind, repo)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".tmp")
        partial.write_text(json.dumps(state), encoding="utf-8")
        partial.replace(path)

    def commit(self, kind: str, repo: str, lines: list[dict]) -> dict:
        """Apply the lines of a commit, `{key, value}` each, and return the commit made."""
        header = next(line["value"] for line in lines if line["key"] == "header")
        with self.lock:
            state = self.load(kind, repo)
            parent = state["commits"][-1]
            if header.get("parentCommit") not in (None, parent["id"]):
                raise HubError(
                    412, "The branch has moved on: parent_commit is not its newest commit."
                )
            tree = dict(parent["tree"])
            for line in lines:
                value, path = line["value"], line["value"].get("path", "")
                if line["key"] != "header" and (path.startswith("/") or ".." in path.split("/")):
                    raise HubError(400, f"A file can't be stored at {path!r}.")
                if line["key"] == "file":
                    content = value["content"]
                    data = (
                        base64.b64decode(content)
                        if value["encoding"] == "base64"
                        else content.encode()
                    )
                    tree[path] = self.put_blob(data)
                elif line["key"] == "lfsFile":
                    if not (self.objects / value["oid"]).is_file():
                        raise HubError(
                            400, f"{path} was never uploaded: upload it before committing."
                        )
                    tree[path] = {
                        "oid": value["oid"],
                        "size": self._size(value["oid"]),
                        "lfs": True,
                    }
                elif line["key"] == "deletedFile":
                    tree.pop(path, None)
                elif line["key"] == "deletedFolder":
                    tree = {
                        k: v for k, v in tree.items() if not k.startswith(path.rstrip("/") + "/")
                    }
            made = self._commit(
                header["summary"], header.get("description", ""), tree, parent["id"]
            )
            state["commits"].append(made)
            self.save(kind, repo, state)
        return made

    def create(self, kind: str, repo: str, **settings) -> None:
        """Make a repository with its first, empty commit; HTTP 409 if it exists."""
        with self.lock:
            if self.path(kind, repo).exists():
                raise HubError(409, f"You already created this {kind[:-1]} repo: {repo}")
            first = self._commit("initial commit", "", {}, None)
            self.save(kind, repo, {"commits": [first], "variables": {}, "secrets": {}, **settings})

    def publish(self, kind: str, repo: str, source: Path) -> None:
        """Make `repo` of the files in the folder `source`: Parquet as a data set, for instance."""
        self.create(kind, repo)
        with self.lock:
            state = self.load(kind, repo)
            tree = {}
            for file in sorted(path for path in source.rglob("*") if path.is_file()):
                blob = self.put_blob(file.read_bytes())
                if file.suffix in LFS_SUFFIXES:
                    digest = hashlib.sha256(file.read_bytes()).hexdigest()
                    shutil.copy(file, self.objects / digest)
                    blob = {"oid": digest, "size": file.stat().st_size, "lfs": True}
                tree[file.relative_to(source).as_posix()] = blob
            state["commits"].append(self._commit("Add files", "", tree, state["commits"][-1]["id"]))
            self.save(kind, repo, state)

    def put_blob(self, data: bytes) -> dict:
        """Store a small file under its git blob id."""
        oid = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        self._write(oid, data)
        return {"oid": oid, "size": len(data), "lfs": False}

    def _write(self, oid: str, data: bytes) -> None:
        partial = self.objects / f"{oid}.tmp"
        partial.write_bytes(data)
        partial.replace(self.objects / oid)

    def _size(self, oid: str) -> int:
        return (self.objects / oid).stat().st_size

    def adopt(self, partial: Path, oid: str) -> None:
        """Take an uploaded file in under its sha256, after checking it."""
        with open(partial, "rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        if found != oid:
            partial.unlink()
            raise HubError(400, f"The upload does not have the sha256 it claims ({oid}).")
        partial.replace(self.objects / oid)

    @staticmethod
    def _commit(title: str, message: str, tree: dict, parent: str | None) -> dict:
        made = {"title": title, "message": message, "date": now(), "tree": tree, "parent": parent}
        return {"id": hashlib.sha1(json.dumps(made).encode()).hexdigest(), **made}

    def at(self, kind: str, repo: str, revision: str) -> dict:
        """The commit that `revision` names: the branch `main`, or a commit by its id's start."""
        commits = self.load(kind, repo)["commits"]
        if revision in ("main", "HEAD", "refs/heads/main"):
            return commits[-1]
        for commit in commits:
            if len(revision) >= 7 and commit["id"].startswith(revision):
                return commit
        raise HubError(404, f"Revision {revision} not found in {repo}.", "RevisionNotFound")


def entry(path: str, blob: dict) -> dict:
    """A file as the tree and paths-info endpoints describe it."""
    item = {"type": "file", "path": path, "size": blob["size"], "oid": blob["oid"]}
    if blob["lfs"]:
        pointer = {"oid": blob["oid"], "sha256": blob["oid"], "size": blob["size"]}
        item["lfs"] = pointer | {"pointerSize": 135}
    return item


def front_matter(text: str) -> dict:
    """The YAML block at the head of a card; ValueError if it is not a mapping."""
    import yaml

    found = re.match(r"---\s*\n(.*?)\n---", text, flags=re.S)
    try:
        data = yaml.safe_load(found.group(1)) if found else {}
    except yaml.YAMLError as error:
        raise ValueError(f"not valid YAML: {error}") from None
    if not isinstance(data, dict | None):
        raise ValueError("the metadata must be a mapping of names to values")
    return data or {}


def application(folder: Path):
    """The Starlette application that serves the repositories in `folder`."""
    from starlette.applications import Starlette
    from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
    from starlette.routing import Route

    store = Store(folder)

    def role(request, write: bool = False) -> str | None:
        header = request.headers.get("authorization", "")
        found = TOKENS.get(header.removeprefix("Bearer ")) if header else None
        if (header or write) and not found:
            raise HubError(401, "Invalid credentials in Authorization header")
        if write and found != "write":
            raise HubError(403, "This token may only read: make one with the role write.")
        return found

    def repo_of(request, write: bool = False) -> tuple[str, str]:
        """Kind and id of the repository in the address, if this caller may use it."""
        found = role(request, write)
        kind = request.path_params.get("kind", "models")
        repo = f"{request.path_params['ns']}/{request.path_params['name']}"
        state = store.load(kind, repo)
        if state.get("private") and not found:
            raise HubError(401, f"Repository {repo} not found.", "RepoNotFound")
        if write and repo.split("/")[0] != USER:
            raise HubError(403, f"{USER} may not write to {repo}.")
        return kind, repo

    async def whoami(request):
        if not request.headers.get("authorization"):
            raise HubError(401, "Invalid credentials in Authorization header")
        token = {"displayName": "rehearsal", "role": role(request)}
        return JSONResponse(
            {
                "name": USER,
                "type": "user",
                "orgs": [],
                "auth": {"type": "access_token", "accessToken": token},
            }
        )

    async def create(request):
        role(request, write=True)
        body = await request.json()
        kind, repo = (
            f"{body.get('type') or 'model'}s",
            f"{body.get('organization') or USER}/{body['name']}",
        )
        url = f"{request.base_url}{'' if kind == 'models' else kind + '/'}{repo}"
        private = body.get("visibility") == "private" or body.get("private") is True
        try:
            store.create(kind, repo, private=private, sdk=body.get("sdk"))
        except HubError as error:
            if error.status != 409:
                raise
            return JSONResponse({"error": error.message, "url": url}, 409)
        return JSONResponse({"url": url, "name": repo})

    async def delete(request):
        role(request, write=True)
        body = await request.json()
        kind, repo = (
            f"{body.get('type') or 'model'}s",
            f"{body.get('organization') or USER}/{body['name']}",
        )
        store.load(kind, repo)
        shutil.rmtree(store.path(kind, repo).parent)
        return JSONResponse({})

    async def validate(request):
        body = await request.json()
        try:
            front_matter(body["content"])
        except ValueError as error:
            return JSONResponse({"errors": [{"message": str(error)}], "warnings": []}, 400)
        return JSONResponse({"errors": [], "warnings": []})

    async def info(request):
        kind, repo = repo_of(request)
        commit = store.at(kind, repo, request.path_params.get("rev", "main"))
        state = store.load(kind, repo)
        card = {}
        if "README.md" in commit["tree"]:
            text = (store.objects / commit["tree"]["README.md"]["oid"]).read_text(encoding="utf-8")
            card = front_matter(text)
        files = [{**entry(path, blob), "rfilename": path} for path, blob in commit["tree"].items()]
        body = {
            "id": repo,
            "sha": commit["id"],
            "siblings": files,
            "private": bool(state.get("private")),
            "tags": card.get("tags", []),
            "cardData": card,
            "pipeline_tag": card.get("pipeline_tag"),
            "library_name": card.get("library_name"),
            "createdAt": state["commits"][0]["date"],
            "lastModified": commit["date"],
            "downloads": 0,
            "likes": 0,
        }
        if kind == "spaces":
            body |= {"sdk": state.get("sdk"), "runtime": {"stage": "STOPPED", "hardware": {}}}
        return JSONResponse(body)

    async def tree(request):
        kind, repo = repo_of(request)
        blobs = store.at(kind, repo, request.path_params["rev"])["tree"]
        under = request.path_params.get("path", "").strip("/")
        prefix = under + "/" if under else ""
        inside = {path: blob for path, blob in blobs.items() if path.startswith(prefix)}
        if under and not inside:
            raise HubError(404, f"{under} not found in {repo}.", "EntryNotFound")
        deep = request.query_params.get("recursive", "").lower() in ("1", "true")
        return JSONResponse(listing(inside, prefix, deep))

    def listing(inside: dict, prefix: str, deep: bool) -> list[dict]:
        items, folders = [], set()
        for path, blob in inside.items():
            parts = path[len(prefix) :].split("/")
            for depth in range(1, len(parts) if deep else min(len(parts), 2)):
                folders.add(prefix + "/".join(parts[:depth]))
            if deep or len(parts) == 1:
                items.append(entry(path, blob))
        return [directory(path) for path in sorted(folders)] + items

    def directory(path: str) -> dict:
        return {
            "type": "directory",
            "path": path,
            "size": 0,
            "oid": hashlib.sha1(path.encode()).hexdigest(),
        }

    async def paths_info(request):
        kind, repo = repo_of(request)
        blobs = store.at(kind, repo, request.path_params["rev"])["tree"]
        found = []
        for path in (await request.form()).getlist("paths"):
            if path in blobs:
                found.append(entry(path, blobs[path]))
            elif any(name.startswith(path.rstrip("/") + "/") for name in blobs):
                found.append(directory(path))
        return JSONResponse(found)

    async def preupload(request):
        kind, repo = repo_of(request, write=True)
        blobs = store.at(kind, repo, request.path_params["rev"])["tree"]
        answer = []
        for file in (await request.json())["files"]:
            large = file["size"] > LFS_OVER or Path(file["path"]).suffix in LFS_SUFFIXES
            answer.append(
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if large else "regular",
                    "shouldIgnore": False,
                    "oid": blobs.get(file["path"], {}).get("oid"),
                }
            )
        return JSONResponse({"files": answer})

    async def lfs_batch(request):
        repo_of(request, write=True)
        body = await request.json()
        multipart = "multipart" in body.get("transfers", [])
        base = f"{request.base_url}lfs"
        answer = []
        for item in body["objects"]:
            oid, size = item["oid"], item["size"]
            described = {"oid": oid, "size": size}
            if not (store.objects / oid).is_file():
                if multipart and size > PART:
                    parts = range(1, -(-size // PART) + 1)
                    urls = {f"{number:05d}": f"{base}/{oid}/{number}" for number in parts}
                    upload = {
                        "href": f"{base}/{oid}/complete",
                        "header": {"chunk_size": str(PART)} | urls,
                    }
                else:
                    upload = {"href": f"{base}/{oid}"}
                described["actions"] = {
                    "upload": upload,
                    "verify": {"href": f"{base}/{oid}/verify"},
                }
            answer.append(described)
        return JSONResponse({"transfer": "multipart" if multipart else "basic", "objects": answer})

    def part_path(oid: str, number: int) -> Path:
        if not re.fullmatch(r"[0-9a-f]{64}", oid):
            raise HubError(400, f"{oid!r} is not a sha256.")
        return store.objects / f"{oid}.part{number}"

    async def put_object(request):
        oid, number = request.path_params["oid"], request.path_params.get("part", 0)
        target = part_path(oid, number)
        partial = target.with_name(f"{target.name}.{threading.get_ident()}.tmp")
        digest = hashlib.md5(usedforsecurity=False)
        with open(partial, "wb") as file:
            async for chunk in request.stream():
                file.write(chunk)
                digest.update(chunk)
        if number:
            partial.replace(target)
        else:
            store.adopt(partial, oid)
        return Response(status_code=200, headers={"ETag": f'"{digest.hexdigest()}"'})

    async def complete(request):
        body = await request.json()
        oid = request.path_params["oid"]
        parts = [part_path(oid, part["partNumber"]) for part in body["parts"]]
        whole = part_path(oid, 0)
        with open(whole, "wb") as target:
            for part in parts:
                with open(part, "rb") as source:
                    shutil.copyfileobj(source, target)
        store.adopt(whole, oid)
        for part in parts:
            part.unlink()
        return JSONResponse({})

    async def verify(request):
        body = await request.json()
        stored = store.objects / request.path_params["oid"]
        if not stored.is_file() or stored.stat().st_size != body["size"]:
            raise HubError(404, "The object is not here in full.")
        return JSONResponse({})

    async def commit(request):
        kind, repo = repo_of(request, write=True)
        lines = [json.loads(line) for line in (await request.body()).splitlines() if line.strip()]
        made = store.commit(kind, repo, lines)
        prefix = "" if kind == "models" else f"{kind}/"
        url = f"{request.base_url}{prefix}{repo}/commit/{made['id']}"
        return JSONResponse({"success": True, "commitOid": made["id"], "commitUrl": url})

    async def commits(request):
        kind, repo = repo_of(request)
        newest = store.at(kind, repo, request.path_params["rev"])["id"]
        history = store.load(kind, repo)["commits"]
        last = next(i for i, made in enumerate(history) if made["id"] == newest)
        return JSONResponse(
            [
                {key: made[key] for key in ("id", "title", "message", "date")}
                | {"authors": [{"user": USER}]}
                for made in reversed(history[: last + 1])
            ]
        )

    async def resolve(request):
        kind, repo = repo_of(request)
        made = store.at(kind, repo, request.path_params["rev"])
        path = request.path_params["path"]
        if path not in made["tree"]:
            raise HubError(404, f"{path} not found in {repo} at {made['id'][:8]}.", "EntryNotFound")
        blob = made["tree"][path]
        headers = {"X-Repo-Commit": made["id"], "ETag": f'"{blob["oid"]}"'}
        if blob["lfs"]:
            headers |= {"X-Linked-Size": str(blob["size"]), "X-Linked-ETag": f'"{blob["oid"]}"'}
        return FileResponse(
            store.objects / blob["oid"], headers=headers, media_type="application/octet-stream"
        )

    async def settings(request):
        kind, repo = repo_of(request, write=request.method != "GET")
        which = request.path_params["which"]
        if which not in ("variables", "secrets"):
            raise HubError(404, f"The rehearsal Hub has no {which}.", "EntryNotFound")
        with store.lock:
            state = store.load(kind, repo)
            if request.method != "GET":
                body = await request.json()
                if request.method == "DELETE":
                    state[which].pop(body["key"], None)
                else:
                    state[which][body["key"]] = {**body, "updatedAt": now()}
                store.save(kind, repo, state)
        shown = {key: dict(item) for key, item in state[which].items()}
        for item in shown.values():
            if which == "secrets":
                item.pop("value", None)
        return JSONResponse(shown)

    async def runtime(request):
        repo_of(request)
        return JSONResponse(
            {"stage": "STOPPED", "hardware": {"current": None, "requested": "cpu-basic"}}
        )

    async def page(request):
        from html import escape

        items = []
        for kind, repo in store.repositories():
            newest = store.at(kind, repo, "main")
            prefix = "" if kind == "models" else f"{kind}/"
            links = "".join(
                f'<li><a href="/{prefix}{repo}/resolve/main/{escape(path)}">{escape(path)}</a>, '
                f"{blob['size']:,} bytes</li>"
                for path, blob in newest["tree"].items()
            )
            items.append(
                f"<h2>{escape(repo)}</h2><p>{kind[:-1]}, {newest['id'][:8]}: "
                f"{escape(newest['title'])}</p><ul>{links}</ul>"
            )
        return HTMLResponse(
            "<!doctype html><meta charset=utf-8><title>Rehearsal Hub</title>"
            "<body style='font-family:sans-serif;max-width:50em;margin:2em auto'>"
            "<h1>Rehearsal Hub</h1><p>On this machine only, for practice: nothing here is on the "
            f"real Hugging Face Hub.</p>{''.join(items) or '<p>Nothing was pushed yet.</p>'}"
        )

    async def nothing(request):
        return Response(status_code=204)

    async def harnesses(request):
        return JSONResponse({"standardEnvVars": [], "harnesses": {}})

    def refuse(request, error: HubError):
        headers = {"X-Error-Message": error.message}
        if error.code:
            headers["X-Error-Code"] = error.code
        return JSONResponse({"error": error.message}, error.status, headers=headers)

    api = "/api/{kind}/{ns}/{name}"
    routes = [
        Route("/", page),
        Route("/api/whoami-v2", whoami),
        Route("/api/repos/create", create, methods=["POST"]),
        Route("/api/repos/delete", delete, methods=["DELETE"]),
        Route("/api/validate-yaml", validate, methods=["POST"]),
        Route("/api/agent-harnesses", harnesses),
        Route("/api/telemetry/{rest:path}", nothing, methods=["GET", "HEAD", "POST"]),
        Route(api, info),
        Route(api + "/revision/{rev}", info),
        Route(api + "/tree/{rev}", tree),
        Route(api + "/tree/{rev}/{path:path}", tree),
        Route(api + "/paths-info/{rev}", paths_info, methods=["POST"]),
        Route(api + "/preupload/{rev}", preupload, methods=["POST"]),
        Route(api + "/commit/{rev}", commit, methods=["POST"]),
        Route(api + "/commits/{rev}", commits),
        Route(api + "/runtime", runtime),
        Route("/lfs/{oid}", put_object, methods=["PUT"]),
        Route("/lfs/{oid}/complete", complete, methods=["POST"]),
        Route("/lfs/{oid}/verify", verify, methods=["POST"]),
        Route("/lfs/{oid}/{part:int}", put_object, methods=["PUT"]),
        Route("/{ns}/{name}.git/info/lfs/objects/batch", lfs_batch, methods=["POST"]),
        Route("/{kind}/{ns}/{name}.git/info/lfs/objects/batch", lfs_batch, methods=["POST"]),
        Route("/{ns}/{name}/resolve/{rev}/{path:path}", resolve),
        Route("/{kind}/{ns}/{name}/resolve/{rev}/{path:path}", resolve),
        Route(api + "/{which}", settings, methods=["GET", "POST", "DELETE"]),
    ]
    return Starlette(routes=routes, exception_handlers={HubError: refuse})


def serve(folder: Path, port: int = 0, until_parent_stops: bool = False) -> None:
    """Serve `folder` on 127.0.0.1 until interrupted; port 0 takes any free one."""
    import uvicorn

    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except OSError:
        raise TutorialError(f"Port {port} is taken: choose another with --port.") from None
    print(
        f"Rehearsal Hub (on this machine only): http://127.0.0.1:{listener.getsockname()[1]}",
        flush=True,
    )
    if until_parent_stops:  # the parent holds the other end of standard input
        threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    server = uvicorn.Server(uvicorn.Config(application(folder), log_level="error"))
    server.run(sockets=[listener])


@contextmanager
def running(folder: Path) -> Iterator[str]:
    """Serve `folder` from a process of its own; yields the address and stops at the end."""
    process, endpoint = start(folder)
    try:
        yield endpoint
    finally:
        process.terminate()
        process.wait(10)


def start(folder: Path) -> tuple[subprocess.Popen, str]:
    """Start a server process for `folder` that ends with this one; returns it and its address."""
    program = (
        "import pathlib, sys; from helpers import local_hub; "
        "local_hub.serve(pathlib.Path(sys.argv[1]), until_parent_stops=True)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(folder)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    line = process.stdout.readline()
    if "http://" not in line:
        raise TutorialError(
            "The rehearsal Hub did not start: run `python -m helpers hub` to see why."
        )
    return process, line.split()[-1]
