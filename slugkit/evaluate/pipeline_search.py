"""The step searched on the pipeline itself: forgotten when UA is high enough on search prompts, not when CLIP no longer finds the name."""

from __future__ import annotations

import pandas as pd
import torch

from slugkit import patch
from slugkit.base import SearchFailedError, progress
from slugkit.data import Source
from slugkit.evaluate.clip_judge import ClipJudge
from slugkit.evaluate.concept import search_layers
from slugkit.evaluate.diffusion import PipelineMeasure, told_by
from slugkit.evaluate.statistics import above_chance
from slugkit.evaluate.together import ENERGY, spared_directions, text_layers
from slugkit.evaluate.transfer import transferable
from slugkit.models import Clip
from slugkit.models.classifier import Classifier
from slugkit.models.diffusion import GUIDANCE, STEPS
from slugkit.models.inputs import watched
from slugkit.models.layers import weight_of
from slugkit.models.acting import movable, unused_layers
from slugkit.models.names import part_of, require_tower
from slugkit.search import Criterion, EditableLayer, probe_steps

UA = 0.95
"""Search pictures of the target that must no longer show it: enough for nine in ten on the report, with room for chance."""
TRIED = 16
"""Layers on which a search is begun at most: all matrices of the studio's text tower, a third of those of Stable Diffusion 1.5, where each costs minutes of drawing."""
OTHERS_ASKED = 16
"""Pictures of others by which is seen whether the judge tells anything apart."""


@torch.no_grad()
def read_by_encoder(pipe, captions: list[str], layers: list[str], batch_size: int = 128) -> dict[str, torch.Tensor]:
    """Second moment of what each layer of the pipeline's text encoder reads of the captions, padding included: layer -> (d, d) float64 on the CPU.

    pipe: a pipeline; of one with several text encoders the part that is meant (`slugkit.models.names.part_of`).
    """
    encoder = pipe.text_encoder
    with watched(encoder, layers) as seen:
        for i in range(0, len(captions), batch_size):
            tokens = pipe.tokenizer(captions[i:i + batch_size], padding="max_length", truncation=True, max_length=pipe.tokenizer.model_max_length,
                                    return_tensors="pt")
            encoder(tokens.input_ids.to(encoder.device))
    return {layer: found.matrix.cpu() for layer, found in seen.items()}


def spared(clip: Clip, pipe, source: Source, concept: str, g_forget: dict, energy: float = ENERGY, retain_size: int = 512, seed: int = 0,
           max_trials: int = 10) -> tuple[dict[str, torch.Tensor], pd.DataFrame]:
    """The forget gradient taken off the span of what each layer reads of the retain captions, and CLIP's search along it.

    Every matrix of the text tower that the pipeline uses is searched: off the span the front of the plain gradient says little. energy: 0 to
    below 1, 0 takes nothing off. retain_size: pairs of the retain set. Returns directions (layer -> tensor) and rows as of
    `slugkit.evaluate.transfer.transferable`. Raises SearchFailedError where CLIP forgets with no layer.
    """
    part = part_of(clip.model, pipe, "text")
    layers = [name for name in text_layers(clip) if not unused_layers(part, [name])]
    moments = read_by_encoder(part, source.retain_set(concept, retain_size, seed).captions, layers)
    directions = spared_directions(g_forget, moments, energy)
    found = search_layers(clip, source.exam(concept, "search"), directions, layers, Criterion("fa1"), max_trials=max_trials)
    return directions, transferable(found, part)


def require_drawn(pipe, judge: Classifier | ClipJudge, table: pd.DataFrame, domain: str, ua: float = UA, steps: int = STEPS,
                  guidance: float = GUIDANCE) -> None:
    """Raises SearchFailedError where a search could find nothing: the pipeline as it stands does
    not draw the target (or no more often than chance among the judge's classes), or the judge calls
    whatever it draws the target.

    table: an answer set of the search split. ua: share of the target's pictures that must no longer
    show it, as of `search_on_pipeline`. Of the others one picture each is asked for, OTHERS_ASKED
    at most, and only where the judge finds the target in all of its own.
    """
    own, mine = "style" if domain == "styles" else "subject", table[table["group"] == "target"]
    told = told_by(pipe, judge, mine, steps, guidance)
    seen, name = int(told[f"right_{own}"].sum()), mine[own].iloc[0]
    if 1 - seen / len(told) >= ua:
        raise SearchFailedError(f"Before any edit the judge finds {name!r} in {seen} of {len(told)} pictures that {type(pipe).__name__} draws of it; more "
                                f"than {100 * (1 - ua):g} % were expected, or there is nothing to forget. Look at the pictures: choose a concept that the pipeline "
                                "knows, more sampling_steps, or another judge_model.")
    classes = len(judge.styles if own == "style" else judge.subjects)
    if not above_chance(seen, len(told), classes):
        raise SearchFailedError(
            f"Before any edit the judge finds {name!r} in {seen} of {len(told)} pictures that "
            f"{type(pipe).__name__} draws of it, which is no more than chance "
            f"among the {classes} that it tells apart; more was "
            "expected, or forgetting could not be told from guessing. "
            "Look at the pictures: choose "
            "a concept that the pipeline knows, more sampling_steps, or "
            "another judge_model."
        )
    others = table[table["group"] != "target"].drop_duplicates(own).head(OTHERS_ASKED)
    if seen == len(told) and len(others) and (told_by(pipe, judge, others, steps, guidance)["called_style" if own == "style" else "called"] == name).all():
        raise SearchFailedError(f"Before any edit the judge calls everything {name!r} that {type(pipe).__name__} draws, also {len(others)} of {len(others)} pictures of others; "
                                "a judge that tells them apart was expected, or forgetting cannot be seen. Take another judge_model; random weights tell nothing apart.")


def search_on_pipeline(clip: Clip, pipe, judge: Classifier | ClipJudge, g_forget: dict, starts: pd.DataFrame, table: pd.DataFrame, domain: str,
                       layers: int = 2, max_trials: int = 6, ua: float = UA, steps: int = STEPS, guidance: float = GUIDANCE, tried: int = TRIED) -> pd.DataFrame:
    """Search the step with UA as the criterion on the first `tried` layers of `starts`, in order, until it succeeded on `layers` of them.

    starts: rows of `slugkit.evaluate.transfer.transferable`; their `lam`, the step that CLIP's criterion chose, is the first probe.
    table: an answer set of the search split. domain: the target's. ua: share of the target's search pictures that must no longer
    show it, above 0 to 1. tried: 1 or more.
    Returns the probes with the columns of `slugkit.search.search_front`, where `forget` is 1 - UA and `retain` the mean of IRA
    and CRA. CLIP and pipeline are left as they were. Raises PatchError for a pipeline that does not hold the CLIP's text tower,
    SettingError for report prompts or a share out of range, SearchFailedError where the unedited pipeline does not draw the target (`require_drawn`).
    """
    require_tower(clip.model, pipe, "text")
    criterion, frames = Criterion("fa1", 1 - ua), []
    require_drawn(pipe, judge, table, domain, ua, steps, guidance)
    for start in progress(list(starts.head(tried).itertuples()), f"searching on pictures, until {layers} layers forget"):
        with movable(clip.model, pipe, start.layer) as (weight, again):
            measure = PipelineMeasure(pipe, judge, table, domain, again, steps, guidance)
            editable = EditableLayer.of(weight, start.layer, weight_of(g_forget, start.layer))
            frames.append(probe_steps(start.layer, editable, measure, criterion, start.lam, max_trials).frame())
        if sum(frame["chosen"].any() for frame in frames) >= layers:
            break
    found = pd.concat(frames, ignore_index=True)
    return found[[column for column in found if column != "chosen"] + ["chosen"]]


def own_steps_on_pipeline(clip: Clip, pipe, judge: Classifier | ClipJudge, layer: str, directions: dict[str, torch.Tensor], starts: dict[str, float],
                          table: pd.DataFrame, domain: str, max_trials: int = 6, ua: float = UA, steps: int = STEPS, guidance: float = GUIDANCE) -> list[patch.Patch]:
    """One patch a concept, all on one layer, each step searched on the pictures of its own concept as if the others were not there.

    directions, starts: concept -> direction, and lambda of the first probe. table: an answer set of the search split that holds all the concepts
    (`slugkit.evaluate.paper_several.several_answer_set_of`); what must stay is asked once a concept, at the smallest forgetting step. The rest as of `search_on_pipeline`. CLIP and
    pipeline are left as they were. Raises SearchFailedError, naming the concept, where no step on the layer forgets one; PatchError, SettingError as `search_on_pipeline`.
    """
    require_tower(clip.model, pipe, "text")
    column, patches = "style" if domain == "styles" else "subject", []
    for concept, direction in progress(list(directions.items()), f"searching on pictures, {layer}"):
        mine = table[(table["group"] != "target") | (table[column] == concept)]
        with movable(clip.model, pipe, layer) as (weight, again):
            found = probe_steps(layer, EditableLayer.of(weight, layer, direction), PipelineMeasure(pipe, judge, mine, domain, again, steps, guidance), Criterion("fa1", 1 - ua), starts[concept],
                                max_trials, every_retain=False)
        if found.chosen is None:
            raise SearchFailedError(f"{concept}: no step on layer {layer} takes it off {100 * ua:g} % of its search pictures in {len(found.probes)} probes. Choose another "
                                    "layer, or allow more probes.")
        patches.append(patch.make(layer, EditableLayer.of(clip.model, layer, direction), found.chosen.lam, concept, model=clip.model,
                                  metrics={"split": "search", "forget": found.chosen.forget["fa1"], **found.chosen.retain}))
    return patches
