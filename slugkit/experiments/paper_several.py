"""Several concepts drawn by one pipeline, for any source: the prompts, those to look at, and what
is checked before a search.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from slugkit.base import PatchError
from slugkit.data import Source, StudioSource, names_concept
from slugkit.data.unlearncanvas import spoken
from slugkit.evaluation.clip_judge import ClipJudge
from slugkit.models import Clip
from slugkit.models.classifier import Classifier
from slugkit.models.diffusion import GUIDANCE, STEPS, load_pipeline
from slugkit.models.weight_map import require_tower
from slugkit.tasks.paper_prompts import answer_set_of, domain_of, showcase_of
from slugkit.tasks.prompts import join_answer_sets, require_one_domain, several_answer_set
from slugkit.unlearning.pipeline import UA, require_drawn

OTHERS_SHOWN = 4
"""Pictures to look at that show none of the concepts."""


def several_answer_set_of(
    source: Source, concepts: list[str], split: str, target_size: int = 28, size: int = 1
) -> pd.DataFrame:
    """The answer sets of several concepts of one domain as one, for any source: `target_size`
    pictures of each concept, and `size` of every other subject of any of the sets.

    Columns as of `slugkit.tasks.prompts.answer_set`; neighbours are those of any of the concepts.
    Raises SettingError for concepts of several domains or another split, UnknownConceptError,
    EmptySetError.
    """
    if isinstance(source, StudioSource):
        return several_answer_set(source.world, concepts, split, target_size, size)
    domain = require_one_domain({concept: domain_of(source, concept) for concept in concepts})
    sets = [answer_set_of(source, concept, split, target_size, size) for concept in concepts]
    near = {name for concept in concepts for name in source.neighbours(concept)} - set(concepts)
    return join_answer_sets(sets, concepts, near, "style" if domain == "styles" else "subject")


def several_showcase_of(source: Source, concepts: list[str]) -> pd.DataFrame:
    """Prompts to look at, with seeds that no split uses: one of each concept, then up to four that
    name none of them. Columns prompt, seed and what: "target", "neighbour" or "other".
    """
    shown = [showcase_of(source, concept) for concept in concepts]
    others = pd.concat(shown).drop_duplicates("prompt")
    others = others[others["what"].isin(["neighbour", "other"])]
    forms = {form for concept in concepts for form in (concept, spoken(concept))}
    named = [any(names_concept(said, form) for form in forms) for said in others["prompt"]]
    others = others[~np.array(named, bool)].head(OTHERS_SHOWN).sort_values("what")
    return pd.concat([*(table.iloc[:1] for table in shown), others], ignore_index=True)


def pipeline_with_tower(clip: Clip, pipeline: str, device: str = "auto", device_map: str = ""):
    """The pipeline of `slugkit.models.diffusion.load_pipeline`, where its text tower is the CLIP's;
    None for the studio's beside another CLIP. Raises PatchError for another such pipeline.
    """
    pipe = load_pipeline(pipeline, device, device_map)
    try:
        require_tower(clip.model, pipe, "text")
    except PatchError:
        if pipeline != "studio":
            raise
        return None
    return pipe


def require_all_drawn(
    pipe,
    judge: Classifier | ClipJudge,
    table: pd.DataFrame,
    domain: str,
    ua: float = UA,
    steps: int = STEPS,
    guidance: float = GUIDANCE,
) -> None:
    """Raises SearchFailedError naming the first concept that the pipeline does not draw.

    table: an answer set of the search split that holds all the concepts. The rest as of
    `slugkit.unlearning.pipeline.require_drawn`.
    """
    own, target = "style" if domain == "styles" else "subject", table["group"] == "target"
    for name in table.loc[target, own].unique():
        mine = table[~target | (table[own] == name)]
        require_drawn(pipe, judge, mine, domain, ua, steps, guidance)
