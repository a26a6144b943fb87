"""Accuracy of every group against the size of the step: the curves of the paper's Fig.

2 (b), (e).
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from slugkit.data import Exam
from slugkit.evaluation.clip import STEERING
from slugkit.evaluation.statistics import wilson
from slugkit.method.edit import EditableLayer
from slugkit.models import Clip
from slugkit.patch import Patch
from slugkit.unlearning.objectives import FastMeasure, FixedFeatures


def step_curve(
    clip: Clip, exam: Exam, edit: Patch, steps: int = 11, reach: float = 2.5
) -> pd.DataFrame:
    """Walk from no step to `reach` times the patch's step. The model is left as it was.

    exam: the search exam. Returns layer, tower, lam, rho, group, value, low, high (0..1, Wilson 95
    %), n.
    """
    measure = FastMeasure(FixedFeatures(clip, exam, [edit.layer]), edit.layer)
    sizes = {g: len(rows) for g, (_, rows) in exam.groups().items()}
    rows = []
    with EditableLayer.of(clip.model, edit.layer, edit.direction.to(clip.device)) as editable:
        for lam in np.linspace(0, reach * edit.lam, steps):
            editable.set(float(lam))
            found = {"target": measure.forget()["fa1"]}
            found |= {g: x for g, x in measure.retain().items() if g in STEERING}
            step = {"lam": float(lam), "rho": editable.rho(float(lam))}
            for group, value in found.items():
                low, high = wilson(round(value * sizes[group]), sizes[group])
                bounds = {"value": value, "low": min(low, value), "high": max(high, value)}
                rows.append({**step, "group": group, **bounds, "n": sizes[group]})
    table = pd.DataFrame(rows)
    table.insert(0, "layer", edit.layer)
    table.insert(1, "tower", edit.tower)
    return table
