"""Importance, alignment and the Pareto front."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from slugkit.base import GradientError, ShapeError, ZeroWeightError
from slugkit.method import layers, ranking


def brute_force_front(importance, alignment):
    front = []
    for i in range(len(importance)):
        beaten = False
        for j in range(len(importance)):
            at_least = importance[j] >= importance[i] and alignment[j] <= alignment[i]
            strictly = importance[j] > importance[i] or alignment[j] < alignment[i]
            beaten = beaten or (at_least and strictly)
        front.append(not beaten)
    return front


def test_importance_is_the_ratio_of_norms():
    g_f, theta = torch.tensor([[3.0, 0.0], [0.0, 4.0]]), torch.tensor([[0.0, 6.0], [8.0, 0.0]])
    assert ranking.importance(g_f, theta) == 0.5
    assert ranking.importance(g_f.half(), theta.bfloat16()) == 0.5


def test_cosine_is_signed_and_alignment_is_not():
    g_f, g_r = torch.tensor([1.0, 2.0, 2.0]), torch.tensor([-2.0, -4.0, -4.0])
    assert ranking.cosine(g_f, g_r) == -1.0
    assert ranking.alignment(g_f, g_r) == 1.0
    assert ranking.cosine(torch.tensor([1.0, 0.0]), torch.tensor([1.0, 1.0])) == pytest.approx(
        math.sqrt(0.5), rel=1e-12
    )


def test_random_directions_of_a_128_matrix_have_a_cosine_of_about_0_006():
    draw = torch.Generator().manual_seed(0)
    found = [
        ranking.alignment(
            torch.randn(128, 128, generator=draw), torch.randn(128, 128, generator=draw)
        )
        for _ in range(100)
    ]
    assert 0.004 < np.mean(found) < 0.009


def test_zero_gradient_has_no_angle():
    zero, one = torch.zeros(2, 2), torch.ones(2, 2)
    assert ranking.importance(zero, one) == 0.0
    assert math.isnan(ranking.cosine(zero, one)) and math.isnan(ranking.alignment(one, zero))


def test_large_half_precision_tensors_do_not_overflow():
    theta = torch.full((300, 300), 60000.0, dtype=torch.float16)
    assert ranking.importance(theta, theta) == 1.0
    assert ranking.cosine(theta, theta) == pytest.approx(1.0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_nan_and_inf_are_refused(bad):
    broken, one = torch.tensor([1.0, bad]), torch.ones(2)
    for call in (ranking.importance, ranking.cosine, ranking.alignment):
        with pytest.raises(GradientError, match="nan or infinite"):
            call(broken, one)
        with pytest.raises(GradientError, match="nan or infinite"):
            call(one, broken)


def test_zero_weight_and_shapes_are_refused():
    with pytest.raises(ZeroWeightError):
        ranking.importance(torch.ones(2), torch.zeros(2))
    with pytest.raises(ShapeError):
        ranking.importance(torch.ones(2, 3), torch.ones(3, 2))
    with pytest.raises(ShapeError):
        ranking.cosine(torch.ones(4), torch.ones(2, 2))
    with pytest.raises(ShapeError):
        ranking.pareto_front(np.ones(3), np.ones(2))


def test_front_of_a_known_example():
    importance = [0.132, 0.021, 0.018, 0.014, 0.013, 0.0108, 0.010]
    alignment = [0.0495, 0.025, 0.0085, 0.0051, 0.0027, 0.00093, 0.5]
    assert ranking.pareto_front(importance, alignment).tolist() == [True] * 6 + [False]


def test_weak_dominance_ties_and_duplicates():
    # a layer matched in one score and beaten in the other is off the front; exact duplicates both
    # stay
    assert ranking.pareto_front([2, 2, 1], [0.5, 0.4, 0.4]).tolist() == [False, True, False]
    assert ranking.pareto_front([2, 2, 1], [0.4, 0.4, 0.1]).tolist() == [True, True, True]
    assert ranking.pareto_front([], []).tolist() == []
    assert ranking.pareto_front([1], [1]).tolist() == [True]


def test_layers_without_a_score_neither_win_nor_beat():
    front = ranking.pareto_front([9.0, 1.0, math.nan, math.inf], [math.nan, 0.5, 0.1, 0.0])
    assert front.tolist() == [False, True, False, False]


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=40))
@settings(max_examples=300, deadline=None)
def test_front_matches_brute_force_on_a_grid_full_of_ties(points):
    importance, alignment = [p[0] for p in points], [p[1] / 6 for p in points]
    assert ranking.pareto_front(importance, alignment).tolist() == brute_force_front(
        importance, alignment
    )


@pytest.mark.parametrize("seed", range(10))
def test_front_matches_brute_force_on_random_points(seed):
    draw = np.random.default_rng(seed)
    importance, alignment = draw.random(80), draw.random(80)
    importance[:20], alignment[:20] = importance[20:40], alignment[20:40]
    front = ranking.pareto_front(importance, alignment)
    assert front.tolist() == brute_force_front(importance, alignment)
    assert 0 < front.sum() < 80


def tables(seed=0, n=4):
    draw = torch.Generator().manual_seed(seed)
    names = [f"visual.transformer.resblocks.{i}.mlp.c_fc.weight" for i in range(n)]
    names += [f"transformer.resblocks.{i}.attn.in_proj_weight" for i in range(n)]

    def table():
        return {name: torch.randn(6, 4, generator=draw) for name in names}

    return (table(), table(), [table() for _ in range(5)])


def test_rank_layers_makes_one_front_per_tower():
    weights, g_forget, g_retains = tables()
    strong = "visual.transformer.resblocks.0.mlp.c_fc.weight"
    g_forget[strong] = 100 * g_forget[strong]
    g_retains[0][strong] = torch.zeros(6, 4)
    g_retains[0][strong][0, 0] = 1e-9
    ranked = ranking.rank_layers(weights, g_forget, g_retains[0])
    assert ranked.columns.tolist() == ranking.COLUMNS
    assert ranked["layer"].tolist() == list(weights)
    assert set(ranked["tower"]) == {"vision", "text"}
    for tower, part in ranked.groupby("tower"):
        expected = brute_force_front(part["importance"].tolist(), part["alignment"].tolist())
        assert part["front"].tolist() == expected and any(expected), tower
    row = ranked.iloc[0]
    assert row["importance"] == ranking.importance(g_forget[strong], weights[strong])
    assert row["alignment"] == abs(row["cosine"])


def test_a_layer_without_gradient_is_never_on_the_front():
    weights, g_forget, g_retains = tables()
    dead = list(weights)[-1]
    g_forget[dead] = torch.zeros(6, 4)
    ranked = ranking.rank_layers(weights, g_forget, g_retains[0]).set_index("layer")
    assert not ranked.loc[dead, "front"] and ranked.loc[dead, "importance"] == 0.0


def test_rank_layers_names_the_layer_that_is_wrong():
    weights, g_forget, g_retains = tables()
    victim = list(weights)[2]
    with pytest.raises(GradientError, match="resblocks.2.* no retain gradient"):
        short = {name: g for name, g in g_retains[0].items() if name != victim}
        ranking.rank_layers(weights, g_forget, short)
    with pytest.raises(ShapeError, match="resblocks.2"):
        ranking.rank_layers(weights, g_forget | {victim: torch.ones(4, 6)}, g_retains[0])
    with pytest.raises(GradientError, match="resblocks.2"):
        ranking.rank_layers(
            weights, g_forget | {victim: torch.full((6, 4), math.nan)}, g_retains[0]
        )
    with pytest.raises(ZeroWeightError, match="resblocks.2"):
        ranking.rank_layers(weights | {victim: torch.zeros(6, 4)}, g_forget, g_retains[0])


def test_the_noise_of_a_cosine_is_its_jackknife_error_over_the_parts():
    torch.manual_seed(3)
    g_f, parts = torch.randn(6, 4), [torch.randn(6, 4) for _ in range(5)]
    left = [
        ranking.cosine(g_f, torch.stack([p for j, p in enumerate(parts) if j != k]).mean(0))
        for k in range(5)
    ]
    assert ranking.cosine_noise(g_f, parts) == pytest.approx(np.sqrt(4 * np.var(left)))
    assert ranking.cosine_noise(g_f, parts[:1] * 5) == pytest.approx(0, abs=1e-9)
    assert np.isnan(ranking.cosine_noise(g_f, parts[:1]))


def test_the_noise_is_about_the_spread_between_fresh_samples():
    """Parts drawn from one population: the error that they tell is that of means over
    other draws.
    """
    rng = np.random.default_rng(0)
    g_f, mean = torch.from_numpy(rng.normal(size=50)), rng.normal(size=50)
    draw = lambda n: [torch.from_numpy(mean + 3 * rng.normal(size=50)) for _ in range(n)]  # noqa: E731
    told = np.mean([ranking.cosine_noise(g_f, draw(5)) for _ in range(200)])
    seen = np.std([ranking.cosine(g_f, sum(draw(5))) for _ in range(2000)])
    assert told == pytest.approx(seen, rel=0.15)


@pytest.mark.slow
def test_front_share_counts_fronts_of_cosines_redrawn_within_their_noise():
    table = pd.DataFrame(
        {
            "layer": list("abc"),
            "tower": "text",
            "importance": [3.0, 2.0, 1.0],
            "cosine": [0.3, 0.1, 0.2],
            "noise": 0.0,
        }
    )
    assert ranking.front_share(table).tolist() == [1, 1, 0]
    share = ranking.front_share(table.assign(noise=[0.0, 0.0, 0.1]))
    # c is on the front where its |cosine| is below b's 0.1: -0.1 < 0.2 + 0.1 z < 0.1, that is -3 <
    # z < -1
    assert share["a"] == share["b"] == 1 and share["c"] == pytest.approx(0.157, abs=0.03)
    assert ranking.front_share(table.assign(noise=np.nan)).isna().all()


@pytest.mark.parametrize(
    "layer, name",
    [
        ("transformer.resblocks.2.mlp.c_proj.weight", "2.mlp.c_proj"),
        ("visual.transformer.resblocks.2.attn.in_proj_weight", "2.attn.in_proj"),
        ("visual.transformer.resblocks.11.attn.in_proj_weight[k]", "11.attn.in_proj[k]"),
        ("visual.conv1.weight", "conv1"),
        ("visual.proj", "proj"),
        ("text_projection", "text_projection"),
    ],
)
def test_short_names(layer, name):
    assert layers.short(layer) == name


def test_parts_of_a_packed_matrix():
    assert layers.split_layer("a.in_proj_weight[v]") == ("a.in_proj_weight", "v")
    assert layers.split_layer("a.in_proj_weight") == ("a.in_proj_weight", "")
    assert [layers.part_rows(12, part) for part in "qkv"] == [
        slice(0, 4),
        slice(4, 8),
        slice(8, 12),
    ]
    with pytest.raises(ShapeError):
        layers.part_rows(10, "q")
