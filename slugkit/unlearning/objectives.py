"""What a probe of the step search measures on a CLIP, and the curves of its steps.

Only what a step moves is computed anew: the tower that is not edited is encoded once; of the edited
tower the blocks from the edited one onwards run again; what must stay is measured only when the
probe forgets.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from slugkit.base import SettingError
from slugkit.data import Exam
from slugkit.data.source import Prompts
from slugkit.evaluation.clip import STEERING, Scorer, group_means, text_groups
from slugkit.evaluation.statistics import wilson
from slugkit.method.edit import EditableLayer
from slugkit.method.layers import tower_of
from slugkit.models import Clip
from slugkit.models.prefix_cache import CutTexts
from slugkit.patch import Patch


class CutClasses:
    """Class features, (W, C, d) float32 of unit length by domain, of the model as it is now while
    one layer of the text tower changes: what lies before the layer is computed once.
    """

    def __init__(self, clip: Clip, prompts: Prompts, layer: str):
        self._groups = {d: text_groups(wordings) for d, wordings in prompts.items()}
        self._wordings = {d: len(wordings) for d, wordings in prompts.items()}
        self._texts = {
            d: CutTexts(clip, [text for texts in groups for text in texts], layer)
            for d, groups in self._groups.items()
        }

    def __call__(self, domain: str) -> torch.Tensor:
        return group_means(self._texts[domain](), self._groups[domain], self._wordings[domain])


class CachedMeasure:
    """What the probes of one layer measure on a search exam; of several concepts the one that is
    recognised most.

    asked: the concepts whose forget accuracy counts, by default all. gone: those that need not
    stay, by default those asked about. classes: class features that were cut at this layer already.
    Raises SettingError for a report exam.
    """

    def __init__(
        self,
        scorer: Scorer,
        layer: str,
        asked: Sequence[str] = (),
        gone: Sequence[str] = (),
        classes: CutClasses | None = None,
    ):
        if scorer.exam.split != "search":
            raise SettingError(
                f"The step search was handed the {scorer.exam.split} split; expected the search "
                "split. Report pictures must not steer the search."
            )
        self.scorer, self.layer, self._moves_text = scorer, layer, tower_of(layer) == "text"
        self.asked = list(asked or scorer.exam.concepts)
        self.gone = list(gone or self.asked)
        self._now = {} if self._moves_text else scorer.words
        if self._moves_text:
            self._classes = classes or CutClasses(scorer.clip, scorer.exam.prompts, layer)

    def about(self, asked: Sequence[str], gone: Sequence[str] = ()) -> CachedMeasure:
        """The same layer, other concepts; what lies before the layer is not computed again."""
        classes = self._classes if self._moves_text else None
        return CachedMeasure(self.scorer, self.layer, asked, gone, classes)

    def _pictures(self, rows: np.ndarray) -> torch.Tensor | None:
        """The features of all pictures, these rows as the model sees them now; None where no step
        moves them.
        """
        if self._moves_text:
            return None
        v = self.scorer.v.clone()
        v[torch.from_numpy(rows)] = self.scorer.pictures.again(self.layer, rows)
        return v

    def forget(self) -> dict[str, float]:
        """FA@1 and FA@5 on the search pictures of the concepts asked about."""
        exam = self.scorer.exam
        if self._moves_text:
            domains = dict.fromkeys(map(exam.domain, self.asked))
            self._now = {d: self._classes(d) for d in domains}
        rows = np.flatnonzero(np.any([exam.shows(c) for c in self.asked], axis=0))
        return self.scorer.forget(self.asked, self._now, self._pictures(rows))

    def retain(self) -> dict[str, float]:
        """Accuracy of the groups that must stay; ask after `forget` at the same step."""
        rest = [d for d in self.scorer.exam.prompts if d not in self._now]
        t = self._now | {d: self._classes(d) for d in rest}
        rows = np.concatenate([rows for _, rows in self.scorer.groups(self.gone).values()])
        return self.scorer.retain(self.gone, t, self._pictures(np.unique(rows)))


def step_curve(
    clip: Clip, exam: Exam, edit: Patch, steps: int = 11, reach: float = 2.5
) -> pd.DataFrame:
    """Walk from no step to `reach` times the patch's step, as in the paper's Fig. 2 (b) and (e).

    exam: the search exam. Returns layer, tower, lam, rho, group, value, low, high (0..1, Wilson 95
    %), n. The model is left as it was.
    """
    measure = CachedMeasure(Scorer(clip, exam, layers=[edit.layer]), edit.layer)
    sizes = {g: len(rows) for g, (_, rows) in exam.groups().items()}
    rows = []
    with EditableLayer.of(clip.model, edit.layer, edit.direction.to(clip.device)) as editable:
        for lam in np.linspace(0, reach * edit.lam, steps).tolist():
            editable.set(lam)
            found = {"target": measure.forget()["fa1"]}
            found |= {g: x for g, x in measure.retain().items() if g in STEERING}
            where = {"layer": edit.layer, "tower": edit.tower, "lam": lam, "rho": editable.rho(lam)}
            for group, value in found.items():
                low, high = wilson(round(value * sizes[group]), sizes[group])
                bounds = {"value": value, "low": min(low, value), "high": max(high, value)}
                rows.append({**where, "group": group, **bounds, "n": sizes[group]})
    return pd.DataFrame(rows)
