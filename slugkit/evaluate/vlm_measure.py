"""The step search on a vision-language model: its own gradients, what a probe measures, and the search over layers.

A probe asks whether greedy decoding would give the whole answer. One forward pass over the answer tells: it would, if every token
is the likeliest one after those before it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from slugkit.base import SettingError, progress
from slugkit.evaluate.vlm import Asked, kept
from slugkit.gradients import mean_gradient
from slugkit.models import Clip
from slugkit.models.inputs import watched
from slugkit.models.layers import weight_of
from slugkit.models.names import carried, locate, require_tower
from slugkit.models.vlm import Vlm
from slugkit.search import Criterion, EditableLayer, probe_steps


def batches_of(asked: Asked, batch_size: int = 64) -> list[np.ndarray]:
    """Rows in batches of questions and answers of like length, so that little is padded."""
    order = np.argsort([len(q) + len(a) for q, a in zip(asked.table["text"], asked.table["wanted"])], kind="stable")
    return [order[i:i + batch_size] for i in range(0, len(order), batch_size)]


class Script:
    """Questions with their wanted answers, made ready once for many probes. vlm: the model that is asked."""

    def __init__(self, vlm: Vlm, asked: Asked, batch_size: int = 64):
        self.vlm, self.table = vlm, asked.table
        self._parts = [(rows, told_rows(vlm, asked, rows)) for rows in batches_of(asked, batch_size)]

    @torch.no_grad()
    def given(self) -> np.ndarray:
        """Whether the model as it stands answers each question with exactly the wanted answer: (N,) bool."""
        out = np.zeros(len(self.table), bool)
        for rows, batch in self._parts:
            hidden = self.vlm.model.model(**{k: v for k, v in batch.items() if k != "labels"}).last_hidden_state
            labels = batch["labels"][:, 1:]
            where = labels != -100
            wrong = torch.zeros_like(where)
            wrong[where] = self.vlm.model.lm_head(hidden[:, :-1][where]).argmax(-1) != labels[where]
            out[rows] = (~wrong.any(dim=1)).cpu().numpy()
        return out


def told_rows(vlm: Vlm, asked: Asked, rows: np.ndarray) -> dict[str, torch.Tensor]:
    """The given rows as one batch with the wanted answers."""
    part = asked.table.iloc[rows]
    return vlm.told(asked.images[rows], part["text"].tolist(), part["wanted"].tolist())


def log_odds(vlm: Vlm, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """log p / (1 - p) of each wanted answer as a whole, p its likelihood: (N,) float32. batch: as `Vlm.told` gives it.

    Where the model is sure, the gradient of log p fades with 1 - p, so that the few pictures it doubts would speak for all; that of the
    log odds does not.
    """
    hidden = vlm.model.model(**{k: v for k, v in batch.items() if k != "labels"}).last_hidden_state[:, :-1]
    labels = batch["labels"][:, 1:]
    tokens = F.cross_entropy(vlm.model.lm_head(hidden).float().transpose(1, 2), labels, ignore_index=-100, reduction="none")
    log_p = -tokens.double().sum(1)
    return (log_p - torch.log(-torch.expm1(log_p.clamp(max=-1e-9)))).float()


def answer_gradient(vlm: Vlm, asked: Asked, layers: list[str], batch_size: int = 48) -> dict[str, torch.Tensor]:
    """The model's own gradient: of the mean log odds of the wanted answers, by canonical layer, float32.

    Of the forget set it is a direction to descend along, as the gradient of the mean cosine is; of the retain set, minus it is the
    gradient of a retain loss. The language model's own weights are left out. Raises GradientError, EmptySetError.
    """
    found = mean_gradient(vlm.model, lambda rows: log_odds(vlm, told_rows(vlm, asked, rows)).mean(), batches_of(asked, batch_size), "the model's own gradient")
    return {layer: locate(found, layer).read() for layer in layers}


@torch.no_grad()
def read_by(vlm: Vlm, images: np.ndarray, layers: list[str], batch_size: int = 128) -> dict[str, torch.Tensor]:
    """Second moment of what each layer of the vision tower reads of the pictures: layer -> (d, d) float64. images: (N, H, W, 3) uint8."""
    tower = vlm.model.model.vision_tower
    device = next(tower.parameters()).device
    with watched(tower, layers) as seen:
        for i in progress(range(0, len(images), batch_size), "reading the layers' inputs"):
            pixels = vlm.processor.image_processor(list(images[i:i + batch_size]), return_tensors="pt")["pixel_values"]
            tower(pixels.to(device, vlm.model.dtype))
    return {layer: found.matrix for layer, found in seen.items()}


class VlmMeasure:
    """What a probe measures on the model; search questions only.

    again: copies the CLIP's present weight into the model (`slugkit.models.names.carried` yields it). The forget measure is the
    share of the target's pictures that still get the right name, under both keys fa1 and fa5; the retain measure that of
    `kept`. Raises SettingError for report questions.
    """

    def __init__(self, vlm: Vlm, asked: Asked, again: Callable[[], None]):
        if asked.split != "search":
            raise SettingError(f"The step search was handed {asked.split} questions; search questions were expected. Report pictures must not "
                               "steer the search.")
        target = (asked.table["group"] == "target").to_numpy()
        self.again, self._target, self._rest = again, Script(vlm, asked.take(target)), Script(vlm, asked.take(~target))

    def forget(self) -> dict[str, float]:
        """Share of the target's search pictures that still get the right name."""
        self.again()
        still = float(self._target.given().mean())
        return {"fa1": still, "fa5": still}

    def retain(self) -> dict[str, float]:
        """Right answers about everybody and everything else, 0..1."""
        self.again()
        return kept(self._rest.table.assign(right=self._rest.given()))


def search_on_vlm(clip: Clip, vlm: Vlm, directions: dict[str, torch.Tensor], asked: Asked, layers: list[str], max_trials: int = 10,
                  target: str = "fa1") -> pd.DataFrame:
    """Search the step on each layer with the model's own answers as the criterion.

    directions: canonical weight -> what is stepped along, theta - lambda * direction. asked: a question set of the search split.
    Returns the probes with the columns of `slugkit.search.search_front`. CLIP and model are left as they were. Raises PatchError
    for a model that does not hold the CLIP's vision tower, or never reads a layer.
    """
    require_tower(clip.model, vlm.model, "vision")
    measure, frames = VlmMeasure(vlm, asked, lambda: None), []
    for layer in progress(layers, "searching the step on answers"):
        with carried(clip.model, vlm.model, layer) as again:
            measure.again = again
            editable = EditableLayer.of(clip.model, layer, weight_of(directions, layer))
            frames.append(probe_steps(layer, editable, measure, Criterion(target), max_trials=max_trials).frame())
    found = pd.concat(frames, ignore_index=True)
    return found[[column for column in found if column != "chosen"] + ["chosen"]]
