"""Methods against each other: forgetting and cost against what is lost."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from slugkit.workbook.plots.forms import log_axis
from slugkit.workbook.plots.look import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PALE,
    canvas,
    dressed,
    headline,
    need_columns,
)

ABLE = "forgotten on the search split"
"""Share of the concepts, in percent, that a method forgot; below 90 its point is grey."""


class Sides(NamedTuple):
    """What a method is judged by: the measures of forgetting, in percent, of loss, in points, and
    of cost; what stands at their axes, and who loses.
    """

    forgets: str
    loses: str
    cost: str
    forgets_label: str
    loses_label: str
    cost_label: str
    whose: str


NAMES = Sides(
    "FA@5 after, worst wording",
    "others change",
    "seconds",
    "FA@5, worst report wording (%)",
    "change of the other people, characters, objects (points)",
    "seconds",
    "the others lose",
)
"""Of a CLIP's text tower."""
PICTURES = Sides(
    "still shown",
    "IRA change",
    "drawn",
    "report pictures that still show it (%)",
    "change of IRA, others of its kind (points)",
    "pictures drawn in the search",
    "others of its kind lose",
)
"""Of a Stable Diffusion's pictures."""
LOOKS = {
    "oracle": dict(color=INK, marker="*", s=170),
    "SLUG": dict(color=BLUE, marker="o", s=70),
    "SLUG-R": dict(color=ORANGE, marker="^", s=80),
    "SLUG-R, no margin": dict(facecolor="white", edgecolor=ORANGE, marker="^", s=70),
}
"""The look of those that have one of their own; ablations and rivals share theirs."""
LEVELS = (0, -1, -2, -5, -10, -20, -50, -100)
"""Marks of the axis of losses, which is linear up to two points and logarithmic beyond."""
ABLATION = dict(facecolor="white", edgecolor=BLUE, marker="s", s=45)
RIVAL = dict(color=GREEN, marker="D", s=45)
UNABLE = dict(color=GREY, marker="x", s=35)
MORE = dict(facecolor="white", edgecolor=GREEN, marker="D", s=60)


def _look(method: str, times: int, able: float) -> dict:
    if able < 90:
        return UNABLE
    if method in LOOKS or method.startswith("SLUG-R,"):
        return LOOKS.get(method, LOOKS["SLUG-R, no margin"])
    if times > 1:
        return MORE
    return ABLATION if method.startswith("SLUG,") or method == "every layer" else RIVAL


@dressed
def trade_off(summary: pd.DataFrame, sides: Sides = NAMES):
    """What each method loses, against how well it forgets and against what it costs: a numbered
    point each, crosses are 95 % intervals over concepts.

    summary: rows of `slugkit.experiments.compared.over_all`. sides: the measures.
    """
    need_columns(summary, ["method", "times", "measure", "mean", "low", "high"], "comparison")
    values = summary.pivot(index=["method", "times"], columns="measure")
    order = values["mean"][sides.loses].sort_values(ascending=False).index
    fig, axes = canvas(10.4, 5.6, 1, 2, sharey=True, width_ratios=[1, 1])
    for ax, measure in zip(axes, (sides.forgets, sides.cost), strict=True):
        for number, key in enumerate(order, start=1):
            look = _look(*key, values.loc[key, ("mean", ABLE)])
            _point(ax, values.loc[key], (measure, sides.loses), number, look)
        ax.set_xlabel(sides.forgets_label if measure == sides.forgets else sides.cost_label)
    axes[0].set_ylabel(sides.loses_label)
    axes[0].set_xscale("symlog", linthresh=1)
    axes[0].set_xticks([0, 1, 10, 100], ["0", "1", "10", "100"])
    axes[0].set_xlim(-0.15, 140)
    axes[0].set_yscale("symlog", linthresh=2)
    axes[0].set_ylim(top=2)
    axes[0].set_yticks(LEVELS, [f"{level:g}" for level in LEVELS])
    axes[1].set_xscale("log")
    log_axis(axes[1].xaxis)
    _names(axes[1], order, values["mean"][ABLE])
    title, says = _words(values["mean"], sides)
    return headline(fig, title), says


def _point(ax, row: pd.Series, measures: tuple[str, str], number: int, look: dict) -> None:
    """A method's place with its cross, named by its number."""
    x, y = (row["mean"].get(name, np.nan) for name in measures)
    if not np.isfinite([x, y]).all():
        return
    for name, place in zip(measures, "xy", strict=True):
        low, high = row["low"].get(name, np.nan), row["high"].get(name, np.nan)
        if np.isfinite([low, high]).all():
            ends = ([low, high], [y, y]) if place == "x" else ([x, x], [low, high])
            ax.plot(*ends, color=GREY, linewidth=0.8, zorder=2)
    ax.scatter(x, y, zorder=4, linewidth=1.2, **look)
    ax.annotate(str(number), (x, y), (5, 4), textcoords="offset points", fontsize=8, zorder=5)


def _names(ax, order, able: pd.Series) -> None:
    """The methods by their numbers, beside the panel."""
    for number, (method, times) in enumerate(order, start=1):
        more = f", {times} times the pairs" if times > 1 else ""
        style = _look(method, times, able[method, times])
        color = style.get("color", style.get("edgecolor"))
        height = 1 - (number - 0.5) / len(order)
        where = dict(xycoords="axes fraction", annotation_clip=False, fontsize=8, va="center")
        ax.annotate(f"{number}", (1.03, height), color=color, fontweight="bold", **where)
        ax.annotate(f"{method}{more}", (1.09, height), **where)
    ax.axhline(0, color=PALE, zorder=1)


def _words(means: pd.DataFrame, sides: Sides) -> tuple[str, str]:
    """Title and description: who keeps most of those that forget."""
    known = means.drop(index="oracle", level="method", errors="ignore")
    able = known[known[ABLE] >= 90].sort_values(sides.loses, ascending=False)

    def said(key) -> str:
        more = f" with {key[1]} times the pairs" if key[1] > 1 else ""
        return f"{key[0]}{more} ({able.loc[key, sides.loses]:+.1f} points)"

    first = [said(key) for key in able.index[:3]]
    title = f"Of the methods that forget, {sides.whose} least with " + ", then ".join(first)
    star = " The star is the oracle." if len(known) < len(means) else ""
    says = (
        f"{len(known)} methods and budgets. Left: {sides.forgets_label}, against the"
        f" {sides.loses_label}; grey crosses left more than a tenth of the concepts unforgotten."
        f"{star} Right: against {sides.cost_label}. {title}."
    )
    return title, says
