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
from slugkit.evaluation.clip import askable, class_features
from slugkit.evaluation.statistics import share
from slugkit.models import Clip


def class_pictures(source: Source, exam: Exam, per_class: int, seed: int) -> dict[str, np.ndarray]:
    """A few pictures of every class of the target's domain that are not the exam's: class ->
    (per_class at most, H, W, 3) uint8.

    Training pictures, of the classes that have whole ones, and the others are named; where people
    and objects are examined in data of their own (a recipe), the pictures of the search, of the
    classes that have some.
    """
    if source.examined_apart(exam.concept):
        pairs = source.exam(exam.concept, "search").pairs
        pairs = pairs.where(pairs.table["domain"] == exam.target_domain)
        rows_of = pairs.table.groupby("concept").indices
        return {name: pairs.images[rows[:per_class]] for name, rows in rows_of.items()}
    found, without = {}, []
    for name in exam.classes(exam.target_domain):
        try:
            found[name] = np.asarray(source.forget_set(name, per_class, seed).images)
        except (EmptySetError, UnreadableImagesError):
            if name == exam.concept:
                raise
            without.append(repr(name))
    if without:
        have = "class has" if len(without) == 1 else "classes have"
        print(
            f"{len(without)} {have} no whole training picture to be compared by and left out: "
            f"{', '.join(without[:5])}{', ...' if without[5:] else ''}."
        )
    return found


def recognised_from_pictures(
    clip: Clip,
    source: Source,
    exam: Exam,
    patches: dict[str, patch.Patch],
    per_class: int = 12,
    seed: int = 0,
) -> pd.DataFrame:
    """Nearest-class-mean accuracy on the target's report pictures, before and with each patch.

    An edit of the text tower cannot change it, since the pictures' features stay. Returns model
    (before or the tower), value, low, high (0..1, Wilson 95 %), n.
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


@torch.no_grad()
def log_answers(clip: Clip, exam: Exam) -> torch.Tensor:
    """Log probabilities of the classes for the target's pictures: (wordings, pictures, classes),
    float32 on the CPU.

    The zero-shot distribution, softmax(exp(logit scale) * cosine), in every wording of the exam.
    """
    exam = askable(clip, exam)
    domain, rows = exam.groups()["target"]
    classes = class_features(clip, exam)[domain]
    v = clip.image_features(exam.pairs.images[rows])
    scores = clip.model.logit_scale.exp() * v @ classes.mT
    return F.log_softmax(scores.float(), dim=-1).cpu()


def mean_kl(log_p: torch.Tensor, log_q: torch.Tensor) -> float:
    """KL(p || q) in nats, the mean over all but the last axis, which holds the classes; 0 where p
    is q.
    """
    return float((log_p.exp() * (log_p - log_q)).sum(-1).mean())


def oracle_distances(
    clip: Clip, oracle: Clip, exam: Exam, edits: dict[str, patch.Patch]
) -> dict[str, float]:
    """Mean KL(oracle || model) of the zero-shot distributions on the target's pictures, in nats.

    exam: the report exam. edits: name -> patch. Returns one number a name, and "before" for the
    unedited model. The pictures and wordings are the same for all.
    """
    wanted = log_answers(oracle, exam)
    found = {"before": mean_kl(wanted, log_answers(clip, exam))}
    for name, edit in edits.items():
        with patch.applied(edit, clip.model):
            found[name] = mean_kl(wanted, log_answers(clip, exam))
    return found
