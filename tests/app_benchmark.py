"""Times the app with a model: `python tests/app_benchmark.py FOLDER`.

Prints the times of the scoring itself, and those that a reader sees in the browser: from the start
of the server to the first answer, and from a click to each later one. Nothing is judged.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from test_app_browser import ARGUMENTS, CHROMIUM, playwright, serving

REPETITIONS = 30
REVIEW = "Take {}: tender, funny and beautifully acted, if a little slow."


def report(name: str, seconds: list[float]) -> None:
    middle, late = 1000 * np.quantile(seconds, [0.5, 0.95])
    print(f"{name}: median {middle:.0f} ms, 95th percentile {late:.0f} ms ({len(seconds)} times)")


def timed(call, *arguments) -> float:
    start = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - start


def without_browser(model: str) -> None:
    from scoring import Classifier

    start = time.perf_counter()
    classifier = Classifier(model)
    classifier.explain(REVIEW)
    print(f"model loaded and warm after {time.perf_counter() - start:.1f} s")
    reviews = [REVIEW.format(i) for i in range(REPETITIONS)]
    report("score", [timed(classifier.score, [review]) for review in reviews])
    report("explain", [timed(classifier.explain, review) for review in reviews])
    many = [REVIEW.format(i) for i in range(1_000)]
    print(f"1,000 short reviews: {timed(classifier.score, many):.1f} s")


def in_browser(model: str) -> None:
    def classify(number):
        page.get_by_role("textbox", name="A review, in English").fill(REVIEW.format(number))
        page.get_by_role("button", name="Classify").click()
        shown = page.locator("div[style*='pre-wrap']", has_text=f"Take {number}:")
        shown.wait_for()  # the marked review is the last thing to appear

    with tempfile.TemporaryDirectory() as folder, playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = browser.new_page()
        start = time.perf_counter()
        with serving(model, Path(folder, "server.txt")) as address:
            print(f"server ready after {time.perf_counter() - start:.1f} s")
            page.goto(address)
            page.get_by_role("textbox", name="A review, in English").wait_for()
            print(f"page ready after {time.perf_counter() - start:.1f} s")
            classify(-1)
            print(f"first prediction after {time.perf_counter() - start:.1f} s")
            times = [timed(classify, number) for number in range(REPETITIONS)]
            report("click to marked review", times)
        browser.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", help="a released model: artifacts/sample/release, after make run")
    folder = parser.parse_args().folder
    without_browser(folder)
    in_browser(folder)
