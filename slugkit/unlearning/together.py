"""Result several concepts at once on the text tower of a CLIP, in four ways.

The paper adds two edits (its section 3.4 and Fig. 5) and leaves open whose gradients are taken, at
which weights, on which layers and with which steps. SLUG (`slug_patches`): each concept by the
paper's rule, either from the unedited weights, and the patches added, or with the steps before it
in place. SLUG-R, on one layer: one step for all along the joint gradient (`joint_step`), or one
step a concept, added (`own_steps`). Every way gives its patches and all its probes.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

import pandas as pd
import torch

from slugkit import patch
from slugkit.base import SearchFailedError, SettingError, progress
from slugkit.data import Pairs
from slugkit.method.edit import EditableLayer
from slugkit.method.layers import candidates, layer_table, weight_of
from slugkit.method.search import Criterion, probe_steps, search_front
from slugkit.models import Clip
from slugkit.patch import Patch
from slugkit.unlearning.concept import score_layers
from slugkit.unlearning.gradients import forget_gradient
from slugkit.unlearning.result import front_layers, winning_patch
from slugkit.unlearning.retain import RetainSide
from slugkit.unlearning.several import SeveralMeasure, SeveralScorer

TRIALS = 10
"""Probes of a layer, at most."""
Found = tuple[list[Patch], pd.DataFrame]
"""Patches, and the probes with the columns of `slugkit.method.search.search_front` and `concept`.
"""


def text_layers(clip: Clip, projection: bool = True) -> list[str]:
    """The candidates of the text tower, in the network's order.

    projection: False leaves those out that are in no block.
    """
    table = layer_table(clip.model)
    text = set(table.loc[table["tower"] == "text", "layer"])
    inside = (name for name in candidates(table) if name in text)
    return [name for name in inside if projection or ".resblocks." in name]


def joint_gradient(gradients: Iterable[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Gradient of the mean of the concepts' forget losses, every concept with the same weight.

    Raises SettingError without one.
    """
    found = list(gradients)
    if not found:
        raise SettingError(
            "There is no gradient to join; that of at least one concept was expected."
        )
    return {layer: sum(g[layer] for g in found) / len(found) for layer in found[0]}


def slug_patches(
    clip: Clip,
    scorer: SeveralScorer,
    forget: dict[str, Pairs],
    side: RetainSide,
    *,
    in_turn: bool = False,
    which: str = "front",
    batch_size: int = 128,
    criterion: Criterion | None = None,
    max_trials: int = TRIALS,
) -> Found:
    """What SLUG finds for each concept: the winner among the layers of the text tower's front.

    forget: concept -> its forget set. side: of a retain set that shows none of them. in_turn: False
    takes each concept alone, from the unedited weights; True one after the other, with a fresh
    forget gradient, front and search at the weights that the steps before it left. which: "front",
    or "all" candidates. A concept that no layer forgets gets no patch, nor, in turn, one that is
    forgotten already (later steps may bring it back). The patches fit the unedited model.
    """
    criterion, names = criterion or scorer.criterion(), list(forget)
    patches, frames, measures = [], [], {}
    for number, concept in enumerate(progress(names, "SLUG for each concept")):
        gone = names[: number + 1] if in_turn else [concept]
        with patch.all_applied(patches if in_turn else [], clip.model):
            if in_turn and criterion.forgotten(scorer.forget([concept], scorer.classes())):
                continue
            g_f = forget_gradient(clip, forget[concept], batch_size, text_layers(clip))
            table = score_layers(clip, g_f, side.gradient, layers=text_layers(clip))
            front = front_layers(table, "text", which)
            for layer in front:
                if in_turn or layer not in measures:
                    measures[layer] = SeveralMeasure(scorer, layer, [concept])
            probes = search_front(
                front,
                lambda layer, g=g_f: EditableLayer.of(clip.model, layer, weight_of(g, layer)),
                lambda layer, c=concept, gone=gone: measures[layer].about([c], gone),
                criterion,
                max_trials=max_trials,
            )
        frames.append(probes.assign(concept=concept))
        with suppress(SearchFailedError):
            patches.append(_winning(clip, g_f, probes, concept, "SLUG"))
    return patches, pd.concat(frames, ignore_index=True)


def _winning(
    clip: Clip, directions: dict[str, torch.Tensor], probes: pd.DataFrame, what: str, method: str
) -> Patch:
    try:
        return winning_patch(clip, directions, probes, "text", what, {"method": method})
    except SearchFailedError as error:
        raise SearchFailedError(f"{what}: {error}") from None


def joint_step(
    clip: Clip,
    scorer: SeveralScorer,
    concepts: list[str],
    directions: dict[str, torch.Tensor],
    layers: list[str],
    criterion: Criterion | None = None,
    max_trials: int = TRIALS,
) -> Found:
    """One step for all: the winner among the layers, on each of which the search has forgotten when
    the criterion holds for every concept in every wording.

    directions: layer -> tensor, made of the joint gradient. Returns one patch. Raises
    SearchFailedError where no layer forgets all.
    """
    probes = search_front(
        layers,
        lambda layer: EditableLayer.of(clip.model, layer, weight_of(directions, layer)),
        lambda layer: SeveralMeasure(scorer, layer, concepts),
        criterion or scorer.criterion(),
        max_trials=max_trials,
    )
    named = ", ".join(concepts)
    return [_winning(clip, directions, probes, named, "SLUG-R")], probes.assign(concept=named)


def own_steps(
    clip: Clip,
    scorer: SeveralScorer,
    layer: str,
    directions: dict[str, torch.Tensor],
    criterion: Criterion | None = None,
    max_trials: int = TRIALS,
) -> Found:
    """One patch a concept, all on one layer, each step searched as if the others were not there.

    directions: concept -> tensor. Raises SearchFailedError, naming the concept, where no step on
    the layer forgets one.
    """
    measure, patches, frames = SeveralMeasure(scorer, layer, list(directions)[:1]), [], []
    criterion = criterion or scorer.criterion()
    for concept, direction in progress(list(directions.items()), "one step a concept"):
        editable, mine = EditableLayer.of(clip.model, layer, direction), measure.about([concept])
        probes = probe_steps(layer, editable, mine, criterion, max_trials=max_trials).frame()
        frames.append(probes.assign(concept=concept))
        patches.append(_winning(clip, {layer: direction}, probes, concept, "SLUG-R"))
    return patches, pd.concat(frames, ignore_index=True)
