"""Figures about the layers: their two scores, the Pareto front, and how steady both are."""

from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from slugkit.base import EmptySetError
from slugkit.method.layers import short
from slugkit.workbook.plots import look
from slugkit.workbook.plots.look import OKABE_ITO, listing, percent

KINDS = ["conv1", "attn.in_proj", "attn.out_proj", "mlp.c_fc", "mlp.c_proj", "proj"]
FRONT, REST = OKABE_ITO["vermilion"], "#6E6E6E"
COLUMNS = ["layer", "tower", "importance", "alignment", "front", "block", "kind", "candidate"]


def candidates(layers: pd.DataFrame, tower: str | None = None) -> pd.DataFrame:
    """The rows of layers.parquet that have scores, in network order, with a short `name`.

    Raises SettingError for a missing column, EmptySetError where nothing is left.
    """
    look.need_columns(layers, COLUMNS, "layers")
    kept = layers[layers["candidate"].astype(bool)]
    kept = kept if tower is None else kept[kept["tower"] == tower]
    kept = kept.dropna(subset=["importance", "alignment"])
    if kept.empty:
        known = ", ".join(sorted(set(layers["tower"])))
        raise EmptySetError(
            f"No ranked layer of the tower {tower or '(any)'}; the table holds the towers {known}."
            " Run 03_rank_layers."
        )
    kept = kept.assign(name=kept["layer"].map(short), front=kept["front"].astype(bool))
    outside = np.where(kept["kind"] == "conv1", -1, 10**6)
    depth = kept["block"].where(kept["block"] >= 0, outside)
    place = kept["kind"].map({kind: i for i, kind in enumerate(KINDS)}).fillna(len(KINDS))
    return kept.iloc[np.lexsort((place, depth))].reset_index(drop=True)


def _by_tower(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The rows of each tower."""
    groups = table.groupby("tower", sort=False)
    return {name: part.reset_index(drop=True) for name, part in groups}


def _noise(table: pd.DataFrame) -> np.ndarray | None:
    """Two standard errors of each layer's cosine; None where they are not known."""
    if "noise" not in table.columns or table["noise"].isna().all():
        return None
    return 2 * table["noise"].fillna(0).to_numpy()


def _positive(values) -> np.ndarray:
    """Values for a log axis: zeros are drawn at a third of the smallest positive one."""
    values = np.asarray(values, dtype=float)
    above = values[values > 0]
    return np.maximum(values, above.min() / 3 if len(above) else 1e-9)


def _dots(ax, values, table: pd.DataFrame, floor=np.inf) -> float:
    """One panel of scores, a dot a layer from top to bottom, front layers ringed, blocks shaded.

    The axis starts at `floor` at most; returns its start.
    """
    front, rows, values = table["front"].to_numpy(), np.arange(len(values)), _positive(values)
    low = min(values.min() / 2, floor)
    colours, widths = np.where(front, FRONT, "#C9C9C9"), np.where(front, 2.0, 1.3)
    ax.hlines(rows, low, values, color=colours, linewidth=widths, zorder=2)
    ax.scatter(values[~front], rows[~front], s=20, color=REST, zorder=3)
    ax.scatter(values[front], rows[front], s=24, color=FRONT, zorder=4)
    ring = dict(s=92, facecolor="none", edgecolor=FRONT, linewidth=1.4, zorder=4)
    ax.scatter(values[front], rows[front], **ring)
    ax.set(xscale="log", xlim=(low, values.max() * 2), ylim=(len(rows) - 0.4, -0.6))
    look.log_axis(ax.xaxis)
    for block in table["block"].unique():
        if block >= 0 and block % 2 == 0:
            where = rows[table["block"] == block]
            ax.axhspan(where.min() - 0.5, where.max() + 0.5, color="#F5F5F5", linewidth=0, zorder=0)
    return low


def _tower_pair(left, right, table: pd.DataFrame, tower: str) -> None:
    """The two panels of one tower."""
    front, rows, noise = table["front"], np.arange(len(table)), _noise(table)
    _dots(left, table["importance"], table)
    low = _dots(right, table["alignment"], table, np.inf if noise is None else noise.min() / 1.5)
    if noise is not None:
        foot = dict(height=1.0, color=OKABE_ITO["sky"], alpha=0.28, linewidth=0, zorder=1)
        right.barh(rows, noise - low, left=low, **foot)
    look.bars_across(left, rows, table["name"], fontsize=8)
    look.bars_across(right, rows, [])
    for label, on_front in zip(left.get_yticklabels(), front):
        label.set(color=FRONT if on_front else look.INK, fontweight="bold" if on_front else 400)
    left.set(title=f"{tower} tower", xlabel="importance (unitless)")
    right.set_xlabel("alignment (unitless)")


@look.dressed
def layer_scores(layers: pd.DataFrame, tower: str | None = None):
    """Importance and alignment of every ranked layer in network order, front layers ringed.

    layers: layers.parquet; tower: "text", "vision" or None for all. The shaded foot of the
    alignment panels is two standard errors of the cosine (column noise). Returns (figure,
    description).
    """
    table = candidates(layers, tower)
    parts = _by_tower(table)
    fig = look.canvas(9.8 if len(parts) > 1 else 7.6, 1.5 + 0.185 * max(map(len, parts.values())))
    grid = fig.subplots(1, 2 * len(parts)).reshape(-1, 2)
    counts, best = [], []
    for pair, (name, part) in zip(grid, parts.items()):
        _tower_pair(*pair, part, name)
        counts.append(f"{int(part['front'].sum())} of {len(part)} {name} layers")
        top = part.loc[part["importance"].idxmax()]
        best.append(f"{top['name']} ({name}, {top['importance']:.3g})")
    span = table["importance"].max() / max(table["importance"].min(), 1e-30)
    ringed = f"{listing(counts)} are on the Pareto front (ringed)"
    look.headline(fig, f"Importance differs {span:.3g}-fold between layers; {ringed}")
    says = f"Dot plots of importance and alignment on log scales for {len(table)} layers; the most"
    says += f" important are {listing(best)}."
    if _noise(table) is not None:
        says += " The pale blue foot is two standard errors of the cosine."
    return fig, says


def _staircase(ax, x, y) -> np.ndarray:
    """Shades the region that front points (x, y) beat, to their right and below.

    Returns points along its edge.
    """
    order = np.argsort(x)
    x, y = x[order], y[order]
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    steps_x = np.concatenate([[x[0]], np.repeat(x[1:], 2), [right]])
    steps_y = np.concatenate([[y[0]], np.stack([y[:-1], y[1:]], axis=1).ravel(), [y[-1]]])
    corners_x, corners_y = np.r_[x[0], steps_x], np.r_[bottom, steps_y]
    ax.plot(corners_x, corners_y, color=FRONT, linewidth=1.2, alpha=0.8, zorder=2)
    ax.fill_between(steps_x, steps_y, bottom, color=FRONT, alpha=0.05, linewidth=0, zorder=0)
    ax.set(xlim=(left, right), ylim=(bottom, top))
    share = np.linspace(0, 1, 12)[:, None]
    corners = pairwise(np.column_stack([corners_x, corners_y]))
    return np.vstack([a * (b / a) ** share for a, b in corners])


def _marks(ax, x, y, front, lost, ring, band) -> None:
    """Crosses for beaten layers, diamonds for the front (hollow within the noise), a ring round the
    chosen one, bars of two standard errors.
    """
    if band is not None:
        low = np.maximum(x - band, ax.get_xlim()[0])
        for mask, alpha in ((~front, 0.25), (front, 0.8)):
            bar = dict(color=OKABE_ITO["sky"], linewidth=2, zorder=1, alpha=alpha)
            ax.hlines(y[mask], low[mask], (x + band)[mask], **bar)
    beaten = dict(marker="x", s=30, color=REST, linewidth=1.2, zorder=3)
    diamond = dict(marker="D", s=48, edgecolor=FRONT, linewidth=1.6, zorder=4)
    halo = dict(s=230, facecolor="none", edgecolor=look.INK, linewidth=1.6, zorder=5)
    for mask, label, style in (
        (~front, "beaten by another layer", beaten),
        (front & ~lost, "Pareto front", dict(diamond, facecolor=FRONT)),
        (lost, "front, within noise", dict(diamond, facecolor="white")),
        (ring, "chosen", halo),
    ):
        if mask.any() or style is beaten or label == "Pareto front":
            ax.scatter(x[mask], y[mask], label=label, **style)


@look.dressed
def pareto(layers: pd.DataFrame, tower: str, chosen: str | None = None):
    """Alignment against importance on log scales, the Pareto front joined by its staircase and
    named, as panels (a) and (d) of the project page's figure 2.

    layers: layers.parquet; tower: "text" or "vision"; chosen: canonical name of a layer to ring.
    Where the noise is known, bars show two standard errors of each cosine, and front layers that
    these do not tell from 0 are hollow. Returns (figure, description).
    """
    table = candidates(layers, tower)
    x, y = _positive(table["alignment"]), _positive(table["importance"])
    front, ring = table["front"].to_numpy(), (table["layer"] == chosen).to_numpy()
    band = _noise(table)
    lost = front & (table["alignment"].to_numpy() < (-1 if band is None else band))
    fig = look.canvas(7.6, 5.0)
    ax = fig.subplots()
    ax.set(xscale="log", yscale="log")
    ax.set(xlim=(x.min() / 2.2, x.max() * 1.8), ylim=(y.min() / 1.8, y.max() * 2.2))
    ax.set_xlabel("gradient alignment  |cos(g forget, g retain)| (unitless)")
    ax.set_ylabel("importance of the layer  ‖g forget‖ / ‖θ‖ (unitless)")
    look.log_axis(ax.xaxis)
    look.log_axis(ax.yaxis)
    edge = _staircase(ax, x[front], y[front]) if front.any() else np.empty((0, 2))
    _marks(ax, x, y, front, lost, ring, band)
    look.legend_below(fig, 4)
    title, says = _pareto_words(table, tower, int(lost.sum()), band is not None)
    look.headline(fig, title)
    named = front | ring
    crowd = np.vstack([np.column_stack([x[~named], y[~named]]), edge])
    look.place_labels(ax, x[named], y[named], table["name"][named].tolist(), crowd)
    return fig, says


def _pareto_words(table: pd.DataFrame, tower: str, lost: int, noise: bool) -> tuple[str, str]:
    """Finding and description of a Pareto plot; lost: front layers within the noise."""
    on_front = table[table["front"]].sort_values("importance", ascending=False)
    top = table.loc[table["importance"].idxmax(), "name"]
    title = f"{len(on_front)} of {len(table)} {tower} layers are on the Pareto front; "
    title += f"{top} has the largest importance"
    if lost:
        title += f"; {lost} of the front {'lies' if lost == 1 else 'lie'} within the noise"
    names = [
        f"{r.name} (importance {r.importance:.3g}, alignment {r.alignment:.3g})"
        for r in on_front.itertuples(index=False)
    ]
    says = f"Scatter on log scales of {len(table)} {tower} layers; on the front, from most to least"
    says += f" important: {listing(names, 6)}."
    if noise:
        says += f" {lost or 'None'} of them {'are' if lost > 1 else 'is'} within two standard"
        says += " errors of 0; bars show how far these reach."
    return title, says


LEAST = 0.05
"""Share of redraws in which a layer off the front must reach it to be drawn."""
OWN = dict(facecolor=FRONT, edgecolor=FRONT, linewidth=0.6)
OTHER = dict(facecolor=look.PALE, edgecolor="#7A7A7A", hatch="///", linewidth=0.6)


def _share_bars(ax, part: pd.DataFrame, tower: str) -> None:
    """The bars of one tower, the steadiest layer on top."""
    part = part.sort_values(["front_share", "importance"], ascending=False)
    rows, on = np.arange(len(part)), part["front"].to_numpy()
    share = part["front_share"].fillna(0).to_numpy()
    for mask, style in ((on, OWN), (~on, OTHER)):
        ax.barh(rows[mask], share[mask], height=0.66, **style)
    for row, value in zip(rows, share):
        ax.text(value + 0.015, row, percent(value, 0), va="center", fontsize=8)
    ax.set(xlim=(0, 1.14), ylim=(max(len(rows), 1) - 0.4, -0.6), title=f"{tower} tower")
    ax.set_xlabel("share of redraws within the noise in which\nthe layer is on the front")
    ax.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    look.bars_across(ax, rows, part["name"], fontsize=8.5)


@look.dressed
def front_membership(layers: pd.DataFrame):
    """How often each layer is on the front when the cosines are redrawn within their noise.

    layers: layers.parquet with front_share in 0..1. Layers that are on the front in less than
    `LEAST` of the redraws, and not on the measured one, are left out. Returns (figure,
    description).
    """
    look.need_columns(layers, ["front_share"], "layers")
    table = candidates(layers)
    if table["front_share"].isna().all():
        fig = look.canvas(6.0, 1.2)
        look.headline(fig, "The noise is not known: the retain set has one part only")
        return fig, "No bars: one part of a retain set does not say how noisy its gradient is."
    table = table[(table["front_share"] >= LEAST) | table["front"]]
    parts = _by_tower(table)
    fig = look.canvas(9.4 if len(parts) > 1 else 5.6, 1.7 + 0.27 * max(map(len, parts.values())))
    for ax, (name, part) in zip(np.atleast_1d(fig.subplots(1, len(parts))), parts.items()):
        _share_bars(ax, part, name)
    handles = [plt.Rectangle((0, 0), 1, 1, **style) for style in (OWN, OTHER)]
    least = f"{percent(LEAST, 0)} of redraws or more"
    names = ["on the measured front", f"not on it, but in {least}"]
    fig.legend(handles, names, loc="outside lower center", ncols=2)
    front = table[table["front"]]
    steady = front[front["front_share"] >= 0.95]
    stay = f"{len(steady)} of {len(front)} front layers stay there"
    look.headline(fig, f"{stay} in at least 95 % of redraws within the noise")
    listed = listing(steady["name"] + " (" + steady["tower"] + ")", 6)
    says = f"Bars of the share of redraws in which a layer is on the front; steady: {listed}."
    others = f"{len(table) - len(front)} layers that are not on the measured front"
    return fig, f"{says} {others} reach it in {least}."


@look.dressed
def gradient_agreement(agreement: pd.DataFrame, what: str = ""):
    """Cosine of the mean gradients of two sets of n pairs each that share no pair, and the cosine
    that noise alone predicts, against n.

    agreement: columns samples (pairs), cosine and predicted (-1..1), set ("forget" or "retain").
    what: the layer, for the title. Returns (figure, description).
    """
    look.need_columns(agreement, ["samples", "cosine", "predicted", "set"], "agreement")
    fig = look.canvas(7.2, 3.8)
    ax = fig.subplots()
    colours = {"forget": (OKABE_ITO["vermilion"], "^"), "retain": (OKABE_ITO["blue"], "o")}
    ends = []
    for name, part in agreement.sort_values("samples").groupby("set", sort=False):
        colour, marker = colours.get(name, (look.GREY, "s"))
        style = dict(color=colour, marker=marker, linestyle="none")
        ax.plot(part["samples"], part["cosine"], label=f"{name}, measured", **style)
        ax.plot(part["samples"], part["predicted"], "--", color=colour, label=f"{name}, predicted")
        last = part.iloc[-1]
        ends.append(f"{last['cosine']:.2f} ({name}, {int(last['samples'])} pairs)")
    ax.axhline(0, color=look.GREY, linewidth=1)
    ax.set(xscale="log", xlabel="pairs n in each of the two draws")
    ax.xaxis.set_major_formatter("{x:g}")
    ax.set(ylabel="cosine of the two\nmean gradients (unitless)")
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    found = f"Two independent draws agree to a cosine of {listing(ends)}"
    found = found if ends else "Too few pairs for two independent draws"
    look.headline(fig, f"{what}: {found[0].lower()}{found[1:]}" if what else found)
    return (
        fig,
        f"{found}. Markers: measured; broken lines: what the noise of single batches predicts.",
    )


@look.dressed
def layer_arrows(example: dict):
    """The weight, the forget and the retain gradient of small layers as arrows, a panel a layer.

    example: name -> (theta, g_f, g_r), each of two numbers. The panel's title holds importance and
    alignment. Returns (figure, description).
    """
    fig, told = look.canvas(3.1 * len(example), 3.6), []
    kinds = {
        "weight θ": dict(color=look.GREY, linestyle="-"),
        "forget gradient g_f": dict(color=OKABE_ITO["vermilion"], linestyle="-"),
        "retain gradient g_r": dict(color=OKABE_ITO["blue"], linestyle="--"),
    }
    reach = 1.15 * max(np.abs(vector).max() for layer in example.values() for vector in layer)
    for ax, (name, layer) in zip(np.atleast_1d(fig.subplots(1, len(example))), example.items()):
        theta, g_f, g_r = (np.asarray(vector, dtype=float) for vector in layer)
        for vector, (label, style) in zip((theta, g_f, g_r), kinds.items()):
            arrow = dict(arrowstyle="-|>", linewidth=2, shrinkA=0, shrinkB=0, **style)
            ax.annotate("", vector, (0, 0), arrowprops=arrow, zorder=3)
            ax.plot([], [], linewidth=2, label=label, **style)
        ratio = np.linalg.norm(g_f) / np.linalg.norm(theta)
        cosine = g_f @ g_r / (np.linalg.norm(g_f) * np.linalg.norm(g_r))
        told.append(f"{name}: importance {ratio:.2g}, alignment {abs(cosine):.2f}")
        ax.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
        ax.set_title(told[-1].replace(": ", "\n"), fontsize=9)
    handles = ax.get_legend_handles_labels()
    fig.legend(*handles, loc="outside lower center", ncols=min(3, len(example)))
    look.headline(fig, "Importance compares two lengths, alignment two directions")
    return fig, f"Arrows of {len(example)} small layers. {'; '.join(told)}."


@look.dressed
def alignment_cost(costs: pd.DataFrame):
    """Alignment against what forgetting costs, one point a layer, with their rank correlation.

    costs: columns layer, alignment (0..1), cost (accuracy lost, 0..1) and front (bool), the layers
    of one tower that forgot. Returns (figure, description).
    """
    look.need_columns(costs, ["layer", "alignment", "cost", "front"], "costs")
    front = costs["front"].to_numpy(dtype=bool)
    x, y = _positive(costs["alignment"]), 100 * costs["cost"].to_numpy()
    fig = look.canvas(7.2, 4.2)
    ax = fig.subplots()
    ax.scatter(x[~front], y[~front], marker="x", s=36, color=REST, label="not on the front")
    ax.scatter(x[front], y[front], marker="D", s=48, color=FRONT, label="on the front")
    ax.set(xscale="log", xlabel="gradient alignment (unitless)")
    ax.set_ylabel("accuracy lost by what must\nstay, once forgotten (points)")
    look.log_axis(ax.xaxis)
    look.legend_below(fig, 2)
    finding = f"Too few layers forgot to tell (n = {len(costs)})"
    if len(costs) > 2 and costs["cost"].nunique() > 1:
        r = costs["alignment"].corr(costs["cost"], method="spearman")
        finding = f"Rank correlation of alignment and cost: {r:+.2f} (n = {len(costs)} layers)"
    look.headline(fig, finding)
    look.place_labels(ax, x[front], y[front], [short(n) for n in costs["layer"][front]])
    return fig, f"{finding}. Each point is a layer on which some step forgot."
