"""The two losses that are differentiated, and the batches of distinct captions that the second is
taken over.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from slugkit.base import EmptySetError


def mean_cosine(v: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """Forget loss: the mean cosine of matching pairs, to be lowered (SLUG).

    v, t: (N, d), any length. Returns a scalar, -1..1.
    """
    return F.cosine_similarity(v, t, dim=-1).mean()


def info_nce(v: torch.Tensor, t: torch.Tensor, scale: torch.Tensor | float) -> torch.Tensor:
    """Retain loss: symmetric InfoNCE over the batch (Radford et al. 2021, Fig. 3).

    v, t: (N, d) of unit length, or (k, N, d) for the mean over k batches of N pairs each. scale:
    exp(logit scale). Returns a scalar >= 0.
    """
    logits = scale * v @ t.mT
    labels = torch.arange(v.shape[-2], device=v.device).expand(v.shape[:-1]).flatten()
    by_picture, by_text = (x.flatten(0, -2) for x in (logits, logits.mT))
    return (F.cross_entropy(by_picture, labels) + F.cross_entropy(by_text, labels)) / 2


def sigmoid_loss(
    v: torch.Tensor, t: torch.Tensor, scale: torch.Tensor | float, bias: torch.Tensor | float
) -> torch.Tensor:
    """Retain loss of a SigLIP: for every pair of the batch whether picture and caption belong
    together, -1/N sum_ij log sigmoid(z_ij (s v_i t_j + b)) (Zhai et al. 2023, section 3.2).

    v, t, scale: as of `info_nce`; bias: logit bias; z is 1 for matching pairs, -1 for others.
    Returns a scalar >= 0.
    """
    signs = 2 * torch.eye(v.shape[-2], device=v.device) - 1
    return -F.logsigmoid(signs * (scale * v @ t.mT + bias)).sum(-1).mean()


def distinct_batches(labels: list[str], batch_size: int, seed: int = 0) -> list[list[int]]:
    """Rows in batches of at most `batch_size` in which no label occurs twice, so that InfoNCE's
    negatives are negatives.

    Each row, in a seeded order, goes to the first batch that has room and not yet its label;
    batches of a single row are dropped, since InfoNCE has nothing to compare there. Raises
    EmptySetError where no batch is left.
    """
    order = np.random.Generator(np.random.PCG64([seed, 13])).permutation(len(labels))
    batches: list[list[int]] = []
    # the labels and rows of the batches that are not full, in the order they were begun
    room: list[tuple[set[str], list[int]]] = []
    for row in order.tolist():
        place = next((k for k, (seen, _) in enumerate(room) if labels[row] not in seen), len(room))
        if place == len(room):
            room.append((set(), []))
            batches.append(room[-1][1])
        seen, rows = room[place]
        seen.add(labels[row])
        rows.append(row)
        if len(rows) == batch_size:
            del room[place]
    found = [sorted(rows) for rows in batches if len(rows) > 1]
    if not found:
        only = labels[0].split("|")[0] if labels else "nothing"
        raise EmptySetError(
            f"The retain set ({len(labels)} pairs) shows {only!r} alone; at least two classes, or "
            "pairs with distinct captions, beside the concept were expected, since InfoNCE tells "
            "them apart. Add pictures of something else: data with two classes leave one to retain."
        )
    return found
