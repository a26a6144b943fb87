"""One call for every method, every family, one concept or several: from a model to an edit."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pandas as pd

from slugkit.base import SettingError, peak_memory, require_choice
from slugkit.data import Pairs, Source
from slugkit.evaluation.clip_judge import judge_of
from slugkit.method.directions import retain_aware_directions
from slugkit.method.layers import tower_of
from slugkit.method.search import Criterion, Measure
from slugkit.models import Clip
from slugkit.models.vlm import Vlm
from slugkit.tasks import answer_set_of
from slugkit.unlearning.concept import ARMS, DAMPING, score_layers
from slugkit.unlearning.families import Job, OnClip, OnObjective, OnPipeline, OnVlm
from slugkit.unlearning.gradients import forget_gradient
from slugkit.unlearning.laps import Laps
from slugkit.unlearning.methods import method_named
from slugkit.unlearning.probing import Budget
from slugkit.unlearning.result import Result
from slugkit.unlearning.retain import RetainSide
from slugkit.unlearning.rivals import RivalCall
from slugkit.unlearning.several import (
    joint_gradient,
    joint_step,
    search_scorer,
    slug_patches,
    text_layers,
)


def unlearn(
    clip: Clip,
    data: Source | None = None,
    concept: str | list[str] = "",
    method: str = "slug",
    *,
    on: Any = None,
    forget: Pairs | None = None,
    retain: Pairs | None = None,
    objective: Measure | None = None,
    criterion: Criterion | None = None,
    which: str = "front",
    towers: tuple[str, ...] = ("text", "vision"),
    target: str = "auto",
    max_trials: int = 10,
    forget_size: int = 120,
    retain_size: int = 2560,
    batch_size: int = 128,
    damping: float = DAMPING,
    margins: dict[str, float] | None = None,
    seed: int = 0,
    shared: RetainSide | None = None,
    ranked: Result | None = None,
    budget: Budget | None = None,
) -> Result:
    """Gradients, ranking and search for a concept, or for several at once. No model is changed.

    Args:
        clip: the model whose gradients are taken.
        data: the source of the pairs and of the pictures and words that the search asks about.
        concept: what is forgotten; a list takes several together, on the text tower.
        method: one of `sk.METHODS`, in capitals or not; one whose `towers` are "pipeline" or "vlm"
            changes what `on` is, and nothing of the CLIP.
        on: on what the step is searched: None is the CLIP itself; a diffusers pipeline or a `Vlm`
            that holds its tower; or, for more settings, a family of `slugkit.unlearning.families`.
        forget, retain, objective, criterion: a caller's own pairs and measure in the place of
            `data`, see `OnObjective`; `concept` is then only a label.
        which: "front", the layers on the Pareto front (the paper's rule), or "all" candidates.
        towers, target, max_trials, margins: as of `OnClip`; where `on` is a family, its own count.
        forget_size, retain_size: pairs.
        batch_size: the micro-batch of the retain loss, part of its definition.
        damping: of SLUG-R.
        shared: a retain side that serves several concepts, in the place of its sizes and seed. Its
            gradients are those of the unedited model.
        ranked: what another method found on the same family or on the CLIP, whose gradient and
            ranking are taken over, at the same cost.
        budget: pairs and probes that may be used up on each tower. None: the forget and the retain
            set once, and `max_trials` probes a layer; of a method that searches no layers 40. Of
            methods that search layers only the probes count, in equal shares.

    Returns:
        The layers, all probes, the chosen patches, and what it took.

    Raises:
        SettingError: neither data nor a caller's own pairs and objective, or both.
        UnknownConceptError, EmptySetError: as of the source.
        SearchFailedError: the unedited model does not know the concept (not asked of an objective
            of one's own).
    """
    how = method_named(method)
    method = how.name
    _check(clip, data, (forget, retain, objective), criterion, shared)
    limits, sizes = {"target": target, "max_trials": max_trials}, (retain_size, batch_size, seed)
    limits["which"] = how.which or require_choice(which, ("front", "all"), "The set of layers")
    if not isinstance(concept, str):
        _check_several(method, data, on)
        given = shared, forget_size, sizes, damping
        return _several(clip, data, list(concept), method, *given, **limits)
    limits |= {"towers": towers, "margins": margins}
    if objective is not None and on is None:
        family = OnObjective(objective=objective, criterion=criterion or Criterion("fa1"), **limits)
    else:
        family = _family(clip, data, concept, on, limits)
    if how.run is not None:
        own = RivalCall(clip, data, concept, how, family, forget, forget_size, seed, budget)
        return own.run(shared or RetainSide(clip, retain or data, [concept], *sizes))
    same = _same_family(ranked, concept, family)
    laps = Laps()
    with peak_memory() as peak:
        with laps("data"):
            pairs = data.forget_set(concept, forget_size, seed) if forget is None else forget
            kept = data if retain is None else retain
            side = shared or RetainSide(clip, kept, [concept], *sizes)
            side.require(concept)
        with laps("gradients"):
            g_forget = ranked.g_forget if ranked else None
            g_forget = g_forget or forget_gradient(clip, pairs, batch_size, chunk=side.chunk)
        job = Job(clip, data, concept, method, pairs, side, g_forget, damping, seed)
        with laps("ranking"):
            if ranked is None:
                layers = score_layers(clip, g_forget, side.gradient, parts=side.parts)
            else:  # another family changes the front of its copy
                layers = ranked.layers if same else ranked.layers.copy()
            again = same and not isinstance(family, OnClip)
            searched = ranked.searched if again else family.names(job, layers)
        if budget is not None:
            family = _within(family, searched, budget)
        with laps("direction"):
            along = family.directions(job, searched)
        with laps("search"):
            table = family.search(job, along, searched)
    seen = len(pairs) + side.pairs_seen + family.pairs_seen
    found = {"g_forget": g_forget, "directions": along, "searched": searched}
    found |= {"which": family.which, "at_most": family.at_most, "family": type(family).__name__}
    found |= laps.costs(seen, table, peak)
    if budget is not None and len(table) < budget.probes * table["tower"].nunique():
        found["unused"] = "a search ends where its bracket is narrow, or the step huge"
    return Result(concept, method, layers, table, **found).choose(clip)


def _same_family(ranked: Result | None, concept: str, family: Any) -> bool:
    """Whether a ranking that was handed over is of this family. Raises SettingError where it is of
    no use: of another concept, or of another family than this and the CLIP's.
    """
    mine = type(family).__name__
    if ranked is None:
        return False
    if ranked.concept != concept or ranked.family not in (mine, OnClip.__name__):
        raise SettingError(
            f"The ranking that was handed over is of {ranked.concept!r} on {ranked.family}; one of"
            f" {concept!r} on {mine} was expected. Leave `ranked` out."
        )
    return ranked.family == mine


def _check(
    clip: Any,
    data: Any,
    own: tuple[Pairs | None, Pairs | None, Measure | None],
    criterion: Criterion | None,
    shared: RetainSide | None,
) -> None:
    """Raises SettingError for what cannot be asked. own: forget set, retain set and objective."""
    for what, given, known, of in (
        ("clip", clip, "text_features", "a loaded model was expected, as of sk.load_clip"),
        ("data", data, "retain_set", "a source was expected, as of sk.open_data"),
    ):
        if not hasattr(given, known) and (given is not None or what == "clip"):
            raise SettingError(f'{what} is a {type(given).__name__}; {of}("studio").')
    lacking = [part is None for part in own]
    if any(lacking) if data is None else not all(lacking) or criterion is not None:
        raise SettingError(
            "unlearn was handed neither data nor forget, retain and objective, or some of both;"
            " data and a concept, or all three of one's own (and a criterion), were expected."
        )
    if shared is not None and (own[1] is not None or shared.clip is not clip):
        raise SettingError(
            "The retain side that is shared belongs to another model, or a retain set came with it;"
            " one that was made of this very model was expected. Make it anew, or leave it out."
        )


def _check_several(method: str, data: Any, on: Any) -> None:
    """Raises SettingError where several concepts cannot be forgotten together."""
    if method not in ARMS:
        raise SettingError(
            f"{method} was asked to forget several concepts together; one of {', '.join(ARMS)}"
            " was expected. Take one concept at a time."
        )
    if data is None or on is not None:
        raise SettingError(
            "Several concepts are forgotten on a CLIP with data that examine them; another"
            " model, or pairs of one's own, were given. Take one concept at a time."
        )


def _within(family: Any, searched: list[str], budget: Budget) -> Any:
    """The family with each layer's share of the probes that a tower may have."""
    most = max(Counter(map(tower_of, searched)).values(), default=1)
    return replace(family, max_trials=max(1, budget.probes // most))


def _family(
    clip: Clip, data: Source | None, concept: str, on: Any, limits: dict[str, Any]
) -> OnClip | OnPipeline | OnVlm:
    """The family that `on` means, with its defaults for a bare model. limits: of `OnClip`."""
    if data is None:
        raise SettingError(
            "The step was to be searched on another model with an objective of one's own; one of"
            " the two was expected. Leave `on` out, or pass data."
        )
    if isinstance(on, OnClip | OnPipeline | OnVlm):
        return on
    if on is None or on is clip:
        return OnClip(**limits)
    if isinstance(on, Vlm):
        return OnVlm(on, max_trials=limits["max_trials"])
    if hasattr(on, "text_encoder"):
        judge = judge_of(data, clip, answer_set_of(data, concept, "search", 28, 1))
        return OnPipeline(on, judge, max_trials=limits["max_trials"])
    raise SettingError(
        f"The step cannot be searched on a {type(on).__name__}; None, a diffusers pipeline, a Vlm"
        " or a family of slugkit.unlearning.families was expected."
    )


def _several(
    clip: Clip,
    data: Source,
    concepts: list[str],
    method: str,
    shared: RetainSide | None,
    forget_size: int,
    sizes: tuple[int, int, int],
    damping: float,
    *,
    which: str,
    target: str,
    max_trials: int,
) -> Result:
    """Several concepts at once: SLUG's edits of each, added; SLUG-R's one step for all. sizes:
    pairs of the retain set, micro-batch and seed.
    """
    laps, names, failed = Laps(), text_layers(clip), {}
    _, batch_size, seed = sizes
    with peak_memory() as peak:
        with laps("data"):
            scorer = search_scorer(clip, data, concepts)
            forget = {c: data.forget_set(c, forget_size, seed) for c in concepts}
            side = shared or RetainSide(clip, data, concepts, *sizes, weights=names)
            for one in concepts:
                side.require(one)
        how = {"criterion": scorer.criterion(target), "max_trials": max_trials}
        with laps("search"):
            if method == "SLUG":
                how |= {"which": which, "batch_size": batch_size}
                edits, table = slug_patches(clip, scorer, forget, side, **how)
                patches, layers, along = {edit.concept: edit for edit in edits}, pd.DataFrame(), {}
                failed = {c: "no layer forgets it" for c in concepts if c not in patches}
            else:
                grads = (forget_gradient(clip, p, batch_size, names) for p in forget.values())
                joint = joint_gradient(grads)
                layers = score_layers(clip, joint, side.gradient, layers=names, parts=side.parts)
                along = retain_aware_directions(joint, side.moments(names), damping)
                [edit], table = joint_step(clip, scorer, concepts, along, names, **how)
                patches = {"text": edit}
    found = laps.costs(sum(map(len, forget.values())) + side.pairs_seen, table, peak)
    found |= {"patches": patches, "failed": failed, "directions": along, "which": which}
    return Result(", ".join(concepts), method, layers, table, family="several", **found)
