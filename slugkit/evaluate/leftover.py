"""What an edit leaves behind: is the class still there in the picture features, without any text?"""

from __future__ import annotations

import pandas as pd
import torch
import torch.nn.functional as F

from slugkit import patch
from slugkit.data import Exam, Source
from slugkit.evaluate.statistics import wilson
from slugkit.models import Clip


def class_means(clip: Clip, source: Source, exam: Exam, per_class: int, seed: int) -> torch.Tensor:
    """(C, d) mean picture features of unit length, one for each class of the target's domain, from training pictures."""
    means = []
    for name in exam.prompts[exam.target_domain]:
        pictures = source.forget_set(name, per_class, seed)
        means.append(clip.image_features(pictures.images).mean(0))
    return F.normalize(torch.stack(means), dim=-1)


def recognised_from_pictures(clip: Clip, source: Source, exam: Exam, patches: dict[str, patch.Patch], per_class: int = 12,
                             seed: int = 0) -> pd.DataFrame:
    """Nearest-class-mean accuracy on the target's report pictures, before and with each patch.

    An edit of the text tower cannot change it, since the pictures' features stay. Returns model (before or the tower),
    value, low, high (0..1, Wilson 95 %), n.
    """
    _, rows = exam.groups()["target"]
    truth = torch.from_numpy(exam.labels(exam.target_domain)[rows])

    def row(name: str) -> dict:
        means = class_means(clip, source, exam, per_class, seed)
        right = int(((clip.image_features(exam.pairs.images[rows]) @ means.T).argmax(1).cpu() == truth).sum())
        low, high = wilson(right, len(rows))
        return {"model": name, "value": right / len(rows), "low": low, "high": high, "n": len(rows)}

    found = [row("before")]
    for tower, edit in patches.items():
        with patch.applied(edit, clip.model):
            found.append(row(tower))
    return pd.DataFrame(found)
