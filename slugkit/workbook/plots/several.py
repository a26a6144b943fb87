"""Figures about several concepts: heat maps of what edits change, and what more of them cost."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.patches import Rectangle

from slugkit.base import ShapeError
from slugkit.workbook.plots import look
from slugkit.workbook.plots.look import OKABE_ITO, listing, percent, wrap
from slugkit.workbook.plots.pictures import as_pictures, bare, same_length

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


def _heat(ax, matrix, names: tuple, digits: int, size: float, **style) -> None:
    """A heat map with its values printed, the columns and then the rows named."""
    style |= dict(annot=True, annot_kws=dict(fontsize=size), fmt=f".{digits}f", cmap="cividis")
    sns.heatmap(matrix, ax=ax, linewidths=1, linecolor="white", **style)
    columns, rows = names
    ax.set_xticks(np.arange(len(columns)) + 0.5, columns, rotation=0, fontsize=8)
    ax.set_yticks(np.arange(len(rows)) + 0.5, rows, rotation=0, fontsize=8.5)
    ax.tick_params(length=0)


def _outline(ax, corner, width: int, height: int, line: float, **style) -> None:
    """A frame round cells of a heat map."""
    style |= dict(fill=False, edgecolor=OKABE_ITO["vermilion"], linewidth=line, zorder=5)
    ax.add_patch(Rectangle(corner, width, height, **style))


@look.dressed
def cosine_matrix(before, after, names, images=None, target: int | list[int] | None = 0):
    """Cosines of every text with every picture, before and after the edit, in one colour range.

    before, after: (T, I) arrays of cosines -1..1; names: T texts; images: (I, H, W, 3) uint8
    portraits or None; target: index of the forgotten concept, or of several, in rows and columns
    alike, None outlines nothing. Returns (figure, description). Raises ShapeError.
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
    targets = [] if target is None else [target] if isinstance(target, int) else list(target)
    targets = [index for index in targets if 0 <= index < min(before.shape)]
    cell = min(0.72, 3.6 / wide)
    fig = look.canvas(9.6, max(2.6, cell * (rows + (images is not None)) + 1.5))
    axes = fig.subplots(1, 2)
    labels = [wrap(name, 11) for name in names], [wrap(name, 14) for name in names]
    for ax, matrix, stage in zip(axes, (before, after), ("before", "after")):
        _heat(ax, matrix, labels, 2, 9, square=True, cbar=False, **span)
        for index in targets:
            _outline(ax, (0, index), wide, 1, 2.6, clip_on=False)
            _outline(ax, (index, 0), 1, rows, 2.6, clip_on=False)
        for index, picture in enumerate(pictures):
            part = 1 / wide
            inset = ax.inset_axes([(index + 0.04) * part, 1.02, 0.92 * part, 0.92 * part])
            inset.imshow(picture)
            bare(inset)
        ax.set_xlabel(f"pictures, {stage} the edit", labelpad=8)
    axes[0].set_ylabel("texts")
    axes[1].set_yticklabels([])
    bar = fig.colorbar(axes[0].collections[0], ax=axes, shrink=0.8, pad=0.015, aspect=28)
    bar.set_label("cosine (unitless)")
    bar.outline.set_edgecolor(look.GREY)
    says = _matrix_says(before, after, names, targets)
    look.headline(fig, says[0])
    return fig, ". ".join(says)


def _matrix_says(before, after, names, targets: list[int]) -> tuple[str, str]:
    """Finding and description of the two matrices."""
    change = np.abs(after - before)
    maps = f"Two heat maps of {before.shape[0]} texts by {before.shape[1]} pictures"
    if not targets:
        title = f"Cosines change by at most {change.max():.2f}"
        return title, f"{maps}, before and after the edit."
    moves = []
    for target in targets:
        was, now = before[target, target], after[target, target]
        moved = f"{'falls' if now < was else 'rises'} from {was:.2f} to {now:.2f}"
        if f"{was:.2f}" == f"{now:.2f}":
            moved = f"stays at {was:.2f}"
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
    one row a cell. Returns (figure, description).
    """
    look.need_columns(table, ["forgotten", "measured", "group", "value"], "table")
    rows, columns = list(dict.fromkeys(table["forgotten"])), list(dict.fromkeys(table["measured"]))
    matrix = table.groupby(["forgotten", "measured"])["value"].mean().unstack().loc[rows, columns]
    fig = look.canvas(max(7.0, 1.9 + 0.62 * len(columns)), 1.9 + 0.36 * len(rows))
    ax = fig.subplots()
    bar = dict(label="top-1 accuracy (%)", pad=0.015, aspect=28)
    labels = [wrap(name, 10) for name in columns], rows
    _heat(ax, 100 * matrix, labels, 0, 8.5, vmin=0, vmax=100, cbar_kws=bar)
    for row, name in enumerate(rows):
        if name in columns:
            _outline(ax, (columns.index(name), row), 1, 1, 2.4)
    targets = list(dict.fromkeys(table.loc[table["group"] == "target", "measured"]))
    ax.axvline(len(targets), color="white", linewidth=5)
    ax.set(xlabel="measured", ylabel="forgotten")
    edits = [name for name in rows[1:] if name in targets]
    title, says = _interference_words(matrix, edits, targets)
    look.headline(fig, title)
    return fig, f"{title}. {says}"


def _interference_words(matrix: pd.DataFrame, edits: list, targets: list) -> tuple[str, str]:
    """Finding and description of a matrix of edits."""
    own = max((matrix.loc[name, name] for name in edits), default=np.nan)
    title = f"Each edit leaves its own concept at {percent(own)} at most"
    pairs = [(name, other) for name in edits for other in targets if other != name]
    losses = {pair: matrix.iloc[0][pair[1]] - matrix.loc[pair] for pair in pairs}
    if not losses:
        return title, f"A heat map of {matrix.shape[0]} by {matrix.shape[1]} cells."
    name, other = worst = max(losses, key=losses.get)
    title += f"; the largest loss of another: {other} loses {100 * losses[worst]:.0f} points"
    gains = sum(loss < -0.05 for loss in losses.values())
    says = f"A heat map of {matrix.shape[0]} edits by {matrix.shape[1]} measured groups; {gains} of"
    says += f" {len(losses)} other concepts gain more than 5 points."
    return f"{title} when {name} is forgotten", says


def _looks(ways: list[str]) -> dict[str, dict]:
    """Way -> marker and colour."""
    left, found = {arm: list(looks) for arm, looks in LOOKS.items()}, {}
    for way in ways:
        mine = left[next(arm for arm in ("SLUG-R", "SLUG", "") if way.startswith(arm))]
        marker, colour = mine.pop(0) if len(mine) > 1 else mine[0]
        found[way] = dict(marker=marker, color=OKABE_ITO[colour])
    return found


def _curves(ax, part: pd.DataFrame, orders, style: dict, label: str) -> None:
    """One way's line for each order of the concepts: the first with its band, the others dashed."""
    first = dict(label=label, markersize=5, linestyle="-", linewidth=1.8)
    other = dict(markersize=3.5, linestyle=(0, (2, 1.5)), linewidth=1.1)
    for number, order in enumerate(orders):
        line = part[part["order"] == order].sort_values("count")
        if number == 0:
            band = dict(color=style["color"], alpha=0.13, linewidth=0)
            ax.fill_between(line["count"], 100 * line["low"], 100 * line["high"], **band)
        form = style | (other if number else first)
        ax.plot(line["count"], 100 * line["value"], zorder=3, **form)


@look.dressed
def forgetting_curves(curve: pd.DataFrame):
    """What every further concept costs: one panel a group, one line a way, the second order of the
    concepts dashed; bands are the first order's 95 % intervals.

    curve: columns way, order, count, group (those of `PANELS` are drawn), value, low, high (0..1).
    Panels without rows are left out. Returns (figure, description).
    """
    look.need_columns(curve, ["way", "order", "count", "group", "value", "low", "high"], "curve")
    styles = _looks(list(dict.fromkeys(curve["way"])))
    panels = [group for group in PANELS if group in set(curve["group"])]
    across = 2 if len(panels) <= 6 else 3
    down = -(-len(panels) // across)
    fig = look.canvas(9.6, 2.6 * down + 1.1)
    axes = np.atleast_1d(fig.subplots(down, min(across, len(panels)), sharex=True)).ravel()
    for ax, group in zip(axes, panels):
        shown = curve[curve["group"] == group]
        for way, style in styles.items():
            _curves(ax, shown[shown["way"] == way], curve["order"].unique(), style, way)
        for level in 100 * shown.loc[shown["count"] == 0, "value"].iloc[:1]:
            ax.axhline(level, color=look.GREY, linewidth=1.0, linestyle="--", zorder=1)
        ax.set(ylabel=PANELS[group], ylim=(-3, 103))
    for ax in axes[len(panels) :]:
        ax.set_visible(False)
    for ax in axes[max(0, len(panels) - across) : len(panels)]:
        ax.set(xlabel="concepts forgotten", xticks=sorted(set(curve["count"]) - {0}))
        ax.tick_params(labelbottom=True)
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    title, says = _curve_words(curve, list(styles))
    look.headline(fig, title)
    return fig, f"{title}. {says}"


SAID = {"targets, FA@5": "FA@5", "neighbours": "neighbours"}
SAID |= {"people": "other people", "classes": "other classes"}
"""Groups that the figure's title names, and how."""


def _curve_words(curve: pd.DataFrame, ways: list[str]) -> tuple[str, str]:
    """Finding and description of the curves, from where the first order ends."""
    last, orders = int(curve["count"].max()), curve["order"].unique()
    mine = curve[(curve["count"] == last) & (curve["order"] == orders[0])]
    end, told = mine.set_index(["way", "group"])["value"], []
    for way in ways:
        there = [group for group in SAID if (way, group) in end.index]
        parts = [f"{SAID[group]} {percent(end[way, group])}" for group in there]
        told.append(f"{way}: {', '.join(parts)}")
    title = f"{last} concepts at once. " + "; ".join(dict.fromkeys([told[0], told[-1]]))
    lines = f"Lines over the number of concepts, {len(ways)} ways, {len(orders)} orders"
    return title, f"{lines}; at {last}: {listing(told, 8)}."
