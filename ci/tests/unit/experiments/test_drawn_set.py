"""A set that the pipeline draws itself: what is drawn, that a cut-off call goes on, and that the
notebooks' data reader takes it.
"""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from slugkit.base import SettingError
from slugkit.data import open_data
from slugkit.experiments import drawn_set
from slugkit.experiments.drawn_set import EXAM, drawn_table, write_drawn_set
from slugkit.models.diffusion import draw, load_pipeline
from slugkit.workbook import cli

pytestmark = pytest.mark.slow

TWO = ["Tin Wobble", "mushroom"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_drawn_set(tmp_path_factory.mktemp("drawn") / "set", TWO, count=3, exam=2, steps=2)


def test_learning_and_both_exams_share_neither_wording_nor_seed():
    table = drawn_table(TWO, 5, 3)
    assert (
        table.groupby("split").size().to_dict() == {"train": 10, "search": 6, "report": 12}
        and not table["seed"].duplicated().any()
    )
    wordings = [set(part["caption"]) for _, part in table.groupby("split")]
    assert (
        all(not a & b for i, a in enumerate(wordings) for b in wordings[i + 1 :])
        and not table["file"].duplicated().any()
    )
    assert table["caption"][:3].tolist() == ["Tin Wobble", "a picture of Tin Wobble", "Tin Wobble"]


def test_the_files_are_what_the_pipeline_draws_for_caption_and_seed(folder):
    table = pd.read_csv(folder / "captions.csv")
    row = table[table["split"] == "report"].iloc[-1]
    there = np.asarray(Image.open(folder / row["file"])).astype(int)
    pipe, seed = load_pipeline(device="cpu"), int(row["seed"])

    def apart(caption, seed):  # alone, not in the set's batch: rounding may show in a pixel
        return np.abs(there - draw(pipe, [caption], [seed], steps=2)[0])

    assert apart(row["caption"], seed).max() <= 1 and apart(row["caption"], seed).mean() < 1e-3
    assert apart(row["caption"], seed + 1).mean() > 1 and apart("mushroom", seed).mean() > 0.1
    assert row["caption"] == EXAM["report"].format("mushroom")


def test_the_folder_is_data_with_a_forget_set_and_an_exam(folder):
    source = open_data(str(folder), 64)
    assert len(source.forget_set("Tin Wobble", 10)) == 3 and set(
        source.forget_set("Tin Wobble", 10).captions
    ) == {"Tin Wobble", "a picture of Tin Wobble"}
    assert (
        len(source.exam("Tin Wobble", "search").pairs) == 4
        and len(source.exam("mushroom", "report").pairs) == 8
    )
    assert set(source.retain_set("Tin Wobble", 9).table["concept"]) == {"mushroom"}


def test_a_call_that_was_cut_off_goes_on_and_another_one_is_refused(folder, monkeypatch):
    names = [p for p in sorted((folder / "images").iterdir())]
    before = {p: p.stat().st_mtime_ns for p in names}
    lost = names[3].read_bytes()
    names[3].unlink()
    (folder / "captions.csv").unlink()
    write_drawn_set(folder, TWO, count=3, exam=2, steps=2)
    assert names[3].read_bytes() == lost and (folder / "captions.csv").is_file()
    assert all(p.stat().st_mtime_ns == at for p, at in before.items() if p != names[3])
    monkeypatch.setattr(drawn_set, "load_pipeline", lambda *_: pytest.fail("nothing may be loaded"))
    with pytest.raises(SettingError, match="drawn in another way"):
        write_drawn_set(folder, TWO, count=3, exam=2, steps=3)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Eight pictures of four steps, drawn in one batch."""
    return write_drawn_set(
        tmp_path_factory.mktemp("whole") / "set", TWO, count=1, exam=1, steps=4, device="cpu"
    )


@pytest.mark.parametrize("lost", [[0, 1, 2], [1, 2], [2, 5, 7]])
def test_what_was_lost_comes_back_with_the_same_bytes_whatever_was_in_its_batch(
    whole, tmp_path, lost
):
    files = pd.read_csv(whole / "captions.csv")["file"]
    shutil.copytree(whole, tmp_path / "set")
    for file in files[lost]:
        (tmp_path / "set" / file).unlink()
    write_drawn_set(tmp_path / "set", TWO, count=1, exam=1, steps=4, device="cpu")
    assert all(
        (tmp_path / "set" / file).read_bytes() == (whole / file).read_bytes() for file in files
    )


@pytest.mark.parametrize(
    "given",
    [
        dict(concepts=[]),
        dict(concepts=["a", "a"]),
        dict(count=0),
        dict(exam=-1),
        dict(prompts=["no place"]),
        dict(prompts=["{} and {}"]),
        dict(prompts=[EXAM["report"]]),
        dict(prompts=[]),
    ],
)
def test_what_cannot_be_drawn_is_refused_before_anything_is_written(tmp_path, given):
    with pytest.raises(SettingError, match="expected"):
        write_drawn_set(tmp_path / "new", **{"concepts": ["a"], **given})
    assert not (tmp_path / "new").exists()


def test_a_folder_with_something_else_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(SettingError, match="something else"):
        write_drawn_set(tmp_path, ["a"])
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_the_command_says_what_it_drew(tmp_path):
    done = CliRunner().invoke(
        cli.app,
        [
            "draw",
            "Tin Wobble",
            "--out",
            str(tmp_path / "d"),
            "--count",
            "1",
            "--steps",
            "1",
            "--prompt",
            "{} alone",
        ],
    )
    assert done.exit_code == 0 and "1 x 1 pictures" in done.output, done.output
    assert json.loads((tmp_path / "d" / "drawn.json").read_text())["prompts"] == ["{} alone"]
