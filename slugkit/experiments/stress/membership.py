"""Membership inference: does the model tell pictures it was trained on from others?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from slugkit.data import Pairs
from slugkit.experiments.stress.case import Case
from slugkit.models import Clip

FALSE = 0.01
"""Share of the non-members that may be taken for members."""


def told_apart(members: np.ndarray, others: np.ndarray) -> dict[str, float]:
    """AUC, and the share of members found where FALSE of the non-members are taken for one, in
    percent, of scores that are larger for members.
    """
    from sklearn.metrics import roc_auc_score, roc_curve

    scores = np.concatenate([members, others])
    truth = np.repeat([1, 0], [len(members), len(others)])
    wrong, right, _ = roc_curve(truth, scores)
    found = float(right[wrong <= FALSE].max())
    return {"AUC": 100 * roc_auc_score(truth, scores), "found at 1 % false": 100 * found}


def membership(case: Case) -> Iterator[dict]:
    """The cosine of a picture with its own caption, the score of Ko et al. (ICCV 2023), on training
    pictures of the concept and on others that were never trained on; 50 % is a guess.
    """
    sets = case.given.members, case.given.nonmembers
    scores = told_apart(*(_cosines(case.clip, pairs) for pairs in sets))
    yield {**scores, "n": sum(map(len, sets))}


def _cosines(clip: Clip, pairs: Pairs) -> np.ndarray:
    v, t = clip.image_features(pairs.images), clip.text_features(pairs.captions)
    return (v * t).sum(1).cpu().numpy()
