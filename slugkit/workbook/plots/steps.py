"""Figures about the size of the step: the sweep, and the search for it."""

import numpy as np
import pandas as pd
from matplotlib.patheffects import withStroke

from slugkit.base import EmptySetError
from slugkit.method.layers import short
from slugkit.workbook.plots import forms, look
from slugkit.workbook.plots.look import (
    GREY,
    INK,
    SKY,
    VERMILION,
    in_order,
    listing,
    percent,
    shares,
)


def _probes(ax, x, y, forgotten) -> None:
    """Marks of probes that forgot, and of those that did not."""
    style = dict(edgecolor=INK, linewidth=1.1, s=74, zorder=6)
    kinds = {
        "probe, forgotten": (forgotten, dict(marker="v", facecolor=VERMILION, **style)),
        "probe, not forgotten": (~forgotten, dict(marker="^", facecolor="white", **style)),
    }
    forms.points(ax, x, y, kinds)


def _end_labels(ax, parts: dict[str, pd.DataFrame]) -> None:
    """Names each line at its right end, moved apart where lines meet."""
    heights = np.array([100 * part["value"].iloc[-1] for part in parts.values()])
    right, places = ax.get_xlim()[1], forms.spread(heights, 6.2, 0, 104)
    outside = dict(textcoords=("axes fraction", "data"), va="center", annotation_clip=False)
    for (group, part), height, place in zip(parts.items(), heights, places):
        size = part["n"].iloc[-1] if "n" in part.columns else np.nan
        name = group if pd.isna(size) else f"{group} (n = {int(size)})"
        colour = look.GROUPS.get(group, look.SPARE)["color"]
        style = dict(color=colour, fontsize=9, fontweight="bold" if group == "target" else "normal")
        arrow = dict(arrowstyle="-", color=colour, linewidth=0.7, shrinkA=1, shrinkB=0)
        ax.annotate(name, (right, height), (1.035, place), arrowprops=arrow, **style, **outside)


def _sweep_words(parts: dict[str, pd.DataFrame], lam: float | None, ratio) -> tuple[str, str]:
    """Finding and description of a sweep."""
    lines = pd.DataFrame({g: part.groupby("lam")["value"].first() for g, part in parts.items()})
    lines = lines.ffill().bfill()
    first, end = lines.iloc[np.argmin(np.abs(lines.index))], lines.index.max()
    at = end if lam is None else lines.index[np.argmin(np.abs(lines.index - lam))]
    there = lines.loc[at]
    title = f"At λ = {at:.3g} (ρ = {percent(at * ratio)})"
    if "target" in parts:
        title += f" the target goes from {percent(first['target'])} to {percent(there['target'])}"
    losses = 100 * (first - there).drop("target", errors="ignore")
    if len(losses):
        worst = f"the largest loss elsewhere is {losses.max():.1f} points ({losses.idxmax()})"
        title += f"; {worst if losses.max() > 0 else 'no other group loses'}"
    last = f"At the largest step, λ = {end:.3g}: {listing(shares(lines.loc[end]), 6)}."
    return title, f"Lines of accuracy against the step size. {title}. {last}"


@look.dressed
def step_sweep(sweep: pd.DataFrame, probes: pd.DataFrame | None = None, lam: float | None = None):
    """Accuracy of each group against the size of the step on one layer, as the lines of the project
    page's figure 2.

    sweep: columns layer, lam, rho, group, value, low, high (0..1), n; probes: the rows of
    search.parquet of the same layer, drawn where they were measured (other pictures than the
    sweep's, so they may lie off the line); lam: the chosen step; the title speaks of the measured
    step nearest to it, so let the sweep contain it.
    """
    look.need_columns(sweep, ["lam", "rho", "group", "value", "low", "high"], "sweep")
    groups = in_order(sweep["group"])
    parts = {group: sweep[sweep["group"] == group].sort_values("lam") for group in groups}
    largest = sweep.loc[sweep["lam"].abs().idxmax()]
    ratio = float(largest["rho"] / largest["lam"]) if largest["lam"] else 0.0
    fig, ax = look.canvas(8.6, 4.5)
    for group, part in parts.items():
        style = dict(markevery=max(1, len(part) // 10), markersize=5)
        style |= look.GROUPS.get(group, look.SPARE)
        forms.line_with_band(ax, part["lam"], part, **style)
    ax.set(xlim=(float(sweep["lam"].min()), float(sweep["lam"].max())), ylim=(-3, 104))
    ax.set(xlabel="step size λ (unitless)", ylabel="top-1 accuracy (%)")
    if lam is not None:
        ax.axvline(lam, color=INK, linewidth=1.3, linestyle=(0, (6, 2)), zorder=2)
        beside = dict(xycoords=("data", "axes fraction"), textcoords="offset points", rotation=90)
        name = f"chosen λ = {lam:.3g}"
        ax.annotate(name, (lam, 0.5), (4, 0), va="center", fontsize=8.5, **beside)
    title, says = _sweep_words(parts, lam, ratio)
    if "layer" in sweep.columns:
        says += f" Layer {short(str(sweep['layer'].iloc[0]))}."
    if probes is not None and len(probes):
        look.need_columns(probes, ["lam", "fa1", "forgotten"], "probes")
        inside = probes[probes["lam"] <= ax.get_xlim()[1]]
        forgotten = inside["forgotten"].astype(bool)
        _probes(ax, inside["lam"], 100 * inside["fa1"], forgotten)
        look.legend_below(fig, 2)
        if len(inside) < len(probes):
            says += f" {len(probes) - len(inside)} probes lie beyond the right edge."
    if ratio:
        ways = (lambda lam: 100 * ratio * lam, lambda rho: rho / (100 * ratio))
        top = ax.secondary_xaxis("top", functions=ways)
        top.set_xlabel("relative step ρ = ‖change‖ / ‖θ‖ (%)")
    _end_labels(ax, parts)
    return look.headline(fig, title), says


def bracket(probes: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """The search's bracket after each probe: largest step not yet enough (0 at first), smallest one
    that is (inf at first).

    probes: rows of one layer in order, columns rho and forgotten. Returns two arrays as long as the
    table, unit of rho.
    """
    forgotten = probes["forgotten"].astype(bool)
    low = probes["rho"].where(~forgotten, 0.0).cummax()
    return low.to_numpy(), probes["rho"].where(forgotten, np.inf).cummin().to_numpy()


@look.dressed
def search_trail(search: pd.DataFrame, layer: str | None = None):
    """The step-size search of one layer, probe by probe: the relative step, forgotten or not, and
    the bracket left, from right of each probe to the next.

    search: search.parquet (columns layer, probe, lam, rho, forget, forgotten, chosen); layer: its
    canonical name, default the first of the table. Raises EmptySetError for a layer without probes.
    """
    columns = ["layer", "probe", "lam", "rho", "forget", "forgotten", "chosen"]
    look.need_columns(search, columns, "search")
    layer = layer or search["layer"].iloc[0]
    part = search[search["layer"] == layer].sort_values("probe").reset_index(drop=True)
    if part.empty:
        known = listing(search["layer"].unique(), 8)
        raise EmptySetError(f"No probe of the layer {layer}; the table holds {known}.")
    turn, rho = np.arange(1, len(part) + 1), 100 * part["rho"].to_numpy()
    forgotten, chosen = (part[name].to_numpy(dtype=bool) for name in ("forgotten", "chosen"))
    bottom, top = rho.min() / 1.6, rho.max() * 1.6
    fig, ax = look.canvas(7.6, 4.2)
    low, high = np.clip(100 * np.array(bracket(part)), bottom, top)
    band = dict(step="post", facecolor=(SKY, 0.25), edgecolor="#2F6F94", linewidth=0.9, zorder=1)
    until, label = [*turn, len(part) + 1], "bracket left after the probe"
    ax.fill_between(until, [*low, low[-1]], [*high, high[-1]], label=label, **band)
    ax.plot(turn, rho, color=GREY, linewidth=1, zorder=2)
    _probes(ax, turn, rho, forgotten)
    words = dict(textcoords="offset points", ha="center", fontsize=8, zorder=7)
    for x, y, fa, ringed in zip(turn, rho, part["forget"], chosen):
        text = ax.annotate(percent(fa), (x, y), xytext=(0, 12 if ringed else 8), **words)
        text.set_path_effects([withStroke(linewidth=2.5, foreground="white")])
    forms.points(ax, turn, rho, {"chosen": (chosen, forms.ring())})
    ax.set(yscale="log", ylim=(bottom, top), xlim=(0.5, len(part) + 1.1), xticks=turn)
    ax.set_xlabel("probe (the number is what the criterion asks to be 0, on the search pictures)")
    ax.set_ylabel("relative step ρ (%, log scale)")
    forms.log_axis(ax.yaxis)
    ax.grid(axis="x", visible=False)
    look.legend_below(fig, 4)
    title, says = _trail_words(part, short(layer), chosen)
    return look.headline(fig, title), says


def _trail_words(part, name, chosen) -> tuple[str, str]:
    """Finding and description of one search."""
    count = f"{len(part)} probe{'s' if len(part) != 1 else ''}"
    lowest = percent(part["forget"].min())
    title = f"{name}: none of {count} was chosen; the lowest forget accuracy was {lowest}"
    if chosen.any():
        row = part[chosen].iloc[0]
        step = f"ρ = {percent(row['rho'], 2)} (λ = {row['lam']:.3g})"
        title = f"{name}: {count} close in on {step}, forget accuracy {percent(row['forget'])}"
    forgot = int(part["forgotten"].astype(bool).sum())
    each = f"The relative step of each probe of {name} on a log scale"
    return title, f"{each}; {forgot} of {count} forgot the target. {title}."
