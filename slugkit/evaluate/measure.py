"""What a probe of the step search measures, done the fast way and the plain way. Both look at the search split only.

Fast: the tower that is not edited is encoded once; of the edited tower only the blocks from the edited one onwards run
again; what must stay is measured only when the probe forgets. Plain: copy the model, encode everything, every time.
"""

from __future__ import annotations

import copy
from typing import Iterable

import numpy as np
import torch
import torch.nn.functional as F

from slugkit.base import SettingError
from slugkit.data import Exam
from slugkit.evaluate.clip import ExamScorer, class_features
from slugkit.models import Clip
from slugkit.models.layers import tower_of
from slugkit.models.partial import CutImages, CutTexts


class FixedFeatures:
    """Features of the untouched model on an exam, shared by the probes of all layers. Raises SettingError for a report exam.

    layers: those that will be searched; what an edit of them leaves as it is, is kept from the one pass over the pictures.
    """

    def __init__(self, clip: Clip, exam: Exam, layers: Iterable[str] = ()):
        if exam.split != "search":
            raise SettingError(f"The step search was handed the {exam.split} split; expected the search split. Report pictures "
                               "must not steer the search.")
        self.clip, self.exam, self.scorer = clip, exam, ExamScorer(exam)
        self.pictures = CutImages(clip, exam.pairs.images, [layer for layer in layers if tower_of(layer) == "vision"])
        self.images = self.pictures.features
        self.classes = class_features(clip, exam)


class CutClasses:
    """Class features of the model as it is now, while one layer of the text tower changes: what lies before the layer is computed once.

    prompts: domain -> class -> prompts. The call takes a domain and returns (C, d) float32 features of unit length.
    """

    def __init__(self, clip: Clip, prompts: dict[str, dict[str, list[str]]], layer: str):
        prompts = {
            d: dict(zip(classes, clip.wordings(list(classes.values()))))
            for d, classes in prompts.items()
        }
        self._sizes = {d: [len(g) for g in classes.values()] for d, classes in prompts.items()}
        self._texts = {d: CutTexts(clip, [p for g in classes.values() for p in g], layer) for d, classes in prompts.items()}

    def __call__(self, domain: str) -> torch.Tensor:
        flat = torch.split(self._texts[domain](), self._sizes[domain])
        return F.normalize(torch.stack([g.mean(0) for g in flat]), dim=-1)


class FastMeasure:
    """Measures one layer's probes on the model as it is now. See FixedFeatures for what is shared between layers."""

    def __init__(self, fixed: FixedFeatures, layer: str):
        self.fixed, self.layer, self.tower = fixed, layer, tower_of(layer)
        clip, exam, scorer = fixed.clip, fixed.exam, fixed.scorer
        self._domain = scorer.groups["target"][0]
        if self.tower == "text":
            self._classes = CutClasses(clip, exam.prompts, layer)

    def _images(self, rows: np.ndarray) -> torch.Tensor:
        """The untouched features with these rows as the model sees them now."""
        v = self.fixed.images.clone()
        v[torch.from_numpy(rows)] = self.fixed.pictures.again(self.layer, rows)
        return v

    def forget(self) -> dict[str, float]:
        """FA@1 and FA@5 on the target's search pictures."""
        if self.tower == "vision":
            return self.fixed.scorer.forget(self._images(self.fixed.scorer.target_rows), self.fixed.classes)
        self._now = {self._domain: self._classes(self._domain)}
        return self.fixed.scorer.forget(self.fixed.images, self._now)

    def retain(self) -> dict[str, float]:
        """Accuracy of the groups that must stay; ask after `forget` at the same step."""
        if self.tower == "vision":
            return self.fixed.scorer.retain(self._images(self.fixed.scorer.rest_rows), self.fixed.classes)
        t = {d: self._now[d] if d in self._now else self._classes(d) for d in self.fixed.exam.prompts}
        return self.fixed.scorer.retain(self.fixed.images, t)


class PlainMeasure:
    """The straightforward way, as in the authors' search: deep copy of the model, everything encoded for every probe."""

    def __init__(self, clip: Clip, exam: Exam):
        self.clip, self.exam, self.scorer = clip, exam, ExamScorer(exam)
        self._retain: dict[str, float] = {}

    def forget(self) -> dict[str, float]:
        """FA@1 and FA@5; the rest is measured along with it."""
        clip = copy.copy(self.clip)
        clip.model = copy.deepcopy(self.clip.model)
        v, t = clip.image_features(self.exam.pairs.images), class_features(clip, self.exam)
        self._retain = self.scorer.retain(v, t)
        return self.scorer.forget(v, t)

    def retain(self) -> dict[str, float]:
        """Accuracy of the groups that must stay, measured with the last `forget`."""
        return self._retain
