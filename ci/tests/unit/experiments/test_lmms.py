"""Results of lmms-eval, read back: a file laid out as its version 0.7 writes it."""

import json
import math

import pytest

from slugkit.base import MissingArtefactError, SettingError, root
from slugkit.experiments import lmms


def written(folder, perception, gqa, date="20260101_000000"):
    """A results file under the folder that --output_path named."""
    results = {
        "mme": {
            "alias": "mme",
            "mme_perception_score,none": perception,
            "mme_perception_score_stderr,none": "N/A",
            "mme_cognition_score,none": 350.0,
            "mme_cognition_score_stderr_clt,none": 1.0,
        },
        "gqa": {"alias": "gqa", "exact_match,none": gqa, "exact_match_stderr,none": 0.004},
    }
    path = folder / "llava" / f"{date}_results.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        json.dumps(
            {
                "results": results,
                "n-samples": {
                    "mme": {"original": 2374, "effective": 2374},
                    "gqa": {"original": 12578, "effective": 100},
                },
            }
        )
    )
    return path


def test_scores_keep_their_units_and_denominators(tmp_path):
    table = lmms.read_results(written(tmp_path, 1500.0, 0.6)).set_index("metric")
    assert list(table.index) == [
        "MME perception (0 to 2000)",
        "MME cognition (0 to 800)",
        "GQA exact match (0 to 1)",
    ]
    assert table.loc["GQA exact match (0 to 1)", ["value", "stderr", "n"]].tolist() == [
        0.6,
        0.004,
        100,
    ]
    assert math.isnan(table.loc["MME perception (0 to 2000)", "stderr"])


def test_before_and_after_are_compared_and_the_newest_file_is_read(tmp_path):
    written(tmp_path / "before", 1500.0, 0.60)
    written(tmp_path / "after", 1.0, 0.1, "20250101_000000")
    written(tmp_path / "after", 1480.0, 0.59)
    found = lmms.compared(tmp_path / "before", tmp_path / "after").set_index("metric")
    assert found.loc["MME perception (0 to 2000)", "change"] == -20 and found.loc[
        "GQA exact match (0 to 1)", "change"
    ] == pytest.approx(-0.01)


def test_a_missing_or_foreign_file_says_what_to_do(tmp_path):
    with pytest.raises(MissingArtefactError, match="python -m lmms_eval --model llava_hf"):
        lmms.read_results(tmp_path)
    foreign = tmp_path / "x_results.json"
    for text in ("{}", "not json", '{"results": 3, "n-samples": {}}'):
        foreign.write_text(text)
        with pytest.raises(SettingError, match="no results file of lmms-eval"):
            lmms.read_results(foreign)


def test_the_command_quotes_folders():
    assert "'pretrained=my models/llava'" in lmms.command("my models/llava", "out")


@pytest.mark.parametrize("state", ["before", "after"])
def test_the_page_shows_the_command_that_is_written(state):
    page = (root() / "notebooks" / "paper_scale" / "lmms_eval.md").read_text(encoding="utf-8")
    assert lmms.command(state, f"results/{state}") in page
    assert "lmms.compared(" in page and "result.applied(vlm)" in page
