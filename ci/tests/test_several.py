"""Several concepts at once: one exam about them, what is measured, who pays for whom, and the ways to put steps together."""

import numpy as np
import pytest
import torch

from slugkit import patch
from slugkit.base import SearchFailedError, SettingError, UnknownConceptError
from slugkit.evaluate.concept import winning_patch
from slugkit.evaluate.measure import FastMeasure, FixedFeatures
from slugkit.evaluate.several import WORDINGS, SeveralMeasure, SeveralScorer, as_table, curve_rows, interference, several_concepts, several_exam
from slugkit.evaluate.statistics import wilson
from slugkit.evaluate.together import (across_wordings, joint_gradient, one_after_another, own_steps, read_by_text_tower, search_jointly, searched_again, slug_patches,
                                       spared_directions, text_layers)
from slugkit.gradients import forget_gradient, retain_gradient
from slugkit.search import Criterion, EditableLayer

TWINS = ["Mira Kestrel", "Selin Drover", "Kofi Okoye"]
LAYER = "transformer.resblocks.0.mlp.c_proj.weight"


@pytest.fixture(scope="module")
def scorer(clip, source):
    return SeveralScorer(clip, several_exam(source, TWINS, "search"))


@pytest.fixture(scope="module")
def gradients(clip, source):
    return {c: forget_gradient(clip, source.forget_set(c, 48), weights=text_layers(clip)) for c in TWINS}


@pytest.fixture(scope="module")
def off(clip, source, gradients):
    """Moments of what the layer reads of captions that name none of the three, and the three directions off their span."""
    moments = read_by_text_tower(clip, source.retain_set(TWINS, 1024).captions, [LAYER])
    return moments, {c: spared_directions(g, moments)[LAYER] for c, g in gradients.items()}


@pytest.fixture(autouse=True)
def nothing_changes(clip):
    """Whatever a test does, the model is as it was, bit for bit."""
    before = {name: w.detach().clone() for name, w in clip.model.named_parameters()}
    yield
    assert all(torch.equal(w.detach(), before[name]) and w.requires_grad for name, w in clip.model.named_parameters())


def test_concepts_come_of_one_kind_the_report_concepts_first_and_leave_enough_to_lose(source):
    assert several_concepts(source, "Kofi Okoye") == ["Kofi Okoye", *[p for p in source.world.report["person"] if p != "Kofi Okoye"]]
    things = several_concepts(source, "car")
    assert things[:2] == ["car", "mushroom"] and len(things) == len(source.world.objects) // 4
    assert len(several_concepts(source, "neon")) == 2
    with pytest.raises(UnknownConceptError):
        several_concepts(source, "Mira Kestrle")


def test_the_exam_holds_every_picture_once_and_additional_ones_count_for_their_concept_alone(source, scorer):
    exam, single = scorer.exam, source.exam("Selin Drover", "search")
    assert exam.pairs.table["key"].is_unique
    mine = exam.shows("Selin Drover")
    assert mine.sum() == len(single.groups()["target"][1]) and exam.base[mine].sum() < mine.sum() and exam.base[~mine & ~exam.shows("Mira Kestrel") & ~exam.shows("Kofi Okoye")].all()
    names = exam.pairs.table["concept"].to_numpy()
    some = exam.groups(["Mira Kestrel"])
    assert "Mira Kestrel" not in set(names[some["people"][1]]) and "Selin Drover" in set(names[some["people"][1]])
    assert set(names[some["neighbours"][1]]) == set(source.neighbours("Mira Kestrel"))
    assert exam.base[some["neighbours"][1]].all() and exam.base[some["people"][1]].all()
    per_person = [np.sum(names[some["people"][1]] == c) for c in ("Selin Drover", "Nell Sorrel")]
    assert per_person[0] == per_person[1]
    every = exam.groups(TWINS)
    assert not set(names[every["people"][1]]) & set(TWINS) and not set(names[every["neighbours"][1]]) & set(TWINS) and "neighbours" not in exam.groups([])
    assert not any(c in prompt for c in TWINS for prompts in exam.prompts["styles"].values() for prompt in prompts)
    for wrong in ([], ["car", "car"]):
        with pytest.raises(SettingError, match="each of them once"):
            several_exam(source, wrong, "search")


def test_a_style_a_thing_and_a_person_go_together(clip, source):
    several = SeveralScorer(clip, several_exam(source, ["neon", "car", "Mira Kestrel"], "search"))
    groups, table = several.exam.groups(["neon", "car", "Mira Kestrel"]), several.exam.pairs.table
    for _, rows in groups.values():
        assert not (table["style"].iloc[rows] == "neon").any() and not table["concept"].iloc[rows].isin(["car", "Mira Kestrel"]).any()
    assert not any("a car" in prompt for prompts in several.exam.prompts["styles"].values() for prompt in prompts) and len(several.exam.prompts["styles"]["photo"]) > 20
    found = several.table(["neon", "car", "Mira Kestrel"])
    assert (found.loc[found["group"] == "target", "value"] > 0.7).all() and {"neighbours, styles", "neighbours, objects"} & set(found["group"])


def test_one_concept_measures_as_the_exam_about_it_alone(clip, source, scorer, gradients):
    plain = FastMeasure(FixedFeatures(clip, source.exam("Kofi Okoye", "search"), [LAYER]), LAYER)
    mine = SeveralMeasure(scorer, LAYER, ["Kofi Okoye"])
    with EditableLayer.of(clip.model, LAYER, gradients["Kofi Okoye"][LAYER]) as editable:
        for rho in (0.0, 0.2, 0.8):
            editable.set(editable.lam(rho))
            assert mine.forget() == pytest.approx({k: v for k, v in plain.forget().items() if k != "n"}) and mine.retain() == pytest.approx(plain.retain())
            both = mine.about(["Mira Kestrel", "Kofi Okoye"]).forget()["fa1"]
            assert both == max(mine.about([c]).forget()["fa1"] for c in ("Mira Kestrel", "Kofi Okoye"))
    with pytest.raises(SettingError, match="vision tower"):
        SeveralMeasure(scorer, "visual.proj", ["Kofi Okoye"])
    report = SeveralScorer.__new__(SeveralScorer)
    report.exam = several_exam(source, ["Kofi Okoye"], "report", 1)
    with pytest.raises(SettingError, match="search split"):
        SeveralMeasure(report, LAYER, ["Kofi Okoye"])


def test_the_table_of_scores_is_that_of_the_answers(clip, scorer):
    t = scorer.classes()
    found = scorer.table(TWINS, t).set_index(["group", "concept"])
    rows = np.flatnonzero(scorer.exam.shows("Kofi Okoye"))
    names = list(scorer.exam.prompts["figures"])
    said = (clip.image_features(scorer.exam.pairs.images[rows]) @ t["figures"].T).argmax(1)
    right = np.array([names[i] == "Kofi Okoye" for i in said])
    one = found.loc[("target", "Kofi Okoye")]
    assert one["value"] == right.mean() and one["n"] == len(rows) and (one["low"], one["high"]) == pytest.approx(wilson(right.sum(), len(rows)))
    curve = curve_rows(scorer, TWINS, [], way="x").set_index("group")
    assert curve.loc["targets", "n"] == sum(found.loc[("target", c), "n"] for c in TWINS) and curve.loc["worst target", "value"] == max(found.loc[("target", c), "value"] for c in TWINS)
    shown = as_table(curve_rows(scorer, TWINS, [], way="x"))
    assert list(shown)[:3] == ["targets", "worst target", "neighbours"] and shown.loc["x", "targets"] == round(100 * curve.loc["targets", "value"], 1)
    assert set(curve["way"]) == {"x"} and set(curve["count"]) == {3} and "targets" not in set(curve_rows(scorer, [], [])["group"])


def test_gradients_of_some_weights_are_those_of_all_and_the_joint_one_is_their_mean(clip, source, gradients):
    whole = forget_gradient(clip, source.forget_set("Kofi Okoye", 48))
    assert set(gradients["Kofi Okoye"]) == set(text_layers(clip))
    for name, g in gradients["Kofi Okoye"].items():
        assert torch.allclose(g, whole[name], atol=1e-5 * whole[name].abs().max().item())
    joint = joint_gradient(gradients.values())
    assert torch.allclose(joint[LAYER], torch.stack([g[LAYER] for g in gradients.values()]).mean(0))
    with pytest.raises(SettingError, match="at least one concept"):
        joint_gradient([])


@torch.no_grad()
def test_what_the_tower_reads_is_what_the_layer_multiplies_up_to_the_end_token(clip):
    captions = ["a photo of a car", "Kofi Okoye", "a mosaic of Mira Kestrel and a tree"]
    block, kept = clip.model.transformer.resblocks[0], []
    handle = block.mlp.c_proj.register_forward_pre_hook(lambda module, inputs: kept.append(inputs[0]))
    tokens = clip.tokens(captions)
    clip.model.encode_text(tokens)
    handle.remove()
    rows = torch.cat([x[:int(ids.argmax()) + 1] for x, ids in zip(kept[0], tokens)]).double()
    assert torch.allclose(read_by_text_tower(clip, captions, [LAYER])[LAYER], rows.T @ rows / len(rows), atol=1e-5)


def test_slug_for_each_is_the_winner_of_its_own_front(clip, source, scorer, gradients):
    retains = [retain_gradient(clip, source.retain_set(TWINS, 64, draw=k), 64) for k in range(2)]
    patches = slug_patches(clip, scorer, gradients, retains)
    assert [p.concept for p in patches] == TWINS
    found = interference(scorer, {p.concept: [p] for p in patches}).set_index(["forgotten", "measured"])["value"]
    assert all(found[c, c] == 0 and found["nothing", c] > 0.7 for c in TWINS)


def test_own_steps_are_patches_that_add_up_in_any_order_and_searched_again_none_is_recognised(clip, scorer, off):
    alone = own_steps(clip, scorer, LAYER, off[1])
    for p in alone:
        with patch.applied(p, clip.model):
            assert SeveralMeasure(scorer, LAYER, [p.concept]).forget()["fa1"] == 0
    again = searched_again(clip, scorer, alone)
    with patch.all_applied(again, clip.model):
        one_way, found = clip.model.get_parameter(LAYER).detach().clone(), SeveralMeasure(scorer, LAYER, TWINS)
        assert found.forget()["fa1"] <= 0.05 and found.retain()["people"] > 0.97
    with patch.all_applied(again[::-1], clip.model):
        assert torch.equal(clip.model.get_parameter(LAYER).detach(), one_way)
    elsewhere = "transformer.resblocks.1.mlp.c_proj.weight"
    third = patch.make(elsewhere, EditableLayer.of(clip.model, elsewhere, off[1]["Kofi Okoye"]), 1.0, "Kofi Okoye")
    with pytest.raises(SettingError, match="one layer"):
        searched_again(clip, scorer, [*alone[:2], third])


def test_a_step_that_the_others_make_needless_leaves_the_list(clip, scorer, off):
    first = own_steps(clip, scorer, LAYER, {"Kofi Okoye": off[1]["Kofi Okoye"]})[0]
    renamed = patch.make(LAYER, EditableLayer.of(clip.model, LAYER, off[1]["Kofi Okoye"]), 1.5 * first.lam, "Selin Drover")
    assert "Kofi Okoye" not in {p.concept for p in searched_again(clip, scorer, [first, renamed], rounds=1, max_trials=2)}


def test_a_layer_that_forgets_nobody_is_an_error_that_names_the_concept(clip, scorer):
    noise = torch.randn(128, 512, generator=torch.Generator().manual_seed(1))
    with pytest.raises(SearchFailedError, match="Kofi Okoye: no step on layer"):
        own_steps(clip, scorer, LAYER, {"Kofi Okoye": noise}, max_trials=1)


def test_one_step_for_all_forgets_all_and_a_stricter_criterion_goes_further(clip, scorer, gradients, off):
    way = spared_directions(joint_gradient(gradients.values()), off[0])
    loose, strict = (search_jointly(clip, scorer, TWINS, way, [LAYER], Criterion(target)) for target in ("fa1", "fa5"))
    first, second = (winning_patch(clip, way, probes, "text", "all") for probes in (loose, strict))
    assert second.lam > first.lam
    with patch.applied(second, clip.model):
        assert SeveralMeasure(scorer, LAYER, TWINS).forget() == {"fa1": 0.0, "fa5": 0.0}
    told = across_wordings(clip, scorer, TWINS, way, strict)
    with patch.applied(second, clip.model):
        said = [scorer.in_words(TWINS, wording) for wording in WORDINGS["search"]]
    row = told.iloc[0]
    assert row["layer"] == LAYER and row["targets"] == pytest.approx(np.mean([s["targets"] for s in said])) and row["others"] == pytest.approx(np.mean([s["others"] for s in said]))
    assert row["score"] == pytest.approx((row["retain"] + 1 - row["targets"] + row["others"]) / 3) and row["targets"] < 0.1 and row["others"] > 0.8
    short_of_it = across_wordings(clip, scorer, TWINS, way, strict.assign(lam=0.3 * strict["lam"])).iloc[0]
    assert short_of_it["targets"] > 0.2 and short_of_it["score"] == pytest.approx((short_of_it["retain"] + 1 - short_of_it["targets"] + short_of_it["others"]) / 3)
    assert not set(WORDINGS["search"]) & set(WORDINGS["report"])
    with pytest.raises(SearchFailedError, match="No layer makes the model forget Mira Kestrel, Selin Drover, Kofi Okoye together"):
        across_wordings(clip, scorer, TWINS, way, strict.assign(chosen=False))


def test_one_after_the_other_takes_fresh_gradients_at_the_weights_as_they_are(clip, source, scorer):
    both = one_after_another(clip, source, scorer, TWINS[:2], LAYER, 48)
    assert [p.concept for p in both] == TWINS[:2]
    alone = forget_gradient(clip, source.forget_set(TWINS[1], 48), weights=[LAYER])[LAYER]
    with patch.applied(both[0], clip.model):
        fresh = forget_gradient(clip, source.forget_set(TWINS[1], 48), weights=[LAYER])[LAYER]
    assert torch.equal(both[1].direction, fresh) and not torch.allclose(fresh, alone, atol=1e-3 * alone.abs().max().item())
    with patch.all_applied(both, clip.model):
        assert SeveralMeasure(scorer, LAYER, [TWINS[1]]).forget()["fa1"] == 0
