"""Forget, retain, search and report sets from any source: the studio, or a folder of pictures with captions."""

from pathlib import Path

from slugkit.base import SettingError

from .folder import FolderSource, names_concept, read_folder
from .pairs import Pairs, load_pairs
from .source import Exam, Source
from .studio_source import StudioSource, drawn

__all__ = ["Exam", "FolderSource", "Pairs", "Source", "StudioSource", "drawn", "load_pairs", "names_concept",
           "open_data", "read_folder"]


def open_data(data: str = "studio") -> Source:
    """The source that a notebook's `data` parameter names. Raises SettingError for a folder that is not there."""
    if data == "studio":
        return StudioSource()
    if not Path(data).expanduser().is_dir():
        raise SettingError(f"data={data!r} is no folder on this machine. Expected 'studio', or a folder with images and captions.csv.")
    return FolderSource(data)
