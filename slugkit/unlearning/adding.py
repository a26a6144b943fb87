"""Edits of several concepts added up on one model, and read off: two of them, or one to all."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from slugkit import patch
from slugkit.base import SearchFailedError
from slugkit.data import Source
from slugkit.evaluation.clip import Classes, Scorer, cosine_matrix
from slugkit.evaluation.statistics import (
    LEAST_FOR_AN_INTERVAL,
    MEAN,
    WORST,
    bootstrap_mean,
    over_wordings,
    share,
    tidy,
)
from slugkit.method.layers import short
from slugkit.patch import Patch
from slugkit.unlearning.result import Result

Edits = dict[str, Patch]
"""Concept -> the patch that forgets it."""
GROUPS = {
    "targets, FA@1": ("target", "FA@1", MEAN),
    "targets, FA@5": ("target", "FA@5", MEAN),
    "worst target": ("worst target", "FA@5", MEAN),
    "worst wording": ("target", "FA@5", WORST),
}
"""Groups of `curve_rows` about the targets -> group, metric and wording of the metrics table."""
NUMBERS = ["value", "low", "high", "n"]


def found_edits(result: Result) -> pd.DataFrame:
    """What was found for each concept: forgets, layer, rho (%), and how many layers were searched.

    result: of `slugkit.unlearn` with several concepts and SLUG.
    """
    searched = result.table.groupby("concept")["layer"].nunique()
    rows = [
        (concept, short(edit.layer), 100 * edit.rho, searched[concept])
        for concept, edit in result.patches.items()
    ]
    columns = ["forgets", "layer", "rho (%)", "layers searched"]
    return pd.DataFrame(rows, columns=columns).round(1)


def two_and_twins(source: Source, names: list[str]) -> tuple[list[str], list[str]]:
    """Two of the names who are unrelated, and two who are twins.

    Returns:
        The first name, and the next who has no twin here and where neither is among the other's
        neighbours (or the second name, where there is none); then the first two of whom each is the
        other's nearest neighbour, or nothing.

    Raises:
        SearchFailedError: fewer than two names.
    """
    if len(names) < 2:
        raise SearchFailedError(
            f"There is an edit for {', '.join(names) or 'none'} of the concepts; two or more were"
            " expected to be added. Name other `concepts`, or search all layers."
        )
    near = {name: list(source.neighbours(name)) for name in names}
    pairs = list(combinations(names, 2))
    twins = [[a, b] for a, b in pairs if near[a][:1] == [b] and near[b][:1] == [a]]
    double = {name for pair in twins for name in pair}
    first = names[0]
    apart = [c for c in names[1:] if c not in near[first] and first not in near[c]]
    others = [c for c in apart if c not in double] + apart + names[1:]
    return [first, others[0]], twins[0] if twins else []


def cosines(
    scorer: Scorer, two: list[str], edits: Edits, shown: int = 5
) -> tuple[np.ndarray, np.ndarray, list[str], np.ndarray]:
    """Every name's text with every portrait, before and after both edits.

    Args:
        two: the concepts that are forgotten; a neighbour of the first and others of the domain, who
            stay, fill up the list.
        edits: those of the two are applied; one that is missing is left out.
        shown: names, at most.

    Returns:
        Cosines before and after, (names, names); the names; a portrait of each, (names, H, W, 3).
    """
    exam, domain = scorer.exam, scorer.exam.domain(two[0])
    table = exam.pairs.table["style" if domain == "styles" else "concept"]
    stay = [c for c in exam.classes(domain) if c not in exam.concepts and c in set(table)]
    near = [c for c in exam.targets[two[0]].neighbours if c in stay][:1]
    names = [*two, *near, *[c for c in stay if c not in near]][:shown]
    portraits = exam.pairs.images[[table.index[table == c][0] for c in names]]
    said = exam.prompts[domain].values()
    texts = [[text for classes in said for text in classes[c]] for c in names]
    before = cosine_matrix(scorer.clip, portraits, texts)
    with patch.all_applied([edits[c] for c in two if c in edits], scorer.clip.model):
        after = cosine_matrix(scorer.clip, portraits, texts)
    return before, after, names, portraits


def _tables(scorer: Scorer, names: list[str], states: dict[str, list[Patch]]) -> pd.DataFrame:
    """Rows of `Scorer.table` under each state's patches, the state's name in the column `edits`."""
    frames = []
    for state, patches in states.items():
        with patch.all_applied(patches, scorer.clip.model):
            frames.append(scorer.table(names).assign(edits=state))
    return pd.concat(frames, ignore_index=True)


def alone_and_both(scorer: Scorer, two: list[str], edits: Edits) -> pd.DataFrame:
    """What the model does before any edit, with each edit alone, and with both.

    Returns:
        Rows of `Scorer.table`, about the two, with the column `edits`; none for no concepts.
    """
    if not two:
        return pd.DataFrame()
    mine = {c: [edits[c]] if c in edits else [] for c in two}
    alone = {f"edit of {c}": patches for c, patches in mine.items()}
    return _tables(scorer, two, {"before": [], **alone, "both": sum(mine.values(), [])})


def interference(scorer: Scorer, edits: Edits) -> pd.DataFrame:
    """Who pays for whom: every concept's accuracy, and that of the groups, without an edit and with
    each one. The model is left as it was.

    Returns:
        Columns forgotten ("nothing" first), measured (a concept or a group of what is none of the
        exam's concepts), group (target or the group), value (top-1, mean over the wordings), low,
        high, n.
    """
    states = {"nothing": [], **{concept: [edit] for concept, edit in edits.items()}}
    found = _tables(scorer, scorer.exam.concepts, states)
    found = found[found["metric"] != "FA@5"].rename(columns={"edits": "forgotten"})
    measured = found["concept"].where(found["concept"] != "", found["group"])
    columns = ["forgotten", "measured", "group", *NUMBERS]
    return found.assign(measured=measured)[columns].reset_index(drop=True)


def beside(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of `alone_and_both` to read: a column for each state, cells 'value [low, high] (n)' in
    percent; for a target also the wording in which it is recognised most.
    """
    if rows.empty:
        return pd.DataFrame()
    whose = rows["concept"].where(rows["concept"] != "", rows["group"])
    percent = rows[["value", "low", "high"]].mul(100).round(1).astype(str)
    cell = percent["value"] + " [" + percent["low"] + ", " + percent["high"] + "]"
    said = pd.DataFrame({"who": whose, "metric": rows["metric"], "edits": rows["edits"]})
    said["cell"] = cell + " (" + rows["n"].astype(int).astype(str) + ")"
    five = rows["metric"] == "FA@5"
    worst = said[five].assign(metric="FA@5, worst wording")
    worst["cell"] = rows.loc[five, "worst"].mul(100).round(1).astype(str)
    both = pd.concat([said, worst])
    table = both.pivot(index=["who", "metric"], columns="edits", values="cell")
    order = pd.MultiIndex.from_product([whose.unique(), both["metric"].unique()])
    return table.loc[[row for row in order if row in table.index], list(rows["edits"].unique())]


def curve_rows(
    scorer: Scorer, forgotten: list[str], patches: list[Patch], **labels
) -> pd.DataFrame:
    """One point of the curve over the number of concepts: the targets taken together, the one that
    is recognised most, the wording in which they are recognised most, and the groups.

    Args:
        labels: further columns, such as way="sum".

    Returns:
        Columns count, group (those of GROUPS, then the groups), of (whose, or which, the worst is),
        value, low, high, n. Means over the wordings but for the worst one; from five concepts up
        the intervals of the targets taken together cover the spread over concepts too.
    """
    with patch.all_applied(patches, scorer.clip.model):
        t = scorer.classes()
    found = scorer.table(forgotten, t)
    rest = found[found["group"] != "target"]
    rows = _target_rows(scorer, found[found["group"] == "target"], t) if forgotten else []
    rows += rest[["group", *NUMBERS]].assign(of="").to_dict("records")
    return pd.DataFrame(rows).assign(count=len(forgotten), **labels)


def _target_rows(scorer: Scorer, targets: pd.DataFrame, t: Classes) -> list[dict]:
    """The rows of `curve_rows` about what is forgotten. targets: of `Scorer.table`."""
    rows, asked = [], {}
    by_domain: dict[str, list[np.ndarray]] = {}
    for c in targets["concept"].unique():
        by_domain.setdefault(scorer.exam.domain(c), []).append(scorer.of(c, t))
    together = {domain: np.concatenate(r, axis=1) for domain, r in by_domain.items()}
    for k in (1, 5):
        parts = pd.DataFrame([over_wordings(r < k) for r in together.values()])
        mean = {key: np.average(parts[key], weights=parts["n"]) for key in NUMBERS[:3]}
        each = targets.loc[targets["metric"] == f"FA@{k}", "value"]
        if len(each) >= LEAST_FOR_AN_INTERVAL:
            less, more = bootstrap_mean(each)
            mean |= {"low": min(mean["low"], less), "high": max(mean["high"], more)}
        rows.append({"group": f"targets, FA@{k}", "of": "", **mean, "n": int(parts["n"].sum())})
    for d, r in together.items():
        asked |= {w: share(hits) for w, hits in zip(scorer.exam.prompts[d], r < 5, strict=True)}
    five = targets[targets["metric"] == "FA@5"]
    worst = five.loc[five["value"].idxmax()]
    wording = max(asked, key=lambda w: asked[w]["value"])
    rows.append({"group": "worst target", "of": worst["concept"], **worst[NUMBERS]})
    rows.append({"group": "worst wording", "of": wording, **asked[wording]})
    return rows


def as_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of `curve_rows` with a column `way` as a table to read: one line a way, accuracies in
    percent, the targets first.
    """
    table = rows.pivot_table(index="way", columns="group", values="value", sort=False)
    first = [g for g in (*GROUPS, "neighbours") if g in table]
    others = [group for group in table if group not in first]
    return table[[*first, *others]].mul(100).round(1).rename_axis(columns=None)


def forgetting_curve(scorer: Scorer, edits: Edits) -> pd.DataFrame:
    """Rows of `curve_rows` from no edit to all of them, at up to five numbers of these, with way
    and order ("first" as given, "backwards"; "" without any edit).
    """
    names, way = list(edits), "SLUG, added"
    counts = np.unique(np.linspace(1, len(names), min(5, len(names))).round().astype(int))
    found = [curve_rows(scorer, names, [], way=way, order="").assign(count=0)]
    for order, listed in (("first", names), ("backwards", names[::-1])):
        for count in counts.tolist():
            patches = [edits[c] for c in listed[:count]]
            found.append(curve_rows(scorer, listed[:count], patches, way=way, order=order))
    return pd.concat(found, ignore_index=True)


def pair_rows(scorer: Scorer, edits: Edits, pairs: list[tuple[str, str]]) -> pd.DataFrame:
    """What two edits together do to their two targets, one row a pair.

    Returns:
        first, second; alike: cosine of the two mean picture features, of which the mean over all
        pictures is taken off, -1..1; same_layer; alone, both: FA@5, mean of the two, with the own
        edit alone and with both, 0..1.
    """
    exam, middle, rows = scorer.exam, scorer.v.mean(0), []
    mean = {c: scorer.v[torch.tensor(exam.shows(c))].mean(0) - middle for c in edits}

    def share_of(*asked: str) -> float:
        with patch.all_applied([edits[c] for c in asked], scorer.clip.model):
            t = scorer.classes(dict.fromkeys(exam.domain(c) for c in asked))
        return float(np.mean([(scorer.of(c, t) < 5).mean() for c in asked]))

    own = {c: share_of(c) for pair in pairs for c in pair}
    for a, b in pairs:
        row = {"first": a, "second": b}
        row["alike"] = F.cosine_similarity(mean[a], mean[b], dim=0).item()
        row["same_layer"] = edits[a].layer == edits[b].layer
        rows.append(row | {"alone": (own[a] + own[b]) / 2, "both": share_of(a, b)})
    return pd.DataFrame(rows)


def curve_metrics(curve: pd.DataFrame, names: list[str], model: str) -> pd.DataFrame:
    """Rows of the run's metrics table from the first order of a curve: before, and after as many
    edits as the table's concept says.
    """
    parts, counts = [], sorted(set(curve["count"]) - {0})
    for count in counts:
        label = names[0] if count == 1 else f"{names[0]} and {count - 1} more"
        stages = {"after": curve[(curve["count"] == count) & (curve["order"] == "first")]}
        if count == len(names):
            stages["before"] = curve[curve["count"] == 0]
        for stage, found in stages.items():
            said = [GROUPS.get(g, (g, "accuracy", MEAN)) for g in found["group"]]
            named = pd.DataFrame(said, columns=["group", "metric", "wording"], index=found.index)
            parts.append(tidy(found.assign(**named), "clip", label, stage, "SLUG", model))
    return pd.concat(parts, ignore_index=True)


def say_pair(kind: str, rows: pd.DataFrame) -> None:
    """Prints what two edits did to their targets and to those who stay.

    Args:
        kind: "unrelated" or "twins".
        rows: of `alone_and_both`; none says that there is no such pair.
    """
    if rows.empty:
        print(f"{kind}: none of the concepts are, so there is nothing to say.")
        return
    percent = rows.assign(value=100 * rows["value"])
    five, said = percent[percent["metric"] == "FA@5"], []
    for c, found in five.groupby("concept", sort=False):
        value = found.set_index("edits")["value"]
        alone, both = value[f"edit of {c}"], value["both"]
        word = "worse" if both > alone + 2 else "better" if both < alone - 2 else "as well"
        said.append(f"{c} is forgotten {word} (FA@5 {alone:.1f} % alone, {both:.1f} % with both)")
    rest = percent[percent["group"] != "target"]
    rest = rest.pivot(index="group", columns="edits", values="value")
    worst = (rest["both"] - rest["before"]).idxmin()
    was, now = rest.loc[worst, ["before", "both"]]
    print(
        f"{kind}: {'; '.join(said)}. The largest loss with both: {worst}, {was:.1f} % before, "
        f"{now:.1f} % after."
    )


def say_sum(matrix: pd.DataFrame, curve: pd.DataFrame) -> None:
    """Prints what all edits together cost, beside the costliest single one.

    Args:
        matrix: of `interference`.
        curve: of `forgetting_curve`.
    """
    count = curve["count"].max()
    last = curve[(curve["count"] == count) & (curve["order"] == "first")].set_index("group")
    value = 100 * last["value"]
    print(
        f"All {count} edits: the targets are the first answer in {value['targets, FA@1']:.1f} % and"
        f" among the first five in {value['targets, FA@5']:.1f} % (n"
        f" {last.loc['targets, FA@5', 'n']:.0f})."
    )
    single = matrix[matrix["group"] != "target"]
    for group, each in single.groupby("measured"):
        each = 100 * each.set_index("forgotten")["value"].sort_index()
        alone = each.drop("nothing")
        print(
            f"{group}: {each['nothing']:.1f} % before, {alone.min():.1f} % with the costliest"
            f" single edit ({alone.idxmin()}), {value[group]:.1f} % with all."
        )


def ways_beside(
    scorer: Scorer, ways: dict[str, list[Patch]], metrics: pd.DataFrame
) -> pd.DataFrame:
    """The report of several ways as a table to read, the model before and SLUG's sum first.

    Args:
        ways: name -> its patches.
        metrics: what notebook 08 left (`curve_metrics`): SLUG's edits, all added.

    Returns:
        One line a way, accuracies in percent.
    """
    names, back = scorer.exam.concepts, {said: group for group, said in GROUPS.items()}
    last = metrics[metrics["stage"] == "after"]
    last = last[last["concept"] == last["concept"].iloc[-1]]
    keys = zip(last["group"], last["metric"], last["wording"])
    slug = last.assign(group=[back.get(key, key[0]) for key in keys], way="SLUG, added")
    before = curve_rows(scorer, names, [], way="before")
    rows = [curve_rows(scorer, names, patches, way=way) for way, patches in ways.items()]
    return as_table(pd.concat([before, slug[["group", "value", "way"]], *rows]))
