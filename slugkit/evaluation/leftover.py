"""What an edit leaves behind: is the class still there in the picture features, without
any text?
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from slugkit import patch
from slugkit.base import EmptySetError, UnreadableImagesError
from slugkit.data import Exam, Source
from slugkit.evaluation.statistics import share
from slugkit.models import Clip


def class_pictures(source: Source, exam: Exam, per_class: int, seed: int) -> dict[str, np.ndarray]:
    """A few training pictures of every class of the target's domain that has whole ones (the others
    are named): class -> (per_class at most, H, W, 3) uint8. Where people and objects are examined
    in data of their own (a recipe), pictures of the search.
    """
    if not getattr(source, "examined_apart", lambda concept: False)(exam.concept):
        found, without = {}, []
        for name in exam.classes(exam.target_domain):
            try:
                found[name] = np.asarray(source.forget_set(name, per_class, seed).images)
            except (EmptySetError, UnreadableImagesError):
                if name == exam.concept:
                    raise
                without.append(name)
        if without:
            have = "class has" if len(without) == 1 else "classes have"
            print(
                f"{len(without)} {have} no whole training picture to be compared by and left out: "
                f"{', '.join(map(repr, without[:5]))}{', ...' if without[5:] else ''}."
            )
        return found
    pairs = source.exam(exam.concept, "search").pairs
    pairs = pairs.where(pairs.table["domain"] == exam.target_domain)
    rows_of = pairs.table.groupby("concept").indices
    return {name: pairs.images[rows[:per_class]] for name, rows in rows_of.items()}


def recognised_from_pictures(
    clip: Clip,
    source: Source,
    exam: Exam,
    patches: dict[str, patch.Patch],
    per_class: int = 12,
    seed: int = 0,
) -> pd.DataFrame:
    """Nearest-class-mean accuracy on the target's report pictures, before and with each patch
    (tower -> patch): model ("before" or the tower), value, low, high (0..1, Wilson 95 %), n.

    An edit of the text tower cannot change it, since the pictures' features stay.
    """
    _, rows = exam.groups()["target"]
    pictures = class_pictures(source, exam, per_class, seed)
    truth = list(pictures).index(exam.concept)

    def row(name: str) -> dict:
        features = clip.image_features(np.concatenate(list(pictures.values())))
        groups = torch.split(features, [len(images) for images in pictures.values()])
        means = F.normalize(torch.stack([group.mean(0) for group in groups]), dim=-1)
        found = (clip.image_features(exam.pairs.images[rows]) @ means.T).argmax(1)
        return {"model": name, **share((found == truth).cpu())}

    found = [row("before")]
    for tower, edit in patches.items():
        with patch.applied(edit, clip.model):
            found.append(row(tower))
    return pd.DataFrame(found)
