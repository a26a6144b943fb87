"""slugkit: targeted unlearning by Single Layer Unlearning Gradient (SLUG), and what it left behind.

    import slugkit as sk

    clip = sk.load_clip("studio")
    data = sk.open_data("studio", *clip.inputs)  # pictures and texts as this CLIP reads them
    result = sk.unlearn(clip, data, "Kofi Okoye")
    sk.evaluate(clip, data, result)
    result.edit("text").save("kofi.safetensors")

These names are imported when they are first asked for; everything else lies in the rooms.
"""

from importlib import import_module

__version__ = "0.1.0"

FACE = {
    "load_clip": "slugkit.models.clip:load_clip",
    "load_pipeline": "slugkit.models.diffusion:load_pipeline",
    "load_vlm": "slugkit.models.vlm:load_vlm",
    "open_data": "slugkit.data:open_data",
    "unlearn": "slugkit.unlearning.call:unlearn",
    "METHODS": "slugkit.unlearning.methods:METHODS",
    "Result": "slugkit.unlearning.result:Result",
    "evaluate": "slugkit.unlearning.concept:evaluate",
    "Patch": "slugkit.patch.format:Patch",
    "load_patch": "slugkit.patch.format:load",
}
"""The public face: name -> where it is."""


def __getattr__(name: str):
    if name not in FACE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = FACE[name].split(":")
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted([*globals(), *FACE])
