"""Searches on the tiny CLIP, and a measure that says what it was told to say."""

import torch

from slugkit.method import layers, search

LAYERS = [
    "transformer.resblocks.0.attn.out_proj.weight",
    "transformer.resblocks.1.mlp.c_fc.weight",
    "transformer.resblocks.1.attn.in_proj_weight",
    "text_projection",
    "visual.conv1.weight",
    "visual.proj",
    "visual.transformer.resblocks.0.attn.in_proj_weight[q]",
    "visual.transformer.resblocks.1.attn.in_proj_weight[v]",
]


def direction_for(model, layer, seed=1):
    """A small random direction of the layer's shape."""
    name, part = layers.split_layer(layer)
    theta = model.get_parameter(name).detach()
    rows = layers.part_rows(len(theta), part)
    return 1e-3 * torch.randn(theta[rows].shape, generator=torch.Generator().manual_seed(seed))


def layer_of(model, layer=LAYERS[0], seed=1):
    """The layer with such a direction, ready to be moved."""
    return search.EditableLayer.of(model, layer, direction_for(model, layer, seed))


class Scripted:
    """Gives printed outcomes one after the other, and remembers which were asked for."""

    def __init__(self, fa5, retain=None, fa1=None):
        self.fa5, self.fa1 = list(fa5), list(fa5 if fa1 is None else fa1)
        self.kept = list(retain) if retain is not None else [0.9] * len(self.fa5)
        self.calls, self.retain_calls = 0, []

    def forget(self):
        self.calls += 1
        return {"fa1": self.fa1[self.calls - 1], "fa5": self.fa5[self.calls - 1], "n": 50}

    def retain(self):
        self.retain_calls.append(self.calls)
        return {"retain": self.kept[self.calls - 1], "people": 0.8, "objects": 0.7}
