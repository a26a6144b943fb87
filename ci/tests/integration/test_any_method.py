"""Any method under the one call, one of a person's own, and the table of all at equal budgets."""

import importlib.util
import textwrap
from dataclasses import replace

import pandas as pd
import pytest
import torch
from tiny_clip import changed, state

import slugkit as sk
from slugkit.base import CheckFailed, SettingError
from slugkit.evaluation.diffusion import drawn_prompts
from slugkit.experiments.methods import FORGET, RETAIN, Part, check_budgets, sweep_methods
from slugkit.method.search import Criterion
from slugkit.models.classifier import load_classifier
from slugkit.models.diffusion import load_pipeline
from slugkit.tasks import answer_set_of
from slugkit.unlearning.families import OnPipeline
from slugkit.unlearning.probing import PROBES, Budget
from slugkit.unlearning.retain import RetainSide

WHO = "Oskar Marlow"
SMALL = {"forget_size": 48, "towers": ("text",), "budget": Budget(1024, 8)}
OWN = """
    '''Shrink the text projection until the concept is gone: a method of one's own.'''
    from slugkit.unlearning.methods import method
    from slugkit.unlearning.probing import Dial


    @method("shrink", source="an example", towers=("text",))
    def shrink(trial):
        w = trial.originals["text_projection"]

        def write(strength):
            return {"text_projection": w / (1 + strength)}

        trial.search(Dial(trial, write), 0.5, trial.probes_left // 2)
        trial.remarks.append("it takes no gradient")
"""


@pytest.fixture(scope="module")
def side(clip, source):
    return RetainSide(clip, source, [WHO], 256, 64)


@pytest.mark.parametrize("name", ["GAFT", "every layer", "null space"])
def test_a_rival_gives_a_result_that_is_used_like_slugs(clip, source, side, name, tmp_path):
    before = state(clip.model)
    found = sk.unlearn(clip, source, WHO, name.upper(), shared=side, **SMALL)
    assert not changed(before, clip.model) and found.method == name
    assert found.costs["probes"] == len(found.table) <= 8 and found.costs["pairs"] <= 1024
    edit = found.patches.get("text") or found.nearest["text"]
    assert ("text" in found.patches) != ("text" in found.failed)
    assert found.table["chosen"].sum() == 1 and set(found.table["tower"]) == {"text"}
    with edit.applied(clip.model):
        inside = changed(before, clip.model)
    assert inside == {p.layer for p in edit.patches} and not changed(before, clip.model)
    assert all(torch.equal(w, before[n]) for n, w in clip.model.state_dict().items())
    assert edit.save(tmp_path / "edit").is_dir()
    assert name in str(edit.patches[0].provenance)


def test_the_edit_of_all_layers_is_reported_like_any_other(clip, source, side):
    found = sk.unlearn(clip, source, WHO, "every layer", shared=side, **SMALL)
    slug = sk.unlearn(clip, source, WHO, shared=side, **SMALL)
    assert slug.table.groupby("layer").size().max() <= 8 // slug.table["layer"].nunique()
    metrics = sk.evaluate(clip, source, [slug, found], per_style=1)
    target = metrics[(metrics["group"] == "target") & (metrics["wording"] == "mean")]
    fa1 = target[target["metric"] == "FA@1"].set_index("method")["value"]
    assert fa1["every layer"] < 0.1 < 0.9 < fa1[""].max()
    assert found.outcome().startswith("17 layers, rho ")


def test_a_method_of_ones_own_in_one_file(clip, source, side, tmp_path, monkeypatch):
    monkeypatch.setattr("slugkit.unlearning.methods.registry.METHODS", dict(sk.METHODS))
    file = tmp_path / "shrink.py"
    file.write_text(textwrap.dedent(OWN))
    assert len(OWN.splitlines()) < 60
    spec = importlib.util.spec_from_file_location("shrink", file)
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    found = sk.unlearn(clip, source, WHO, "Shrink", shared=side, **SMALL)
    assert found.method == "shrink" and found.costs["probes"] == 4
    assert "cannot change the vision" not in str(found.failed)
    # features are of unit length, so a smaller projection changes no answer
    assert found.failed and found.table["fa1"].nunique() == 1


def test_what_a_rival_cannot_do_is_refused(clip, source, side):
    with pytest.raises(
        SettingError, match="null space can change text, and was asked to change vision"
    ):
        sk.unlearn(clip, source, WHO, "null space", shared=side, towers=("vision",))
    with pytest.raises(SettingError, match="several concepts together; one of SLUG, SLUG-R"):
        sk.unlearn(clip, source, [WHO, "Kofi Okoye"], "GA")
    pipe = load_pipeline("studio", "cpu")
    with pytest.raises(SettingError, match="GA can change text and vision, .* Leave `on` out"):
        sk.unlearn(clip, source, WHO, "GA", on=pipe, shared=side)
    with pytest.raises(SettingError, match="UCE can change pipeline, .* Hand it the model"):
        sk.unlearn(clip, source, WHO, "UCE", shared=side)
    with pytest.raises(SettingError, match="'GAN' is unknown"):
        sk.unlearn(clip, source, WHO, "GAN")


def test_a_rival_on_a_pipeline_is_used_like_slugs_edit_of_it(clip, source, side):
    pipe, judge = load_pipeline("studio", "cpu"), load_classifier("studio", "cpu")
    before = {name: w.detach().clone() for name, w in pipe.unet.named_parameters()}
    given = {"on": OnPipeline(pipe, judge), "shared": side, "forget_size": 48}
    found = sk.unlearn(clip, source, WHO, "uce", budget=Budget(304, 6), **given)
    assert found.costs["probes"] == len(found.table) <= 6 and found.family == "OnPipeline"
    edit = found.patches.get("pipeline") or found.nearest["pipeline"]
    asked = answer_set_of(source, WHO, "search", 4, 1).iloc[:4]
    plain = drawn_prompts(pipe, asked)
    with replace(found, patches={"pipeline": edit}).applied(pipe) as edited:
        assert (drawn_prompts(edited, asked) != plain).any()
    assert all(torch.equal(w, before[n]) for n, w in pipe.unet.named_parameters())
    with pytest.raises(SettingError, match="UCE left the CLIP as it is"):
        sk.evaluate(clip, source, replace(found, patches={"pipeline": edit}))


def test_a_rival_on_pairs_and_an_objective_of_ones_own(clip, source):
    class Moved:
        def __init__(self):
            self.start = clip.model.text_projection.detach().clone()

        def forget(self):
            moved = float((clip.model.text_projection.detach() - self.start).norm())
            return {"fa1": max(0.0, 1 - moved), "fa5": 1.0}

        def retain(self):
            return {"retain": 0.5}

    forget, retain = source.forget_set(WHO, 48, 0), source.retain_set([WHO], 96, 0)
    given = {"forget": forget, "retain": retain, "objective": Moved(), "towers": ("text",)}
    given |= {"criterion": Criterion("fa1", 0.3), "budget": Budget(1024, 12)}
    found = sk.unlearn(clip, concept="somebody", method="GA", **given)
    assert found.patches["text"].concept == "somebody"
    assert found.table.loc[found.table["chosen"], "fa1"].item() <= 0.3


def rows(**more):
    pairs = more.pop("times", 1) * (FORGET + RETAIN)
    usual = {"method": "GA", "concept": WHO, "unused": None}
    usual |= {"may_pairs": pairs, "may_probes": PROBES}
    return usual | {"pairs": FORGET + RETAIN, "probes": PROBES} | more


def test_budgets_that_are_missed_without_a_word_are_found():
    check_budgets(pd.DataFrame([rows(), rows(pairs=2500), rows(probes=3, unused="it ends")]))
    check_budgets(pd.DataFrame([rows(times=10, pairs=26000)]))
    for bad in ({"pairs": 3000}, {"pairs": 2000}, {"probes": 45, "unused": "why"}, {"probes": 30}):
        with pytest.raises(CheckFailed, match="1 budgets were missed.*GA on Oskar Marlow"):
            check_budgets(pd.DataFrame([rows(), rows(**bad)]))
    with pytest.raises(CheckFailed, match="2680 pairs"):
        check_budgets(pd.DataFrame([rows(times=10)]))


def test_a_model_of_ones_own_does_not_write_among_the_studios_tables():
    with pytest.raises(SettingError, match="a place of its own was expected"):
        sweep_methods([WHO], model="somewhere/else")


@pytest.mark.slow
def test_the_table_goes_on_and_is_the_same_by_two_processes(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    small = {"retain": 128, "per_style": 1}
    given = {"parts": [Part(seed=1, **small)], "methods": ["null space"]}
    both = [WHO, "Bram Hollick"]
    first = sweep_methods(both, folder=tmp_path / "one", **given)
    files = {p: p.read_bytes() for p in (tmp_path / "one").iterdir()}
    assert sorted(p.name for p in files) == ["text-1x-seed1.csv"]
    sweep_methods(both, folder=tmp_path / "one", **given)
    assert files == {p: p.read_bytes() for p in (tmp_path / "one").iterdir()}  # nothing was redone
    second = sweep_methods(both, folder=tmp_path / "two", processes=2, **given)
    apart = ["seconds", "peak_mb"]
    pd.testing.assert_frame_equal(first.drop(columns=apart), second.drop(columns=apart))
    known = first[first["concept"] == WHO]
    assert known["kl_after"].notna().all() and set(first["seed"]) == {1}
    assert first["forgotten"].all() and (first["fa1_after"] < 0.05).all()
