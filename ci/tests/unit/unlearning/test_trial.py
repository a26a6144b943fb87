"""What a method is given, what it may spend, and by which rule its states are judged."""

import math

import pytest
import torch
from tiny_clip import changed, state

from slugkit.base import SettingError
from slugkit.data import open_data
from slugkit.method.search import Criterion
from slugkit.unlearning.probing import Budget, Dial, Joint, OutOfProbes
from slugkit.unlearning.retain import RetainSide
from slugkit.unlearning.trial import Pool, Trial, tower_layers

WHO = "Amara Finch"


class Told:
    """Forgets when the text projection is this far from where it was, and keeps ever less."""

    def __init__(self, clip, needed=0.5, pictures=1000):
        self.weight = clip.model.text_projection
        self.start, self.needed, self.pictures = self.weight.detach().clone(), needed, pictures

    def moved(self):
        return float((self.weight.detach() - self.start).norm() / self.start.norm())

    def forget(self):
        left = max(0.0, 1 - self.moved() / self.needed)
        return {"fa1": left, "fa5": left}

    def retain(self):
        return {"retain": max(0.0, 1 - self.moved() / 10), "pictures": self.pictures}


@pytest.fixture(scope="module")
def forget():
    return open_data("studio").forget_set(WHO, 40, 0)


@pytest.fixture(scope="module")
def side(clip):
    return RetainSide(clip, open_data("studio"), [WHO], 96, 32)


@pytest.fixture
def trial(clip, forget, side):
    return Trial(clip, "text", forget, side, Told(clip), Criterion("fa1"), Budget(300, 6))


def move(trial, by):
    with torch.no_grad():
        w = trial.weights["text_projection"]
        w.copy_(trial.originals["text_projection"] * (1 + by))


def test_only_the_layers_of_the_tower_learn_and_everything_is_as_before_afterwards(clip, trial):
    before, learned = state(clip.model), {n: w.requires_grad for n, w in _named(clip)}
    with pytest.raises(KeyError), trial:
        assert {n for n, w in _named(clip) if w.requires_grad} == set(trial.layers)
        move(trial, 0.3)
        raise KeyError
    assert not changed(before, clip.model)
    assert learned == {n: w.requires_grad for n, w in _named(clip)}
    assert tower_layers(clip, "vision")[0] == "visual.conv1.weight"
    assert tower_layers(clip, "vision")[-1] == "visual.proj"
    assert tower_layers(clip, "text")[-1] == "text_projection"


def _named(clip):
    return list(clip.model.named_parameters())


def test_the_best_state_forgets_keeps_most_and_changes_least(trial):
    with trial:
        for by, forgets in ((0.2, False), (0.9, True), (0.5005, True), (0.6, True), (0.45, False)):
            move(trial, by)
            assert trial.probe(by=by) is forgets
        edit, forgotten, table = trial.found(WHO, "x")
    assert forgotten and table.loc[table["chosen"], "by"].tolist() == [0.5005]
    assert edit.rho == pytest.approx(table.loc[table["chosen"], "rho"].item(), rel=1e-4)
    assert edit.patches[0].metrics["forget"] == 0 and edit.concept == WHO
    assert table["retain"].notna().tolist() == [False, True, True, True, False]
    assert trial.probes == 5 and trial.probes_left == 1


def test_within_one_picture_the_smaller_change_wins(clip, forget, side):
    few = Told(clip, pictures=20)  # 1/20 is more than 0.9 and 0.6 differ by
    trial = Trial(clip, "text", forget, side, few, Criterion("fa1"), Budget(1, 9))
    with trial:
        for by in (0.9, 0.6, 0.8):
            move(trial, by)
            trial.probe(by=by)
        table = trial.found(WHO, "x")[2]
    assert table.loc[table["chosen"], "by"].tolist() == [0.6]


def test_where_nothing_forgets_the_state_that_came_nearest_is_kept(trial):
    with trial:
        for by in (0.1, 0.4, 0.3):
            move(trial, by)
            trial.probe(by=by)
        edit, forgotten, table = trial.found(WHO, "x")
    assert not forgotten and table.loc[table["chosen"], "by"].tolist() == [0.4]
    assert edit is not None and "retain" not in edit.patches[0].metrics


def test_a_trial_without_a_probe_or_a_change_has_no_edit(trial):
    assert trial.found(WHO, "x")[0] is None
    with trial:
        trial.probe()
    assert trial.found(WHO, "x")[:2] == (None, False)


def test_no_more_probes_than_the_budget_has(trial):
    with trial:
        for _ in range(6):
            trial.probe()
        with pytest.raises(OutOfProbes):
            trial.probe()
        with pytest.raises(OutOfProbes):
            trial.search(Dial(trial, lambda x: {}))
    assert len(trial.rows) == 6


def test_pairs_are_counted_where_they_carry_a_graph(trial):
    with trial:
        v, t = trial.encode(trial.retain, [0, 5, 7])
        assert trial.pairs == 3 and trial.pairs_left == 297
        assert t.requires_grad and not v.requires_grad
        assert torch.allclose(t.detach(), trial.retain.t[[0, 5, 7]], atol=1e-5)
        trial.g_forget  # noqa: B018 - asking for it costs the forget set
        trial.g_forget  # noqa: B018 - once
    assert trial.pairs == 43


def test_draws_take_every_pair_once_before_any_comes_again(trial):
    rows = [next(draw) for draw in [trial.forget.draws(10)] for _ in range(4)]
    assert sorted(sum(rows, [])) == list(range(40))
    batches = trial.retain.draws(16, distinct=True)
    labels = trial.retain.pairs.labels
    for rows in (next(batches) for _ in range(12)):
        assert len({labels[row] for row in rows}) == len(rows) == 16


def test_few_classes_give_smaller_batches_and_an_end(trial):
    few = trial.retain.pairs.take(range(40))
    few.table["concept"], few.table["style"] = ["a", "b", "c", "d"] * 10, "photo"
    pool = Pool(few, trial.retain.v[:40], trial.retain.t[:40], 0)
    batches = pool.draws(32, distinct=True)
    assert batches.size == 4 and all(len(next(batches)) == 4 for _ in range(30))
    assert pool.draws(100).size == 40


def test_sets_and_gradients_are_those_of_the_unedited_model_whenever_they_are_asked_for(
    clip, forget, side, trial
):
    before = clip.text_features(forget.captions)
    with trial:
        move(trial, 0.7)
        with torch.no_grad():
            trial.weights[trial.layers[0]].add_(0.1)
        assert torch.equal(trial.forget.t, before)
        first, moved = trial.g_forget, trial.weights[trial.layers[0]].detach().clone()
        assert not torch.equal(moved, trial.originals[trial.layers[0]])  # the change is still on
        assert torch.equal(trial.retain.t, side.features[1])
    fresh = Trial(clip, "text", forget, side, Told(clip), Criterion("fa1"), Budget(300, 6))
    with fresh:
        assert all(torch.equal(first[name], fresh.g_forget[name]) for name in first)


def test_a_joint_step_of_one_layer_is_that_layers_own_search(clip, trial):
    weight = clip.model.text_projection.detach().clone()
    direction = torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
    with trial:
        assert trial.search(Joint(trial, {"text_projection": direction}))
        edit, forgotten, table = trial.found(WHO, "x")
    whole = math.sqrt(sum(float(w.square().sum()) for w in trial.originals.values()))
    assert table["rho"].iloc[0] == pytest.approx(0.1, rel=1e-4)  # as SLUG's first step
    assert forgotten and [p.layer for p in edit.patches] == ["text_projection"]
    lam = table.loc[table["chosen"], "lam"].item()
    assert edit.rho == pytest.approx(lam * float(direction.norm()) / whole, rel=1e-4)
    assert torch.equal(clip.model.text_projection, weight)
    with pytest.raises(SettingError, match="Every direction is zero"):
        Joint(trial, {"text_projection": torch.zeros_like(weight)})


def test_a_dial_is_turned_until_it_forgets_and_says_why_it_ended(trial):
    start = trial.originals["text_projection"]
    with trial:
        dial = Dial(trial, lambda x: {"text_projection": start * (1 + x)})
        assert trial.search(dial, 0.3, 4, kind="a") and trial.probes == 4
        assert not trial.remarks and trial.rows[0]["kind"] == "a"
        assert [row["lam"] for row in trial.rows] == pytest.approx([0.3, 0.6, 0.45, 0.525])
    assert trial.rows[-1]["forgotten"]
