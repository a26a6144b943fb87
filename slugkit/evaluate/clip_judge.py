"""A judge of generated pictures for data other than the studio's: zero-shot, by a CLIP that is not edited.

It is not independent. By default it is a copy of the CLIP whose text tower the pipeline reads with, so both share what that CLIP never told apart; another
CLIP (`judge_model`) shares less. It names one of its subjects whatever a picture shows, so a picture of nothing in particular may still be called the
target. A classifier trained on labelled pictures is better evidence: for UnlearnCanvas take the benchmark's two (`slugkit.evaluate.unlearncanvas`), at
studio scale there is `slugkit.models.classifier`.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch

from slugkit.base import SettingError
from slugkit.data import Source
from slugkit.data.studio_source import NAME_PROMPTS
from slugkit.evaluate.paper_prompts import phrase
from slugkit.models import Clip, load_clip
from slugkit.models.classifier import Classifier, load_classifier


@dataclass
class ClipJudge:
    """A zero-shot judge with the interface of `slugkit.models.classifier.Classifier`. Make one with `clip_judge`.

    subjects: the classes it tells apart. classes: (C, d) their text features, made before any edit. There are no styles here: `styles` holds "" alone.
    """

    clip: Clip
    subjects: list[str]
    classes: torch.Tensor
    styles: tuple[str, ...] = ("",)

    def shares(self, images: np.ndarray) -> torch.Tensor:
        """(N, H, W, 3) uint8 -> (N, C) float32: softmax of the CLIP's logit scale times the cosines, 0..1 and 1 in sum."""
        return (self.clip.scale * self.clip.image_features(images) @ self.classes.T).softmax(1).cpu()

    def name(self, images: np.ndarray) -> pd.DataFrame:
        """(N, H, W, 3) uint8 -> columns subject, style (""), subject_share (0..1) and style_share (1)."""
        best = self.shares(images).max(1)
        return pd.DataFrame({"subject": [self.subjects[i] for i in best.indices], "style": "", "subject_share": best.values.numpy(), "style_share": 1.0})


def clip_judge(clip: Clip, table: pd.DataFrame, model: str = "") -> ClipJudge:
    """A judge of the subjects of an answer set (columns subject and domain), each class by its name in three plain prompts.

    clip: the notebook's CLIP, before any edit; it is copied, so that later edits do not reach the judge. model: another CLIP, by any name of
    `slugkit.models.load_clip`; "" takes the copy. Raises SettingError for fewer than two subjects, ModelLoadError for a CLIP that cannot be loaded.
    """
    domains = table.drop_duplicates("subject").set_index("subject")["domain"]
    if len(domains) < 2:
        raise SettingError(f"The answer set names {len(domains)} subjects; two or more were expected, or there is nothing to tell apart.")
    own = load_clip(model, clip.device.type) if model else replace(clip, model=copy.deepcopy(clip.model))
    classes = own.class_features([[prompt.format(phrase(name, domain)) for prompt in NAME_PROMPTS] for name, domain in domains.items()])
    return ClipJudge(own, domains.index.tolist(), classes)


def judge_of(source: Source, clip: Clip, table: pd.DataFrame, model: str = "") -> Classifier | ClipJudge:
    """The judge for a source: of the studio its trained classifier, of other data `clip_judge`; arguments as there. Raises ModelLoadError, SettingError."""
    return load_classifier(device=clip.device.type) if hasattr(source, "world") else clip_judge(clip, table, model)
