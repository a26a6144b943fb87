"""A criterion that allows a share: what is forgotten by it counts alike when layers are compared."""

import pandas as pd
import pytest

from slugkit import search
from slugkit.base import SearchFailedError, SettingError


def test_a_criterion_may_allow_a_share_and_then_what_is_forgotten_counts_alike():
    some = search.Criterion(at_most=0.05)
    assert some.forgotten({"fa1": 0.05, "fa5": 1.0}) and not some.forgotten({"fa1": 0.051, "fa5": 0.0})
    for wrong in (-0.1, 1.0):
        with pytest.raises(SettingError, match="less than 1"):
            search.Criterion(at_most=wrong)
    frame = pd.DataFrame({"layer": ["a", "b"], "tower": "text", "forget": [0.0, 0.04], "retain": [0.8, 0.9], "rho": [0.2, 0.1], "chosen": True})
    assert search.winner(frame, "text")["layer"] == "a" and search.winner(frame, "text", at_most=0.05)["layer"] == "b"
    assert search.winner(frame, "text", at_most=0.05)["forget"] == 0.04
    with pytest.raises(SearchFailedError, match="a probe with 5 % or less"):
        search.winner(frame.assign(chosen=False), "text", at_most=0.05)
