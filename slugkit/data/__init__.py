"""Forget, retain, search and report sets from any source: the studio, pictures and captions on this
machine, or a recipe that joins several.
"""

from pathlib import Path

from slugkit.base import SettingError, nearest, require_choice
from slugkit.data.canvas_source import CanvasSource
from slugkit.data.checks import check_sets
from slugkit.data.folder import FolderSource, read_folder
from slugkit.data.names import names_concept
from slugkit.data.pairs import Pairs, load_pairs
from slugkit.data.pictures import FITS
from slugkit.data.pool import PairsSource
from slugkit.data.reading import Reading
from slugkit.data.saved_set import is_saved_set, read_saved_set
from slugkit.data.shards import read_shards
from slugkit.data.source import Exam, Source
from slugkit.data.studio_source import StudioSource, drawn
from slugkit.data.tables import read_table
from slugkit.data.unlearncanvas import is_unlearncanvas

EXPECTED = (
    "'studio', a folder with captions.csv, a .csv or .parquet file with paths and captions,"
    " webdataset shards (a .tar file, a folder of them, or a pattern such as"
    " shards/{00000..00009}.tar), a folder that datasets' save_to_disk wrote, UnlearnCanvas's"
    " folder, or a recipe (.yaml or .json)"
)


def open_data(
    data: str = "studio", size: int = 64, fit: str = "crop", reading: Reading | None = None
) -> Source:
    """The source that a notebook's `data` parameter names; `slugkit/data/pages/own_pictures.md`
    shows every layout.

    size: edge in pixels at which pictures are read, that of the CLIP's input. fit: "crop" or
    "squash" (see `Pictures`). The studio has its own 64 pixels. reading: how the CLIP reads texts,
    so that no set rests on a name behind its context; `Clip.inputs` and
    `slugkit.models.reading.inputs_of` give the three. Raises SettingError for anything else, naming
    what was expected and the nearest files; and what the readers raise.
    """
    require_choice(fit, FITS, "The way to fit a picture")
    if data == "studio":
        return StudioSource()
    path = Path(data).expanduser()
    if path.is_dir():
        return _of_folder(path, size, fit, reading)
    if path.suffix == ".tar":
        return PairsSource(
            read_shards(path, size, fit),
            path.stem,
            path if path.is_file() else path.parent,
            reading,
        )
    if path.is_file() and path.suffix in (".csv", ".parquet"):
        return PairsSource(read_table(path, size, fit), path.stem, path, reading)
    if path.is_file() and path.suffix in (".yaml", ".yml", ".json"):
        from slugkit.data.recipe import read_recipe

        return read_recipe(path, size, fit, reading)
    beside = sorted(p.name for p in path.parent.iterdir()) if path.parent.is_dir() else []
    close = ", ".join(repr(name) for name in nearest(path.name, beside))
    what = "is a file of another kind" if path.is_file() else "is no folder or file on this machine"
    raise SettingError(
        f"data={data!r} {what}. Expected {EXPECTED}." + (f" Nearest: {close}." if close else "")
    )


def _of_folder(path: Path, size: int, fit: str, reading: Reading | None) -> Source:
    if (path / "captions.csv").is_file():
        return FolderSource(path, size, fit, reading)
    if is_saved_set(path):
        return PairsSource(read_saved_set(path, size, fit), path.name, path, reading)
    if is_unlearncanvas(path):
        return CanvasSource(path, size, fit)
    if any(path.glob("*.tar")):
        return PairsSource(read_shards(path, size, fit), path.name, path, reading)
    inside = ", ".join(sorted(p.name for p in path.iterdir())[:5])
    raise SettingError(
        f"The data folder {path.name!r} has no captions.csv, no .tar file, no data set of"
        f" save_to_disk and no style of UnlearnCanvas; it holds {inside or 'nothing'}. Expected"
        f" {EXPECTED}."
    )
