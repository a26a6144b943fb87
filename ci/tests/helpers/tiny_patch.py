"""Patches for the tiny CLIP of `tiny_clip`, for tests."""

import torch

from slugkit import patch
from slugkit.method.edit import EditableLayer
from slugkit.method.layers import part_rows, split_layer

OUT_PROJ = "transformer.resblocks.0.attn.out_proj.weight"


def patch_for(model, /, layer=OUT_PROJ, rho=0.15, seed=1, concept="Mira Kestrel", **extra):
    """A patch for a layer of the model, along a random direction, rho big."""
    name, part = split_layer(layer)
    theta = model.get_parameter(name)
    shape = theta[part_rows(len(theta), part)].shape
    direction = 1e-3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    editable = EditableLayer.of(model, layer, direction)
    return patch.make(layer, editable, editable.lam(rho), concept, **extra)


def vars_of(p):
    """The fields of a patch, to make a changed copy of it."""
    return {name: getattr(p, name) for name in p.__dataclass_fields__}
