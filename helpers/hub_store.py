"""What the rehearsal Hub keeps: repositories with their commits, and the objects in them."""

import base64
import hashlib
import json
import re
import shutil
import threading
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

import yaml

USER, FREE_USER = "rehearsal", "rehearsal-free"  # the second can't create Docker or Gradio Spaces
KINDS = {"models": "", "datasets": "datasets/", "spaces": "spaces/"}  # and their addresses' heads
LFS_OVER = 5 * 2**20  # bytes; smaller files travel inside the commit unless binary by their suffix
LFS_SUFFIXES = {".safetensors", ".bin", ".parquet", ".onnx", ".pt"}
PART, PARTS = 32 * 2**20, 10_000  # bytes in one part of a multipart upload; parts at the most
CARD_LIMIT, HEAD_LIMIT = 2**17, 2**15  # bytes of a card and of the YAML at its head that are read
SDKS = ("gradio", "docker", "static")
CARD_TYPES = dict.fromkeys(("title", "app_file", "pipeline_tag", "library_name"), (str,))
CARD_TYPES |= dict.fromkeys(("license", "language", "base_model", "datasets"), (str, list))
CARD_TYPES |= {"tags": (list,), "model-index": (list,), "app_port": (int,), "pinned": (bool,)}


class HubError(Exception):
    """An answer that the client turns into an exception of its own."""

    def __init__(self, status: int, message: str, code: str | None = None):
        super().__init__(message)
        self.status, self.message, self.code = status, message, code


def need(condition, status: int, message: str, code: str | None = None) -> None:
    """Answer with a HubError unless the condition holds."""
    if not condition:
        raise HubError(status, message, code)


class Store:
    """Repositories and their objects in a folder; every change is one file moved into place.

    A repository is one JSON file with its commits, each of which holds its whole tree, so a path
    in a repository never becomes a path on disk. Objects lie under their sha256.
    """

    def __init__(self, folder: Path):
        self.folder = Path(folder).resolve()
        for made in ("objects", "partials"):
            (self.folder / made).mkdir(parents=True, exist_ok=True)
        self.lock, self.joining = threading.RLock(), threading.Lock()

    def path(self, *names: str) -> Path:
        path = self.folder.joinpath(*names)
        need(path.resolve() == path, 403, "A link was put into the storage: it is not followed.")
        return path

    def file(self, kind: str, repo: str) -> Path:
        """The file of a repository; HubError 404 if none can have this name."""
        name = r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,95}(?<!\.git)"
        known = kind in KINDS and re.fullmatch(f"{name}/{name}", repo)
        need(known, 404, f"No repository is called {repo}.", "RepoNotFound")
        return self.path(kind, f"{repo}.json")

    def object(self, oid: str, part: int | None = None) -> Path:
        """Where the object with this sha256 lies, or a part of it while it is uploaded."""
        need(re.fullmatch("[0-9a-f]{64}", oid), 400, f"{oid!r} is not a sha256.")
        if part is None:
            return self.path("objects", oid)
        need(1 <= part <= PARTS, 400, f"There is no part {part}.")
        return self.path("partials", f"{oid}.{part}")

    def load(self, kind: str, repo: str) -> dict:
        file = self.file(kind, repo)
        need(file.is_file(), 404, f"Repository {repo} not found.", "RepoNotFound")
        return json.loads(file.read_text(encoding="utf-8"))

    @contextmanager
    def editing(self, kind: str, repo: str, new: dict | None = None) -> Iterator[dict]:
        """The state of a repository, or of a new one; saved when the block ends without error."""
        with self.lock, self.partial() as partial:
            state = new or self.load(kind, repo)
            yield state
            file = self.file(kind, repo)
            file.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(json.dumps(state), encoding="utf-8")
            partial.replace(file)

    @contextmanager
    def partial(self) -> Iterator[Path]:
        """A path for what is not whole yet; removed after the block unless it was moved."""
        path = self.path("partials", uuid.uuid4().hex)
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def adopt(self, partial: Path, lfs: bool, oid: str | None = None) -> dict:
        """Move a whole file among the objects; HubError 400 if its sha256 is not `oid`."""
        size = partial.stat().st_size
        with open(partial, "rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
            stream.seek(0)
            git = hashlib.sha1(b"blob %d\0" % size)  # by which the client sees what is unchanged
            shown = sha256 if lfs else hashlib.file_digest(stream, lambda: git).hexdigest()
        need(oid in (None, sha256), 400, f"The upload does not have the sha256 it claims ({oid}).")
        partial.replace(self.object(sha256))
        return {"oid": shown, "sha256": sha256, "size": size, "lfs": lfs}

    def join(self, oid: str, numbers: list[int]) -> None:
        """Make an object of its uploaded parts; they are gone afterwards, whole or damaged."""
        parts = [self.object(oid, number) for number in numbers]
        with self.joining, self.partial() as whole:
            if self.object(oid).is_file():
                return
            need(all(p.is_file() for p in parts), 400, "A part is missing: upload it again.")
            with open(whole, "wb") as target:
                for part in parts:
                    with open(part, "rb") as source:
                        shutil.copyfileobj(source, target)
                    part.unlink()
            self.adopt(whole, lfs=True, oid=oid)

    def create(self, kind: str, repo: str, tree: dict | None = None, **settings) -> None:
        """Make a repository with its first commit; HubError 409 if it exists."""
        with self.lock:
            need(not self.file(kind, repo).exists(), 409, f"You already created {repo}.")
            new = {"commits": [], "variables": {}, "secrets": {}, "private": False} | settings
            with self.editing(kind, repo, new) as state:
                self.add_commit(state, "initial commit", tree or {})

    def publish(self, kind: str, repo: str, source: Path) -> None:
        """Make `repo` of the files in the folder `source`: Parquet as a data set, for instance."""
        tree = {}
        for file in sorted(path for path in Path(source).rglob("*") if path.is_file()):
            with self.partial() as partial:
                shutil.copyfile(file, partial)
                lfs = is_large(file.name, file.stat().st_size)
                tree[file.relative_to(source).as_posix()] = self.adopt(partial, lfs)
        self.create(kind, repo, tree)

    def commit(self, kind: str, repo: str, lines: list[dict], author: str = USER) -> dict:
        """Apply the lines of a commit, `{key, value}` each, and return the commit made."""
        header, changes = {}, []
        for line in lines:
            match line:
                case {"key": "header", "value": dict(header)}:
                    pass
                case {"key": "file", "value": {"path": path, "content": text}}:
                    data = base64.b64decode(text, validate=True)
                    errors = path == "README.md" and card_errors(data.decode(), kind)
                    need(not errors, 400, f"Invalid metadata in README.md: {errors}")
                    with self.partial() as partial:
                        partial.write_bytes(data)
                        changes.append((tree_path(path), self.adopt(partial, lfs=False)))
                case {"key": "lfsFile", "value": {"path": path, "oid": oid}}:
                    need(self.object(oid).is_file(), 400, f"Upload {path} before committing it.")
                    size = self.object(oid).stat().st_size
                    blob = {"oid": oid, "sha256": oid, "size": size, "lfs": True}
                    changes.append((tree_path(path), blob))
                case {"key": "deletedFile" | "deletedFolder", "value": {"path": path}}:
                    changes.append((tree_path(path.removesuffix("/")), None))
                case _:
                    raise HubError(400, f"This line of the commit is not understood: {line}"[:200])
        with self.editing(kind, repo) as state:
            newest = state["commits"][-1]
            current = header.get("parentCommit") in (None, newest["id"])
            need(current, 412, "The branch has moved on: parent_commit is not its newest commit.")
            tree = dict(newest["tree"])
            for path, blob in changes:
                gone = [name for name in tree if f"{name}/".startswith(f"{path}/")]
                need(blob or gone, 404, f"There is no {path} to delete.", "EntryNotFound")
                need(not folders([path]) & tree.keys(), 400, f"{path} lies in what is a file.")
                for name in gone:
                    del tree[name]
                if blob:
                    tree[path] = blob
            title, message = header["summary"].strip(), header.get("description") or ""
            return self.add_commit(state, title, tree, message.strip(), author)

    @staticmethod
    def add_commit(state: dict, title: str, tree: dict, message: str = "", author=USER) -> dict:
        parent = state["commits"][-1]["id"] if state["commits"] else None
        made = {"title": title, "message": message, "author": author, "tree": tree}
        made |= {"date": now(), "parent": parent}
        made["id"] = hashlib.sha1(json.dumps(made).encode()).hexdigest()
        state["commits"].append(made)
        return made

    def card(self, tree: dict) -> tuple[dict, str]:
        """Metadata and Markdown of a tree's README; empty where they can't be read."""
        blob = tree.get("README.md")
        if not blob or blob["size"] > CARD_LIMIT:
            return {}, ""
        try:
            return read_card(self.object(blob["sha256"]).read_text(encoding="utf-8"))
        except ValueError as error:
            return {}, f"The card can't be read: {literal(error)}"


def strict_json(data: bytes):
    """What a client sent; ValueError if it can't be read, or couldn't be sent to another one."""
    value = json.loads(data)
    json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    return value


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def is_large(path: str, size: int) -> bool:
    """Whether a file is uploaded by itself, through LFS, and not inside its commit."""
    return size > LFS_OVER or PurePosixPath(path).suffix in LFS_SUFFIXES


def tree_path(path: str) -> str:
    """`path` if it is safe on every reader's disk, however often it gets unquoted on its way."""
    plain = unquote(unquote(path))
    outside = {"", ".", "..", ".git"} & set(plain.split("/")) or re.match("[A-Za-z]:", plain)
    safe = not outside and "\\" not in plain and plain.isprintable() and len(path) <= 1000
    need(safe, 400, f"A file can't be stored at {path!r}.")
    return path


def folders(paths: Iterable[str]) -> set[str]:
    return {str(above) for path in paths for above in PurePosixPath(path).parents} - {"."}


def listing(tree: dict) -> list[dict]:
    """The folders and files of a tree, as the client reads them."""
    items = []
    for path in sorted(folders(tree)):
        oid = hashlib.sha1(path.encode()).hexdigest()
        items.append({"type": "directory", "path": path, "size": 0, "oid": oid})
    for path, blob in sorted(tree.items()):
        oid, size = blob["oid"], blob["size"]
        lfs = {"oid": oid, "sha256": oid, "size": size, "pointerSize": 135}
        item = {"type": "file", "path": path, "size": size, "oid": oid, "rfilename": path}
        items.append(item | ({"lfs": lfs} if blob["lfs"] else {}))
    return items


def read_card(text: str) -> tuple[dict, str]:
    """Metadata and Markdown of a card; ValueError if the YAML at its head can't be used."""
    found = re.match(r"\s*---\r?\n(.*?)\r?\n---[ \t]*(?:\r?\n|$)", text, flags=re.S)
    if not found:
        return {}, text
    if len(found[1]) > HEAD_LIMIT:
        raise ValueError(f"the metadata is longer than {HEAD_LIMIT} characters")
    try:
        depth = 0
        for event in yaml.parse(found[1]):  # a few aliases can stand for gigabytes
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > 20 or isinstance(event, yaml.AliasEvent):
                raise ValueError("aliases (*) and deep nesting are not supported")
        data = strict_json(json.dumps(yaml.safe_load(found[1]) or {}, default=str).encode())
    except (yaml.YAMLError, TypeError) as error:
        raise ValueError(f"not valid YAML: {error}") from None
    if not isinstance(data, dict):
        raise ValueError("the metadata must be a mapping of names to values")
    return data, text[found.end() :]


def card_errors(text: str, kind: str) -> list[str]:
    """What the Hub would refuse in the metadata of a card, as messages that name the fields."""
    try:
        data, _ = read_card(text)
    except ValueError as error:
        return [str(error)]
    errors = []
    for name in (name for name in CARD_TYPES if name in data):
        items = data[name] if isinstance(data[name], list) and name != "model-index" else []
        if type(data[name]) not in CARD_TYPES[name] or {type(item) for item in items} - {str}:
            names = " or ".join(each.__name__ for each in CARD_TYPES[name])
            errors.append(f"{name!r} must be {names}, not {json.dumps(data[name])}")
    if kind == "spaces" and data.get("sdk") not in SDKS:
        errors.append(f"'sdk' must be one of {', '.join(SDKS)}")
    return errors


def at(state: dict, revision: str = "main") -> dict:
    """The commit that a revision names: the branch `main`, or a commit by its id's start."""
    if revision in ("main", "HEAD", "refs/heads/main"):
        return state["commits"][-1]
    found = [c for c in state["commits"] if len(revision) > 6 and c["id"].startswith(revision)]
    need(found, 404, f"Revision {revision} not found.", "RevisionNotFound")
    return found[0]


def history(state: dict, newest: dict) -> list[dict]:
    """A commit and those before it, the newest first."""
    shown = []
    for made in state["commits"][: state["commits"].index(newest) + 1]:
        authors = {"authors": [{"user": made["author"]}]}
        shown.append({key: made[key] for key in ("id", "title", "message", "date")} | authors)
    return shown[::-1]


def setting(which: str, item: dict) -> dict:
    """A variable or a secret as it is kept; a secret's value is not, since nobody may read it."""
    need(re.fullmatch(r"[A-Za-z_]\w{0,99}", item["key"]), 400, "'key' must be a variable's name.")
    shown = {"key": item["key"], "description": item.get("description"), "updatedAt": now()}
    return shown | ({"value": str(item["value"])} if which == "variables" else {})


def literal(text) -> str:
    """Text as Markdown that shows it as it is."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", " ".join(str(text).split()))
