"""The Streamlit app without a browser, on a tiny model with the labels of ours, and its Space."""

import contextlib
import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request

import numpy as np
import onnx
import pytest
import torch
from streamlit.testing.v1 import AppTest
from transformers import AutoTokenizer, DistilBertConfig, DistilBertForSequenceClassification

from helpers import ROOT, checkpoint, inference, local_hub

SPACE = ROOT / "helpers" / "space"
sys.path.insert(0, str(SPACE))  # as `streamlit run` does with the folder of its script

import scoring  # noqa: E402
import tables  # noqa: E402

CARD = """---
model-index:
- name: m
  results:
  - task: {type: text-classification}
    dataset: {name: invented reviews, type: invented}
    metrics:
    - {type: accuracy, value: 0.9217}
---
Accuracy 0.92, 95 % interval 0.90 to 0.94, on 600 test reviews.
"""


def tiny_model(folder, seed=None):
    """A tiny model in `folder`: random where a seed is given, else it calls all positive (0.88)."""
    checkpoint.lay_into_distilbert(checkpoint.minilm_files(), folder)  # for its tokenizer
    (folder / "model.safetensors").unlink()
    labels = {0: "negative", 1: "positive"}
    torch.manual_seed(seed or 0)
    tiny = DistilBertConfig(
        dim=32,
        hidden_dim=64,
        n_layers=1,
        n_heads=2,
        id2label=labels,
        label2id={name: i for i, name in labels.items()},
    )
    network = DistilBertForSequenceClassification(tiny)
    if seed is None:
        network.classifier.weight.data.zero_()
        network.classifier.bias.data[:] = torch.tensor([0.0, 2.0])
    else:
        for name, weight in network.named_parameters():
            if weight.ndim == 2 and "embeddings" not in name:
                weight.data.normal_(0, 0.5)
    network.save_pretrained(folder)
    (folder / "onnx").mkdir()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    inference.export_onnx(network, tokenizer, folder / "onnx" / "model.onnx")
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def random_model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("random"), seed=1)


@pytest.fixture
def changed(model, tmp_path):
    """A copy of the model with another bias, settings in its configuration, or a card."""

    def change(bias=2.0, card=None, **settings):
        folder = tmp_path / "changed"
        shutil.copytree(model, folder)
        file = folder / "onnx" / "model.onnx"
        exported = onnx.load(file)
        weights = {weight.name: weight for weight in exported.graph.initializer}
        values = np.array([0.0, bias], dtype=np.float32)
        weights["model.classifier.bias"].CopyFrom(
            onnx.numpy_helper.from_array(values, "model.classifier.bias")
        )
        onnx.save(exported, file)
        config = json.loads((folder / "config.json").read_text()) | settings
        (folder / "config.json").write_text(json.dumps(config))
        if card:
            (folder / "README.md").write_text(card)
        return folder

    return change


@pytest.fixture
def serve(monkeypatch):
    def start(folder):
        monkeypatch.setenv("MODEL_ID", str(folder))
        monkeypatch.delenv("MODEL_REVISION", raising=False)
        app = AppTest.from_file(str(SPACE / "app.py"), default_timeout=60).run()
        assert not app.exception
        return app

    return start


@pytest.fixture
def app(serve, model):
    return serve(model)


def review(app, text):
    app.text_area(key="review").set_value(text).run()
    assert not app.exception
    return app


def upload(app, content, name="reviews.csv"):
    app.file_uploader[0].set_value((name, content, "text/csv")).run()
    assert not app.exception
    return app


def press(app, label):
    next(button for button in app.button if button.label.startswith(label)).click().run()
    assert not app.exception
    return app


def html(app):
    return "".join(element.value for element in app.get("html"))


# One review


def test_classifies_a_review(app):
    review(app, "A warm film.")
    assert app.subheader[0].value == "Positive"
    assert app.markdown[0].value == "Probability of positive: 88 %"
    assert not app.info and not app.warning


def test_an_example_is_one_click(app):
    press(app, "A plain one")
    assert "Tender" in app.text_area(key="review").value
    assert app.subheader[0].value == "Positive"


def test_empty_review(app):
    press(app, "Classify")
    assert "Write or paste" in app.warning[0].value
    assert not app.subheader


def test_a_long_review_is_read_in_windows(app):
    review(app, "word " * 1_200)
    assert "1,200 tokens" in app.info[0].value and "over 3 windows" in app.info[0].value
    assert not app.warning


def test_an_absurdly_long_review_says_what_was_not_read(app):
    review(app, "word " * 30_000)  # 150,000 characters
    assert "too long to be read whole" in app.warning[0].value
    assert "first 100,000 characters" in app.warning[0].value


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", "<b>$x$</b> :smile: [a](b) &amp;"])
def test_a_review_is_shown_as_text(app, text):
    review(app, text + " \x00 ツ")
    shown = re.sub(r"<[^>]*>", "", html(app))
    assert "<script" not in html(app) and "<b>" not in html(app)
    assert text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") in shown
    assert not any(text in element.value for element in [*app.markdown, *app.caption])


def test_marks_differ_without_colour(serve, random_model):
    app = review(
        serve(random_model), "Gorgeous photography, but the story is so dull I nodded off."
    )
    styles = set(re.findall(r'<span style="([^"]*)" title="([+-])', html(app)))
    assert len(styles) == 2  # one of each sign
    without_colour = {re.sub(r"background:[^;]*", "", style) for style, _ in styles}
    assert len(without_colour) == 2


def test_the_band_comes_from_the_model(serve, changed):
    app = review(serve(changed(bias=2.0, not_sure_below=0.9)), "A film.")
    assert app.subheader[0].value == "Not sure, perhaps positive"
    assert "Less than 90 % sure" in app.caption[0].value


def test_close_calls_are_not_sure_without_a_band_of_the_model(serve, changed):
    assert review(serve(changed(bias=0.1)), "A film.").subheader[0].value.startswith("Not sure")


def test_never_claims_certainty(serve, changed):
    app = review(serve(changed(bias=40.0)), "A film.")
    assert "over 99 %" in app.markdown[0].value


# Many reviews


def test_scores_a_file(app):
    content = '﻿id;Text;label\n007;"Good;\nreally";1\nNA;   ;0\n9;"Bad, ""so"" bad";0\n'.encode()
    upload(app, content)
    press(app, "Score 3 reviews")
    assert app.subheader[0].value == "2 reviews scored"
    assert app.markdown[0].value == "0 negative, 0 not sure, 2 positive."
    assert "because empty: 1 cell." in app.warning[0].value
    assert list(app.dataframe[0].value["predicted_label"]) == ["positive", "not scored", "positive"]
    assert app.dataframe[0].value.columns[0] == "Text"


def test_scores_a_list(app):
    app.text_area(key="list").set_value("Good.\n\nBad.\n").run()
    press(app, "Score 2 reviews")
    assert app.subheader[0].value == "2 reviews scored"


def test_other_input_takes_old_results_away(app):
    app.text_area(key="list").set_value("Good.\nBad.").run()
    press(app, "Score 2 reviews")
    app.text_area(key="list").set_value("Good.\nBad.\nOther.").run()
    assert not app.subheader


def test_a_file_and_a_list(app):
    app.text_area(key="list").set_value("Good.").run()
    upload(app, b"text\nBad.\n")
    assert "remove one" in app.error[0].value


def test_bad_input_is_shown_as_text(app):
    upload(app, b"![x](http://example.com/x.png) :smile: $a$\nGood.\n")
    assert r"\!\[x\]\(http\:\/\/example\.com\/x\.png\) \:smile\: \$a\$" in app.error[0].value


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "The file is empty"),
        (b"\xef\xbb\xbf\n", "The file is empty"),
        (b"text\n", "no rows"),
        (b'text\n""\n', "Every review is empty"),
        (b"id,body\n1,Good.\n", "the file has 'id', 'body'"),
        (b"text\nGood.\nCaf\xe9.\n", "Line 3 is not UTF-8. Save the file as UTF-8"),
        (b"PK\x03\x04rest", "Excel workbook"),
        (b"text\nGood, bad.\n", "Line 2 has 2 fields and the first line has 1"),
        (b'text,id\n"Good.,1\n', "not CSV"),
        (b"text,text\na,b\n", "same name"),
        (b"text\n" + b"Good.\n" * 10_001, "more than the 10,000"),
        (b"text\n" + b"x" * 20_000_000, "20.0 MB, and at most 5 MB"),
    ],
)
def test_unusable_files(content, message):
    with pytest.raises(tables.UnusableInput, match=re.escape(message)):
        tables.from_csv(content)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_cells_are_kept_as_they_were_written(separator):
    rows = [["id", "review", "n"], ["007", "one\ntwo", "NA"], ["-1.5", f'a{separator}"b"', ""]]
    file = io.StringIO()
    csv.writer(file, delimiter=separator).writerows(rows)
    table, column = tables.from_csv(file.getvalue().encode("utf-8-sig"))
    assert column == "review"
    again = tables.to_csv(table)[0].decode("utf-8-sig")
    assert list(csv.reader(io.StringIO(again, newline=""))) == rows


def test_a_file_s_own_columns_are_not_overwritten(app):
    upload(app, b"text,predicted_label\nGood.,mine\n")
    press(app, "Score 1 review")
    assert "predicted_label_new" in app.dataframe[0].value


def test_formulas_become_text():
    dangerous = ['=HYPERLINK("x")', "+1+cmd|x", "@SUM(1)", "- dull", "\t=1"]
    harmless = ["-1.5", "+2", "Good = bad", ""]
    table = tables.from_list("x\n" * len(dangerous + harmless))[0]
    table["text"] = dangerous + harmless
    content, made_safe = tables.to_csv(table)
    cells = [row[0] for row in csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""))]
    assert made_safe == len(dangerous)
    assert [cell for cell in cells[1:] if cell.startswith("'")] == ["'" + c for c in dangerous]


# The model


def test_batches_and_windows_give_the_score_of_one(random_model):
    classifier = scoring.Classifier(random_model)
    texts = ["short", "a longer one, " * 20, "very long " * 700, "", "ünïcode ツ", *["more"] * 40]
    shares = []
    together = classifier.score(texts, shares.append)
    alone = [classifier.score([text])[0] for text in texts]
    np.testing.assert_allclose([s.positive for s in together], [s.positive for s in alone], 1e-4)
    assert [s.windows for s in together[:3]] == [1, 1, 3]
    assert shares == sorted(shares) and shares[-1] == 1


def test_no_reviews_have_no_scores(random_model):
    assert scoring.Classifier(random_model).score([]) == []


def test_a_long_review_is_the_mean_of_its_windows(random_model):
    classifier = scoring.Classifier(random_model)
    classifier.window = 12
    words = [f"{word}" for word in ("good", "bad", "dull", "warm") for _ in range(5)]
    halves = [classifier.score([" ".join(part)])[0].positive for part in (words[:10], words[10:])]
    logit = np.mean([np.log(p / (1 - p)) for p in halves])
    whole = classifier.score([" ".join(words)])[0]
    assert whole.windows == 2 and whole.read == 1
    assert whole.positive == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-5)


@pytest.mark.parametrize("length", [128, 512])
def test_the_window_is_the_length_of_training(changed, length):
    folder = changed()
    file = folder / "tokenizer_config.json"
    settings = json.loads(file.read_text()) | {"model_max_length": length}
    file.write_text(json.dumps(settings))
    assert scoring.Classifier(folder).window == length


def test_scores_are_the_network_s(random_model):
    network = DistilBertForSequenceClassification.from_pretrained(random_model)
    tokenizer = AutoTokenizer.from_pretrained(random_model)
    texts = ["Tender, funny ünd beautifully acted; <b>not</b> dull ツ", "", "A film. " * 60]
    with torch.inference_mode():
        logits = network(**tokenizer(texts, padding=True, return_tensors="pt")).logits
    found = [score.positive for score in scoring.Classifier(random_model).score(texts)]
    np.testing.assert_allclose(found, logits.softmax(-1)[:, 1], atol=1e-5)


def counting(monkeypatch, random_model, weights):
    """A classifier whose logit is the sum of the `weights` of a review's words."""
    classifier = scoring.Classifier(random_model)

    def score(texts, progress=None):
        totals = [sum(weights.get(word.strip(".,"), 0.0) for word in t.split()) for t in texts]
        return [scoring.Score(total, len(texts), 1, 1.0) for total in totals]

    monkeypatch.setattr(classifier, "score", score)
    return classifier


def test_words_get_the_weight_they_add(monkeypatch, random_model):
    weights = {"tender": 2.0, "dull": -3.0, "nobody": -1.0}
    classifier = counting(monkeypatch, random_model, weights)
    text = "A tender film,  if a little dull. And nobody laughed <b>at</b> it ツ"
    words = classifier.explain(text)
    assert [text[start:stop] for start, stop, _ in words] == text.split()
    expected = [weights.get(word.strip(".,"), 0.0) for word in text.split()]
    np.testing.assert_allclose([weight for *_, weight in words], expected, atol=1e-6)


def test_a_clause_that_does_not_move_the_answer_weighs_nothing(monkeypatch, random_model):
    """Alone "dull" counts, and so it does in its clause; in the whole review it may not."""
    classifier = counting(monkeypatch, random_model, {"dull": -3.0, "tender": 2.0})
    known = classifier.score
    text = "So dull, so tender."
    whole = known([text])[0]

    def score(texts, progress=None):
        return [
            whole if each == "so tender." else found
            for each, found in zip(texts, known(texts), strict=True)
        ]

    monkeypatch.setattr(classifier, "score", score)
    words = dict(
        zip(text.split(), (weight for *_, weight in classifier.explain(text)), strict=True)
    )
    assert words["dull,"] == 0 and words["tender."] > 0


def test_a_negation_gets_the_weight_of_what_it_turns(monkeypatch, random_model):
    classifier = counting(monkeypatch, random_model, {"dull": -3.0})
    known = classifier.score

    def score(texts, progress=None):
        turned = [-1 if "not" in text.split() else 1 for text in texts]
        return [
            scoring.Score(sign * found.logit, 1, 1, 1.0)
            for sign, found in zip(turned, known(texts), strict=True)
        ]

    monkeypatch.setattr(classifier, "score", score)
    (*_, one), (*_, other) = classifier.explain("not dull")
    assert one == pytest.approx(3) and other == pytest.approx(0)


@pytest.mark.parametrize("text", ["", " \n", "One", "word " * 500, "a. " * 90, "x" * 3_000])
def test_anything_can_be_explained(random_model, text):
    words = scoring.Classifier(random_model).explain(text)
    assert len(words) == len(text.split()) and np.isfinite([weight for *_, weight in words]).all()


@pytest.mark.parametrize("name", scoring.FILES)
def test_a_model_without_a_file_is_named(changed, name):
    folder = changed()
    (folder / name).unlink()
    with pytest.raises(ValueError, match=f"it has no {name}: notebook 5"):
        scoring.Classifier(folder)


def test_the_app_imports_neither_torch_nor_transformers():
    program = "import sys, loading; print({'torch', 'transformers'} & set(sys.modules))"
    command = [sys.executable, "-c", program]
    seen = subprocess.run(command, cwd=SPACE, capture_output=True, text=True, check=True)
    assert seen.stdout.strip() == "set()"


def test_no_model_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.delenv("MODEL_ID", raising=False)
    monkeypatch.setenv("TUTORIAL_ARTIFACTS", str(tmp_path))
    app = AppTest.from_file(str(SPACE / "app.py"), default_timeout=60).run()
    assert "make run" in app.error[0].value


def test_serves_the_newest_model_of_the_notebooks(model, monkeypatch, tmp_path):
    for profile, age in [("quick", 300), ("sample", 100)]:
        shutil.copytree(model, tmp_path / profile / "release")
        os.utime(tmp_path / profile / "release", (time.time() - age,) * 2)
    monkeypatch.delenv("MODEL_ID", raising=False)
    monkeypatch.setenv("TUTORIAL_ARTIFACTS", str(tmp_path))
    app = AppTest.from_file(str(SPACE / "app.py"), default_timeout=60).run()
    assert "sample\\/release" in app.caption[-1].value


def test_a_model_that_does_not_load(monkeypatch, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setenv("MODEL_ID", str(tmp_path))
    app = AppTest.from_file(str(SPACE / "app.py"), default_timeout=60).run()
    assert "can't be loaded" in app.error[0].value


def test_the_model_is_loaded_before_the_server_listens(monkeypatch, tmp_path, free_port):
    """Seen by what loading says: nobody has opened the page, and a model that fails is reported."""
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setenv("MODEL_ID", str(tmp_path))
    flags = f"--server.port {free_port} --server.address 127.0.0.1 --server.headless true"
    command = [sys.executable, SPACE / "serve.py", *flags.split()]
    with open(tmp_path / "log.txt", "w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        for _ in range(300):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{free_port}/_stcore/health", timeout=2)
                break
            time.sleep(0.1)
        assert f"The model {tmp_path} can't be loaded" in (tmp_path / "log.txt").read_text()
        assert server.poll() is None
    finally:
        server.terminate()
        server.wait(10)


def test_a_model_with_other_labels(monkeypatch, changed):
    other = changed(
        id2label={"0": "LABEL_0", "1": "LABEL_1"}, label2id={"LABEL_0": 0, "LABEL_1": 1}
    )
    monkeypatch.setenv("MODEL_ID", str(other))
    app = AppTest.from_file(str(SPACE / "app.py"), default_timeout=60).run()
    assert "its labels are" in app.error[0].value


@pytest.mark.parametrize(
    ("card", "shown"),
    [
        (CARD, "test accuracy 0.92 (95 % interval 0.90 to 0.94) on invented reviews"),
        (CARD.replace("interval", "range"), "test accuracy 0.92 on invented reviews"),
        ("# A card\n", "no test score in its card"),
        ("---\na: [\n---\n", "no test score in its card"),
        (CARD.replace("0.9217", "92 %"), "no test score in its card"),
        (None, "no test score in its card"),
    ],
)
def test_shows_the_card_s_score(serve, changed, card, shown):
    caption = serve(changed(card=card)).caption[-1].value
    assert caption.replace("\\", "").endswith(f", {shown}.")


# The Space


def dockerfile() -> dict[str, list[str]]:
    """The Dockerfile's instructions, each with its arguments in their order."""
    text = (SPACE / "Dockerfile").read_text().replace("\\\n", " ")
    found = {}
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            instruction, arguments = line.split(maxsplit=1)
            found.setdefault(instruction, []).append(arguments)
    return found


def pins(path):
    lines = [line.split("#")[0].strip() for line in path.read_text().splitlines()]
    named = dict(line.split("==") for line in lines if "==" in line)
    return {name.lower().replace("_", "-"): version for name, version in named.items()}


def test_requirements_agree_with_the_project_s():
    ours, project = pins(SPACE / "requirements.txt"), pins(ROOT / "requirements.txt")
    assert {"onnxruntime", "tokenizers", "streamlit"} <= set(ours)
    assert ours == {name: project.get(name) for name in ours}


def test_the_space_s_files():
    lines = dockerfile()
    assert any("--uid 1000" in line for line in lines["RUN"]) and lines["USER"] == ["user"]
    copied = [name for line in lines["COPY"] for name in line.split()[1:-1]]
    assert sorted(copied) == ["*.py", "requirements.txt"]
    assert "/_stcore/health" in lines["HEALTHCHECK"][0]
    assert "--server.enableXsrfProtection=false" in json.loads(lines["CMD"][0])
    front = (SPACE / "README.md").read_text().split("---")[1]
    assert "sdk: docker" in front and "app_port: 8501" in front
    assert not any("import helpers" in p.read_text() for p in SPACE.glob("*.py"))


@pytest.mark.skipif(
    os.environ.get("TUTORIAL_SPACE_VENV") != "1", reason="takes minutes: run `make test-space`"
)
def test_the_space_runs_alone_on_a_model_from_the_hub(tmp_path, model, free_port):
    """The folder in a virtual environment of its own, started and checked as its Dockerfile says."""
    space, environment = tmp_path / "app", tmp_path / "venv"
    shutil.copytree(SPACE, space, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    pip = [environment / "bin" / "python", "-m", "pip", "install", "--quiet", "-r"]
    subprocess.run([*pip, space / "requirements.txt"], check=True)
    lines = dockerfile()
    home = next(line for line in lines["ENV"] if line.startswith("HF_HOME=")).split("=")[1]
    home = home.replace("/home/user", str(tmp_path / "home"))
    (model / "README.md").write_text(CARD)
    with local_hub.running(tmp_path / "hub") as endpoint:
        push = (
            "import sys; from huggingface_hub import HfApi; api = HfApi();"
            "api.create_repo('rehearsal/m');"
            "print(api.upload_folder(repo_id='rehearsal/m', folder_path=sys.argv[1]).oid)"
        )
        hub = {"HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_XET": "1"}
        pushed = subprocess.run(
            [sys.executable, "-c", push, model],
            env=os.environ | hub | {"HF_TOKEN": "rehearsal-write"},
            capture_output=True,
            text=True,
            check=True,
        )
        commit = pushed.stdout.split()[-1]
        variables = {"MODEL_ID": "rehearsal/m", "MODEL_REVISION": commit, "HF_HOME": home}
        path = f"{environment / 'bin'}:{os.environ['PATH']}"
        clean = {"PATH": path, "HOME": str(tmp_path / "home")} | hub | variables
        here = [word.replace("8501", str(free_port)) for word in json.loads(lines["CMD"][0])]
        here = [word.replace("0.0.0.0", "127.0.0.1") for word in here]
        here[0] = str(environment / "bin" / here[0])
        with open(tmp_path / "log.txt", "w") as log:
            server = subprocess.Popen(here, cwd=space, env=clean, stdout=log, stderr=log)
        try:
            command = lines["HEALTHCHECK"][0].split("CMD", 1)[1].replace("8501", str(free_port))
            healthy = json.loads(command)
            for _ in range(120):
                time.sleep(0.5)
                if not subprocess.run(healthy, env=clean, capture_output=True).returncode:
                    break
            else:
                pytest.fail((tmp_path / "log.txt").read_text()[-2000:])
            page = urllib.request.urlopen(f"http://127.0.0.1:{free_port}/").read()
            assert b"<title>Streamlit</title>" in page
            # The script itself runs when a browser connects; AppTest runs it here in its place,
            # with nothing installed but the Space's own requirements.
            visit = (
                "from streamlit.testing.v1 import AppTest\n"
                "app = AppTest.from_file('app.py', default_timeout=120).run()\n"
                "app.text_area(key='review').set_value('A warm film.').run()\n"
                "assert not app.exception and not app.error, (app.exception, app.error)\n"
                "print(app.subheader[0].value); print(app.caption[-1].value)"
            )
            seen = subprocess.run(
                [environment / "bin" / "python", "-c", visit],
                cwd=space,
                env=clean | {"PYTHONPATH": str(space)},
                capture_output=True,
                text=True,
            )
            assert seen.returncode == 0, seen.stderr[-2000:]
            assert "Positive" in seen.stdout and commit[:8] in seen.stdout
            assert "test accuracy 0.92" in seen.stdout.replace("\\", "")
            cached = list((tmp_path / "home").rglob("model.onnx"))
            assert cached and all(str(file).startswith(home) for file in cached)
        finally:
            server.terminate()
            server.wait(10)


@pytest.fixture
def free_port():
    import socket

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
