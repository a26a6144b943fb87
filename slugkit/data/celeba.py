"""CelebA from a folder on this machine (`pages/celeba.md`): faces with the names of the people."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from slugkit.base import EmptySetError, MissingArtefactError, SettingError
from slugkit.data.names import written
from slugkit.data.pairs import Pairs, pairs_on_disk

IMAGES, NAME_LIST = "img_align_celeba", "list_identity_celeba.txt"
IDENTITIES, FREQUENT = "identity_CelebA.txt", "frequent_celebs.txt"
SHORTEST_NAME = 9
"""Fewest characters, blanks counted, of a frequent name: the paper asks for more than 8."""


@dataclass
class CelebA:
    """The faces and whose they are.

    pairs: one row a face. names: all of the list in alphabetical order, the classes of a face.
    listed: those of frequent_celebs.txt in its order, None without it.
    """

    pairs: Pairs
    names: list[str]
    listed: list[str] | None = None

    def frequent(self, count: int = 100) -> pd.DataFrame:
        """The people over whom TA_CA is averaged, best known first: columns name, pictures, source.

        The paper takes the first 100 names of more than 8 characters of a list sorted by how often
        a name occurs in LAION, here frequent_celebs.txt. Without it the people with most faces
        stand in, and `source` says so.
        """
        faces = self.pairs.table["concept"].value_counts()
        ordered, source = self.listed, f"{FREQUENT}, in its order"
        if ordered is None:
            ordered = sorted(faces.index, key=lambda name: (-faces[name], name))
            source = f"most pictures in CelebA, since {FREQUENT} is not there"
        known = [name for name in dict.fromkeys(ordered) if name in faces.index]
        chosen = [name for name in known if len(name) >= SHORTEST_NAME][:count]
        pictures = [int(faces[name]) for name in chosen]
        return pd.DataFrame({"name": chosen, "pictures": pictures, "source": source})


def _name(text: str) -> str:
    return written(text.replace("_", " "))


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []


def _names(path: Path) -> dict[str, str]:
    """File -> name from the list of names. Raises SettingError."""
    found = {}
    for number, line in enumerate(_lines(path)[2:], 3):
        parts = line.split()
        if parts and len(parts) != 2:
            raise SettingError(
                f"{path.name} line {number} reads {line[:60]!r}; a file and one word were expected,"
                " as in '000001.jpg Some_Name'. Take the file as CelebA's authors give it."
            )
        found |= {parts[0]: _name(parts[1])} if parts else {}
    return found


def _require(folder: Path) -> None:
    """Raises MissingArtefactError, once for all that is missing."""
    missing = []
    if not (folder / IMAGES).is_dir():
        missing.append(f"the folder {IMAGES}/ with the aligned faces (from CelebA's project page)")
    if not (folder / NAME_LIST).is_file():
        there = (folder / IDENTITIES).is_file()
        numbers = f"; {IDENTITIES}, which is there, holds numbers and no names" if there else ""
        missing.append(
            f"{NAME_LIST} with the people's names (only CelebA's authors give it, on request, for"
            f" research{numbers})"
        )
    if missing:
        raise MissingArtefactError(
            f"The CelebA folder {folder.name!r} lacks {' and '.join(missing)}. Put it there, or"
            " test on your own pictures: a folder with captions.csv (slugkit/data/pages/celeba.md)."
        )


def read_celeba(folder: str | Path, size: int = 224, fit: str = "crop") -> CelebA:
    """The faces of a CelebA folder, undecoded; faces without a name are left out.

    Expected: img_align_celeba/*.jpg; list_identity_celeba.txt (two header lines, then `file
    Name_With_Underscores`); frequent_celebs.txt where it is there. Raises MissingArtefactError,
    SettingError, EmptySetError.
    """
    folder = Path(folder).expanduser().absolute()
    _require(folder)
    named = _names(folder / NAME_LIST)
    here = {path.name for path in (folder / IMAGES).iterdir()}
    files = sorted(named.keys() & here)
    if not files:
        raise EmptySetError(
            f"None of the {len(named)} faces that {NAME_LIST} lists is in {IMAGES}/, which holds"
            f" {len(here)} files. Unpack img_align_celeba.zip there."
        )
    columns = {
        "key": [f"celeba/{file}" for file in files],
        "caption": [f"{named[file]}." for file in files],
        "concept": [named[file] for file in files],
        "file": [str(folder / IMAGES / file) for file in files],
    }
    pairs = pairs_on_disk(pd.DataFrame(columns | {"domain": "figures"}), size, fit)
    listed = [_name(line) for line in _lines(folder / FREQUENT) if line.strip()]
    there = (folder / FREQUENT).is_file()
    return CelebA(pairs, sorted(set(named.values())), listed if there else None)
