"""Wilson and bootstrap intervals."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slugkit.base import EmptySetError, SettingError, ShapeError
from slugkit.evaluation.statistics import bootstrap_mean, wilson


@pytest.mark.parametrize(
    "k, n, low, high",
    [  # R. G. Newcombe, Statistics in Medicine 17 (1998) 857, table I, method 3, four decimals
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (20, 20, 0.8389, 1.0),
    ],
)
def test_wilson_known_values(k, n, low, high):
    assert wilson(k, n) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 5000), st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_wilson_agrees_with_statsmodels(n, share):
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    k = round(share * n)
    expected = proportion.proportion_confint(k, n, method="wilson")
    assert wilson(k, n) == pytest.approx(expected, abs=1e-9)


def test_wilson_takes_arrays_and_holds_the_share():
    k, n = np.array([0, 3, 7, 10]), 10
    low, high = wilson(k, n)
    assert low.shape == (4,) and (low <= k / n).all() and (k / n <= high).all()
    assert low[0] == 0.0 and high[-1] == 1.0
    assert (low[1], high[1]) == pytest.approx(wilson(3, 10), abs=0)


def test_wilson_covers_about_as_often_as_it_says():
    low, high = wilson(np.random.default_rng(0).binomial(200, 0.9, size=20000), 200)
    assert np.mean((low <= 0.9) & (0.9 <= high)) == pytest.approx(0.95, abs=0.015)


def test_wilson_refuses_nonsense():
    with pytest.raises(EmptySetError):
        wilson(0, 0)
    with pytest.raises(EmptySetError):
        wilson([1, 0], [2, 0])
    for k, n in ((3, 2), (-1, 5), (0.5, 2), (math.nan, 5)):
        with pytest.raises(SettingError):
            wilson(k, n)


def test_bootstrap_comes_near_the_normal_interval_of_a_large_sample():
    values = np.random.default_rng(1).normal(0.5, 0.1, size=400)
    half = 1.959964 * values.std() / math.sqrt(400)
    low, high = bootstrap_mean(values)
    assert low == pytest.approx(values.mean() - half, abs=0.05 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.05 * half)


def test_bootstrap_of_two_values_is_exact():
    # the means of two draws from {0, 1} are 0, 0.5 and 1 with 1/4, 1/2, 1/4
    assert bootstrap_mean([0.0, 1.0]) == (0.0, 1.0)


def test_bootstrap_repeats_and_takes_columns():
    table = np.random.default_rng(2).random((12, 3))
    low, high = bootstrap_mean(table)
    assert (
        low.shape == high.shape == (3,)
        and (low < table.mean(0)).all()
        and (table.mean(0) < high).all()
    )
    assert bootstrap_mean(table[:, 1]) == pytest.approx((low[1], high[1]), abs=1e-12)
    assert bootstrap_mean([0.25] * 8) == pytest.approx((0.25, 0.25), abs=1e-15)


def test_bootstrap_of_one_concept_is_unknown():
    low, high = bootstrap_mean([0.7])
    assert math.isnan(low) and math.isnan(high)


def test_bootstrap_refuses_nonsense():
    with pytest.raises(EmptySetError):
        bootstrap_mean([])
    for values in ([0.1, math.nan], [0.1, math.inf]):
        with pytest.raises(SettingError):
            bootstrap_mean(values)
    with pytest.raises(ShapeError):
        bootstrap_mean(np.zeros((2, 2, 2)))
