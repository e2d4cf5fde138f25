"""`python -m helpers preflight` and `reset`, as somebody at a terminal meets them."""

import os
import subprocess
import sys
import time

import pytest

from helpers import ROOT, TutorialError, artifacts, checkpoint, preflight, profiles


@pytest.fixture(autouse=True)
def sample(fresh, monkeypatch):
    monkeypatch.setenv("TUTORIAL_PROFILE", "sample")


def run(*arguments):
    command = [sys.executable, "-m", "helpers", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_a_ready_machine(capsys):
    began = time.monotonic()
    found = run("preflight")
    assert time.monotonic() - began < 30  # what the issue promises, with a wide margin here
    assert found.returncode == 0, found.stdout
    assert found.stdout.splitlines()[-1] == "Ready."
    for name in ("python", "packages", "disk", "memory", "gpu", "network", "checkpoint", "forward"):
        assert any(
            line.startswith(("ok", "note")) and f" {name}" in line
            for line in found.stdout.splitlines()
        )


def test_each_fault_has_its_advice(capsys, monkeypatch):
    monkeypatch.setattr(preflight, "DISK", 10**9)
    monkeypatch.setattr(preflight, "MEMORY", {"sample": 10**9})
    monkeypatch.setattr(checkpoint, "MINILM_SHA256", "0")
    assert preflight.preflight() is False
    lines = capsys.readouterr().out.splitlines()
    for name, advice in (
        ("disk", "TUTORIAL_ARTIFACTS"),
        ("memory", "Close other programs"),
        ("checkpoint", "pip install --force-reinstall"),
    ):
        place = next(i for i, line in enumerate(lines) if line.startswith(f"FAIL {name}"))
        assert advice in lines[place + 1]
    assert lines[-1].startswith("Not ready")


def test_packages(capsys, monkeypatch, tmp_path):
    (tmp_path / "requirements.txt").write_text("numpy==0.1\nno-such-package==1.0\n")
    monkeypatch.setattr(preflight, "ROOT", tmp_path)
    good, found, advice = preflight._packages()
    assert good is False and "no-such-package" in found and "pip install -r" in advice
    (tmp_path / "requirements.txt").write_text("numpy==0.1\n")
    good, found, advice = preflight._packages()
    assert good is None and "numpy" in found


def test_a_profile_that_can_t_be_had(monkeypatch):
    monkeypatch.setenv("TUTORIAL_PROFILE", "quick")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    found = run("preflight")
    assert found.returncode == 1
    assert found.stdout.startswith("FAIL profile: The profile 'quick' downloads")
    assert "Traceback" not in found.stderr


def test_an_artifacts_folder_that_can_t_be_written(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    good, found, _ = preflight._disk()
    assert good is False and "can't be written" in found


def test_prefetch_leaves_the_checkpoint_ready(capsys):
    assert preflight.preflight(prefetch=True) is True
    assert "1,800 reviews are on this machine" in capsys.readouterr().out
    assert artifacts.is_current("checkpoint")


def test_reset_removes_what_the_series_made_and_nothing_else():
    with artifacts.write("model") as folder:
        (folder / "weights").write_text("x")
    (artifacts.folder() / "metrics.json").write_text("{}")
    mine = artifacts.folder() / "notes.txt"
    mine.write_text("mine")
    found = run("reset")
    assert "model" in found.stdout and "metrics.json" in found.stdout
    assert [path.name for path in artifacts.folder().iterdir()] == ["notes.txt"]
    assert "empty already" in run("reset").stdout


def test_the_report_of_the_first_cell(capsys, monkeypatch):
    profiles.start("04_evaluation")
    report = capsys.readouterr()
    assert "profile sample" in report.out and "on the CPU" in report.out
    assert "The whole series takes about" in report.out and not report.err
    monkeypatch.setitem(sys.modules, "google.colab", object())
    profiles.start("04_evaluation")
    assert "Change runtime type" in capsys.readouterr().err


def test_checks_raise_nothing_but_advice(monkeypatch, capsys):
    def broken():
        raise TutorialError("Do this.")

    monkeypatch.setattr(preflight, "_gpu", broken)
    assert preflight.preflight() is False
    assert "Do this." in capsys.readouterr().out
