"""One concept from a loaded model to its patches and the numbers that are reported."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from time import perf_counter

import numpy as np
import pandas as pd
import torch

from slugkit import patch
from slugkit.base import SearchFailedError, as_file_name, look_for, peak_memory, require_choice
from slugkit.data import Exam, Pairs, Source
from slugkit.evaluate.clip import evaluate_clip
from slugkit.evaluate.statistics import above_chance, wilson
from slugkit.method.directions import retain_aware_directions
from slugkit.method.edit import EditableLayer
from slugkit.method.layers import EXCLUDE, candidates, layer_table, weight_of
from slugkit.method.ranking import cosine_noise, front_share, rank_layers
from slugkit.method.search import Criterion, search_front, winner
from slugkit.models import Clip, load_clip, model_folder
from slugkit.models.clip import WEIGHTS
from slugkit.models.hub import read_json
from slugkit.unlearn.gradients import forget_gradient
from slugkit.unlearn.objectives import FastMeasure, FixedFeatures
from slugkit.unlearn.retain import RetainSide

METHODS = ("SLUG", "SLUG-R")
"""The paper's method, and ours: the same but for the direction of the step (`retain_aware`) and
MARGIN.
"""
DAMPING = 0.01
"""SLUG-R's damping; `ci/damping.py` compares it with others on concepts that are no report
concepts.
"""
MARGIN = {"text": 1.25, "vision": 1.0}
"""How many times the step that its search found SLUG-R takes, by tower: an edit of the text tower
has to hold in words that no search asked.

`ci/damping.py` compares margins too.
"""


@dataclass
class Forgetting:
    """What one method found for one concept: the ranked layers, every probe, the winning patches,
    and what it took.

    which: on which layers, the "front" or "all" candidates. patches: tower -> the winner. failed:
    tower -> why it has no patch. g_forget: the forget gradient by weight; directions: what was
    stepped along, by layer searched. costs: pairs seen forwards and backwards, probes, seconds in
    all, peak memory of the process in MB; seconds: by stage. at_most: that of the search's
    criterion.
    """

    concept: str
    method: str
    layers: pd.DataFrame
    probes: pd.DataFrame
    patches: dict[str, patch.Patch] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    costs: dict[str, float] = field(default_factory=dict)
    g_forget: dict[str, torch.Tensor] = field(default_factory=dict, repr=False)
    directions: dict[str, torch.Tensor] = field(default_factory=dict, repr=False)
    which: str = "front"
    at_most: float = 0.0

    def choose(self, clip: Clip) -> Forgetting:
        """Itself, with the winning patch of every tower that was searched."""
        self.patches, self.failed = {}, {}
        for tower in dict.fromkeys(self.probes["tower"]):
            try:
                given = self.directions, self.probes, tower, self.concept, {"method": self.method}
                self.patches[tower] = winning_patch(clip, *given, self.at_most)
            except SearchFailedError as error:
                self.failed[tower] = str(error)
        return self

    def on_front(self, clip: Clip) -> Forgetting:
        """What the same search would have found on the layers of the front alone, at the cost of
        their probes.
        """
        probes = self.probes[self.probes["layer"].isin(front_layers(self.layers))]
        costs = self.costs | {"probes": len(probes), "seconds": np.nan}
        return replace(self, probes=probes, costs=costs, which="front").choose(clip)


def score_layers(
    clip: Clip,
    g_forget: dict,
    g_retain: dict,
    exclude=EXCLUDE,
    layers=(),
    split_qkv: bool = False,
    parts=(),
) -> pd.DataFrame:
    """The whole layer table with importance, cosine, alignment, front, noise and front_share;
    layers that are no candidates have NaN.

    parts: the retain gradients of the parts of the retain set, from which the noise of the cosine
    comes, and from it front_share (`slugkit.method.ranking`).
    """
    table = layer_table(clip.model, exclude, layers, split_qkv)
    names = candidates(table)
    weights = {n: p.detach() for n, p in clip.model.named_parameters()}
    towers = dict(zip(table["layer"], table["tower"]))
    theta, g_f, g_r = ({n: weight_of(ts, n) for n in names} for ts in (weights, g_forget, g_retain))
    scores = rank_layers(theta, g_f, g_r, towers)
    scores["noise"] = [cosine_noise(g_f[n], [weight_of(p, n) for p in parts]) for n in names]
    scores["front_share"] = front_share(scores).to_numpy()
    columns = ["layer", "importance", "cosine", "alignment", "front", "noise", "front_share"]
    table = table.merge(scores[columns], on="layer", how="left")
    table["front"] = table["front"].eq(True)
    return table


def front_layers(table: pd.DataFrame, tower: str | None = None, which: str = "front") -> list[str]:
    """Names of the layers that are searched, of one tower or of both: those on the Pareto front
    (the paper's rule), or "all" candidates.
    """
    on = table["candidate"] if which == "all" else table["front"]
    return table.loc[on & ((table["tower"] == tower) if tower else True), "layer"].tolist()


def require_known(
    shares: dict[str, float],
    known: float,
    pictures: int,
    concept: str,
    criterion: Criterion,
    classes: int,
) -> None:
    """Raises SearchFailedError where the model as it stands does not know the concept, so that any
    step would seem to forget: it meets the criterion already, or tells the concept from the others
    no better than by chance. shares: fa1 and fa5 in their worst wording, 0..1. known: FA@1, mean
    over the wordings, 0..1, over `pictures`. classes: how many the concept stands among.
    """
    if criterion.forgotten(shares):
        raise SearchFailedError(
            f"Before any edit the model recognises {concept!r} in "
            f"{100 * criterion.value(shares):.1f} % of its {pictures} search pictures "
            f"({criterion.name}, in the wording in which it is largest); more than "
            f"{100 * criterion.at_most:g} % was expected, or there is nothing to forget. Choose a "
            "concept that the model knows, or a model that knows it; random weights know none."
        )
    hits = round(pictures * known)
    if not above_chance(hits, pictures, classes):
        raise SearchFailedError(
            f"Before any edit the model is right about {hits} of the {pictures} search pictures "
            f"of {concept!r}, which is no more than chance among {classes} "
            "classes (the 95 % interval begins at "
            f"{100 * wilson(hits, pictures)[0]:.1f} %, chance is "
            f"{100 / classes:.1f} %), so forgetting could not be "
            "told from guessing. Choose a concept that the model knows, "
            "a model that knows it, or add search pictures."
        )


def search_layers(
    clip: Clip,
    exam: Exam,
    directions: dict,
    layers: list[str],
    criterion: Criterion | None = None,
    lam_init: float = 0.0,
    max_trials: int = 10,
    make_measure=None,
    margins: dict[str, float] | None = None,
) -> pd.DataFrame:
    """Search the step on each layer with the fast measure on the search exam.

    Returns the table of all probes.

    directions: layer, or weight, -> what is stepped along. criterion: None takes `Criterion.among`
    the target's classes. margins: as of `search_front`. Raises SearchFailedError, before any step,
    where the unedited model does not know the concept (not looked at with a `make_measure` of one's
    own).
    """
    classes = len(exam.classes(exam.target_domain))
    criterion = criterion or Criterion.among(classes)
    if make_measure is None:
        fixed = FixedFeatures(clip, exam, layers)
        v, t, scorer = fixed.images, fixed.classes, fixed.scorer
        shares, known = scorer.forget(v, t), scorer.known(v, t)
        require_known(shares, known, len(scorer.target_rows), exam.concept, criterion, classes)
        make_measure = lambda layer: FastMeasure(fixed, layer)  # noqa: E731
    return search_front(
        layers,
        lambda layer: EditableLayer.of(clip.model, layer, _along(directions, layer)),
        make_measure,
        criterion,
        lam_init,
        max_trials,
        margins,
    )


def _along(directions: dict[str, torch.Tensor], layer: str) -> torch.Tensor:
    """The direction of a layer, which may stand under its own name or, as a part, under its
    weight's.
    """
    return directions[layer] if layer in directions else weight_of(directions, layer)


def winning_patch(
    clip: Clip,
    directions: dict,
    probes: pd.DataFrame,
    tower: str,
    concept: str,
    provenance: dict | None = None,
    at_most: float = 0.0,
) -> patch.Patch:
    """The patch of a tower's winner.

    directions: as of `search_layers`. at_most: that of the search's criterion. Raises
    SearchFailedError when no layer of the tower forgot.
    """
    best = winner(probes, tower, at_most)
    editable = EditableLayer.of(clip.model, best["layer"], _along(directions, best["layer"]))
    metrics = {
        k: float(best[k])
        for k in best.index
        if k in ("forget", "retain") or k.startswith("retain_")
        if np.isfinite(best[k])
    }
    return patch.make(
        best["layer"],
        editable,
        float(best["lam"]),
        concept,
        tower=tower,
        model=clip.model,
        metrics={"split": "search", **metrics},
        provenance=provenance or {},
    )


def forget_concept(
    clip: Clip,
    source: Source,
    concept: str,
    method: str = "SLUG",
    *,
    forget_size: int = 120,
    retain_size: int = 2560,
    batch_size: int = 128,
    seed: int = 0,
    target: str = "auto",
    max_trials: int = 10,
    which: str = "front",
    damping: float = DAMPING,
    margins: dict[str, float] | None = None,
    towers: tuple[str, ...] = ("text", "vision"),
    shared: RetainSide | None = None,
    ranked: Forgetting | None = None,
) -> Forgetting:
    """Gradients, ranking and search over both fronts for one concept; the model is left as it was.

    method: SLUG or SLUG-R, with the same probes. which: "front", or "all" candidates. damping,
    margins: of SLUG-R; None takes MARGIN. shared: a retain side that serves several concepts.
    ranked: what another method found, whose gradient and ranking are taken over, at the same cost.
    """
    require_choice(method, METHODS, "The method")
    laps, clock = {}, perf_counter()
    with peak_memory() as peak:
        exam = source.exam(concept, "search")
        forget: Pairs = source.forget_set(concept, forget_size, seed)
        side = shared or RetainSide(clip, source, [concept], retain_size, batch_size, seed)
        side.require(concept)
        clock = _lap(laps, "data", clock)
        g_forget = ranked.g_forget if ranked else forget_gradient(clip, forget, batch_size)
        g_retain = side.gradient
        clock = _lap(laps, "gradients", clock)
        layers = (
            ranked.layers if ranked else score_layers(clip, g_forget, g_retain, parts=side.parts)
        )
        names = [layer for tower in towers for layer in front_layers(layers, tower, which)]
        clock = _lap(laps, "ranking", clock)
        along, margins = g_forget, (margins or MARGIN) if method == "SLUG-R" else None
        if method == "SLUG-R":
            along = retain_aware_directions(g_forget, side.moments(names), damping)
        clock = _lap(laps, "direction", clock)
        criterion = Criterion.among(len(exam.classes(exam.target_domain)), target)
        probes = search_layers(
            clip, exam, along, names, criterion, max_trials=max_trials, margins=margins
        )
        _lap(laps, "search", clock)
    costs = {"pairs": len(forget) + side.pairs_seen, "probes": len(probes)}
    costs |= {"seconds": sum(laps.values()), "peak_mb": peak[0]}
    kept = {"g_forget": g_forget, "directions": along, "which": which}
    return Forgetting(concept, method, layers, probes, seconds=laps, costs=costs, **kept).choose(
        clip
    )


def _lap(laps: dict[str, float], stage: str, since: float) -> float:
    """Note the seconds since then; returns now."""
    now = perf_counter()
    laps[stage] = now - since
    return now


def report_metrics(
    clip: Clip, source: Source, found: list[Forgetting], per_style: int = 0
) -> pd.DataFrame:
    """Report-split rows before and after the patches of every method, with the columns method,
    tower and layers; the oracle's where one was trained.

    found: one a method and set of layers, all about one concept.
    """
    concept = found[0].concept
    exam = source.exam(concept, "report", per_style)
    v = clip.image_features(exam.pairs.images)
    parts, known = [evaluate_clip(clip, exam, "before", "", v).assign(tower="", layers="")], {}
    for each in found:
        for tower, edit in each.patches.items():
            if edit.sha256 not in known:
                with patch.applied(edit, clip.model):
                    unmoved = v if tower == "text" else None
                    known[edit.sha256] = evaluate_clip(clip, exam, "after", each.method, unmoved)
            parts.append(known[edit.sha256].assign(tower=tower, layers=each.which))
    oracle = load_oracle(clip, concept)
    if oracle is not None:
        parts.append(evaluate_clip(oracle, exam, "oracle", "").assign(tower="", layers=""))
    return pd.concat(parts, ignore_index=True)


def load_oracle(clip: Clip, concept: str) -> Clip | None:
    """The same recipe trained without the concept, if there is one beside the model's own folder;
    else None.

    It goes by the model's own name (`source`), so that its rows stand beside the model's in every
    table.
    """
    folder = model_folder(clip.source)
    if folder is None:
        return None
    beside = look_for(folder.with_name(f"{folder.name}-without-{as_file_name(concept)}"))
    if not (beside / WEIGHTS).is_file():
        return None
    without = read_json(beside / "model_card.json").get("without", concept)
    if without != concept:  # another name that is written alike in a path
        print(
            f"The folder {beside.name} was trained without {without!r}, not without {concept!r}; "
            "it is not compared with."
        )
        return None
    return replace(load_clip(str(beside), clip.device.type), source=clip.source)
