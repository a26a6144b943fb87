"""A judge of generated pictures for data other than the studio's: zero-shot, by a CLIP that is not
edited.

It is not independent: by default it is a copy of the CLIP whose text tower the pipeline reads with,
so both share what that CLIP never told apart; another (`judge_model`) shares less. It names one of
its subjects whatever a picture shows. A classifier trained on labelled pictures is better evidence,
for UnlearnCanvas the benchmark's two (`judge_model` names their folder).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from slugkit.base import SettingError, look_for, require_choice
from slugkit.data import CanvasSource, Source, StudioSource
from slugkit.data.unlearncanvas import class_prompts
from slugkit.evaluation.unlearncanvas import OBJECT_FILE, STYLE_FILE, CanvasJudge, judge_in
from slugkit.models import Clip, load_clip
from slugkit.models.classifier import Classifier, best_named, load_classifier
from slugkit.tasks.prompts import phrase

PLAIN_PROMPTS = ("{}", "a picture of {}", "a photo of {}")
"""How the judge is asked for a class."""


@dataclass
class ClipJudge:
    """A zero-shot judge with the interface of `slugkit.models.classifier.Classifier`; see
    `clip_judge`.

    subjects: the classes it tells apart. classes: (C, d) their text features, made before any edit.
    styles, looks: the same for styles; without them `styles` holds "" alone.
    """

    clip: Clip
    subjects: list[str]
    classes: torch.Tensor
    styles: tuple[str, ...] = ("",)
    looks: torch.Tensor | None = None

    @property
    def weights(self) -> Path | None:
        """The file or folder of the CLIP's weights, where there is one."""
        return self.clip.weights

    def _shares(self, features: torch.Tensor, own: str) -> torch.Tensor:
        known = {"subject": self.classes, "style": self.looks}
        texts = known[require_choice(own, known, "What is judged")]
        if texts is None:
            return torch.ones(len(features), 1)
        return (self.clip.scale * features @ texts.T).softmax(1).cpu()

    def shares(self, images: np.ndarray, own: str = "subject") -> torch.Tensor:
        """(N, H, W, 3) uint8 -> (N, C) float32, softmax over the subjects (own "subject") or the
        styles ("style").
        """
        return self._shares(self.clip.image_features(images), own)

    def name(self, images: np.ndarray) -> pd.DataFrame:
        """(N, H, W, 3) uint8 -> subject, style, subject_share and style_share (0..1)."""
        features = self.clip.image_features(images)
        thing, look = (self._shares(features, own) for own in ("subject", "style"))
        return best_named(thing, self.subjects, look, self.styles)


def _another(clip: Clip, model: str) -> Clip:
    """The CLIP that judges: a copy of the notebook's, or the one that is named."""
    if model:
        return load_clip(model, clip.device.type)
    return replace(clip, model=copy.deepcopy(clip.model))


def clip_judge(clip: Clip, table: pd.DataFrame, model: str = "") -> ClipJudge:
    """A judge of the subjects of an answer set (columns subject and domain), each class by its name
    in three plain prompts.

    clip: copied, so that later edits do not reach the judge. model: another CLIP in its place, as
    of `load_clip`. Raises SettingError for fewer than two subjects, ModelLoadError.
    """
    domains = table.drop_duplicates("subject").set_index("subject")["domain"]
    if len(domains) < 2:
        raise SettingError(
            f"The answer set names {len(domains)} subjects; two or more were expected, or there is"
            " nothing to tell apart."
        )
    own = _another(clip, model)
    said = [phrase(name, domain) for name, domain in domains.items()]
    classes = own.class_features([[p.format(it) for p in PLAIN_PROMPTS] for it in said])
    return ClipJudge(own, domains.index.tolist(), classes)


def canvas_judge(clip: Clip, model: str = "") -> CanvasJudge | ClipJudge:
    """The judge for UnlearnCanvas: the benchmark's two classifiers where `model` is a folder that
    holds one of their files, else a zero-shot CLIP, asked for each class in five of the benchmark's
    prompts.
    """
    folder = Path(model).expanduser()
    files = (folder / name for name in (STYLE_FILE, OBJECT_FILE))
    if model and any(look_for(file).is_file() for file in files):
        return judge_in(folder, clip.device.type)
    own, asked, texts = _another(clip, model), class_prompts(), {}
    for domain, wordings in asked.items():
        for said in wordings.values():
            for name, words in said.items():
                texts.setdefault(domain, {}).setdefault(name, []).extend(words)
    classes, looks = (own.class_features(list(texts[d].values())) for d in ("objects", "styles"))
    return ClipJudge(own, list(texts["objects"]), classes, tuple(texts["styles"]), looks)


def judge_of(
    source: Source, clip: Clip, table: pd.DataFrame, model: str = ""
) -> Classifier | CanvasJudge | ClipJudge:
    """The judge for a source: of the studio its trained classifier (or one in the folder `model`),
    of UnlearnCanvas `canvas_judge`, of other data `clip_judge`. Raises ModelLoadError,
    SettingError.
    """
    if isinstance(source, CanvasSource):
        return canvas_judge(clip, model)
    if isinstance(source, StudioSource):
        return load_classifier(model or "studio", clip.device.type)
    return clip_judge(clip, table, model)
