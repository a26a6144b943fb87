"""Several concepts at once on the text tower of a CLIP, in four ways.

The paper adds two edits (its section 3.4 and Fig. 5) and leaves open whose gradients are taken, at
which weights, on which layers and with which steps. SLUG (`slug_patches`): each concept by the
paper's rule, either from the unedited weights, and the patches added, or with the steps before it
in place. SLUG-R, on one layer: one step for all along the joint gradient (`joint_step`), or one
step a concept, added (`own_steps`). Every way gives its patches and all its probes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress

import pandas as pd

from slugkit.base import SearchFailedError, SettingError, progress
from slugkit.data import Pairs, Source
from slugkit.evaluation.clip import Scorer, zero_shot_task
from slugkit.method.directions import retain_aware_directions
from slugkit.method.layers import candidates, layer_table
from slugkit.method.search import Criterion
from slugkit.models import Clip
from slugkit.patch import Patch
from slugkit.unlearning.concept import require_known, score_layers, search_along
from slugkit.unlearning.gradients import forget_gradient
from slugkit.unlearning.objectives import CachedMeasure
from slugkit.unlearning.result import Directions, front_layers, winning_patch
from slugkit.unlearning.retain import RetainSide

TRIALS = 10
"""Probes of a layer, at most."""
Found = tuple[list[Patch], pd.DataFrame]
"""Patches, and the probes with the columns of `slugkit.method.search.search_front` and `concept`.
"""


def search_scorer(clip: Clip, source: Source, concepts: list[str]) -> Scorer:
    """What the searches ask about the concepts. Raises SearchFailedError for one that the model
    tells from the others no better than by chance.
    """
    scorer = Scorer(clip, zero_shot_task(source, concepts, "search"))
    require_known(scorer)
    return scorer


def text_layers(clip: Clip, projection: bool = True) -> list[str]:
    """The candidates of the text tower, in the network's order.

    projection: False leaves those out that are in no block.
    """
    table = layer_table(clip.model)
    inside = candidates(table[table["tower"] == "text"])
    return [name for name in inside if projection or ".resblocks." in name]


def joint_gradient(gradients: Iterable[Directions]) -> Directions:
    """Gradient of the mean of the concepts' forget losses, every concept with the same weight."""
    found = list(gradients)
    if not found:
        raise SettingError(
            "There is no gradient to join; that of at least one concept was expected."
        )
    return {layer: sum(g[layer] for g in found) / len(found) for layer in found[0]}


def slug_patches(
    clip: Clip,
    scorer: Scorer,
    forget: dict[str, Pairs],
    side: RetainSide,
    *,
    which: str = "front",
    batch_size: int = 128,
    **limits,
) -> Found:
    """What SLUG finds for each concept (-> forget set): the winner among the layers of the text
    tower's front, or "all" candidates; no patch of a concept that no layer forgets.

    limits: criterion and max_trials.
    """
    patches, frames, measures = [], [], {}
    for concept in progress(list(forget), "SLUG for each concept"):
        g_f = forget_gradient(clip, forget[concept], batch_size, text_layers(clip))
        table = score_layers(clip, g_f, side.gradient, layers=text_layers(clip))
        front = front_layers(table, "text", which)
        for layer in front:
            if layer not in measures:
                measures[layer] = CachedMeasure(scorer, layer)
        mine = {layer: measures[layer].about([concept]) for layer in front}
        frames.append(_probes(clip, scorer, g_f, front, mine.get, concept, **limits))
        with suppress(SearchFailedError):
            patches.append(_winning(clip, g_f, frames[-1], "SLUG"))
    return patches, pd.concat(frames, ignore_index=True)


def _probes(
    clip: Clip,
    scorer: Scorer,
    directions: Directions,
    layers: list[str],
    measure_of: Callable[[str], CachedMeasure],
    concept: str,
    criterion: Criterion | None = None,
    max_trials: int = TRIALS,
) -> pd.DataFrame:
    """`search_along` these layers, with the column `concept`."""
    how = measure_of, criterion or scorer.criterion(), 0.0, max_trials
    return search_along(clip, directions, layers, *how).assign(concept=concept)


def _winning(clip: Clip, directions: Directions, probes: pd.DataFrame, method: str) -> Patch:
    """The patch of the winner. Raises SearchFailedError, naming the concept."""
    about = probes["concept"].iloc[0]
    try:
        return winning_patch(clip, directions, probes, "text", about, {"method": method})
    except SearchFailedError as error:
        raise SearchFailedError(f"{about}: {error}") from None


def joint_step(
    clip: Clip,
    scorer: Scorer,
    concepts: list[str],
    directions: Directions,
    layers: list[str],
    **limits,
) -> Found:
    """One step for all along the directions of the joint gradient, on the layer that wins; on each
    the search has forgotten when the criterion holds for every concept in every wording.

    limits: criterion and max_trials. Raises SearchFailedError where no layer forgets all.
    """

    def measure_of(layer: str) -> CachedMeasure:
        return CachedMeasure(scorer, layer, concepts)

    about = ", ".join(concepts)
    probes = _probes(clip, scorer, directions, layers, measure_of, about, **limits)
    return [_winning(clip, directions, probes, "SLUG-R")], probes


def own_steps(
    clip: Clip, scorer: Scorer, layer: str, directions: Directions, max_trials: int = TRIALS
) -> Found:
    """One patch a concept (-> direction), all on one layer, each step searched as if the others
    were not there. Raises SearchFailedError, naming the concept, where no step forgets one.
    """
    measure, patches, frames = CachedMeasure(scorer, layer), [], []
    for concept, direction in progress(list(directions.items()), "one step a concept"):
        mine, along = {layer: measure.about([concept])}.get, {layer: direction}
        frames.append(_probes(clip, scorer, along, [layer], mine, concept, max_trials=max_trials))
        patches.append(_winning(clip, along, frames[-1], "SLUG-R"))
    return patches, pd.concat(frames, ignore_index=True)


def retain_aware_edits(
    clip: Clip,
    source: Source,
    names: list[str],
    damping: float,
    batch_size: int = 128,
    seed: int = 0,
) -> dict[str, list[Patch]]:
    """SLUG-R for several concepts on one layer of the text tower: "SLUG-R, added" -> one patch a
    concept; "SLUG-R, one joint step" -> one patch.

    The joint step is searched on every matrix of the blocks; on the layer that wins, each concept's
    own step. Raises SearchFailedError where no step on any layer forgets all of them.
    """
    layers = text_layers(clip, projection=False)
    forget = {c: source.forget_set(c, 120, seed) for c in names}
    own = {c: forget_gradient(clip, pairs, batch_size, layers) for c, pairs in forget.items()}
    side = RetainSide(clip, source, names, batch_size=batch_size, seed=seed)
    moments, scorer = side.moments(layers), search_scorer(clip, source, names)
    along = retain_aware_directions(joint_gradient(own.values()), moments, damping)
    joint, _ = joint_step(clip, scorer, names, along, layers)
    at = joint[0].layer
    here = {at: moments[at]}
    each = {c: retain_aware_directions({at: own[c][at]}, here, damping)[at] for c in names}
    added, _ = own_steps(clip, scorer, at, each)
    return {"SLUG-R, added": added, "SLUG-R, one joint step": joint}
