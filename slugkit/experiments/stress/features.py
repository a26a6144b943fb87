"""Probes on the picture features, without any text: is the class still in there?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from slugkit.evaluation.leftover import class_pictures
from slugkit.experiments.stress.case import Case

EACH = 12
"""Training pictures of a class that a probe learns from."""


def probes(case: Case) -> Iterator[dict]:
    """A linear probe (logistic regression), the nearest picture and the nearest class mean, each
    learned from twelve training pictures a class and asked about the report pictures.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier, NearestCentroid

    pictures = class_pictures(case.given.source, case.exam, EACH, case.given.seed)
    x = case.clip.image_features(np.concatenate(list(pictures.values()))).cpu().numpy()
    y = np.repeat(list(pictures), [len(images) for images in pictures.values()])
    asked = case.scorer.v.cpu().numpy()
    mine, names = case.exam.shows(case.concept), case.exam.names(case.domain).to_numpy()
    kinds = {
        "linear probe": LogisticRegression(C=100.0, max_iter=2000),
        "nearest picture": KNeighborsClassifier(1),
        "nearest class mean": NearestCentroid(),
    }
    for setting, probe in kinds.items():
        right = probe.fit(x, y).predict(asked) == names
        found = {"FA@1": 100 * right[mine].mean(), "others right": 100 * right[~mine].mean()}
        yield {"setting": setting, **found, "n": int(mine.sum())}
