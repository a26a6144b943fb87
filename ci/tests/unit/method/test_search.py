"""The step-size search and the layer it moves."""

import math

import pandas as pd
import pytest
import torch
from scripted_search import LAYERS, Scripted, layer_of
from tiny_clip import changed, same_bits, state, tiny_clip
from torch import nn

from slugkit.base import (
    EmptySetError,
    GradientError,
    SearchFailedError,
    SettingError,
    ShapeError,
    ZeroWeightError,
)
from slugkit.method import layers, search
from slugkit.method.ranking import importance


class Threshold:
    """Forgotten from some relative step on; the retain measure falls with the step."""

    def __init__(self, editable, rho, model=None):
        self.editable, self.limit, self.model, self.asked = editable, rho, model, 0

    def now(self):
        moved = (self.editable._view.float() - self.editable.theta0.float()).norm()
        return float(moved / self.editable.theta0.float().norm())

    def forget(self):
        self.asked += 1
        gone = self.now() >= self.limit
        return {"fa1": 0.0 if gone else 0.5, "fa5": 0.0 if gone else 0.9}

    def retain(self):
        return {"retain": 1.0 - self.now() / 100}


FA5 = search.Criterion("fa5")


# ---------------------------------------------------------------- the layer


@pytest.mark.parametrize("layer", LAYERS)
def test_set_moves_this_layer_only_and_leaving_restores_it(layer):
    model = tiny_clip()
    before = state(model)
    editable = layer_of(model, layer)
    name, part = layers.split_layer(layer)
    with editable:
        editable.set(3.7)
        assert changed(before, model) == {name}
        rows = layers.part_rows(len(before[name]), part)
        expected = before[name].clone()
        expected[rows] -= editable.direction * 3.7
        assert same_bits(model.get_parameter(name).detach(), expected)
        editable.set(0.5)  # starts from theta0 again, not from the last step
        expected = before[name].clone()
        expected[rows] -= editable.direction * 0.5
        assert same_bits(model.get_parameter(name).detach(), expected)
    assert changed(before, model) == set()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_fp32_and_cast(dtype):
    model = tiny_clip().to(dtype)
    before = state(model)
    editable = layer_of(model)
    with editable:
        editable.set(11.0)
        expected = (before[LAYERS[0]].float() - editable.direction * 11.0).to(dtype)
        assert same_bits(model.get_parameter(LAYERS[0]).detach(), expected)
        assert changed(before, model) == {LAYERS[0]}
    assert changed(before, model) == set()


def test_the_layer_is_restored_after_an_error():
    model = tiny_clip()
    before = state(model)
    with pytest.raises(KeyboardInterrupt), layer_of(model) as editable:
        editable.set(5.0)
        raise KeyboardInterrupt
    assert changed(before, model) == set()


def test_set_works_on_a_transposed_view_and_keeps_negative_zero():
    weight = nn.Parameter(torch.randn(4, 6))
    with torch.no_grad():
        weight[0, 0] = -0.0
    before = weight.detach().clone()
    editable = search.EditableLayer(weight.detach().t(), -torch.ones(6, 4))
    editable.set(0.25)
    assert torch.equal(weight.detach(), before + 0.25)
    editable.restore()
    assert same_bits(weight.detach(), before)


def test_set_allocates_at_most_one_temporary():
    from torch.profiler import ProfilerActivity, profile

    for dtype in (torch.float32, torch.bfloat16):
        weight = torch.randn(256, 256).to(dtype)
        editable = search.EditableLayer(weight, torch.randn(256, 256))
        editable.set(0.1)
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
            editable.set(0.2)
        taken = sum(
            event.self_cpu_memory_usage
            for event in seen.events()
            if event.self_cpu_memory_usage > 0
        )
        assert 256 * 256 * 4 <= taken < 1.1 * 256 * 256 * 4, dtype


def test_bad_layers_are_refused():
    weight = torch.ones(3, 2)
    with pytest.raises(ShapeError):
        search.EditableLayer(weight, torch.ones(2, 3))
    with pytest.raises(ZeroWeightError):
        search.EditableLayer(torch.zeros(3, 2), torch.ones(3, 2))
    for bad in (torch.zeros(3, 2), torch.full((3, 2), math.nan)):
        with pytest.raises(GradientError):
            search.EditableLayer(weight, bad)
    with pytest.raises(SettingError):
        search.EditableLayer(weight.double(), torch.ones(3, 2))


# ---------------------------------------------------------------- the first probe


@pytest.mark.parametrize("layer", LAYERS)
def test_the_first_probe_has_rho_of_ten_percent(layer):
    editable = layer_of(tiny_clip(), layer)
    first = search.probe_steps(layer, editable, Scripted([0.0]), FA5, max_trials=1).probes[0]
    assert abs(first.rho - 0.10) <= math.ulp(0.10)
    assert editable.importance == importance(editable.direction, editable.theta0)
    assert abs(editable.rho(editable.lam(0.3)) - 0.3) <= math.ulp(0.3)


@pytest.mark.parametrize("layer", LAYERS)
def test_rho_is_the_real_relative_size_of_the_step(layer):
    editable = layer_of(tiny_clip(), layer)
    with editable:
        editable.set(editable.lam(0.10))
        moved = (editable._view - editable.theta0).double().norm() / editable.theta0.double().norm()
    assert float(moved) == pytest.approx(0.10, rel=1e-5)


def test_lam_init_sets_the_first_step():
    probes = search.probe_steps(
        "x", layer_of(tiny_clip()), Scripted([0.0]), FA5, lam_init=0.7, max_trials=1
    ).probes
    assert probes[0].lam == 0.7


# ---------------------------------------------------------------- the sequence of steps

SD_STEPS = [9.05, 4.53, 2.26, 3.40, 3.96, 4.24, 4.10, 4.17, 4.14, 4.12]
SD_FA5 = [0, 0, 1.00, 0.56, 0.06, 0, 0.06, 0, 0, 0]
LLAVA_RHO = [10, 20, 15, 12.5, 13.7, 13.1, 13.4, 13.3, 13.36, 13.40]
LLAVA_FA = [0.6, 0.0, 0.0, 0.2, 0.0, 0.2, 0.0, 0.1, 0.1, 0.0]


def test_printed_trace_of_the_stable_diffusion_run():
    """What the authors' code prints: |r| x 1e-4, to two decimals."""
    measure = Scripted(SD_FA5, fa1=[1.0] * 10)
    result = search.probe_steps(
        "x", layer_of(tiny_clip()), measure, FA5, lam_init=9.05e-4, stop_ratio=None
    )
    assert [probe.lam * 1e4 for probe in result.probes] == pytest.approx(SD_STEPS, abs=0.0075)
    assert [probe.forgotten for probe in result.probes] == [fa == 0 for fa in SD_FA5]
    assert result.chosen.lam * 1e4 == pytest.approx(4.12, abs=0.005)


def test_printed_trace_of_the_llava_run():
    """What the authors' code prints: rho in per cent, one doubling first."""
    editable = layer_of(tiny_clip())
    result = search.probe_steps("x", editable, Scripted(LLAVA_FA), FA5, stop_ratio=None)
    assert [100 * probe.rho for probe in result.probes] == pytest.approx(LLAVA_RHO, abs=0.06)


def test_the_search_stops_once_the_bounds_are_close():
    measure = Scripted(SD_FA5)
    result = search.probe_steps("x", layer_of(tiny_clip()), measure, FA5, lam_init=9.05e-4)
    # 4.17 forgets and 4.10 does not: their ratio is the first below 1.02
    assert len(result.probes) == 8 and measure.calls == 8
    assert result.probes[-1].lam / result.probes[-2].lam < 1.02


def test_it_doubles_until_forgotten_then_bisects():
    editable = layer_of(tiny_clip())
    result = search.probe_steps(
        LAYERS[0], editable, Threshold(editable, 0.7), search.Criterion(), stop_ratio=None
    )
    assert [round(probe.rho, 4) for probe in result.probes[:6]] == [0.1, 0.2, 0.4, 0.8, 0.6, 0.7]
    assert len(result.probes) == 10
    assert 0.7 <= result.chosen.rho < 0.71


def test_only_forgetting_probes_are_asked_for_retain():
    measure = Scripted(SD_FA5)
    result = search.probe_steps(
        "x", layer_of(tiny_clip()), measure, FA5, lam_init=9.05e-4, stop_ratio=None
    )
    assert measure.retain_calls == [1, 2, 6, 8, 9, 10]
    assert all((probe.retain is None) == (not probe.forgotten) for probe in result.probes)


# ---------------------------------------------------------------- what is chosen


def test_a_forgetting_step_is_chosen_even_if_the_last_probe_did_not_forget():
    fa = [0.3, 0, 0.1, 0.1]  # 10, 20, 15, 17.5 %
    result = search.probe_steps("x", layer_of(tiny_clip()), Scripted(fa), FA5, max_trials=4)
    assert not result.probes[-1].forgotten
    assert result.chosen is result.probes[1] and result.chosen.rho == pytest.approx(0.2)


def test_the_best_retain_measure_wins_and_ties_go_to_the_smaller_step():
    fa = [0, 0, 0.5, 0]  # 10, 5, 2.5, 3.75 %
    best_retain = search.probe_steps(
        "x", layer_of(tiny_clip()), Scripted(fa, [0.7, 0.9, 0, 0.8]), FA5, max_trials=4
    )
    assert best_retain.chosen.number == 2
    tie = search.probe_steps(
        "x", layer_of(tiny_clip()), Scripted(fa, [0.9, 0.9, 0, 0.9]), FA5, max_trials=4
    )
    assert tie.chosen.number == 4


def test_failure_is_an_error_that_says_how_near_it_came():
    model = tiny_clip()
    before = state(model)
    frame = search.probe_steps(
        "some.layer", layer_of(model), Scripted([0.5, 0.25, 0.75]), FA5, max_trials=3
    ).frame()
    with pytest.raises(
        SearchFailedError, match=r"text tower .*lowest forget accuracy in 3 probes was 25.0 %"
    ) as caught:
        search.winner(frame, "text")
    assert "max_trials" in str(caught.value)
    assert changed(before, model) == set()


def test_doubling_ends_at_a_hundred_times_the_weight():
    measure = Scripted([0.5] * 60)
    result = search.probe_steps("x", layer_of(tiny_clip()), measure, FA5, max_trials=60)
    assert len(result.probes) == 10 and result.probes[-1].rho == pytest.approx(51.2)
    assert result.chosen is None


def test_the_criterion_decides_which_accuracy_counts():
    forget = {"fa1": 0.0, "fa5": 0.2}
    assert search.Criterion("fa1").forgotten(forget) and not search.Criterion("fa5").forgotten(
        forget
    )
    assert not search.Criterion("fa1").forgotten({"fa1": 1e-9, "fa5": 0.0})
    assert search.Criterion() == search.Criterion("fa5") and search.Criterion().name == "FA@5"
    assert [search.Criterion.among(n).target for n in (7, 10, 19, 20, 44)] == ["fa1"] * 3 + [
        "fa5"
    ] * 2
    assert (
        search.Criterion.among(44, "fa1").target == "fa1"
        and search.Criterion.among(7, "fa5").target == "fa5"
    )
    with pytest.raises(SettingError, match="fa5"):
        search.Criterion("fa@1")


# ---------------------------------------------------------------- restoring, and bad measures


def test_the_search_leaves_the_model_bit_for_bit_as_it_was():
    model = tiny_clip()
    before = state(model)
    for layer in LAYERS:
        editable = layer_of(model, layer)
        search.probe_steps(layer, editable, Threshold(editable, 0.3), search.Criterion())
        assert changed(before, model) == set(), layer


class Broken(Scripted):
    def __init__(self, forget=None, retain=None):
        super().__init__([0.0])
        self.bad_forget, self.bad_retain = forget, retain

    def forget(self):
        return self.bad_forget or {"fa1": 0.0, "fa5": 0.0}

    def retain(self):
        return self.bad_retain


@pytest.mark.parametrize(
    "measure",
    [
        Broken(forget={"fa1": math.nan, "fa5": 0.0}),
        Broken(forget={"fa1": 0.0, "fa5": math.inf}),
        Broken(forget={"fa1": 0.0}),
        Broken(forget={"fa1": 12.0, "fa5": 40.0}),
        Broken(forget={"fa1": -0.1, "fa5": 0.4}),
        Broken(retain={"retain": math.nan}),
        Broken(retain={"retain": -math.inf}),
        Broken(retain={"retain": 0.9, "people": math.nan}),
        Broken(retain={"people": 0.9}),
    ],
)
def test_measures_that_are_no_numbers_raise_and_restore(measure):
    model = tiny_clip()
    before = state(model)
    with pytest.raises(SearchFailedError, match="probe 1 of layer x"):
        search.probe_steps("x", layer_of(model), measure, search.Criterion())
    assert changed(before, model) == set()


def test_an_error_in_the_measure_passes_through_and_restores():
    class Raises(Scripted):
        def forget(self):
            raise RuntimeError("out of pictures")

    model = tiny_clip()
    before = state(model)
    with pytest.raises(RuntimeError, match="out of pictures"):
        search.probe_steps("x", layer_of(model), Raises([0]), search.Criterion())
    assert changed(before, model) == set()


@pytest.mark.parametrize("limits", [{"lam_init": -1.0}, {"lam_init": math.nan}, {"max_trials": 0}])
def test_limits_are_checked(limits):
    with pytest.raises(SettingError):
        search.probe_steps("x", layer_of(tiny_clip()), Scripted([0]), FA5, **limits)


# ---------------------------------------------------------------- tables


def test_the_frame_holds_every_probe():
    fa = [0.3, 0, 0.1, 0.1]
    frame = search.probe_steps(
        LAYERS[4], layer_of(tiny_clip()), Scripted(fa), FA5, max_trials=4
    ).frame()
    assert (
        frame.columns.tolist()
        == "layer tower probe lam rho fa1 fa5 forget forgotten retain pictures retain_people"
        " retain_objects chosen".split()
    )
    assert frame["probe"].tolist() == [1, 2, 3, 4] and set(frame["tower"]) == {"vision"}
    assert frame["forget"].tolist() == fa
    assert frame["chosen"].tolist() == [False, True, False, False]
    assert frame["retain"].isna().tolist() == [True, False, True, True]
    assert frame["chosen"].dtype == frame["forgotten"].dtype == bool


def test_the_front_search_keeps_layers_that_never_forget():
    model = tiny_clip()
    before = state(model)
    limits = dict(zip(LAYERS[:5], [0.3, 1e9, 0.15, 0.2, 1e9], strict=True))
    made = {}

    def make_editable(layer):
        made[layer] = layer_of(model, layer)
        return made[layer]

    frame = search.search_front(
        list(limits),
        make_editable,
        lambda layer: Threshold(made[layer], limits[layer]),
        search.Criterion(),
    )
    assert frame["layer"].unique().tolist() == list(limits)
    assert frame.columns[-1] == "chosen"
    assert frame.groupby("layer")["chosen"].sum().to_dict() == {
        layer: int(limits[layer] < 1) for layer in limits
    }
    assert changed(before, model) == set()
    best = search.winners(frame)
    assert best["layer"].tolist() == [
        LAYERS[2]
    ]  # the smallest step costs least; vision never forgets
    assert search.winner(frame, "text")["layer"] == LAYERS[2]
    assert frame.index.isin(best.index).sum() == 1
    with pytest.raises(SearchFailedError, match="vision"):
        search.winner(frame, "vision")
    with pytest.raises(EmptySetError):
        search.search_front([], make_editable, lambda layer: None, search.Criterion())


def test_winners_order_is_forget_then_retain_then_rho():
    rows = [
        ("a", "text", 0.0, 0.8, 0.1, True),
        ("b", "text", 0.0, 0.9, 0.3, True),
        ("c", "text", 0.0, 0.9, 0.2, True),
        ("d", "text", 0.0, 0.99, 0.01, False),
        ("e", "vision", 0.1, 0.99, 0.1, True),
        ("f", "vision", 0.0, 0.5, 0.5, True),
    ]
    frame = pd.DataFrame(rows, columns=["layer", "tower", "forget", "retain", "rho", "chosen"])
    assert search.winners(frame)["layer"].tolist() == ["c", "f"]
    assert search.winner(frame, "text").name == 2
    joined = frame.set_axis([0, 1, 0, 1, 0, 1])  # tables of several layers put together as they are
    assert search.winners(joined)["layer"].tolist() == ["c", "f"]
