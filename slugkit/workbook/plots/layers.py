"""Figures about the layers: their two scores, the Pareto front, and how steady both are."""

import numpy as np
import pandas as pd

from slugkit.base import EmptySetError
from slugkit.method.layers import short
from slugkit.workbook.plots import forms, look
from slugkit.workbook.plots.look import BLUE, SKY, VERMILION, listing, percent

KINDS = ["conv1", "attn.in_proj", "attn.out_proj", "mlp.c_fc", "mlp.c_proj", "proj"]
FRONT, REST = VERMILION, "#6E6E6E"
BEATEN = dict(marker="x", s=32, color=REST, linewidth=1.2, zorder=3)
DIAMOND = dict(marker="D", s=48, edgecolor=FRONT, linewidth=1.6, zorder=4)
COLUMNS = ["layer", "tower", "importance", "alignment", "front", "block", "kind", "candidate"]


def candidates(layers: pd.DataFrame, tower: str | None = None) -> pd.DataFrame:
    """The rows of layers.parquet that have scores, in network order, with a short `name`.

    Raises SettingError for a missing column, EmptySetError where nothing is left.
    """
    look.need_columns(layers, COLUMNS, "layers")
    kept = layers[layers["candidate"].astype(bool)].dropna(subset=["importance", "alignment"])
    kept = kept if tower is None else kept[kept["tower"] == tower]
    if kept.empty:
        known = ", ".join(sorted(set(layers["tower"])))
        raise EmptySetError(
            f"No ranked layer of the tower {tower or '(any)'}; the table holds the towers {known}."
            " Run 03_rank_layers."
        )
    kept = kept.assign(name=kept["layer"].map(short), front=kept["front"].astype(bool))
    first_or_last = np.where(kept["kind"] == "conv1", -1, 10**6)
    depth = kept["block"].where(kept["block"] >= 0, first_or_last)
    place = pd.Categorical(kept["kind"], KINDS).codes % (len(KINDS) + 1)  # other kinds last
    return kept.iloc[np.lexsort((place, depth))].reset_index(drop=True)


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


def _stems(ax, table: pd.DataFrame, score: str, noise: np.ndarray | None = None) -> None:
    """One panel of scores, a dot a layer from top to bottom, front layers ringed, blocks shaded;
    noise: what stands as a pale foot behind them.
    """
    front, rows, values = table["front"].to_numpy(), np.arange(len(table)), _positive(table[score])
    low = values.min() / 2
    if noise is not None:
        low = min(low, _positive(noise).min() / 1.5)
        foot = dict(height=1.0, color=SKY, alpha=0.28, linewidth=0, zorder=1)
        ax.barh(rows, noise - low, left=low, **foot)
    ax.hlines(rows, low, values, color=np.where(front, FRONT, "#C9C9C9"), linewidth=1.6, zorder=2)
    ax.scatter(values, rows, s=22, color=np.where(front, FRONT, REST), zorder=3)
    ax.scatter(values[front], rows[front], **forms.ring(s=92, edgecolor=FRONT))
    ax.set(xscale="log", xlim=(low, values.max() * 2), xlabel=f"{score} (unitless)")
    ax.set(ylim=(len(rows) - 0.4, -0.6), yticks=[])
    forms.log_axis(ax.xaxis)
    for row in rows[(table["block"] >= 0) & (table["block"] % 2 == 0)]:
        ax.axhspan(row - 0.5, row + 0.5, color="#F5F5F5", linewidth=0, zorder=0)


@look.dressed
def layer_scores(layers: pd.DataFrame, tower: str | None = None):
    """Importance and alignment of every ranked layer in network order, front layers ringed.

    layers: layers.parquet; tower: "text", "vision" or None for all. The shaded foot of the
    alignment panels is two standard errors of the cosine (column noise).
    """
    table = candidates(layers, tower)
    sizes = table["tower"].value_counts()
    size = 9.8 if len(sizes) > 1 else 7.6, 1.5 + 0.185 * sizes.max()
    fig, panels = look.canvas(*size, 1, 2 * len(sizes))
    counts, best = [], []
    parts = table.groupby("tower", sort=False)
    for (left, right), (name, part) in zip(panels.reshape(-1, 2), parts):
        _stems(left, part, "importance")
        _stems(right, part, "alignment", _noise(part))
        left.set_title(f"{name} tower")
        left.set_yticks(range(len(part)), part["name"], fontsize=8)
        left.tick_params(axis="y", length=0)
        left.grid(axis="y", visible=False)
        for label in np.array(left.get_yticklabels())[part["front"]]:
            label.set(color=FRONT, fontweight="bold")
        counts.append(f"{int(part['front'].sum())} of {len(part)} {name} layers")
        top = part.loc[part["importance"].idxmax()]
        best.append(f"{top['name']} ({name}, {top['importance']:.3g})")
    span = table["importance"].max() / max(table["importance"].min(), 1e-30)
    ringed = f"{listing(counts)} are on the Pareto front (ringed)"
    says = f"Dot plots of importance and alignment on log scales for {len(table)} layers; the most"
    says += f" important are {listing(best)}."
    if _noise(table) is not None:
        says += " The pale blue foot is two standard errors of the cosine."
    title = f"Importance differs {span:.3g}-fold between layers; {ringed}"
    return look.headline(fig, title), says


def _staircase(ax, x, y) -> None:
    """Shades the region that front points (x, y) beat, to their right and below."""
    x, y = np.sort(x), np.sort(y)
    right, bottom = ax.get_xlim()[1], ax.get_ylim()[0]
    ends, tops = [*x, right], [*y, y[-1]]
    style = dict(color=FRONT, linewidth=1.2, alpha=0.8, zorder=2)
    ax.step([x[0], *ends], [bottom, *tops], where="post", **style)
    shade = dict(color=FRONT, alpha=0.05, linewidth=0, zorder=0)
    ax.fill_between(ends, tops, bottom, step="post", **shade)


@look.dressed
def pareto(layers: pd.DataFrame, tower: str):
    """Alignment against importance on log scales, the Pareto front joined by its staircase and
    named, as panels (a) and (d) of the project page's figure 2.

    layers: layers.parquet; tower: "text" or "vision". Where the noise is known, bars show two
    standard errors of each cosine, and front layers that these do not tell from 0 are hollow.
    """
    table = candidates(layers, tower)
    x, y = _positive(table["alignment"]), _positive(table["importance"])
    front, noise = table["front"].to_numpy(), _noise(table)
    lost = front & (table["alignment"].to_numpy() < (-1 if noise is None else noise))
    fig, ax = look.canvas(7.6, 5.0)
    ax.set(xscale="log", xlim=(x.min() / 2.2, x.max() * 1.8))
    ax.set(yscale="log", ylim=(y.min() / 1.8, y.max() * 2.2))
    ax.set_xlabel("gradient alignment  |cos(g forget, g retain)| (unitless)")
    ax.set_ylabel("importance of the layer  ‖g forget‖ / ‖θ‖ (unitless)")
    forms.log_axis(ax.xaxis)
    forms.log_axis(ax.yaxis)
    if front.any():
        _staircase(ax, x[front], y[front])
    if noise is not None:
        low, alpha = np.maximum(x - noise, ax.get_xlim()[0]), np.where(front, 0.8, 0.25)
        ax.hlines(y, low, x + noise, color=SKY, linewidth=2, zorder=1, alpha=alpha)
    kinds = {
        "beaten by another layer": (~front, BEATEN),
        "Pareto front": (front & ~lost, dict(DIAMOND, facecolor=FRONT)),
        "front, within noise": (lost, dict(DIAMOND, facecolor="white")),
    }
    forms.points(ax, x, y, kinds)
    look.legend_below(fig, 4)
    title, says = _pareto_words(table, tower, int(lost.sum()), noise is not None)
    look.headline(fig, title)
    forms.place_labels(ax, x[front], y[front], table["name"][front])
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


@look.dressed
def front_membership(layers: pd.DataFrame):
    """How often each layer is on the front when the cosines are redrawn within their noise.

    layers: layers.parquet with front_share in 0..1. Layers that are on the front in less than
    `LEAST` of the redraws, and not on the measured one, are left out.
    """
    look.need_columns(layers, ["front_share"], "layers")
    table = candidates(layers)
    if table["front_share"].isna().all():
        fig, ax = look.canvas(6.0, 1.2)
        ax.set_axis_off()
        look.headline(fig, "The noise is not known: the retain set has one part only")
        return fig, "No bars: one part of a retain set does not say how noisy its gradient is."
    table = table[(table["front_share"] >= LEAST) | table["front"]]
    sizes, least = table["tower"].value_counts(), f"{percent(LEAST, 0)} of redraws or more"
    looks = {"on the measured front": dict(color=FRONT, hatch="")}
    looks[f"not on it, but in {least}"] = dict(color=look.PALE, hatch="///")
    size = 9.4 if len(sizes) > 1 else 5.6, 1.7 + 0.27 * sizes.max()
    fig, panels = look.canvas(*size, 1, len(sizes), squeeze=False)
    for ax, (tower, part) in zip(panels[0], table.groupby("tower", sort=False)):
        part = part.sort_values(["front_share", "importance"], ascending=False).set_index("name")
        share = 100 * part["front_share"].fillna(0)
        drawn = pd.DataFrame(dict(zip(looks, (share[part["front"]], share[~part["front"]]))))
        forms.bars(ax, drawn.loc[share.index], looks, stacked=True, fmt="{:.0f} %")
        ax.set(xlim=(0, 114), xticks=range(0, 101, 25), title=f"{tower} tower")
        ax.set_xlabel("share of redraws within the noise in which\nthe layer is on the front (%)")
    look.legend_below(fig, 2, bars=True, handles=ax.get_legend_handles_labels()[0])
    front = table[table["front"]]
    steady = front[front["front_share"] >= 0.95]
    stay = f"{len(steady)} of {len(front)} front layers stay there"
    listed = listing(steady["name"] + " (" + steady["tower"] + ")", 6)
    says = f"Bars of the share of redraws in which a layer is on the front; steady: {listed}."
    says += f" {len(table) - len(front)} layers that are not on the measured front reach it in"
    title = f"{stay} in at least 95 % of redraws within the noise"
    return look.headline(fig, title), f"{says} {least}."


@look.dressed
def gradient_agreement(agreement: pd.DataFrame, what: str = ""):
    """Cosine of the mean gradients of two sets of n pairs each that share no pair, and the cosine
    that noise alone predicts, against n.

    agreement: columns samples (pairs), cosine and predicted (-1..1), set ("forget" or "retain").
    what: the layer, for the title.
    """
    look.need_columns(agreement, ["samples", "cosine", "predicted", "set"], "agreement")
    fig, ax = look.canvas(7.2, 3.8)
    looks, ends = {"forget": (VERMILION, "^"), "retain": (BLUE, "o")}, []
    for name, part in agreement.sort_values("samples").groupby("set", sort=False):
        colour, marker = looks.get(name, (look.GREY, "s"))
        style = dict(color=colour, marker=marker, linestyle="none")
        ax.plot(part["samples"], part["cosine"], label=f"{name}, measured", **style)
        ax.plot(part["samples"], part["predicted"], "--", color=colour, label=f"{name}, predicted")
        last = part.iloc[-1]
        ends.append(f"{last['cosine']:.2f} ({name}, {last['samples']:.0f} pairs)")
    ax.axhline(0, color=look.GREY, linewidth=1)
    ax.set(xscale="log", xlabel="pairs n in each of the two draws")
    ax.xaxis.set_major_formatter("{x:g}")
    ax.set(ylabel="cosine of the two\nmean gradients (unitless)")
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    found = f"Two independent draws agree to a cosine of {listing(ends)}"
    says = f"{found}. Markers: measured; broken lines: what the noise of single batches predicts."
    title = f"{what}: {found[0].lower()}{found[1:]}" if what else found
    return look.headline(fig, title), says


@look.dressed
def layer_arrows(example: dict):
    """The weight, the forget and the retain gradient of small layers as arrows, a panel a layer.

    example: name -> (theta, g_f, g_r), each of two numbers. The panel's title holds importance and
    alignment.
    """
    kinds = {
        "weight θ": dict(color=look.GREY, linestyle="-"),
        "forget gradient g_f": dict(color=VERMILION, linestyle="-"),
        "retain gradient g_r": dict(color=BLUE, linestyle="--"),
    }
    fig, panels = look.canvas(3.1 * len(example), 3.6, 1, len(example), squeeze=False)
    reach, told = 1.15 * np.abs([*example.values()]).max(), []
    for ax, (name, layer) in zip(panels[0], example.items()):
        theta, g_f, g_r = np.asarray(layer, dtype=float)
        for vector, (label, style) in zip((theta, g_f, g_r), kinds.items()):
            arrow = dict(arrowstyle="-|>", linewidth=2, shrinkA=0, shrinkB=0, **style)
            ax.annotate("", vector, (0, 0), arrowprops=arrow, zorder=3)
            ax.plot([], [], linewidth=2, label=label, **style)
        ratio = np.linalg.norm(g_f) / np.linalg.norm(theta)
        cosine = g_f @ g_r / (np.linalg.norm(g_f) * np.linalg.norm(g_r))
        told.append(f"{name}: importance {ratio:.2g}, alignment {abs(cosine):.2f}")
        ax.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
        ax.set_title(told[-1].replace(": ", "\n"), fontsize=9)
    look.legend_below(fig, min(3, len(example)), handles=ax.get_legend_handles_labels()[0])
    title = "Importance compares two lengths, alignment two directions"
    return look.headline(fig, title), f"Arrows of {len(example)} small layers. {'; '.join(told)}."


@look.dressed
def alignment_cost(costs: pd.DataFrame):
    """Alignment against what forgetting costs, one point a layer, with their rank correlation.

    costs: columns layer, alignment (0..1), cost (accuracy lost, 0..1) and front (bool), the layers
    of one tower that forgot.
    """
    look.need_columns(costs, ["layer", "alignment", "cost", "front"], "costs")
    front = costs["front"].to_numpy(dtype=bool)
    x, y = _positive(costs["alignment"]), 100 * costs["cost"].to_numpy()
    fig, ax = look.canvas(7.2, 4.2)
    kinds = {"not on the front": (~front, BEATEN)}
    kinds["on the front"] = front, dict(DIAMOND, facecolor=FRONT)
    forms.points(ax, x, y, kinds)
    ax.set(xscale="log", xlabel="gradient alignment (unitless)")
    ax.set_ylabel("accuracy lost by what must\nstay, once forgotten (points)")
    forms.log_axis(ax.xaxis)
    look.legend_below(fig, 2)
    finding = f"Too few layers forgot to tell (n = {len(costs)})"
    if len(costs) > 2 and costs["cost"].nunique() > 1:
        r = costs["alignment"].corr(costs["cost"], method="spearman")
        finding = f"Rank correlation of alignment and cost: {r:+.2f} (n = {len(costs)} layers)"
    look.headline(fig, finding)
    if front.any():
        forms.place_labels(ax, x[front], y[front], costs["layer"][front].map(short))
    return fig, f"{finding}. Each point is a layer on which some step forgot."
