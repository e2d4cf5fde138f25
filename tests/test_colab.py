"""Colab's leg: its versions, a first cell that replaces nothing, and each notebook opened alone.

What only reads the code runs in `make test`. `make test-colab` also executes the notebooks, in
`.venv-colab`, where tests/colab_runtime.txt is installed, and in a folder that plays Colab's.
"""

import ast
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from test_setup import locked, normal

from helpers import TutorialError, artifacts, colab

ROOT = Path(__file__).parents[1]
RUNTIME = (ROOT / "tests" / "colab_runtime.txt").read_text(encoding="utf-8")
PYTHON = re.search(r"Python (\d+\.\d+\.\d+)", RUNTIME).group(1)
VENV = os.environ.get("TUTORIAL_COLAB_VENV")


def runtime() -> dict[str, str]:
    """Colab's versions; torch stands behind a #, because the leg installs another build of it."""
    pins = re.findall(r"^(?:# )?([\w.-]+)==([\w.]+)$", RUNTIME, flags=re.M)
    return {normal(name): version for name, version in pins}


def code(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return text
    cells = json.loads(text)["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


def imports(text: str) -> set[str]:
    """Dotted names of everything that is imported, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def imported_on_colab() -> set[str]:
    """Distributions that the notebooks import, or the helpers that they come to use."""
    paths = {ROOT / "notebooks" / f"{stem}.ipynb" for stem in artifacts.WRITES}
    names, seen = set(), set()
    while paths - seen:
        path = (paths - seen).pop()
        seen.add(path)
        names |= imports(code(path))
        files = {ROOT / f"{name.replace('.', '/')}.py" for name in names}
        files |= {ROOT / "helpers" / "space" / f"{name}.py" for name in names}
        paths |= {file for file in files if file.is_file()}
    known = metadata.packages_distributions()
    modules = {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) - {"helpers"}
    modules -= {path.stem for path in (ROOT / "helpers" / "space").glob("*.py")}
    return {normal(known[module][0]) if module in known else module for module in modules}


def unmet(lacking: dict[str, str], versions: dict[str, str], requires=metadata.requires) -> list:
    """Why pip, without --no-deps, would replace a preinstalled package, or what would be missing."""
    there = versions | {normal(name): pin for name, pin in map(split, lacking.values())}
    target = {"python_version": PYTHON.rpartition(".")[0], "python_full_version": PYTHON}
    target |= {"sys_platform": "linux", "platform_system": "Linux", "extra": ""}
    found = []
    for name, _ in map(split, lacking.values()):
        if normal(name) in versions:
            found.append(f"{name} is preinstalled")
        for line in requires(name) or ():
            need = Requirement(line)
            if need.marker and not need.marker.evaluate(target):
                continue
            have = there.get(normal(need.name))
            if have is None or not need.specifier.contains(have, prereleases=True):
                found.append(f"{name} needs {need.name}{need.specifier}, Colab has {have}")
    return found


def split(pin: str) -> tuple[str, str]:
    name, version = pin.split("==")
    return name, version


def test_colab_has_what_is_imported_or_the_first_cell_installs_it():
    used, lacking = imported_on_colab(), {normal(split(pin)[0]) for pin in colab.LACKING.values()}
    assert {"transformers", "nbclient", "starlette", "scikit-learn"} <= used
    assert used - lacking - set(runtime()) == set()
    assert used - set(runtime()) >= {"evaluate", "captum"}


def test_what_is_installed_there_fits_what_is_preinstalled():
    assert unmet(colab.LACKING, runtime()) == []
    for name, version in map(split, colab.LACKING.values()):
        assert locked()[normal(name)] == version
        supported = metadata.metadata(name)["Requires-Python"] or ""
        assert SpecifierSet(supported).contains(PYTHON), name


def test_what_does_not_fit_is_found():
    def demanding(name):
        return ["datasets>=99", "absent", "old; python_version < '3'", "torch<3; extra == 'x'"]

    evaluate = {"evaluate": "evaluate==0.4.6"}
    assert unmet(evaluate, {"datasets": "4.0.0"}, demanding) == [
        "evaluate needs datasets>=99, Colab has 4.0.0",
        "evaluate needs absent, Colab has None",
    ]
    pandas = {"pandas": "pandas==3.0"}
    assert unmet(pandas, runtime(), lambda name: None) == ["pandas is preinstalled"]
    without = {name: pin for name, pin in runtime().items() if name != "dill"}
    assert unmet(evaluate, without) == ["evaluate needs dill, Colab has None"]


@pytest.mark.parametrize("status", [0, 1])
def test_the_first_cell_installs_only_what_is_missing(monkeypatch, status):
    calls = []
    answer = SimpleNamespace(returncode=status)
    monkeypatch.setattr(subprocess, "run", lambda command: calls.append(command) or answer)
    absent = ("captum", "evaluate")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in absent else name)
    colab.install_missing()
    assert calls == []  # not on Colab
    monkeypatch.setitem(sys.modules, "google.colab", ModuleType("google.colab"))
    if status:
        with pytest.raises(TutorialError, match=r"evaluate.*captum.*again"):
            colab.install_missing()
    else:
        colab.install_missing()
    (command,) = calls
    assert command[:4] == [sys.executable, "-m", "pip", "install"] and "--no-deps" in command
    assert {word for word in command if "==" in word} == {colab.LACKING[name] for name in absent}
    calls.clear()
    absent = ()
    colab.install_missing()
    assert calls == []


# Colab's kernel has classes of its own, by which huggingface_hub knows it; and readers may have
# stored a token there, which the rehearsal Hub of 05 must never be sent.
STUB = {
    "google/colab/__init__.py": "",
    "google/colab/_kernel.py": (
        "from ipykernel.ipkernel import IPythonKernel\n"
        "from ipykernel.zmqshell import ZMQInteractiveShell\n"
        "from traitlets import Type\n"
        "Shell = type('Shell', (ZMQInteractiveShell,), {'__module__': 'google.colab._shell'})\n"
        "class Kernel(IPythonKernel):\n"
        "    shell_class = Type(Shell)\n"
    ),
    "google/colab/errors.py": "class Error(Exception): pass\n",
    "google/colab/userdata.py": (
        "class SecretNotFoundError(Exception): pass\n"
        "class NotebookAccessError(Exception): pass\n"
        "def get(name): return 'the-token-of-the-reader'\n"
    ),
}
KERNEL = "c = get_config()\nc.IPKernelApp.kernel_class = 'google.colab._kernel.Kernel'\n"
# Runs in Colab's environment, with Colab's nbclient.
EXECUTE = """
import os, sys, time
import nbformat
from nbclient import NotebookClient

class Client(NotebookClient):
    def process_message(self, msg, cell, cell_index):
        if msg["msg_type"] == "stream" and msg["content"]["name"] == "stderr":
            print("   ", msg["content"]["text"].strip()[:200], flush=True)
        return super().process_message(msg, cell, cell_index)

def say(cell, cell_index, **_):
    if cell.cell_type == "code":
        first = cell.source.strip().splitlines()[0]
        print(f"  {time.monotonic() - started:4.0f} s  cell {cell_index}: {first[:70]}", flush=True)

source, target = sys.argv[1:]
notebook = nbformat.read(source, 4)
for cell in notebook.cells:
    if cell.cell_type == "code":
        cell.update(execution_count=None, outputs=[])
started = time.monotonic()
folder = {"metadata": {"path": os.path.dirname(source)}}
client = Client(notebook, timeout=3600, kernel_name="python3", resources=folder, on_cell_start=say)
try:
    client.execute()
finally:
    nbformat.write(notebook, target)
"""


@pytest.fixture
def content():
    """Colab's /content, which the first cell clones into: made here, and removed."""
    folder = Path("/content")
    if (folder / "tutorial").exists():
        pytest.skip("/content/tutorial is there already, and this test would overwrite it")
    made = not folder.exists()
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        pytest.skip(f"the first cell clones into /content, which can't be made here: {error}")
    if not os.access(folder, os.W_OK):
        pytest.skip("the first cell clones into /content, which this user may not write to")
    yield folder
    shutil.rmtree(folder / "tutorial", ignore_errors=True)
    if made:
        folder.rmdir()


@pytest.fixture
def origin(tmp_path):
    """A git repository of the working tree as it is now, uncommitted changes included."""
    folder = tmp_path / "origin"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "gc.auto=0"]
    ref = re.search(r'^ref = "(.*)"', (ROOT / "pyproject.toml").read_text(), flags=re.M).group(1)
    subprocess.run([*git, "init", "--quiet", "-b", ref], cwd=folder, check=True)
    subprocess.run([*git, "add", "--all", "--force"], cwd=folder, check=True)
    subprocess.run([*git, "commit", "--quiet", "-m", "as it is now"], cwd=folder, check=True)
    return folder


def pip(*words: str) -> str:
    command = [ROOT / VENV / "bin" / "python", "-m", "pip", "--disable-pip-version-check", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.mark.skipif(not VENV, reason="minutes for each notebook: make test-colab runs it")
@pytest.mark.parametrize("stem", artifacts.WRITES)
def test_opened_alone_on_colab(stem, tmp_path, content, origin):
    repo = re.search(r'^repo = "(.*)"', (ROOT / "pyproject.toml").read_text(), flags=re.M).group(1)
    packages = next((ROOT / VENV / "lib").glob("python*/site-packages"))
    for name, text in STUB.items():
        (packages / name).parent.mkdir(parents=True, exist_ok=True)
        (packages / name).write_text(text)
    (ROOT / VENV / "etc" / "ipython").mkdir(parents=True, exist_ok=True)
    (ROOT / VENV / "etc" / "ipython" / "ipython_config.py").write_text(KERNEL)
    pip("uninstall", "--quiet", "--yes", *(split(pin)[0] for pin in colab.LACKING.values()))
    before = set(pip("freeze").splitlines())

    (tmp_path / "gitconfig").write_text(
        f'[url "{origin.as_uri()}"]\n\tinsteadOf = https://github.com/{repo}\n'
    )
    opened, home = tmp_path / "opened", tmp_path / "home"
    opened.mkdir()
    home.mkdir()
    shutil.copy(ROOT / "notebooks" / f"{stem}.ipynb", opened)
    kept = {key: value for key, value in os.environ.items() if key.startswith(("PIP_", "SSL_"))}
    clean = kept | {
        "PATH": f"{ROOT / VENV / 'bin'}:{os.environ['PATH']}",
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "GIT_CONFIG_GLOBAL": str(tmp_path / "gitconfig"),
        "GIT_TERMINAL_PROMPT": "0",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",  # a debugger's warnings, of no use here
        "CUDA_VISIBLE_DEVICES": "",  # a runtime without a GPU: the profile is `sample` by itself
    }
    command = [ROOT / VENV / "bin" / "python", "-c", EXECUTE, opened / f"{stem}.ipynb"]
    print(f"\n{stem}, opened alone:", flush=True)
    started = time.monotonic()
    answer = subprocess.run([*command, tmp_path / "executed.ipynb"], env=clean, cwd=opened)
    print(f"{stem}: {time.monotonic() - started:.0f} s", flush=True)
    assert answer.returncode == 0

    executed = json.loads((tmp_path / "executed.ipynb").read_text(encoding="utf-8"))
    cells = [cell for cell in executed["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert "with the profile sample" in json.dumps(cells[0]["outputs"])
    assert [path.name for path in opened.iterdir()] == [f"{stem}.ipynb"]
    for name in artifacts.READS[stem] + artifacts.WRITES[stem]:
        assert (content / "tutorial" / "artifacts" / "sample" / name).is_dir()
    assert set(pip("freeze").splitlines()) - before == set(colab.LACKING.values())
    assert before - set(pip("freeze").splitlines()) == set()
