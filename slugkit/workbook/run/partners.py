"""Before a series starts: whether pipeline and LLaVA hold the towers of the CLIP that is edited."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slugkit.base import SettingError

PARTNERS = {
    "06_evaluate_stable_diffusion": ("pipeline", "text"),
    "07_evaluate_vision_language": ("vision_language_model", "vision"),
}
"""Notebooks whose model must hold the CLIP's own tower: which setting names it, which tower."""
LOOKED_AT = {
    "text": ("token_embedding.weight", "positional_embedding", "ln_final.weight", "ln_final.bias"),
    "vision": (
        *("visual.conv1.weight", "visual.class_embedding"),
        *("visual.positional_embedding", "visual.ln_pre.weight"),
    ),
}
"""Weights that every CLIP has, and that no two trainings share."""
LARGE = 10**6
"""Numbers from which a weight is not read: its shape says enough here."""


def require_partners(plan: dict[str, dict[str, Any]]) -> None:
    """Raise SettingError where a planned notebook would stop, as its model is not the CLIP's.

    Only files on this machine are looked at; of a tag or a hub's id nothing is known here.

    Args: plan, notebook -> its settings.
    """
    for notebook, (setting, tower) in PARTNERS.items():
        settings = plan.get(notebook, {})
        model, other = settings.get("model", "studio"), settings.get(setting, "studio")
        wrong = "" if model == other == "studio" else _difference(model, other, setting, tower)
        if wrong:
            rest = ",".join(name[:2] for name in plan if name != notebook)
            raise SettingError(
                f"Notebook {notebook[:2]} needs a {setting} whose {tower} tower is the CLIP's "
                f"own, and that of {setting} {other!r} is not that of model {model!r}: "
                f"{wrong}. Give the pair that belongs together, or leave the notebook "
                f"out{f': --notebooks {rest}' if rest else ''}. Nothing was run."
            )


def _difference(model: str, other: str, setting: str, tower: str) -> str:
    """How the towers differ; "" where they do not, or where nothing can be told."""
    from slugkit.models import model_folder
    from slugkit.models.hub import folder_of

    own = model_folder(model) or Path(model.rpartition(":")[2])
    folder = folder_of(other, "diffusion" if setting == "pipeline" else "vlm")
    clip = _weights(own) if folder and own.exists() else {}
    if not clip:
        return ""
    places = sorted(folder.glob("text_encoder*")) if setting == "pipeline" else [folder]
    held = [weights for weights in map(_weights, places) if weights]
    found = [_unlike(clip, weights, tower) for weights in held]
    return found[0] if found and all(found) else ""


def _weights(place: Path) -> dict[str, Any]:
    """Small weights of a safetensors file or a folder of them; the others' shapes, on meta."""
    import torch
    from safetensors import SafetensorError, safe_open

    found = {}
    for file in sorted(place.glob("*.safetensors")) if place.is_dir() else [place]:
        try:
            with safe_open(file, framework="pt") as opened:
                for name in opened.keys():
                    shape = torch.Size(opened.get_slice(name).get_shape())
                    small = shape.numel() < LARGE
                    empty = torch.empty(shape, device="meta")
                    found[name] = opened.get_tensor(name) if small else empty
        except (OSError, SafetensorError):
            continue
    return found


def _unlike(clip: dict[str, Any], other: dict[str, Any], tower: str) -> str:
    """What tells two towers apart; "" where nothing does, or where the CLIP's cannot be found."""
    import torch

    from slugkit.models.weight_map import locate

    for name in LOOKED_AT[tower]:
        mine, theirs = locate(clip, name), locate(other, name)
        if mine is None:
            continue
        if theirs is None:
            return f"it has no {name}"
        a, b = mine.tensors[0], theirs.tensors[0]
        if a.shape != b.shape:
            return f"{name} has the shape {tuple(b.shape)} there and {tuple(a.shape)} here"
        if a.is_meta or b.is_meta:
            continue
        # half precision of the same numbers is no other tower
        if not torch.equal(a.to(b.dtype), b) and not torch.equal(a, b.to(a.dtype)):
            return f"{name} has other values"
    return ""
