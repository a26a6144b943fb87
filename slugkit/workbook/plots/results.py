"""Figures and the table of the results: before, after, and the oracle."""

import numpy as np
import pandas as pd

from slugkit.base import SettingError
from slugkit.workbook.plots import look
from slugkit.workbook.plots.answers import MARKS
from slugkit.workbook.plots.look import GROUP_ORDER, STAGES, in_order, listing, percent, wrap

SHOWN = 6


def _series(metrics: pd.DataFrame) -> pd.Series:
    """Name of the bar or column of each row: its stage, with the method where it has several."""
    name = metrics["stage"].astype(str)
    if "method" not in metrics.columns:
        return name
    many = metrics.groupby("stage")["method"].transform("nunique") > 1
    return name.where(~many, name + ": " + metrics["method"].astype(str))


def _series_order(names) -> list[str]:
    """Series in the order before, after (each method), oracle, then others."""
    stages = [*STAGES]
    return sorted(
        dict.fromkeys(names),
        key=lambda name: stages.index(stage) if (stage := name.split(":")[0]) in stages else 9,
    )


def _looks(series: list[str]) -> dict[str, dict]:
    """Fill and hatch of each series; later edits take the spare ones in turn."""
    looks, spare, left = {}, iter(look.MORE_EDITS * 4), dict(STAGES)
    for name in series:
        style = left.pop(name.split(":")[0], None) or next(spare)
        looks[name] = dict(style, edgecolor="#4D4D4D", linewidth=0.7)
    return looks


def _select(metrics: pd.DataFrame, metric) -> pd.DataFrame:
    """The rows to draw, one for each group and series; SettingError where there are several."""
    look.need_columns(metrics, ["stage", "group", "value", "low", "high", "n"], "metrics")
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
    twice = kept[kept.duplicated(["group", "series"])]
    if len(twice):
        row = twice.iloc[0]
        raise SettingError(
            f"{row['group']}, {row['series']} has several rows; one bar each was expected. "
            "Filter the table to one metric, concept, model and split first, or pass metric."
        )
    return kept


def _draw_bars(ax, kept, groups, series) -> None:
    """The bars, their intervals, their values, and the groups with their denominators."""
    width = 0.8 / len(series)
    for k, (name, style) in enumerate(_looks(series).items()):
        part = kept[kept["series"] == name].set_index("group").reindex(groups)
        part["x"] = np.arange(len(groups)) + (k - (len(series) - 1) / 2) * width
        part = part[part["value"].notna()]
        value, low, high = (100 * part[end].astype(float) for end in ("value", "low", "high"))
        ax.bar(part["x"], value, label=name, width=0.92 * width, zorder=2, **style)
        ax.vlines(part["x"], low, high, color=look.INK, linewidth=1.4, zorder=3)
        for left, middle, top in zip(part["x"], value, np.fmax(high, value)):
            ax.text(left, top + 1.5, f"{middle:.1f}", ha="center", va="bottom", fontsize=8)
    names = []
    for group in groups:
        counts = kept.loc[kept["group"] == group, "n"].dropna().astype(int)
        ends = dict.fromkeys((counts.min(), counts.max())) if len(counts) else ()
        names.append(f"{wrap(group, 14)}\n{'n = ' * bool(ends)}{'–'.join(map(str, ends))}")
    ax.set_xticks(range(len(groups)), names)
    ax.grid(axis="x", visible=False)
    ax.tick_params(axis="x", length=0)


@look.dressed
def results_bars(
    metrics: pd.DataFrame, metric=None, label: str = "top-1 accuracy (%)", title: str = ""
):
    """Accuracy of each group before and after the edit and for the oracle, with 95 % intervals and
    denominators.

    metrics: the tidy metrics table (values 0..1), already filtered to one concept; metric: name or
    names to keep; label: y axis; title: replaces the finding about the target. A stage with several
    methods gets a bar each. Returns (figure, description). Raises SettingError for doubled rows.
    """
    kept = _select(metrics, metric)
    groups, series = in_order(kept["group"], GROUP_ORDER), _series_order(kept["series"])
    fig = look.canvas(max(6.4, min(9.8, 1.6 + 0.48 * len(groups) * max(len(series), 3))), 4.1)
    ax = fig.subplots()
    _draw_bars(ax, kept, groups, series)
    ax.set(ylabel=label, ylim=(0, 112), yticks=range(0, 101, 20), xlim=(-0.6, len(groups) - 0.4))
    look.legend_below(fig, len(series), bars=True)
    table = kept.pivot(index="group", columns="series", values="value").loc[groups, series]
    sentences = []
    for name, found in table.items():
        told = [f"{group} {percent(value)}" for group, value in found.dropna().items()]
        sentences.append(f"{name}: {listing(told, 8)}")
    look.headline(fig, title or _finding(table) or f"Results of {listing(series)}")
    return fig, f"Bars with 95 % intervals. {'. '.join(sentences)}."


def _finding(table: pd.DataFrame) -> str:
    """What became of the target and of the others; empty without a before and an after."""
    shown = [name for name in table.columns if name not in ("oracle", "before")]
    if "before" not in table.columns or not shown:
        return ""
    several = len(shown) > 1
    found = {name.split(": ")[-1]: _change(table["before"], table[name]) for name in shown}
    said = [f"{name}: {text}" if several else text for name, text in found.items() if text]
    title = ". ".join(said)
    return title if several else title[:1].upper() + title[1:]


def _change(first: pd.Series, last: pd.Series) -> str:
    """What became of the target and of the others by one edit."""
    parts = []
    losses = (first - last).dropna()
    losses = losses[~losses.index.str.startswith("target")]
    if "target" in first.index:
        ends = percent(first["target"]), percent(last["target"])
        parts.append("the target goes from {} to {}".format(*ends))
    if len(losses) and losses.max() > 0:
        worst = f"{100 * losses.max():.1f} points ({losses.idxmax()})"
        parts.append(f"the largest loss elsewhere is {worst}")
    elif len(losses):
        parts.append("no other group loses" if parts else "no group loses")
    return "; ".join(parts)


@look.dressed
def two_arms(metrics: pd.DataFrame):
    """SLUG beside SLUG-R, one panel a tower: every group and forget accuracy after the edit with
    its 95 % interval, before it and for the oracle.

    metrics: one row for each group, metric, stage, method and tower (values 0..1); rows before and
    of the oracle have no tower. Returns (figure, description).
    """
    look.need_columns(metrics, ["stage", "group", "metric", "value", "low", "high"], "metrics")
    named = metrics["group"].where(metrics["metric"] == "accuracy", metrics["metric"])
    table = metrics.assign(row=named)
    forget = [name for name in table["row"].unique() if name.startswith("FA@")]
    order = forget + in_order(metrics.loc[metrics["metric"] == "accuracy", "group"], GROUP_ORDER)
    after = table[table["stage"] == "after"]
    towers = list(dict.fromkeys(after["tower"]))
    fig = look.canvas(9.6, 1.5 + 0.36 * len(order))
    panels = fig.subplots(1, len(towers), sharey=True, squeeze=False)[0]
    for ax, tower in zip(panels, towers):
        for stage, marker in (("before", "|"), ("oracle", "x")):
            part = table[table["stage"] == stage].drop_duplicates("row")
            style = dict(marker=marker, color=look.INK, s=70, linewidth=1.6, label=stage, zorder=3)
            if len(part):
                ax.scatter(100 * part["value"], part["row"].map(order.index), **style)
        for number, (method, (marker, colour)) in enumerate(MARKS.items()):
            part = after[(after["tower"] == tower) & (after["method"] == method)]
            y = part["row"].map(order.index) + 0.3 * number - 0.15
            colour = look.OKABE_ITO[colour]
            ax.hlines(y, 100 * part["low"], 100 * part["high"], color=colour, linewidth=1.6)
            style = dict(marker=marker, color=colour, edgecolor="white", s=52, zorder=4)
            ax.scatter(100 * part["value"], y, label=method, **style)
        ax.set(xlim=(-3, 103), ylim=(len(order) - 0.5, -0.5), xlabel="share of pictures (%)")
        ax.set_title(f"edit of the {tower} tower")
        ax.axhline(len(forget) - 0.5, color=look.GREY, linewidth=0.8)
        ax.set_yticks(range(len(order)), order)
    for ax in panels[1:]:  # one legend for all panels
        for drawn in ax.collections:
            drawn.set_label("_")
    look.legend_below(fig, 4)
    said = [_arms_words(after[after["tower"] == t], t) for t in towers]
    look.headline(fig, ". ".join(said))
    return fig, f"Points with 95 % intervals. {'. '.join(said)}."


def _arms_words(after: pd.DataFrame, tower: str) -> str:
    """FA@5, neighbours and the lowest other group of each method in one tower."""
    parts = []
    for method, part in after.groupby("method", sort=False):
        value = part.drop_duplicates("row").set_index("row")["value"]
        names = [n for n in ("FA@5", "neighbours", "people", "classes") if n in value.index]
        parts.append(f"{method} " + ", ".join(f"{n} {percent(value[n])}" for n in names))
    return f"{tower.capitalize()} tower: " + "; ".join(parts)


def unlearning_bars(metrics: pd.DataFrame):
    """UA, IRA and CRA before and after each edit, with 95 % intervals and denominators; higher is
    better everywhere.

    metrics: rows with metric UA, IRA or CRA of one concept (columns stage, method, group, metric,
    value 0..1, low, high, n). Returns (figure, description). Raises SettingError for a table
    without them.
    """
    look.need_columns(metrics, ["stage", "group", "metric", "value", "low", "high", "n"], "metrics")
    kept = metrics[metrics["metric"].isin(["UA", "IRA", "CRA"])]
    alone = kept["group"].isin(["target", "all"])
    named = kept.assign(group=kept["metric"].where(alone, kept["metric"] + " " + kept["group"]))
    parts = []
    for method, mine in named[named["stage"] == "after"].groupby("method", sort=False):
        value = mine.drop_duplicates("group").set_index("group")["value"]
        ira = mine.loc[mine["metric"] == "IRA", "value"].iloc[0]
        shares = {"UA": value["UA"], "IRA": ira, "CRA": value["CRA"]}
        if "IRA neighbours" in value:
            shares["IRA of neighbours"] = value["IRA neighbours"]
        said = ", ".join(f"{metric} {percent(share)}" for metric, share in shares.items())
        parts.append(f"{method}: {said}")
    return results_bars(named, label="share (%)", title="; ".join(parts))


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
    look.need_columns(metrics, ["stage", "group", "metric", "value", "low", "high", "n"], "metrics")
    there = metrics.columns.intersection(["family", "model", "concept", "split"], sort=False)
    keys = [name for name in there if metrics[name].nunique() > 1] + ["group", "metric"]
    table = metrics.assign(series=_series(metrics), cell=[_cell(r) for _, r in metrics.iterrows()])
    twice = table[table.duplicated([*keys, "series"])]
    if len(twice):
        raise SettingError(
            f"{', '.join(twice.iloc[0][['group', 'metric', 'series']])} stands twice in the metrics"
            " table; once was expected."
        )
    rank = {group: i for i, group in enumerate(in_order(table["group"], GROUP_ORDER))}
    rows = table[keys].drop_duplicates().assign(_rank=lambda t: t["group"].map(rank))
    rows = rows.sort_values([*keys[:-2], "_rank"], kind="stable")[keys]
    wide = table.pivot(index=keys, columns="series", values="cell")
    wide = wide.reindex(pd.MultiIndex.from_frame(rows))[_series_order(table["series"])]
    if "oracle" not in wide.columns:
        wide["oracle"] = "none trained"
    wide.columns = [f"{name} (%)" for name in wide.columns]
    return wide.fillna("–")


def changes(metrics: pd.DataFrame) -> pd.DataFrame:
    """Several concepts to read at a glance: a row for each concept and method, a column for each
    metric and group, cells 'before → after [low, high] (n)' in percent.

    metrics: the tidy metrics table, values 0..1, with rows of the stages before and after. Returns
    a DataFrame of texts, which for no rows says so. Raises SettingError for a table without the
    columns.
    """
    columns = ["concept", "method", "stage", "group", "metric", "value", "low", "high", "n"]
    if metrics.empty:
        return pd.DataFrame({"no rows": ["nothing of this was asked"]})
    look.need_columns(metrics, columns, "metrics")
    keys = ["concept", "metric", "group"]
    was = metrics[metrics["stage"] == "before"].set_index(keys)["value"]
    after = metrics[metrics["stage"] == "after"]
    cells = [f"{100 * was[tuple(row[k] for k in keys)]:.1f} → {_cell(row)}" for row in
             after.to_dict("records")]  # fmt: skip
    alone = after["group"].isin(["target", "all"])
    named = after["metric"].where(alone, after["metric"] + " " + after["group"])
    wide = after.assign(cell=cells, named=named + " (%)")
    rows = ["concept", "method"] if after["method"].nunique() > 1 else "concept"
    wide = wide.pivot(index=rows, columns="named", values="cell")
    wide = wide.loc[after["concept"].unique(), (named + " (%)").unique()].fillna("–")
    return wide.rename_axis(columns=None)


@look.dressed
def confusions(answers: pd.DataFrame, target: str | None = None):
    """What the target's pictures are called, before and after the edit: the six most frequent
    answers.

    answers: columns stage, answer, count (pictures, >= 0); target: the true name, drawn first; the
    rest is one bar "any other". Returns (figure, description).
    """
    look.need_columns(answers, ["stage", "answer", "count"], "answers")
    wide = answers.groupby(["answer", "stage"])["count"].sum().unstack(fill_value=0)
    wide = wide[_series_order(wide.columns)]
    totals, share = wide.sum(), wide / wide.sum()
    order = share.max(axis=1).sort_values(ascending=False, kind="stable").index
    order = in_order(order, [target])
    drawn, rest = share.loc[order[:SHOWN]], share.loc[order[SHOWN:]]
    if len(rest):
        drawn = pd.concat([drawn, rest.sum().to_frame(f"any other ({len(rest)})").T])
    count = len(wide.columns)
    height = 0.8 / count
    fig = look.canvas(7.4, 1.3 + (0.2 + 0.16 * count) * len(drawn))
    ax = fig.subplots()
    for k, (stage, style) in enumerate(_looks(list(wide.columns)).items()):
        y = np.arange(len(drawn)) + (k - (count - 1) / 2) * height
        label = f"{stage} (n = {int(totals[stage])})"
        ax.barh(y, 100 * drawn[stage], height=0.92 * height, label=label, **style)
        for place, value in zip(y, drawn[stage]):
            ax.text(100 * value + 0.8, place, percent(value), va="center", fontsize=8)
    ax.set(ylim=(-0.5, len(drawn) - 0.5), xlabel="share of the target's pictures (%)")
    ax.set_xlim(0, min(112, 100 * drawn.to_numpy().max() * 1.12 + 2))
    look.bars_across(ax, range(len(drawn)), drawn.index)
    for text in ax.get_yticklabels():
        text.set_fontweight("bold" if text.get_text() == target else "normal")
    look.legend_below(fig, count, bars=True)
    last = [name for name in share.columns if name != "oracle"][-1]
    title = _confusion_title(share[last], target, last)
    look.headline(fig, title)
    return fig, f"Bars of the answers given for the target's pictures. {title}."


def _confusion_title(share: pd.Series, target: str | None, stage: str) -> str:
    """The finding of the confusion bars: how often the target is named, and who instead."""
    others = share.drop(target) if target in share.index and len(share) > 1 else share
    named, top = "", others.idxmax()
    if target:
        mine = percent(share.get(target, 0.0))
        named = f"{target} is named in {mine} of its pictures {stage} the edit; "
    return f"{named}the most frequent other answer is {top} ({percent(others[top])})"
