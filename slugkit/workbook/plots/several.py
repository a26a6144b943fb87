"""Figures about several concepts: heat maps of what edits change, and what more of them cost."""

import numpy as np
import pandas as pd

from slugkit.base import ShapeError
from slugkit.workbook.plots import forms, look
from slugkit.workbook.plots.look import GREY, listing, percent, shares, wrap
from slugkit.workbook.plots.pictures import as_pictures, bare, same_length

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


@look.dressed
def cosine_matrix(before, after, names, images=None, target: int | list[int] | None = 0):
    """Cosines of every text with every picture, before and after the edit, in one colour range.

    before, after: (T, I) arrays of cosines -1..1; names: T texts; images: (I, H, W, 3) uint8
    portraits or None; target: index of the forgotten concept, or of several, in rows and columns
    alike, None outlines nothing. Raises ShapeError.
    """
    before, after = look.as_array(before, float), look.as_array(after, float)
    if before.shape != after.shape or before.ndim != 2 or before.size == 0:
        raise ShapeError(
            f"before is {before.shape}, after is {after.shape}; two matrices (texts, pictures) of "
            "one shape were expected."
        )
    rows, wide = before.shape
    same_length("names", names, rows, "rows")
    same_length("names", names, wide, "columns")
    pictures = [] if images is None else as_pictures(images)
    same_length("images", images, wide, "columns")
    span = dict(vmin=min(before.min(), after.min()), vmax=max(before.max(), after.max()))
    targets = [] if target is None else np.atleast_1d(target).tolist()
    cell, part = min(0.72, 3.6 / wide), 1 / wide
    size = 9.6, max(2.6, cell * (rows + (images is not None)) + 1.5)
    fig, axes = look.canvas(*size, 1, 2)
    labels = [wrap(name, 11) for name in names], [wrap(name, 14) for name in names]
    for ax, matrix, stage in zip(axes, (before, after), ("before", "after")):
        forms.heat(ax, matrix, *labels, 2, square=True, cbar=False, **span)
        for index in targets:
            forms.outline(ax, (0, index), wide, 1)
            forms.outline(ax, (index, 0), 1, rows)
        for index, picture in enumerate(pictures):
            place = [(index + 0.04) * part, 1.02, 0.92 * part, 0.92 * part]
            bare(ax.inset_axes(place), picture)
        ax.set_xlabel(f"pictures, {stage} the edit", labelpad=8)
    axes[0].set_ylabel("texts")
    axes[1].set_yticklabels([])
    bar = fig.colorbar(axes[0].collections[0], ax=axes, shrink=0.8, pad=0.015, aspect=28)
    bar.set_label("cosine (unitless)")
    bar.outline.set_edgecolor(GREY)
    title, says = _matrix_words(before, after, names, targets)
    return look.headline(fig, title), f"{title}. {says}"


def _matrix_words(before, after, names, targets: list[int]) -> tuple[str, str]:
    """Finding and description of the two matrices."""
    change = np.abs(after - before)
    maps = f"Two heat maps of {before.shape[0]} texts by {before.shape[1]} pictures"
    if not targets:
        title = f"Cosines change by at most {change.max():.2f}"
        return title, f"{maps}, before and after the edit."
    moves = []
    for target in targets:
        was, now = f"{before[target, target]:.2f}", f"{after[target, target]:.2f}"
        way = "falls" if after[target, target] < before[target, target] else "rises"
        moved = f"{way} from {was} to {now}" if was != now else f"stays at {was}"
        moves.append(f"{names[target]} with its own picture {moved}")
    title = "The cosine of " + ", that of ".join(moves)
    others = np.delete(np.diagonal(change), targets)
    if len(others):
        title += f"; the other matching pairs move by at most {others.max():.2f}"
    whose = " and of ".join(names[target] for target in targets)
    return title, f"{maps} in one colour range, the row and column of {whose} outlined."


@look.dressed
def interference(table: pd.DataFrame):
    """Accuracy of every concept and group (columns) after each edit (rows), in percent; the cells
    that should be near 0 are outlined.

    table: columns forgotten (its first value is the unedited model), measured, group, value (0..1),
    one row a cell.
    """
    look.need_columns(table, ["forgotten", "measured", "group", "value"], "table")
    rows, columns = list(dict.fromkeys(table["forgotten"])), list(dict.fromkeys(table["measured"]))
    matrix = table.groupby(["forgotten", "measured"])["value"].mean().unstack().loc[rows, columns]
    fig, ax = look.canvas(max(7.0, 1.9 + 0.62 * len(columns)), 1.9 + 0.36 * len(rows))
    style = dict(vmin=0, vmax=100, cbar_kws=dict(label="top-1 accuracy (%)", pad=0.015, aspect=28))
    forms.heat(ax, 100 * matrix, [wrap(name, 10) for name in columns], rows, 0, **style)
    for row, name in enumerate(rows):
        if name in columns:
            forms.outline(ax, (columns.index(name), row), 1, 1)
    targets = list(dict.fromkeys(table.loc[table["group"] == "target", "measured"]))
    ax.axvline(len(targets), color="white", linewidth=5)
    ax.set(xlabel="measured", ylabel="forgotten")
    title, says = _interference_words(matrix, [n for n in rows[1:] if n in targets], targets)
    return look.headline(fig, title), f"{title}. {says}"


def _interference_words(matrix: pd.DataFrame, edits: list, targets: list) -> tuple[str, str]:
    """Finding and description of a matrix of edits."""
    own = max((matrix.loc[name, name] for name in edits), default=np.nan)
    title = f"Each edit leaves its own concept at {percent(own)} at most"
    losses = (matrix.iloc[0] - matrix).loc[edits, targets].stack()
    losses = losses[[name != other for name, other in losses.index]]
    if losses.empty:
        return title, f"A heat map of {matrix.shape[0]} by {matrix.shape[1]} cells."
    name, other = losses.idxmax()
    title += f"; the largest loss of another: {other} loses {100 * losses.max():.0f} points"
    says = f"A heat map of {matrix.shape[0]} edits by {matrix.shape[1]} measured groups;"
    says += f" {(losses < -0.05).sum()} of {len(losses)} other concepts gain more than 5 points."
    return f"{title} when {name} is forgotten", says


@look.dressed
def forgetting_curves(curve: pd.DataFrame):
    """What every further concept costs: one panel a group, one line a way, the second order of the
    concepts dashed; bands are the first order's 95 % intervals.

    curve: columns way, order, count, group (those of `PANELS` are drawn), value, low, high (0..1).
    Panels without rows are left out.
    """
    look.need_columns(curve, ["way", "order", "count", "group", "value", "low", "high"], "curve")
    groups = [group for group in PANELS if group in set(curve["group"])]
    across = 2 if len(groups) <= 6 else 3
    down = -(-len(groups) // across)
    fig, axes = look.canvas(9.6, 2.6 * down + 1.1, down, across, sharex=True, squeeze=False)
    for ax, group in zip(axes.flat, groups):
        _curves(ax, curve[curve["group"] == group], look.edit_looks(curve["way"]))
        ax.set(ylabel=PANELS[group], ylim=(-3, 103))
    for ax in axes.flat[len(groups) :]:
        ax.set_visible(False)
    for ax in axes.flat[max(0, len(groups) - across) : len(groups)]:
        ax.set(xlabel="concepts forgotten", xticks=sorted(set(curve["count"]) - {0}))
        ax.tick_params(labelbottom=True)
    look.legend_below(fig, 2, handles=axes[0, 0].get_legend_handles_labels()[0])
    title, says = _curve_words(curve)
    return look.headline(fig, title), f"{title}. {says}"


def _curves(ax, table: pd.DataFrame, looks: dict) -> None:
    """One panel: each way's line, the first order of the concepts with its band, others dashed."""
    orders = table["order"].unique()
    for way, (marker, colour, _) in looks.items():
        for order in orders:
            part = table[(table["way"] == way) & (table["order"] == order)].sort_values("count")
            style = dict(marker=marker, color=colour)
            if order == orders[0]:
                forms.line_with_band(ax, part["count"], part, label=way, markersize=5, **style)
            else:
                style |= dict(markersize=3.5, linestyle=(0, (2, 1.5)), linewidth=1.1)
                ax.plot(part["count"], 100 * part["value"], **style)
    for level in 100 * table.loc[table["count"] == 0, "value"].iloc[:1]:
        ax.axhline(level, color=GREY, linewidth=1.0, linestyle="--", zorder=1)


SAID = {"targets, FA@5": "FA@5", "neighbours": "neighbours"}
SAID |= {"people": "other people", "classes": "other classes"}
"""Groups that the figure's title names, and how."""


def _curve_words(curve: pd.DataFrame) -> tuple[str, str]:
    """Finding and description of the curves, from where the first order ends."""
    last, ways, orders = int(curve["count"].max()), curve["way"].unique(), curve["order"].unique()
    mine = curve[(curve["count"] == last) & (curve["order"] == orders[0])]
    told = []
    for way in ways:
        end = mine[mine["way"] == way].set_index("group")["value"]
        found = end.reindex(list(SAID)).dropna().rename(SAID)
        told.append(f"{way}: {', '.join(shares(found))}")
    title = f"{last} concepts at once. " + "; ".join(dict.fromkeys([told[0], told[-1]]))
    lines = f"Lines over the number of concepts, {len(ways)} ways, {len(orders)} orders"
    return title, f"{lines}; at {last}: {listing(told, 8)}."
