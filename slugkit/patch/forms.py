"""Patches made from patches: in half precision, as a product of two thin matrices, added up."""

from __future__ import annotations

from dataclasses import replace

import torch

from slugkit.base import EmptySetError, PatchError, SettingError
from slugkit.method.ranking import norm
from slugkit.patch.format import Patch, unpacked


def _in_form(p: Patch, form: str, tensors: dict[str, torch.Tensor], scale: float) -> Patch:
    """The patch with its direction as the form can hold it; rho goes with its length."""
    direction = unpacked(form, tensors, scale, p.direction.shape)
    length, whole = norm(direction), norm(p.direction)
    return replace(
        p,
        direction=direction,
        form=form,
        stored=tensors,
        scale=scale,
        rho=p.rho * length / whole,
        error=min(1.0, norm(direction - p.direction) / whole),
    )


def half(p: Patch) -> Patch:
    """The patch with its direction in half precision, scaled to -1..1 before: 2 bytes a weight.

    It is another patch than p (other bytes, another identity): apply and remove the same one.
    Raises PatchError for a direction of zeros.
    """
    scale = _largest(p)
    return _in_form(p, "fp16", {"direction": (p.direction / scale).half()}, scale)


def low_rank(p: Patch, rank: int) -> Patch:
    """The patch with the best approximation of its direction by a matrix of this rank, both factors
    in half precision.

    rank: 1 to the smaller side of the layer (a convolution counts as out x everything else).
    `error` says how much of the direction is left out. Raises SettingError, PatchError.
    """
    flat = p.direction.flatten(1)
    if not 1 <= rank <= min(flat.shape):
        raise SettingError(
            f"rank is {rank}; 1 to {min(flat.shape)} was expected for a layer of shape"
            f" {tuple(p.direction.shape)}."
        )
    _largest(p)
    u, s, v = torch.linalg.svd(flat.double(), full_matrices=False)
    root = (s[:rank] / s[0]).sqrt()
    factors = {
        "left": (u[:, :rank] * root).half().contiguous(),
        "right": (root[:, None] * v[:rank]).half().contiguous(),
    }
    return _in_form(p, "low rank", factors, float(s[0]))


def add(patches: list[Patch], concept: str | None = None) -> Patch:
    """One patch that does what these do together on one layer: its direction is the sum of their
    steps, lam_i * direction_i, and its lambda 1.

    concept: by default their concepts, joined by " and ". metrics are not carried over. Raises
    PatchError where they are for different layers, bases or activations, EmptySetError without a
    patch.
    """
    if not patches:
        raise EmptySetError("There is no patch to add up; at least one was expected.")
    first = patches[0]
    for p in patches[1:]:
        if (p.layer, p.base_sha256) != (first.layer, first.base_sha256):
            raise PatchError(
                f"the patches for {first.concept!r} ({first.layer}) and {p.concept!r} ({p.layer})"
                " are for different layers or bases; only edits of one weight add up to one file."
                " Apply them one after the other."
            )
    total = sum(
        (p.lam * p.direction.double() for p in sorted(patches, key=lambda p: p.sha256)),
        torch.zeros_like(first.direction, dtype=torch.float64),
    )
    rho = norm(total) * first.rho / (first.lam * norm(first.direction))
    said = [p.provenance.get("activation") for p in patches]
    known = {name for name in said if isinstance(name, str)}
    if len(known) > 1:
        raise PatchError(
            f"the patches for {first.layer} were made for models with the activations"
            f" {' and '.join(sorted(known))}; one model was expected."
        )
    return Patch(
        layer=first.layer,
        tower=first.tower,
        direction=total.float(),
        lam=1.0,
        rho=rho,
        concept=concept or " and ".join(p.concept for p in patches),
        base_sha256=first.base_sha256,
        provenance={"sum_of": [p.sha256 for p in patches]}
        | ({"activation": known.pop()} if known else {}),
    )


def _largest(p: Patch) -> float:
    found = float(p.direction.abs().max())
    if not found > 0:
        raise PatchError(
            f"the direction of {p.layer} holds nothing but zeros; a gradient was expected.\nMake"
            " the patch again from its gradient."
        )
    return found
