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
from slugkit.evaluation.clip import cosine_matrix
from slugkit.evaluation.statistics import MEAN, WORST, tidy
from slugkit.method.directions import retain_aware_directions
from slugkit.method.layers import short
from slugkit.models import Clip
from slugkit.patch import Patch
from slugkit.unlearning.gradients import forget_gradient
from slugkit.unlearning.result import Result
from slugkit.unlearning.retain import RetainSide
from slugkit.unlearning.several import (
    SeveralScorer,
    as_table,
    curve_rows,
    interference,
    several_exam,
)
from slugkit.unlearning.together import joint_gradient, joint_step, own_steps, text_layers

Edits = dict[str, Patch]
"""Concept -> the patch that forgets it."""
GROUPS = {
    "targets, FA@1": ("target", "FA@1", MEAN),
    "targets, FA@5": ("target", "FA@5", MEAN),
    "worst wording": ("target", "FA@5", WORST),
    "worst target": ("worst target", "FA@5", MEAN),
}
"""Groups of `curve_rows` about the targets -> group, metric and wording of the metrics table."""


def found_edits(result: Result) -> pd.DataFrame:
    """What was found for each concept: forgets, layer, rho (%), and how many layers were searched.

    Args:
        result: of `slugkit.unlearn` with several concepts and SLUG.
    """
    searched = result.table.groupby("concept")["layer"].nunique()
    rows = [
        {
            "forgets": c,
            "layer": short(e.layer),
            "rho (%)": 100 * e.rho,
            "layers searched": searched[c],
        }
        for c, e in result.patches.items()
    ]
    return pd.DataFrame(rows).round(1)


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
    scorer: SeveralScorer, two: list[str], edits: Edits, shown: int = 5
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
    near = [c for c in exam.exams[two[0]].neighbours if c in stay][:1]
    names = [*two, *near, *[c for c in stay if c not in near]][:shown]
    portraits = exam.pairs.images[[table.index[table == c][0] for c in names]]
    said = exam.prompts[domain].values()
    texts = [[text for classes in said for text in classes[c]] for c in names]
    before = cosine_matrix(scorer.clip, portraits, texts)
    with patch.all_applied([edits[c] for c in two if c in edits], scorer.clip.model):
        after = cosine_matrix(scorer.clip, portraits, texts)
    return before, after, names, portraits


def alone_and_both(scorer: SeveralScorer, two: list[str], edits: Edits) -> pd.DataFrame:
    """What the model does before any edit, with each edit alone, and with both.

    Returns:
        Rows of `SeveralScorer.table`, about the two, with the column `edits`; none for no concepts.
    """
    states: dict[str, list[str]] = {"before": []}
    states |= {f"edit of {c}": [c] for c in two} | ({"both": list(two)} if two else {})
    frames = []
    for state, gone in states.items() if two else ():
        with patch.all_applied([edits[c] for c in gone if c in edits], scorer.clip.model):
            frames.append(scorer.table(list(two)).assign(edits=state))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


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
    table = pd.concat([said, worst]).pivot(index=["who", "metric"], columns="edits", values="cell")
    order = [
        (w, m) for w in whose.unique() for m in dict.fromkeys([*said["metric"], *worst["metric"]])
    ]
    return table.loc[[row for row in order if row in table.index], list(rows["edits"].unique())]


def forgetting_curve(
    scorer: SeveralScorer, edits: Edits, points: int = 5, way: str = "SLUG, added"
) -> pd.DataFrame:
    """From no edit to all of them, in the order given and backwards.

    Args:
        points: numbers of concepts between one and all at which the model is examined.

    Returns:
        Rows of `curve_rows` with way and order ("first", "backwards"; "" without any edit).
    """
    names = list(edits)
    counts = np.unique(np.linspace(1, len(names), min(points, len(names))).round().astype(int))
    found = [curve_rows(scorer, names, [], way=way, order="").assign(count=0)]
    for order, listed in (("first", names), ("backwards", names[::-1])):
        for count in counts.tolist():
            gone = listed[:count]
            patches = [edits[c] for c in gone]
            found.append(curve_rows(scorer, gone, patches, way=way, order=order))
    return pd.concat(found, ignore_index=True)


def one_by_one(scorer: SeveralScorer, edits: Edits) -> pd.DataFrame:
    """`interference` of one edit at a time."""
    return interference(scorer, {concept: [edit] for concept, edit in edits.items()})


def pair_rows(scorer: SeveralScorer, edits: Edits, pairs: list[tuple[str, str]]) -> pd.DataFrame:
    """What two edits together do to their two targets, one row a pair.

    Returns:
        first, second; alike: cosine of the two mean picture features, of which the mean over all
        pictures is taken off, -1..1; same_layer; alone, both: FA@5, mean of the two, with the own
        edit alone and with both, 0..1.
    """
    exam, middle, rows = scorer.exam, scorer.v.mean(0), []
    mean = {c: scorer.v[torch.tensor(exam.shows(c))].mean(0) - middle for c in edits}

    def share(patches: list[Patch], asked: list[str]) -> float:
        with patch.all_applied(patches, scorer.clip.model):
            t = scorer.classes(dict.fromkeys(exam.domain(c) for c in asked))
        return float(np.mean([(scorer.of(c, t) < 5).mean() for c in asked]))

    own = {c: share([edits[c]], [c]) for pair in pairs for c in pair}
    for a, b in pairs:
        row = {"first": a, "second": b}
        row["alike"] = F.cosine_similarity(mean[a], mean[b], dim=0).item()
        row["same_layer"] = edits[a].layer == edits[b].layer
        row["alone"], row["both"] = (own[a] + own[b]) / 2, share([edits[a], edits[b]], [a, b])
        rows.append(row)
    return pd.DataFrame(rows)


def curve_metrics(curve: pd.DataFrame, names: list[str], model: str) -> pd.DataFrame:
    """Rows of the run's metrics table from the first order of a curve: before, and after as many
    edits as the table's concept says.
    """
    parts = []
    for count in sorted(set(curve["count"]) - {0}):
        label = names[0] if count == 1 else f"{names[0]} and {count - 1} more"
        at = curve[(curve["count"] == count) & (curve["order"] == "first")]
        for stage, found in (("after", at), ("before", curve[curve["count"] == 0])):
            if stage == "before" and count < len(names):
                continue
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
    value = rows.set_index(["edits", "concept", "group", "metric"])["value"].mul(100)
    two = rows.loc[rows["group"] == "target", "concept"].unique()
    said = []
    for c in two:
        alone = value[f"edit of {c}", c, "target", "FA@5"]
        both = value["both", c, "target", "FA@5"]
        word = "worse" if both > alone + 2 else "better" if both < alone - 2 else "as well"
        said.append(f"{c} is forgotten {word} (FA@5 {alone:.1f} % alone, {both:.1f} % with both)")
    rest = rows[rows["group"] != "target"].pivot(index="group", columns="edits", values="value")
    worst = (rest["both"] - rest["before"]).idxmin()
    print(
        f"{kind}: {'; '.join(said)}. The largest loss with both: {worst}, "
        f"{100 * rest.loc[worst, 'before']:.1f} % before, "
        f"{100 * rest.loc[worst, 'both']:.1f} % after."
    )


def say_sum(matrix: pd.DataFrame, curve: pd.DataFrame) -> None:
    """Prints what all edits together cost, beside the costliest single one.

    Args:
        matrix: of `one_by_one`.
        curve: of `forgetting_curve`.
    """
    count = curve["count"].max()
    last = curve[(curve["count"] == count) & (curve["order"] == "first")].set_index("group")
    single = matrix[matrix["group"] != "target"]
    single = single.pivot(index="forgotten", columns="measured", values="value")
    one, five = last.loc["targets, FA@1"], last.loc["targets, FA@5"]
    print(
        f"All {count} edits: the targets are the first answer in {100 * one['value']:.1f} % and"
        f" among the first five in {100 * five['value']:.1f} % (n {five['n']:.0f})."
    )
    for group in single:
        was, now = single.loc["nothing", group], last.loc[group, "value"]
        worst = single[group].drop("nothing")
        print(
            f"{group}: {100 * was:.1f} % before, {100 * worst.min():.1f} % with the costliest"
            f" single edit ({worst.idxmin()}), {100 * now:.1f} % with all."
        )


def retain_aware_edits(
    clip: Clip,
    source: Source,
    names: list[str],
    damping: float,
    forget_size: int = 120,
    retain_size: int = 2560,
    batch_size: int = 128,
    seed: int = 0,
) -> dict[str, list[Patch]]:
    """SLUG-R for several concepts on one layer of the text tower, in two ways.

    The joint step is searched on every matrix of the blocks; on the layer that wins, each concept's
    own step is searched as if the others were not there.

    Args:
        names: the concepts; no retain caption names one of them.
        damping: of the direction.
        forget_size, retain_size, batch_size, seed: as of `slugkit.unlearn`.

    Returns:
        "SLUG-R, added" -> one patch a concept; "SLUG-R, one joint step" -> one patch.

    Raises:
        SearchFailedError: no step on any layer forgets all of them.
    """
    layers = text_layers(clip, projection=False)
    forget = {c: source.forget_set(c, forget_size, seed) for c in names}
    own = {c: forget_gradient(clip, pairs, batch_size, layers) for c, pairs in forget.items()}
    moments = RetainSide(clip, source, names, retain_size, batch_size, seed).moments(layers)
    search = SeveralScorer(clip, several_exam(source, names, "search"))
    along = retain_aware_directions(joint_gradient(own.values()), moments, damping)
    joint, _ = joint_step(clip, search, names, along, layers)
    at = joint[0].layer
    here = {at: moments[at]}
    each = {c: retain_aware_directions({at: own[c][at]}, here, damping)[at] for c in names}
    added, _ = own_steps(clip, search, at, each)
    return {"SLUG-R, added": added, "SLUG-R, one joint step": joint}


def ways_beside(
    scorer: SeveralScorer, ways: dict[str, list[Patch]], metrics: pd.DataFrame
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
