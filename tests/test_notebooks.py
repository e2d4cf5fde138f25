"""What nbval does not check: that notebooks were run, are clean, and are built as the house asks."""

import ast
import json
import os
import re
import statistics
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from helpers import artifacts, profiles

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
ALL = [*NOTEBOOKS, *sorted(FOLDER.glob("solutions/*.ipynb"))]


def load(path):
    return json.loads(path.read_text(encoding="utf-8"))


def code_cells(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def source(cell):
    return "".join(cell["source"])


def problems(notebook: dict) -> list[str]:
    """Everything that is wrong with a notebook as it is stored."""
    found = []
    cells = code_cells(notebook)
    if [cell["execution_count"] for cell in cells] != list(range(1, len(cells) + 1)):
        found.append("not run from top to bottom")
    if not any(cell["outputs"] for cell in cells):
        found.append("outputs stripped")
    if "widgets" in notebook["metadata"]:
        found.append("metadata.widgets")
    for number, cell in enumerate(cells, start=1):
        outputs = json.dumps(cell["outputs"])
        if any(output["output_type"] == "error" for output in cell["outputs"]):
            found.append(f"cell {number}: an error")
        if re.search(r"(?<![\w/.:])/(work|root|tmp|home|Users)/\w", outputs):
            found.append(f"cell {number}: a path of some machine")
        if re.search(r"hf_[A-Za-z0-9]{20,}", outputs + source(cell)):
            found.append(f"cell {number}: a token")
        if len(source(cell).splitlines()) > 20:
            found.append(f"cell {number}: more than 20 lines")
        if cell["metadata"].get("execution"):
            found.append(f"cell {number}: timing metadata")
    return found


def name(path):
    return path.relative_to(FOLDER).with_suffix("").as_posix()


@pytest.mark.parametrize("path", ALL, ids=name)
def test_stored_as_run(path):
    assert problems(load(path)) == []


def test_every_fault_is_found():
    good = load(NOTEBOOKS[0])
    for spoil, name in (
        (lambda cell: cell.update(execution_count=None), "not run"),
        (lambda cell: cell.update(outputs=[{"output_type": "error"}]), "an error"),
        (lambda cell: cell.update(source=["hf_" + "a" * 24]), "a token"),
        (lambda cell: cell.update(source=["x\n"] * 21), "20 lines"),
        (
            lambda cell: cell.update(outputs=[{"output_type": "stream", "text": " /home/me"}]),
            "path",
        ),
    ):
        notebook = json.loads(json.dumps(good))
        spoil(code_cells(notebook)[0])
        assert any(name in problem for problem in problems(notebook)), name
    for cell in code_cells(good):
        cell["outputs"] = []
    assert "outputs stripped" in problems(good)


def test_cells_with_outputs_kept_them():
    """A cell that prints must have its outputs stored, or nbval would compare nothing with it."""
    for path in ALL:
        for cell in code_cells(load(path)):
            shows = re.search(r"^(print\(|plt\.show\(\))", source(cell), flags=re.M)
            assert cell["outputs"] or not shows, f"{path.name}: {source(cell)[:60]}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_opens_with_aims_and_closes_with_findings(path):
    notebook = load(path)
    opening = source(notebook["cells"][0])
    for part in (
        "in this notebook you will",
        "**you need**",
        "**minutes:**",
        "**reads:**",
        "**writes:**",
    ):
        assert part in opening.lower(), part
    headings = [source(cell) for cell in notebook["cells"] if cell["cell_type"] == "markdown"]
    assert any("## What we found" in text for text in headings)
    assert any("## Exercises" in text for text in headings)
    last_code = code_cells(notebook)[-1]
    assert last_code["outputs"], "the closing must print its numbers"


def test_first_cells_agree_apart_from_the_name():
    cells = {source(code_cells(load(path))[0]).replace(name(path), "NAME") for path in ALL}
    assert len(cells) == 1
    assert f'"{NOTEBOOKS[0].stem}"' in source(code_cells(load(NOTEBOOKS[0]))[0])


@pytest.mark.parametrize("path", ALL, ids=name)
def test_nothing_but_the_project_comes_before_the_installed_packages(path, monkeypatch):
    """A reader's own attr.py in the folder that they cloned into would stand for a package."""
    line = re.search(r"^sys\.path.*$", source(code_cells(load(path))[0]), flags=re.M).group()
    found = SimpleNamespace(path=[])
    monkeypatch.chdir(path.parent)
    exec(line, {"os": os, "sys": found})
    assert found.path == [str(FOLDER.parent)]


def test_every_notebook_is_in_the_series():
    assert tuple(path.stem for path in NOTEBOOKS) == tuple(artifacts.WRITES)
    assert tuple(map(name, ALL)) == tuple(artifacts.READS)


SCORERS = {
    "window_logits",
    "answer",
    "attribute",
    "moves",
    "extract",
    "model",
    "predict",
    "pipeline",
}


def passes_over_test(notebook: dict) -> Counter:
    """How often each scoring function is called on the test split's reviews."""
    code = "\n".join(source(cell) for cell in code_cells(notebook))
    found = Counter()
    for call in ast.walk(ast.parse(code)):
        if isinstance(call, ast.Call):
            name = getattr(call.func, "id", getattr(call.func, "attr", None))
            used = {node.id for arg in call.args for node in ast.walk(arg) if hasattr(node, "id")}
            found[name] += name in SCORERS and bool(used & {"test", "texts", "frame"})
    return +found


def test_the_test_split_is_scored_once():
    notebook = load(FOLDER / "04_evaluation.ipynb")
    assert passes_over_test(notebook) == {"window_logits": 1, "extract": 1, "predict": 1}
    code_cells(notebook)[-1]["source"] = "again = answer(texts[:10])"
    assert passes_over_test(notebook)["answer"] == 1


def test_median_cell_is_short():
    cells = [cell for path in NOTEBOOKS for cell in code_cells(load(path))]
    lengths = [sum(bool(line.strip()) for line in source(cell).splitlines()) for cell in cells]
    assert statistics.median(lengths) <= 6


def test_badges_point_at_their_own_notebook():
    badges = (FOLDER.parent / "colab_badges.md").read_text(encoding="utf-8")
    settings = (FOLDER.parent / "pyproject.toml").read_text(encoding="utf-8")
    repo = re.search(r'^repo = "(.*)"', settings, flags=re.M).group(1)
    ref = re.search(r'^ref = "(.*)"', settings, flags=re.M).group(1)
    for path in ALL:
        link = "https://colab.research.google.com/github/"
        link += f"{repo}/blob/{ref}/notebooks/{name(path)}.ipynb"
        assert f"({link})" in source(load(path)["cells"][0])
        assert f"({link})" in badges
        assert f'REPO, REF = "{repo}", "{ref}"' in source(code_cells(load(path))[0])


WORDS_A_MINUTE = 130  # of somebody who reads to a class


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_the_minutes_are_those_of_reading_aloud(path):
    """Prose, code and outputs read out, half a minute for a figure, and the running time."""
    words, figures = 0, 0
    cells = [c for c in load(path)["cells"] if "exercise" not in c["metadata"].get("tags", [])]
    for cell in cells:
        spoken = r"[A-Za-z_]\w+" if cell["cell_type"] == "code" else r"\S+"
        words += len(re.findall(spoken, source(cell)))
        for output in cell.get("outputs", []):
            shown = output.get("text") or output.get("data", {}).get("text/plain", [])
            words += len("".join(shown).split())
            figures += "image/png" in output.get("data", {})
    aloud = words / WORDS_A_MINUTE + figures / 2 + profiles.MINUTES[path.stem]["sample"]
    stated = int(re.search(r"\*\*Minutes:\*\* (\d+) teaching", source(cells[0])).group(1))
    assert aloud / 1.25 <= stated <= aloud * 1.25, f"{aloud:.1f} minutes"


def test_the_instructors_minutes_are_those_of_the_notebooks():
    page = (FOLDER.parent / "INSTRUCTORS.md").read_text(encoding="utf-8")
    sums = [0, 0]
    for path in NOTEBOOKS:
        stated = re.search(
            r"\*\*Minutes:\*\* (\d+) teaching, (\d+) exercises", source(load(path)["cells"][0])
        )
        teaching, exercises = (int(minutes) for minutes in stated.groups())
        if path.stem.startswith("06"):  # in the afternoon of the full day
            assert f"| {path.stem}, with its exercises | {teaching + exercises} |" in page
        else:
            assert f"| {path.stem} | {teaching} | {exercises} |" in page
            sums = [sums[0] + teaching, sums[1] + exercises]
        text = "".join(source(cell) for cell in load(path)["cells"])
        asked = [int(found) for found in re.findall(r"\*\((\d+) minutes, ", text)]
        assert sum(asked) == exercises, path.stem
    assert f"| **sum** | **{sums[0]}** | **{sums[1]}** |" in page
    assert f"{sum(sums) + 20} minutes" in page and f"The same {sum(sums)} minutes" in page


def test_the_running_times_are_those_that_the_notebooks_announce():
    page = (FOLDER.parent / "INSTRUCTORS.md").read_text(encoding="utf-8")
    for stem, minutes in profiles.MINUTES.items():
        row = re.search(
            rf"^\| {stem} \| (\S+) \| not yet measured \| not yet measured \|$", page, re.M
        )
        assert float(row[1]) == minutes["sample"]
    quick, full = (
        sum(minutes[name] for minutes in profiles.MINUTES.values()) for name in ("quick", "full")
    )
    assert f"about {quick} minutes with `quick` and {full} with `full`, are estimates" in page
