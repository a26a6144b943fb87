"""The same CLIP in open_clip's classes and in transformers', and from one to the other."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from slugkit.base import ModelLoadError
from slugkit.models.hub import read_json
from slugkit.models.weight_map import fill, locate, unwrapped

ACTIVATIONS = {"gelu": False, "quick_gelu": True}
"""transformers' names of the activations that open_clip's CLIP has, and its own flag for them."""


def activation(block: nn.Module) -> str:
    """transformers' name of the activation of one of open_clip's blocks: gelu, quick_gelu (OpenAI's
    weights) or gelu_pytorch_tanh.

    Raises ModelLoadError for another one.
    """
    gelu = block.mlp.gelu
    if isinstance(gelu, nn.GELU):
        return "gelu" if gelu.approximate == "none" else "gelu_pytorch_tanh"
    if type(gelu).__name__ == "QuickGELU":
        return "quick_gelu"
    raise ModelLoadError(
        f"The tower's activation is {type(gelu).__name__}; GELU or QuickGELU was expected. Load the"
        " tower with transformers from the published checkpoint instead."
    )


def _blocks(tower: nn.Module | None) -> nn.ModuleList | None:
    """The blocks of a tower of open_clip's transformer class, None for another."""
    return getattr(getattr(tower, "transformer", None), "resblocks", None)


def activation_of(model, tower: str) -> str | None:
    """transformers' name of the activation in a tower of any model that a patch goes on; None where
    it says none.

    model: open_clip's or transformers' classes, a pipeline, a LLaVA, the files of one.
    """
    if hasattr(model, "said_activation"):
        return model.said_activation(tower)
    model = unwrapped(getattr(model, "text_encoder", model))
    blocks = _blocks(getattr(model, "visual", None) if tower == "vision" else model)
    if blocks is not None:
        try:
            return activation(blocks[0])
        except (AttributeError, ModelLoadError):
            return None
    config = getattr(model, "config", None)
    return getattr(getattr(config, f"{tower}_config", config), "hidden_act", None)


def said_activation(folder: Path, tower: str, open_clips: bool) -> str | None:
    """What the configurations in a folder say of a tower's activation; None where they say nothing.

    open_clips: the weights have open_clip's names, so its configuration counts before
    transformers'.
    """
    theirs = read_json(folder / "open_clip_config.json").get("model_cfg")
    ours = read_json(folder / "config.json")
    if isinstance(theirs, dict) and (open_clips or not ours):
        odd = {"timm_model_name", "hf_model_name", "act_kwargs"}
        if odd & set(theirs.get(f"{tower}_cfg") or {}):
            return None
        return "quick_gelu" if theirs.get("quick_gelu") else "gelu"
    part = ours.get(f"{tower}_config", ours)
    if isinstance(part, dict):
        if str(part.get("model_type", ours.get("model_type", ""))).startswith("clip"):
            return part.get("hidden_act", "quick_gelu")  # transformers leaves out its default
    return None


def _sizes(tower: nn.Module, what: str) -> dict:
    """What transformers' configurations of both towers say of a tower's blocks."""
    blocks = _blocks(tower)
    if blocks is None or not hasattr(blocks[0], "mlp"):
        raise ModelLoadError(
            f"This CLIP's {what} tower ({type(tower).__name__}) is not the transformer that Stable"
            " Diffusion and LLaVA share with CLIP; OpenAI's architecture (ViT-B-32, ViT-L-14,"
            " ViT-H-14, ...) was expected. Its edits stay in CLIP."
        )
    return {
        "hidden_size": blocks[0].mlp.c_fc.in_features,
        "intermediate_size": blocks[0].mlp.c_fc.out_features,
        "hidden_act": activation(blocks[0]),
        "num_hidden_layers": len(blocks),
        "num_attention_heads": blocks[0].attn.num_heads,
        "layer_norm_eps": blocks[0].ln_1.eps,
    }


def _text_config(net: nn.Module, layers: int = 0):
    from transformers import CLIPTextConfig

    sizes = _sizes(net, "text") | ({"num_hidden_layers": layers} if layers else {})
    return CLIPTextConfig(
        **sizes,
        vocab_size=net.vocab_size,
        max_position_embeddings=net.context_length,
        bos_token_id=net.vocab_size - 2,
        eos_token_id=net.vocab_size - 1,
        pad_token_id=net.vocab_size - 1,
        projection_dim=net.text_projection.shape[1],
    )


def _vision_config(net: nn.Module):
    from transformers import CLIPVisionConfig

    return CLIPVisionConfig(
        **_sizes(net.visual, "vision"),
        image_size=net.visual.image_size[0],
        patch_size=net.visual.conv1.kernel_size[0],
        projection_dim=net.visual.proj.shape[1],
    )


def _filled(model: nn.Module, net: nn.Module, *towers: str) -> nn.Module:
    for tower in towers:
        fill(net, model, tower)
    return model.eval()


def text_tower(net: nn.Module, layers: int = 0, projection: bool = False):
    """An open_clip CLIP's text tower in transformers' CLIPTextModel, float32.

    layers: keep only the first so many blocks, as Stable Diffusion 2 does; 0 keeps all. projection:
    with the projection (CLIPTextModelWithProjection), as Stable Diffusion XL's second encoder.
    Raises PatchError where a weight has no place in that class, ModelLoadError for an architecture
    that it cannot hold.
    """
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    kind = CLIPTextModelWithProjection if projection else CLIPTextModel
    return _filled(kind(_text_config(net, layers)), net, "text")


def vision_tower(net: nn.Module):
    """An open_clip CLIP's vision tower in transformers' CLIPVisionModel, without the projection.

    Raises as `text_tower`.
    """
    from transformers import CLIPVisionModel

    return _filled(CLIPVisionModel(_vision_config(net)), net, "vision")


def to_transformers(net: nn.Module):
    """An open_clip CLIP as transformers' CLIPModel with the same weights, float32, in eval mode.

    Raises as `text_tower`.
    """
    from transformers import CLIPConfig, CLIPModel

    config = CLIPConfig(
        text_config=_text_config(net).to_dict(),
        vision_config=_vision_config(net).to_dict(),
        projection_dim=net.text_projection.shape[1],
    )
    model = _filled(CLIPModel(config), net, "text", "vision")
    model.logit_scale.data.copy_(net.logit_scale.detach())
    return model


def _their_sizes(config) -> dict:
    """What open_clip's configurations of both towers say of a tower's blocks."""
    return {
        "layers": config.num_hidden_layers,
        "width": config.hidden_size,
        # rounded down there: half a unit more, to be never just below
        "mlp_ratio": (config.intermediate_size + 0.5) / config.hidden_size,
        "norm_kwargs": {"eps": config.layer_norm_eps},
    }


def from_transformers(model: nn.Module) -> nn.Module:
    """transformers' CLIPModel as an open_clip CLIP with the same weights, canonical names and
    orientation, float32, in eval mode.

    Raises ModelLoadError for an activation that open_clip's CLIP does not have, or a weight that it
    has no place for.
    """
    from open_clip.model import CLIP

    text, vision = model.config.text_config, model.config.vision_config
    for part, config in (("text", text), ("vision", vision)):
        if config.hidden_act not in ACTIVATIONS or config.hidden_act != text.hidden_act:
            raise ModelLoadError(
                f"The {part} tower's activation is {config.hidden_act!r}; gelu or quick_gelu in"
                " both towers was expected. Nothing was changed."
            )
    seeing = _their_sizes(vision) | {
        "head_width": vision.hidden_size // vision.num_attention_heads,
        "patch_size": vision.patch_size,
        "image_size": vision.image_size,
    }
    reading = _their_sizes(text) | {
        "heads": text.num_attention_heads,
        "context_length": text.max_position_embeddings,
        "vocab_size": text.vocab_size,
    }
    with torch.device("meta"):
        quick = ACTIVATIONS[text.hidden_act]
        net = CLIP(model.config.projection_dim, seeing, reading, quick_gelu=quick)
    places = {name: locate(model, name) for name, _ in net.named_parameters()}
    lacking = [name for name, place in places.items() if place is None]
    if lacking:
        raise ModelLoadError(
            f"{type(model).__name__} has no place for {len(lacking)} of the CLIP's weights,"
            f" {lacking[0]} first; a whole CLIPModel was expected."
        )
    weights = {n: places[n].read().float().reshape(p.shape) for n, p in net.named_parameters()}
    net.load_state_dict(weights, strict=False, assign=True)
    # a token sees what comes before it
    net.attn_mask = torch.full((text.max_position_embeddings,) * 2, float("-inf")).triu_(1)
    return net.requires_grad_(True).eval()
