"""What a probe of the step search measures, done the fast way and the plain way.

Both look at the search split only.

Fast: the tower that is not edited is encoded once; of the edited tower only the blocks from the
edited one onwards run again; what must stay is measured only when the probe forgets. Plain: copy
the model, encode everything, every time.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable

import numpy as np
import torch

from slugkit.base import SettingError
from slugkit.data import Exam
from slugkit.data.source import Prompts
from slugkit.evaluation.clip import ExamScorer, askable, class_features, group_means, text_groups
from slugkit.method.layers import tower_of
from slugkit.models import Clip
from slugkit.models.prefix_cache import CutImages, CutTexts


class FixedFeatures:
    """Features of the untouched model on an exam, shared by the probes of all layers.

    Raises SettingError for a report exam.

    layers: those that will be searched; what an edit of them leaves as it is, is kept from the one
    pass over the pictures.
    """

    def __init__(self, clip: Clip, exam: Exam, layers: Iterable[str] = ()):
        if exam.split != "search":
            raise SettingError(
                f"The step search was handed the {exam.split} split; expected the search split."
                " Report pictures must not steer the search."
            )
        exam = askable(clip, exam)
        self.clip, self.exam, self.scorer = clip, exam, ExamScorer(exam)
        seen = [layer for layer in layers if tower_of(layer) == "vision"]
        self.pictures = CutImages(clip, exam.pairs.images, seen)
        self.images = self.pictures.features
        self.classes = class_features(clip, exam)


class CutClasses:
    """Class features of the model as it is now, while one layer of the text tower changes: what
    lies before the layer is computed once.

    prompts: as of an exam. The call takes a domain and returns (W, C, d) float32 features of unit
    length.
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


class FastMeasure:
    """Measures one layer's probes on the model as it is now.

    See FixedFeatures for what is shared between layers.
    """

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
            v = self._images(self.fixed.scorer.target_rows)
            return self.fixed.scorer.forget(v, self.fixed.classes)
        self._now = {self._domain: self._classes(self._domain)}
        return self.fixed.scorer.forget(self.fixed.images, self._now)

    def retain(self) -> dict[str, float]:
        """Accuracy of the groups that must stay; ask after `forget` at the same step."""
        if self.tower == "vision":
            v = self._images(self.fixed.scorer.rest_rows)
            return self.fixed.scorer.retain(v, self.fixed.classes)
        rest = [d for d in self.fixed.exam.prompts if d not in self._now]
        t = self._now | {d: self._classes(d) for d in rest}
        return self.fixed.scorer.retain(self.fixed.images, t)


class PlainMeasure:
    """The straightforward way, as in the authors' search: deep copy of the model, everything
    encoded for every probe.
    """

    def __init__(self, clip: Clip, exam: Exam):
        exam = askable(clip, exam)
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
