"""A CLIP on a person's own folder: what is looked at before the first step, how many steps it
takes, what its card says; and on which CLIP the others are trained.
"""

import json
import shutil

import pytest
from tiny_trainings import folder_of

from slugkit.base import EmptySetError, SettingError, data_dir
from slugkit.models import load_clip
from slugkit.studio.train import clip as training
from slugkit.studio.train import loop
from slugkit.studio.train.card import read_card, require_of_studio
from slugkit.studio.train.clip import Recipe, train_clip
from slugkit.studio.train.diffusion import train_diffusion
from slugkit.studio.train.own_data import require_examinable, steps_for
from slugkit.studio.train.vlm import train_vlm
from slugkit.unlearning.concept import load_oracle


@pytest.fixture
def no_step(monkeypatch):
    """A training that may not begin."""
    monkeypatch.setattr(loop, "fit", lambda *given, **named: pytest.fail("it was trained"))


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        (
            {"label": str},
            "no column concept.*it has file, caption, split, label. Rename label to concept",
        ),
        ({"Class": str, "size": len}, "Rename Class to concept"),
        ({"category": str, "species": str}, "Rename category or species to concept"),
        ({"names": str}, "Rename names to concept"),
        ({}, "no column concept.*Add it"),
        ({"concept": lambda kind: ""}, "The column concept of .* is empty"),
        ({"concept": lambda kind: "ant"}, "All labelled pictures .* show 'ant'"),
    ],
)
def test_a_folder_that_cannot_be_examined_is_refused_before_the_first_step(
    tmp_path, no_step, columns, says
):
    place = folder_of(tmp_path / "mine", columns)
    with pytest.raises(SettingError, match=f"(?s){says}"):
        train_clip(data=str(place), out=tmp_path / "clip")
    assert not (tmp_path / "clip").exists()


def test_a_folder_without_report_pictures_is_refused(tmp_path, no_step):
    with pytest.raises(EmptySetError, match="no labelled picture for the report"):
        train_clip(
            data=str(folder_of(tmp_path / "mine", {"concept": str}, splits=("train", "search"))),
            out=tmp_path / "clip",
        )
    assert require_examinable(folder_of(tmp_path / "fine", {"concept": str})) == 2


@pytest.mark.parametrize(
    ("classes", "pictures", "steps"),
    [
        (10, 1_078, 700),
        (2, 12, 700),
        (35, 1_000, 700),
        (36, 1_000, 720),
        (155, 930, 3_100),
        (10, 60_000, 5_000),
        (1_000, 50_000, 20_000),
    ],
)
def test_steps_follow_the_size_of_the_data(classes, pictures, steps):
    assert steps_for(classes, pictures, 60) == steps


def test_the_studios_own_steps_are_those_that_its_models_were_made_with():
    for card in ("clip", "clip-without-mira-kestrel", "clip-without-selin-drover"):
        assert read_card(data_dir() / "studio" / card)["recipe"]["steps"] == Recipe().steps == 3600


def test_a_card_tells_the_truth_about_pictures_that_are_not_ours(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SLUGKIT_RUNS", str(tmp_path / "runs"))
    asked = []
    monkeypatch.setattr(
        loop,
        "fit",
        lambda model, loss_at, recipe, *rest, **named: (
            asked.append(recipe.steps) or [loss_at(0).item()]
        ),
    )
    for name, without in (("my insects", None), ("studio", None), ("with/slash", "bee")):
        place = folder_of(tmp_path / "data" / name, {"concept": str})
        folder = train_clip(
            data=f"{place}/", out=tmp_path / "clips" / name, without=without, device="cpu"
        )
        facts, text = read_card(folder), (folder / "README.md").read_text(encoding="utf-8")
        assert facts["data"] == place.name and facts["classes"] == 2 and asked.pop() == 700
        assert (
            "After 700 steps on" in text
            and "of 2 classes" in text
            and "guessing is right about 50.0 %" in text
        )
        assert (
            f"{facts['pictures']:,} pictures" in text
            and f"{100 * facts['scores'][0]['value']:.1f} %" in text
        )
        assert "invented" not in text and str(tmp_path) not in text + json.dumps(facts)
        said = capsys.readouterr().out
        assert (
            f"{place.name}: 2 classes, {facts['pictures']} training pictures, 700 steps" in said
            and "guessing is right about" in said
        )
        with pytest.raises(SettingError, match="a CLIP trained on the studio was expected"):
            require_of_studio(str(folder), "a pipeline")


def test_a_training_does_not_go_on_from_that_of_other_pictures(tmp_path, monkeypatch):
    monkeypatch.setenv("SLUGKIT_RUNS", str(tmp_path / "runs"))
    kept = []
    monkeypatch.setattr(training, "fit", lambda *given: kept.append(given[-1]) or [1.0])
    for name, classes in (
        ("one", ("ant", "bee")),
        ("two", ("ant", "bee", "fly")),
        ("one", ("ant", "bee")),
    ):
        place = tmp_path / name / "data"
        if not place.exists():
            folder_of(place, {"concept": str}, classes=classes)
        train_clip(data=str(place), out=tmp_path / name / "clip", device="cpu")
    assert kept[0] == kept[2] != kept[1]


@pytest.mark.parametrize("train", [train_diffusion, train_vlm])
def test_only_a_clip_of_the_studio_carries_the_studios_models(tmp_path, train):
    other, bare = tmp_path / "other", tmp_path / "bare"
    for place, card in ((other, {"data": "digits", "classes": 10}), (bare, None)):
        shutil.copytree(data_dir() / "studio" / "clip", place)
        (place / "model_card.json").unlink()
        if card:
            (place / "model_card.json").write_text(json.dumps(card))
    for clip, says in (
        (str(other), "was trained on digits"),
        (str(bare), "no model card"),
        ("ViT-B-32:openai", "no model card"),
    ):
        with pytest.raises(SettingError, match=f"{says}.*trained on the studio was expected"):
            train(clip=clip, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    for clip in ("studio", "studio-without-mira-kestrel", str(data_dir() / "studio" / "clip")):
        assert require_of_studio(clip, "a pipeline") is None


def test_an_oracle_is_that_of_its_concept(tmp_path, capsys):
    base = tmp_path / "clip"
    shutil.copytree(data_dir() / "studio" / "clip", base)
    shutil.copytree(
        data_dir() / "studio" / "clip-without-mira-kestrel", tmp_path / "clip-without-mira-kestrel"
    )
    clip = load_clip(str(base), "cpu")
    assert (
        load_oracle(clip, "Mira Kestrel").source == str(base)
        and load_oracle(clip, "Selin Drover") is None
    )
    assert load_oracle(clip, "Mira/Kestrel") is None, "another name that is written alike in a path"
    card = tmp_path / "clip-without-mira-kestrel" / "model_card.json"
    assert not capsys.readouterr().out
    card.write_text(json.dumps({"without": "Mira  Kestrel"}))
    assert load_oracle(clip, "Mira Kestrel") is None
    said = capsys.readouterr().out
    assert "trained without 'Mira  Kestrel', not without 'Mira Kestrel'" in said
    for broken in ("{", "[1]", "", '"Mira Kestrel"'):
        card.write_text(broken)
        assert load_oracle(clip, "Mira Kestrel").source == str(base), broken
