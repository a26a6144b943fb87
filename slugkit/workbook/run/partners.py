"""Before a series starts: whether pipeline and LLaVA hold the towers of the CLIP that is edited."""

from pathlib import Path
from typing import Any

from slugkit.base import SettingError, SlugError

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


def require_partners(plan: dict[str, dict[str, Any]]) -> None:
    """Raise SettingError where a notebook of `plan` (name -> settings) would stop, as its model is
    not the CLIP's.

    Only files on this machine are looked at; of a tag or a hub's id nothing is known here.
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
    from slugkit.patch.copies import Copies

    own = model_folder(model) or Path(model.rpartition(":")[2])
    folder = folder_of(other, "diffusion" if setting == "pipeline" else "vlm")
    if not folder or not own.exists():
        return ""
    try:
        clip, held = Copies(own), Copies(folder)
    except SlugError:  # no safetensors, or broken ones: whoever loads them says so
        return ""
    names = [name for name in LOOKED_AT[tower] if clip.of(name)]
    towers = held.of(names[0]) if names else []
    if names and not towers:
        return f"it has no {names[0]}"
    found = [_unlike({name: clip.of(name)[0] for name in names}, copy) for copy in towers]
    return found[0] if all(found) and found else ""


def _unlike(clip: dict[str, Any], other: Any) -> str:
    """What tells a tower from the CLIP's, name -> where it keeps it; "" where nothing does."""
    import torch

    from slugkit.models.weight_map import locate

    for name, copy in clip.items():
        mine, theirs = locate(copy, name), locate(other, name)
        if theirs is None:
            return f"it has no {name}"
        a, b = mine.tensors[0], theirs.tensors[0]
        if a.shape != b.shape:
            return f"{name} has the shape {tuple(b.shape)} there and {tuple(a.shape)} here"
        # half precision of the same numbers is no other tower
        if not torch.equal(a.to(b.dtype), b) and not torch.equal(a, b.to(a.dtype)):
            return f"{name} has other values"
    return ""
