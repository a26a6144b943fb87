"""A CLIP with CLIP's own vocabulary and a few narrow layers."""

import open_clip
import torch

from slugkit.models.clip import Clip

TEXT = {"context_length": 77, "vocab_size": 49408, "heads": 4, "layers": 3}


def a_clip(width=32, seed=0, layers=3, embed=16):
    """A CLIP of open_clip's class with CLIP's vocabulary, a few narrow layers and pictures of 28
    pixels.
    """
    torch.manual_seed(seed)
    return open_clip.CLIP(
        embed,
        {"layers": 11, "width": 32, "head_width": 8, "patch_size": 14, "image_size": 28},
        TEXT | {"width": width, "layers": layers},
        quick_gelu=seed == 0,
    ).eval()


def wrapped(net):
    """The network as the package holds it, with CLIP's tokenizer."""
    return Clip(net, open_clip.get_tokenizer("ViT-B-32"), 28, (0.5,) * 3, (0.5,) * 3, "tiny")
