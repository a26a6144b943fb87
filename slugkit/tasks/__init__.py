"""What is asked of a model: prompts and questions about a concept and about what must stay."""

from __future__ import annotations

import pandas as pd

from slugkit.data import CanvasSource, Source, StudioSource
from slugkit.studio import KINDS
from slugkit.tasks import canvas_prompts, prompts


def domain_of(source: Source, concept: str) -> str:
    """The domain of a concept of any source. Raises what `source.exam` raises."""
    if isinstance(source, StudioSource):
        return KINDS[source.kind(concept)]
    return source.exam(concept, "report").target_domain


def answer_set_of(
    source: Source,
    concept: str,
    split: str,
    target_size: int = 28,
    size: int = 2,
    tier: str = "smoke",
) -> pd.DataFrame:
    """The answer set of a concept of any source; only UnlearnCanvas's has a `tier`."""
    if isinstance(source, CanvasSource):
        return canvas_prompts.canvas_answer_set(concept, split, tier, target_size, size)
    if isinstance(source, StudioSource):
        return prompts.answer_set(source.world, concept, split, target_size, size)
    return prompts.paper_answer_set(source, concept, split, target_size, size)


def showcase_of(source: Source, concept: str) -> pd.DataFrame:
    """Up to eight prompts to look at: columns prompt, seed, what."""
    if isinstance(source, CanvasSource):
        return canvas_prompts.canvas_showcase(concept)
    if isinstance(source, StudioSource):
        return prompts.showcase(source.world, concept)
    return prompts.paper_showcase(source, concept)
