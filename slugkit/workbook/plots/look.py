"""One look for every figure: colours, markers, hatches, titles, and the words of both.

Colours are Okabe and Ito's (https://jfly.uni-koeln.de/color/), which colour-blind readers can tell
apart; every colour comes with a marker, a line style or a hatch, so that a grey print still reads.
"""

import textwrap
from collections import Counter

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns

from slugkit.base import EmptySetError, SettingError

ORANGE, SKY, GREEN, YELLOW = "#E69F00", "#56B4E9", "#009E73", "#F0E442"
BLUE, VERMILION, PURPLE = "#0072B2", "#D55E00", "#CC79A7"
INK, GREY, PALE = "#262626", "#8C8C8C", "#E4E4E4"

# colour, marker and line of each group of pictures; the target is always the orange-red triangle
GROUPS = {
    "target": dict(color=VERMILION, marker="^", linestyle="-"),
    "neighbours": dict(color=PURPLE, marker="s", linestyle=(0, (5, 1.5))),
    "people": dict(color=BLUE, marker="o", linestyle="-"),
    "characters": dict(color=SKY, marker="X", linestyle=(0, (3, 1))),
    "objects": dict(color=GREEN, marker="D", linestyle=(0, (4, 1, 1, 1))),
    "styles": dict(color=ORANGE, marker="v", linestyle=(0, (1, 1))),
}
SPARE = dict(color=INK, marker="P", linestyle="--")
MOST_LINES, LONGEST_TITLE = 12, 600  # of a label; characters

ARMS = {
    "SLUG-R": [("^", ORANGE, "\\\\"), ("D", VERMILION, "--")],
    "SLUG": [("o", BLUE, "//"), ("s", SKY, "xx")],
    "": [("v", PURPLE, "++"), ("P", GREEN, "||")],
}
"""Marker, colour and hatch of an arm's edits, in turn, by how the edit's name begins."""

STYLE = {
    **sns.axes_style("ticks"),
    **sns.plotting_context("paper", font_scale=1.05),
    "font.sans-serif": ["DejaVu Sans"],
    "figure.dpi": 100,
    "figure.constrained_layout.w_pad": 0.06,
    "figure.constrained_layout.h_pad": 0.06,
    "figure.constrained_layout.wspace": 0.03,
    "figure.constrained_layout.hspace": 0.03,
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
    "axes.prop_cycle": plt.cycler(color=[ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILION, PURPLE]),
    "svg.hashsalt": "slugkit",
}


def use_style() -> None:
    """Sets the workbook's look for all figures drawn from now on, also a reader's own."""
    plt.rcParams.update(STYLE)


dressed = plt.rc_context(STYLE)
"""Decorator: a drawing function runs in the workbook's look and leaves the reader's settings."""


def canvas(width: float, height: float, rows: int = 1, columns: int = 1, **panels):
    """A new figure in inches, whose parts arrange themselves, and its panels."""
    size = dict(figsize=(width, height), layout="constrained")
    return plt.subplots(rows, columns, **size, **panels)


def headline(fig, text: str):
    """The figure with its finding above it, in lines of about equal length that fit it."""
    # never a line break before a percent sign
    text = text.replace(" %", "\u00a0%").replace(" = ", "\u00a0=\u00a0")
    text = text if len(text) <= LONGEST_TITLE else f"{text[:LONGEST_TITLE]}…"
    characters = int(fig.get_figwidth() * 72 / (0.61 * 11))
    lines = len(textwrap.wrap(text, characters))
    while lines > 1 and characters > 30 and len(textwrap.wrap(text, characters - 1)) == lines:
        characters -= 1
    style = dict(x=0.012, ha="left", fontsize=11, fontweight="bold", color=INK)
    fig.suptitle("\n".join(textwrap.wrap(text, characters)), **style)
    return fig


def legend_below(fig, columns: int, bars: bool = False, **which) -> None:
    """The legend at the foot of the figure. bars: with room for hatches in its keys."""
    sizes = {"handlelength": 2.2, "handleheight": 1.2} if bars else {}
    fig.legend(loc="outside lower center", ncols=columns, **sizes, **which)


def edit_looks(names) -> dict[str, tuple[str, str, str]]:
    """Marker, colour and hatch of each edit; an arm has its own whatever stands beside it."""
    found, drawn = {}, Counter()
    for name in dict.fromkeys(names):
        arm = next(arm for arm in ARMS if name.startswith(arm))
        found[name] = ARMS[arm][drawn[arm] % len(ARMS[arm])]
        drawn[arm] += 1
    return found


def need_columns(table, columns, what: str) -> None:
    """Raises SettingError for a table without a column, EmptySetError for one without rows."""
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise SettingError(
            f"The {what} table has no column {', '.join(missing)}; expected {', '.join(columns)}. "
            "Pass the table as the notebook before left it."
        )
    if len(table) == 0:
        raise EmptySetError(f"The {what} table has no rows, one was expected; look at its filter.")


def as_array(values, dtype=None) -> np.ndarray:
    """An array, a list or a tensor of any device as an array."""
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values, dtype=dtype)


def in_order(names, order=tuple(GROUPS)) -> list:
    """The distinct names, those of `order` first and in its sequence, the others as they come."""
    seen = list(dict.fromkeys(names))
    return [name for name in order if name in seen] + [name for name in seen if name not in order]


def percent(value: float, digits: int = 1) -> str:
    """A share 0..1 as text in percent; `digits` after the point where they say anything."""
    return f"{round(100 * float(value), digits) + 0.0:.15g} %"  # + 0.0: never -0


def listing(names, most: int = 4) -> str:
    """Names as words: 'a, b and c'; beyond `most` the rest is counted."""
    names = [str(name) for name in names]
    if len(names) > most:
        names = [*names[: most - 1], f"{len(names) - most + 1} more"]
    return " and ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names) or "none"


def shares(values) -> list[str]:
    """Named shares 0..1 as words: 'people 95 %' each."""
    return [f"{name} {percent(value)}" for name, value in values.items()]


def wrap(label: str, width: float) -> str:
    """A label in lines of `width` characters, MOST_LINES at most; its own line breaks are kept."""
    width = max(int(width), 4)
    lines = [part for line in str(label).split("\n") for part in textwrap.wrap(line, width)]
    if len(lines) > MOST_LINES:
        lines = [*lines[: MOST_LINES - 1], "…"]
    return "\n".join(lines) or " "
