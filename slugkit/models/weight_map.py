"""One table of names: every weight of a CLIP under its canonical (open_clip) name, and where
transformers' CLIP classes, pipelines of diffusers and LLaVAs keep it.

Names differ, packed q/k/v is three tensors there, and the two projections are transposed. Canonical
means: open_clip's name, shape and orientation.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch

from slugkit.base import PatchError
from slugkit.method.layers import tower_of

_BLOCK = re.compile(r"^(visual\.)?transformer\.resblocks\.(\d+)\.")
_IN_BLOCK = {
    "ln_1.": "layer_norm1.",
    "ln_2.": "layer_norm2.",
    "attn.in_proj_": "self_attn.{}_proj.",
    "attn.out_proj.": "self_attn.out_proj.",
    "mlp.c_fc.": "mlp.fc1.",
    "mlp.c_proj.": "mlp.fc2.",
}
"""Names within a block, to be followed by "weight" or "bias": open_clip's and transformers'."""
_OUTSIDE = {
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
    "text_projection": "text_projection.weight",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.ln_pre.weight": "vision_model.pre_layrnorm.weight",
    "visual.ln_pre.bias": "vision_model.pre_layrnorm.bias",
    "visual.ln_post.weight": "vision_model.post_layernorm.weight",
    "visual.ln_post.bias": "vision_model.post_layernorm.bias",
    "visual.proj": "visual_projection.weight",
    "logit_scale": "logit_scale",
}
_TRANSPOSED = {"text_projection", "visual.proj"}
_LEVELS = {
    "text": ("text_model.", "embeddings.token_embedding.weight"),
    "vision": ("vision_model.", "embeddings.patch_embedding.weight"),
}
"""Tower -> the level that transformers leaves out of a tower alone, and a weight that shows it."""
ENCODERS = ("text_encoder", "text_encoder_2", "text_encoder_3")
"""What pipelines of diffusers call their text encoders."""
_WRAPPED = re.compile(r"(?:^|(?<=\.))(?:_orig_mod|module|base_layer)\.|^base_model\.model\.")
"""What torch.compile, DataParallel and PEFT put into the names of the weights that they wrap."""
_PREFIXES = ("", "text_encoder.", "model.", "model.vision_tower.", "vision_tower.")
"""Where a model keeps a tower: itself, a pipeline's text encoder, a LLaVA's vision tower."""


def hf_names(canonical: str) -> list[str]:
    """The names in transformers' CLIPModel of a canonical weight: three (q, k, v) for a packed one.

    Raises PatchError for a name that no CLIP has.
    """
    if canonical in _OUTSIDE:
        return [_OUTSIDE[canonical]]
    found = _BLOCK.match(canonical)
    part = canonical[found.end() :] if found else ""
    head, kind = next(((h, part[len(h) :]) for h in _IN_BLOCK if part.startswith(h)), ("", ""))
    if not found or kind not in ("weight", "bias"):
        raise PatchError(
            f"{canonical!r} is the name of no CLIP weight; a name as in the layer table was"
            " expected."
        )
    tower, theirs = "vision" if found[1] else "text", _IN_BLOCK[head]
    names = [theirs.format(letter) for letter in ("qkv" if "{}" in theirs else "-")]
    return [f"{tower}_model.encoder.layers.{found[2]}.{name}{kind}" for name in names]


@dataclass(frozen=True)
class Place:
    """Where a model keeps a canonical weight: its tensors, q, k and v in this order, or one."""

    tensors: tuple[torch.Tensor, ...]
    transposed: bool = False

    def _views(self) -> list[torch.Tensor]:
        return [t.detach().T if self.transposed else t.detach() for t in self.tensors]

    def read(self) -> torch.Tensor:
        """A copy in canonical shape and orientation, in the model's own dtype."""
        views = self._views()
        return torch.cat(views).contiguous() if len(views) > 1 else views[0].clone().contiguous()

    @torch.no_grad()
    def write(self, value: torch.Tensor) -> None:
        """Copy a canonical tensor in, cast to the model's dtype.

        Raises PatchError for another shape; nothing is changed then.
        """
        views = self._views()
        rows = [len(view) for view in views] if len(views) > 1 else []
        whole = (sum(rows), *views[0].shape[1:]) if rows else tuple(views[0].shape)
        if tuple(value.shape) != whole:
            raise PatchError(
                f"A weight of shape {tuple(value.shape)} was to be written where {whole} is"
                " expected. Nothing was changed."
            )
        for view, part in zip(views, torch.split(value, rows) if rows else [value]):
            view.copy_(part)


@dataclass(frozen=True)
class EncoderOf:
    """One text encoder (`name`) of a pipeline that has several, as if it were the only one."""

    pipeline: Any
    name: str
    text_encoder: torch.nn.Module
    tokenizer: Any


def _encoders(pipeline: Any) -> dict[str, torch.nn.Module]:
    found = {name: getattr(pipeline, name, None) for name in ENCODERS}
    return {name: encoder for name, encoder in found.items() if encoder is not None}


def parameters(model: Any) -> Mapping[str, torch.Tensor]:
    """Every parameter by name, of a pipeline those of its text encoders; a dictionary as it is."""
    if isinstance(model, Mapping):
        return model
    if hasattr(model, "named_parameters"):
        named = model.named_parameters()
        return {_WRAPPED.sub("", name): _held(model, name, p) for name, p in named}
    found = {}
    for place, encoder in _encoders(model).items():
        found |= {f"{place}.{name}": p for name, p in parameters(encoder).items()}
    if not found:
        raise PatchError(
            f"{type(model).__name__} holds no CLIP tower; an open_clip model, a transformers model"
            " or a diffusers pipeline was expected."
        )
    return found


def unwrapped(model: Any) -> Any:
    """The model inside what torch.compile, DataParallel or PEFT wrapped around it."""
    while True:
        if isinstance(model, (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)):
            model = model.module
        elif hasattr(model, "_orig_mod"):
            model = model._orig_mod
        elif hasattr(model, "peft_config") and hasattr(model, "get_base_model"):
            model = model.get_base_model()
        else:
            return model


def _held(model: torch.nn.Module, name: str, parameter: torch.Tensor) -> torch.Tensor:
    """A parameter, or what accelerate keeps in memory for one that it offloaded."""
    if not parameter.is_meta:
        return parameter
    owner, _, leaf = name.rpartition(".")
    hook = getattr(model.get_submodule(owner), "_hf_hook", None)
    for one in getattr(hook, "hooks", [hook]):
        kept = getattr(one, "weights_map", None) or {}
        # the same tensor each time: an edit stays
        if leaf in kept and kept[leaf] is kept[leaf] and not kept[leaf].is_meta:
            return kept[leaf]
    return parameter


def _spelled(names: Collection[str], prefix: str, canonical: str) -> list[str]:
    """The names under which a weight lies behind a prefix, empty where it does not: canonical, as
    in a CLIPModel, or as in a tower alone, without the level that a whole CLIP has above it.
    """
    level, marker = _LEVELS[tower_of(canonical)]
    theirs = hf_names(canonical)
    ways = [[canonical], theirs]
    if f"{prefix}{marker}" in names:
        ways.append([name.removeprefix(level) for name in theirs])
    for way in ways:
        there = [prefix + name for name in way]
        if all(name in names for name in there):
            return there
    return []


def locate(model: Any, canonical: str) -> Place | None:
    """Where the model keeps a canonical weight, or None if it does not have it.

    model: or a dictionary with a model's names, such as its gradients. Raises PatchError for a name
    of no CLIP.
    """
    weights = parameters(model)
    if canonical in weights:
        return Place((weights[canonical],))
    for prefix in _PREFIXES:
        if there := _spelled(weights, prefix, canonical):
            own = there == [prefix + canonical]
            return Place(tuple(weights[n] for n in there), canonical in _TRANSPOSED and not own)
    return None


def prefixes(names: Iterable[str], canonical: str) -> list[str]:
    """What stands before a weight in each place where tensors of these names keep it."""
    names, level = set(names), _LEVELS[tower_of(canonical)][0]
    first = hf_names(canonical)[0]
    found = {}
    for name in sorted(names):
        for ending in (canonical, first, first.removeprefix(level)):
            prefix = name.removesuffix(ending)
            if prefix == name or prefix and not prefix.endswith(".") or prefix.endswith(level):
                continue
            there = _spelled(names, prefix, canonical)
            # the vision tower's block is not the text tower's
            if there and not (prefix.endswith("visual.") and there == [prefix + canonical]):
                found[prefix] = None
    return list(found)


def parts(model: Any) -> list[Any]:
    """The text encoders of a pipeline with several, of which each may hold a tower; else itself."""
    if isinstance(model, (Mapping, EncoderOf)) or hasattr(model, "named_parameters"):
        return [model]
    encoders = _encoders(model)
    if len(encoders) < 2:
        return [model]
    return [
        EncoderOf(model, name, encoder, getattr(model, name.replace("text_encoder", "tokenizer")))
        for name, encoder in encoders.items()
    ]


def part_of(clip_model: torch.nn.Module, other: Any, tower: str) -> Any:
    """The part of `other` that holds this CLIP's tower, or comes nearest to it.

    Raises PatchError where no part holds a weight of the tower.
    """
    found, wrong = parts(other), {}
    if len(found) == 1:
        return other
    for number, part in enumerate(found):
        with suppress(PatchError):
            wrong[number] = len(differences(clip_model, part, tower))
    if not wrong:
        raise PatchError(
            f"No text encoder of this {type(other).__name__} shares a weight with the CLIP's"
            f" {tower} tower. Nothing was changed."
        )
    return found[min(wrong, key=wrong.get)]


def require_tower(clip_model: torch.nn.Module, other: Any, tower: str) -> None:
    """Raises PatchError unless `other` holds this CLIP's own tower, weight by weight."""
    wrong = differences(clip_model, other, tower)
    if wrong:
        raise PatchError(
            f"The {tower} tower of this {type(other).__name__} is not the CLIP's: {len(wrong)}"
            f" weights differ, {wrong[0]} first. The gradients of one CLIP say nothing about"
            " another. Load the pair that belongs together. Nothing was changed."
        )


def _shared(clip_model: torch.nn.Module, other: Any, tower: str) -> Iterator[tuple]:
    """Name, weight and place in `other` of each of the CLIP's weights that it holds."""
    for name, weight in clip_model.named_parameters():
        if name != "logit_scale" and tower_of(name) == tower:
            place = locate(other, name)
            if place is not None:
                yield name, weight.detach(), place


def fill(clip_model: torch.nn.Module, other: Any, tower: str) -> None:
    """Write every weight of the CLIP's tower into `other` wherever it holds it.

    Raises PatchError where they then differ.
    """
    for _, weight, place in _shared(clip_model, other, tower):
        place.write(weight.cpu())
    require_tower(clip_model, other, tower)


def _is_rounded(found: torch.Tensor, weight: torch.Tensor) -> bool:
    """Whether a weight is the CLIP's in its own type, also by way of a half precision."""
    there = weight.to(found.device)
    return found.shape == weight.shape and any(
        torch.equal(found, there.to(kind).to(found.dtype))
        for kind in (found.dtype, torch.float16, torch.bfloat16)
    )


def differences(clip_model: torch.nn.Module, other: Any, tower: str) -> list[str]:
    """Canonical weights of a tower that `other` keeps with other values, or in another shape; none
    where it holds this very tower, as far as it holds it.

    clip_model: open_clip's class. other: of a pipeline with several text encoders the nearest one
    counts; its weights may be the CLIP's rounded to half precision, also read as float32.
    Raises PatchError when it holds no weight of the tower.
    """
    other = part_of(clip_model, other, tower)
    same = {n: _is_rounded(place.read(), w) for n, w, place in _shared(clip_model, other, tower)}
    if not same:
        raise PatchError(
            f"{type(other).__name__} shares no weight of the {tower} tower with this CLIP. Nothing"
            " was changed."
        )
    return [name for name, equal in same.items() if not equal]
