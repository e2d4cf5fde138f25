"""What the notebooks lean on: one module for each notebook's plumbing, and a few they share.

Shared: `profiles` (sizes and devices), `artifacts` (files handed from notebook to notebook),
`ledger` (results), `checkpoint` (the pretrained weights), `plots`, `series` (runs notebooks).
Importing `helpers` loads none of them.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


class TutorialError(Exception):
    """A mistake the reader can mend: the message names the thing and says what to do.

    Jupyter shows the message alone, without the traceback that would bury it.
    """

    def _render_traceback_(self) -> list[str]:
        return [f"{type(self).__name__}: {self}"]


def shown(path) -> str:
    """`path` as messages print it: relative to the project where it lies inside it."""
    path = Path(path).resolve()
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else str(path)
