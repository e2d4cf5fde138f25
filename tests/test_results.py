"""What the series is for, checked on the ledger that the notebooks wrote in this test run."""

import re
from pathlib import Path

import pandas as pd
import pytest

from helpers import artifacts, evaluation, ledger, profiles

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def rows():
    found = {(row["system"], row["split"]): row for row in ledger.rows()}
    if not found:
        pytest.skip("the notebooks did not run in this session: run `make test`")
    return found


def test_ledger_is_complete(rows):
    expected = {(system, split) for system in ledger.SYSTEMS for split in ("validation", "test")}
    assert set(rows) == expected
    for row in rows.values():
        assert row["interval"][0] <= row["accuracy"] <= row["interval"][1]
        assert row["seed"] == 42
        assert row["times_scored"] == 1, "scored more than once"
        assert set(row["versions"]) >= {"torch", "transformers", "datasets", "evaluate"}
    assert rows["fine-tuned", "validation"]["parameters"] > 20_000_000
    assert rows["fine-tuned", "validation"]["seconds"] > 0


def test_fine_tuning_beats_the_baseline_by_eight_points(rows):
    table = pd.read_parquet(artifacts.read("predictions") / "test.parquet")
    found = evaluation.compare(
        table["label"], table["fine-tuned"], table["TF-IDF_+_logistic_regression"], seed=0
    )
    assert found.difference >= 0.08
    assert found.interval[0] > 0


def test_readme_shows_the_ledger(rows):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    table = re.search(r"<!-- results -->\n(.*?)\n<!-- /results -->", readme, flags=re.S).group(1)
    assert table == ledger.markdown("test")


def test_validation_scores_are_in_the_order_of_their_reviews(rows):
    """Predictions scored against reordered labels look like guessing, whatever the test says."""
    for system in ledger.SYSTEMS:
        apart = abs(rows[system, "validation"]["accuracy"] - rows[system, "test"]["accuracy"])
        assert apart < 0.12, system


def test_the_card_says_what_was_measured(rows):
    from huggingface_hub import ModelCard

    card = ModelCard.load(artifacts.read("release") / "README.md")
    result = {item.metric_type: item.metric_value for item in card.data.eval_results}
    tuned = rows["fine-tuned", "test"]
    assert result == pytest.approx(
        {"accuracy": tuned["accuracy"], "f1": tuned["macro_f1"]}, abs=1e-4
    )
    assert ledger.markdown("test") in card.text
    file = artifacts.read("evaluation") / "slices.csv"
    slices = pd.read_csv(file, index_col="reviews", dtype=str, na_filter=False)
    assert ledger.to_markdown(slices) in card.text
    for heading in ("How to use it", "Results", "Calibration", "Where it fails", "Training"):
        assert f"## {heading}" in card.text
    assert "invented" in card.text, "the card must say what the embedded reviews are"


def test_nothing_pushed_names_this_machine(rows):
    here = "|".join(re.escape(f"{path}/") for path in (Path.home(), ROOT, artifacts.folder()))
    private = re.compile(rf"hf_[A-Za-z0-9]{{20,}}|rehearsal-|{here}")
    for file in artifacts.read("release").iterdir():
        if file.suffix in {".json", ".md"}:
            assert not private.search(file.read_text(encoding="utf-8")), file.name


def test_a_plain_pipeline_truncates_where_training_did(rows):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(artifacts.read("release"))
    assert tokenizer.model_max_length == profiles.current().max_length
