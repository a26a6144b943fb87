"""Edited models under stress: what comes back, beside the unedited model and the oracle."""

import numpy as np
import pandas as pd

from slugkit.workbook.plots.forms import heat
from slugkit.workbook.plots.look import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PURPLE,
    canvas,
    dressed,
    headline,
    legend_below,
    listing,
    need_columns,
)

LOOKS = {
    "unedited": dict(color=GREY, marker="X"),
    "oracle": dict(color=INK, marker="*"),
    "SLUG": dict(color=BLUE, marker="o"),
    "SLUG-R": dict(color=ORANGE, marker="^"),
}
RIVALS = [(GREEN, "D"), (PURPLE, "s")]
"""Colour and marker of the other methods, in turn."""
CONTROLS = ("made-up names", "for a stranger")
"""How settings end by which the others are measured."""
PLACES = {"pipeline": "the UNet", "vlm": "the questions"}
"""What is edited where it is no tower."""
HOLDS, BACK = 10, 50
"""Percent of the way back up to which an edit holds, and from which on it does not."""
NEEDED = ["stress", "setting", "steps", "tower", "name", "metric", "mean", "low", "high"]


def _looks(names) -> dict[str, dict]:
    others = [name for name in dict.fromkeys(names) if name not in LOOKS]
    own = {n: dict(zip(("color", "marker"), look)) for n, look in zip(others, RIVALS * len(others))}
    return {name: (LOOKS | own)[name] for name in dict.fromkeys(names)}


def _place(tower: str) -> str:
    return PLACES.get(tower, f"the {tower} tower")


def _towers(part: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The rows of each tower's edits, with both models that nobody edited beside them."""
    towers = [tower for tower in dict.fromkeys(part["tower"]) if tower]
    return {tower: part[part["tower"].isin(["", tower])] for tower in towers}


@dressed
def under_stress(summary: pd.DataFrame, stress: str, metric: str = "FA@1"):
    """One measure of one stress: a row a setting, a point a model with its 95 % interval over
    people, a panel a tower.

    summary: rows of `slugkit.experiments.stress.summary.over_people`.
    """
    part = summary[(summary["stress"] == stress) & (summary["metric"] == metric)]
    need_columns(part, NEEDED, "stress")
    towers, looks = _towers(part), _looks(part["name"])
    settings = list(dict.fromkeys(part["setting"]))
    height = 1.6 + 0.17 * len(settings) * len(looks)
    fig, axes = canvas(10.4, height, 1, len(towers), sharey=True, squeeze=False)
    for ax, (tower, rows) in zip(axes[0], towers.items(), strict=True):
        for number, (name, look) in enumerate(looks.items()):
            mine = rows[rows["name"] == name].set_index("setting").reindex(settings)
            y = np.arange(len(settings)) + 0.8 * ((number + 0.5) / len(looks) - 0.5)
            ax.hlines(y, mine["low"], mine["high"], color=look["color"], linewidth=1.2)
            ax.scatter(mine["mean"], y, s=34, zorder=3, label=name, **look)
        ax.set_title(f"edits of {_place(tower)}")
        ax.set_xlim(-3, 103)
        ax.set_xlabel(f"{metric} (%)")
        ax.set_ylim(len(settings) - 0.5, -0.5)
        ax.set_yticks(range(len(settings)), settings)
        ax.grid(visible=False, axis="y")
    handles, labels = axes[0][0].get_legend_handles_labels()
    legend_below(fig, len(looks), handles=handles, labels=labels)
    return headline(fig, _title(part, stress, metric)), _says(part, stress, metric)


def _title(part: pd.DataFrame, stress: str, metric: str) -> str:
    """The largest return in each tower, beside the ends and what a made-up name reaches."""
    said = []
    for tower, rows in _towers(part).items():
        control = rows["setting"].str.endswith(CONTROLS)
        edits = rows[(rows["tower"] != "") & ~control]
        worst = edits.loc[edits["mean"].idxmax()]
        ends = rows[rows["setting"] == worst["setting"]].set_index("name")["mean"]
        beside = [f"{n} {ends[n]:.0f} %" for n in ("oracle", "unedited") if n in ends]
        mine = rows[(rows["name"] == worst["name"]) & control]
        beside += [f"{s} {m:.0f} %" for s, m in zip(mine["setting"], mine["mean"])]
        beside = f" ({', '.join(beside)})" if beside else ""
        where = f", {worst['setting']}" if worst["setting"] else ""
        place = _place(tower)
        said.append(f"{place} at most {worst['mean']:.0f} %, {worst['name']}{where}{beside}")
    return f"{stress[0].upper()}{stress[1:]}, {metric}: " + "; ".join(said)


def _says(part: pd.DataFrame, stress: str, metric: str) -> str:
    people = part["people"].max() if "people" in part else 0
    return (
        f"{metric} under the stress '{stress}', a row a setting, a point a model with its 95 %"
        f" interval over up to {people} people (none where they are fewer than five); left to right"
        f" by what was edited."
        f" {_title(part, stress, metric)}."
    )


@dressed
def relearned(summary: pd.DataFrame, metric: str = "FA@5"):
    """How a measure comes back with the steps of relearning: a row a tower, a panel a set of
    pictures, bands are 95 % intervals over people.

    summary: as of `under_stress`.
    """
    part = summary[(summary["stress"] == "relearning") & (summary["metric"] == metric)]
    need_columns(part, NEEDED, "stress")
    towers, looks = _towers(part), _looks(part["name"])
    settings, marks = list(dict.fromkeys(part["setting"])), sorted(set(part["steps"]))
    size = 10.4, 1.2 + 2.5 * len(towers)
    grid = dict(sharex=True, sharey=True, squeeze=False)
    fig, axes = canvas(*size, len(towers), len(settings), **grid)
    for row, (tower, rows) in zip(axes, towers.items(), strict=True):
        for ax, setting in zip(row, settings, strict=True):
            for name, look in looks.items():
                mine = rows[(rows["name"] == name) & (rows["setting"] == setting)]
                mine = mine.set_index("steps").reindex(marks)
                x = range(len(marks))
                ax.fill_between(
                    x, mine["low"], mine["high"], color=look["color"], alpha=0.13, linewidth=0
                )
                ax.plot(x, mine["mean"], label=name, markersize=5, **look)
            ax.set_xticks(range(len(marks)), marks)
            ax.set_ylim(-3, 103)
        row[0].set_ylabel(f"{tower} tower\n{metric} (%)")
    for ax, setting in zip(axes[0], settings, strict=True):
        ax.set_title(setting)
    for ax in axes[-1]:
        ax.set_xlabel("steps")
    handles, labels = axes[0][0].get_legend_handles_labels()
    legend_below(fig, len(looks), handles=handles, labels=labels)
    last = part[(part["steps"] == marks[-1]) & (part["setting"] == settings[0])]
    names = [f"{n} ({t})" if t else n for n, t in zip(last["name"], last["tower"])]
    back = ", ".join(f"{name} {mean:.0f} %" for name, mean in zip(names, last["mean"]))
    title = f"{marks[-1]} steps on {settings[0]} bring {metric} back to: {back}"
    says = (
        f"{metric} against steps of relearning, by the pictures trained on (left to right) and the"
        f" tower of the edit (top to bottom). {title}."
    )
    return headline(fig, title), says


@dressed
def way_back(shares: pd.DataFrame):
    """Every stress against every edit: how much of the way back to the unedited model it is
    brought, in percent.

    shares: of `slugkit.experiments.stress.summary.way_back`.
    """
    need_columns(shares, ["stress", "setting", "unedited", "oracle"], "stress")
    edits = [name for name in shares if ", text" in name or ", vision" in name]
    kept = shares[shares[edits].notna().any(axis=1)]
    rows = [f"{s}: {w}" if w else s for s, w in zip(kept["stress"], kept["setting"])]
    fig, ax = canvas(10.4, 1.6 + 0.36 * len(kept))
    heat(ax, kept[edits].to_numpy(float).round() + 0.0, edits, rows, 0, vmin=0, vmax=100)
    low, high = kept[edits].min(axis=1, skipna=False), kept[edits].max(axis=1, skipna=False)
    back = listing([row for row, least in zip(rows, low) if least > BACK], 9)
    holds = listing([row for row, most in zip(rows, high) if most <= HOLDS], 9)
    title = (
        f"More than {BACK} % of the way back on average, whatever the edit: {back}."
        f" At most {HOLDS} %: {holds}"
    )
    says = (
        "A heat map, stresses down, edits across: 0 is the oracle under the same stress, 100 the"
        f" unedited model. {title}."
    )
    return headline(fig, title), says
