"""Which layer to edit: importance, gradient alignment and the Pareto front (Cai, Tan
and Asif, ICML 2025).

Works on tables of tensors. A layer is one weight matrix under its canonical (open_clip) name; the
three parts of a packed q/k/v matrix carry the suffix ``[q]``, ``[k]`` or ``[v]``.
"""

import math

import numpy as np
import pandas as pd
import torch

from slugkit.base import GradientError, ShapeError, ZeroWeightError, wide
from slugkit.method.layers import tower_of

COLUMNS = ["layer", "tower", "importance", "cosine", "alignment", "front"]


def norm(tensor: torch.Tensor) -> float:
    """Frobenius norm of a tensor of any shape and float dtype, summed in float64.

    Returns a number >= 0, nan or inf if the tensor holds one.
    """
    tensor = tensor.detach()
    on_cpu = tensor.cpu() if tensor.device.type == "mps" else tensor  # mps has no float64
    return float(torch.linalg.vector_norm(on_cpu, dtype=torch.float64))


def _norms(first: torch.Tensor, second: torch.Tensor, what: str) -> tuple[float, float]:
    """The norms of two tensors of one layer: finite numbers."""
    if first.shape != second.shape:
        raise ShapeError(
            f"{what} have the shapes {tuple(first.shape)} and {tuple(second.shape)}; equal shapes"
            " were expected. Pass the tensors of one and the same layer, or part of q, k and v."
        )
    sizes = norm(first), norm(second)
    if not all(map(math.isfinite, sizes)):
        raise GradientError(
            f"{what} hold nan or infinite values; finite numbers were expected. Compute the"
            " gradients in float32 and look for a broken picture or caption in the sets."
        )
    return sizes


def importance(g_f: torch.Tensor, theta: torch.Tensor) -> float:
    """Importance of a layer: ||g_f|| / ||theta||, the norm of its forget gradient over that of its
    weight (SLUG).

    g_f, theta: same shape, any float dtype. Returns a unitless number >= 0.
    Raises ShapeError, ZeroWeightError (the weight is all zeros), GradientError (nan or inf).
    """
    gradient, weight = _norms(g_f, theta, "forget gradient and weight")
    if weight == 0.0:
        raise ZeroWeightError(
            "the weight is all zeros, so its importance ||g_f|| / ||theta|| is not defined; a"
            " trained weight was expected. Exclude this layer from the candidates."
        )
    return gradient / weight


def cosine(g_f: torch.Tensor, g_r: torch.Tensor) -> float:
    """Signed cosine between the forget and the retain gradient of a layer, both flattened.

    g_f, g_r: same shape, any float dtype. Returns a unitless number in -1..1, summed in float64;
    nan where a gradient is all zeros, since no angle exists then. Raises ShapeError, GradientError
    (nan or inf).
    """
    sizes = math.prod(_norms(g_f, g_r, "forget and retain gradient"))
    if sizes == 0.0:
        return math.nan
    dot = torch.dot(*(wide(g.detach(), g_f.device).flatten() for g in (g_f, g_r)))
    return min(1.0, max(-1.0, float(dot) / sizes))


def alignment(g_f: torch.Tensor, g_r: torch.Tensor) -> float:
    """Gradient alignment |cos(g_f, g_r)| of a layer: a unitless number in 0..1, nan where a
    gradient is all zeros.

    The absolute value, as in the authors' code of SLUG. Arguments and errors
    as in `cosine`.
    """
    return abs(cosine(g_f, g_r))


def pareto_front(importance: np.ndarray, alignment: np.ndarray) -> np.ndarray:
    """Layers that no other layer beats: high importance, low alignment, weak dominance
    (SLUG).

    importance, alignment: 1-D arrays of equal length. A layer is beaten by one that is at least as
    important and at most as aligned, and strictly better in one of the two; exact duplicates do not
    beat each other. A layer with a nan or infinite score is not on the front and beats nobody.
    Returns a bool array of the same length. Raises ShapeError.
    """
    imp, ali = np.asarray(importance, dtype=float), np.asarray(alignment, dtype=float)
    if imp.ndim != 1 or imp.shape != ali.shape:
        raise ShapeError(
            f"importance and alignment have the shapes {imp.shape} and {ali.shape}; two 1-D arrays"
            " of equal length were expected, one number per layer in each."
        )
    known = np.isfinite(imp) & np.isfinite(ali)
    imp, ali = np.where(known, imp, -np.inf), np.where(known, ali, np.inf)
    no_worse = (imp[None, :] >= imp[:, None]) & (ali[None, :] <= ali[:, None])
    better = (imp[None, :] > imp[:, None]) | (ali[None, :] < ali[:, None])
    return known & ~(no_worse & better).any(axis=1)


def _front_per_tower(table: pd.DataFrame) -> np.ndarray:
    front = np.zeros(len(table), dtype=bool)
    for rows in table.groupby("tower").indices.values():
        scores = table[["importance", "alignment"]].to_numpy()[rows]
        front[rows] = pareto_front(*scores.T)
    return front


def rank_layers(
    weights: dict[str, torch.Tensor],
    g_forget: dict[str, torch.Tensor],
    g_retain: dict[str, torch.Tensor],
) -> pd.DataFrame:
    """Table of the candidate layers with their scores and the Pareto front of each tower.

    Args:
        weights: layer -> original weight; only these layers are ranked, in this order.
        g_forget, g_retain: layer -> mean gradient of the same shape.

    Returns:
        One row per layer: layer, tower, importance (>= 0), cosine (-1..1), alignment (0..1), front
        (bool). A layer whose gradient is all zeros has no cosine (nan) and is never on the front.

    Raises:
        GradientError, ShapeError, ZeroWeightError: a layer without gradient, and what `importance`
            and `cosine` raise; each names the layer.
    """
    rows = []
    for layer, theta in weights.items():
        for gradients, what in ((g_forget, "forget"), (g_retain, "retain")):
            if layer not in gradients:
                raise GradientError(
                    f"layer {layer} has no {what} gradient; one for each of the weights was"
                    " expected. Compute the gradients for the same list of layers."
                )
        g_f, g_r = g_forget[layer], g_retain[layer]
        try:
            score, cos = importance(g_f, theta), cosine(g_f, g_r)
        except (GradientError, ShapeError, ZeroWeightError) as error:
            raise type(error)(f"layer {layer}: {error}") from error
        rows.append((layer, tower_of(layer), score, cos, abs(cos), False))
    table = pd.DataFrame(rows, columns=COLUMNS)
    table["front"] = _front_per_tower(table)
    return table


def cosine_noise(g_f: torch.Tensor, parts: list[torch.Tensor]) -> float:
    """How far sampling moves the cosine of g_f with a retain gradient: its standard error by the
    jackknife over the parts that the retain set was cut into (Efron and Stein, Ann. Stat. 9 (1981)
    586).

    parts: the retain gradients of two or more parts of one size. Returns a number >= 0, nan for
    fewer.
    """
    if len(parts) < 2:
        return math.nan
    rows = [tensor.detach().flatten().cpu() for tensor in (g_f, *parts)]
    pieces = (torch.stack(piece).double() for piece in zip(*(r.split(2**14) for r in rows)))
    # the product of every two of them
    products = np.sum([(piece @ piece.T).numpy() for piece in pieces], axis=0)
    kept = np.ones((len(parts), len(parts))) - np.eye(len(parts))  # a row a part that is left out
    dots, norms = kept @ products[1:, 0], (kept @ products[1:, 1:] * kept).sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        without = dots / np.sqrt(products[0, 0] * norms)
    return float(np.sqrt((len(parts) - 1) * np.mean((without - without.mean()) ** 2)))


def front_share(table: pd.DataFrame) -> pd.Series:
    """How often each layer is on its tower's front when the cosines are redrawn within their noise,
    from normal distributions around those measured; importance stays.

    table: of `rank_layers`, with a column noise (`cosine_noise`). Returns a Series in 0..1, indexed
    by layer; nan where the noise is not known.
    """
    known = table["noise"].notna()
    count, redraws = np.zeros(len(table)), 2000
    unit = np.random.default_rng(0).standard_normal((redraws, len(table)))
    moved = np.abs(table["cosine"].to_numpy() + table["noise"].fillna(0).to_numpy() * unit)
    for rows in table.groupby("tower").indices.values() if known.any() else ():
        scores = table["importance"].to_numpy()[rows]
        count[rows] = sum(pareto_front(scores, row).astype(int) for row in moved[:, rows])
    share = np.where(known, count / redraws, math.nan)
    return pd.Series(share, index=table["layer"], name="front_share")
