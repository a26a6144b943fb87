"""CelebA from a folder on this machine: faces with the names of the people, as the paper tests CLIP
on them.

Nothing is fetched. `pages/celeba.md` says where the pieces come from and what to use where the list
of names cannot be had.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from slugkit.base import EmptySetError, MissingArtefactError, SettingError
from slugkit.data.names import written
from slugkit.data.pairs import Pairs, pairs_of_files

IMAGES, NAME_LIST, IDENTITIES, FREQUENT = (
    "img_align_celeba",
    "list_identity_celeba.txt",
    "identity_CelebA.txt",
    "frequent_celebs.txt",
)
SHORTEST_NAME = 9
"""Fewest characters, blanks counted, of a name in the list of frequent people: the paper asks for
more than 8.
"""


@dataclass
class CelebA:
    """The faces and whose they are.

    pairs: one row a face, still on disk; key and caption ("{name}."), concept (the name with
    blanks), domain "figures", style and split "", identity (the number in identity_CelebA.txt as
    text, "" without it). names: every name of the list in alphabetical order, whether or not its
    faces are on this disk: the classes among which a face is classified. listed: the names of
    frequent_celebs.txt in its order, None without it.
    """

    pairs: Pairs
    names: list[str]
    listed: list[str] | None = None

    def frequent(self, count: int = 100) -> pd.DataFrame:
        """The people over whom TA_CA is averaged: columns name, pictures (1 or more) and source, at
        most `count` rows, best known first.

        The paper takes the first 100 entries of a list sorted by how often a name occurs in LAION,
        names of more than 8 characters. That list is read from frequent_celebs.txt (one name a
        line); entries without a face here are passed over. Without the file the people with most
        faces stand in, ties in alphabetical order, and `source` says so: a TA_CA over them is not
        the paper's.
        """
        faces = self.pairs.table["concept"].value_counts()
        ordered, source = self.listed, f"{FREQUENT}, in its order"
        if ordered is None:
            ordered = sorted(faces.index, key=lambda name: (-faces[name], name))
            source = f"most pictures in CelebA, since {FREQUENT} is not there"
        long = [name for name in dict.fromkeys(ordered) if len(name) >= SHORTEST_NAME]
        chosen = [name for name in long if name in faces.index][:count]
        pictures = [int(faces[name]) for name in chosen]
        return pd.DataFrame({"name": chosen, "pictures": pictures, "source": source})


def _name(text: str) -> str:
    return written(text.replace("_", " "))


def _columns(path: Path, skip: int) -> dict[str, str]:
    """Second column by the first of a text file with blanks between them.

    Raises SettingError naming the line.
    """
    found = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines()[skip:], skip + 1):
        if line.strip():
            parts = line.split()
            if len(parts) != 2:
                raise SettingError(
                    f"{path.name} line {number} reads {line[:60]!r}; a file and one word were"
                    " expected, as in '000001.jpg Some_Name'. Take the file as CelebA's authors"
                    " give it."
                )
            found[parts[0]] = parts[1]
    return found


def _check(folder: Path) -> None:
    missing = []
    if not (folder / IMAGES).is_dir():
        missing.append(
            f"the folder {IMAGES}/ with the aligned faces (CelebA's project page at"
            " mmlab.ie.cuhk.edu.hk gives it)"
        )
    if not (folder / NAME_LIST).is_file():
        also = ""
        if (folder / IDENTITIES).is_file():
            also = f"; {IDENTITIES}, which is there, holds numbers and no names"
        missing.append(
            f"{NAME_LIST} with the people's names (only CelebA's authors give it, on request, for"
            f" research{also})"
        )
    if missing:
        raise MissingArtefactError(
            f"The CelebA folder {folder.name!r} lacks {' and '.join(missing)}; both are expected."
            " Put what is missing there, or test on your own pictures: a folder with captions.csv"
            " needs neither (slugkit/data/pages/celeba.md)."
        )


def read_celeba(folder: str | Path, size: int = 224, fit: str = "crop") -> CelebA:
    """The faces of a CelebA folder, undecoded. size, fit: as in `Pictures`.

    Expected: img_align_celeba/*.jpg; list_identity_celeba.txt (two header lines, then `file
    Name_With_Underscores`). Read where they are there: identity_CelebA.txt (`file number`),
    frequent_celebs.txt. Faces without a name, and names without a face, are left out of `pairs`.
    Raises MissingArtefactError once for all that is missing, SettingError for a list that cannot be
    read, EmptySetError where no listed face is there.
    """
    folder = Path(folder).expanduser().absolute()
    _check(folder)
    named = {file: _name(name) for file, name in _columns(folder / NAME_LIST, 2).items()}
    here = {path.name for path in (folder / IMAGES).iterdir()}
    files = sorted(file for file in named if file in here)
    if not files:
        raise EmptySetError(
            f"None of the {len(named)} faces that {NAME_LIST} lists is in {IMAGES}/, which holds"
            f" {len(here)} files; names such as 000001.jpg were expected. Unpack"
            " img_align_celeba.zip there."
        )
    numbers = _columns(folder / IDENTITIES, 0) if (folder / IDENTITIES).is_file() else {}
    names = [named[file] for file in files]
    pairs = pairs_of_files(
        [folder / IMAGES / file for file in files],
        size,
        fit,
        key=[f"celeba/{file}" for file in files],
        caption=[f"{name}." for name in names],
        concept=names,
        domain="figures",
        identity=[numbers.get(file, "") for file in files],
    )
    listed = None
    if (folder / FREQUENT).is_file():
        lines = (folder / FREQUENT).read_text(encoding="utf-8").splitlines()
        listed = [_name(line) for line in lines if line.strip()]
    return CelebA(pairs, sorted(set(named.values())), listed)
