"""The model families behind one small interface, and the table of their layers.

What needs open_clip is imported when it is first asked for, so that the table of names serves
without it.
"""

from importlib import import_module

__all__ = ["Clip", "load_clip", "model_folder", "pick_device"]


def __getattr__(name: str):
    if name in __all__:
        return getattr(import_module("slugkit.models.clip"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
