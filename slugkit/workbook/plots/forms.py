"""The forms that figures share: bars, lines with bands, marked points, heat maps, labels."""

import numpy as np
import seaborn as sns
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator

from slugkit.workbook.plots.look import GREY, INK, VERMILION


def bars(ax, table, looks: dict, ends=None, stacked: bool = False, **words) -> None:
    """Bars with their values: a group for each row of a table, a bar for each column.

    ends: tables of the lower and upper ends of intervals, for standing bars; without, the bars lie,
    the first on top; stacked: one upon the other; words: how values are written (`ax.bar_label`).
    """
    draw, base, axis = (ax.barh, "left", ax.yaxis) if ends is None else (ax.bar, "bottom", ax.xaxis)
    side_by_side, below = 1 if stacked else len(table.columns), np.zeros(len(table))
    width = 0.8 / side_by_side
    for number, (name, values) in enumerate(table.items()):
        place = np.arange(len(table)) + (number % side_by_side - (side_by_side - 1) / 2) * width
        style = dict(label=name, edgecolor="#4D4D4D", linewidth=0.7, zorder=2) | looks[name]
        if ends is not None:
            reach = np.nan_to_num([values - ends[0][name], ends[1][name] - values]).clip(0)
            style |= dict(yerr=reach, error_kw=dict(ecolor=INK, elinewidth=1.4))
        drawn = draw(place, values, 0.92 * width, **{base: below}, **style)
        ax.bar_label(drawn, **dict(fmt="{:.1f}", padding=2, fontsize=8) | words)
        if stacked:
            below = below + values.fillna(0)
    axis.set_ticks(range(len(table)), table.index)
    axis.grid(visible=False)
    axis.set_tick_params(length=0)
    if ends is None:
        ax.set_ylim(len(table) - 0.5, -0.5)


def line_with_band(ax, x, part, color, **style) -> None:
    """A line of shares in percent within the band of their intervals; part: value, low, high."""
    ax.fill_between(x, 100 * part["low"], 100 * part["high"], color=color, alpha=0.13, linewidth=0)
    ax.plot(x, 100 * part["value"], color=color, zorder=3, **style)


def points(ax, x, y, kinds: dict) -> None:
    """Points of several kinds, each with its own look; kinds: label -> (mask, look)."""
    for label, (mask, style) in kinds.items():
        if mask.any():
            ax.scatter(x[mask], y[mask], label=label, **style)


def ring(**style) -> dict:
    """The look of a ring round a point."""
    return dict(s=240, facecolor="none", edgecolor=INK, linewidth=1.6, zorder=5) | style


def heat(ax, matrix, columns, rows, digits: int, **style) -> None:
    """A heat map with its values printed, its columns and rows named."""
    style |= dict(annot=True, annot_kws=dict(fontsize=8.5), fmt=f".{digits}f", cmap="cividis")
    sns.heatmap(matrix, ax=ax, linewidths=1, linecolor="white", **style)
    ax.set_xticks(np.arange(len(columns)) + 0.5, columns, rotation=0, fontsize=8)
    ax.set_yticks(np.arange(len(rows)) + 0.5, rows, rotation=0, fontsize=8.5)
    ax.tick_params(length=0)


def outline(ax, corner, width: int, height: int) -> None:
    """A frame round cells of a heat map."""
    style = dict(fill=False, edgecolor=VERMILION, linewidth=2.5, zorder=5, clip_on=False)
    ax.add_patch(Rectangle(corner, width, height, **style))


def log_axis(axis) -> None:
    """Log ticks as plain numbers: 1, 2, 5 where the axis spans little, else powers of ten."""
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 40 else (1,), numticks=8))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter("")


def spread(positions, gap: float, low: float, high: float) -> np.ndarray:
    """Positions at least `gap` apart within low..high, in their order, none moved farther than the
    one that has to move most.
    """
    order = np.argsort(positions, kind="stable")
    steps = gap * np.arange(len(order))
    free = np.asarray(positions, dtype=float)[order] - steps
    level = np.maximum.accumulate(free) + np.minimum.accumulate(free[::-1])[::-1]
    moved = np.empty(len(order))
    moved[order] = np.clip(level / 2, low, high - steps[-1]) + steps
    return moved


def place_labels(ax, xs, ys, labels) -> None:
    """Names points at their upper left, in the free corner of a Pareto plot, moved apart where they
    crowd. Comes last: labels stand where the finished figure has room.
    """
    ax.figure.draw_without_rendering()
    scale, frame = ax.figure.dpi / 72, ax.get_window_extent()
    places = np.column_stack([xs, ys])
    heights = ax.transData.transform(places)[:, 1] / scale
    low, high = frame.y0 / scale, frame.y1 / scale
    above = spread(heights + 6, 11.5, low, high - 11.5) - heights
    style = dict(textcoords="offset points", ha="right", fontsize=8.5, zorder=6)
    for label, place, rise in zip(labels, places, above):
        text = ax.annotate(label, place, (-5, rise), **style)
        if text.get_window_extent().x0 < frame.x0:
            text.set(x=5, ha="left")
        elif rise > 12:
            pixels = ax.transData.transform(place) + scale * np.array([-5, rise])
            ends = np.array([place, ax.transData.inverted().transform(pixels)])
            ax.plot(*ends.T, color=GREY, linewidth=0.7, zorder=3, label="_line")
