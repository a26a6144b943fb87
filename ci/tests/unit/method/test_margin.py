"""A step that goes further than the search found, so that it holds in words that no
search asked.
"""

import pytest
import torch
from tiny_clip import tiny_clip

from slugkit.method import search

FA5 = search.Criterion("fa5")


def layer_of(model, layer="text_projection"):
    direction = torch.randn(
        model.get_parameter(layer).shape, generator=torch.Generator().manual_seed(1)
    )
    return search.EditableLayer.of(model, layer, 1e-3 * direction)


class Window:
    """Forgotten between two relative steps; the retain measure falls with the step."""

    def __init__(self, editable, low, high=100.0):
        self.editable, self.low, self.high = editable, low, high

    def rho(self):
        moved = self.editable._view - self.editable.theta0
        return float(moved.norm() / self.editable.theta0.norm())

    def forget(self):
        gone = self.low <= self.rho() <= self.high
        return {"fa1": 0.0, "fa5": 0.0 if gone else 0.9}

    def retain(self):
        return {"retain": 1.0 - self.rho() / 100}


def test_a_margin_takes_the_step_further_with_the_same_number_of_probes():
    model, given = tiny_clip(), {"stop_ratio": None, "max_trials": 8}
    plain, wider = layer_of(model), layer_of(model)
    found = search.probe_steps("x", plain, Window(plain, 0.37), FA5, **given)
    further = search.probe_steps("x", wider, Window(wider, 0.37), FA5, margin=1.25, **given)
    assert len(found.probes) == len(further.probes) == 8
    smallest = min(p.lam for p in further.probes[:7] if p.forgotten)
    assert further.chosen is further.probes[-1]
    assert further.chosen.lam == pytest.approx(1.25 * smallest)
    assert further.chosen.retain["retain"] == pytest.approx(1 - further.chosen.rho / 100)
    assert further.frame()["chosen"].tolist() == [False] * 7 + [True]
    assert found.chosen.lam <= smallest


def test_a_step_further_that_does_not_forget_is_not_taken():
    editable = layer_of(tiny_clip())
    result = search.probe_steps(
        "x", editable, Window(editable, 0.15, 0.22), FA5, max_trials=3, margin=1.25
    )
    assert [p.forgotten for p in result.probes] == [False, True, False]
    assert result.chosen is result.probes[1]


def test_a_layer_that_never_forgets_is_not_taken_further():
    editable = layer_of(tiny_clip())
    result = search.probe_steps(
        "x", editable, Window(editable, 200.0), FA5, max_trials=3, margin=1.25
    )
    assert result.chosen is None and len(result.probes) == 2


def test_margins_go_by_tower():
    model = tiny_clip()
    layers = {name: layer_of(model, name) for name in ("text_projection", "visual.proj")}
    table = search.search_front(
        list(layers),
        layers.get,
        lambda name: Window(layers[name], 0.15),
        FA5,
        margins={"text": 1.5},
    )
    best = table[table["chosen"]].set_index("tower")["rho"]
    assert 0.15 * 1.5 <= best["text"] < 0.15 * 1.6 and 0.15 <= best["vision"] < 0.15 * 1.05
