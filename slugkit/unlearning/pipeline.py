"""The step searched on a pipeline's own pictures: forgotten when UA on search prompts is high.

The authors' path for Stable Diffusion: the gradient of the CLIP, the deepest layer of the text
tower's front, and the step searched on generated pictures. The methods differ in the direction of
the step alone.
"""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import torch

from slugkit.base import SearchFailedError
from slugkit.data import Source
from slugkit.evaluation.clip_judge import ClipJudge
from slugkit.evaluation.diffusion import PipelineMeasure, told_by
from slugkit.method.search import Criterion
from slugkit.models import Clip
from slugkit.models.activations import watched
from slugkit.models.classifier import Classifier
from slugkit.models.diffusion import GUIDANCE, STEPS
from slugkit.models.reachability import unused_layers
from slugkit.models.weight_map import require_tower
from slugkit.tasks import answer_set_of
from slugkit.tasks.prompts import some_others
from slugkit.unlearning.concept import require_above_chance, search_within
from slugkit.unlearning.result import Directions

UA = 0.95
"""Share of the target's search pictures that must no longer show it."""
TRIALS = 10
"""Probes on each layer at most."""
STOP_RATIO = 1.1
"""A search ends where the smallest forgetting step is this many times the largest that does not
forget: a few dozen pictures tell no finer steps apart."""
CHOOSE = (
    "Look at the pictures: choose a concept that the pipeline knows, more sampling_steps, or "
    "another judge_model."
)
OTHERS_ASKED = 16
"""Pictures of others by which is seen whether the judge tells anything apart, and what the step
costs where there is no choice of layers."""


def deepest_first(table: pd.DataFrame, part) -> list[str]:
    """The layers of the text tower's blocks that the pipeline uses, in the order in which they are
    searched: those on the front before the others, each from the deepest up.

    The first is the authors' choice, the deepest layer of the front inside the blocks (where two of
    one block are on the front, that which the tower runs last). table: of
    `slugkit.unlearning.concept.score_layers`. part: the pipeline's text encoder
    (`slugkit.models.weight_map.part_of`), or a pipeline with one.
    """
    mine = table[(table["tower"] == "text") & table["candidate"] & (table["block"] >= 0)]
    mine = mine[~mine["layer"].isin(unused_layers(part, mine["layer"].tolist()))]
    order = mine.iloc[::-1].sort_values(["front", "block"], ascending=False, kind="stable")
    return order["layer"].tolist()


@torch.no_grad()
def read_by_encoder(
    pipe, captions: list[str], layers: list[str], batch_size: int = 128
) -> Directions:
    """Second moment of what each layer of the pipeline's text encoder reads of the captions,
    padding included, since the UNet reads that too: layer -> (d, d) float64 on the CPU.

    pipe: a pipeline; of one with several text encoders the part that is meant
    (`slugkit.models.weight_map.part_of`).
    """
    encoder, longest = pipe.text_encoder, pipe.tokenizer.model_max_length
    with watched(encoder, layers) as seen:
        for i in range(0, len(captions), batch_size):
            tokens = pipe.tokenizer(
                captions[i : i + batch_size],
                padding="max_length",
                truncation=True,
                max_length=longest,
                return_tensors="pt",
            )
            encoder(tokens.input_ids.to(encoder.device))
    return {layer: found.matrix.cpu() for layer, found in seen.items()}


def require_drawn(
    pipe,
    judge: Classifier | ClipJudge,
    table: pd.DataFrame,
    domain: str,
    ua: float = UA,
    steps: int = STEPS,
    guidance: float = GUIDANCE,
) -> None:
    """Raises SearchFailedError where a search could find nothing: the pipeline as it stands does
    not draw the target (or no more often than chance among the judge's classes), or the judge calls
    whatever it draws the target, which is asked of others where it finds the target in all its own.

    table: an answer set of the search split. ua: as of `search_on_pipeline`.
    """
    own, mine = "style" if domain == "styles" else "subject", table[table["group"] == "target"]
    told = told_by(pipe, judge, mine, steps, guidance)
    seen, name, count = int(told[f"right_{own}"].sum()), mine[own].iloc[0], len(told)
    by = type(pipe).__name__
    if 1 - seen / count >= ua:
        raise SearchFailedError(
            f"Before any edit the judge finds {name!r} in {seen} of {count} pictures that {by} "
            f"draws of it; more than {100 * (1 - ua):g} % were expected, or there is nothing to "
            f"forget. {CHOOSE}"
        )
    classes = len(judge.styles if own == "style" else judge.subjects)
    require_above_chance(name, seen, count, classes, "the judge", CHOOSE)
    others = table[table["group"] != "target"].drop_duplicates(own).head(OTHERS_ASKED)
    if seen < count or others.empty:
        return
    told = told_by(pipe, judge, others, steps, guidance)
    if (told["called_style" if own == "style" else "called"] == name).all():
        raise SearchFailedError(
            f"Before any edit the judge calls everything {name!r} that {by} draws, also "
            f"{len(others)} of {len(others)} pictures of others; a judge that tells them apart was "
            "expected. Take another judge_model."
        )


def search_on_pipeline(
    clip: Clip,
    pipe,
    judge: Classifier | ClipJudge,
    directions: Directions,
    layers: list[str],
    table: pd.DataFrame,
    domain: str,
    max_trials: int = TRIALS,
    ua: float = UA,
    steps: int = STEPS,
    guidance: float = GUIDANCE,
    stop_ratio: float = STOP_RATIO,
) -> pd.DataFrame:
    """Search the step with UA as the criterion on each of the layers, from a relative step of 10 %.

    Args:
        directions: layer, or weight, -> what is stepped along.
        table: an answer set of the search split.
        domain: the target's.
        max_trials, stop_ratio: as of `probe_steps`, for each layer.
        ua: share of the target's search pictures that must no longer show it, above 0 to 1.

    Returns:
        The probes, as of `search_within`, where `forget` is 1 - UA and `retain` the mean of IRA and
        CRA; `drawn`, the pictures asked for on the layer.

    Raises:
        PatchError: the pipeline does not hold the CLIP's text tower.
        SettingError: report prompts, or a share out of range.
        SearchFailedError: as of `require_drawn`.
    """
    require_tower(clip.model, pipe, "text")
    Criterion("fa1", 1 - ua)
    require_drawn(pipe, judge, table, domain, ua, steps, guidance)
    measures: dict[str, PipelineMeasure] = {}

    def measure_of(layer: str, again: Callable[[], None]) -> PipelineMeasure:
        given = pipe, judge, table, domain, again, steps, guidance
        return measures.setdefault(layer, PipelineMeasure(*given, at_most=1 - ua))

    how = measure_of, 1 - ua, max_trials, stop_ratio
    found = search_within(clip, pipe, directions, layers, *how)
    drawn = found["layer"].map({layer: measure.drawn for layer, measure in measures.items()})
    found.insert(found.columns.get_loc("chosen"), "drawn", drawn)
    return found


def search_set(source: Source, concept: str, layers: int = 1) -> pd.DataFrame:
    """The answer set on which a step is searched: 28 pictures of the concept and one of every other
    subject where several layers are searched, since the others choose between these; of a single
    layer 20, and of 16 others, evenly over the domains.
    """
    if layers > 1:
        return answer_set_of(source, concept, "search", 28, 1)
    return some_others(answer_set_of(source, concept, "search", 20, 1), OTHERS_ASKED)


def pictures_drawn(probes: pd.DataFrame) -> int:
    """How many pictures a search asked for, from its probes."""
    return int(probes.drop_duplicates("layer")["drawn"].sum())
