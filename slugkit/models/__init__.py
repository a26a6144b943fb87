"""The model families behind one small interface, and the table of their layers."""

from .clip import Clip, load_clip, model_folder, pick_device

__all__ = ["Clip", "load_clip", "model_folder", "pick_device"]
