"""What an edit leaves behind: is the class still there in the picture features, without any text?"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from slugkit import patch
from slugkit.data import Exam, Source
from slugkit.evaluate.statistics import wilson
from slugkit.models import Clip


def class_pictures(source: Source, exam: Exam, per_class: int, seed: int) -> list[np.ndarray]:
    """Training pictures of every class of the target's domain, (per_class, H, W, 3) uint8 each."""
    return [source.forget_set(name, per_class, seed).images for name in exam.prompts[exam.target_domain]]


def class_means(clip: Clip, pictures: list[np.ndarray]) -> torch.Tensor:
    """(C, d) mean picture features of unit length, one for each class."""
    flat = clip.image_features(np.concatenate(pictures))
    return F.normalize(torch.stack([g.mean(0) for g in torch.split(flat, [len(p) for p in pictures])]), dim=-1)


def recognised_from_pictures(clip: Clip, source: Source, exam: Exam, patches: dict[str, patch.Patch], per_class: int = 12,
                             seed: int = 0) -> pd.DataFrame:
    """Nearest-class-mean accuracy on the target's report pictures, before and with each patch.

    An edit of the text tower cannot change it, since the pictures' features stay. Returns model (before or the tower),
    value, low, high (0..1, Wilson 95 %), n.
    """
    _, rows = exam.groups()["target"]
    pictures = class_pictures(source, exam, per_class, seed)
    truth = torch.from_numpy(exam.labels(exam.target_domain)[rows])

    def row(name: str) -> dict:
        means = class_means(clip, pictures)
        right = int(((clip.image_features(exam.pairs.images[rows]) @ means.T).argmax(1).cpu() == truth).sum())
        low, high = wilson(right, len(rows))
        return {"model": name, "value": right / len(rows), "low": low, "high": high, "n": len(rows)}

    found = [row("before")]
    for tower, edit in patches.items():
        with patch.applied(edit, clip.model):
            found.append(row(tower))
    return pd.DataFrame(found)
