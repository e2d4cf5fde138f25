"""The Streamlit app, run without a browser, on a tiny model with the labels of ours."""

import pytest
from streamlit.testing.v1 import AppTest
from transformers import DistilBertConfig, DistilBertForSequenceClassification

from helpers import ROOT, checkpoint

APP = str(ROOT / "helpers" / "space" / "app.py")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    checkpoint.lay_into_distilbert(checkpoint.minilm_files(), folder)  # for its tokenizer
    (folder / "model.safetensors").unlink()
    labels = {0: "negative", 1: "positive"}
    tiny = DistilBertConfig(
        dim=32,
        hidden_dim=64,
        n_layers=1,
        n_heads=2,
        id2label=labels,
        label2id={name: i for i, name in labels.items()},
    )
    network = DistilBertForSequenceClassification(tiny)
    network.classifier.weight.data.zero_()
    network.classifier.bias.data[:] = network.classifier.bias.data.new_tensor([0.0, 2.0])
    network.save_pretrained(folder)
    return folder


@pytest.fixture
def app(model, monkeypatch):
    monkeypatch.setenv("MODEL_ID", str(model))
    monkeypatch.delenv("MODEL_REVISION", raising=False)
    return AppTest.from_file(APP, default_timeout=60).run()


def test_classifies_a_review(app):
    app.text_area[0].set_value("A warm film.").run()
    assert not app.exception
    assert app.subheader[0].value == "Positive"
    assert not app.info


def test_an_example_is_one_click(app):
    app.button[0].click().run()
    assert "Tender" in app.text_area[0].value
    assert app.subheader[0].value == "Positive"


def test_says_that_a_long_review_was_cut(app):
    app.text_area[0].set_value("word " * 700).run()
    assert "first 512 tokens" in app.info[0].value


def test_empty_review(app):
    next(button for button in app.button if button.label == "Classify").click().run()
    assert "Write or paste" in app.warning[0].value
    assert not app.subheader


def test_markup_and_odd_characters(app):
    app.text_area[0].set_value("<script>alert(1)</script> 😀 \x00 ツ").run()
    assert not app.exception


def test_close_calls_are_not_sure(model, monkeypatch, tmp_path):
    import shutil

    import torch
    from safetensors.torch import load_file, save_file

    unsure = tmp_path / "unsure"
    shutil.copytree(model, unsure)
    weights = load_file(unsure / "model.safetensors")
    weights["classifier.bias"] = torch.tensor([0.0, 0.1])
    save_file(weights, unsure / "model.safetensors", metadata={"format": "pt"})
    monkeypatch.setenv("MODEL_ID", str(unsure))
    app = AppTest.from_file(APP, default_timeout=60).run()
    app.text_area[0].set_value("A film.").run()
    assert app.subheader[0].value == "Not sure, perhaps positive"


def test_no_model_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.delenv("MODEL_ID", raising=False)
    monkeypatch.setenv("TUTORIAL_ARTIFACTS", str(tmp_path))
    app = AppTest.from_file(APP, default_timeout=60).run()
    assert "make run" in app.error[0].value


def test_a_model_that_does_not_load(monkeypatch, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setenv("MODEL_ID", str(tmp_path))
    app = AppTest.from_file(APP, default_timeout=60).run()
    assert "can't be loaded" in app.error[0].value
