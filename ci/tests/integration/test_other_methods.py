"""The other methods on a Stable Diffusion and a LLaVA: their table, and SLUG's beside it."""

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from slugkit.base import SettingError, data_dir
from slugkit.experiments import compared, other_methods
from slugkit.unlearning.methods import spoken
from slugkit.workbook import plots

FOLDER = data_dir() / "studio"


@pytest.fixture(scope="module")
def theirs():
    """Made-up rows of two methods on the concepts of the committed table."""
    mine = pd.read_csv(FOLDER / "diffusion_concepts.csv")
    one = mine[(mine["layers"] == "all") & (mine["method"] == "SLUG")]
    one = one.assign(layers="every layer", drawn=500, forgotten=True)
    better = one.assign(method="UCE", ua_after=1.0, ira_after=one["ira_before"] - 0.01)
    worse = one.assign(method="negative prompt", ua_after=0.1, forgotten=False)
    return pd.concat([better.head(6), worse.head(6)], ignore_index=True)


def test_slug_stands_beside_the_others_on_the_same_concepts(theirs):
    table = other_methods.beside_others("diffusion", theirs)
    assert set(table["concept"]) == set(theirs["concept"]) and table["concept"].nunique() == 6
    four = {"SLUG", "SLUG-R", "SLUG, the authors' layer", "SLUG-R, the authors' layer"}
    assert set(table["method"]) == four | {"UCE", "negative prompt"}
    each = other_methods.others_by_concept(table, "diffusion")
    assert other_methods.whole(table, "diffusion").equals(table)
    assert len(each) == 36 and (each["still shown"] == 100 - each["UA"]).all()
    apart = compared.beside_slug(each).set_index(["method", "measure"])
    assert apart.loc[("UCE", "IRA change"), "mean"] > 0
    summary = compared.over_all(each)
    fig, says = plots.trade_off(summary, plots.PICTURES)
    assert "others of its kind lose least with" in says and "UCE (-1.0 points)" in says
    assert "negative prompt (" not in says and "oracle" not in says
    assert fig.axes[1].get_xlabel() == "pictures drawn in the search"
    plt.close(fig)


def test_a_concept_that_one_method_has_no_number_of_counts_for_none(theirs):
    lost = theirs["concept"].iloc[0]
    gone = theirs.assign(ua_after=theirs["ua_after"].where(theirs["concept"] != lost))
    table = other_methods.whole(other_methods.beside_others("diffusion", gone), "diffusion")
    assert set(table["concept"]) == set(theirs["concept"]) - {lost}
    assert table.groupby("method").size().nunique() == 1


def test_other_weights_do_not_stand_beside_them(theirs):
    strange = theirs.assign(weights="other weights")
    assert set(other_methods.beside_others("diffusion", strange)["method"]) == set(theirs["method"])


def test_every_method_on_a_model_is_among_the_families():
    assert set(other_methods.methods_on("diffusion")) == {
        "UCE",
        "ESD",
        "negative prompt",
        "safe latent guidance",
    }
    assert other_methods.methods_on("vlm") == ["do not name"]
    with pytest.raises(SettingError, match="The method of vlm 'UCE' is unknown"):
        other_methods.sweep_others("vlm", methods=["UCE"])
    with pytest.raises(SettingError, match="a place of its own was expected"):
        other_methods.sweep_others("vlm", model="somewhere/else")


@pytest.mark.slow
def test_the_table_of_a_llava_has_a_row_a_method_and_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(spoken, "INSTRUCTIONS", spoken.INSTRUCTIONS[:1])
    out = tmp_path / "vlm.csv"
    table = other_methods.sweep_others("vlm", ["Oskar Marlow"], out)
    [row] = table.to_dict("records")
    assert row["method"] == "do not name" and row["probes"] == 1 and row["may_probes"] == 40
    assert row["right_name_before"] > 0.8 and row["right_name_after"] < row["right_name_before"]
    before = out.read_bytes()
    other_methods.sweep_others("vlm", ["Oskar Marlow"], out)
    assert out.read_bytes() == before
