"""Every method and every stress on a GPU, most often one that is not there: what the CPU finds."""

from dataclasses import replace

import pandas as pd
import pytest
import torch
from on_gpu import *  # noqa: F403 - fixtures
from on_gpu import REAL, WHO, close
from pretend_gpu import on_gpu

import slugkit as sk
from slugkit.data import StudioSource
from slugkit.experiments.stress import (
    STRESSES,
    Case,
    Material,
    case,
    inversion,
    prompts,
    relearning,
)
from slugkit.experiments.stress import table as stress_table
from slugkit.models.diffusion import draw
from slugkit.unlearning import rivals
from slugkit.unlearning.families import OnPipeline, OnVlm
from slugkit.unlearning.methods import esd, spoken
from slugkit.unlearning.probing import Budget
from slugkit.unlearning.retain import RetainSide

GIVEN = {"forget_size": 4, "budget": Budget(48, 4)}
SLOW = ("SalUn", "SSD")
"""Methods that a pretended GPU also tries on the vision tower; a real one tries all."""
ON_CLIP = [
    (each.name, tower)
    for each in sk.METHODS.values()
    for tower in each.towers
    if tower == "text" or tower == "vision" and (REAL or each.name in SLOW)
]


@pytest.fixture(scope="module")
def sides(clip, there, few):
    return [RetainSide(model, few, [WHO], 12, 6) for model in (clip, there)]


@pytest.mark.parametrize("name, tower", ON_CLIP)
def test_a_method_finds_what_it_finds_on_the_cpu(clip, there, few, sides, name, tower):
    found, edits = [], []
    for model, side in zip((clip, there), sides, strict=True):
        one = sk.unlearn(model, few, WHO, name, towers=(tower,), shared=side, **GIVEN)
        found.append(one)
        edits.append(one.patches.get(tower) or one.nearest[tower])
    mine, known = (one.table for one in found)
    assert mine["layer"].tolist() == known["layer"].tolist()
    assert mine["rho"].to_numpy() == pytest.approx(known["rho"].to_numpy(), rel=1e-2)
    assert found[0].costs["pairs"] == found[1].costs["pairs"] > 0 or name == "null space"
    for here, cpu in zip(*(getattr(e, "patches", [e]) for e in edits), strict=True):
        assert not on_gpu(here.direction)
        here.verify(there.model)
        # a real one rounds: four pictures leave ties between layers, and SSD has a threshold for
        # every entry; so that there only the probes, above, must agree in the vision tower
        if tower == "text" or not REAL:
            assert here.layer == cpu.layer
            assert close(here.lam * here.direction, cpu.lam * cpu.direction, 1e-2), here.layer


@pytest.fixture(scope="module")
def pressed(clip, there, found):
    """The same edit of the text tower, on the GPU and on the CPU, with what is asked of both: a few
    pictures.
    """
    given, edit = Material(StudioSource(), WHO), found.patches["text"]
    exam = given.exam
    given.exam = replace(exam, pairs=exam.pairs.take(range(0, len(exam.pairs), 4)))
    with pytest.MonkeyPatch.context() as fewer:
        fewer.setattr(case, "POOL", 64)
        fewer.setattr(case, "MEMBERS", 200)
        yield [
            Case("SLUG", "text", stress_table.edited(model, edit), model, edit, given)
            for model in (clip, there)
        ]


@pytest.mark.parametrize("kind", ["cuda"], indirect=True, scope="module")
@pytest.mark.parametrize("name", STRESSES)
def test_a_stress_gives_what_it_gives_on_the_cpu(pressed, name, monkeypatch):
    monkeypatch.setattr(relearning, "MARKS", (0, 1))
    monkeypatch.setattr(prompts, "STEPS", 2)
    monkeypatch.setattr(prompts, "ROUNDS", 1)
    monkeypatch.setattr(prompts, "LENGTH", 1)
    mine, known = (stress_table.stressed(each, [name]) for each in pressed)
    for here, cpu in zip(mine, known, strict=True):
        assert here == pytest.approx(cpu, abs=2.0), here["setting"]


@pytest.fixture
def asked_little(monkeypatch):
    """Six prompts and four latents, so that a pretended GPU draws them in seconds."""
    whole = rivals.search_set

    def few_prompts(*given):
        asked = whole(*given)
        mine = asked["group"] == "target"
        return pd.concat([asked[mine].head(4), asked[~mine].head(2)], ignore_index=True)

    monkeypatch.setattr(rivals, "search_set", few_prompts)
    monkeypatch.setattr(esd, "POOL", 4)
    monkeypatch.setattr(esd, "SIZE", 4)
    monkeypatch.setattr(spoken, "INSTRUCTIONS", spoken.INSTRUCTIONS[:1])


@pytest.mark.parametrize("name", ["UCE", "ESD", "negative prompt", "safe latent guidance"])
def test_a_method_on_a_pipeline_searches_on_it_and_leaves_it(
    clip, pipe, judge, sides, asked_little, name
):
    before = {layer: w.detach().clone() for layer, w in pipe.unet.named_parameters()}
    given = GIVEN | {"budget": Budget(16, 4), "shared": sides[0]}
    on = OnPipeline(pipe, judge, sampling=(2, 7.5))
    one = sk.unlearn(clip, StudioSource(), WHO, name, on=on, **given)
    edit = one.patches.get("pipeline") or one.nearest["pipeline"]
    assert all(on_gpu(w) and torch.equal(w, before[n]) for n, w in pipe.unet.named_parameters())
    with edit.applied(pipe) as edited:
        moved = {n for n, w in pipe.unet.named_parameters() if not torch.equal(w, before[n])}
        assert moved == set(edit.weights) and bool(moved) == (name in ("UCE", "ESD"))
        assert len(draw(edited, ["a car"], [1], 2)) == 1


def test_words_said_to_a_llava_are_searched_on_it(clip, vlm, sides, asked_little):
    given = GIVEN | {"budget": Budget(48, 3), "shared": sides[0]}
    on = OnVlm(vlm, size=1, target_size=14)
    one = sk.unlearn(clip, StudioSource(), WHO, "do not name", on=on, **given)
    [row] = one.table.to_dict("records")
    assert 0 <= row["forget"] <= 1 and one.costs["probes"] == 1


def test_a_word_is_learned_and_drawn_on_the_gpu(pipe):
    shown = StudioSource().nonmembers(WHO, 2)
    begun, learned = (inversion.learned_word(pipe, shown, WHO, steps=n) for n in (0, 2))
    assert on_gpu(learned) and learned.dtype == torch.float32
    assert learned.isfinite().all() and not close(learned, begun, 1e-3)
    with inversion.new_word(pipe, learned):
        assert len(draw(pipe, [f"a photo of {inversion.WORD}"], [1], 2)) == 1
