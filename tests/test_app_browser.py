"""The app in a real browser: the server as a reader starts it, Chromium as they open it."""

import contextlib
import csv
import io
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
from test_app import CARD, SPACE, tiny_model

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WHY = "needs the package playwright and Chromium at /usr/bin/chromium: see `make browser`"
playwright = pytest.importorskip("playwright.sync_api", reason=WHY)
pytestmark = pytest.mark.skipif(not os.path.exists(CHROMIUM), reason=WHY)


@contextlib.contextmanager
def serving(model, log):
    """The app on a free port of 127.0.0.1, serving `model`; yields its address."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    flags = f"--server.port {port} --server.address 127.0.0.1 --server.headless true"
    flags += " --server.fileWatcherType none"
    environment = os.environ | {"MODEL_ID": str(model)}
    environment |= {"STREAMLIT_BROWSER_GATHER_USAGE_STATS": "false"}
    environment.pop("MODEL_REVISION", None)
    with open(log, "w") as output:
        server = subprocess.Popen(
            [sys.executable, SPACE / "serve.py", *flags.split()],
            env=environment,
            stdout=output,
            stderr=output,
        )
    try:
        for _ in range(600):
            with contextlib.suppress(urllib.error.URLError, ConnectionError):
                urllib.request.urlopen(f"{address}/_stcore/health", timeout=2)
                break
            time.sleep(0.1)
        else:
            raise RuntimeError(log.read_text()[-2000:])
        yield address
    finally:
        server.terminate()
        server.wait(10)


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tiny_model(tmp_path_factory.mktemp("model"), seed=1)
    (folder / "README.md").write_text(CARD)
    model = os.environ.get("TUTORIAL_APP_MODEL", folder)  # to look at a real one
    with serving(model, tmp_path_factory.mktemp("log") / "server.txt") as address:
        yield address


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser, address):
    """The app's page; at the end, that nothing was complained of or asked of another host."""
    page = browser.new_page(viewport={"width": 1000, "height": 1100})
    page.set_default_timeout(60_000)
    complaints, hosts = [], set()
    page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: hosts.add(request.url.split("/")[2]))
    page.on("websocket", lambda socket: hosts.add(socket.url.split("/")[2]))
    page.goto(address)
    page.get_by_role("heading", name="Sentiment of a film review").wait_for()
    page.get_by_role("textbox", name="A review, in English").wait_for()
    yield page
    page.close()
    assert complaints == []
    assert {host for host in hosts if host} == {address.removeprefix("http://")}


@pytest.fixture
def shot(page, request):
    """Take pictures of the page into the folder TUTORIAL_SHOTS, where that is set."""

    def take(name):
        folder = os.environ.get("TUTORIAL_SHOTS")
        if folder:
            page.wait_for_timeout(600)  # animations
            page.screenshot(path=f"{folder}/{name}.png", full_page=True)

    return take


def classify(page, text):
    page.get_by_role("textbox", name="A review, in English").fill(text)
    page.get_by_role("button", name="Classify").click()
    page.get_by_text("Marked are the words").or_(page.get_by_text("Words are marked in")).wait_for()


def upload(page, content, folder):
    (folder / "reviews.csv").write_bytes(content)
    page.get_by_role("tab", name="Many reviews").click()
    page.locator("input[type=file]").set_input_files(folder / "reviews.csv")


def test_one_review(page, shot):
    classify(page, "Tender, funny and beautifully acted, if a little slow.")
    assert page.get_by_role("heading", level=3).inner_text().split(",")[0].lower() in (
        "positive",
        "negative",
        "not sure",
    )
    assert page.get_by_role("img", name=re.compile("probability of positive")).is_visible()
    assert page.locator("span[title]").count() >= 1
    page.get_by_text("test accuracy 0.92").wait_for()
    shot("one")


def test_an_example(page):
    page.get_by_role("button", name="A negation").click()
    page.get_by_text("Marked are the words").wait_for()
    box = page.get_by_role("textbox", name="A review, in English")
    assert "Not a single scene" in box.input_value()


def test_a_long_review(page, shot):
    classify(page, "The first hour drags a little. " * 250 + "Then it soars.")
    page.get_by_text(re.compile("average over \\d+ windows")).wait_for()
    shot("long")


def test_a_review_is_text_and_runs_nothing(page, shot):
    page.on("dialog", lambda dialog: pytest.fail(f"a dialog opened: {dialog.message}"))
    text = (
        "<script>window.hit = 1</script> <img src=x onerror='window.hit = 1'> **bold** $x^2$ "
        ":smile: [link](http://example.com) ![image](http://example.com/x.png) <b>b</b> &amp;"
    )
    classify(page, text)
    shown = page.locator("div[style*='pre-wrap']")
    assert shown.inner_text() == text
    assert shown.locator("a, img, b, script").count() == 0
    assert page.evaluate("window.hit") is None
    shot("markup")


def test_a_file_of_a_thousand_reviews(page, shot, tmp_path):
    reviews = [f'Number {i}: "warm", funny,\nand {"dull " * (i % 40)}.' for i in range(1_000)]
    reviews[3], reviews[4] = "", "=1+1"
    file = io.StringIO()
    csv.writer(file).writerows([["id", "text"], *([f"{i:04}", r] for i, r in enumerate(reviews))])
    upload(page, file.getvalue().encode(), tmp_path)
    page.get_by_role("button", name="Score 1,000 reviews").click()
    page.get_by_role("progressbar").first.wait_for()
    page.get_by_role("heading", name="999 reviews scored").wait_for()
    page.get_by_text("because empty: 1 cell.").wait_for()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the scores").click()
    download.value.save_as(tmp_path / "scored.csv")
    with open(tmp_path / "scored.csv", encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [f"{i:04}" for i in range(1_000)]
    assert [row["text"] for row in rows] == [*reviews[:4], "'=1+1", *reviews[5:]]
    assert rows[3]["predicted_label"] == "not scored" and rows[3]["probability_positive"] == ""
    counts = {label: 0 for label in ("negative", "not sure", "positive")}
    for row in rows[:3] + rows[4:]:
        counts[row["predicted_label"]] += 1
        assert 0 <= float(row["probability_positive"]) <= 1
    summary = ", ".join(f"{count:,} {label}" for label, count in counts.items()) + "."
    page.get_by_text(summary, exact=True).wait_for()
    shot("thousand")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("column", b"id,![x](http://example.com/x.png)\n1,Good.\n", "No column is called text"),
        ("empty", b"", "The file is empty"),
        ("latin", b"text\nGood.\nCaf\xe9.\n", "Line 3 is not UTF-8. Save the file as UTF-8"),
        ("large", b"text\n" + b"Rather good.\n" * 1_600_000, "20.8 MB, and at most 5 MB"),
    ],
)
def test_a_bad_file(page, shot, tmp_path, name, content, message):
    upload(page, content, tmp_path)
    page.get_by_text(message).first.wait_for(timeout=15_000)
    shot(f"bad-{name}")
    assert page.get_by_role("button", name=re.compile("^Score")).count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_window_needs_no_sideways_scrolling(page, shot, scheme):
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": 400, "height": 900})
    page.reload()
    page.get_by_role("textbox", name="A review, in English").wait_for()
    classify(page, "Gorgeous photography, but the story is dull. " + "longword" * 30)
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= 400
    shot(f"narrow-{scheme}")
