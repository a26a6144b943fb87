"""Figures about the layers: their two scores, the Pareto front, and how steady both are."""

from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from slugkit.base import EmptySetError
from slugkit.method.layers import short
from slugkit.workbook.plots.look import (
    GREY,
    INK,
    OKABE_ITO,
    PALE,
    canvas,
    dressed,
    headline,
    listing,
    log_axis,
    need_columns,
    number,
    percent,
    place_labels,
)

KINDS = ["conv1", "attn.in_proj", "attn.out_proj", "mlp.c_fc", "mlp.c_proj", "proj"]
FRONT, REST = OKABE_ITO["vermilion"], "#6E6E6E"


def candidates(layers: pd.DataFrame, tower: str | None = None) -> pd.DataFrame:
    """The rows of layers.parquet that have scores, in network order, with a column `name` for the
    eye.

    layers: columns layer, tower, importance, alignment, front; block, kind and candidate are used
    where present.
    Raises SettingError for a missing column, EmptySetError where nothing is left.
    """
    need_columns(layers, ["layer", "tower", "importance", "alignment", "front"], "layers")
    kept = layers if tower is None else layers[layers["tower"] == tower]
    if "candidate" in kept.columns:
        kept = kept[kept["candidate"].astype(bool)]
    kept = kept.dropna(subset=["importance", "alignment"]).copy()
    if kept.empty:
        known = ", ".join(sorted(set(layers["tower"])))
        raise EmptySetError(
            f"No ranked layer of the tower {tower or '(any)'}; the table holds the towers {known}."
            " Run 03_rank_layers."
        )
    kept["name"] = [short(layer) for layer in kept["layer"]]
    kept["front"] = kept["front"].astype(bool)
    if {"block", "kind"} <= set(kept.columns):
        outside = np.where(kept["kind"] == "conv1", -1, 10**6)
        depth = kept["block"].where(kept["block"] >= 0, outside)
        place = kept["kind"].map({kind: i for i, kind in enumerate(KINDS)}).fillna(len(KINDS))
        kept = kept.iloc[np.lexsort((place, depth))]
    return kept.reset_index(drop=True)


def _noise(table: pd.DataFrame) -> np.ndarray | None:
    """Two standard errors of each layer's cosine, as the parts of the retain set show them; None
    where they are not known.
    """
    if "noise" not in table.columns or table["noise"].isna().all():
        return None
    return 2 * table["noise"].fillna(0).to_numpy()


def _positive(values) -> np.ndarray:
    """Values for a log axis: zeros are drawn at a third of the smallest positive one."""
    values = np.asarray(values, dtype=float)
    above = values[values > 0]
    return np.maximum(values, above.min() / 3 if len(above) else 1e-9)


def _dots(ax, values, front, floor=np.inf) -> float:
    """One panel of scores, a dot a layer from top to bottom, front layers ringed.

    The axis starts at `floor` at most; returns its start.
    """
    rows, values = np.arange(len(values)), _positive(values)
    low = min(values.min() / 2, floor)
    colours, widths = np.where(front, FRONT, "#C9C9C9"), np.where(front, 2.0, 1.3)
    ax.hlines(rows, low, values, color=colours, linewidth=widths, zorder=2)
    ax.scatter(values[~front], rows[~front], s=20, color=REST, zorder=3)
    ax.scatter(values[front], rows[front], s=24, color=FRONT, zorder=4)
    ring = dict(s=92, facecolor="none", edgecolor=FRONT, linewidth=1.4, zorder=4)
    ax.scatter(values[front], rows[front], **ring)
    ax.set_xscale("log")
    ax.set_xlim(low, values.max() * 2)
    log_axis(ax.xaxis)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.grid(axis="y", visible=False)
    return low


def _tower_pair(left, right, table: pd.DataFrame, tower: str) -> None:
    """The two panels of one tower, with the blocks shaded in turn."""
    front, rows = table["front"].to_numpy(), np.arange(len(table))
    noise = _noise(table)
    _dots(left, table["importance"], front)
    low = _dots(right, table["alignment"], front, np.inf if noise is None else noise.min() / 1.5)
    if noise is not None:
        foot = dict(height=1.0, color=OKABE_ITO["sky"], alpha=0.28, linewidth=0, zorder=1)
        right.barh(rows, noise - low, left=low, **foot)
    left.set_yticks(rows, table["name"], fontsize=8)
    for label, on_front in zip(left.get_yticklabels(), front, strict=True):
        label.set(color=FRONT if on_front else INK, fontweight="bold" if on_front else "normal")
    right.set_yticks(rows, [])
    for ax in (left, right):
        ax.tick_params(axis="y", length=0)
        blocks = table["block"].unique() if "block" in table.columns else ()
        for block in (block for block in blocks if block >= 0 and block % 2 == 0):
            where = rows[table["block"] == block]
            band = where.min() - 0.5, where.max() + 0.5
            ax.axhspan(*band, color="#F5F5F5", linewidth=0, zorder=0)
    left.set_title(f"{tower} tower")
    left.set_xlabel("importance (unitless)")
    right.set_xlabel("alignment (unitless)")


@dressed
def layer_scores(layers: pd.DataFrame, tower: str | None = None):
    """Importance and alignment of every ranked layer in network order, two panels a tower, front
    layers ringed and named.

    layers: layers.parquet; tower: "text", "vision" or None for all. The shaded foot of the
    alignment panels is two standard errors of the cosine (column noise). Returns (figure,
    description).
    """
    table = candidates(layers, tower)
    towers = list(dict.fromkeys(table["tower"]))
    parts = [table[table["tower"] == name].reset_index(drop=True) for name in towers]
    fig = canvas(9.8 if len(parts) > 1 else 7.6, 1.5 + 0.185 * max(len(part) for part in parts))
    grid = fig.subplots(1, 2 * len(parts))
    for i, (name, part) in enumerate(zip(towers, parts, strict=True)):
        _tower_pair(grid[2 * i], grid[2 * i + 1], part, name)
    span = table["importance"].max() / max(table["importance"].min(), 1e-30)
    named = zip(towers, parts, strict=True)
    counts = [f"{int(p['front'].sum())} of {len(p)} {name} layers" for name, p in named]
    ringed = f"{listing(counts)} are on the Pareto front (ringed)"
    headline(fig, f"Importance differs {number(span)}-fold between layers; {ringed}")
    tops = [part.loc[part["importance"].idxmax()] for part in parts]
    best = listing([f"{row['name']} ({row['tower']}, {number(row['importance'])})" for row in tops])
    known = _noise(table) is not None
    shade = " The pale blue foot is two standard errors of the cosine." if known else ""
    says = (
        f"Dot plots of importance and alignment on log scales for {len(table)} layers; the most "
        f"important are {best}.{shade}"
    )
    return fig, says


def _staircase(ax, x, y) -> np.ndarray:
    """The edge of the region that front points (x, y) beat, shaded: to their right and below.

    Returns points along it.
    """
    order = np.argsort(x)
    x, y = np.asarray(x)[order], np.asarray(y)[order]
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    steps_x = np.concatenate([[x[0]], np.repeat(x[1:], 2), [right]])
    steps_y = np.concatenate([[y[0]], np.stack([y[:-1], y[1:]], axis=1).ravel(), [y[-1]]])
    corners_x, corners_y = np.r_[x[0], steps_x], np.r_[bottom, steps_y]
    ax.plot(corners_x, corners_y, color=FRONT, linewidth=1.2, alpha=0.8, zorder=2)
    ax.fill_between(steps_x, steps_y, bottom, color=FRONT, alpha=0.05, linewidth=0, zorder=0)
    ax.set(xlim=(left, right), ylim=(bottom, top))
    share = np.linspace(0, 1, 12)
    corners = pairwise(np.column_stack([corners_x, corners_y]))
    return np.vstack([a * (b / a) ** share[:, None] for a, b in corners])


def _noise_bars(ax, x, y, noise, front) -> None:
    """How far two standard errors reach on either side of each layer's alignment, stronger for the
    front.
    """
    low, high = np.maximum(x - noise, ax.get_xlim()[0]), x + noise
    look = dict(color=OKABE_ITO["sky"], linewidth=2, zorder=1)
    for mask, alpha in ((~front, 0.25), (front, 0.8)):
        ax.hlines(y[mask], low[mask], high[mask], alpha=alpha, **look)


def _front_marks(ax, table, x, y, lost, ring) -> None:
    """Crosses for beaten layers, diamonds for the front (hollow within the noise), a ring round the
    chosen one.
    """
    front = table["front"].to_numpy()
    solid, diamond = front & ~lost, dict(marker="D", s=48, edgecolor=FRONT, linewidth=1.6, zorder=4)
    beaten = dict(marker="x", s=30, color=REST, linewidth=1.2, zorder=3)
    ax.scatter(x[~front], y[~front], label="beaten by another layer", **beaten)
    ax.scatter(x[solid], y[solid], facecolor=FRONT, label="Pareto front", **diamond)
    if lost.any():
        ax.scatter(x[lost], y[lost], facecolor="white", label="front, within noise", **diamond)
    if ring.any():
        halo = dict(s=230, facecolor="none", edgecolor=INK, linewidth=1.6, zorder=5)
        ax.scatter(x[ring], y[ring], label="chosen", **halo)


@dressed
def pareto(layers: pd.DataFrame, tower: str, noise: bool = True, chosen: str | None = None):
    """Alignment against importance on log scales, the Pareto front joined by its staircase and
    named.

    layers: layers.parquet; tower: "text" or "vision"; noise: also draw two standard errors of each
    cosine, where they are known, and front layers that they do not tell from 0 hollow; chosen:
    canonical name of a layer to ring. As panels (a) and (d) of the project page's figure 2. Returns
    (figure, description).
    """
    table = candidates(layers, tower)
    x, y = _positive(table["alignment"]), _positive(table["importance"])
    front, ring = table["front"].to_numpy(), (table["layer"] == chosen).to_numpy()
    band = _noise(table) if noise else None
    lost = front & (table["alignment"].to_numpy() < (-1 if band is None else band))
    fig = canvas(7.6, 5.0)
    ax = fig.subplots()
    ax.set(xscale="log", yscale="log")
    ax.set(xlim=(x.min() / 2.2, x.max() * 1.8), ylim=(y.min() / 1.8, y.max() * 2.2))
    ax.set_xlabel("gradient alignment  |cos(g forget, g retain)| (unitless)")
    ax.set_ylabel("importance of the layer  ‖g forget‖ / ‖θ‖ (unitless)")
    log_axis(ax.xaxis)
    log_axis(ax.yaxis)
    edge = _staircase(ax, x[front], y[front]) if front.any() else np.empty((0, 2))
    if band is not None:
        _noise_bars(ax, x, y, band, front)
    _front_marks(ax, table, x, y, lost, ring)
    fig.legend(loc="outside lower center", ncols=4)
    headline(fig, _pareto_title(table, tower, front, lost))
    named = front | ring
    crowd = np.vstack([np.column_stack([x[~named], y[~named]]), edge])
    place_labels(ax, x[named], y[named], table["name"][named].tolist(), crowd)
    return fig, _pareto_says(table, tower, front, lost, band is not None)


def _pareto_title(table, tower, front, lost) -> str:
    """The finding of a Pareto plot."""
    top, few = table.loc[table["importance"].idxmax()], int(lost.sum())
    within = f"; {few} of the front {'lies' if few == 1 else 'lie'} within the noise" if few else ""
    return (
        f"{int(front.sum())} of {len(table)} {tower} layers are on the Pareto front; "
        f"{top['name']} has the largest importance{within}"
    )


def _pareto_says(table, tower, front, lost, with_noise) -> str:
    """Plain description of a Pareto plot."""
    on_front = table[front].sort_values("importance", ascending=False)
    names = [
        f"{r.name} (importance {number(r.importance)}, alignment {number(r.alignment)})"
        for r in on_front.itertuples(index=False)
    ]
    text = (
        f"Scatter on log scales of {len(table)} {tower} layers; on the front, from most to least "
        f"important: {listing(names, 6)}."
    )
    if with_noise:
        few = int(lost.sum())
        text += (
            f" {few or 'None'} of them {'are' if few > 1 else 'is'} within two standard errors "
            "of 0; bars show how far these reach."
        )
    return text


LEAST = 0.05
"""Share of redraws in which a layer off the front must reach it to be drawn."""
OWN = dict(facecolor=FRONT, edgecolor=FRONT, linewidth=0.6)
OTHER = dict(facecolor=PALE, edgecolor="#7A7A7A", hatch="///", linewidth=0.6)


def _share_bars(ax, part: pd.DataFrame, tower: str) -> None:
    """The bars of one tower, the steadiest layer on top."""
    part = part.sort_values(["front_share", "importance"], ascending=False)
    rows, on = np.arange(len(part)), part["front"].to_numpy()
    share = part["front_share"].fillna(0).to_numpy()
    for mask, look in ((on, OWN), (~on, OTHER)):
        ax.barh(rows[mask], share[mask], height=0.66, **look)
    for row, value in zip(rows, share, strict=True):
        ax.text(value + 0.015, row, percent(value, 0), va="center", fontsize=8)
    ax.set_yticks(rows, part["name"], fontsize=8.5)
    ax.set(xlim=(0, 1.14), ylim=(max(len(rows), 1) - 0.4, -0.6), title=f"{tower} tower")
    ax.set_xlabel("share of redraws within the noise in which\nthe layer is on the front")
    ax.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    ax.grid(axis="y", visible=False)
    ax.tick_params(axis="y", length=0)


@dressed
def front_membership(layers: pd.DataFrame):
    """How often each layer is on the front when the cosines are redrawn within the noise of the
    retain set.

    layers: layers.parquet with front_share in 0..1. Layers that are on the front in less than
    `LEAST` of the redraws, and not on the measured one, are left out. Returns (figure,
    description).
    """
    need_columns(layers, ["front_share"], "layers")
    table = candidates(layers)
    table = table[(table["front_share"] >= LEAST) | table["front"]]
    towers = list(dict.fromkeys(table["tower"]))
    parts = [table[table["tower"] == name] for name in towers]
    fig = canvas(9.4 if len(parts) > 1 else 5.6, 1.7 + 0.27 * max(len(part) for part in parts))
    axes = np.atleast_1d(fig.subplots(1, len(parts)))
    for ax, name, part in zip(axes, towers, parts, strict=True):
        _share_bars(ax, part, name)
    handles = [plt.Rectangle((0, 0), 1, 1, **look) for look in (OWN, OTHER)]
    names = ["on the measured front", f"not on it, but in {percent(LEAST, 0)} of redraws or more"]
    fig.legend(handles, names, loc="outside lower center", ncols=2)
    front = table[table["front"]]
    steady = front[front["front_share"] >= 0.95]
    stay = f"{len(steady)} of {len(front)} front layers stay there"
    headline(fig, f"{stay} in at least 95 % of redraws within the noise")
    listed = listing([f"{row['name']} ({row['tower']})" for _, row in steady.iterrows()], 6)
    return (
        fig,
        (
            f"Bars of the share of redraws in which a layer is on the front; steady: {listed}. "
            f"{len(table) - len(front)} layers that are not on the measured front reach it in "
            f"{percent(LEAST, 0)} of redraws or more."
        ),
    )


@dressed
def gradient_agreement(agreement: pd.DataFrame):
    """Cosine of the running mean gradient with the final one against the number of pairs seen, and
    from where on it stays above 0.95.

    agreement: columns samples (pairs), cosine (-1..1), set ("forget" or "retain"). Returns (figure,
    description).
    """
    level = 0.95
    need_columns(agreement, ["samples", "cosine", "set"], "agreement")
    fig = canvas(7.2, 3.6)
    ax = fig.subplots()
    looks = {"forget": (OKABE_ITO["vermilion"], "^", "-"), "retain": (OKABE_ITO["blue"], "o", "--")}
    reached = []
    for name, part in agreement.sort_values("samples").groupby("set", sort=False):
        colour, marker, line = looks.get(name, (GREY, "s", ":"))
        look = dict(color=colour, marker=marker, linestyle=line)
        ax.plot(part["samples"], part["cosine"], label=f"{name} gradient", **look)
        below = part[part["cosine"] < level]
        later = part[part["samples"] > (below["samples"].max() if len(below) else -1)]
        since = f"from {int(later['samples'].min())} pairs" if len(later) else "never"
        reached.append(f"the {name} gradient {since}")
    ax.axhline(level, color=GREY, linewidth=1, linestyle=(0, (4, 3)))
    side = dict(xytext=(3, 0), textcoords="offset points", va="center", fontsize=8)
    ax.annotate(f"{level:g}", (1, level), xycoords=("axes fraction", "data"), **side)
    ax.set(xlabel="pairs seen", ylabel="cosine with the final\ngradient (unitless)")
    ax.legend(loc="lower right")
    stays = f"stays above {level:g}: {listing(reached)}"
    headline(fig, f"Cosine with the final gradient {stays}")
    says = f"Lines of the cosine between the running mean gradient and the final one. It {stays}."
    return fig, says
