"""One look for every figure: colours, markers, hatches, titles, and where labels go.

Colours are Okabe and Ito's (https://jfly.uni-koeln.de/color/), which colour-blind readers can tell
apart; every colour comes with a marker, a line style or a hatch, so that a grey print still reads.
"""

import textwrap

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from slugkit.base import EmptySetError, SettingError

OKABE_ITO = {
    "orange": "#E69F00",
    "sky": "#56B4E9",
    "green": "#009E73",
    "yellow": "#F0E442",
    "blue": "#0072B2",
    "vermilion": "#D55E00",
    "purple": "#CC79A7",
    "black": "#000000",
}
INK, GREY, PALE = "#262626", "#8C8C8C", "#E4E4E4"

# colour, marker and line of each group of pictures; the target is always the orange-red triangle
GROUPS = {
    "target": dict(color=OKABE_ITO["vermilion"], marker="^", linestyle="-"),
    "neighbours": dict(color=OKABE_ITO["purple"], marker="s", linestyle=(0, (5, 1.5))),
    "people": dict(color=OKABE_ITO["blue"], marker="o", linestyle="-"),
    "characters": dict(color=OKABE_ITO["sky"], marker="X", linestyle=(0, (3, 1))),
    "objects": dict(color=OKABE_ITO["green"], marker="D", linestyle=(0, (4, 1, 1, 1))),
    "styles": dict(color=OKABE_ITO["orange"], marker="v", linestyle=(0, (1, 1))),
}
SPARE = dict(color=INK, marker="P", linestyle="--")
GROUP_ORDER = [*GROUPS]
MOST_LINES, LONGEST_TITLE = 12, 600  # of a label; characters

# fill and hatch of each stage of the edit; later edits of one figure take the spare fills in turn
STAGES = {
    "before": dict(facecolor="#BDBDBD", hatch=""),
    "after": dict(facecolor=OKABE_ITO["vermilion"], hatch="//"),
    "oracle": dict(facecolor=OKABE_ITO["sky"], hatch=".."),
}
MORE_EDITS = [
    dict(facecolor=OKABE_ITO["orange"], hatch="\\\\"),
    dict(facecolor=OKABE_ITO["purple"], hatch="xx"),
    dict(facecolor=OKABE_ITO["green"], hatch="--"),
]

STYLE = {
    **sns.axes_style("ticks"),
    **sns.plotting_context("paper", font_scale=1.05),
    "font.sans-serif": ["DejaVu Sans"],
    "figure.dpi": 100,
    "text.parse_math": False,  # a $ in a name is a dollar
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#A6A6A6",
    "axes.linewidth": 0.8,
    "xtick.color": "#595959",
    "ytick.color": "#595959",
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "grid.color": "#ECECEC",
    "grid.linewidth": 0.8,
    "hatch.linewidth": 0.6,
    "lines.linewidth": 1.8,
    "lines.markersize": 6,
    "legend.frameon": False,
    "axes.prop_cycle": plt.cycler(color=[*OKABE_ITO.values()][:-1]),
    "svg.hashsalt": "slugkit",
}


def use_style() -> None:
    """Sets the workbook's look for all figures drawn from now on, also a reader's own."""
    plt.rcParams.update(STYLE)


dressed = plt.rc_context(STYLE)
"""Decorator: a drawing function runs in the workbook's look and leaves the reader's settings."""


def canvas(width: float, height: float):
    """A new figure of width x height inches whose parts arrange themselves."""
    fig = plt.figure(figsize=(width, height), layout="constrained")
    fig.get_layout_engine().set(w_pad=0.06, h_pad=0.06, wspace=0.03, hspace=0.03)
    return fig


def headline(fig, text: str) -> None:
    """Writes the finding over the figure, left, in lines of about equal length that fit it."""
    # never a line break before a percent sign
    text = text.replace(" %", "\u00a0%").replace(" = ", "\u00a0=\u00a0")
    text = text if len(text) <= LONGEST_TITLE else f"{text[:LONGEST_TITLE]}…"
    characters = int(fig.get_figwidth() * 72 / (0.61 * 11))
    lines = len(textwrap.wrap(text, characters))
    while lines > 1 and characters > 30 and len(textwrap.wrap(text, characters - 1)) == lines:
        characters -= 1
    style = dict(x=0.012, ha="left", fontsize=11, fontweight="bold", color=INK)
    fig.suptitle("\n".join(textwrap.wrap(text, characters)), **style)


def log_axis(axis) -> None:
    """Log ticks as plain numbers: 1, 2, 5 where the axis spans little, else powers of ten."""
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 40 else (1,), numticks=8))
    plain = FuncFormatter(lambda value, _: f"{value:.10g}" if value >= 1e-4 else f"{value:.0e}")
    axis.set_major_formatter(plain)
    axis.set_minor_locator(LogLocator(subs=tuple(range(1, 10)), numticks=12))
    axis.set_minor_formatter(NullFormatter())


def bars_across(ax, places, names, **style) -> None:
    """Axes whose rows are bars or dots with a name each: the first on top, no lines between."""
    ax.set_yticks(places, names, **style)
    if not ax.yaxis_inverted():
        ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    ax.tick_params(axis="y", length=0)


def legend_below(fig, columns: int, bars: bool = False) -> None:
    """The legend at the foot of the figure. bars: with room for hatches in its keys."""
    sizes = {"handlelength": 2.2, "handleheight": 1.2} if bars else {}
    fig.legend(loc="outside lower center", ncols=columns, **sizes)


def need_columns(table, columns, what: str) -> None:
    """Raises SettingError for a table without a column, EmptySetError for one without rows."""
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise SettingError(
            f"The {what} table has no column {', '.join(missing)}; expected {', '.join(columns)}. "
            "Pass the table as the notebook before left it."
        )
    if len(table) == 0:
        raise EmptySetError(
            f"The {what} table has no rows; at least one was expected. Look at its filter."
        )


def as_array(values, dtype=None) -> np.ndarray:
    """An array, a list or a tensor of any device as an array."""
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values, dtype=dtype)


def in_order(names, order) -> list:
    """The distinct names, those of `order` first and in its sequence, the others as they come."""
    seen = list(dict.fromkeys(names))
    return [name for name in order if name in seen] + [name for name in seen if name not in order]


def percent(value: float, digits: int = 1) -> str:
    """A share 0..1 as text in percent; `digits` after the point where they say anything."""
    text = f"{100 * float(value):.{digits}f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return ("0" if text == "-0" else text) + " %"


def listing(names, most: int = 4) -> str:
    """Names as words: 'a, b and c'; beyond `most` the rest is counted."""
    names = [str(name) for name in names]
    if len(names) > most:
        names = [*names[: most - 1], f"{len(names) - most + 1} more"]
    if len(names) < 2:
        return "".join(names) or "none"
    return f"{', '.join(names[:-1])} and {names[-1]}"


def wrap(label: str, width: int) -> str:
    """A label in lines of `width` characters, MOST_LINES at most; its own line breaks are kept."""
    width = max(int(width), 4)
    lines = [part for line in str(label).split("\n") for part in textwrap.wrap(line, width)]
    if len(lines) > MOST_LINES:
        lines = [*lines[: MOST_LINES - 1], "…"]
    return "\n".join(lines) or " "


def spread(positions, gap: float, low: float, high: float) -> np.ndarray:
    """Moves positions as little as needed to lie `gap` apart within low..high, in their order."""
    wanted = np.asarray(positions, dtype=float)
    order = np.argsort(wanted, kind="stable")
    moved = np.clip(wanted[order], low, high)
    for _ in range(200):
        before = moved.copy()
        for i in range(1, len(moved)):
            short_by = gap - (moved[i] - moved[i - 1])
            if short_by > 0:
                moved[i - 1] -= short_by / 2
                moved[i] += short_by / 2
        if len(moved) * gap <= high - low + gap:
            moved += max(low - moved[0], 0) - max(moved[-1] - high, 0)
        if np.allclose(before, moved):
            break
    result = np.empty_like(moved)
    result[order] = moved
    return result


DIRECTIONS = [(-1, 1), (-1, 0), (0, 1), (1, 1), (1, 0), (-1, -1), (0, -1), (1, -1)]
"""Where a label may stand, the free upper left of a Pareto plot first."""


def _overlap(a, b) -> float:
    """Shared area of two boxes (x0, y0, x1, y1)."""
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def _stands(point, size, frame, scale: float, clear, taken: list) -> tuple:
    """The cheapest box for a label: it covers few points, little of other labels and of the edge.

    Returns the box and how many steps away from its point it stands.
    """
    best = None
    for ring, reach in enumerate((6, 14, 24, 38, 54)):
        for rank, (dx, dy) in enumerate(DIRECTIONS):
            x = point[0] + dx * reach * scale - (1 - dx) / 2 * size[0]
            y = point[1] + dy * reach * scale - (1 - dy) / 2 * size[1]
            box = x, y, x + size[0], y + size[1]
            covered = (clear > np.array(box[:2]) - 4) & (clear < np.array(box[2:]) + 4)
            lost = size[0] * size[1] - _overlap(box, frame)
            lost += sum(_overlap(box, other) for other in taken)
            cost = 40 * covered.all(axis=1).sum() + 5 * lost + 6 * ring + rank
            if best is None or cost < best[0]:
                best = cost, box, ring
    return best[1:]


def place_labels(ax, xs, ys, labels, obstacles=None) -> None:
    """Names points so that no label covers another one, a point or the edge, where there is room.

    xs, ys: data units, as many as labels; obstacles: (M, 2) further points to keep free. Each label
    in turn tries eight directions at growing distances; far ones get a thin line.
    """
    ax.figure.draw_without_rendering()
    points = ax.transData.transform(np.column_stack([xs, ys]))
    others = np.empty((0, 2)) if obstacles is None else ax.transData.transform(obstacles)
    clear, scale, taken = np.vstack([points, others]), ax.figure.dpi / 72, []
    for index in np.argsort(points[:, 0]):
        place, point = (xs[index], ys[index]), points[index]
        style = dict(textcoords="offset points", va="bottom", fontsize=8.5, zorder=6)
        text = ax.annotate(labels[index], place, xytext=(0, 0), **style)
        extent = text.get_window_extent()
        size, frame = (extent.width, extent.height), ax.get_window_extent().extents
        box, ring = _stands(point, size, frame, scale, clear, taken)
        taken.append(box)
        text.set_position(((box[0] - point[0]) / scale, (box[1] - point[1]) / scale))
        if ring > 0:
            end = ax.transData.inverted().transform(np.clip(point, box[:2], box[2:]))
            line = dict(color=GREY, linewidth=0.7, zorder=3, label="_line")
            ax.plot([place[0], end[0]], [place[1], end[1]], **line)
