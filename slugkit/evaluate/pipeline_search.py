"""The step searched on the pipeline itself: forgotten when UA is 100 % on search prompts, not when CLIP no longer finds the name."""

from __future__ import annotations

import pandas as pd

from slugkit.base import progress
from slugkit.evaluate.diffusion import PipelineMeasure
from slugkit.models import Clip
from slugkit.models.classifier import Classifier
from slugkit.models.diffusion import GUIDANCE, STEPS
from slugkit.models.layers import weight_of
from slugkit.models.names import carried, require_tower
from slugkit.search import Criterion, EditableLayer, probe_steps


def search_on_pipeline(clip: Clip, pipe, judge: Classifier, g_forget: dict, starts: pd.DataFrame, table: pd.DataFrame, domain: str,
                       max_trials: int = 6, steps: int = STEPS, guidance: float = GUIDANCE) -> pd.DataFrame:
    """Search the step with UA as the criterion on the layers of `starts`, each from the step that CLIP's criterion chose.

    starts: rows of `slugkit.evaluate.transfer.transferable`; their `lam` is the first probe. table: an answer set of the
    search split. domain: the target's. Returns the probes with the columns of `slugkit.search.search_front`, where
    `forget` is 1 - UA and `retain` the mean of IRA and CRA. CLIP and pipeline are left as they were. Raises PatchError for a
    pipeline that does not hold the CLIP's text tower, SettingError for report prompts.
    """
    require_tower(clip.model, pipe, "text")
    frames = []
    for start in progress(list(starts.itertuples()), "searching the step on generated pictures"):
        with carried(clip.model, pipe, start.layer) as again:
            measure = PipelineMeasure(pipe, judge, table, domain, again, steps, guidance)
            editable = EditableLayer.of(clip.model, start.layer, weight_of(g_forget, start.layer))
            frames.append(probe_steps(start.layer, editable, measure, Criterion("fa1"), start.lam, max_trials).frame())
    found = pd.concat(frames, ignore_index=True)
    return found[[column for column in found if column != "chosen"] + ["chosen"]]
