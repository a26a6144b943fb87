"""Forget, retain, search and report sets from any source of pictures and captions."""

from pathlib import Path

from slugkit.base import SettingError, nearest, require_choice
from slugkit.data.checks import check_sets
from slugkit.data.names import names_concept
from slugkit.data.pairs import Pairs, load_pairs
from slugkit.data.pictures import FITS
from slugkit.data.pool import FolderSource, PairsSource
from slugkit.data.reading import Reading
from slugkit.data.recipe import RECIPES, read_recipe
from slugkit.data.shards import read_shards
from slugkit.data.source import Exam, Source
from slugkit.data.studio_source import StudioSource, drawn
from slugkit.data.tables import is_saved_set, read_saved_set, read_table
from slugkit.data.unlearncanvas import CanvasSource, is_unlearncanvas

EXPECTED = (
    "'studio', a folder with captions.csv, a .csv or .parquet file with paths and captions,"
    " webdataset shards (a .tar file, a folder of them, or a pattern such as"
    " shards/{00000..00009}.tar), a folder that datasets' save_to_disk wrote, UnlearnCanvas's"
    " folder, or a recipe (.yaml or .json)"
)


def open_data(
    data: str = "studio", size: int = 64, fit: str = "crop", reading: Reading | None = None
) -> Source:
    """The source that a notebook's `data` parameter names (slugkit/data/pages/own_pictures.md).

    size: edge in pixels at which pictures are read; the studio has its own 64. fit: see
    `as_square`. reading: how the CLIP reads texts; `slugkit.models.reading.inputs_of` gives all
    three. Raises SettingError naming the nearest files, and what the readers raise.
    """
    require_choice(fit, FITS, "The way to fit a picture")
    if data == "studio":
        return StudioSource()
    path = Path(data).expanduser()
    if (path / "captions.csv").is_file():
        return FolderSource(path, size, fit, reading)
    if path.is_dir() and is_saved_set(path):
        return PairsSource(read_saved_set(path, size, fit), path.name, path, reading)
    if path.is_dir() and is_unlearncanvas(path):
        return CanvasSource(path, size, fit)
    if path.is_file() and path.suffix in RECIPES:
        return read_recipe(path, size, fit, reading)
    if path.suffix == ".tar" or any(path.glob("*.tar")):
        pairs, pattern = read_shards(path, size, fit), not path.exists()
        name = path.name if path.is_dir() else path.stem
        return PairsSource(pairs, name, path.parent if pattern else path, reading)
    if path.is_file() and path.suffix in (".csv", ".parquet"):
        return PairsSource(read_table(path, size, fit), path.stem, path, reading)
    raise SettingError(_refusal(data, path))


def _refusal(data: str, path: Path) -> str:
    """What a place is that nothing reads, what is read, and the nearest names to a missing one."""
    if path.is_dir():
        inside = ", ".join(sorted(p.name for p in path.iterdir())[:5])
        return (
            f"The data folder {path.name!r} has no captions.csv, no .tar file, no data set of"
            f" save_to_disk and no style of UnlearnCanvas; it holds {inside or 'nothing'}. Expected"
            f" {EXPECTED}."
        )
    beside = sorted(p.name for p in path.parent.iterdir()) if path.parent.is_dir() else []
    close = ", ".join(map(repr, nearest(path.name, beside)))
    what = "is a file of another kind" if path.is_file() else "is no folder or file on this machine"
    said = f"data={data!r} {what}. Expected {EXPECTED}."
    return f"{said} Nearest: {close}." if close else said
