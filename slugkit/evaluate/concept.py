"""One concept from a loaded model to its patches and the numbers that are reported."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from time import perf_counter

import numpy as np
import pandas as pd
import torch

from slugkit import patch
from slugkit.base import SearchFailedError, as_file_name, look_for
from slugkit.data import Exam, Pairs, Source
from slugkit.evaluate.clip import evaluate_clip
from slugkit.evaluate.measure import FastMeasure, FixedFeatures
from slugkit.evaluate.retain import RetainGradients
from slugkit.evaluate.statistics import above_chance, wilson
from slugkit.gradients import forget_gradient
from slugkit.models import Clip, load_clip, model_folder
from slugkit.models.clip import WEIGHTS
from slugkit.models.hub import read_json
from slugkit.models.layers import EXCLUDE, candidates, layer_table, weight_of
from slugkit.ranking import front_share, rank_layers
from slugkit.search import Criterion, EditableLayer, search_front, winner


@dataclass
class Forgetting:
    """What SLUG found for one concept: the ranked layers, every probe, the winning patches, and the seconds.

    patches: tower -> the winner among the layers on the front of any retain draw. first: the same for the first draw's
    front alone (the paper's rule). failed: tower -> why it has no patch. g_forget: the forget gradient by weight.
    """

    concept: str
    layers: pd.DataFrame
    probes: pd.DataFrame
    patches: dict[str, patch.Patch] = field(default_factory=dict)
    first: dict[str, patch.Patch] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    g_forget: dict[str, torch.Tensor] = field(default_factory=dict, repr=False)


def score_layers(clip: Clip, g_forget: dict, g_retain: dict, exclude=EXCLUDE, layers=(), split_qkv: bool = False, draws=()) -> pd.DataFrame:
    """The whole layer table with importance, cosine, alignment, front and front_share; layers that are no candidates have NaN.

    draws: retain gradients of further draws; front_share is the share of all draws, the first one included, in which a
    layer is on its tower's front.
    """
    table = layer_table(clip.model, exclude, layers, split_qkv)
    names = candidates(table)
    weights = {n: p.detach() for n, p in clip.model.named_parameters()}
    towers = dict(zip(table["layer"], table["tower"]))
    theta, g_f, *g_rs = ({n: weight_of(tensors, n) for n in names} for tensors in (weights, g_forget, g_retain, *draws))
    scores = rank_layers(theta, g_f, g_rs[0], towers)[["layer", "importance", "cosine", "alignment", "front"]]
    table = table.merge(scores, on="layer", how="left")
    table["front"] = table["front"].eq(True)
    table["front_share"] = table["layer"].map(front_share(theta, g_f, g_rs, towers))
    return table


def front_layers(table: pd.DataFrame, tower: str | None = None, draws: str = "any") -> list[str]:
    """Names of the layers on the Pareto front, of one tower or of both.

    draws: "any" takes the front of every retain draw, since tiny alignments change places from draw to draw; "first"
    the front of the first draw alone, which is the paper's rule; "all" every candidate, whether on a front or not.
    """
    on = {"any": table["front_share"] > 0, "first": table["front"], "all": table["candidate"]}[draws]
    return table.loc[on & ((table["tower"] == tower) if tower else True), "layer"].tolist()


def require_known(
    shares: dict[str, float], pictures: int, concept: str, criterion: Criterion, classes: int
) -> None:
    """Raises SearchFailedError where the model as it stands does not know the concept, so that any
    step would seem to forget: it meets the criterion already, or tells the concept from the others
    no better than by chance. shares: fa1 and fa5, 0..1, over `pictures`. classes: how many the
    concept stands among.
    """
    if criterion.forgotten(shares):
        raise SearchFailedError(f"Before any edit the model recognises {concept!r} in {100 * criterion.value(shares):.1f} % of its {pictures} search pictures "
                                f"({criterion.target.upper()[:2]}@{criterion.target[2:]}); more than {100 * criterion.at_most:g} % was expected, or there is nothing to "
                                "forget. Choose a concept that the model knows, or a model that knows it; random weights know none.")
    hits = round(pictures * shares["fa1"])
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


def search_layers(clip: Clip, exam: Exam, g_forget: dict, layers: list[str], criterion: Criterion, lam_init: float = 0.0,
                  max_trials: int = 10, make_measure=None) -> pd.DataFrame:
    """Search the step on each layer with the fast measure on the search exam. Returns the table of all probes.

    Raises SearchFailedError, before any step, where the unedited model does not know the concept (not looked at with a `make_measure` of one's own).
    """
    if make_measure is None:
        fixed = FixedFeatures(clip, exam, layers)
        require_known(
            fixed.scorer.forget(fixed.images, fixed.classes),
            len(fixed.scorer.target_rows),
            exam.concept,
            criterion,
            len(exam.prompts[exam.target_domain]),
        )
        make_measure = lambda layer: FastMeasure(fixed, layer)  # noqa: E731
    return search_front(layers, lambda layer: EditableLayer.of(clip.model, layer, weight_of(g_forget, layer)), make_measure,
                        criterion, lam_init, max_trials)


def winning_patch(clip: Clip, g_forget: dict, probes: pd.DataFrame, tower: str, concept: str, provenance: dict | None = None,
                  at_most: float = 0.0) -> patch.Patch:
    """The patch of a tower's winner. at_most: that of the search's criterion. Raises SearchFailedError when no layer of the tower forgot."""
    best = winner(probes, tower, at_most)
    editable = EditableLayer.of(clip.model, best["layer"], weight_of(g_forget, best["layer"]))
    metrics = {k: float(best[k]) for k in best.index if k in ("forget", "retain") or k.startswith("retain_")
               if np.isfinite(best[k])}
    return patch.make(best["layer"], editable, float(best["lam"]), concept, tower=tower, model=clip.model,
                      metrics={"split": "search", **metrics}, provenance=provenance or {})


def forget_concept(clip: Clip, source: Source, concept: str, *, forget_size: int = 120, retain_size: int = 512, batch_size: int = 128,
                   retain_draws: int = 5, seed: int = 0, target: str = "fa1", max_trials: int = 10,
                   towers: tuple[str, ...] = ("text", "vision"), shared: RetainGradients | None = None) -> Forgetting:
    """Gradients, ranking and search over both fronts for one concept. Nothing is reported here; the model is left as it was.

    retain_draws: retain sets of `retain_size` pairs whose fronts are searched; 1 is the paper's rule. towers: those that are searched. shared: retain
    gradients that serve several concepts, in the place of this one's own draws.
    """
    started = perf_counter()
    exam = source.exam(concept, "search")
    forget: Pairs = source.forget_set(concept, forget_size, seed)
    shared = shared or RetainGradients(clip, source, [concept], retain_size, batch_size, retain_draws, seed)
    seconds = {"data": perf_counter() - started}
    started = perf_counter()
    g_forget = forget_gradient(clip, forget, batch_size)
    g_retain = shared.of(concept)
    seconds["gradients"] = perf_counter() - started
    started = perf_counter()
    layers = score_layers(clip, g_forget, g_retain[0], draws=g_retain[1:])
    seconds["ranking"] = perf_counter() - started
    started = perf_counter()
    front = [layer for tower in towers for layer in front_layers(layers, tower)]
    probes = search_layers(clip, exam, g_forget, front, Criterion(target), max_trials=max_trials)
    seconds["search"] = perf_counter() - started
    result = Forgetting(concept, layers, probes, seconds=seconds, g_forget=g_forget)
    first = probes[probes["layer"].isin(front_layers(layers, draws="first"))]
    for tower in towers:
        try:
            result.patches[tower] = winning_patch(clip, g_forget, probes, tower, concept)
        except SearchFailedError as error:
            result.failed[tower] = str(error)
        if (first["chosen"] & (first["tower"] == tower)).any():
            result.first[tower] = winning_patch(clip, g_forget, first, tower, concept)
    return result


def report_metrics(clip: Clip, source: Source, found: Forgetting, per_style: int = 0) -> pd.DataFrame:
    """Report-split rows before and after each patch, with the columns tower and draws; the oracle's where one was trained.

    draws: "any" or "first", as in `front_layers`: among which layers the patch is the winner.
    """
    exam = source.exam(found.concept, "report", per_style)
    v = clip.image_features(exam.pairs.images)
    parts, known = [evaluate_clip(clip, exam, "before", v=v).assign(tower="", draws="")], {}
    for draws, patches in (("any", found.patches), ("first", found.first)):
        for tower, edit in patches.items():
            if edit.sha256 not in known:
                with patch.applied(edit, clip.model):
                    known[edit.sha256] = evaluate_clip(clip, exam, "after", v=v if tower == "text" else None)
            parts.append(known[edit.sha256].assign(tower=tower, draws=draws))
    oracle = load_oracle(clip, found.concept)
    if oracle is not None:
        parts.append(evaluate_clip(oracle, exam, "oracle").assign(tower="", draws=""))
    return pd.concat(parts, ignore_index=True)


def load_oracle(clip: Clip, concept: str) -> Clip | None:
    """The same recipe trained without the concept, if there is one beside the model's own folder; else None.

    It goes by the model's own name (`source`), so that its rows stand beside the model's in every table.
    """
    folder = model_folder(clip.source)
    if folder is None:
        return None
    beside = look_for(folder.with_name(f"{folder.name}-without-{as_file_name(concept)}"))
    if not (beside / WEIGHTS).is_file():
        return None
    without = read_json(beside / "model_card.json").get("without", concept)
    if without != concept:  # another name that is written alike in a path
        print(f"The folder {beside.name} was trained without {without!r}, not without {concept!r}; "
              "it is not compared with.")
        return None
    return replace(load_clip(str(beside), clip.device.type), source=clip.source)
