"""Settings for pytest and nbval, for `pytest --nbval notebooks/` as well as `make test`."""

import os
import shutil
import tempfile

import pytest

READS_THEM = "test_results.py"  # looks at the artifacts that the notebooks wrote


def pytest_configure(config):
    """Give the notebooks' kernels the sample profile and a fresh folder for their artifacts."""
    os.environ["TUTORIAL_PROFILE"] = "sample"
    os.environ.pop("TUTORIAL_DATA", None)
    config.tutorial_artifacts = tempfile.mkdtemp(prefix="tutorial-")
    os.environ["TUTORIAL_ARTIFACTS"] = config.tutorial_artifacts
    if hasattr(config, "workerinput"):  # threads that wait leave the core to the other worker
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
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
    """Run the notebooks in their order, then what looks at their artifacts, then the others."""
    items.sort(key=lambda item: (item.path.suffix != ".ipynb", item.path.name != READS_THEM))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Send the notebooks and what reads them to one worker, each other file to whichever is free.

    Each worker has artifacts of its own. This stands for `--dist loadgroup`, which pytest-xdist
    3.8 does not manage with pytest 9.2: it marks the groups in an attribute that is gone.
    """
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid):
            file = super()._split_scope(nodeid)
            return "notebooks" if file.endswith((".ipynb", READS_THEM)) else file

    return Scheduling(config, log)
