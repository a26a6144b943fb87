"""One table of names: every weight of a CLIP under its canonical (open_clip) name, and where the
classes that share it keep it.

The same tower sits in open_clip's CLIP, in transformers' CLIPModel, CLIPTextModel and
CLIPVisionModel, as the text encoder of a Stable Diffusion pipeline and as the vision tower of a
LLaVA. Names differ, packed q/k/v is three tensors there, and the two projections are transposed.
Canonical means: open_clip's name, shape and orientation.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from slugkit.base import PatchError
from slugkit.method.layers import tower_of

_BLOCK = re.compile(r"^(?P<tower>visual\.)?transformer\.resblocks\.(?P<block>\d+)\.(?P<part>.+)$")
_IN_BLOCK = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_OUTSIDE = {
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final": "text_model.final_layer_norm",
    "text_projection": "text_projection.weight",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.ln_pre": "vision_model.pre_layrnorm",
    "visual.ln_post": "vision_model.post_layernorm",
    "visual.proj": "visual_projection.weight",
    "logit_scale": "logit_scale",
}
_TRANSPOSED = {"text_projection", "visual.proj"}
_LEVELS = {
    "text": ("text_model.", "embeddings.token_embedding.weight"),
    "vision": ("vision_model.", "embeddings.patch_embedding.weight"),
}
"""Tower -> the level that transformers 5 leaves out where a model is one tower alone, and a weight
that shows that it did.
"""
ENCODERS = ("text_encoder", "text_encoder_2", "text_encoder_3")
"""What pipelines of diffusers call their text encoders."""
_WRAPPED = re.compile(r"(?:^|(?<=\.))(?:_orig_mod|module|base_layer)\.|^base_model\.model\.")
"""What torch.compile, DataParallel and PEFT put into the names of the weights that they wrap."""
_PREFIXES = ("", "text_encoder.", "model.", "model.vision_tower.", "vision_tower.")
"""Where a model that holds a tower may keep it: itself, a pipeline's text encoder, a LLaVA's vision
tower.
"""


def hf_names(canonical: str) -> list[str]:
    """The names in transformers' CLIPModel of a canonical weight: three (q, k, v) for a packed one,
    else one.

    Raises PatchError for a name that no CLIP has.
    """
    found = _BLOCK.match(canonical)
    if found:
        model, part = ("vision_model" if found["tower"] else "text_model"), found["part"]
        base = f"{model}.encoder.layers.{found['block']}"
        packed = re.match(r"attn\.in_proj_(weight|bias)$", part)
        if packed:
            return [f"{base}.self_attn.{letter}_proj.{packed[1]}" for letter in "qkv"]
        head, _, kind = part.rpartition(".")
        if head in _IN_BLOCK and kind in ("weight", "bias"):
            return [f"{base}.{_IN_BLOCK[head]}.{kind}"]
    elif canonical in _OUTSIDE:
        return [_OUTSIDE[canonical]]
    else:
        head, _, kind = canonical.rpartition(".")
        if head in _OUTSIDE and kind in ("weight", "bias"):
            return [f"{_OUTSIDE[head]}.{kind}"]
    raise PatchError(
        f"{canonical!r} is the name of no CLIP weight; a name as in the layer table was expected."
    )


@dataclass(frozen=True)
class Place:
    """Where a model keeps a canonical weight: its tensors (q, k and v in this order, or one), and
    whether they are transposed.
    """

    tensors: tuple[torch.Tensor, ...]
    transposed: bool = False

    def read(self) -> torch.Tensor:
        """A copy in canonical shape and orientation, in the model's own dtype."""
        parts = [t.detach().T if self.transposed else t.detach() for t in self.tensors]
        return torch.cat(parts).contiguous() if len(parts) > 1 else parts[0].clone().contiguous()

    @torch.no_grad()
    def write(self, value: torch.Tensor) -> None:
        """Copy a canonical tensor in, cast to the model's dtype.

        Raises PatchError for another shape; nothing is changed then.
        """
        shapes = [tuple(t.T.shape if self.transposed else t.shape) for t in self.tensors]
        rows = [shape[0] if shape else 1 for shape in shapes]
        whole = (sum(rows), *shapes[0][1:]) if len(shapes) > 1 else shapes[0]
        if tuple(value.shape) != whole:
            raise PatchError(
                f"A weight of shape {tuple(value.shape)} was to be written where {whole} is"
                " expected. Nothing was changed."
            )
        for tensor, part in zip(
            self.tensors, torch.split(value, rows) if len(shapes) > 1 else [value]
        ):
            tensor.copy_(part.T if self.transposed else part)


@dataclass(frozen=True)
class EncoderOf:
    """One text encoder of a pipeline that has several (SDXL has two), as if it were the pipeline's
    only one.

    name: text_encoder, text_encoder_2, ...
    """

    pipeline: Any
    name: str

    @property
    def text_encoder(self) -> torch.nn.Module:
        """The encoder itself."""
        return getattr(self.pipeline, self.name)

    @property
    def tokenizer(self) -> Any:
        """The tokenizer that goes with it."""
        return getattr(self.pipeline, self.name.replace("text_encoder", "tokenizer"))


def parameters(model: Any) -> Mapping[str, torch.Tensor]:
    """Every parameter by name; of a diffusers pipeline those of its text encoders; a dictionary of
    tensors as it is.
    """
    if isinstance(model, Mapping):
        return model
    if hasattr(model, "named_parameters"):
        return {
            _WRAPPED.sub("", name): _held(model, name, p) for name, p in model.named_parameters()
        }
    if hasattr(model, "text_encoder"):
        found = {part.name: part.text_encoder for part in parts(model) if part is not model} or {
            "text_encoder": model.text_encoder
        }
        return {
            f"{place}.{name}": p
            for place, encoder in found.items()
            for name, p in parameters(encoder).items()
        }
    raise PatchError(
        f"{type(model).__name__} holds no CLIP tower; an open_clip model, a transformers model or a"
        " diffusers pipeline was expected."
    )


def unwrapped(model: Any) -> Any:
    """The model inside what torch.compile, DataParallel or PEFT wrapped around it; another one as
    it is.
    """
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
    """A parameter, or what accelerate keeps in memory for one that it offloaded and will use next
    time; the empty one where that is on disk.
    """
    if not parameter.is_meta:
        return parameter
    owner, _, leaf = name.rpartition(".")
    hook = getattr(model.get_submodule(owner), "_hf_hook", None)
    for one in getattr(hook, "hooks", [hook]):
        kept = getattr(one, "weights_map", None) or {}
        if (
            leaf in kept and kept[leaf] is kept[leaf] and not kept[leaf].is_meta
        ):  # the same tensor each time: an edit stays
            return kept[leaf]
    return parameter


def locate(model: Any, canonical: str) -> Place | None:
    """Where the model keeps a canonical weight, or None if it does not have it.

    Raises PatchError for a name of no CLIP.

    model: a dictionary with a model's names, such as its gradients, is searched alike.
    """
    weights = parameters(model)
    if canonical in weights:
        return Place((weights[canonical],))
    names = hf_names(canonical)
    level, marker = _LEVELS[tower_of(canonical)]
    for prefix in _PREFIXES:
        # one tower, without the level that a whole CLIP has above it
        alone = f"{prefix}{marker}" in weights
        there = [prefix + (name.removeprefix(level) if alone else name) for name in names]
        if all(name in weights for name in there):
            return Place(tuple(weights[name] for name in there), canonical in _TRANSPOSED)
    return None


def prefixes(names: Iterable[str], canonical: str) -> list[str]:
    """What stands before a weight in each place where tensors of these names keep it, whoever wrote
    them.

    Stable Diffusion's single files say `cond_stage_model.transformer.` (2:
    `cond_stage_model.model.`), XL's `conditioner.embedders.0.transformer.`, others
    `text_encoders.clip_l.transformer.`, and so on.
    """
    names, found = set(names), {}
    level, marker = _LEVELS[tower_of(canonical)]
    parts = hf_names(canonical)
    flat = [part.removeprefix(level) for part in parts]
    for name in sorted(names):
        for ways in ([canonical], parts, flat):
            prefix = name.removesuffix(ways[0])
            if prefix == name or prefix and not prefix.endswith("."):
                continue
            if ways[0] == canonical and prefix.endswith("visual."):
                continue  # the vision tower's block, not the text tower's
            alone = ways is flat and flat != parts
            if alone and (prefix.endswith(level) or f"{prefix}{marker}" not in names):
                continue
            if all(f"{prefix}{part}" in names for part in ways):
                found[prefix] = None
    return list(found)


def parts(model: Any) -> list[Any]:
    """The parts of a model of which each may hold a CLIP tower of its own: the text encoders of a
    pipeline with several, else the model itself.
    """
    if isinstance(model, (Mapping, EncoderOf)) or hasattr(model, "named_parameters"):
        return [model]
    names = [name for name in ENCODERS if getattr(model, name, None) is not None]
    return [EncoderOf(model, name) for name in names] if len(names) > 1 else [model]


def part_of(clip_model: torch.nn.Module, other: Any, tower: str) -> Any:
    """The part of `other` that holds this CLIP's tower, or comes nearest to it.

    Raises PatchError where no part holds a weight of the tower.
    """
    found = parts(other)
    if len(found) == 1:
        return other
    wrong = {}
    for number, part in enumerate(found):
        try:
            wrong[number] = len(differences(clip_model, part, tower))
        except PatchError:
            continue
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


def fill(clip_model: torch.nn.Module, other: Any, tower: str) -> None:
    """Write every weight of the CLIP's tower into `other` wherever it holds it.

    Raises PatchError where they then differ.
    """
    for name, weight in clip_model.named_parameters():
        place = locate(other, name) if name != "logit_scale" and tower_of(name) == tower else None
        if place is not None:
            place.write(weight.detach().cpu())
    require_tower(clip_model, other, tower)


def _roundings(weight: torch.Tensor, like: torch.Tensor) -> Iterator[torch.Tensor]:
    """The weight where `like` is and in its type: as it is, and by way of each half precision."""
    there = weight.detach().to(like.device)
    return (there.to(kind).to(like.dtype) for kind in (like.dtype, torch.float16, torch.bfloat16))


def differences(clip_model: torch.nn.Module, other: Any, tower: str) -> list[str]:
    """Canonical weights of a tower that `other` keeps with other values, or in another shape.

    clip_model: open_clip's class. other: of a pipeline with several text encoders the nearest one
    counts; its weights may be the CLIP's rounded to half precision, also where they are read as
    float32, as from files in fp16. An empty list means: `other` holds this very tower, as far as it
    holds it at all.
    Raises PatchError when it holds no weight of the tower.
    """
    other, wrong, shared = part_of(clip_model, other, tower), [], 0
    for name, weight in clip_model.named_parameters():
        if name == "logit_scale" or tower_of(name) != tower:
            continue
        place = locate(other, name)
        if place is None:
            continue
        shared += 1
        found = place.read()
        if found.shape != weight.shape or not any(
            torch.equal(found, own) for own in _roundings(weight, found)
        ):
            wrong.append(name)
    if not shared:
        raise PatchError(
            f"{type(other).__name__} shares no weight of the {tower} tower with this CLIP. Nothing"
            " was changed."
        )
    return wrong
