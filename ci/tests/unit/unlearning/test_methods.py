"""Each method reproduces a result of its own, worked out by hand or stated by its paper."""

import numpy as np
import pandas as pd
import pytest
import torch

from slugkit.base import SettingError
from slugkit.data import open_data
from slugkit.method.losses import info_nce, mean_cosine
from slugkit.method.search import Criterion
from slugkit.unlearning.methods import (
    METHODS,
    Method,
    add,
    ascent_and_retain,
    fine_tuning,
    gradient_ascent,
    method,
    method_named,
    npo,
    null_space,
    salun,
    ssd,
    training,
)
from slugkit.unlearning.probing import Budget
from slugkit.unlearning.result import CHOICES, front_layers
from slugkit.unlearning.retain import RetainSide
from slugkit.unlearning.trial import Trial

WHO, OTHER = "Amara Finch", "Greta Moss"


class Known:
    """A measure that never forgets, so that every run goes to its end."""

    def forget(self):
        return {"fa1": 1.0, "fa5": 1.0}

    def retain(self):
        return {"retain": 1.0}


@pytest.fixture(scope="module")
def side(clip):
    return RetainSide(clip, open_data("studio"), [WHO, OTHER], 128, 32)


def a_trial(clip, side, who=WHO, steps=2, tower="text", size=64):
    forget = open_data("studio").forget_set(who, 48, 0)
    budget = Budget(training.RUNS * steps * size, training.RUNS)
    return Trial(clip, tower, forget, side, Known(), Criterion("fa1"), budget)


def weights_after(trial, run):
    """The weights at the last probe of a method."""
    seen, probe = {}, trial.probe

    def watched(**setting):
        seen.update({n: w.detach().clone() for n, w in trial.weights.items()})
        return probe(**setting)

    trial.probe = watched
    with trial:
        run(trial)
    return seen


def losses(trial, weights):
    """With these weights: mean cosine and InfoNCE of the forget set, InfoNCE of the retain set, log
    probability of the concept's captions among others.
    """
    with trial, torch.no_grad():
        for name, w in weights.items():
            trial.weights[name].copy_(w)
        own = trial.encode(trial.forget, list(range(48)))
        rows = next(trial.retain.draws(64, distinct=True))
        kept, scale = trial.encode(trial.retain, rows), trial.clip.scale
        named = training.caption_log_p(*own, trial.retain.t[rows], scale).mean()
        nce = (info_nce(*pairs, scale) for pairs in (own, kept))
        return [float(x) for x in (mean_cosine(*own), *nce, named)]


def test_fine_tuning_lowers_the_retain_loss_and_never_looks_at_the_forget_set(clip, side):
    first = a_trial(clip, side)
    mine = weights_after(first, fine_tuning.fine_tuning)
    other = weights_after(a_trial(clip, side, OTHER), fine_tuning.fine_tuning)
    assert all(torch.equal(mine[n], other[n]) for n in mine)
    gentle = weights_after(a_trial(clip, side, steps=2), _slowly(fine_tuning.fine_tuning))
    assert losses(first, gentle)[2] < losses(first, first.originals)[2]


def _slowly(run):
    """The method with a first learning rate that is so small that its loss falls in the end."""

    def slow(trial):
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(training, "FIRST", 2e-4)
            run(trial)

    return slow


@pytest.mark.parametrize(
    ("run", "which", "sign"),
    [
        (gradient_ascent.gradient_ascent, 0, -1),
        (gradient_ascent.contrastive_ascent, 1, +1),
        (ascent_and_retain.ascent_and_retain, 0, -1),
        (ascent_and_retain.contrastive_ascent_and_retain, 1, +1),
        (npo.negative_preference, 3, -1),
        (salun.masked_ascent, 0, -1),
    ],
)
def test_each_moves_its_loss_where_it_says(clip, side, run, which, sign):
    trial = a_trial(clip, side, size=100)
    now = losses(trial, weights_after(trial, _slowly(run)))
    assert sign * (now[which] - losses(trial, trial.originals)[which]) > 0


def test_npo_begins_at_two_log_two_over_beta_and_is_ascent_where_beta_is_small():
    log_p = torch.tensor([-1.0, -2.0], requires_grad=True)
    assert npo.npo_loss(log_p, log_p.detach(), 0.5).item() == pytest.approx(4 * np.log(2), rel=1e-5)
    [slope] = torch.autograd.grad(npo.npo_loss(log_p, log_p.detach() + 0.3, 1e-4), log_p)
    assert torch.allclose(slope, torch.full((2,), 0.5), atol=1e-4)  # of the mean of log p
    [gone] = torch.autograd.grad(npo.npo_loss(log_p, log_p.detach() + 40, 1.0), log_p)
    assert gone.abs().max() < 1e-9  # what is forgotten is left alone


def test_log_p_of_a_caption_by_hand():
    v, t = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.6, 0.8]])
    others = torch.tensor([[0.0, 1.0], [0.8, 0.6]])
    scores = np.exp([6.0, 0.0, 8.0])
    found = training.caption_log_p(v, t, others, 10.0).item()
    assert found == pytest.approx(np.log(scores[0] / scores.sum()), abs=1e-5)


def test_the_mask_of_salun_by_hand_and_what_it_leaves_alone(clip, side):
    gradient = {"a": torch.tensor([[3.0, -1.0]]), "b": torch.tensor([[0.5, -4.0]])}
    masks = salun.saliency_mask(gradient, 0.5)
    assert masks["a"].tolist() == [[1.0, 0.0]] and masks["b"].tolist() == [[0.0, 1.0]]
    trial = a_trial(clip, side)
    trial.budget = Budget(trial.budget.pairs + 48, trial.budget.probes)
    seen = weights_after(trial, salun.saliency_unlearning)
    masks, moved = salun.saliency_mask(trial.g_forget), 0
    for name, w in seen.items():
        changed = w != trial.originals[name]
        assert not bool((changed & (masks[name] == 0)).any())
        moved += int(changed.sum())
    entries = sum(w.numel() for w in seen.values())
    assert 0.45 < moved / entries <= 0.5 and trial.pairs <= trial.budget.pairs


def test_dampening_by_hand_and_it_never_enlarges():
    w = {"w": torch.tensor([2.0, -2.0, 2.0, 2.0])}
    f, r = {"w": torch.tensor([8.0, 8.0, 1.0, 0.0])}, {"w": torch.tensor([2.0, 0.0, 1.0, 5.0])}
    found = ssd.dampened(w, f, r, 2.0, 0.5)["w"]  # alpha 2, lambda 2: factors 2 * 2 / 8 and 0
    assert found.tolist() == [1.0, 0.0, 2.0, 2.0]
    weak = ssd.dampened(w, f, r, 2.0, 0.01)["w"]
    assert weak.tolist() == [2.0, 0.0, 2.0, 2.0]  # a factor above 1 counts as 1


def test_the_null_space_direction_takes_away_the_concept_and_nothing_else():
    generator = torch.Generator().manual_seed(0)
    read = torch.randn(50, 3, generator=generator, dtype=torch.float64) @ torch.eye(6).double()[:3]
    own = read[:20] + torch.eye(6).double()[4] * 2  # the concept's captions have one more part
    weight = torch.randn(6, 5, generator=generator)
    a_f, a_r = own.T @ own / 20, read.T @ read / 50
    d = null_space.null_space_direction(weight, a_f, a_r, 0.9999)
    assert torch.allclose(read.float() @ (weight - d), read.float() @ weight, atol=1e-5)
    q = torch.eye(6)[4]
    assert torch.allclose(q @ (weight - 0.75 * d), 0.25 * (q @ weight), atol=1e-5)


def test_choices_of_layers_on_a_table_by_hand():
    rows = [
        ("a", 0, "mlp.c_fc", 0.9, 0.9, False),
        ("b", 1, "attn.out_proj", 0.5, 0.1, True),
        ("c", 2, "mlp.c_fc", 0.6, 0.3, True),
        ("d", 3, "attn.out_proj", 0.1, 0.05, False),
    ]
    names = ["layer", "block", "kind", "importance", "alignment", "front"]
    table = pd.DataFrame(rows, columns=names).assign(candidate=True, tower="text")
    found = {which: front_layers(table, "text", which) for which in CHOICES}
    drawn = found.pop("random layers")
    assert found == {
        "most important layer": ["a"],
        "least aligned layer": ["d"],
        "product score": ["b"],  # 0.45, and 0.42 for c
        "deepest layer": ["c"],
    }
    assert len(drawn) == 2 and drawn == front_layers(table, "text", "random layers")
    others = {tuple(front_layers(table, "text", "random layers", seed)) for seed in range(20)}
    assert len(others) > 3
    nobody = table.assign(front=False)
    assert front_layers(nobody, "text", "deepest layer") == ["d"]


def test_a_budget_without_a_step_or_without_looks_is_refused(clip, side):
    trial = a_trial(clip, side, steps=0)
    with trial, pytest.raises(SettingError, match="0 pairs are left; 128 or more were expected"):
        gradient_ascent.gradient_ascent(trial)
    trial.budget = Budget(10_000, 3)
    with trial, pytest.raises(SettingError, match="3 probes are left; 4 or more were expected"):
        gradient_ascent.gradient_ascent(trial)


def test_the_learning_rate_is_searched_towards_the_smallest_that_forgets(clip, side):
    trial, rates = a_trial(clip, side), []

    def loss():
        return trial.weights["text_projection"].sum() * 1e-3

    def probe(rate, step):
        rates.append(rate)
        return rate > 3e-3

    trial.probe = probe
    with trial:
        training.descend(trial, loss, 64)
    tried = list(dict.fromkeys(rates))
    first = tried[0]
    assert tried == pytest.approx([first, first * 10**0.5, first * 10**0.25, first * 10**0.375])
    entries = sum(w.numel() for w in trial.originals.values())
    assert first * entries**0.5 / trial.size == pytest.approx(training.FIRST)


def test_every_method_has_a_source_and_names_are_found_in_any_case():
    assert {"SLUG", "SLUG-R", "FT", "GA", "GAFT", "SSD", "SalUn", "NPO"} <= set(METHODS)
    assert all(len(m.source) > 10 and m.name == name for name, m in METHODS.items())
    assert method_named("slug-r").retain_aware and method_named("salun").name == "SalUn"
    with pytest.raises(SettingError, match="'GAFTT' is unknown"):
        method_named("GAFTT")


def test_a_name_that_is_taken_is_refused(monkeypatch):
    monkeypatch.setattr("slugkit.unlearning.methods.registry.METHODS", dict(METHODS))
    with pytest.raises(SettingError, match="There is a method 'SLUG' already"):
        add(Method("slug", "somebody else"))
    with pytest.raises(SettingError, match="There is a method 'GA' already"):
        method("GA", source="mine")(print)


def test_a_cell_that_is_run_again_replaces_its_method(monkeypatch):
    monkeypatch.setattr("slugkit.unlearning.methods.registry.METHODS", dict(METHODS))
    for source in ("first", "second"):

        @method("mine", source=source)
        def mine(trial):
            return None

    assert method_named("MINE").source == "second" and method_named("mine").run is mine
