"""A rehearsal Hub on 127.0.0.1 that the unmodified `huggingface_hub` client talks to.

It speaks the part of the Hub's HTTP protocol that publishing needs: models, data sets and Spaces;
commits with history; LFS uploads; downloads with ranges; tokens with roles; and a page for each
repository. It is for rehearsal and tests: its accounts are made up, and nothing is ever run.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote

import uvicorn
from markdown_it import MarkdownIt
from starlette import applications, concurrency, requests, routing
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response

from helpers import ROOT, TutorialError
from helpers.hub_store import (
    FREE_USER,
    KINDS,
    PART,
    PARTS,
    SDKS,
    USER,
    HubError,
    Store,
    at,
    card_errors,
    history,
    is_large,
    listing,
    literal,
    need,
    setting,
    strict_json,
)

TOKENS = {"rehearsal-write": (USER, "write"), "rehearsal-read": (USER, "read")}
TOKENS["rehearsal-free"] = (FREE_USER, "write")
Publish = Mapping[tuple[str, str], Path]  # folders to publish, by the kind and id they get
BODY_LIMIT = 2**28  # bytes of a request that are read into memory
RUNTIME = {"stage": "STOPPED", "hardware": {"current": None, "requested": "cpu-basic"}}
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Rehearsal Hub</title><style>
body {{ font: 1em sans-serif; max-width: 50em; margin: 2em auto }} pre {{ overflow: auto }}
td, th {{ text-align: left; padding-right: 1em }} .note {{ background: #fff3cd; padding: .5em }}
</style><p class="note"><a href="/">Rehearsal Hub</a>, for practice, on this machine only: nothing
here is on the real Hugging Face Hub.</p>{}</html>"""
POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
SAFE_HEADERS = {"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff"}


def page(title: str, lines: list[str]) -> HTMLResponse:
    """A page made of Markdown; HTML in it is shown, not used, and so are links to scripts."""
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    return HTMLResponse(PAGE.format(markdown.render("\n".join([f"# {literal(title)}", *lines]))))


class Call:
    """One request in the Hub's terms: who calls, and what they sent."""

    def __init__(self, store: Store, request: requests.Request, received: Path):
        self.store, self.request, self.received = store, request, received
        header = request.headers.get("authorization")
        scheme, _, token = (header or "").partition(" ")
        self.account, self.role = TOKENS.get(token, (None, None))
        known = header is None or (self.account and scheme == "Bearer")
        need(known, 401, "Invalid credentials in Authorization header")

    def may_write(self, repo: str) -> None:
        need(self.account, 401, "Invalid credentials in Authorization header")
        own = self.role == "write" and repo.split("/")[0] == self.account
        need(own, 403, f"This token may not write to {repo}.")

    def opened(self, kind: str, repo: str, write: bool = False) -> dict:
        """The state of a repository, if the caller may read it, or write to it."""
        state = self.store.load(kind, repo)
        hidden = state["private"] and repo.split("/")[0] != self.account
        need(not hidden, 401, f"Repository {repo} not found.", "RepoNotFound")
        if write:
            self.may_write(repo)
        return state

    def data(self) -> bytes:
        need(self.received.stat().st_size <= BODY_LIMIT, 413, "Upload large files through LFS.")
        return self.received.read_bytes()

    def body(self) -> dict:
        return strict_json(self.data())

    def url(self, kind: str, repo: str) -> str:
        return f"{self.request.base_url}{KINDS[kind]}{repo}"

    def answer(self, path: list[str]) -> Response | dict | list:
        """What the Hub answers outside its repositories."""
        match self.request.method, *path:
            case "GET", "":
                return self.index()
            case "GET", "api", "agent-harnesses":
                return {"standardEnvVars": [], "harnesses": {}}
            case _, "api", "telemetry", *_:
                return Response(status_code=204)
            case "GET", "api", "whoami-v2":
                need(self.account, 401, "Invalid credentials in Authorization header")
                token = {"displayName": self.account, "role": self.role}
                auth = {"type": "access_token", "accessToken": token}
                return {"name": self.account, "type": "user", "orgs": [], "auth": auth}
            case "POST", "api", "validate-yaml":
                body = self.body()
                errors = card_errors(body["content"], f"{body.get('repoType') or 'model'}s")
                shown = {"errors": [{"message": error} for error in errors], "warnings": []}
                return JSONResponse(shown, 400 if errors else 200)
            case ("POST", "api", "repos", "create") | ("DELETE", "api", "repos", "delete"):
                return self.create_or_delete(self.body())
            case "PUT", "lfs", oid:
                self.store.adopt(self.received, lfs=True, oid=self.store.object(oid).name)
                return Response(headers={"ETag": f'"{oid}"'})
            case "PUT", "lfs", oid, part:
                self.received.replace(self.store.object(oid, int(part)))
                return Response(headers={"ETag": f'"{oid}-{part}"'})
            case "POST", "lfs", oid, "complete":
                self.store.join(oid, [part["partNumber"] for part in self.body()["parts"]])
                return {}
            case "POST", "lfs", oid, "verify":
                stored, size = self.store.object(oid), self.body()["size"]
                whole = stored.is_file() and stored.stat().st_size == size
                need(whole, 404, "The object is not here in full.")
                return {}
            case "POST", *kind, ns, name, "info", "lfs", "objects", "batch":
                return self.batch("".join(kind) or "models", f"{ns}/{name.removesuffix('.git')}")
            case _, "api", kind, ns, name, *rest:
                return self.repository(kind, f"{ns}/{name}", rest)
            case "GET" | "HEAD", "datasets" | "spaces" as kind, ns, name, *rest:
                return self.browse(kind, f"{ns}/{name}", rest)
            case "GET" | "HEAD", ns, name, *rest:
                return self.browse("models", f"{ns}/{name}", rest)
        raise HubError(404, f"The rehearsal Hub has no address /{'/'.join(path)}.")

    def create_or_delete(self, body: dict) -> Response | dict:
        repo = "/".join([body.get("organization") or self.account or "", body["name"]])
        kind, sdk = (body.get("type") or "model") + "s", body.get("sdk")
        self.may_write(repo)
        if self.request.method == "DELETE":
            with self.store.lock:
                self.store.load(kind, repo)
                self.store.file(kind, repo).unlink()
            return {}
        answer = {"url": self.url(kind, repo), "name": repo}
        if self.store.file(kind, repo).exists():
            return JSONResponse(answer | {"error": f"You already created {repo}."}, 409)
        need(kind != "spaces" or sdk in SDKS, 400, f"'sdk' must be one of {', '.join(SDKS)}")
        free = kind != "spaces" or sdk == "static" or self.account != FREE_USER
        need(free, 402, f"A {sdk} Space needs a paid plan; a static Space is free.")
        private = body.get("visibility") == "private" or body.get("private") is True
        settings = {"sdk": sdk, "private": private}
        for which in ("variables", "secrets"):
            items = body.get(which) or []
            settings[which] = {item["key"]: setting(which, item) for item in items}
        self.store.create(kind, repo, **settings)
        return answer

    def repository(self, kind: str, repo: str, path: list[str]) -> Response | dict | list:
        """What the Hub's API answers about a repository."""
        method = self.request.method
        reads = (method == "GET" and path != ["secrets"]) or path[:1] == ["paths-info"]
        state = self.opened(kind, repo, write=not reads)
        match method, *path:
            case ("GET",):
                return self.info(kind, repo, state, at(state))
            case "GET", "revision", revision:
                return self.info(kind, repo, state, at(state, revision))
            case "GET", "runtime":
                return RUNTIME
            case "GET", "variables" | "secrets" as which if kind == "spaces":
                return state[which]
            case "POST" | "DELETE", "variables" | "secrets" as which if kind == "spaces":
                item = self.body()
                with self.store.editing(kind, repo) as state:
                    state[which].pop(item["key"], None)
                    if method == "POST":
                        state[which][item["key"]] = setting(which, item)
                return state[which]
            case "GET", "commits", revision:
                return history(state, at(state, revision))
            case "GET", "tree", revision, *under:
                prefix = "".join(f"{name}/" for name in under)
                items = listing(at(state, revision)["tree"])
                items = [item for item in items if item["path"].startswith(prefix)]
                need(items or not under, 404, f"{prefix} not found.", "EntryNotFound")
                deep = self.request.query_params.get("recursive", "").lower() in ("1", "true")
                return [i for i in items if deep or "/" not in i["path"][len(prefix) :]]
            case "POST", "paths-info", revision:
                wanted = parse_qs(self.data().decode()).get("paths", [])
                wanted = {path.rstrip("/") for path in wanted}
                return [i for i in listing(at(state, revision)["tree"]) if i["path"] in wanted]
            case "POST", "preupload", revision:
                tree, files = at(state, revision)["tree"], []
                for file in self.body()["files"]:
                    mode = "lfs" if is_large(file["path"], file["size"]) else "regular"
                    here = {"path": file["path"], "oid": tree.get(file["path"], {}).get("oid")}
                    files.append(here | {"uploadMode": mode, "shouldIgnore": False})
                return {"files": files}
            case "POST", "commit", revision:
                at(state, revision)
                main = revision == "main" and "create_pr" not in self.request.query_params
                need(main, 400, "The rehearsal Hub commits to the branch main only.")
                lines = [strict_json(line) for line in self.data().splitlines() if line.strip()]
                made = self.store.commit(kind, repo, lines, self.account)["id"]
                url = f"{self.url(kind, repo)}/commit/{made}"
                return {"success": True, "commitOid": made, "commitUrl": url}
        raise HubError(404, f"The rehearsal Hub has no {'/'.join(path)}.", "EntryNotFound")

    def info(self, kind: str, repo: str, state: dict, commit: dict) -> dict:
        card, _ = self.store.card(commit["tree"])
        files = [item for item in listing(commit["tree"]) if item["type"] == "file"]
        answer = {"id": repo, "sha": commit["id"], "siblings": files, "private": state["private"]}
        answer |= {"cardData": card, "tags": card.get("tags") or [], "lastModified": commit["date"]}
        answer |= {name: card.get(name) for name in ("pipeline_tag", "library_name")}
        return answer | ({"sdk": state["sdk"], "runtime": RUNTIME} if kind == "spaces" else {})

    def batch(self, kind: str, repo: str) -> dict:
        """Where to upload the objects that are not here yet."""
        self.opened(kind, repo, write=True)
        body, answer = self.body(), []
        multipart = "multipart" in (body.get("transfers") or [])
        for item in body["objects"]:
            oid, size = item["oid"], item["size"]
            here, href = self.store.object(oid).is_file(), f"{self.request.base_url}lfs/{oid}"
            need(size <= PART * PARTS, 413, f"An object of {size} bytes is too large.")
            upload, actions = {"href": href}, {"verify": {"href": f"{href}/verify"}}
            if multipart and size > PART:
                parts = range(1, -(-size // PART) + 1)
                header = {f"{part:05d}": f"{href}/{part}" for part in parts}
                upload = {"href": f"{href}/complete", "header": header | {"chunk_size": str(PART)}}
            actions = {} if here else {"actions": actions | {"upload": upload}}
            answer.append({"oid": oid, "size": size} | actions)
        return {"transfer": "multipart" if multipart else "basic", "objects": answer}

    def browse(self, kind: str, repo: str, path: list[str]) -> Response:
        """A file of a repository, or the page about it."""
        state = self.opened(kind, repo)
        match path:
            case "resolve", revision, *names:
                commit, name = at(state, revision), "/".join(names)
                need(name in commit["tree"], 404, f"{name} not found in {repo}.", "EntryNotFound")
                blob = commit["tree"][name]
                headers = {"X-Repo-Commit": commit["id"], "ETag": f'"{blob["oid"]}"'}
                if blob["lfs"]:
                    headers["X-Linked-ETag"] = headers["ETag"]
                    headers["X-Linked-Size"] = str(blob["size"])
                stored = self.store.object(blob["sha256"])
                return FileResponse(stored, 200, headers, "application/octet-stream")
            case [] | ["tree" | "commit" | "blob", _, *_]:
                return self.about(kind, repo, state, at(state, *path[1:2]))
        raise HubError(404, f"The rehearsal Hub has no {'/'.join(path)}.", "EntryNotFound")

    def index(self) -> HTMLResponse:
        """The page that lists the repositories; as on the Hub, private ones need a token."""
        lines = []
        for kind in KINDS:
            for file in sorted((self.store.folder / kind).glob("*/*.json")):
                repo = f"{file.parent.name}/{file.stem}"
                if file.resolve() == file and not self.store.load(kind, repo)["private"]:
                    lines.append(f"- {kind[:-1]} [{literal(repo)}](/{KINDS[kind]}{repo})")
        return page("Repositories", lines or ["Nothing was pushed yet."])

    def about(self, kind: str, repo: str, state: dict, commit: dict) -> HTMLResponse:
        """The page about a repository at one of its commits."""
        card, text = self.store.card(commit["tree"])
        short, base = commit["id"][:8], f"/{KINDS[kind]}{repo}"
        lines = [f"A {kind[:-1]} at commit {short}.", "## Files", "| file | bytes |", "|-|-|"]
        for path, blob in sorted(commit["tree"].items()):
            link = f"{base}/resolve/{commit['id']}/{quote(path)}"
            lines.append(f"| [{literal(path)}]({link}) | {blob['size']:,} |")
        lines += ["", "## Commits", "| commit | title | date |", "|-|-|-|"]
        for made in reversed(state["commits"]):
            link = f"[{made['id'][:8]}]({base}/commit/{made['id']})"
            lines.append(f"| {link} | {literal(made['title'])} | {made['date'][:16]} |")
        lines += ["", "## Card", *(["| field | value |", "|-|-|"] if card else [])]
        for name, value in card.items():
            shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            lines.append(f"| {literal(name)} | {literal(shown)} |")
        return page(repo, [*lines, "", text])


def application(folder: Path) -> applications.Starlette:
    """The application that serves the repositories in `folder`."""
    store = Store(folder)

    async def answer(request: requests.Request) -> Response:
        try:
            host, port = request.headers.getlist("host"), request.scope["server"][1]
            own = host in ([f"127.0.0.1:{port}"], [f"localhost:{port}"])
            need(own, 421, f"Not the name of this server: {host}")  # or a web page could use it
            with store.partial() as received:
                with open(received, "wb") as file:
                    async for chunk in request.stream():
                        file.write(chunk)
                segments = request.scope["raw_path"].decode().strip("/").split("/")
                call = Call(store, request, received)
                path = [unquote(segment) for segment in segments]
                found = await concurrency.run_in_threadpool(call.answer, path)
            response = found if isinstance(found, Response) else JSONResponse(found)
        except requests.ClientDisconnect:
            return Response(status_code=400)  # to nobody
        except HubError as error:
            response = refusal(error)
        except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
            response = refusal(HubError(400, f"The request is malformed: {error!r}"))
        response.headers.update(SAFE_HEADERS)
        return response

    methods = ["GET", "POST", "PUT", "DELETE"]
    return applications.Starlette(routes=[routing.Route("/{path:path}", answer, methods=methods)])


def refusal(error: HubError) -> JSONResponse:
    """An error as the client reads it: by headers, which hold printable ASCII only."""
    headers = {"X-Error-Message": re.sub(r"[^ -~]", "?", error.message)}
    if error.code:
        headers["X-Error-Code"] = error.code
    return JSONResponse({"error": error.message}, error.status, headers)


def serve(folder: Path, port: int = 0, until_parent_stops: bool = False) -> None:
    """Serve `folder` on 127.0.0.1 until interrupted; port 0 takes any free one.

    Raises
    ------
    TutorialError
        If the port is taken.
    """
    try:
        listener = socket.create_server(("127.0.0.1", port))
    except OSError:
        raise TutorialError(f"Port {port} is taken: choose another with --port.") from None
    app, port = application(folder), listener.getsockname()[1]
    shutil.rmtree(Path(folder, "partials"))  # of uploads that an earlier server did not finish
    Path(folder, "partials").mkdir()
    print(f"Rehearsal Hub (on this machine only): http://127.0.0.1:{port}", flush=True)
    if until_parent_stops:  # the parent holds the other end of standard input
        threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    # Not behind a proxy: a header must not change the addresses that it gives for uploads.
    config = uvicorn.Config(app, log_level="error", ws="none", proxy_headers=False)
    uvicorn.Server(config).run(sockets=[listener])


@contextmanager
def running(folder: Path, publish: Publish | None = None) -> Iterator[str]:
    """Serve `folder` from a process of its own; yields the address and stops at the end."""
    process, endpoint = start(folder, publish)
    with process:  # closes its standard input, which ends it whatever it is doing
        try:
            yield endpoint
        finally:
            process.terminate()


def start(folder: Path, publish: Publish | None = None) -> tuple[subprocess.Popen, str]:
    """Start a server process for `folder` that ends with this one; returns it and its address.

    Parameters
    ----------
    folder, publish
        Where the repositories lie, and folders to serve as repositories that are not there yet:
        ``{("datasets", "stanfordnlp/imdb"): folder}``.

    Raises
    ------
    TutorialError
        If the server does not start.
    """
    store = Store(folder)
    for (kind, repo), source in (publish or {}).items():
        if not store.file(kind, repo).exists():
            store.publish(kind, repo, source)
    command = [sys.executable, "-m", "helpers.local_hub", str(store.folder)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, cwd=ROOT, text=True, **pipes)
    line = process.stdout.readline()
    if "http://" not in line:
        raise TutorialError("The rehearsal Hub did not start: `python -m helpers hub` says why.")
    return process, line.split()[-1]


if __name__ == "__main__":
    serve(Path(sys.argv[1]), until_parent_stops=True)
