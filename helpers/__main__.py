"""`python -m helpers COMMAND`: what the Makefile calls, and what a reader does at a terminal."""

import argparse
import os
import re
import sys
import tempfile
from pathlib import Path

from helpers import ROOT, TutorialError, shown


def run() -> None:
    """Execute the series and print its results."""
    from helpers import artifacts, ledger, profiles, series

    series.run(series.ORDER, store="artifacts")
    print(f"\nResults with the profile {profiles.current().name} ({profiles.current().source}):\n")
    print(ledger.table("validation").to_string(), end="\n\n")
    print(ledger.table("test").to_string(), end="\n\n")
    print(
        f"The model lies in {shown(artifacts.path('model'))}, the ledger in {shown(ledger.path())}."
    )


def refresh() -> None:
    """Re-execute the notebooks, store their outputs, and rewrite README's results table."""
    from helpers import ledger, series

    # From nothing, as nbval runs them: an older ledger's rows would show in the tables.
    with tempfile.TemporaryDirectory() as fresh:
        os.environ["TUTORIAL_ARTIFACTS"] = fresh
        series.run(series.ORDER + series.SOLUTIONS, store="notebooks")
        table = f"<!-- results -->\n{ledger.markdown('test')}\n<!-- /results -->"
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    text = re.sub(r"<!-- results -->.*?<!-- /results -->", lambda _: table, text, flags=re.S)
    readme.write_text(text, encoding="utf-8")


def hub(port: int) -> None:
    """Serve a rehearsal Hub until interrupted."""
    from helpers import artifacts, local_hub

    local_hub.serve(artifacts.folder() / "hub", port)


def badges(repo: str, ref: str) -> None:
    """Write the badges, their list, and the repository into the notebooks' first cells."""
    from helpers import colab

    colab.write_badges(repo, ref)


def exercises() -> None:
    """Copy the exercises of notebooks/solutions into the notebooks, unsolved."""
    from helpers import exercises

    exercises.write_stubs()


def preflight(prefetch: bool) -> int:
    """Check whether this machine is ready for the series."""
    from helpers import preflight

    return 0 if preflight.preflight(prefetch) else 1


def reset() -> None:
    """Remove what the series made, so that it starts over."""
    from helpers import preflight

    preflight.reset()


def score(
    reviews: Path,
    out: Path,
    model: str | None,
    revision: str | None,
    batch_size: int | None,
    int8: bool,
) -> None:
    """Score a file of reviews, of any size."""
    from helpers import inference

    print(inference.score_file(reviews, out, model, revision, batch_size, int8))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m helpers", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("run", help=run.__doc__)
    commands.add_parser("refresh", help=refresh.__doc__)
    commands.add_parser("exercises", help=exercises.__doc__)
    commands.add_parser("reset", help=reset.__doc__)
    check = commands.add_parser("preflight", help=preflight.__doc__)
    check.add_argument(
        "--prefetch", action="store_true", help="fetch data, checkpoint and metrics too"
    )
    server = commands.add_parser("hub", help=hub.__doc__)
    server.add_argument("--port", type=int, default=0, help="0 takes any free port")
    badge = commands.add_parser("badges", help=badges.__doc__)
    badge.add_argument("--repo", required=True, help="owner/name")
    badge.add_argument("--ref", required=True, help="branch, tag or commit")
    scoring = commands.add_parser("score", help=score.__doc__, description=score.__doc__)
    scoring.add_argument("reviews", type=Path, help="a CSV, JSON Lines or Parquet file")
    scoring.add_argument("--out", type=Path, required=True, help=".csv, .jsonl or .parquet")
    scoring.add_argument("--model", help="a folder or a Hub id; by default what the series made")
    scoring.add_argument("--revision", help="a commit, branch or tag of the model on the Hub")
    scoring.add_argument("--batch-size", type=int, metavar="N", help="reviews scored together")
    scoring.add_argument(
        "--int8",
        action="store_true",
        help="with the 8-bit model of 06_faster_inference",
    )
    arguments = vars(parser.parse_args())
    command = arguments.pop("command")
    try:
        return globals()[command](**arguments) or 0
    except TutorialError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        if command == "hub":  # which has no other end
            return 0
        again = "goes on where it stopped" if command == "score" else "starts over"
        print(f"\nInterrupted. No file is half written: the same command {again}.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
