"""Whatever a notebook looks for is part of its key, also what was not there."""

from types import SimpleNamespace

import pytest
from series_runs import go
from throwaway_workbook import WORK

from slugkit.base import look_for
from slugkit.workbook.run import open_run
from slugkit.workbook.run.manifest import Manifest, use_changed, used
from slugkit.workbook.settings import check_settings

pytestmark = pytest.mark.usefixtures("slugkit_as_it_is")


@pytest.mark.parametrize("kind", ["file", "folder", "big folder"])
def test_what_was_not_there_counts(tmp_path, monkeypatch, kind):
    monkeypatch.setattr("slugkit.workbook.run.manifest.BIG", 0 if kind == "big folder" else 10**9)
    place = tmp_path / "oracle"

    def put(text):
        if kind != "file":
            place.mkdir(exist_ok=True)
        (place if kind == "file" else place / "w").write_text(text)

    absent = used(place)
    assert not use_changed(str(place), absent)
    put("one")
    assert use_changed(str(place), absent)
    there = used(place)
    assert not use_changed(str(place), there)
    put("three")
    assert use_changed(str(place), there)
    (place if kind == "file" else place / "w").unlink()
    assert use_changed(str(place), there)


def test_an_oracle_a_table_a_config_and_a_recipes_part_make_a_notebook_run_again(project, clip):
    from slugkit.data import open_data
    from slugkit.unlearning.concept import load_oracle

    (project.root / "data" / "paper").mkdir(parents=True)
    table = project.root / "data" / "paper" / "figures.csv"
    table.write_text("a\n1\n")
    model, pairs, recipe = (
        project.root / "model",
        project.root / "pairs.csv",
        project.root / "recipe.yaml",
    )
    model.mkdir()
    (model / "open_clip_model.safetensors").write_text("w")
    (model / "tokenizer.json").write_text("{}")
    picture(project.root / "a.png")
    pairs.write_text("file,caption\na.png,Bo Lind at sea\n")
    recipe.write_text("pairs: pairs.csv\n")
    run = open_run(check_settings({}), "10_compare_methods")
    clip.source, kept = str(model), clip.source
    assert load_oracle(clip, "Bo Lind") is None
    clip.source = kept
    table.read_text()
    run.uses(SimpleNamespace(weights=model / "open_clip_model.safetensors"))
    assert open_data(str(recipe)).pool is not None
    run.finish()
    record = Manifest(run.folder).stage("10_compare_methods")

    def again():
        return [path for path, entry in record["uses"].items() if use_changed(path, entry)]

    for path, text in (
        (table, "a\n2\n"),
        (model / "tokenizer.json", "{1}"),
        (pairs, "file,caption\na.png,Bo Lind on land\n"),
    ):
        before = path.read_text()
        path.write_text(text)
        assert again() == [str(path)]
        path.write_text(before)
        assert again() == []
    (project.root / "model-without-bo-lind").mkdir()
    (project.root / "model-without-bo-lind" / "open_clip_model.safetensors").write_text("w")
    assert again() == [str(project.root / "model-without-bo-lind")]


def picture(path):
    """One small picture."""
    import numpy as np
    from PIL import Image

    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(path)


def test_a_series_runs_again_what_looked_in_vain(project):
    project.edit(
        "01_data_curation",
        2,
        WORK["01_data_curation"]
        + f"\nfrom slugkit.base import look_for\nlook_for({str(project.root / 'oracle')!r})",
    )
    assert go("01-02")[0] == ["ran", "ran"] and go("01-02")[0] == ["unchanged", "unchanged"]
    (project.root / "oracle").write_text("trained meanwhile")
    states, lines = go("01-02")
    assert (
        states == ["ran", "unchanged"]
        and "notebook 1 of 2, 01_data_curation: running (oracle has changed)" in lines
    )
    assert look_for("x").name == "x"
