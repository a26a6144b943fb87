"""Figures about several concepts at once: what one edit costs the other concepts, and what every
further concept costs.
"""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.patches import Rectangle

from slugkit.workbook.plots.look import (
    GREY,
    OKABE_ITO,
    canvas,
    dressed,
    headline,
    in_order,
    listing,
    need_columns,
    percent,
    wrap,
)

LOOKS = {
    "SLUG": [("o", "blue"), ("s", "sky")],
    "SLUG-R": [("^", "vermilion"), ("D", "orange")],
    "": [("v", "green"), ("P", "purple")],
}
"""Marker and colour of the ways of each arm, in turn, by how the way's name begins."""
PANELS = {
    "targets, FA@1": "targets, first answer (%)",
    "targets, FA@5": "targets, in first five (%)",
    "worst target": "worst target, in first five (%)",
    "worst wording": "worst wording, in first five (%)",
    "neighbours": "neighbours right (%)",
    "people": "other people right (%)",
    "characters": "characters right (%)",
    "objects": "objects right (%)",
    "classes": "other classes right (%)",
}
"""What the curve shows, and the axis' words."""


@dressed
def interference(table: pd.DataFrame):
    """Accuracy of every concept and group (columns) after each edit (rows), in percent; the cells
    that should be near 0 are outlined.

    table: columns forgotten (its first value is the unedited model), measured, group, value (0..1),
    one row a cell. Returns (figure, description).
    """
    need_columns(table, ["forgotten", "measured", "group", "value"], "table")
    rows, columns = list(dict.fromkeys(table["forgotten"])), list(dict.fromkeys(table["measured"]))
    matrix = table.groupby(["forgotten", "measured"])["value"].mean().unstack().loc[rows, columns]
    fig = canvas(max(7.0, 1.9 + 0.62 * len(columns)), 1.9 + 0.36 * len(rows))
    ax = fig.subplots()
    bar = dict(label="top-1 accuracy (%)", pad=0.015, aspect=28)
    cells = dict(linewidths=1, linecolor="white", cmap="cividis", vmin=0, vmax=100, cbar_kws=bar)
    sns.heatmap(100 * matrix, ax=ax, annot=True, fmt=".0f", annot_kws=dict(fontsize=8.5), **cells)
    for row, name in enumerate(rows):
        if name in columns:
            place, look = (columns.index(name), row), dict(linewidth=2.4, zorder=5)
            ring = Rectangle(place, 1, 1, fill=False, edgecolor=OKABE_ITO["vermilion"], **look)
            ax.add_patch(ring)
    targets = list(dict.fromkeys(table.loc[table["group"] == "target", "measured"]))
    ax.axvline(len(targets), color="white", linewidth=5)
    words = [wrap(name, 10) for name in columns]
    ax.set_xticks(np.arange(len(columns)) + 0.5, words, rotation=0, fontsize=8)
    ax.set_yticks(np.arange(len(rows)) + 0.5, rows, rotation=0, fontsize=8.5)
    ax.set(xlabel="measured", ylabel="forgotten")
    ax.tick_params(length=0)
    title, says = _interference_words(matrix, rows, targets)
    headline(fig, title)
    return fig, f"{title}. {says}"


def _interference_words(
    matrix: pd.DataFrame, rows: list[str], targets: list[str]
) -> tuple[str, str]:
    before, edits = matrix.iloc[0], [name for name in rows[1:] if name in targets]
    own = [matrix.loc[name, name] for name in edits]
    pairs = [(name, other) for name in edits for other in targets if other != name]
    losses = {pair: before[pair[1]] - matrix.loc[pair] for pair in pairs}
    title = f"Each edit leaves its own concept at {percent(max(own, default=np.nan))} or less"
    if not losses:
        return title, f"A heat map of {matrix.shape[0]} by {matrix.shape[1]} cells."
    (name, other), worst = max(losses.items(), key=lambda item: item[1])
    gains = sum(loss < -0.05 for loss in losses.values())
    return (
        (
            f"{title}; the largest loss of another: {other} loses {100 * worst:.0f} points when"
            f" {name} is forgotten"
        ),
        (
            f"A heat map of {matrix.shape[0]} edits by {matrix.shape[1]} measured groups; {gains}"
            f" of {len(losses)} other concepts gain more than 5 points."
        ),
    )


def _looks(ways: list[str]) -> dict[str, tuple[str, str]]:
    """Way -> marker and colour."""
    left, found = {arm: list(looks) for arm, looks in LOOKS.items()}, {}
    for way in ways:
        mine = left[next(arm for arm in ("SLUG-R", "SLUG", "") if way.startswith(arm))]
        found[way] = mine.pop(0) if len(mine) > 1 else mine[0]
    return found


def _curve(ax, part: pd.DataFrame, look: tuple[str, str], first: bool, label: str | None) -> None:
    part, (marker, colour) = part.sort_values("count"), look
    if first:
        bounds = 100 * part["low"], 100 * part["high"]
        ax.fill_between(part["count"], *bounds, color=OKABE_ITO[colour], alpha=0.13, linewidth=0)
    line = dict(markersize=3.5, linestyle=(0, (2, 1.5)), linewidth=1.1)
    if first:
        line = dict(markersize=5, linestyle="-", linewidth=1.8)
    look = dict(marker=marker, color=OKABE_ITO[colour], label=label, zorder=3, **line)
    ax.plot(part["count"], 100 * part["value"], **look)


@dressed
def forgetting_curves(curve: pd.DataFrame):
    """What every further concept costs: one panel a group, one line a way, the second order of the
    concepts dashed; bands are the first order's 95 % intervals.

    curve: columns way, order, count, group (those of `PANELS` are drawn), value, low, high (0..1).
    Panels without rows are left out. Returns (figure, description).
    """
    need_columns(curve, ["way", "order", "count", "group", "value", "low", "high"], "curve")
    ways, orders = list(dict.fromkeys(curve["way"])), list(dict.fromkeys(curve["order"]))
    panels, looks = in_order(set(curve["group"]) & set(PANELS), list(PANELS)), _looks(ways)
    across = 2 if len(panels) <= 6 else 3
    down = -(-len(panels) // across)
    fig = canvas(9.6, 2.6 * down + 1.1)
    axes = np.atleast_1d(fig.subplots(down, min(across, len(panels)), sharex=True)).ravel()
    for ax, group in zip(axes, panels, strict=False):
        shown = curve[curve["group"] == group]
        for way, look in looks.items():
            for number, order in enumerate(orders):
                part = shown[(shown["way"] == way) & (shown["order"] == order)]
                _curve(ax, part, look, number == 0, way if number == 0 else None)
        start = shown[shown["count"] == 0]
        for level in 100 * start["value"].iloc[:1]:
            ax.axhline(level, color=GREY, linewidth=1.0, linestyle="--", zorder=1)
        ax.set(ylabel=PANELS[group], ylim=(-3, 103))
    for ax in axes[len(panels) :]:
        ax.set_visible(False)
    for ax in axes[max(0, len(panels) - across) : len(panels)]:
        ax.set_xlabel("concepts forgotten")
        ax.set_xticks(sorted(set(curve["count"]) - {0}))
        ax.tick_params(labelbottom=True)
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    title, says = _curve_words(curve, ways, orders)
    headline(fig, title)
    return fig, f"{title}. {says}"


SAID = {
    "targets, FA@5": "FA@5",
    "neighbours": "neighbours",
    "people": "other people",
    "classes": "other classes",
}
"""Groups that the figure's title names, and how."""


def _curve_words(curve: pd.DataFrame, ways: list[str], orders: list[str]) -> tuple[str, str]:
    last = int(curve["count"].max())
    mine = curve[(curve["count"] == last) & (curve["order"] == orders[0])]
    end = mine.set_index(["way", "group"])["value"]

    def words(way: str) -> str:
        there = [group for group in SAID if (way, group) in end.index]
        parts = [f"{SAID[group]} {percent(end[way, group])}" for group in there]
        return f"{way}: {', '.join(parts)}"

    shown = [ways[0], ways[-1]] if len(ways) > 1 else ways
    title = f"{last} concepts at once. " + "; ".join(map(words, shown))
    lines = f"Lines over the number of concepts, {len(ways)} ways, {len(orders)} orders"
    return title, f"{lines}; at {last}: {listing(list(map(words, ways)), 8)}."
