"""The one call: for one concept or several, on the studio's data or on a caller's own pairs."""

import copy
import subprocess
import sys
import time

import pytest
import torch
from repository import REPOSITORY

import slugkit as sk
from slugkit.base import SearchFailedError, SettingError
from slugkit.data import open_data
from slugkit.method.search import Criterion
from slugkit.models import load_clip
from slugkit.models.classifier import load_classifier
from slugkit.models.diffusion import load_pipeline
from slugkit.models.vlm import load_vlm
from slugkit.unlearning.call import unlearn
from slugkit.unlearning.concept import MARGIN
from slugkit.unlearning.families import Job, OnClip, OnPipeline, OnVlm
from slugkit.unlearning.retain import RetainSide

WHO, OTHER = "Oskar Marlow", "Kofi Okoye"
SMALL = {"forget_size": 16, "max_trials": 2, "towers": ("text",)}


@pytest.fixture(scope="module")
def clip():
    return load_clip("studio", "cpu")


@pytest.fixture(scope="module")
def data():
    return open_data("studio")


@pytest.fixture(scope="module")
def side(clip, data):
    return RetainSide(clip, data, [WHO, OTHER], 64, 32)


def test_the_face_is_ten_names_that_load_nothing_until_they_are_asked_for():
    code = "import sys, slugkit as sk; print({'torch', 'pandas', 'numpy'} & set(sys.modules))"
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=REPOSITORY)
    assert done.stdout.split() == [b"set()"] and time.perf_counter() - start < 3, done.stderr
    assert len(sk.FACE) == 10 and set(sk.FACE) <= set(dir(sk))
    assert all(getattr(sk, name) is not None for name in sk.FACE)
    with pytest.raises(AttributeError, match="forget"):
        sk.forget  # noqa: B018


def test_both_methods_search_the_same_layers_with_the_same_probes(clip, data, side):
    before = {n: w.clone() for n, w in clip.model.state_dict().items()}
    slug = unlearn(clip, data, WHO, shared=side, **SMALL)
    ours = unlearn(clip, data, WHO, "SLUG-R", shared=side, ranked=slug, **SMALL)
    assert (slug.method, ours.method) == ("SLUG", "SLUG-R") and ours.layers is slug.layers
    assert slug.searched == ours.searched == list(dict.fromkeys(slug.table["layer"]))
    assert set(slug.table["probe"]) <= {1, 2} and set(ours.table["probe"]) <= {1, 2}
    assert slug.costs["pairs"] == ours.costs["pairs"] == 16 + 64
    with pytest.raises(SettingError, match="Leave `ranked` out"):
        unlearn(clip, data, OTHER, "SLUG-R", shared=side, ranked=slug, **SMALL)
    with pytest.raises(SettingError, match="belongs to another model"):
        unlearn(copy.copy(clip), data, WHO, shared=side, **SMALL)
    with pytest.raises(SearchFailedError, match="'vision' was not searched"):
        slug.edit("vision")
    assert all(torch.equal(w, clip.model.state_dict()[n]) for n, w in before.items())


@pytest.mark.parametrize(
    ("method", "usual"), [("SLUG-R", MARGIN), ("SLUG", None), ("SLUG-R, no margin", None)]
)
def test_a_margin_that_is_asked_for_counts_for_every_method(method, usual):
    job, asked = Job(None, None, WHO, method, None, None), {"text": 1.5}
    assert OnClip().limits(job)[2] == usual and OnClip(margins=asked).limits(job)[2] == asked


class Share:
    """A caller's own measure: by how much the text tower's projection has moved."""

    def __init__(self, clip):
        self.weight, self.before = (
            clip.model.text_projection,
            clip.model.text_projection.detach().clone(),
        )
        self.asked = 0

    def moved(self):
        return float((self.weight.detach() - self.before).norm() / self.before.norm())

    def forget(self):
        self.asked += 1
        return {"fa1": max(0.0, 0.9 - 5 * self.moved()), "fa5": 1.0}

    def retain(self):
        return {"retain": 1 - self.moved()}


def test_pairs_and_an_objective_of_ones_own(clip, data):
    forget, retain = data.forget_set(WHO, 8, 0), data.retain_set([WHO], 32, 0)
    measure = Share(clip)
    found = unlearn(
        clip,
        concept="whoever this is",
        forget=forget,
        retain=retain,
        objective=measure,
        criterion=Criterion("fa1", 0.2),
        which="all",
        towers=("text",),
        batch_size=16,
        max_trials=6,
    )
    edit = found.patches["text"]
    assert edit.layer == "text_projection" and edit.concept == "whoever this is"
    assert measure.asked == len(found.table) and found.costs["pairs"] == 8 + 32
    chosen = found.table.query("chosen & layer == 'text_projection'").iloc[0]
    assert chosen["rho"] >= (0.9 - 0.2) / 5 and measure.moved() == 0
    with found.applied(clip):
        assert measure.moved() == pytest.approx(chosen["rho"], rel=1e-3)
    assert measure.moved() == 0


def test_several_concepts_at_once(clip, data, side):
    given = {"forget_size": 16, "max_trials": 5, "shared": side}
    added = unlearn(clip, data, [WHO, OTHER], **given)
    assert set(added.patches) | set(added.failed) == {WHO, OTHER} and added.patches
    joint = unlearn(clip, data, [WHO, OTHER], "slug-r", **given)
    assert list(joint.patches) == ["text"] and joint.concept == f"{WHO}, {OTHER}"
    with pytest.raises(SettingError, match="about one concept of the data"):
        sk.evaluate(clip, data, joint)
    before = clip.text_features([WHO])
    with joint.applied(clip):
        assert not torch.equal(before, clip.text_features([WHO]))
    assert torch.equal(before, clip.text_features([WHO]))


def test_what_cannot_be_asked_is_refused_before_anything_starts(clip, data):
    with pytest.raises(SettingError, match="did you mean SLUG"):
        unlearn(clip, data, WHO, "slugr")
    with pytest.raises(SettingError, match="neither data nor"):
        unlearn(clip)
    with pytest.raises(SettingError, match="a loaded model was expected"):
        unlearn("studio", data, WHO)
    with pytest.raises(SettingError, match="a source was expected"):
        unlearn(clip, "studio", WHO)
    with pytest.raises(SettingError, match="The set of layers"):
        unlearn(clip, data, WHO, which="pareto")
    with pytest.raises(SettingError, match="The tower"):
        unlearn(clip, data, WHO, towers="text")
    with pytest.raises(SettingError, match="some of both"):
        unlearn(clip, data, WHO, criterion=Criterion("fa1"))
    with pytest.raises(SettingError, match="some of both"):
        unlearn(clip, data, WHO, forget=data.forget_set(WHO, 2, 0))
    with pytest.raises(SettingError, match="one concept at a time"):
        unlearn(clip, data, [WHO, OTHER], on=object())
    own = {"forget": data.forget_set(WHO, 2, 0), "retain": data.retain_set([WHO], 4, 0)}
    with pytest.raises(SettingError, match="Leave `on` out"):
        unlearn(clip, on=object(), objective=Share(clip), **own)
    with pytest.raises(SettingError, match="cannot be searched on a dict"):
        unlearn(clip, data, WHO, on={})


def test_the_step_is_searched_on_what_a_llava_answers(clip, data, side):
    on = OnVlm(load_vlm("studio", "cpu"), size=1, max_trials=1, paper_only=True, target_size=14)
    found = unlearn(clip, data, WHO, on=on, shared=side, forget_size=16)
    front = found.layers.loc[found.layers["front"], "layer"].tolist()
    assert found.searched == front == found.table["layer"].tolist() and len(front) == 1
    assert front[0].startswith("visual.transformer.resblocks.")
    assert found.costs["probes"] == 1 and set(found.patches) | set(found.failed) == {"vision"}


def test_the_step_is_searched_on_what_a_pipeline_draws(clip, data, side):
    judge = load_classifier(device="cpu")
    on = OnPipeline(load_pipeline("studio", "cpu"), judge, max_trials=2, sampling=(1, 1))
    found = unlearn(clip, data, WHO, "slug-r", on=on, shared=side, forget_size=16)
    assert found.searched == found.layers.loc[found.layers["front"], "layer"].tolist()
    assert found.table["drawn"].iloc[0] >= 8 * len(found.table) and found.at_most < 0.051
    assert found.layers.loc[found.layers["pareto"], "layer"].isin(found.searched).any()
    assert "not forgotten" in found.outcome() or "rho" in found.outcome()
    assert found.outcome().endswith(f"{len(found.table)} trial steps")
    assert set(found.patches) | set(found.failed) == {"text"}
