"""Figures about a vision-language model: picture, question and answers side by side, and the three
outcomes of a name.
"""

import textwrap

import numpy as np
import pandas as pd

from slugkit.base import ShapeError
from slugkit.workbook.plots.look import (
    INK,
    OKABE_ITO,
    bars_across,
    canvas,
    dressed,
    headline,
    in_order,
    legend_below,
    listing,
    need_columns,
    percent,
)
from slugkit.workbook.plots.pictures import as_pictures

OUTCOMES = {
    "right name": dict(facecolor=OKABE_ITO["blue"], hatch=""),
    "another name": dict(facecolor=OKABE_ITO["yellow"], hatch="//"),
    "no name": dict(facecolor="#D9D9D9", hatch=".."),
}
"""Fill and hatch of each outcome."""
GROUP_ORDER = ["target", "neighbours", "people", "strangers"]
MIDDLE = dict(ha="center", va="center", fontsize=8)
PLATE = dict(boxstyle="round,pad=0.12", facecolor="white", edgecolor="none", alpha=0.85)


@dressed
def dialogue(
    images, questions, answers: dict, right: dict | None = None, columns: int = 2, title: str = ""
):
    """Pictures with a question each, and under it what the model answers in each of its states.

    images: (N, H, W, 3) uint8; questions: N texts; answers: state -> N texts; right: state -> N
    bool, which answers are marked as right or wrong; columns: pictures side by side. Returns
    (figure, description). Raises ShapeError for lists of another length.
    """
    images, count = as_pictures(images), len(questions)
    for state, said in answers.items():
        if len(said) != count or len(images) != count:
            raise ShapeError(
                f"{len(images)} pictures, {count} questions and {len(said)} answers ({state}) were"
                " given; one of each was expected."
            )
    rows = -(-count // columns)
    fig = canvas(4.9 * columns, 0.3 + (0.62 + 0.27 * len(answers)) * rows)
    axes = fig.subplots(rows, 2 * columns, width_ratios=[1, 3.4] * columns, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for number, (picture, words) in zip(range(count), axes.reshape(-1, 2)):
        picture.imshow(images[number], interpolation="nearest")
        lines = [(f"“{questions[number]}”", dict(color=INK, style="italic"))]
        for state, said in answers.items():
            good = None if right is None else bool(right[state][number])
            mark = "" if good is None else "✓ " if good else "✗ "
            shade = INK if good is None else OKABE_ITO["blue"] if good else OKABE_ITO["vermilion"]
            answer = textwrap.shorten(said[number] or "(nothing)", 44)
            lines.append((f"{mark}{state}: {answer}", dict(color=shade)))
        for place, (text, look) in enumerate(lines):
            look |= {"fontsize": 8.5, "va": "top", "transform": words.transAxes}
            words.text(0.0, 0.9 - place * 0.9 / len(lines), text, **look)
    if title:
        headline(fig, title)
    says = []
    for i, question in enumerate(questions):
        told = [f"{state}: {said[i].rstrip('.')}" for state, said in answers.items()]
        says.append(f"{question} {', '.join(told)}")
    return fig, f"{count} pictures, a question each, and the answers. " + "; ".join(says[:4]) + "."


@dressed
def outcome_bars(metrics: pd.DataFrame):
    """How often "who is this?" gets the right name, another name, no name: one bar for each group
    and state of the model.

    metrics: columns stage, method, group, metric (an outcome), value 0..1, n. Returns (figure,
    description). Raises SettingError for a table without them.
    """
    need_columns(metrics, ["stage", "method", "group", "metric", "value", "n"], "metrics")
    kept = metrics[metrics["metric"].isin(OUTCOMES)]
    kept = kept.assign(state=kept["method"].where(kept["stage"] != "before", "before"))
    groups, order = in_order(kept["group"], GROUP_ORDER), list(dict.fromkeys(kept["state"]))
    there = set(zip(kept["group"], kept["state"], strict=True))
    bars = [(group, state) for group in groups for state in order if (group, state) in there]
    keys = ["group", "state", "metric"]
    table = kept.drop_duplicates(keys).set_index(keys).sort_index()
    fig = canvas(7.6, 1.2 + 0.3 * len(bars) + 0.12 * len(groups))
    ax, y, ticks = fig.subplots(), 0.0, []
    for number, (group, state) in enumerate(bars):
        y += 0.45 if number and bars[number - 1][0] != group else 0.0
        left = 0.0
        for outcome, look in OUTCOMES.items():
            value = 100 * float(table["value"].get((group, state, outcome), 0.0))
            shape = dict(left=left, height=0.78, edgecolor="white", linewidth=0.6)
            ax.barh(y, value, label=outcome if number == 0 else "_", **shape, **look)
            if value >= 7:
                ax.text(left + value / 2, y, f"{value:.0f}", bbox=PLATE, **MIDDLE)
            left += value
        size = int(table.loc[(group, state), "n"].iloc[0])
        ticks.append((y, f"{group}, {state}  (n {size})"))
        y += 1.0
    ax.set_yticks(*zip(*ticks))
    ax.set(xlim=(0, 100), xlabel="share of questions (%)")
    bars_across(ax)
    legend_below(fig, 3, bars=True)
    finding, says = _outcome_words(table, bars)
    headline(fig, finding)
    return fig, says


MARKS = {"SLUG": ("o", "blue"), "SLUG-R": ("^", "orange")}
"""Marker and colour of each direction of the step."""


@dressed
def layer_costs(chosen: pd.DataFrame, layers: list[str], before: float):
    """What forgetting costs the others on each layer, for several directions of the step: the share
    of them still named at the chosen step.

    chosen: columns layer, direction, retain_own (0..1), one row for each search that forgot.
    layers: every layer searched, in order; before: that share without an edit. Returns (figure,
    description). Raises SettingError for a table without the columns.
    """
    need_columns(chosen, ["layer", "direction", "retain_own"], "chosen")
    fig = canvas(7.2, 1.5 + 0.26 * len(layers))
    ax, place = fig.subplots(), {layer: number for number, layer in enumerate(layers)}
    whole = f"before the edit ({percent(before)})"
    ax.axvline(100 * before, color="#6E6E6E", linewidth=1.0, linestyle="--", label=whole)
    directions = list(dict.fromkeys(chosen["direction"]))
    for number, direction in enumerate(directions):
        part = chosen[chosen["direction"] == direction]
        marker, colour = MARKS.get(direction, ("P", "purple"))
        look = dict(marker=marker, s=46, color=OKABE_ITO[colour], edgecolor="white", linewidth=0.6)
        shift = 0.14 * (number - (len(directions) - 1) / 2)
        y = [place[layer] + shift for layer in part["layer"]]
        ax.scatter(100 * part["retain_own"], y, label=direction, zorder=3, **look)
    ax.set_yticks(range(len(layers)), layers)
    ax.set(ylim=(len(layers) - 0.4, -0.6))
    ax.set_xlabel("others still named right at the step that forgets the target (%)")
    ax.set_xlim(right=101)
    legend_below(fig, 3)
    best = chosen.sort_values("retain_own", ascending=False, kind="stable")
    best = best.drop_duplicates("direction").set_index("direction").loc[directions]
    words = [f"{row.Index} {percent(row.retain_own)} ({row.layer})" for row in best.itertuples()]
    most = ", ".join(words[:1] + words[-1:] if len(words) > 2 else words)
    headline(fig, f"Of {percent(before)} others named right, the best layer keeps: {most}")
    says = f"Best layer of each direction: {listing(words)}; before the edit {percent(before)}."
    for first in directions[:1]:
        forgot = set(chosen.loc[chosen["direction"] == first, "layer"])
        failed = [layer for layer in layers if layer not in forgot]
        if failed:
            says += f" Along {first} {listing(failed)} never forgot."
    return fig, says


def _outcome_words(table: pd.DataFrame, bars: list[tuple[str, str]]) -> tuple[str, str]:
    def words(group: str, state: str) -> str:
        told = [outcome for outcome in OUTCOMES if (group, state, outcome) in values]
        parts = [f"{outcome} {percent(values[group, state, outcome])}" for outcome in told]
        return f"{group}, {state}: {listing(parts)}"

    values = table["value"].to_dict()
    right = {bar: values.get((*bar, "right name"), np.nan) for bar in bars}
    short = [words(*bar) for bar in bars if bar[0] == "target"]
    named = []
    for (group, state), value in right.items():
        if group != "target":
            short.append(f"{group}, {state}: right name {percent(value)}")
        elif not np.isnan(value):
            named.append(f"{state} {percent(value)}")
    return "The target is named: " + ", ".join(named), "; ".join(short) + "."
