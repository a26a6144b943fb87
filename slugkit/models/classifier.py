"""The judge of generated pictures: a small timm ResNet that names the subject and the style of a
studio picture.

UA, IRA and CRA are shares of its answers (UnlearnCanvas uses two ViT classifiers in the same role).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image

from slugkit.base import ModelLoadError, data_dir
from slugkit.data.pictures import as_square
from slugkit.models.clip import pick_device, require_uint8
from slugkit.models.precision import multiplying

CONFIG, WEIGHTS, EDGE = "config.json", "model.safetensors", 64
"""Its files, and the edge in pixels of the pictures that it was trained on."""


@dataclass
class Classifier:
    """A loaded judge. subjects, styles: the classes it tells apart; a novel subject is written
    "star-shaped house". weights: the folder that it was loaded from, if it was.
    """

    model: torch.nn.Module
    subjects: list[str]
    styles: list[str]
    weights: Path | None = None

    @torch.no_grad()
    @multiplying()
    def name(self, images: np.ndarray, batch_size: int = 128) -> pd.DataFrame:
        """What it names in (N, H, W, 3) uint8 pictures of any size: a table as of `best_named`."""
        if images.ndim == 4 and images.shape[1:3] != (EDGE, EDGE):
            images = np.stack([as_square(Image.fromarray(image), EDGE) for image in images])
        device = next(self.model.parameters()).device
        parts = [
            self.model(pixels(images[i : i + batch_size], device)).float().cpu()
            for i in range(0, len(images), batch_size)
        ]
        sizes = [len(self.subjects), len(self.styles)]
        subject, style = torch.split(torch.cat(parts), sizes, dim=1)
        return best_named(subject.softmax(1), self.subjects, style.softmax(1), self.styles)


def best_named(
    subject: torch.Tensor, subjects: Sequence[str], style: torch.Tensor, styles: Sequence[str]
) -> pd.DataFrame:
    """What a judge names, from the shares (0..1) that it gives each subject and each style,
    (N, C) float32: columns subject, style, subject_share and style_share.
    """
    best, look = subject.max(1), style.max(1)
    return pd.DataFrame(
        {
            "subject": [subjects[i] for i in best.indices],
            "style": [styles[i] for i in look.indices],
            "subject_share": best.values.numpy(),
            "style_share": look.values.numpy(),
        }
    )


def pixels(images: np.ndarray, device) -> torch.Tensor:
    """(N, H, W, 3) uint8 -> (N, 3, H, W) float32 in -1..1."""
    require_uint8(images)
    x = torch.from_numpy(np.ascontiguousarray(images)).to(device).permute(0, 3, 1, 2)
    return x.float() / 127.5 - 1


def build_classifier(
    classes: int, widths: tuple[int, ...], blocks: tuple[int, ...]
) -> torch.nn.Module:
    """timm's ResNet of basic blocks with an output for each class: subjects, then styles."""
    from timm.models.resnet import BasicBlock, ResNet

    return ResNet(BasicBlock, list(blocks), num_classes=classes, channels=list(widths))


def load_classifier(folder: str | Path = "studio", device: str = "auto") -> Classifier:
    """Load the judge. Raises ModelLoadError, saying what is missing and how to make it."""
    from safetensors.torch import load_file

    place = Path(folder).expanduser()
    if folder == "studio":
        place = data_dir() / "studio" / "classifier"
    for needed in (CONFIG, WEIGHTS):
        if not (place / needed).is_file():
            raise ModelLoadError(
                f"The classifier folder {place.name!r} has no {needed}. `slugkit train classifier` "
                "makes the studio's; with the studio, `judge_model` is the folder of such a "
                "classifier or empty."
            )
    config = json.loads((place / CONFIG).read_text(encoding="utf-8"))
    outputs = len(config["subjects"]) + len(config["styles"])
    model = build_classifier(outputs, config["widths"], config["blocks"])
    try:
        # also from half precision: copied into the model's own types
        model.load_state_dict(load_file(place / WEIGHTS))
    except (RuntimeError, OSError) as error:
        raise ModelLoadError(
            f"The weights in {place.name!r} do not fit its config.json: {error}"
        ) from error
    model = model.eval().to(pick_device(device))
    return Classifier(model, config["subjects"], config["styles"], place)
