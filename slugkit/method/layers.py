"""The table of layers: which weight matrices a CLIP has, which of them are candidates for the edit,
and why not the others.

A layer is one weight matrix under its open_clip name. Packed q/k/v is one layer, or three with
`split_qkv`, then named with a suffix [q], [k] or [v].
"""

from __future__ import annotations

import re

import pandas as pd
import torch

from slugkit.base import SettingError, ShapeError, did_you_mean

EXCLUDE = ("bias", "ln_", "embedding", "logit_scale")
_KINDS = {
    "attn.in_proj_weight": "attn.in_proj",
    "attn.out_proj.weight": "attn.out_proj",
    "mlp.c_fc.weight": "mlp.c_fc",
    "mlp.c_proj.weight": "mlp.c_proj",
    "conv1.weight": "conv1",
    "attn.qkv.weight": "attn.in_proj",
    "attn.proj.weight": "attn.out_proj",
    "mlp.fc1.weight": "mlp.c_fc",
    "mlp.fc2.weight": "mlp.c_proj",
    "patch_embed.proj.weight": "conv1",
    "text_projection.weight": "proj",
    "trunk.head.weight": "proj",
}
"""Endings of names, open_clip's own and timm's (EVA, SigLIP), and what the matrix does."""
_PACKED = ("in_proj_weight", "attn.qkv.weight")


def exclusion_reason(name: str, shape: tuple[int, ...], exclude=EXCLUDE) -> str:
    """Why a parameter is no candidate, or "" if it is one.

    exclude: parts of names that rule a parameter out. The default leaves out biases, layer norms,
    token, class and position embeddings and the logit scale. timm
    keeps the same embeddings as (1, positions, width) under other names.
    """
    for part in exclude:
        if part in name:
            return f"its name contains '{part}'"
    if len(shape) == 3 and shape[0] == 1:
        return "it is an embedding, no matrix"
    return "" if len(shape) >= 2 else "it is no matrix"


def tower_of(name: str) -> str:
    """vision or text: which tower a parameter of open_clip's CLIP belongs to."""
    return "vision" if name.startswith("visual.") else "text"


def block_of(name: str) -> int:
    """Number of the transformer block a parameter lies in, -1 when it lies in none."""
    found = re.search(r"(?:resblocks|trunk\.blocks|encoder\.layer)\.(\d+)\.", name)
    return int(found.group(1)) if found else -1


def kind_of(name: str) -> str:
    """What the matrix does: attn.in_proj, attn.out_proj, mlp.c_fc, mlp.c_proj, conv1, proj or
    other.
    """
    whole, _ = split_layer(name)
    for ending, kind in _KINDS.items():
        if whole.endswith(ending):
            return kind
    return "proj" if name.endswith(("proj", "projection")) else "other"


def split_layer(layer: str) -> tuple[str, str]:
    """Parameter name and part of a layer: "….in_proj_weight[q]" -> ("….in_proj_weight", "q"); no
    suffix -> part "".
    """
    found = re.fullmatch(r"(.+)\[([qkv])\]", layer)
    return (found[1], found[2]) if found else (layer, "")


def part_rows(n_rows: int, part: str) -> slice:
    """Rows of a packed q/k/v matrix that belong to a part.

    n_rows: rows of the packed matrix, a multiple of three. part: "q", "k", "v", or "" for all rows.
    Raises ShapeError.
    """
    if part == "":
        return slice(0, n_rows)
    if part not in ("q", "k", "v") or n_rows % 3:
        raise ShapeError(
            f"part {part!r} of a matrix with {n_rows} rows; q, k or v of a packed matrix, whose"
            " rows are a multiple of three, was expected."
        )
    third, place = n_rows // 3, "qkv".index(part)
    return slice(place * third, (place + 1) * third)


def weight_of(tensors, layer: str) -> torch.Tensor:
    """The layer's tensor from a dictionary of parameters, gradients or directions; for [q], [k],
    [v] under that name, or a third of the whole.
    """
    if layer in tensors:
        return tensors[layer]
    name, part = split_layer(layer)
    whole = tensors[name]
    return whole[part_rows(len(whole), part)] if part else whole


def layer_table(
    model: torch.nn.Module, exclude=EXCLUDE, layers=(), split_qkv: bool = False
) -> pd.DataFrame:
    """One row a parameter: layer, tower, block, kind, shape, n_weights, norm, candidate, reason.

    layers: if given, only these are candidates. Raises SettingError for a name the model does not
    have.
    """
    weights = {}
    for name, parameter in model.named_parameters():
        parts = "qkv" if split_qkv and name.endswith(_PACKED) else ""
        for layer in [f"{name}[{part}]" for part in parts] or [name]:
            weights[layer] = weight_of({name: parameter.detach()}, layer)
    for wanted in layers:
        if wanted not in weights:
            raise SettingError(
                f"The model has no layer {wanted!r}{did_you_mean(wanted, weights)}. Expected names"
                " as in the layer table."
            )
    rows = []
    for name, w in weights.items():
        reason = exclusion_reason(name, tuple(w.shape), exclude)
        if not reason and layers and name not in layers:
            reason = "not among the layers asked for"
        rows.append(
            {
                "layer": name,
                "tower": tower_of(name),
                "block": block_of(name),
                "kind": kind_of(name),
                "shape": "x".join(map(str, w.shape)) or "1",
                "n_weights": w.numel(),
                "norm": float(torch.linalg.vector_norm(w.cpu(), dtype=torch.float64)),
                "candidate": not reason,
                "reason": reason,
            }
        )
    return pd.DataFrame(rows)


def candidates(table: pd.DataFrame) -> list[str]:
    """Names of the candidate layers in order."""
    return table.loc[table["candidate"], "layer"].tolist()


def short(layer: str) -> str:
    """Short name for figures and tables.

    "transformer.resblocks.2.mlp.c_proj.weight" -> "2.mlp.c_proj"; q/k/v suffixes stay.
    """
    name, part = split_layer(layer)
    tower = r"(visual\.|text\.)?(transformer\.resblocks|trunk\.blocks)\.|visual\.(trunk\.)?|text\."
    name = re.sub(r"[._]weight$", "", re.sub(rf"^({tower})", "", name))
    return f"{name}[{part}]" if part else name
