"""The judge of generated pictures at the smallest size: trained, saved in half precision, loaded,
asked.
"""

import json

import numpy as np
import pytest
import torch
from tiny_trainings import JUDGE

from slugkit import studio
from slugkit.base import ModelLoadError, data_dir
from slugkit.data import open_data
from slugkit.evaluation.clip_judge import judge_of
from slugkit.models import load_clip
from slugkit.models.classifier import load_classifier
from slugkit.studio.train import classifier as training

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def world():
    return studio.load_world()


@pytest.fixture(scope="module")
def folder(tmp_path_factory, world):
    place = tmp_path_factory.mktemp("classifier")
    records = [
        r
        for s in ("Mira Kestrel", "car")
        for r in studio.solo_records("train", s, 4, ["neon", "sketch"], world)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLUGKIT_RUNS", str(place / "runs"))
        patch.setattr(training, "report_records", lambda world: records)
        return training.train_classifier(
            out=place / "judge", recipe=JUDGE, records=records, device="cpu"
        )


def test_classes_are_all_subjects_and_novel_ones_have_a_name_of_their_own(world):
    names = training.subject_classes(world)
    assert (
        len(set(names))
        == len(names)
        == len(world.people) + len(world.characters) + len(world.objects) + len(world.novel)
    )
    odd = studio.Record("train", 0, "novel", ("star", "house"), "neon", ("red",))
    assert odd.name == "star-shaped house"
    records = training.report_records(world, 1)
    assert {r.split for r in records} == {"report"} and {r.name for r in records} == set(names)


def test_it_names_subject_and_style(folder):
    judge = load_classifier(folder, "cpu")
    pictures = np.stack(
        [
            studio.draw(r)
            for s in ("Mira Kestrel", "car")
            for r in studio.solo_records("train", s, 1, ["neon", "sketch"])
        ]
    )
    said = judge.name(pictures)
    assert (
        set(said.columns) == {"subject", "style", "subject_share", "style_share"} and len(said) == 4
    )
    assert set(said["style"]) <= {"neon", "sketch"}, (
        "thirty steps are enough to leave the styles never seen"
    )
    assert said["style_share"].between(0, 1).all()


def test_the_card_and_the_half_precision(folder):
    from safetensors.torch import load_file

    assert all(
        v.dtype in (torch.float16, torch.int64)
        for v in load_file(folder / "model.safetensors").values()
    )
    scores = json.loads((folder / "model_card.json").read_text(encoding="utf-8"))["scores"]
    assert {s["what"] for s in scores} == {"people", "objects", "styles"} and all(
        s["low"] <= s["value"] <= s["high"] for s in scores
    )


def test_a_judge_says_which_folder_a_notebook_is_to_note(folder):
    source, clip = open_data("studio"), load_clip("studio", "cpu")
    assert judge_of(source, clip, None, str(folder)).weights == folder
    assert judge_of(source, clip, None).weights == data_dir() / "studio" / "classifier"
    assert load_classifier(str(folder), "cpu").weights == folder


@pytest.mark.parametrize("named", ["", "ViT-B-32:laion400m_e32", "openai/clip-vit-large-patch14"])
def test_a_judge_that_is_no_classifiers_folder_is_said_with_its_setting(named, tmp_path):
    says = "has no config.json. .*slugkit train classifier.*`judge_model` is the folder"
    with pytest.raises(ModelLoadError, match=says):
        judge_of(open_data("studio"), load_clip("studio", "cpu"), None, named or str(tmp_path))


def test_missing_and_unfit_files_say_what_to_do(folder, tmp_path):
    with pytest.raises(ModelLoadError, match="slugkit train classifier"):
        load_classifier(tmp_path)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "config.json").write_text(
        json.dumps({**config, "styles": config["styles"][:-1]}), encoding="utf-8"
    )
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    with pytest.raises(ModelLoadError, match="do not fit"):
        load_classifier(tmp_path)
    with pytest.raises(ModelLoadError, match="uint8"):
        load_classifier(folder, "cpu").name(np.zeros((1, 64, 64, 3)))
