"""Forgetting several concepts at once on the text tower of a CLIP: the ways to put their steps together, each giving a list of patches.

What the paper leaves open (its section 3.4 and Fig. 5 add two edits and say no more): whose gradients, at which weights, on which layer, with which steps. SLUG: each
concept alone, and their patches added (`slug_patches`), or one after the other (`one_after_another`). SLUG-R: one step a concept on one layer, added (`own_steps`), or
one step for all (`search_jointly` along the joint gradient).
"""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd
import torch

from slugkit import patch
from slugkit.base import SearchFailedError, SettingError, progress
from slugkit.data import Source
from slugkit.evaluate.concept import front_layers, score_layers, winning_patch
from slugkit.evaluate.retain import RetainSide
from slugkit.evaluate.several import SeveralMeasure, SeveralScorer
from slugkit.gradients import forget_gradient
from slugkit.models import Clip
from slugkit.models.layers import candidates, layer_table, weight_of
from slugkit.patch import Patch
from slugkit.search import Criterion, EditableLayer, probe_steps, search_front, search_step

TRIALS = 10


def text_layers(clip: Clip, projection: bool = True) -> list[str]:
    """The candidates of the text tower, in the network's order. projection: False leaves those out that are in no block."""
    table = layer_table(clip.model)
    text = set(table.loc[table["tower"] == "text", "layer"])
    return [name for name in candidates(table) if name in text and (projection or ".resblocks." in name)]


def joint_gradient(gradients: Iterable[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Gradient of the mean of the concepts' forget losses, every concept with the same weight. Raises SettingError without one."""
    found = list(gradients)
    if not found:
        raise SettingError("There is no gradient to join; that of at least one concept was expected.")
    return {layer: sum(g[layer] for g in found) / len(found) for layer in found[0]}


def slug_patches(
    clip: Clip,
    scorer: SeveralScorer,
    gradients: dict[str, dict[str, torch.Tensor]],
    side: RetainSide,
    criterion: Criterion | None = None,
    max_trials: int = TRIALS,
) -> list[Patch]:
    """What SLUG does for each concept alone: the winner among the layers of the text tower's front, from the unedited weights.

    gradients: concept -> forget gradient. side: of a retain set that shows none of the concepts.
    Raises SearchFailedError, naming the concept, where no layer forgets it.
    """
    criterion = criterion or scorer.criterion()
    measures, patches = {}, []
    for concept in progress(list(gradients), "each concept on its own"):
        g_f = gradients[concept]
        front = front_layers(score_layers(clip, g_f, side.gradient, layers=text_layers(clip)), "text")
        for layer in front:
            measures.setdefault(layer, SeveralMeasure(scorer, layer, scorer.exam.concepts[:1]))
        probes = search_front(
            front,
            lambda layer, g=g_f: EditableLayer.of(clip.model, layer, weight_of(g, layer)),
            lambda layer, c=concept: measures[layer].about([c]),
            criterion,
            max_trials=max_trials,
        )
        try:
            patches.append(winning_patch(clip, g_f, probes, "text", concept, {"method": "SLUG"}))
        except SearchFailedError as error:
            raise SearchFailedError(f"{concept}: {error}") from None
    return patches


def search_jointly(
    clip: Clip,
    scorer: SeveralScorer,
    concepts: list[str],
    directions: dict[str, torch.Tensor],
    layers: list[str],
    criterion: Criterion | None = None,
    max_trials: int = TRIALS,
) -> pd.DataFrame:
    """One step for all: the step search on each layer, which has forgotten when the criterion holds for every concept in every wording.

    directions: layer -> tensor. Returns the probes with the columns of `slugkit.search.search_front`; `slugkit.evaluate.concept.winning_patch` makes the winner's patch.
    """
    return search_front(
        layers,
        lambda layer: EditableLayer.of(clip.model, layer, weight_of(directions, layer)),
        lambda layer: SeveralMeasure(scorer, layer, concepts),
        criterion or scorer.criterion(),
        max_trials=max_trials,
    )


def _patch(clip: Clip, layer: str, direction: torch.Tensor, lam: float, concept: str) -> Patch:
    return patch.make(layer, EditableLayer.of(clip.model, layer, direction), lam, concept, model=clip.model, metrics={"split": "search"})


def own_steps(
    clip: Clip,
    scorer: SeveralScorer,
    layer: str,
    directions: dict[str, torch.Tensor],
    criterion: Criterion | None = None,
    max_trials: int = TRIALS,
) -> list[Patch]:
    """One patch a concept, all on one layer, each step searched as if the others were not there.

    directions: concept -> tensor. Raises SearchFailedError, naming the concept, where the layer does not forget one.
    """
    measure, patches = SeveralMeasure(scorer, layer, scorer.exam.concepts[:1]), []
    criterion = criterion or scorer.criterion()
    for concept, direction in directions.items():
        editable = EditableLayer.of(clip.model, layer, direction)
        try:
            found = search_step(layer, editable, measure.about([concept]), criterion, max_trials=max_trials)
        except SearchFailedError as error:
            raise SearchFailedError(f"{concept}: {error}") from None
        patches.append(_patch(clip, layer, direction, found.chosen.lam, concept))
    return patches


def one_after_another(
    clip: Clip,
    source: Source,
    scorer: SeveralScorer,
    concepts: list[str],
    layer: str,
    forget_size: int = 120,
    seed: int = 0,
    criterion: Criterion | None = None,
    max_trials: int = TRIALS,
) -> list[Patch]:
    """Forget the concepts in this order on one layer: a fresh forget gradient and a fresh search each, with the steps before it in place.

    layer: a whole weight. A concept that is forgotten already when its turn comes, or that no step forgets, gets no patch;
    later steps may bring it back. Returns the patches, which fit the unedited model.
    """
    patches: list[Patch] = []
    measure, criterion = SeveralMeasure(scorer, layer, concepts[:1]), criterion or scorer.criterion()
    for number, concept in enumerate(progress(concepts, "one after the other")):
        with patch.all_applied(patches, clip.model):
            mine = measure.about([concept], concepts[: number + 1])
            if criterion.forgotten(mine.forget()):
                continue
            pairs = source.forget_set(concept, forget_size, seed)
            direction = forget_gradient(clip, pairs, weights=[layer])[layer]
            editable = EditableLayer.of(clip.model, layer, direction)
            found = probe_steps(layer, editable, mine, criterion, max_trials=max_trials).chosen
        if found is not None:
            patches.append(_patch(clip, layer, direction, found.lam, concept))
    return patches
