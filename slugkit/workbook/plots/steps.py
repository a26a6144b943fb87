"""Figures about the size of the step: the sweep, and the search for it."""

import numpy as np
import pandas as pd
from matplotlib.patheffects import withStroke

from slugkit.base import EmptySetError
from slugkit.method.layers import short
from slugkit.workbook.plots.look import (
    GREY,
    GROUP_ORDER,
    INK,
    OKABE_ITO,
    canvas,
    dressed,
    group_style,
    headline,
    in_order,
    listing,
    log_axis,
    need_columns,
    number,
    percent,
    spread,
)

PROBES = [
    dict(marker="v", facecolor=OKABE_ITO["vermilion"], label="forgotten"),
    dict(marker="^", facecolor="white", label="not forgotten"),
]
PROBES = [{**look, "edgecolor": INK, "linewidth": 1.1} for look in PROBES]
"""Marks of probes that forgot, and of those that did not."""


def _lines(ax, sweep: pd.DataFrame, groups) -> None:
    """One line with its interval a group, markers thinned to about ten."""
    for group in groups:
        part = sweep[sweep["group"] == group].sort_values("lam")
        style = group_style(group)
        every = max(1, len(part) // 10)
        low, high = 100 * part["low"], 100 * part["high"]
        ax.fill_between(part["lam"], low, high, color=style["color"], alpha=0.13, linewidth=0)
        ax.plot(part["lam"], 100 * part["value"], markevery=every, markersize=5, zorder=3, **style)


def _end_labels(ax, sweep: pd.DataFrame, groups) -> None:
    """Names each line at its right end, moved apart where lines meet."""
    last = [sweep[sweep["group"] == group].sort_values("lam").iloc[-1] for group in groups]
    heights = np.array([100 * row["value"] for row in last])
    right, places = ax.get_xlim()[1], spread(heights, 6.2, 0, 104)
    outside = dict(textcoords=("axes fraction", "data"), va="center", annotation_clip=False)
    for group, row, height, place in zip(groups, last, heights, places, strict=True):
        count = f" (n = {int(row['n'])})" if pd.notna(row.get("n")) else ""
        colour, weight = group_style(group)["color"], "bold" if group == "target" else "normal"
        arrow = dict(arrowstyle="-", color=colour, linewidth=0.7, shrinkA=1, shrinkB=0)
        look = dict(color=colour, fontsize=9, fontweight=weight, arrowprops=arrow)
        ax.annotate(f"{group}{count}", (right, height), xytext=(1.035, place), **outside, **look)


def _probe_marks(ax, probes: pd.DataFrame) -> int:
    """Marks the search's probes at the height of FA@1.

    Returns how many lie beyond the right edge.
    """
    inside = probes[probes["lam"] <= ax.get_xlim()[1]]
    forgotten = inside["forgotten"].astype(bool)
    for mask, look in ((forgotten, PROBES[0]), (~forgotten, PROBES[1])):
        part = inside[mask]
        if len(part):
            look = look | {"s": 70, "zorder": 6, "label": f"probe, {look['label']}"}
            ax.scatter(part["lam"], 100 * part["fa1"], **look)
    return len(probes) - len(inside)


def _at(sweep: pd.DataFrame, group: str, lam: float) -> tuple[float, float]:
    """Value of a group at the sweep's smallest step and at its measured step nearest to lam."""
    part = sweep[sweep["group"] == group]
    steps, values = part["lam"].to_numpy(), part["value"].to_numpy()
    return float(values[np.argmin(np.abs(steps))]), float(values[np.argmin(np.abs(steps - lam))])


def _sweep_words(sweep, groups, lam, ratio) -> tuple[str, str]:
    """Finding and description of a sweep."""
    end = float(sweep["lam"].max())
    steps = sweep["lam"].to_numpy(dtype=float)
    at = end if lam is None else float(steps[np.argmin(np.abs(steps - lam))])
    where = f"At λ = {number(at)} (ρ = {percent(at * ratio)})"
    moves = {group: _at(sweep, group, at) for group in groups}
    title, others = where, [group for group in groups if group != "target"]
    if "target" in moves:
        title += " the target goes from {} to {}".format(*map(percent, moves["target"]))
    if others:
        losses = {group: 100 * (moves[group][0] - moves[group][1]) for group in others}
        worst = max(others, key=losses.get)
        title += "; no other group loses"
        if losses[worst] > 0:
            title += f" more than {losses[worst]:.1f} points ({worst})"
    ends = listing([f"{group} {percent(_at(sweep, group, end)[1])}" for group in groups], 6)
    last = f"At the largest step, λ = {number(end)}: {ends}."
    return title, f"Lines of accuracy against the step size. {title}. {last}"


@dressed
def step_sweep(sweep: pd.DataFrame, probes: pd.DataFrame | None = None, lam: float | None = None):
    """Accuracy of each group against the size of the step on one layer, as the lines of the project
    page's figure 2.

    sweep: columns layer, tower, lam, rho, group, value, low, high (0..1), n; probes: the rows of
    search.parquet of the same layer, drawn where they were measured (other pictures than the
    sweep's, so they may lie off the line);
    lam: the chosen step; the title speaks of the measured step nearest to it, so let the sweep
    contain it. Returns (figure, description).
    """
    need_columns(sweep, ["lam", "rho", "group", "value", "low", "high"], "sweep")
    groups = in_order(sweep["group"], GROUP_ORDER)
    largest = sweep.loc[sweep["lam"].abs().idxmax()]
    ratio = float(largest["rho"] / largest["lam"]) if largest["lam"] else 0.0
    fig = canvas(8.6, 4.5)
    ax = fig.subplots()
    _lines(ax, sweep, groups)
    ax.set(xlim=(float(sweep["lam"].min()), float(sweep["lam"].max())), ylim=(-3, 104))
    ax.set(xlabel="step size λ (unitless)", ylabel="top-1 accuracy (%)")
    if lam is not None:
        ax.axvline(lam, color=INK, linewidth=1.3, linestyle=(0, (6, 2)), zorder=2)
        side = dict(xytext=(4, 0), textcoords="offset points", rotation=90, va="center")
        where = dict(xy=(lam, 0.5), xycoords=("data", "axes fraction"), fontsize=8.5)
        ax.annotate(f"chosen λ = {number(lam)}", **where, **side)
    beyond = 0
    if probes is not None and len(probes):
        need_columns(probes, ["lam", "fa1", "forgotten"], "probes")
        beyond = _probe_marks(ax, probes)
        fig.legend(loc="outside lower center", ncols=2)
    if ratio:
        ways = (lambda lam: 100 * ratio * lam, lambda rho: rho / (100 * ratio))
        top = ax.secondary_xaxis("top", functions=ways)
        top.set_xlabel("relative step ρ = ‖change‖ / ‖θ‖ (%)")
    _end_labels(ax, sweep, groups)
    title, says = _sweep_words(sweep, groups, lam, ratio)
    name = f" Layer {short(str(sweep['layer'].iloc[0]))}." if "layer" in sweep.columns else ""
    headline(fig, title)
    return fig, says + name + (f" {beyond} probes lie beyond the right edge." if beyond else "")


def bracket(probes: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """The search's bracket after each probe: largest step not yet enough (0 at first), smallest one
    that is (inf at first).

    probes: rows of one layer in order, columns rho and forgotten. Returns two arrays as long as the
    table, unit of rho.
    """
    low, high, lows, highs = 0.0, np.inf, [], []
    for rho, forgotten in zip(probes["rho"], probes["forgotten"].astype(bool), strict=True):
        low, high = (low, min(high, rho)) if forgotten else (max(low, rho), high)
        lows.append(low)
        highs.append(high)
    return np.array(lows), np.array(highs)


def _shade_bracket(ax, lows, highs, bottom, top) -> None:
    """The bracket as a band that narrows from probe to probe, from right of each probe
    to the next.
    """
    for i, (low, high) in enumerate(zip(lows, highs, strict=True)):
        low, high = max(100 * low, bottom), min(100 * high, top)
        band = dict(color=OKABE_ITO["sky"], alpha=0.22, linewidth=0, zorder=1)
        ax.fill_between([i + 1, i + 2], low, high, **band)
        for edge in (low, high):
            if bottom < edge < top:
                ax.hlines(edge, i + 1, i + 2, color="#2F6F94", linewidth=0.9, zorder=2)


def _trail_marks(ax, turn, rho, part: pd.DataFrame) -> None:
    """A mark for each probe, the criterion's forget accuracy above it, a ring round the
    chosen one.
    """
    forgotten, chosen = (part[name].astype(bool).to_numpy() for name in ("forgotten", "chosen"))
    for mask, look in ((forgotten, PROBES[0]), (~forgotten, PROBES[1])):
        ax.scatter(turn[mask], rho[mask], s=76, zorder=4, **look)
    words = dict(textcoords="offset points", ha="center", fontsize=8, zorder=6)
    for x, y, fa, ringed in zip(turn, rho, part["forget"], chosen, strict=True):
        text = ax.annotate(percent(fa), (x, y), xytext=(0, 12 if ringed else 8), **words)
        text.set_path_effects([withStroke(linewidth=2.5, foreground="white")])
    if chosen.any():
        halo = dict(s=260, facecolor="none", edgecolor=INK, linewidth=1.6, zorder=5)
        ax.scatter(turn[chosen], rho[chosen], label="chosen", **halo)


@dressed
def search_trail(search: pd.DataFrame, layer: str | None = None):
    """The step-size search of one layer, probe by probe: the relative step, forgotten or not, and
    the bracket left.

    search: search.parquet (columns layer, probe, lam, rho, forget, forgotten, chosen); layer: its
    canonical name, default the first of the table. Returns (figure, description). Raises
    EmptySetError for a layer without probes.
    """
    columns = ["layer", "probe", "lam", "rho", "forget", "forgotten", "chosen"]
    need_columns(search, columns, "search")
    layer = layer or search["layer"].iloc[0]
    part = search[search["layer"] == layer].sort_values("probe").reset_index(drop=True)
    if part.empty:
        raise EmptySetError(
            f"No probe of the layer {layer}; the table holds"
            f" {listing(search['layer'].unique(), 8)}."
        )
    turn, rho = np.arange(1, len(part) + 1), 100 * part["rho"].to_numpy()
    bottom, top = rho.min() / 1.6, rho.max() * 1.6
    fig = canvas(7.6, 4.2)
    ax = fig.subplots()
    _shade_bracket(ax, *bracket(part), bottom, top)
    ax.plot(turn, rho, color=GREY, linewidth=1, zorder=2)
    _trail_marks(ax, turn, rho, part)
    ax.fill_between([], [], color=OKABE_ITO["sky"], alpha=0.3, label="bracket left after the probe")
    ax.set(yscale="log", ylim=(bottom, top), xlim=(0.5, len(part) + 1.1), xticks=turn)
    ax.set_xlabel("probe (the number is what the criterion asks to be 0, on the search pictures)")
    ax.set_ylabel("relative step ρ (%, log scale)")
    log_axis(ax.yaxis)
    ax.grid(axis="x", visible=False)
    fig.legend(loc="outside lower center", ncols=4)
    title, says = _trail_words(part, short(layer), part["chosen"].astype(bool).to_numpy())
    headline(fig, title)
    return fig, says


def _trail_words(part, name, chosen) -> tuple[str, str]:
    """Finding and description of one search."""
    count = f"{len(part)} probe{'s' if len(part) != 1 else ''}"
    forgot = int(part["forgotten"].astype(bool).sum())
    lowest = percent(part["forget"].min())
    title = f"{name}: none of {count} was chosen; the lowest forget accuracy was {lowest}"
    if chosen.any():
        row = part[chosen].iloc[0]
        step = f"ρ = {percent(row['rho'], 2)} (λ = {number(row['lam'])})"
        title = f"{name}: {count} close in on {step}, forget accuracy {percent(row['forget'])}"
    each = f"The relative step of each probe of {name} on a log scale"
    return title, f"{each}; {forgot} of {count} forgot the target. {title}."
