"""Relearning: how few steps of ordinary training bring the concept back."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch

from slugkit.data import Pairs
from slugkit.evaluation.clip import Scorer
from slugkit.experiments.stress.case import PICTURES, Case, recognised
from slugkit.method.losses import distinct_batches
from slugkit.unlearning.losses import retain_loss

MARKS = (0, 1, 2, 5, 10, 20)
"""Steps after which it is looked at."""
SIZE, OWN = 16, 2
"""Pairs of a step, and how many of them show the concept where it is trained on, in different
styles: two captions of one person in one style would be each other's negatives."""
RATE = 1e-4
"""AdamW's learning rate, a tenth of that by which the studio's CLIP was made."""


def relearned(case: Case, batches: Iterator[Pairs]) -> Iterator[tuple[int, np.ndarray]]:
    """Train a copy of the model, both towers, with its own loss (InfoNCE; a SigLIP's): after each
    of MARKS steps the ranks of the concept on its report pictures, (W, n).
    """
    clip = case.copy()
    clip.model.requires_grad_(True)
    weights = list(clip.model.parameters())
    optimiser = torch.optim.AdamW(weights, lr=RATE, betas=(0.9, 0.98), weight_decay=0.0)
    mine = np.flatnonzero(case.exam.shows(case.concept))
    images, v = case.exam.pairs.images[mine], case.scorer.v.clone()
    for step in range(MARKS[-1] + 1):
        if step:
            optimiser.zero_grad(set_to_none=True)
            retain_loss(clip, next(batches)).backward()
            optimiser.step()
        if step in MARKS:
            v[torch.from_numpy(mine)] = clip.image_features(images)
            scorer = Scorer(clip, case.exam, v)
            yield step, scorer.of(case.concept, scorer.classes())


def batches_of(pairs: Pairs, own: Pairs | None, seed: int) -> Iterator[Pairs]:
    """Batches without end of SIZE distinct pairs, or as many as there are. own: pairs of the
    concept, OWN of which are in every batch.
    """
    rng, again = np.random.default_rng([seed, 29]), 0
    size = SIZE - (OWN if own is not None else 0)
    while True:
        for rows in distinct_batches(pairs.labels, size, seed + again):
            batch = pairs.take(rows)
            if own is not None:
                order = own.take(rng.permutation(len(own)))
                some = order.where(~pd.Series(order.labels).duplicated()).take(range(OWN))
                joined = np.concatenate([some.images, batch.images])
                batch = Pairs(joined, pd.concat([some.table, batch.table]))
            yield batch
        again += 1


def relearning(case: Case) -> Iterator[dict]:
    """Twenty steps of training on eight pictures of the concept among others' pictures, on others'
    alone, and on pictures of another domain.
    """
    pool, seed = case.given.pool, case.given.seed
    inside = (pool.table["domain"] == case.domain).to_numpy()
    named = (pool.table["concept"] != "").to_numpy()
    settings = {f"{PICTURES} pictures of it": (pool.where(inside), case.given.few)}
    settings["others' pictures"] = (pool.where(inside), None)
    if (named & ~inside).any():
        settings["unrelated pictures"] = (pool.where(named & ~inside), None)
    for setting, (pairs, own) in settings.items():
        for step, ranks in relearned(case, batches_of(pairs, own, seed)):
            yield {"setting": setting, "steps": step, **recognised(ranks)}
