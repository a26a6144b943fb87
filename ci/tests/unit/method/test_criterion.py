"""A criterion that allows a share: what is forgotten by it counts alike when layers are
compared.
"""

import pandas as pd
import pytest
from scripted_search import Scripted, layer_of
from tiny_clip import changed, state, tiny_clip

from slugkit.base import SearchFailedError, SettingError
from slugkit.method import search


def test_a_criterion_may_allow_a_share_and_then_what_is_forgotten_counts_alike():
    some = search.Criterion("fa1", 0.05)
    assert some.forgotten({"fa1": 0.05, "fa5": 1.0}) and not some.forgotten(
        {"fa1": 0.051, "fa5": 0.0}
    )
    for wrong in (-0.1, 1.0):
        with pytest.raises(SettingError, match="less than 1"):
            search.Criterion(at_most=wrong)
    frame = pd.DataFrame(
        {
            "layer": ["a", "b"],
            "tower": "text",
            "forget": [0.0, 0.04],
            "retain": [0.8, 0.9],
            "rho": [0.2, 0.1],
            "chosen": True,
        }
    )
    assert (
        search.winner(frame, "text")["layer"] == "a"
        and search.winner(frame, "text", at_most=0.05)["layer"] == "b"
    )
    assert search.winner(frame, "text", at_most=0.05)["forget"] == 0.04
    with pytest.raises(SearchFailedError, match="a probe with 5 % or less"):
        search.winner(frame.assign(chosen=False), "text", at_most=0.05)


@pytest.mark.parametrize("every", [True, False])
def test_a_dear_retain_measure_is_asked_for_the_smallest_forgetting_step_alone(every):
    model = tiny_clip()
    before, measure = (
        state(model),
        Scripted([0.5, 0.0, 0.3, 0.0, 0.0], retain=[0.1, 0.9, 0.2, 0.5, 0.6]),
    )
    result = search.probe_steps(
        "a",
        layer_of(model),
        measure,
        search.Criterion(),
        max_trials=5,
        stop_ratio=None,
        every_retain=every,
    )
    assert [probe.forgotten for probe in result.probes] == [
        False,
        True,
        False,
        True,
        True,
    ] and changed(before, model) == set()
    smallest = min(
        (probe for probe in result.probes if probe.forgotten), key=lambda probe: probe.lam
    )
    assert len(measure.retain_calls) == (3 if every else 1)
    assert (result.chosen is smallest) == (not every) and result.frame()["chosen"].sum() == 1
    assert result.frame()["retain"].notna().sum() == len(measure.retain_calls)
    nothing = search.probe_steps(
        "a",
        layer_of(model),
        Scripted([0.5, 0.4]),
        search.Criterion(),
        max_trials=2,
        every_retain=every,
    )
    assert nothing.chosen is None
