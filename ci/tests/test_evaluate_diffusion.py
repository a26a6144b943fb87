"""UA, IRA and CRA by hand, and the prompts they rest on."""

import pandas as pd
import pytest

from slugkit import studio
from slugkit.base import SettingError
from slugkit.evaluate.diffusion import answer_set, subject_domains, ua_ira_cra


@pytest.fixture(scope="module")
def world():
    return studio.load_world()


@pytest.mark.parametrize("concept", ["Mira Kestrel", "car", "neon", "star-shaped house", "Tin Wobble"])
def test_search_and_report_share_no_prompt_and_no_seed(world, concept):
    search, report = (answer_set(world, concept, split) for split in ("search", "report"))
    assert not set(search["prompt"]) & set(report["prompt"]) and not set(search["seed"]) & set(report["seed"])
    for table in (search, report):
        assert table["seed"].is_unique and (table["group"] == "target").sum() == 28
        column = "style" if concept in world.styles else "subject"
        assert ((table[column] == concept) == (table["group"] == "target")).all()
        assert all(row.subject in row.prompt for row in table.itertuples())


def test_every_other_figure_and_object_is_drawn_and_neighbours_are_marked(world):
    table = answer_set(world, "Mira Kestrel", "report", size=1)
    rest = table[table["group"] != "target"]
    assert set(rest["subject"]) == {s for s, d in subject_domains(world).items() if d in ("figures", "objects")} - {"Mira Kestrel"}
    assert set(rest.loc[rest["group"] == "neighbours", "subject"]) == set(world.neighbours["Mira Kestrel"])
    assert set(rest["style"]) == set(world.styles)
    styles = answer_set(world, "neon", "report", size=1)
    assert set(styles.loc[styles["group"] == "neighbours", "style"]) == set(world.neighbours["neon"])
    assert set(answer_set(world, "star-shaped house", "report", size=1)["domain"]) == {"figures", "objects", "novel"}


def test_unknown_names_and_splits_are_refused(world):
    with pytest.raises(SettingError, match="neither a subject nor a style"):
        answer_set(world, "Nobody Atall", "report")
    with pytest.raises(SettingError, match="'search' or 'report'"):
        answer_set(world, "car", "train")


def test_the_three_measures_by_hand():
    rows = [("target", "figures", 0, 1)] * 3 + [("target", "figures", 1, 0)] + [("neighbours", "figures", 0, 1)] \
        + [("rest", "figures", 1, 1)] * 3 + [("rest", "objects", 1, 0)] * 2 + [("rest", "objects", 0, 1)] * 2
    told = pd.DataFrame(rows, columns=["group", "domain", "right_subject", "right_style"]).astype({"right_subject": bool, "right_style": bool})
    found = ua_ira_cra(told, "figures").set_index(["metric", "group"])["value"]
    assert found["UA", "target"] == pytest.approx(3 / 4)
    assert found["IRA", "figures"] == pytest.approx(3 / 4) and found["IRA", "neighbours"] == 0
    assert found["CRA", "objects"] == pytest.approx(2 / 4) and found["CRA", "styles"] == pytest.approx(6 / 8)
    assert found["CRA", "all"] == pytest.approx((0.5 + 0.75) / 2)
    style = ua_ira_cra(told, "styles").set_index(["metric", "group"])["value"]
    assert style["UA", "target"] == pytest.approx(1 / 4) and style["IRA", "styles"] == pytest.approx(6 / 8)
    assert style["CRA", "figures"] == pytest.approx(3 / 4) and ("CRA", "styles") not in style.index
