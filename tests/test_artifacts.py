"""Artifacts are whole or absent, and stale or damaged ones are noticed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from huggingface_hub import HfApi

from helpers import ROOT, TutorialError, artifacts, ledger, local_hub, profiles, series


def make(name, content="x"):
    with artifacts.write(name) as folder:
        (folder / "file.txt").write_text(content)


def test_write_and_read(fresh):
    make("splits")
    assert (artifacts.read("splits") / "file.txt").read_text() == "x"
    make("splits", "y")
    assert (artifacts.read("splits") / "file.txt").read_text() == "y"


def test_a_copied_artifact_can_be_read(fresh):
    """05_hub_deployment copies one into another, its manifest included."""
    with artifacts.write("calibrated") as folder:
        (folder / "file.txt").write_text("one")
    with artifacts.write("release") as folder:
        shutil.copytree(artifacts.read("calibrated"), folder, dirs_exist_ok=True)
    assert (artifacts.read("release") / "file.txt").read_text() == "one"


def test_interrupted_write_keeps_the_old_one(fresh):
    make("model", "old")
    with pytest.raises(KeyboardInterrupt), artifacts.write("model") as folder:
        (folder / "file.txt").write_text("half")
        raise KeyboardInterrupt
    assert (artifacts.read("model") / "file.txt").read_text() == "old"
    assert [path.name for path in artifacts.folder().iterdir()] == ["model"]


@pytest.mark.parametrize("damage", ["change", "remove", "manifest"])
def test_damage_is_named(fresh, damage):
    make("model")
    file = artifacts.path("model") / ("artifact.json" if damage == "manifest" else "file.txt")
    file.unlink() if damage == "remove" else file.write_text("{")
    with pytest.raises(TutorialError, match=r"delete the folder .*model and run 03_training"):
        artifacts.read("model")


def test_missing_is_named(fresh):
    with pytest.raises(TutorialError, match=r"There is no artifact .*splits: run 01_data"):
        artifacts.read("splits")


def test_require_runs_what_is_missing_in_order(fresh, monkeypatch, capsys):
    ran = []
    monkeypatch.setattr(series, "run", lambda stems: ran.extend(stems))
    artifacts.require("04_evaluation")
    assert ran == ["01_data", "02_tokenization", "03_training"]
    assert "about 4 min" in capsys.readouterr().err
    for name in ("splits", "baselines", "tokenized"):
        make(name)
    ran.clear()
    artifacts.require("04_evaluation")
    assert ran == ["03_training"]


def test_a_release_on_the_hub_spares_the_training(fresh, monkeypatch, capsys, tmp_path):
    make("release", "trained elsewhere")
    with local_hub.running(tmp_path / "hub") as endpoint:
        for name, value in {"ENDPOINT": endpoint, "TOKEN": "rehearsal-write"}.items():
            monkeypatch.setenv(f"HF_{name}", value)
        monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
        api = HfApi(endpoint, "rehearsal-write")
        for name in ("mine", "other", "stale"):
            api.create_repo(f"rehearsal/{name}")
        release = artifacts.path("release")
        api.upload_folder(repo_id="rehearsal/mine", folder_path=release)
        manifest = release / artifacts.MANIFEST
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"made_from": "else"}))
        api.upload_folder(repo_id="rehearsal/stale", folder_path=release)
        shutil.rmtree(artifacts.path("release"))
        ran = []
        monkeypatch.setattr(series, "run", lambda stems: ran.extend(stems))
        profiles.hub_reachable.cache_clear()
        for repository, runs in {"other": 5, "stale": 5, "mine": 1}.items():
            monkeypatch.setenv("TUTORIAL_HUB_REPO", f"rehearsal/{repository}")
            ran.clear()
            artifacts.require("06_faster_inference")
            assert ran == [*artifacts.WRITES][:runs], repository
        profiles.hub_reachable.cache_clear()
    assert (artifacts.read("release") / "file.txt").read_text() == "trained elsewhere"
    said = capsys.readouterr().err
    assert "rehearsal/other on the Hub was not pushed" in said
    assert "rehearsal/stale was trained with other settings" in said
    assert "fetched from rehearsal/mine" in said


def test_other_data_makes_artifacts_and_ledger_stale(fresh, monkeypatch):
    make("splits")
    ledger.record("majority", "test", [0, 1] * 20, [0, 0] * 20)
    assert artifacts.is_current("splits") and ledger.rows()
    other = fresh / "mine.csv"
    other.write_text("text,label\n")
    monkeypatch.setenv("TUTORIAL_DATA", str(other))
    assert not artifacts.is_current("splits")
    assert ledger.rows() == []


def test_ledger_row(fresh):
    ledger.record("majority", "test", [0, 1, 1, 1], [1, 1, 1, 1], seconds=1.5)
    row = ledger.record("majority", "test", [0, 1, 1, 1], [1, 1, 1, 0])
    assert ledger.rows("test") == [row]
    assert row["accuracy"] == 0.5 and row["n"] == 4
    assert row["macro_f1"] == pytest.approx((0 + 2 / 3) / 2)
    # Wilson's interval for 2 of 4, worked by hand with z = 1.95996
    assert row["interval"] == pytest.approx([0.15004, 0.84996], abs=1e-4)
    last_line = ledger.markdown("test", ["majority"]).splitlines()[-1]
    assert last_line == "| majority | 0.50 | 0.15 to 0.85 | 0.33 | 4 |"
    with pytest.raises(TutorialError, match=r"no row of 'fine-tuned' .*: run 04_evaluation"):
        ledger.table("test", ["majority", "fine-tuned"])


def test_damaged_ledger_is_named(fresh):
    ledger.record("majority", "test", [0, 1], [1, 1])
    ledger.path().write_text("[")
    with pytest.raises(TutorialError, match=r"metrics\.json is damaged: delete it"):
        ledger.rows()


def test_scores_need_pairs():
    with pytest.raises(TutorialError, match="one prediction for each label"):
        ledger.score([0, 1], [0])


def test_unknown_profile(monkeypatch):
    monkeypatch.setenv("TUTORIAL_PROFILE", "huge")
    with pytest.raises(TutorialError, match=r"'huge'.*sample, quick, full"):
        profiles.current()


def test_missing_data(monkeypatch):
    monkeypatch.setenv("TUTORIAL_DATA", "/nowhere/at/all.csv")
    with pytest.raises(TutorialError, match=r"TUTORIAL_DATA names /nowhere/at/all\.csv"):
        profiles.current()


def test_relative_paths_start_at_the_root(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TUTORIAL_DATA", "helpers/sample/reviews.csv")
    assert profiles.current().data == artifacts.EMBEDDED


def test_no_network(monkeypatch):
    monkeypatch.setenv("TUTORIAL_PROFILE", "quick")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    profiles.hub_reachable.cache_clear()
    with pytest.raises(TutorialError, match="TUTORIAL_PROFILE=sample"):
        profiles.current()
    profiles.hub_reachable.cache_clear()


def test_a_failing_notebook_is_named(fresh, monkeypatch):
    monkeypatch.setattr(series, "NOTEBOOKS", fresh)
    cells = [
        {
            "cell_type": "code",
            "source": code,
            "metadata": {},
            "outputs": [],
            "execution_count": 7,  # of the stored run, which must not be taken for this one's
            "id": name,
        }
        for name, code in (("a", "1"), ("b", "raise ValueError('no luck')"), ("c", "3"))
    ]
    notebook = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    (fresh / "01_data.ipynb").write_text(json.dumps(notebook))
    with pytest.raises(
        TutorialError, match=r"01_data\.ipynb stopped in its code cell 2\. ValueError: no luck"
    ):
        series.run(["01_data"])


def test_ctrl_c_ends_a_run_with_one_message(tmp_path):
    """To the whole group of processes, as a terminal sends it; nothing is left behind."""
    environment = os.environ | {"TUTORIAL_ARTIFACTS": str(tmp_path), "TUTORIAL_PROFILE": "sample"}
    run = subprocess.Popen(
        [sys.executable, "-m", "helpers", "run"],
        cwd=ROOT,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert "01_data" in run.stderr.readline()
    started = time.monotonic()
    while not (tmp_path / "sample" / "splits").exists() and time.monotonic() - started < 120:
        time.sleep(0.05)
    os.killpg(run.pid, signal.SIGINT)
    message = run.stderr.read()
    assert run.wait(60) == 130
    assert "Traceback" not in message and message.count("Interrupted.") == 1, message
    for folder in (tmp_path / "sample").glob("[a-z]*/"):
        assert (folder / artifacts.MANIFEST).is_file() or folder.name == "notebooks", folder.name
