"""Settings for pytest and nbval, for `pytest --nbval notebooks/` as well as `make test`."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest


def pytest_configure(config):
    """Give the notebooks' kernels the sample profile and a fresh folder for their artifacts."""
    os.environ["TUTORIAL_PROFILE"] = "sample"
    os.environ.pop("TUTORIAL_DATA", None)
    config.tutorial_artifacts = tempfile.mkdtemp(prefix="tutorial-")
    os.environ["TUTORIAL_ARTIFACTS"] = config.tutorial_artifacts
    from helpers import series

    os.environ |= series.environment()


def pytest_unconfigure(config):
    """Remove the artifacts of this test run."""
    shutil.rmtree(config.tutorial_artifacts, ignore_errors=True)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Draw figures in the notebooks: importing streamlit in a test turns that off."""
    if item.path.suffix == ".ipynb":
        os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"


def pytest_collectstart(collector):
    """Compare progress and tables drawn in HTML by their presence only: they hold times."""
    if hasattr(collector, "skip_compare"):
        collector.skip_compare += ("stderr", "text/html", "image/svg+xml")


def pytest_collection_modifyitems(items):
    """Run the notebooks in their order, before the tests that look at what they wrote."""
    ledger_last = Path(__file__).parent / "tests" / "test_results.py"
    items.sort(key=lambda item: item.path == ledger_last)
