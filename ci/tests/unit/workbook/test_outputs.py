"""No command writes over what is there, over what it reads, or into it."""

import json

import pandas as pd
import pytest
import torch
from tiny_clip import tiny_clip
from tiny_patch import patch_for
from tiny_transformers import filled, whole
from typer.testing import CliRunner

from slugkit import patch
from slugkit.base import SettingError, is_ours, new_path, sha256_file, write_csv
from slugkit.workbook import cli


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A patch, a model, LAION's metadata, and things of the user's that stand in the way."""
    monkeypatch.chdir(tmp_path)
    patch_for(tiny_clip()).save("edit.safetensors")
    filled(whole(), tiny_clip()).save_pretrained("model")
    pd.DataFrame({"URL": ["http://example.org/1.jpg"], "TEXT": ["Mira Kestrel"]}).to_parquet(
        "laion.parquet"
    )
    (tmp_path / "mine").mkdir()
    for name in (
        "mine/notes.txt",
        "mine.csv",
        "mine.parquet",
        "mine.safetensors",
        "mine_summary.csv",
    ):
        (tmp_path / name).write_text("mine")
    (tmp_path / "link.safetensors").symlink_to(tmp_path / "nowhere")
    return tmp_path


def hashes(folder):
    return {str(p): sha256_file(p) for p in folder.rglob("*") if p.is_file()}


REFUSED = [
    ("patch pack edit.safetensors --out mine.safetensors", "is there already"),
    ("patch pack edit.safetensors --out mine.safetensors --force", "slugkit did not write it"),
    (
        "patch pack edit.safetensors --out model/model.safetensors --force",
        "slugkit did not write it",
    ),
    ("patch pack edit.safetensors --out edit.safetensors --force", "is what is read"),
    ("patch pack edit.safetensors --out ./model/../edit.safetensors --force", "is what is read"),
    ("patch pack edit.safetensors --out link.safetensors --force", "slugkit did not write it"),
    ("patch add edit.safetensors --out edit.safetensors --force", "is what is read"),
    ("patch add edit.safetensors --out mine.safetensors", "is there already"),
    ("patch apply edit.safetensors --model model --out model", "is what is read"),
    ("patch apply edit.safetensors --model model --out model/inside/deep", "lies inside"),
    ("patch apply edit.safetensors --model model --out mine", "is there already"),
    (
        (
            "patch apply edit.safetensors --model model/model.safetensors --out"
            " model/model.safetensors"
        ),
        "is what is read",
    ),
    ("patch apply edit.safetensors --model model --out link.safetensors", "is there already"),
    ("patch remove edit.safetensors --model model --out model/x", "lies inside"),
    ("patch remove edit.safetensors --model model --out mine --base model", "is there already"),
    ("patch remove edit.safetensors --model mine --out model/x --base model", "lies inside"),
    ("laion Mira --metadata laion.parquet --out laion.parquet --force", "is what is read"),
    ("laion Mira --metadata laion.parquet --out mine.parquet --force", "slugkit did not write it"),
    ("laion Mira --metadata laion.parquet --out mine.parquet", "is there already"),
    ("laion Mira --metadata mine --out mine/new.parquet", "lies inside"),
    ("train clip --data mine --out mine", "is what is read"),
    ("train clip --data mine --out mine/model", "lies inside"),
    ("train clip --out mine", "slugkit did not write it"),
    ("train clip --out model --force", "slugkit did not write it"),
    ("train diffusion --clip model --out model/x", "lies inside"),
    ("train diffusion --out mine.csv", "is there already"),
    ("train classifier --out mine", "is there already"),
    ("train vlm --clip model --out model", "is what is read"),
    ("train vlm --out mine --force", "is there already"),
    ("sweep --out mine.csv", "is there already"),
    ("sweep --family vlm --out mine.csv", "is there already"),
    ("sweep --model model --out model/table.csv", "lies inside"),
    ("sweep --out mine", "is there already"),
    ("sweep --out mine.new/../mine.csv", "is there already"),
    ("draw cat --out mine", "is there already"),
    ("draw cat --out mine.csv", "is there already"),
    ("draw cat --pipeline model --out model/drawn", "lies inside"),
    ("student mine.csv", "is there already|is a file"),
]


@pytest.mark.parametrize(("words", "says"), REFUSED)
def test_what_is_there_or_is_read_is_never_written_over(words, says, place):
    before = hashes(place)
    done = CliRunner().invoke(cli.app, words.split())
    assert isinstance(done.exception, SettingError), (done.output, repr(done.exception))
    assert __import__("re").search(says, str(done.exception)), done.exception
    assert hashes(place) == before


def test_force_writes_over_what_slugkit_wrote_and_nothing_else(place):
    def run(words):
        return CliRunner().invoke(cli.app, words.split())

    for words, file in (
        ("patch pack edit.safetensors --out small.safetensors", "small.safetensors"),
        ("patch add edit.safetensors --out sum.safetensors", "sum.safetensors"),
        ("laion Mira --metadata laion.parquet --out found.parquet", "found.parquet"),
    ):
        assert run(words).exit_code == 0 and is_ours(file)
        assert isinstance(run(words).exception, SettingError)
        assert run(f"{words} --force").exit_code == 0
    assert (
        run("patch pack edit.safetensors --out sum.safetensors --rank 2 --force").exit_code == 0
        and patch.load("sum.safetensors").form == "low rank"
    )


def test_what_slugkit_wrote_is_known_by_what_is_in_it(place):
    for columns, mine in (
        (["concept", "ua", "weights"], True),
        (["tower", "draws", "kind", "measure"], True),
        (["concept", "price"], False),
    ):
        write_csv("table.csv", pd.DataFrame({name: ["x"] for name in columns}))
        assert is_ours("table.csv") is mine
    (place / "card").mkdir()
    assert is_ours("card"), "an empty folder"
    (place / "card" / "tokenizer.json").write_text("{}")
    assert is_ours("card"), "a training that was cut off"
    (place / "card" / "model.safetensors").write_text("")
    assert not is_ours("card")
    (place / "card" / "model_card.json").write_text(json.dumps({"weights_sha256": "0"}))
    assert is_ours("card")
    torch.save({}, place / "w.safetensors")
    for name in (
        "w.safetensors",
        "model/model.safetensors",
        "nowhere",
        "mine.parquet",
        "laion.parquet",
        "model",
        "mine",
    ):
        assert not is_ours(name), name


def test_a_new_path_may_lie_beside_what_is_read(place):
    assert (
        new_path("new", "model", "studio", None) == new_path("new")
        and new_path("models-edited", "model").name == "models-edited"
    )
    assert new_path("mine/new.csv", "mine.csv").name == "new.csv"
    with pytest.raises(SettingError, match="one of them lies inside the other"):
        new_path(".", "model")
