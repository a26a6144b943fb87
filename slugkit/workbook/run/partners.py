"""Before a series starts: whether the pipeline and the LLaVA hold the towers of the CLIP that the
notebooks before them work on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slugkit.base import SettingError

PARTNERS = {
    "06_evaluate_stable_diffusion": ("pipeline", "text"),
    "07_evaluate_vision_language": ("vision_language_model", "vision"),
}
"""Notebooks that stop where their model does not hold the CLIP's own tower: which setting names it,
which tower.
"""
LOOKED_AT = {
    "text": ("token_embedding.weight", "positional_embedding", "ln_final.weight", "ln_final.bias"),
    "vision": (
        "visual.conv1.weight",
        "visual.class_embedding",
        "visual.positional_embedding",
        "visual.ln_pre.weight",
    ),
}
"""Weights that every CLIP has, and that no two trainings share."""
LARGE = 10**6
"""Numbers from which a weight is not read: its shape says enough here, and the notebook compares
all of them.
"""


def require_partners(plan: dict[str, dict[str, Any]]) -> None:
    """Raise SettingError where a planned notebook would stop because its model is not the CLIP's,
    before those before it have run.

    plan: notebook -> its settings. Looked at are files on this machine alone, a few weights of
    each; of a tag or a hub's id nothing is known here.
    """
    for notebook, (setting, tower) in PARTNERS.items():
        settings = plan.get(notebook, {})
        model, other = settings.get("model", "studio"), settings.get(setting, "studio")
        if model == other == "studio":
            continue
        wrong = _difference(model, other, setting, tower)
        if wrong:
            rest = ",".join(name[:2] for name in plan if name != notebook)
            raise SettingError(
                f"Notebook {notebook[:2]} needs a {setting} whose {tower} tower is the CLIP's "
                f"own, and that of {setting} {other!r} is not that of model {model!r}: "
                f"{wrong}. Give the pair that belongs together, or leave the notebook "
                f"out{f': --notebooks {rest}' if rest else ''}. Nothing was run."
            )


def _difference(model: str, other: str, setting: str, tower: str) -> str:
    """How the towers differ, as far as files on this machine tell; "" where they do not, or where
    nothing can be told.
    """
    from slugkit.models import model_folder
    from slugkit.models.diffusion import pipeline_folder
    from slugkit.models.vlm import vlm_folder

    own = model_folder(model) or Path(model.rpartition(":")[2])
    folder = pipeline_folder(other) if setting == "pipeline" else vlm_folder(other)
    if folder is None or not own.exists():
        return ""
    places = sorted(folder.glob("text_encoder*")) if setting == "pipeline" else [folder]
    clip, held = _weights(own), [weights for weights in map(_weights, places) if weights]
    found = [_unlike(clip, weights, tower) for weights in held] if clip else []
    return "" if not all(found) else next(iter(found), "")


def _weights(place: Path) -> dict[str, Any]:
    """The small weights of a safetensors file or of a folder of them, and the others' shapes (on
    torch's meta device); empty for what cannot be read.
    """
    import torch
    from safetensors import SafetensorError, safe_open

    found = {}
    for file in sorted(place.glob("*.safetensors")) if place.is_dir() else [place]:
        try:
            with safe_open(file, framework="pt") as opened:
                for name in opened.keys():
                    shape = opened.get_slice(name).get_shape()
                    size = torch.Size(shape).numel()
                    found[name] = (
                        opened.get_tensor(name)
                        if size < LARGE
                        else torch.empty(shape, device="meta")
                    )
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
        if (
            not (a.is_meta or b.is_meta)
            and not torch.equal(a.to(b.dtype), b)
            and not torch.equal(a, b.to(a.dtype))
        ):
            return f"{name} has other values"
    return ""
