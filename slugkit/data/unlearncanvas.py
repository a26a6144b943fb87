"""The UnlearnCanvas benchmark's names, prompt and pictures: 20 objects painted in 50 styles.

As in its repository (OPTML-Group/UnlearnCanvas, MIT licence); see `pages/unlearncanvas.md`.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from slugkit.base import (
    EmptySetError,
    MissingArtefactError,
    SettingError,
    UnknownConceptError,
    nearest,
)
from slugkit.data.pairs import Pairs, pairs_of_files

SEED_IMAGES = "Seed_Images"
"""The photographs from which the styles were painted: no style that is unlearned."""
STYLES = tuple(
    """
Abstractionism Artist_Sketch Blossom_Season Bricks Byzantine Cartoon Cold_Warm Color_Fantasy
Comic_Etch Crayon Cubism Dadaism Dapple Defoliation Early_Autumn Expressionism Fauvism French
Glowing_Sunset Gorgeous_Love Greenfield Impressionism Ink_Art Joy Liquid_Dreams Magic_Cube
Meta_Physics Meteor_Shower Monet Mosaic Neon_Lines On_Fire Pastel Pencil_Drawing Picasso Pop_Art
Red_Blue_Ink Rust Seed_Images Sketch Sponge_Dabbed Structuralism Superstring Surrealism Ukiyoe
Van_Gogh Vibrant_Flow Warm_Love Warm_Smear Watercolor Winter
""".split()
)
"""The 51 outputs of the style classifier, in its order: 50 styles and Seed_Images."""
OBJECTS = tuple(
    """
Architectures Bears Birds Butterfly Cats Dogs Fishes Flame Flowers Frogs Horses Human Jellyfish
Rabbits Sandwiches Sea Statues Towers Trees Waterfalls
""".split()
)
"""The 20 outputs of the object classifier, in its order."""
ENDS = (".jpg", ".jpeg", ".png")


def spoken(name: str) -> str:
    """A style or an object as a prompt says it: with blanks for underscores."""
    return name.replace("_", " ")


def prompt(name: str, style: str) -> str:
    """The benchmark's prompt for an object in a style: "A Dogs image in Van Gogh style." """
    return f"A {name} image in {spoken(style)} style."


def concept_kind(concept: str) -> str:
    """ "style" or "object" for one of the 70 concepts. Raises UnknownConceptError."""
    if concept in OBJECTS:
        return "object"
    if concept in STYLES and concept != SEED_IMAGES:
        return "style"
    close = ", ".join(map(repr, nearest(concept, [*STYLES, *OBJECTS])))
    raise UnknownConceptError(
        f"UnlearnCanvas unlearns no concept {concept!r}; one of its 50 styles or 20 objects was"
        f" expected, with underscores. Nearest: {close or 'none'}."
    )


def is_unlearncanvas(folder: str | Path) -> bool:
    """Whether a folder holds one of an object in one of the benchmark's styles."""
    return any((Path(folder) / style / name).is_dir() for style in STYLES for name in OBJECTS)


def _numbered(folder: Path) -> list[Path]:
    """The pictures of one object in one style, by number. Raises SettingError."""
    files = [path for path in folder.glob("*") if path.suffix.lower() in ENDS]
    wrong = [path.name for path in files if not path.stem.isdigit()]
    if wrong:
        raise SettingError(
            f"{folder.parent.name}/{folder.name}/{wrong[0]} is not called by a number; 1.jpg to"
            " 20.jpg were expected. Take the data set as it is published."
        )
    return sorted(files, key=lambda path: int(path.stem))


def read_unlearncanvas(folder: str | Path, size: int = 224, fit: str = "crop") -> Pairs:
    """The data set's pictures, undecoded: `folder`/STYLE/OBJECT/N.jpg, or a part of them.

    Only the benchmark's 51 style folders are read; Seed_Images may also be called Seed_Image.
    Raises MissingArtefactError, EmptySetError, SettingError for a file that is not called by a
    number.
    """
    folder = Path(folder).expanduser().absolute()
    rows, found = [], []
    for style in STYLES:
        called = (style, "Seed_Image") if style == SEED_IMAGES else (style,)
        place = next((folder / name for name in called if (folder / name).is_dir()), None)
        found += [style] if place else []
        for name in OBJECTS if place else ():
            rows += [(style, name, path) for path in _numbered(place / name)]
    if not found:
        raise MissingArtefactError(
            f"The folder {folder.name!r} holds none of UnlearnCanvas's style folders. Get the data"
            " set from OPTML-Group (slugkit/data/pages/unlearncanvas.md)."
        )
    if not rows:
        raise EmptySetError(
            f"The style folders {', '.join(found[:3])} hold no picture in folders such as"
            f" {OBJECTS[0]}/; STYLE/OBJECT/N.jpg was expected."
        )
    styles, names, files = (list(column) for column in zip(*rows))
    return pairs_of_files(
        files,
        size,
        fit,
        key=[f"{style}/{name}/{path.name}" for style, name, path in rows],
        caption=list(map(prompt, names, styles)),
        concept=names,
        domain="objects",
        style=styles,
        split="train",
    )


def _shows(pairs: Pairs, concept: str) -> pd.Series:
    return pairs.table["style" if concept_kind(concept) == "style" else "concept"] == concept


def canvas_forget_set(pairs: Pairs, concept: str) -> Pairs:
    """All pictures of a style or an object, as SLUG's authors take them. Raises EmptySetError."""
    mine = pairs.where(_shows(pairs, concept))
    if not len(mine):
        raise EmptySetError(
            f"The data set's folder holds no picture of {concept!r}. Unpack that part of it."
        )
    return mine


def canvas_retain_set(pairs: Pairs, concept: str) -> Pairs:
    """All pictures that do not show the concept. Raises EmptySetError."""
    rest = pairs.where(~_shows(pairs, concept))
    if not len(rest):
        raise EmptySetError(
            f"The data set's folder holds pictures of {concept!r} alone, and nothing for the retain"
            " set. Unpack more of it."
        )
    return rest
