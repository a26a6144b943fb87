"""Figures and the table of the results: before, after, and the oracle that never saw the
concept.
"""

import numpy as np
import pandas as pd

from slugkit.base import SettingError
from slugkit.workbook.plots.look import (
    GROUP_ORDER,
    INK,
    MORE_EDITS,
    STAGES,
    bars_across,
    canvas,
    dressed,
    headline,
    in_order,
    legend_below,
    listing,
    need_columns,
    percent,
    share_bars,
    wrap,
)

STAGE_ORDER, SHOWN = [*STAGES], 6


def _series(metrics: pd.DataFrame) -> pd.Series:
    """Name of the bar or column a row belongs to: its stage, with the method where a stage has
    several.
    """
    name = metrics["stage"].astype(str)
    if "method" not in metrics.columns:
        return name
    several = metrics.groupby("stage")["method"].nunique()
    many = metrics["stage"].map(several) > 1
    return name.where(~many, name + ": " + metrics["method"].astype(str))


def _series_order(names) -> list[str]:
    """Series in the order before, after (each method), oracle, then others."""
    known = {stage: i for i, stage in enumerate(STAGE_ORDER)}
    seen = list(dict.fromkeys(names))
    return sorted(seen, key=lambda name: (known.get(name.split(":")[0], 9), seen.index(name)))


def _looks(series: list[str]) -> dict[str, dict]:
    """Fill and hatch of each series."""
    looks, spare = {}, iter(MORE_EDITS * 4)
    for name in series:
        stage = name.split(":")[0]
        first = stage in STAGES and not any(other.split(":")[0] == stage for other in looks)
        looks[name] = dict(STAGES[stage]) if first else dict(next(spare))
    return looks


def _select(metrics: pd.DataFrame, metric) -> pd.DataFrame:
    """The rows to draw, one for each group and series.

    Raises SettingError where there are several.
    """
    need_columns(metrics, ["stage", "group", "value", "low", "high", "n"], "metrics")
    kept = metrics
    if metric is not None:
        wanted = [metric] if isinstance(metric, str) else list(metric)
        kept = metrics[metrics["metric"].isin(wanted)]
        if kept.empty:
            raise SettingError(
                f"No row has the metric {listing(wanted)}; the table holds"
                f" {listing(metrics['metric'].unique(), 8)}."
            )
    kept = kept.assign(series=_series(kept))
    twice = kept[kept.duplicated(["group", "series"], keep=False)]
    if len(twice):
        row = twice.iloc[0]
        raise SettingError(
            f"{row['group']}, {row['series']} has several rows; one bar each was expected. "
            "Filter the table to one metric, concept, model and split first, or pass metric."
        )
    return kept


def _count(part: pd.DataFrame) -> str:
    """The denominators of one group as text."""
    counts = sorted({int(n) for n in part["n"].dropna()})
    ends = dict.fromkeys((*counts[:1], *counts[-1:]))
    return f"n = {'–'.join(map(str, ends))}" if counts else ""


def _draw_bars(ax, kept, groups, series, looks) -> None:
    """The bars, their intervals and their values."""
    width = 0.8 / len(series)
    for k, name in enumerate(series):
        part = kept[kept["series"] == name].set_index("group").reindex(groups)
        x = np.arange(len(groups)) + (k - (len(series) - 1) / 2) * width
        there = part["value"].notna().to_numpy()
        part, x = 100 * part.loc[there, ["value", "low", "high"]].astype(float), x[there]
        shape = dict(width=0.92 * width, edgecolor="#4D4D4D", linewidth=0.7, zorder=2)
        ax.bar(x, part["value"], label=name, **shape, **looks[name])
        ax.vlines(x, part["low"], part["high"], color=INK, linewidth=1.4, zorder=3)
        tops = np.fmax(part["high"], part["value"])
        for left, middle, top in zip(x, part["value"], tops, strict=True):
            ax.text(left, top + 1.5, f"{middle:.1f}", ha="center", va="bottom", fontsize=8)


@dressed
def results_bars(
    metrics: pd.DataFrame, metric=None, label: str = "top-1 accuracy (%)", title: str = ""
):
    """Accuracy of each group before and after the edit and for the oracle, with 95 % intervals and
    denominators.

    metrics: the tidy metrics table (values 0..1), already filtered to one concept; metric: name or
    names to keep;
    label: y axis; title: replaces the finding about the target. A stage with several methods gets a
    bar each. Returns (figure, description). Raises SettingError for doubled rows.
    """
    kept = _select(metrics, metric)
    groups = in_order(kept["group"], GROUP_ORDER)
    series = _series_order(kept["series"])
    fig = canvas(max(6.4, min(9.8, 1.6 + 0.48 * len(groups) * max(len(series), 3))), 4.1)
    ax = fig.subplots()
    _draw_bars(ax, kept, groups, series, _looks(series))
    names = [f"{wrap(group, 14)}\n{_count(kept[kept['group'] == group])}" for group in groups]
    ax.set_xticks(range(len(groups)), names)
    ax.set(ylabel=label, ylim=(0, 112), yticks=range(0, 101, 20), xlim=(-0.6, len(groups) - 0.4))
    ax.grid(axis="x", visible=False)
    ax.tick_params(axis="x", length=0)
    legend_below(fig, len(series), bars=True)
    finding, says = _bar_words(kept, groups, series)
    headline(fig, title or finding)
    return fig, says


def _value(kept, group, name) -> float:
    """One value of the table, NaN where it has none."""
    part = kept[(kept["group"] == group) & (kept["series"] == name)]["value"]
    return float(part.iloc[0]) if len(part) else float("nan")


def _bar_words(kept, groups, series) -> tuple[str, str]:
    """Finding and description of the result bars."""
    shown = [name for name in series if name != "oracle" and name != "before"]
    values = {name: {g: _value(kept, g, name) for g in groups} for name in series}
    sentences = []
    for name, found in values.items():
        told = [f"{group} {percent(value)}" for group, value in found.items() if value == value]
        sentences.append(f"{name}: {listing(told, 8)}")
    says = f"Bars with 95 % intervals. {'. '.join(sentences)}."
    if "before" not in series or not shown:
        return f"Results of {listing(series)}", says
    first, last, parts = values["before"], values[shown[0]], []
    if "target" in groups:
        parts.append(
            f"the target goes from {percent(first['target'])} to {percent(last['target'])}"
        )
    losses = {g: first[g] - last[g] for g in groups if g != "target"}
    losses = {group: loss for group, loss in losses.items() if not np.isnan(loss)}
    if losses:
        worst = max(losses, key=losses.get)
        lost = f"the largest loss elsewhere is {100 * losses[worst]:.1f} points ({worst})"
        none = "no other group loses" if parts else "no group loses"
        parts.append(lost if losses[worst] > 0 else none)
    title = "; ".join(parts)
    if len(shown) > 1 and title:
        return f"{shown[0].split(': ')[-1]}: {title}", says
    return title[:1].upper() + title[1:] or f"Results of {listing(series)}", says


def _cell(row) -> str:
    """A value as 'value [low, high] (n)' in percent."""
    if pd.isna(row["value"]):
        return "–"
    text = f"{100 * row['value']:.1f}"
    if pd.notna(row["low"]) and pd.notna(row["high"]):
        text += f" [{100 * row['low']:.1f}, {100 * row['high']:.1f}]"
    return text + (f" ({int(row['n'])})" if pd.notna(row["n"]) else "")


def results_table(metrics: pd.DataFrame) -> pd.DataFrame:
    """The results to read: a row for each group and metric, columns before, after and oracle, cells
    'value [low, high] (n)' in percent.

    metrics: the tidy metrics table, values 0..1. Columns of it that take several values (family,
    model, concept, split) become part of the row's name, a stage with several methods gets a column
    each. Without an oracle its column reads "none trained". Returns a DataFrame of texts. Raises
    SettingError where two rows claim one cell.
    """
    need_columns(metrics, ["stage", "group", "metric", "value", "low", "high", "n"], "metrics")
    there = [name for name in ("family", "model", "concept", "split") if name in metrics.columns]
    keys = [name for name in there if metrics[name].nunique() > 1] + ["group", "metric"]
    cells = [_cell(row) for _, row in metrics.iterrows()]
    table = metrics.assign(series=_series(metrics), cell=cells)
    if table.duplicated([*keys, "series"]).any():
        row = table[table.duplicated([*keys, "series"])].iloc[0]
        raise SettingError(
            f"{row['group']}, {row['metric']}, {row['series']} stands twice in the metrics table;"
            " once was expected."
        )
    rank = {group: i for i, group in enumerate(in_order(table["group"], GROUP_ORDER))}
    rows = table[keys].drop_duplicates().assign(_rank=lambda t: t["group"].map(rank))
    rows = rows.sort_values([*keys[:-2], "_rank"], kind="stable")[keys]
    wide = table.pivot(index=keys, columns="series", values="cell")
    wide = wide.reindex(pd.MultiIndex.from_frame(rows))
    wide = wide[_series_order(table["series"])]
    if "oracle" not in wide.columns:
        wide["oracle"] = "none trained"
    wide.columns = [f"{name} (%)" for name in wide.columns]
    return wide.fillna("–")


@dressed
def confusions(answers: pd.DataFrame, target: str | None = None):
    """What the target's pictures are called, before and after the edit: the six most frequent
    answers.

    answers: columns stage, answer, count (pictures, >= 0); target: the true name, drawn first; the
    rest is one bar "any other". Returns (figure, description).
    """
    need_columns(answers, ["stage", "answer", "count"], "answers")
    wide = answers.groupby(["answer", "stage"])["count"].sum().unstack(fill_value=0)
    wide = wide[_series_order(wide.columns)]
    totals, share = wide.sum(), wide / wide.sum()
    order = share.max(axis=1).sort_values(ascending=False, kind="stable").index.tolist()
    shown = ([target] if target in order else []) + [name for name in order if name != target]
    shown, rest = shown[:SHOWN], shown[SHOWN:]
    drawn = share.loc[shown]
    if rest:
        drawn = pd.concat([drawn, share.loc[rest].sum().to_frame(f"any other ({len(rest)})").T])
    looks, height = _looks(list(wide.columns)), 0.8 / len(wide.columns)
    fig = canvas(7.4, 1.3 + (0.2 + 0.16 * len(wide.columns)) * len(drawn))
    ax = fig.subplots()
    for k, stage in enumerate(wide.columns):
        y = np.arange(len(drawn)) + (k - (len(wide.columns) - 1) / 2) * height
        label = f"{stage} (n = {int(totals[stage])})"
        share_bars(ax, y, drawn[stage], 0.92 * height, looks[stage], label)
    ax.set_yticks(range(len(drawn)), drawn.index)
    for text in ax.get_yticklabels():
        text.set_fontweight("bold" if text.get_text() == target else "normal")
    ax.set(ylim=(-0.5, len(drawn) - 0.5), xlabel="share of the target's pictures (%)")
    ax.set_xlim(0, min(112, 100 * drawn.to_numpy().max() * 1.12 + 2))
    bars_across(ax)
    legend_below(fig, len(wide.columns), bars=True)
    title = _confusion_title(share, target)
    headline(fig, title)
    return fig, f"Bars of the answers given for the target's pictures. {title}."


def _confusion_title(share: pd.DataFrame, target) -> str:
    """The finding of the confusion bars: the top answer of each stage, and how alone it stands."""
    last = [name for name in share.columns if name != "oracle"][-1]
    others = share[last]
    if target in share.index and len(share) > 1:
        others = others.drop(index=target)
    named, top = "", others.idxmax()
    if target:
        mine = percent(share[last].get(target, 0.0))
        named = f"{target} is named in {mine} of its pictures {last} the edit; "
    return f"{named}the most frequent other answer is {top} ({percent(others[top])})"
