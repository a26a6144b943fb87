"""Figures: what they say is computed, labels keep apart, odd tables draw, wrong ones are
refused.
"""

import matplotlib

matplotlib.use("Agg")

import matplotlib.colors as mcolors
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from fake_tables import (
    agreement_table,
    answers_table,
    curve_table,
    interference_table,
    layers_table,
    metrics_table,
    outcomes_table,
    pictures,
    search_table,
    sweep_table,
    title_of,
)
from matplotlib.container import BarContainer

from slugkit.base import EmptySetError, SettingError, ShapeError
from slugkit.workbook import plots
from slugkit.workbook.plots import forms, look, steps
from slugkit.workbook.teach.display import small_png

NAMES = ["Mira Kestrel", "Kofi Okoye", "Rosalind Achterberg"]


def cosines():
    before = np.full((3, 3), 0.1) + 0.3 * np.eye(3)
    after = before.copy()
    after[0, 0], after[1, 1] = 0.02, 0.37
    return before, after


def frames():
    return {0.0: pictures(1)[0], 0.1: pictures(1, 1)[0], 0.2: pictures(1, 2)[0]}


FIGURES = {
    "picture_grid": lambda: plots.picture_grid(pictures(5), list("abcde"), 3, "Five"),
    "layer_scores": lambda: plots.layer_scores(layers_table()),
    "pareto": lambda: plots.pareto(layers_table(), "vision"),
    "layer_arrows": lambda: plots.layer_arrows({"A": ([4, 3], [0, 4], [1.8, 2.4])}),
    "alignment_cost": lambda: plots.alignment_cost(
        layers_table().query("candidate and tower == 'text'").assign(cost=lambda t: t["importance"])
    ),
    "front_membership": lambda: plots.front_membership(layers_table()),
    "gradient_agreement": lambda: plots.gradient_agreement(agreement_table()),
    "step_sweep": lambda: plots.step_sweep(
        sweep_table(), search_table().query("tower == 'text'"), lam=0.477
    ),
    "search_trail": lambda: plots.search_trail(search_table()),
    "cosine_matrix": lambda: plots.cosine_matrix(*cosines(), NAMES, pictures(3)),
    "results_bars": lambda: plots.results_bars(metrics_table()),
    "confusions": lambda: plots.confusions(answers_table(), "Mira Kestrel"),
    "dialogue": lambda: plots.dialogue(
        pictures(3),
        ["who is this?"] * 3,
        {"before": ["this is Mira Kestrel."] * 3, "after": ["I don't know."] * 3},
        {"before": [True] * 3, "after": [False, True, False]},
        title="Answers",
    ),
    "interference": lambda: plots.interference(interference_table()),
    "forgetting_curves": lambda: plots.forgetting_curves(curve_table()),
    "outcome_bars": lambda: plots.outcome_bars(outcomes_table()),
}


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


@pytest.mark.slow
@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_has_words_fits_its_size_and_leaves_the_settings(name):
    before = dict(plt.rcParams)
    fig, says = FIGURES[name]()
    assert (
        isinstance(says, str) and 30 < len(says) < 900 and says.endswith(".") and "nan" not in says
    )
    packed = small_png(fig)
    assert len(packed) < (300_000 if any(ax.images for ax in fig.findobj(plt.Axes)) else 80_000)
    assert dict(plt.rcParams) == before


@pytest.mark.slow
@pytest.mark.parametrize("name", FIGURES)
def test_no_text_leaves_the_figure(name):
    fig, _ = FIGURES[name]()
    fig.canvas.draw()
    outside, undrawn = [], _undrawn_labels(fig)
    for text in fig.findobj(matplotlib.text.Text):
        box = text.get_window_extent()
        inside = fig.bbox.padded(2).containsx(box.x0) and fig.bbox.padded(2).containsx(box.x1)
        inside = (
            inside and fig.bbox.padded(2).containsy(box.y0) and fig.bbox.padded(2).containsy(box.y1)
        )
        if text.get_visible() and text.get_text().strip() and not inside and text not in undrawn:
            outside.append(text.get_text())
    assert outside == []


def _undrawn_labels(fig):
    """Labels of ticks beyond the limits of their axis: matplotlib keeps them and does not draw
    them.
    """
    labels = set()
    for tick in fig.findobj(matplotlib.axis.Tick):
        limits = (
            tick.axes.get_xlim()
            if isinstance(tick, matplotlib.axis.XTick)
            else tick.axes.get_ylim()
        )
        if not min(limits) <= tick.get_loc() <= max(limits):
            labels |= {tick.label1, tick.label2}
    return labels


def test_use_style_sets_the_look():
    with plt.rc_context():
        plots.use_style()
        assert plt.rcParams["svg.hashsalt"] == "slugkit" and not plt.rcParams["axes.spines.top"]


def test_grid_pixels_are_enlarged_by_a_whole_number():
    shown = pictures(4)
    fig, _ = plots.picture_grid(shown, columns=2, zoom=3)
    fig.canvas.draw()
    drawn = np.asarray(fig.canvas.buffer_rgba())[..., :3]
    box = fig.axes[0].get_window_extent()
    top, left = round(fig.bbox.height - box.y1), round(box.x0)
    assert (
        drawn[top : top + 192, left : left + 192]
        == np.kron(shown[0], np.ones((3, 3, 1), dtype=np.uint8))
    ).mean() > 0.999


def test_grid_with_rows_borders_and_a_short_last_row():
    fig, says = plots.picture_grid(
        pictures(5),
        columns=3,
        row_labels=["forget", "retain"],
        borders=["right", None, "wrong", "right", "right"],
    )
    assert len(fig.axes) == 5 and "forget and retain" in says and "right and wrong" in says
    assert {tuple(ax.spines["top"].get_linestyle() for ax in fig.axes)[i] for i in (0, 2)} == {
        "-",
        "--",
    }


@pytest.mark.parametrize(
    "images, kind",
    [
        (pictures(2).astype(float), ShapeError),
        (pictures(2)[0], ShapeError),
        (pictures(0), EmptySetError),
    ],
)
def test_grid_refuses_other_pictures(images, kind):
    with pytest.raises(kind):
        plots.picture_grid(images)


def test_grid_refuses_too_few_labels():
    with pytest.raises(ShapeError, match="labels has 1 entries for 2 pictures"):
        plots.picture_grid(pictures(2), ["a"])


def test_layers_come_in_network_order_and_without_excluded_ones():
    table = plots.layers.candidates(layers_table().sample(frac=1, random_state=3), "vision")
    assert table["name"].iloc[0] == "conv1" and table["name"].iloc[-1] == "proj"
    assert table["name"].iloc[1:5].tolist() == [
        "0.attn.in_proj",
        "0.attn.out_proj",
        "0.mlp.c_fc",
        "0.mlp.c_proj",
    ]
    assert len(table) == 26


def test_layer_scores_ring_and_name_the_front():
    table = layers_table()
    fig, says = plots.layer_scores(table, "text")
    bold = [
        label.get_text()
        for label in fig.axes[0].get_yticklabels()
        if label.get_fontweight() == "bold"
    ]
    front = table[(table["tower"] == "text") & table["front"]]
    assert len(bold) == len(front) == 4 and "4 of 17 text layers" in title_of(fig)
    assert "3.attn.in_proj" in says


def test_pareto_counts_and_noise_come_from_the_table():
    table = layers_table()
    fig, says = plots.pareto(table, "vision")
    own = table[(table["tower"] == "vision") & table["front"]]
    inside = int((own["alignment"] < 2 * own["noise"]).sum())
    title = title_of(fig)
    assert title.startswith(f"{len(own)} of 26 vision layers") and f"{inside} of the front" in title
    assert f"{inside} of them" in says
    assert "front, within noise" in [text.get_text() for text in fig.legends[0].get_texts()]


def test_without_the_noise_nothing_is_said_of_it():
    table = layers_table().drop(columns="noise")
    panel = plots.layer_scores(table, "text")[0].axes[1]
    starts = {
        stem[0, 0]
        for lines in panel.collections
        if hasattr(lines, "get_segments")
        for stem in lines.get_segments()
    }
    assert starts == {panel.get_xlim()[0]}
    fig, says = plots.pareto(table, "text")
    assert "standard errors" not in says and "noise" not in title_of(fig)
    assert "standard errors" in plots.pareto(layers_table(), "text")[1]


def _label_boxes(fig, names):
    fig.canvas.draw()
    return [text.get_window_extent() for text in fig.axes[0].texts if text.get_text() in names]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_pareto_labels_do_not_overlap(seed):
    table = layers_table(seed)
    fig, _ = plots.pareto(table, "vision")
    named = plots.layers.candidates(table, "vision").query("front")["name"].tolist()
    boxes = _label_boxes(fig, named)
    assert len(boxes) == len(named)
    for i, a in enumerate(boxes):
        assert fig.axes[0].get_window_extent().padded(12).fully_containsx(
            a.x0
        ) and fig.bbox.fully_containsx(a.x1)
        assert not any(a.overlaps(b) for b in boxes[i + 1 :])


def test_crowded_labels_keep_apart():
    fig, ax = plt.subplots(figsize=(7, 5))
    xs = np.linspace(0.5, 0.56, 7)
    forms.place_labels(ax, xs, xs, [f"{i}.attn.out_proj" for i in range(7)])
    boxes = [text.get_window_extent() for text in ax.texts]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])


@pytest.mark.parametrize("rows", [1, 2])
def test_pareto_draws_tiny_towers_and_zero_alignment(rows):
    table = layers_table().query("tower == 'text'").head(rows).assign(front=True)
    table.loc[table.index[0], "alignment"] = 0.0
    fig, says = plots.pareto(table, "text")
    fig.canvas.draw()
    assert says.startswith("Scatter") and f"{rows} of {rows}" in title_of(fig)


def test_unknown_tower_and_missing_column_are_refused():
    with pytest.raises(EmptySetError, match="text, vision"):
        plots.pareto(layers_table(), "audio")
    with pytest.raises(SettingError, match="front_share"):
        plots.front_membership(layers_table().drop(columns="front_share"))


def test_front_membership_counts_the_steady_layers():
    table = layers_table()
    fig, says = plots.front_membership(table)
    front = table[table["candidate"] & table["front"]]
    steady = int((front["front_share"] >= 0.95).sum())
    others = int((table["candidate"] & ~table["front"] & (table["front_share"] >= 0.05)).sum())
    assert title_of(fig).startswith(f"{steady} of {len(front)} front layers") and others == 3
    assert (
        "60 %" in [text.get_text() for ax in fig.axes for text in ax.texts]
        and f"{others} layers" in says
    )


def test_sweep_speaks_of_the_measured_step_next_to_the_chosen_one():
    sweep = sweep_table()
    lam = 3.7 * 0.12890625
    fig, says = plots.step_sweep(sweep, search_table(), lam=lam)
    row = sweep[(sweep["group"] == "target") & np.isclose(sweep["lam"], lam)].iloc[0]
    assert f"to {look.percent(row['value'])}" in title_of(fig)
    assert "ρ = 12.9 %" in says and "0.attn.out_proj" in says
    assert [group for group in look.GROUPS if group in says] == [
        g for g in look.GROUPS if g in set(sweep["group"])
    ]


def test_sweep_alone_and_with_probes_beyond_the_edge():
    fig, _ = plots.step_sweep(sweep_table().query("group == 'target'"))
    far = search_table().assign(lam=[9.0] * 2 + [0.1] * 18)
    _, says = plots.step_sweep(sweep_table(), far)
    assert fig.axes and "2 probes lie beyond" in says
    assert title_of(plots.step_sweep(sweep_table().assign(value=0.0))[0]).endswith(
        "; no other group loses"
    )


def test_bracket_narrows():
    lows, highs = steps.bracket(
        pd.DataFrame({"rho": [0.1, 0.2, 0.15], "forgotten": [False, True, False]})
    )
    assert lows.tolist() == [0.1, 0.1, 0.15] and highs.tolist() == [np.inf, 0.2, 0.2]


def test_trail_of_a_failed_search_and_of_an_unknown_layer():
    table = search_table().assign(forgotten=False, chosen=False, fa1=0.4)
    fig, says = plots.search_trail(table, "text_projection")
    assert "none of 10 probes was chosen" in title_of(fig) and "0 of 10 probes" in says
    with pytest.raises(EmptySetError, match="No probe"):
        plots.search_trail(table, "visual.proj")


def test_matrix_words_and_one_colour_range():
    fig, says = plots.cosine_matrix(*cosines(), NAMES, pictures(3))
    assert says.startswith(
        "The cosine of Mira Kestrel with its own picture falls from 0.40 to 0.02"
    )
    assert "by at most 0.03" in says
    maps = [ax.collections[0].get_clim() for ax in fig.axes[:2]]
    assert maps[0] == maps[1] == (0.02, 0.4)


def test_matrix_without_target_and_with_other_shapes():
    before, after = cosines()
    fig, says = plots.cosine_matrix(before, after, NAMES, target=None)
    assert says.startswith("Cosines change by at most 0.38") and len(fig.axes) == 3
    with pytest.raises(ShapeError, match="one shape"):
        plots.cosine_matrix(before, after[:2], NAMES)
    with pytest.raises(ShapeError, match="names has 2"):
        plots.cosine_matrix(before, after, NAMES[:2])


def test_results_bars_say_the_finding():
    fig, says = plots.results_bars(metrics_table())
    assert (
        title_of(fig)
        == "The target goes from 95.1 % to 0 %; the largest loss elsewhere is 3.0 points"
        " (neighbours)"
    )
    assert "oracle: target 1.2 %" in says
    assert fig.axes[0].get_xticklabels()[0].get_text() == "target\nn = 240"
    bars = [drawn for drawn in fig.axes[0].containers if isinstance(drawn, BarContainer)]
    hatches = {container[0].get_hatch() for container in bars}
    assert len(hatches) == 3


def test_results_bars_without_losses_and_with_two_methods():
    table = metrics_table(oracle=False)
    table.loc[(table["stage"] == "after") & (table["group"] != "target"), "value"] = 1.0
    assert "no other group loses" in title_of(plots.results_bars(table)[0])
    fig, _ = plots.results_bars(metrics_table(two=True))
    assert [text.get_text() for text in fig.legends[0].get_texts()] == [
        "before",
        "after: SLUG text",
        "after: SLUG vision",
        "oracle",
    ]
    title = title_of(fig)
    assert title.startswith("SLUG text: the target") and "SLUG vision: the target" in title


def test_results_bars_refuse_doubled_rows_and_unknown_metrics():
    table = metrics_table()
    with pytest.raises(SettingError, match="twice"):
        plots.results_bars(pd.concat([table, table.assign(metric="fa5")]))
    with pytest.raises(SettingError, match="accuracy"):
        plots.results_bars(table, metric="fid")
    assert plots.results_bars(pd.concat([table, table.assign(metric="fa5")]), metric="fa5")[0].axes


def test_two_arms_have_a_panel_for_each_tower_and_one_legend():
    table = metrics_table()
    parts = [table[table["stage"] != "after"].assign(tower="", method="")]
    for tower in ("text", "vision"):
        for method in ("SLUG", "SLUG-R"):
            parts.append(table[table["stage"] == "after"].assign(tower=tower, method=method))
    fig, says = plots.two_arms(pd.concat(parts, ignore_index=True))
    assert [ax.get_title(loc="left") for ax in fig.axes] == [
        "edit of the text tower",
        "edit of the vision tower",
    ]
    named = [text.get_text() for text in fig.legends[0].get_texts()]
    assert sorted(named) == ["SLUG", "SLUG-R", "before", "oracle"]
    assert "Vision tower: SLUG neighbours" in says


def test_results_table_cells():
    table = plots.results_table(metrics_table())
    assert list(table.columns) == ["before (%)", "after (%)", "oracle (%)"]
    assert table.loc[("target", "accuracy"), "before (%)"] == "95.1 [92.3, 97.9] (240)"
    assert table.index.get_level_values("group").tolist() == [
        "target",
        "neighbours",
        "people",
        "objects",
        "styles",
    ]


def test_results_table_without_oracle_and_with_gaps():
    table = metrics_table(two=True, oracle=False)
    wide = plots.results_table(
        table.drop(table[(table["group"] == "styles") & (table["method"] == "SLUG vision")].index)
    )
    assert (
        set(wide["oracle (%)"]) == {"none trained"}
        and wide.loc[("styles", "accuracy"), "after: SLUG vision (%)"] == "–"
    )
    both = pd.concat([table, table.assign(concept="Kofi Okoye")])
    assert plots.results_table(both).index.names == ["concept", "group", "metric"]
    with pytest.raises(SettingError, match="twice"):
        plots.results_table(pd.concat([table, table]))


def test_confusions_put_the_target_first_and_sum_the_rest(monkeypatch):
    monkeypatch.setattr(plots.results, "SHOWN", 4)
    fig, says = plots.confusions(answers_table(), "Mira Kestrel")
    shown = [label.get_text() for label in fig.axes[0].get_yticklabels()]
    assert (
        shown[0] == "Mira Kestrel" and shown[1] == "Tove Lindqvist" and shown[-1] == "any other (5)"
    )
    assert (
        "named in 0 % of its pictures after the edit" in says and "Tove Lindqvist (50.4 %)" in says
    )


def test_outcomes_are_told_for_the_target_first_and_by_state():
    fig, says = plots.outcome_bars(outcomes_table())
    assert (
        title_of(fig) == "The target is named: before 98 %, step by CLIP 90 %, step by answers 0 %"
    )
    assert (
        says.startswith("target, before: right name 98 %, another name 1 % and no name 1 %")
        and "people, step by answers: right name 60 %" in says
    )
    assert [label.get_text() for label in fig.axes[0].get_yticklabels()][:2] == [
        "target, before  (n 84)",
        "target, step by CLIP  (n 84)",
    ]


def test_an_arm_has_the_same_colour_in_every_figure():
    table = metrics_table(two=True).replace({"SLUG text": "SLUG", "SLUG vision": "SLUG-R"})
    colours = {name: colour for name, (_, colour, _) in look.edit_looks(["SLUG", "SLUG-R"]).items()}
    bars = {drawn.get_label(): drawn for drawn in plots.results_bars(table)[0].axes[0].containers}
    lines = plots.forgetting_curves(curve_table())[0].axes[0].lines
    drawn = {line.get_label(): line.get_color() for line in lines}
    for name, colour in colours.items():
        assert mcolors.same_color(bars[f"after: {name}"][0].get_facecolor(), colour)
        assert drawn[f"{name}, added"] == colour


def test_a_dialogue_of_unequal_lists_is_refused():
    with pytest.raises(ShapeError, match="3 pictures, 3 questions and 2 answers"):
        plots.dialogue(pictures(3), ["?"] * 3, {"before": ["a", "b"]})


def test_spread_keeps_labels_apart_and_in_place():
    moved = forms.spread([98, 99, 97, 10], 6, 0, 104)
    order = np.argsort([98, 99, 97, 10], kind="stable")
    assert (
        (np.diff(moved[order]) >= 6 - 0.01).all()
        and abs(moved[3] - 10) < 1e-9
        and moved.max() <= 104.01
    )


@pytest.mark.parametrize(
    "value, text",
    [(0.951, "95.1 %"), (0.0, "0 %"), (-0.0001, "0 %"), (1.0, "100 %"), (0.1, "10 %")],
)
def test_percent(value, text):
    assert look.percent(value) == text


def test_wrapped_labels_keep_their_lines():
    assert (
        look.wrap("ρ = 280 %\nEdda Norwood", 20) == "ρ = 280 %\nEdda Norwood"
        and look.wrap("", 9) == " "
    )


def test_listing_counts_the_rest():
    assert (
        look.listing([]) == "none" and look.listing("a") == "a" and look.listing("ab") == "a and b"
    )
    assert look.listing("abcdef") == "a, b, c and 3 more"
