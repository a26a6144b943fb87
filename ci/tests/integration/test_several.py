"""Several concepts at once: one exam about them, what is measured, what one edit costs the others,
and the ways to put steps together.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

from slugkit import patch
from slugkit.base import SearchFailedError, SettingError, UnknownConceptError
from slugkit.data.names import names_concept
from slugkit.evaluation.clip import Scorer, zero_shot_task
from slugkit.evaluation.statistics import over_wordings
from slugkit.method.directions import retain_aware_directions
from slugkit.method.edit import EditableLayer
from slugkit.method.search import Criterion
from slugkit.unlearning.adding import as_table, curve_rows, interference
from slugkit.unlearning.concepts import several_concepts
from slugkit.unlearning.gradients import forget_gradient
from slugkit.unlearning.objectives import CachedMeasure
from slugkit.unlearning.retain import RetainSide
from slugkit.unlearning.several import (
    joint_gradient,
    joint_step,
    own_steps,
    slug_patches,
    text_layers,
)

TWINS = ["Mira Kestrel", "Selin Drover", "Kofi Okoye"]
LAYER = "transformer.resblocks.0.mlp.c_proj.weight"


def fewer(exam):
    """The exam in every fifth of its wordings."""
    asked = {d: dict(list(said.items())[::5]) for d, said in exam.prompts.items()}
    return replace(exam, prompts=asked)


@pytest.fixture(scope="module")
def scorer(clip, source):
    return Scorer(clip, fewer(zero_shot_task(source, TWINS, "search")))


@pytest.fixture(scope="module")
def side(clip, source):
    return RetainSide(clip, source, TWINS, 512)


@pytest.fixture(scope="module")
def gradients(clip, forget):
    layers = text_layers(clip)
    return {c: forget_gradient(clip, pairs, weights=layers) for c, pairs in forget.items()}


@pytest.fixture(scope="module")
def forget(source):
    return {c: source.forget_set(c, 48) for c in TWINS}


@pytest.fixture(scope="module")
def alone(clip, scorer, forget, side):
    """SLUG's patches and probes, each concept from the unedited weights."""
    return slug_patches(clip, scorer, forget, side, max_trials=6)


@pytest.fixture(scope="module")
def aware(side, gradients):
    """SLUG-R's direction of each of the three on the layer."""
    moments = side.moments([LAYER])
    return {c: retain_aware_directions(g, moments, 0.01)[LAYER] for c, g in gradients.items()}


@pytest.fixture(autouse=True)
def nothing_changes(clip):
    """Whatever a test does, the model is as it was, bit for bit."""
    before = {name: w.detach().clone() for name, w in clip.model.named_parameters()}
    yield
    assert all(
        torch.equal(w.detach(), before[name]) and w.requires_grad
        for name, w in clip.model.named_parameters()
    )


def test_concepts_come_of_one_kind_the_report_concepts_first_and_leave_enough_to_lose(source):
    assert several_concepts(source, "Kofi Okoye") == [
        "Kofi Okoye",
        *[p for p in source.world.report["person"] if p != "Kofi Okoye"],
    ]
    things = several_concepts(source, "car")
    assert things[:2] == ["car", "mushroom"] and len(things) == len(source.world.objects) // 4
    assert len(several_concepts(source, "neon")) == 2
    with pytest.raises(UnknownConceptError):
        several_concepts(source, "Mira Kestrle")


def test_the_exam_holds_every_picture_once_and_additional_ones_count_for_their_concept_alone(
    source, scorer
):
    exam, single = scorer.exam, source.exam("Selin Drover", "search")
    assert exam.pairs.table["key"].is_unique
    mine = exam.shows("Selin Drover")
    assert (
        mine.sum() == len(single.groups()["target"][1])
        and exam.base[mine].sum() < mine.sum()
        and exam.base[~mine & ~exam.shows("Mira Kestrel") & ~exam.shows("Kofi Okoye")].all()
    )
    names = exam.pairs.table["concept"].to_numpy()
    some = exam.rest(["Mira Kestrel"])
    assert "Mira Kestrel" not in set(names[some["people"][1]]) and "Selin Drover" in set(
        names[some["people"][1]]
    )
    assert set(names[some["neighbours"][1]]) == set(source.neighbours("Mira Kestrel"))
    assert exam.base[some["neighbours"][1]].all() and exam.base[some["people"][1]].all()
    per_person = [np.sum(names[some["people"][1]] == c) for c in ("Selin Drover", "Nell Sorrel")]
    assert per_person[0] == per_person[1]
    every = exam.rest(TWINS)
    assert (
        not set(names[every["people"][1]]) & set(TWINS)
        and not set(names[every["neighbours"][1]]) & set(TWINS)
        and "neighbours" not in exam.rest([])
    )
    texts = [
        t for said in exam.prompts["styles"].values() for style in said.values() for t in style
    ]
    assert texts and not any(c in text for c in TWINS for text in texts)
    for wrong in ([], ["car", "car"]):
        with pytest.raises(SettingError, match="each of them once"):
            zero_shot_task(source, wrong, "search")


def test_a_style_a_thing_and_a_person_go_together(clip, source):
    several = Scorer(clip, zero_shot_task(source, ["neon", "car", "Mira Kestrel"], "search"))
    groups, table = several.exam.rest(["neon", "car", "Mira Kestrel"]), several.exam.pairs.table
    for _, rows in groups.values():
        assert (
            not (table["style"].iloc[rows] == "neon").any()
            and not table["concept"].iloc[rows].isin(["car", "Mira Kestrel"]).any()
        )
    found = several.table(["neon", "car", "Mira Kestrel"])
    assert (found.loc[found["group"] == "target", "value"] > 0.7).all()
    assert {"neighbours, styles", "neighbours, objects"} & set(found["group"])
    assert several.criterion() == Criterion("fa1"), "among seven styles first place is what counts"
    targets = found[found["group"] == "target"]
    curve = curve_rows(several, ["neon", "car", "Mira Kestrel"], []).set_index("group")
    for k in (1, 5):
        mine = targets[targets["metric"] == f"FA@{k}"]
        pooled = np.average(mine["value"], weights=mine["n"])
        assert curve.loc[f"targets, FA@{k}", "value"] == pytest.approx(pooled)


@pytest.mark.parametrize("split", ["search", "report"])
def test_no_wording_names_a_concept_and_none_is_asked_in_both_splits(source, split):
    gone = ["tree", "house", "Amara Finch", "Teodor Glass", "neon"]
    exam = zero_shot_task(source, gone, split)
    asked = [w for d in ("figures", "objects") for w in exam.prompts[d]]
    assert asked and not any(names_concept(w, c) for w in asked for c in gone)
    texts = [
        (style, text)
        for said in exam.prompts["styles"].values()
        for style, about in said.items()
        for text in about
    ]
    assert not any(names_concept(t, c) for style, t in texts for c in gone if c != style)
    other = zero_shot_task(source, gone, "report" if split == "search" else "search")
    others = {
        t for said in other.prompts["styles"].values() for about in said.values() for t in about
    }
    assert len(texts) > 100 and not {t for _, t in texts} & others
    assert not set(exam.prompts["figures"]) & set(other.prompts["figures"])


def test_one_concept_measures_as_the_exam_about_it_alone(clip, source, scorer, gradients):
    alone = fewer(source.exam("Kofi Okoye", "search"))
    plain = CachedMeasure(Scorer(clip, alone, layers=[LAYER]), LAYER)
    mine = CachedMeasure(scorer, LAYER, ["Kofi Okoye"])
    with EditableLayer.of(clip.model, LAYER, gradients["Kofi Okoye"][LAYER]) as editable:
        for rho in (0.0, 0.2, 0.8):
            editable.set(editable.lam(rho))
            assert mine.forget() == plain.forget() and mine.retain() == plain.retain()
            each = [mine.about([c]).forget() for c in ("Mira Kestrel", "Kofi Okoye")]
            both = mine.about(["Mira Kestrel", "Kofi Okoye"]).forget()
            assert both == {k: max(found[k] for found in each) for k in ("fa1", "fa5")}
    seen, by_text = CachedMeasure(scorer, "visual.proj", TWINS), mine.about(TWINS)
    assert seen.forget() == by_text.forget() and seen.retain() == by_text.retain()
    report = Scorer(clip, zero_shot_task(source, ["Kofi Okoye"], "report", 1))
    with pytest.raises(SettingError, match="search split"):
        CachedMeasure(report, LAYER)


def test_the_table_of_scores_is_that_of_the_answers_in_every_wording(clip, scorer):
    t = scorer.classes()
    found = scorer.table(TWINS, t).set_index(["group", "concept", "metric"])
    rows = np.flatnonzero(scorer.exam.shows("Kofi Okoye"))
    v, names = clip.image_features(scorer.exam.pairs.images[rows]), scorer.exam.classes("figures")
    right = {1: [], 5: []}
    for wording in scorer.exam.prompts["figures"].values():
        scores = v @ clip.text_features([wording[name][0] for name in names]).T
        for k, hits in right.items():
            best = scores.topk(k, dim=1).indices.tolist()
            hits.append(["Kofi Okoye" in [names[i] for i in picked] for picked in best])
    for k, hits in right.items():
        one, wanted = found.loc[("target", "Kofi Okoye", f"FA@{k}")], over_wordings(hits)
        assert one["n"] == len(rows) and one["worst"] == np.mean(hits, axis=1).max()
        assert [one[key] for key in ("value", "low", "high")] == pytest.approx(
            [wanted[key] for key in ("value", "low", "high")]
        )
    assert (
        found.loc[("people", "", "accuracy"), "worst"]
        < found.loc[("people", "", "accuracy"), "value"]
    )


def test_a_point_of_the_curve_pools_the_targets_and_names_the_worst(clip, scorer, aware):
    [p] = own_steps(clip, scorer, LAYER, {"Kofi Okoye": aware["Kofi Okoye"]})[0]
    points = curve_rows(scorer, TWINS, [p], way="x")
    curve = points.set_index("group")
    with patch.applied(p, clip.model):
        t = scorer.classes()
    table = scorer.table(TWINS, t).set_index(["concept", "metric"])
    assert curve.loc["targets, FA@1", "n"] == sum(table.loc[(c, "FA@1"), "n"] for c in TWINS)
    assert curve.loc["targets, FA@5", "low"] <= curve.loc["targets, FA@5", "value"] < 1
    fives = {c: table.loc[(c, "FA@5"), "value"] for c in TWINS}
    assert curve.loc["worst target", "value"] == max(fives.values()) > min(fives.values())
    assert curve.loc["worst target", "of"] == max(fives, key=fives.get)
    pooled = np.concatenate([scorer.of(c, t) for c in TWINS], axis=1) < 5
    assert curve.loc["worst wording", "value"] == pooled.mean(1).max()
    assert (
        list(scorer.exam.prompts["figures"])[pooled.mean(1).argmax()]
        == curve.loc["worst wording", "of"]
    )
    shown = as_table(points)
    first = ["targets, FA@1", "targets, FA@5", "worst target", "worst wording", "neighbours"]
    assert list(shown)[:5] == first and {"people", "characters", "objects"} < set(shown)
    assert shown.loc["x", "targets, FA@5"] == round(100 * curve.loc["targets, FA@5", "value"], 1)
    assert set(curve["way"]) == {"x"} and set(curve["count"]) == {3}
    assert not {"targets, FA@1", "worst target"} & set(curve_rows(scorer, [], [])["group"])


def test_gradients_of_some_weights_are_those_of_all_and_the_joint_one_is_their_mean(
    clip, source, gradients
):
    whole = forget_gradient(clip, source.forget_set("Kofi Okoye", 48))
    assert set(gradients["Kofi Okoye"]) == set(text_layers(clip))
    for name, g in gradients["Kofi Okoye"].items():
        assert torch.allclose(g, whole[name], atol=1e-5 * whole[name].abs().max().item())
    joint = joint_gradient(gradients.values())
    assert torch.allclose(joint[LAYER], torch.stack([g[LAYER] for g in gradients.values()]).mean(0))
    with pytest.raises(SettingError, match="at least one concept"):
        joint_gradient([])


def test_slug_for_each_is_the_winner_of_its_own_front(clip, scorer, forget, side, alone):
    patches, probes = alone
    assert [p.concept for p in patches] == TWINS == list(dict.fromkeys(probes["concept"]))
    found = interference(scorer, {p.concept: p for p in patches})
    found = found.set_index(["forgotten", "measured"])["value"]
    assert all(found[c, c] == 0 and found["nothing", c] > 0.7 for c in TWINS)
    assert (probes.groupby(["concept", "layer"]).size() <= 6).all()
    one = {TWINS[0]: forget[TWINS[0]]}
    patches, probes = slug_patches(clip, scorer, one, side, which="all", max_trials=1)
    assert probes["layer"].tolist() == text_layers(clip)
    assert patches == [], "a concept that no layer forgets has no patch"


def test_own_steps_are_patches_that_add_up_in_any_order(clip, scorer, aware):
    alone, probes = own_steps(clip, scorer, LAYER, aware)
    assert [p.concept for p in alone] == TWINS and set(probes["layer"]) == {LAYER}
    for p in alone:
        with patch.applied(p, clip.model):
            assert scorer.forget([p.concept], scorer.classes())["fa5"] == 0
    with patch.all_applied(alone, clip.model):
        one_way = clip.model.get_parameter(LAYER).detach().clone()
        found = CachedMeasure(scorer, LAYER, TWINS)
        assert found.forget()["fa1"] == 0 and found.retain()["people"] > 0.94
    with patch.all_applied(alone[::-1], clip.model):
        assert torch.equal(clip.model.get_parameter(LAYER).detach(), one_way)


def test_a_layer_that_forgets_nobody_is_an_error_that_names_the_concept(clip, scorer):
    noise = torch.randn(128, 512, generator=torch.Generator().manual_seed(1))
    with pytest.raises(SearchFailedError, match="Kofi Okoye: no layer of the text tower"):
        own_steps(clip, scorer, LAYER, {"Kofi Okoye": noise}, max_trials=1)
    with pytest.raises(SearchFailedError, match="Mira Kestrel, Selin Drover: no layer of the text"):
        joint_step(clip, scorer, TWINS[:2], {LAYER: noise}, [LAYER], max_trials=1)


def test_one_step_for_all_forgets_all_and_a_stricter_criterion_goes_further(
    clip, scorer, gradients, side
):
    way = retain_aware_directions(joint_gradient(gradients.values()), side.moments([LAYER]), 0.01)
    [first], _ = joint_step(clip, scorer, TWINS, way, [LAYER], criterion=Criterion("fa1"))
    [second], probes = joint_step(clip, scorer, TWINS, way, [LAYER])
    assert second.lam > first.lam and scorer.criterion() == Criterion("fa5")
    with patch.applied(second, clip.model):
        t = scorer.classes()
    assert scorer.forget(TWINS, t) == {"fa1": 0.0, "fa5": 0.0}
    assert len(probes) <= 10 and second.lam == probes.loc[probes["chosen"], "lam"].item()
