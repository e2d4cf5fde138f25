"""Runs notebooks without a browser: `make run`, `make refresh`, and notebooks opened cold."""

import logging
import os
import re
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError

from helpers import ROOT, TutorialError, artifacts, profiles, shown

NOTEBOOKS = ROOT / "notebooks"
ORDER = tuple(artifacts.WRITES)
SOLUTIONS = tuple(name for name in artifacts.READS if name.startswith("solutions/"))
CELL_TIMEOUT = 6 * 3600  # seconds: a full training run on a slow GPU fits
# What the Trainer's table says while it works: "[ 12/126 00:15 < 02:10, 0.9 it/s, Epoch 0.2/2]"
_BAR = re.compile(r"\[\s*(\d+)/(\d+)\s+(\d[\d:]*)\s*(?:&lt;|<)\s*(\d[\d:]*)")


_CACHES = {
    "HF_DATASETS_CACHE": "datasets",
    "HF_MODULES_CACHE": "modules",
    "MPLCONFIGDIR": "matplotlib",
    "IPYTHONDIR": "ipython",
    "JUPYTER_RUNTIME_DIR": "jupyter",
}


class _Client(NotebookClient):
    """A client that passes a notebook's warnings and its training progress on to the terminal."""

    _shown = 0.0  # when a line of training progress was last printed, in seconds
    _busy = False
    interrupted = False

    async def async_execute_cell(self, *args, **kwargs):
        self._busy = True
        try:
            return await super().async_execute_cell(*args, **kwargs)
        finally:
            self._busy = False

    async def _async_cleanup_kernel(self) -> None:
        # On Ctrl-C nbclient stops the kernel at once, and a second time when that ends the cell.
        self.interrupted |= self._busy
        if self.km is not None:
            await super()._async_cleanup_kernel()

    def process_message(self, msg, cell, cell_index):
        content = msg["content"]
        text = content.get("text", "").strip() if content.get("name") == "stderr" else ""
        if text and "[transformers]" not in text:  # its notices stay in the executed copy
            print(text, file=sys.stderr, flush=True)
        bar = _BAR.search(content.get("data", {}).get("text/html", ""))
        if bar and time.monotonic() - self._shown > 10:
            self._shown = time.monotonic()
            step, steps, gone, left = bar.groups()
            print(
                f"    step {step} of {steps}, {gone} gone, {left} left", file=sys.stderr, flush=True
            )
        return super().process_message(msg, cell, cell_index)


def environment() -> dict[str, str]:
    """Variables for the kernels: quiet progress bars, and caches that stay inside `artifacts/`."""
    variables = {"TUTORIAL_PROFILE": profiles.current().name}
    if profiles.current().name == "sample":
        variables |= quiet() | {"OMP_NUM_THREADS": "2"}
        for variable, name in _CACHES.items():
            cache = artifacts.folder().parent / ".cache" / name
            cache.mkdir(parents=True, exist_ok=True)
            variables[variable] = str(cache)
    return variables


def quiet() -> dict[str, str]:
    """Variables that keep progress bars and warnings about terminals out of stored outputs."""
    return {
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }


def run(stems, store: str | None = None) -> None:
    """Execute notebooks in order, each in a fresh kernel.

    Parameters
    ----------
    stems : sequence of str
        Names such as `03_training`.
    store : {None, "artifacts", "notebooks"}
        Where the executed notebook goes: nowhere, under the profile's artifacts, or in place of
        the original.

    Raises
    ------
    TutorialError
        If a cell fails; the message names the notebook, the cell and the error.
    """
    before = dict(os.environ)
    os.environ.update(environment())
    try:
        started = time.monotonic()
        profile = profiles.current()
        for position, stem in enumerate(stems):
            left = profiles.minutes(stems[position:], profile)
            gone = time.monotonic() - started
            print(
                f"[{position + 1}/{len(stems)}] {stem} ({gone / 60:.1f} min gone, about "
                f"{max(1, round(left))} min left)",
                file=sys.stderr,
                flush=True,
            )
            _execute(NOTEBOOKS / f"{stem}.ipynb", store)
    finally:
        os.environ.clear()
        os.environ.update(before)


def _execute(path: Path, store: str | None) -> None:
    notebook = nbformat.read(path, as_version=4)
    code_cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell in code_cells:
        cell.update(execution_count=None, outputs=[])
    client = _Client(
        notebook,
        timeout=CELL_TIMEOUT,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        store_widget_state=False,
        extra_arguments=["--log-level=CRITICAL"],  # or each kernel warns that it listens on TCP
        resources={"metadata": {"path": str(path.parent)}},
    )
    try:
        try:
            client.execute()
        except Exception:  # which one depends on what nbclient waited for when the kernel went
            if not client.interrupted:
                raise
            logging.getLogger("asyncio").disabled = True  # nbclient's other tasks end with errors
            raise KeyboardInterrupt from None
    except CellExecutionError as error:
        detail = (
            error.evalue if error.ename == "TutorialError" else f"{error.ename}: {error.evalue}"
        )
        count = max((cell.execution_count or 0) for cell in code_cells)
        raise TutorialError(f"{path.name} stopped in its code cell {count}. {detail}") from None
    except DeadKernelError:
        raise TutorialError(
            f"{path.name}: the kernel died, most likely for want of memory. Close other programs, "
            "or set TUTORIAL_PROFILE=sample."
        ) from None
    if store == "notebooks":
        notebook.metadata.pop("widgets", None)
        notebook.metadata["language_info"] = {"name": "python"}
        for cell in code_cells:  # warnings and progress bars differ from run to run
            cell.outputs = [out for out in cell.outputs if out.get("name") != "stderr"]
        nbformat.write(notebook, path)
    elif store == "artifacts":
        target = artifacts.folder() / "notebooks" / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, target)
        print(f"    executed copy: {shown(target)}", file=sys.stderr, flush=True)
