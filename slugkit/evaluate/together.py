"""Forgetting several concepts at once on the text tower of a CLIP: the ways to put their steps together, each giving a list of patches.

What the paper leaves open (its section 3.4 and Fig. 5 add two edits and say no more): whose gradients, at which weights, on which layer, with which steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pandas as pd
import torch

from slugkit import patch
from slugkit.base import SearchFailedError, SettingError, progress
from slugkit.data import Source
from slugkit.evaluate.concept import front_layers, score_layers, winning_patch
from slugkit.evaluate.several import SeveralMeasure, SeveralScorer
from slugkit.gradients import forget_gradient, off_span
from slugkit.models import Clip
from slugkit.models.diffusion import text_encoder
from slugkit.models.inputs import watched
from slugkit.models.layers import candidates, layer_table, weight_of
from slugkit.patch import Patch
from slugkit.search import Criterion, EditableLayer, probe_steps, search_front, search_step

ENERGY = 0.99
"""Share of what a layer reads of the retain captions that a step is taken off."""
TRIALS = 8
FORGOTTEN = Criterion("fa1")
"""The workbook's criterion; `Criterion("fa5")`, the authors', leaves a margin where a longer step costs little."""
SMALL = 0.05
"""Relative size of the first step for a concept whose own step had become nothing."""


def text_layers(clip: Clip, projection: bool = True) -> list[str]:
    """The candidates of the text tower, in the network's order. projection: False leaves those out that are in no block."""
    table = layer_table(clip.model)
    text = set(table.loc[table["tower"] == "text", "layer"])
    return [name for name in candidates(table) if name in text and (projection or ".resblocks." in name)]


@torch.no_grad()
def read_by_text_tower(clip: Clip, captions: list[str], layers: list[str]) -> dict[str, torch.Tensor]:
    """Second moment of what each layer reads of the captions, from their first token to their end token: layer -> (d, d) float64.

    What follows the end token is left out, since CLIP's answer does not depend on it (causal mask). Runs the tower in transformers' class, whose modules
    apply one matrix each. Raises PatchError for a layer that is not in a block, ModelLoadError as `slugkit.models.diffusion.text_encoder`.
    """
    encoder = text_encoder(clip).to(clip.device)
    tokens = clip.tokens(captions)
    lengths = tokens.argmax(-1) + 1
    with watched(encoder, layers) as seen:
        for length in sorted(set(lengths.tolist())):
            for part in torch.split(tokens[lengths == length][:, :length], 256):
                encoder(part)
    return {layer: found.matrix for layer, found in seen.items()}


def spared_directions(gradient: dict[str, torch.Tensor], moments: dict[str, torch.Tensor], energy: float = ENERGY) -> dict[str, torch.Tensor]:
    """The gradient taken off the span of what each layer reads of the retain captions, for the layers of `moments`. See `slugkit.gradients.off_span`."""
    return {layer: off_span(weight_of(gradient, layer), moment, energy) for layer, moment in moments.items()}


def joint_gradient(gradients: Iterable[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Gradient of the mean of the concepts' forget losses, every concept with the same weight. Raises SettingError without one."""
    found = list(gradients)
    if not found:
        raise SettingError("There is no gradient to join; that of at least one concept was expected.")
    return {layer: sum(g[layer] for g in found) / len(found) for layer in found[0]}


def slug_patches(clip: Clip, scorer: SeveralScorer, gradients: dict[str, dict[str, torch.Tensor]], retains: list[dict[str, torch.Tensor]], max_trials: int = TRIALS) -> list[Patch]:
    """What SLUG does for each concept alone: the winner among the layers of the text tower's front, from the unedited weights.

    gradients: concept -> forget gradient. retains: retain gradients of several draws that show none of the concepts; the front of any draw is searched. Raises
    SearchFailedError, naming the concept, where no layer forgets it.
    """
    measures, patches = {}, []
    for concept in progress(list(gradients), "each concept on its own"):
        table = score_layers(clip, gradients[concept], retains[0], layers=text_layers(clip), draws=retains[1:])
        for layer in front_layers(table, "text"):
            measures.setdefault(layer, SeveralMeasure(scorer, layer, scorer.exam.concepts[:1]))
        probes = search_front(front_layers(table, "text"), lambda layer: EditableLayer.of(clip.model, layer, weight_of(gradients[concept], layer)),
                              lambda layer: measures[layer].about([concept]), FORGOTTEN, max_trials=max_trials)
        try:
            patches.append(winning_patch(clip, gradients[concept], probes, "text", concept))
        except SearchFailedError as error:
            raise SearchFailedError(f"{concept}: {error}") from None
    return patches


def search_jointly(clip: Clip, scorer: SeveralScorer, concepts: list[str], direction: dict[str, torch.Tensor], layers: list[str], criterion: Criterion = FORGOTTEN,
                   max_trials: int = 10) -> pd.DataFrame:
    """One step for all: the step search on each layer, which has forgotten when the criterion holds for every concept.

    direction: layer -> tensor. Returns the probes with the columns of `slugkit.search.search_front`; `slugkit.evaluate.concept.winning_patch` makes the winner's patch.
    """
    return search_front(layers, lambda layer: EditableLayer.of(clip.model, layer, weight_of(direction, layer)),
                        lambda layer: SeveralMeasure(scorer, layer, concepts), criterion, max_trials=max_trials)


def across_wordings(clip: Clip, scorer: SeveralScorer, concepts: list[str], direction: dict[str, torch.Tensor], probes: pd.DataFrame) -> pd.DataFrame:
    """The layers that a joint search made forget, best first, judged by wordings too that the search's criterion does not know.

    probes: of `search_jointly` along `direction`. Columns layer, rho, retain (of the probe), targets and others (means over the wordings of the scorer's split, as of
    `SeveralScorer.in_words`), score: the mean of retain, 1 - targets and others. An edit that holds in the exam's own words alone has forgotten little.
    Raises SearchFailedError where no layer forgot.
    """
    if not probes["chosen"].any():
        raise SearchFailedError(f"No layer makes the model forget {', '.join(concepts)} together in {len(probes)} probes on {probes['layer'].nunique()} layers; "
                                "one or more was expected. Name fewer concepts, take a smaller span_energy, or look whether the model knows them.")
    rows = []
    for probe in probes[probes["chosen"]].itertuples():
        with EditableLayer.of(clip.model, probe.layer, weight_of(direction, probe.layer)) as editable:
            editable.set(probe.lam)
            said = pd.DataFrame([scorer.in_words(concepts, wording) for wording in scorer.exam.wordings]).mean()
        rows.append({"layer": probe.layer, "rho": probe.rho, "retain": probe.retain, **said, "score": (probe.retain + 1 - said["targets"] + said["others"]) / 3})
    return pd.DataFrame(rows).sort_values("score", ascending=False, kind="stable", ignore_index=True)


def _patch(clip: Clip, layer: str, direction: torch.Tensor, lam: float, concept: str) -> Patch:
    return patch.make(layer, EditableLayer.of(clip.model, layer, direction), lam, concept, model=clip.model, metrics={"split": "search"})


def own_steps(clip: Clip, scorer: SeveralScorer, layer: str, directions: dict[str, torch.Tensor], criterion: Criterion = FORGOTTEN,
              max_trials: int = TRIALS) -> list[Patch]:
    """One patch a concept, all on one layer, each step searched as if the others were not there.

    directions: concept -> tensor. Raises SearchFailedError, naming the concept, where the layer does not forget one.
    """
    measure, patches = SeveralMeasure(scorer, layer, scorer.exam.concepts[:1]), []
    for concept, direction in directions.items():
        try:
            found = search_step(layer, EditableLayer.of(clip.model, layer, direction), measure.about([concept]), criterion, max_trials=max_trials)
        except SearchFailedError as error:
            raise SearchFailedError(f"{concept}: {error}") from None
        patches.append(_patch(clip, layer, direction, found.chosen.lam, concept))
    return patches


def searched_again(clip: Clip, scorer: SeveralScorer, patches: list[Patch], criterion: Criterion = FORGOTTEN, rounds: int = 2, max_trials: int = TRIALS) -> list[Patch]:
    """The same directions, every step searched again with the other steps in place, one concept after the other.

    patches: one a concept, all on one layer. rounds: how often all are gone through. A concept that the others' steps already forget needs none, and
    leaves the list until a later round needs it; one that no step forgets keeps the step it had. Raises SettingError for several layers.
    """
    if len({p.layer for p in patches}) != 1:
        raise SettingError(f"The patches are for the layers {', '.join(sorted({p.layer for p in patches})) or 'none'}; one layer for all of them was expected.")
    steps, concepts = {p.concept: (p, p.lam) for p in patches}, [p.concept for p in patches]
    whole = SeveralMeasure(scorer, patches[0].layer, concepts)
    for concept in progress([c for _ in range(rounds) for c in concepts], "searching the steps again"):
        mine, lam = steps[concept]
        with patch.all_applied(_of_steps(clip, {c: step for c, step in steps.items() if c != concept}), clip.model):
            measure = whole.about([concept], concepts)
            lam = 0.0 if criterion.forgotten(measure.forget()) else _smallest(clip, mine, measure, criterion, lam, max_trials)
        steps[concept] = (mine, lam)
    return _of_steps(clip, steps)


def _smallest(clip: Clip, mine: Patch, measure: SeveralMeasure, criterion: Criterion, lam: float, max_trials: int) -> float:
    editable = EditableLayer.of(clip.model, mine.layer, mine.direction)
    found = probe_steps(mine.layer, editable, measure, criterion, lam or editable.lam(SMALL), max_trials)
    return found.chosen.lam if found.chosen else lam


def _of_steps(clip: Clip, steps: dict[str, tuple[Patch, float]]) -> list[Patch]:
    """The patches with these steps; none for a step of 0."""
    return [p if lam == p.lam else _patch(clip, p.layer, p.direction, lam, concept) for concept, (p, lam) in steps.items() if lam > 0]


def one_after_another(clip: Clip, source: Source, scorer: SeveralScorer, concepts: list[str], layer: str, forget_size: int = 120, seed: int = 0,
                      shape: Callable[[torch.Tensor], torch.Tensor] = lambda g: g, criterion: Criterion = FORGOTTEN, max_trials: int = TRIALS) -> list[Patch]:
    """Forget the concepts in this order on one layer: a fresh forget gradient and a fresh search each, with the steps before it in place.

    layer: a whole weight. shape: what is made of a gradient before the step, say `off_span`. A concept that is forgotten already when its turn comes, or that no step forgets, gets no patch;
    later steps may bring it back. Returns the patches, which fit the unedited model.
    """
    patches: list[Patch] = []
    measure = SeveralMeasure(scorer, layer, concepts[:1])
    for number, concept in enumerate(progress(concepts, "one after the other")):
        with patch.all_applied(patches, clip.model):
            mine = measure.about([concept], concepts[:number + 1])
            if criterion.forgotten(mine.forget()):
                continue
            direction = shape(forget_gradient(clip, source.forget_set(concept, forget_size, seed), weights=[layer])[layer])
            found = probe_steps(layer, EditableLayer.of(clip.model, layer, direction), mine, criterion, max_trials=max_trials).chosen
        if found is not None:
            patches.append(_patch(clip, layer, direction, found.lam, concept))
    return patches
