"""Figures about a vision-language model: the outcomes of a name, and what forgetting costs."""

import numpy as np
import pandas as pd

from slugkit.workbook.plots import look
from slugkit.workbook.plots.look import OKABE_ITO, in_order, listing, percent

OUTCOMES = {
    "right name": dict(facecolor=OKABE_ITO["blue"], hatch=""),
    "another name": dict(facecolor=OKABE_ITO["yellow"], hatch="//"),
    "no name": dict(facecolor="#D9D9D9", hatch=".."),
}
"""Fill and hatch of each outcome."""
GROUP_ORDER = ["target", "neighbours", "people", "strangers"]
PLATE = dict(boxstyle="round,pad=0.12", facecolor="white", edgecolor="none", alpha=0.85)


@look.dressed
def outcome_bars(metrics: pd.DataFrame):
    """How often "who is this?" gets the right name, another name, no name: one bar for each group
    and state of the model.

    metrics: columns stage, method, group, metric (an outcome), value 0..1, n. Returns (figure,
    description). Raises SettingError for a table without them.
    """
    look.need_columns(metrics, ["stage", "method", "group", "metric", "value", "n"], "metrics")
    kept = metrics[metrics["metric"].isin(OUTCOMES)]
    kept = kept.assign(state=kept["method"].where(kept["stage"] != "before", "before"))
    table = kept.drop_duplicates(["group", "state", "metric"])
    values = table.set_index(["group", "state", "metric"])["value"].to_dict()
    sizes = table.sort_values("metric").groupby(["group", "state"])["n"].first().to_dict()
    groups, states = in_order(table["group"], GROUP_ORDER), table["state"].unique()
    bars = [(group, state) for group in groups for state in states if (group, state) in sizes]
    places = np.arange(len(bars)) + 0.45 * np.array([groups.index(group) for group, _ in bars])
    fig = look.canvas(7.6, 1.2 + 0.3 * len(bars) + 0.12 * len(groups))
    ax, left = fig.subplots(), np.zeros(len(bars))
    for outcome, style in OUTCOMES.items():
        share = np.array([100 * values.get((*bar, outcome), 0.0) for bar in bars])
        shape = dict(left=left, height=0.78, edgecolor="white", linewidth=0.6)
        ax.barh(places, share, label=outcome, **shape, **style)
        for x, y, value in zip(left + share / 2, places, share):
            if value >= 7:
                middle = dict(ha="center", va="center", fontsize=8)
                ax.text(x, y, f"{value:.0f}", bbox=PLATE, **middle)
        left = left + share
    names = [f"{group}, {state}  (n {int(sizes[group, state])})" for group, state in bars]
    ax.set(xlim=(0, 100), xlabel="share of questions (%)")
    look.bars_across(ax, places, names)
    look.legend_below(fig, 3, bars=True)
    finding, says = _outcome_words(values, bars)
    look.headline(fig, finding)
    return fig, says


def _outcome_words(values: dict, bars: list[tuple[str, str]]) -> tuple[str, str]:
    """Finding and description; values: (group, state, outcome) -> share."""
    named, target, others = [], [], []
    for group, state in bars:
        told = {o: values[group, state, o] for o in OUTCOMES if (group, state, o) in values}
        parts = [f"{outcome} {percent(value)}" for outcome, value in told.items()]
        if group == "target":
            target.append(f"{group}, {state}: {listing(parts)}")
            if "right name" in told:
                named.append(f"{state} {percent(told['right name'])}")
        else:
            right = percent(told.get("right name", np.nan))
            others.append(f"{group}, {state}: right name {right}")
    return "The target is named: " + ", ".join(named), "; ".join(target + others) + "."


MARKS = {"SLUG": ("o", "blue"), "SLUG-R": ("^", "orange")}
"""Marker and colour of each direction of the step."""


@look.dressed
def layer_costs(chosen: pd.DataFrame, layers: list[str], before: float):
    """What forgetting costs the others on each layer, for several directions of the step: the share
    of them still named at the chosen step.

    chosen: columns layer, direction, retain_own (0..1), one row for each search that forgot.
    layers: every layer searched, in order; before: that share without an edit. Returns (figure,
    description). Raises SettingError for a table without the columns.
    """
    look.need_columns(chosen, ["layer", "direction", "retain_own"], "chosen")
    fig = look.canvas(7.2, 1.5 + 0.26 * len(layers))
    ax, was = fig.subplots(), percent(before)
    whole = f"before the edit ({was})"
    ax.axvline(100 * before, color="#6E6E6E", linewidth=1.0, linestyle="--", label=whole)
    directions = list(dict.fromkeys(chosen["direction"]))
    for number, direction in enumerate(directions):
        part = chosen[chosen["direction"] == direction]
        marker, colour = MARKS.get(direction, ("P", "purple"))
        style = dict(marker=marker, s=46, color=OKABE_ITO[colour], edgecolor="white", linewidth=0.6)
        y = part["layer"].map(layers.index) + 0.14 * (number - (len(directions) - 1) / 2)
        ax.scatter(100 * part["retain_own"], y, label=direction, zorder=3, **style)
    ax.set_yticks(range(len(layers)), layers)
    ax.set(ylim=(len(layers) - 0.4, -0.6))
    ax.set_xlabel("others still named right at the step that forgets the target (%)")
    ax.set_xlim(right=101)
    look.legend_below(fig, 3)
    best = chosen.sort_values("retain_own", ascending=False, kind="stable")
    best = best.drop_duplicates("direction").set_index("direction").loc[directions]
    words = [f"{row.Index} {percent(row.retain_own)} ({row.layer})" for row in best.itertuples()]
    most = ", ".join(words[:1] + words[-1:] if len(words) > 2 else words)
    look.headline(fig, f"Of {was} others named right, the best layer keeps: {most}")
    says = f"Best layer of each direction: {listing(words)}; before the edit {was}."
    forgot = set(chosen.loc[chosen["direction"] == directions[0], "layer"])
    failed = [layer for layer in layers if layer not in forgot]
    if failed:
        says += f" Along {directions[0]} {listing(failed)} never forgot."
    return fig, says
