"""Figures and tables of the results: before, after, and the oracle."""

import numpy as np
import pandas as pd

from slugkit.base import SettingError
from slugkit.workbook.plots import forms, look
from slugkit.workbook.plots.look import BLUE, INK, YELLOW, in_order, listing, percent, shares, wrap

SHOWN = 6
COLUMNS = ["stage", "group", "value", "low", "high", "n"]
STAGES = ["before", "after", "oracle"]
FILLS = {"before": dict(color="#BDBDBD", hatch=""), "oracle": dict(color="white", hatch="..")}
"""Colour and hatch of the stages without an edit."""


def _fills(methods: dict[str, str]) -> dict[str, dict]:
    """Colour and hatch of each series; methods: series -> method."""
    looks = look.edit_looks(method for name, method in methods.items() if name not in FILLS)
    found = {
        method: dict(color=colour, hatch=hatch) for method, (_, colour, hatch) in looks.items()
    }
    return {name: FILLS.get(name) or found[method] for name, method in methods.items()}


def _arranged(metrics: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """The table with each row's series: its stage, with the method where it has several.

    Series, groups and metrics become categories, in order. Raises SettingError where two rows have
    the same keys and series.
    """
    look.need_columns(metrics, COLUMNS, "metrics")
    stage, method = metrics["stage"].astype(str), metrics.get("method", "SLUG")
    table = metrics.assign(stage=stage, method=method)
    many = table.groupby("stage")["method"].transform("nunique") > 1
    table["series"] = stage.mask(many, stage + ": " + table["method"].astype(str))
    twice = table[table.duplicated([*keys, "series"])]
    if len(twice):
        raise SettingError(
            f"{', '.join(map(str, twice.iloc[0][[*keys, 'series']]))} stands twice in the metrics"
            " table; once was expected. Filter it to one metric, concept, model and split."
        )
    by_stage, of_stage = in_order(stage, STAGES), dict(zip(table["series"], stage))
    order = {"series": sorted(of_stage, key=lambda name: by_stage.index(of_stage[name]))}
    order |= {"group": in_order(table["group"])}
    order |= {"metric": table["metric"].unique()} if "metric" in table else {}
    return table.astype({name: pd.CategoricalDtype(names) for name, names in order.items()})


@look.dressed
def results_bars(
    metrics: pd.DataFrame, metric=None, label: str = "top-1 accuracy (%)", title: str = ""
):
    """Accuracy of each group before and after the edit and for the oracle, with 95 % intervals and
    denominators.

    metrics: the tidy metrics table (values 0..1), already filtered to one concept; metric: name or
    names to keep; label: y axis; title: replaces the finding about the target. A stage with several
    methods gets a bar each. Raises SettingError for doubled rows.
    """
    if metric is not None:
        wanted = np.atleast_1d(metric)
        known = listing(metrics["metric"].unique(), 8)
        metrics = metrics[metrics["metric"].isin(wanted)]
        if metrics.empty:
            raise SettingError(f"No row has the metric {listing(wanted)}; the table holds {known}.")
    kept = _arranged(metrics, ["group"])
    wide = kept.pivot(index="group", columns="series", values=["value", "low", "high"])
    table, low, high = (wide[end].astype(float) for end in ("value", "low", "high"))
    count, series = len(table), list(table)
    fig, ax = look.canvas(np.clip(1.6 + 0.48 * count * max(len(series), 3), 6.4, 9.8), 4.1)
    fills = _fills(kept.set_index("series")["method"].astype(str).to_dict())
    forms.bars(ax, 100 * table, fills, (100 * low, 100 * high))
    sizes = kept.groupby("group", observed=True)["n"].agg(_size)
    ax.set_xticks(range(count), [f"{wrap(group, 14)}\n{size}" for group, size in sizes.items()])
    ax.set(ylabel=label, ylim=(0, 112), yticks=range(0, 101, 20), xlim=(-0.6, count - 0.4))
    look.legend_below(fig, len(series), bars=True)
    told = [f"{name}: {listing(shares(found.dropna()), 8)}" for name, found in table.items()]
    title = title or _finding(table) or f"Results of {listing(series)}"
    return look.headline(fig, title), f"Bars with 95 % intervals. {'. '.join(told)}."


def _size(n: pd.Series) -> str:
    """Denominators as words."""
    ends = dict.fromkeys(n.dropna().astype(int).agg(["min", "max"])) if n.notna().any() else ()
    return "n = " * bool(ends) + "–".join(map(str, ends))


def _finding(table: pd.DataFrame) -> str:
    """What became of the target and of the others; empty without a before and an after."""
    edits = [name for name in table if name not in FILLS]
    if "before" not in table:
        return ""
    said = [_change(table["before"], table[name]) for name in edits]
    if len(edits) > 1:
        return ". ".join(f"{name.split(': ')[-1]}: {text}" for name, text in zip(edits, said))
    return "".join(text[:1].upper() + text[1:] for text in said)


def _change(first: pd.Series, last: pd.Series) -> str:
    """What became of the target and of the others by one edit."""
    parts = []
    losses = (first - last).dropna()
    losses = losses[~losses.index.str.startswith("target")]
    if "target" in first.index:
        was, now = percent(first["target"]), percent(last["target"])
        parts.append(f"the target goes from {was} to {now}")
    if len(losses) and losses.max() > 0:
        worst = f"{100 * losses.max():.1f} points ({losses.idxmax()})"
        parts.append(f"the largest loss elsewhere is {worst}")
    elif len(losses):
        parts.append("no other group loses" if parts else "no group loses")
    return "; ".join(parts)


def unlearning_bars(metrics: pd.DataFrame):
    """UA, IRA and CRA before and after each edit, with 95 % intervals and denominators; higher is
    better everywhere.

    metrics: rows with metric UA, IRA or CRA of one concept (columns stage, method, group, metric,
    value 0..1, low, high, n).
    """
    look.need_columns(metrics, [*COLUMNS, "metric"], "metrics")
    kept = metrics[metrics["metric"].isin(["UA", "IRA", "CRA"])]
    named = kept.assign(group=_metric_and_group(kept))
    parts = []
    for method, mine in named[named["stage"] == "after"].groupby("method", sort=False):
        value = mine.set_index("group")["value"]
        found = {"UA": value["UA"], "IRA": value.filter(like="IRA").iloc[0], "CRA": value["CRA"]}
        if "IRA neighbours" in value:
            found["IRA of neighbours"] = value["IRA neighbours"]
        parts.append(f"{method}: {', '.join(shares(found))}")
    return results_bars(named, label="share (%)", title="; ".join(parts))


def _metric_and_group(metrics: pd.DataFrame) -> pd.Series:
    """What each row measures: its metric, with the group where it has one of its own."""
    alone = metrics["group"].isin(["target", "all"])
    return metrics["metric"].where(alone, metrics["metric"] + " " + metrics["group"])


@look.dressed
def two_arms(metrics: pd.DataFrame):
    """SLUG beside SLUG-R, one panel a tower: every group and forget accuracy after the edit with
    its 95 % interval, before it and for the oracle.

    metrics: one row for each group, metric, stage, method and tower (values 0..1); rows before and
    of the oracle have no tower.
    """
    look.need_columns(metrics, [*COLUMNS, "metric"], "metrics")
    of_group = metrics["metric"] == "accuracy"
    table = metrics.assign(row=metrics["group"].where(of_group, metrics["metric"]))
    forget = [name for name in table["row"].unique() if name.startswith("FA@")]
    order = forget + in_order(metrics.loc[of_group, "group"])
    table = table[table["row"].isin(order)].assign(y=lambda t: t["row"].map(order.index))
    after = table[table["stage"] == "after"]
    towers, looks = after["tower"].unique(), look.edit_looks(["SLUG", "SLUG-R"])
    size = 9.6, 1.5 + 0.36 * len(order)
    fig, panels = look.canvas(*size, 1, len(towers), sharey=True, squeeze=False)
    for ax, tower in zip(panels[0], towers):
        for stage, marker in (("before", "|"), ("oracle", "x")):
            part = table[table["stage"] == stage].drop_duplicates("row")
            if len(part):
                style = dict(marker=marker, color=INK, s=70, linewidth=1.6, zorder=3)
                ax.scatter(100 * part["value"], part["y"], label=stage, **style)
        for number, (method, (marker, colour, _)) in enumerate(looks.items()):
            part = after[(after["tower"] == tower) & (after["method"] == method)]
            reach = 100 * np.stack([part["value"] - part["low"], part["high"] - part["value"]])
            style = dict(fmt=marker, color=colour, markeredgecolor="white", markersize=7, zorder=4)
            places = 100 * part["value"], part["y"] + 0.3 * number - 0.15
            ax.errorbar(*places, xerr=reach.clip(0), label=method, elinewidth=1.6, **style)
        ax.set(xlim=(-3, 103), ylim=(len(order) - 0.5, -0.5), xlabel="share of pictures (%)")
        ax.set(title=f"edit of the {tower} tower", yticks=range(len(order)), yticklabels=order)
        ax.axhline(len(forget) - 0.5, color=look.GREY, linewidth=0.8)
    look.legend_below(fig, 4, handles=ax.get_legend_handles_labels()[0])
    said = ". ".join(_arms_words(after[after["tower"] == tower], tower) for tower in towers)
    return look.headline(fig, said), f"Points with 95 % intervals. {said}."


def _arms_words(after: pd.DataFrame, tower: str) -> str:
    """FA@5, neighbours and the lowest other group of each method in one tower."""
    parts = []
    for method, part in after.groupby("method", sort=False):
        value = part.drop_duplicates("row").set_index("row")["value"]
        found = value.reindex(["FA@5", "neighbours", "people", "classes"]).dropna()
        parts.append(f"{method} {', '.join(shares(found))}")
    return f"{tower.capitalize()} tower: " + "; ".join(parts)


def _cells(metrics: pd.DataFrame) -> list[str]:
    """Each row's value as 'value [low, high] (n)' in percent."""
    texts = []
    for value, low, high, n in metrics[["value", "low", "high", "n"]].itertuples(index=False):
        ends = f" [{100 * low:.1f}, {100 * high:.1f}]" if pd.notna(low) and pd.notna(high) else ""
        size = f" ({int(n)})" if pd.notna(n) else ""
        texts.append(f"{100 * value:.1f}{ends}{size}" if pd.notna(value) else "–")
    return texts


def results_table(metrics: pd.DataFrame) -> pd.DataFrame:
    """The results to read: a row for each group and metric, columns before, after and oracle, cells
    'value [low, high] (n)' in percent.

    metrics: the tidy metrics table, values 0..1. Columns of it that take several values (family,
    model, concept, split) become part of the row's name, a stage with several methods gets a column
    each. Without an oracle its column reads "none trained". Returns a DataFrame of texts. Raises
    SettingError where two rows claim one cell.
    """
    look.need_columns(metrics, ["metric"], "metrics")
    there = metrics.columns.intersection(["family", "model", "concept", "split"], sort=False)
    keys = [name for name in there if metrics[name].nunique() > 1] + ["group", "metric"]
    table = _arranged(metrics, keys).assign(cell=_cells(metrics))
    wide = table.pivot(index=keys, columns="series", values="cell")
    wide.columns = [f"{name} (%)" for name in wide.columns]
    if "oracle (%)" not in wide:
        wide["oracle (%)"] = "none trained"
    return wide.fillna("–")


def changes(metrics: pd.DataFrame) -> pd.DataFrame:
    """Several concepts to read at a glance: a row for each concept and method, a column for each
    metric and group, cells 'before → after [low, high] (n)' in percent.

    metrics: the tidy metrics table, values 0..1, with rows of the stages before and after. Returns
    a DataFrame of texts, which for no rows says so.
    """
    if metrics.empty:
        return pd.DataFrame({"no rows": ["nothing of this was asked"]})
    look.need_columns(metrics, [*COLUMNS, "concept", "method", "metric"], "metrics")
    keys = ["concept", "metric", "group"]
    was = metrics[metrics["stage"] == "before"].set_index(keys)["value"]
    after = metrics[metrics["stage"] == "after"]
    first = was.loc[pd.MultiIndex.from_frame(after[keys])]
    cells = [f"{100 * value:.1f} → {cell}" for value, cell in zip(first, _cells(after))]
    after = after.assign(cell=cells, named=_metric_and_group(after) + " (%)")
    rows = ["concept", "method"] if after["method"].nunique() > 1 else ["concept"]
    wide = after.set_index([*rows, "named"])["cell"].unstack(sort=False)
    return wide.fillna("–").rename_axis(columns=None)


@look.dressed
def confusions(answers: pd.DataFrame, target: str | None = None):
    """What the target's pictures are called, before and after the edit: the six most frequent
    answers.

    answers: columns stage, answer, count (pictures, >= 0); target: the true name, drawn first; the
    rest is one bar "any other".
    """
    look.need_columns(answers, ["stage", "answer", "count"], "answers")
    wide = answers.groupby(["answer", "stage"])["count"].sum().unstack(fill_value=0)
    wide = wide[in_order(wide, STAGES)]
    share, count = wide / wide.sum(), len(wide.columns)
    order = share.max(axis=1).sort_values(ascending=False, kind="stable").index
    order = in_order(order, [target])
    drawn, rest = share.loc[order[:SHOWN]], share.loc[order[SHOWN:]]
    if len(rest):
        drawn = pd.concat([drawn, rest.sum().to_frame(f"any other ({len(rest)})").T])
    fig, ax = look.canvas(7.4, 1.3 + (0.2 + 0.16 * count) * len(drawn))
    names = {stage: f"{stage} (n = {int(total)})" for stage, total in wide.sum().items()}
    fills = {names[stage]: fill for stage, fill in _fills(dict.fromkeys(wide, "SLUG")).items()}
    drawn = 100 * drawn.rename(columns=names)
    forms.bars(ax, drawn, fills, fmt=lambda value: percent(value / 100))
    ax.set_xlabel("share of the target's pictures (%)")
    ax.set_xlim(0, min(112, 1.12 * drawn.to_numpy().max() + 2))
    for text in ax.get_yticklabels():
        text.set_fontweight("bold" if text.get_text() == target else "normal")
    look.legend_below(fig, count, bars=True)
    last = [name for name in share.columns if name != "oracle"][-1]
    title = _confusion_title(share[last], target, last)
    says = f"Bars of the answers given for the target's pictures. {title}."
    return look.headline(fig, title), says


def _confusion_title(share: pd.Series, target: str | None, stage: str) -> str:
    """The finding of the confusion bars: how often the target is named, and who instead."""
    others = share.drop(target) if target in share.index and len(share) > 1 else share
    named, top = "", others.idxmax()
    if target:
        mine = percent(share.get(target, 0.0))
        named = f"{target} is named in {mine} of its pictures {stage} the edit; "
    return f"{named}the most frequent other answer is {top} ({percent(others[top])})"


OUTCOMES = {
    "right name": dict(facecolor=BLUE, hatch="", edgecolor="white"),
    "another name": dict(facecolor=YELLOW, hatch="//", edgecolor="white"),
    "no name": dict(facecolor="#D9D9D9", hatch="..", edgecolor="white"),
}
"""Fill and hatch of each outcome."""
PLATE = dict(boxstyle="round,pad=0.12", facecolor="white", edgecolor="none", alpha=0.85)


@look.dressed
def outcome_bars(metrics: pd.DataFrame):
    """How often "who is this?" gets the right name, another name, no name: one bar for each group
    and state of the model.

    metrics: columns stage, method, group, metric (an outcome), value 0..1, n.
    """
    look.need_columns(metrics, ["stage", "method", "group", "metric", "value", "n"], "metrics")
    kept = metrics[metrics["metric"].isin(OUTCOMES)]
    kept = kept.assign(state=kept["method"].where(kept["stage"] != "before", "before"))
    table = kept.drop_duplicates(["group", "state", "metric"])
    sizes = table.groupby(["group", "state"])["n"].first()
    groups = in_order(table["group"], ["target", "neighbours", "people", "strangers"])
    bars = [(g, state) for g in groups for state in table["state"].unique() if (g, state) in sizes]
    found = table.pivot(index=["group", "state"], columns="metric", values="value").loc[bars]
    found = found[in_order(found, OUTCOMES)]
    drawn = {}
    for group, state in bars:
        if drawn and state == bars[0][1]:
            drawn[" " * len(drawn)] = 0 * found.loc[group, state]  # room between the groups
        drawn[f"{group}, {state}  (n {int(sizes[group, state])})"] = found.loc[group, state]
    fig, ax = look.canvas(7.6, 1.2 + 0.28 * len(drawn))
    words = dict(label_type="center", fmt=lambda value: f"{value:.0f}" if value >= 7 else "")
    forms.bars(ax, 100 * pd.DataFrame(drawn).T, OUTCOMES, stacked=True, bbox=PLATE, **words)
    ax.set(xlim=(0, 100), xlabel="share of questions (%)")
    look.legend_below(fig, 3, bars=True)
    said = []
    for (group, state), row in found.iterrows():
        told = row.dropna() if group == "target" else row[["right name"]]
        said.append(f"{group}, {state}: {listing(shares(told))}")
    of_target = found.index.get_level_values("group") == "target"
    named = shares(found.loc[of_target, "right name"].dropna().droplevel("group"))
    title = f"The target is named: {', '.join(named)}"
    return look.headline(fig, title), "; ".join(said) + "."
