"""The step searched on the pipeline itself: forgotten when UA is high enough on search prompts, not when CLIP no longer finds the name."""

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

UA = 0.95
"""Search pictures of the target that must no longer show it: enough for nine in ten on the report, with room for chance."""


def search_on_pipeline(clip: Clip, pipe, judge: Classifier, g_forget: dict, starts: pd.DataFrame, table: pd.DataFrame, domain: str,
                       layers: int = 2, max_trials: int = 6, ua: float = UA, steps: int = STEPS, guidance: float = GUIDANCE) -> pd.DataFrame:
    """Search the step with UA as the criterion on the layers of `starts`, in order, until it succeeded on `layers` of them.

    starts: rows of `slugkit.evaluate.transfer.transferable`; their `lam`, the step that CLIP's criterion chose, is the first probe.
    table: an answer set of the search split. domain: the target's. ua: share of the target's search pictures that must no longer
    show it, above 0 to 1.
    Returns the probes with the columns of `slugkit.search.search_front`, where `forget` is 1 - UA and `retain` the mean of IRA
    and CRA. CLIP and pipeline are left as they were. Raises PatchError for a pipeline that does not hold the CLIP's text tower,
    SettingError for report prompts or a share out of range.
    """
    require_tower(clip.model, pipe, "text")
    frames = []
    for start in progress(list(starts.itertuples()), "searching the step on generated pictures"):
        with carried(clip.model, pipe, start.layer) as again:
            measure = PipelineMeasure(pipe, judge, table, domain, again, steps, guidance)
            editable = EditableLayer.of(clip.model, start.layer, weight_of(g_forget, start.layer))
            frames.append(probe_steps(start.layer, editable, measure, Criterion("fa1", 1 - ua), start.lam, max_trials).frame())
        if sum(frame["chosen"].any() for frame in frames) >= layers:
            break
    found = pd.concat(frames, ignore_index=True)
    return found[[column for column in found if column != "chosen"] + ["chosen"]]
