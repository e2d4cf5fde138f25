import pytest


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """A test with artifacts of its own."""
    monkeypatch.setenv("TUTORIAL_ARTIFACTS", str(tmp_path / "artifacts"))
    return tmp_path
