"""CelebA and ImageNet from folders on this machine (`pages/celeba.md`, `pages/imagenet.md`): faces
with the names of the people, for FA@1, FA@5 and TA_CA, and validation pictures, for TA_IN.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from slugkit.base import EmptySetError, MissingArtefactError, SettingError, require_extra
from slugkit.data.names import written
from slugkit.data.pairs import Pairs, pairs_on_disk
from slugkit.data.reading import PLAIN, Wordings, dealt_texts, filled

IMAGES, NAME_LIST = "img_align_celeba", "list_identity_celeba.txt"
IDENTITIES, FREQUENT = "identity_CelebA.txt", "frequent_celebs.txt"
SHORTEST_NAME = 9
"""Fewest characters, blanks counted, of a frequent name: the paper asks for more than 8."""
PEOPLE = {"search": PLAIN["search"][1:], "report": ("{}.", *PLAIN["report"])}
"""How a person is asked for: in the report as the authors' code does, "{name}.", too."""


@dataclass
class CelebA:
    """The faces and whose they are.

    pairs: one row a face. classes: all names of the list in alphabetical order. listed: those of
    frequent_celebs.txt in its order, None without it.
    """

    pairs: Pairs
    classes: list[str]
    listed: list[str] | None = None
    kind = "person"

    def wordings(self, split: str) -> Wordings:
        """How each class is asked for in the words of a split."""
        return filled(PEOPLE[split], self.classes)

    def always(self) -> pd.Series:
        """(N,) bool: the pictures that every exam shows, those of the `frequent` people."""
        return self.pairs.table["concept"].isin(self.frequent()["name"])

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


CLASSES, CLASS_NAMES = 1000, "class_names.txt"
SOLUTION, META = "LOC_val_solution.csv", "meta.mat"
GROUND_TRUTH = "ILSVRC2012_validation_ground_truth.txt"
FRACTION, SEED = 0.05, 0
"""The paper's share of the validation pictures (2,500 of 50,000) and the seed of the draw."""
ENOUGH = 2500
"""Pictures of ImageNet in an exam: the paper's 5 % of the whole set."""
ENDS = (".jpeg", ".jpg", ".png")


@dataclass
class ImageNet:
    """The validation pictures and the classes.

    pairs: one row a picture; wnid is the WordNet number of its class. classes: name -> prompts, in
    the order of the sorted wnids.
    """

    pairs: Pairs
    classes: dict[str, list[str]]
    kind = "object"

    def wordings(self, split: str) -> Wordings:
        """As of `CelebA.wordings`."""
        return dealt_texts(self.classes, split)

    def always(self) -> pd.Series:
        """(N,) bool: the pictures that every exam shows, the `subset` or ENOUGH of a small set."""
        drawn = self.subset(max(FRACTION, min(1.0, ENOUGH / len(self.pairs))))
        return self.pairs.table["key"].isin(drawn.table["key"])

    def subset(self, fraction: float = FRACTION) -> Pairs:
        """The paper's draw by numpy's RandomState, out of all in the order of wnid and file."""
        count = len(self.pairs)
        drawn = np.random.RandomState(SEED).choice(count, int(count * fraction), replace=False)
        return self.pairs.take(np.sort(drawn))


def _by_wnid(folder: Path) -> dict[str, str]:
    """Wnid -> class name from class_names.txt; {} where there is none."""
    path = folder / CLASS_NAMES
    if not path.is_file():
        return {}
    lines = path.read_text(encoding="utf-8").splitlines()
    rows = [line.split(maxsplit=1) for line in lines if line.strip()]
    bad = [row for row in rows if len(row) != 2]
    if bad or len({row[0] for row in rows}) < len(rows) or not rows:
        came = " ".join(bad[0]) if bad else "a wnid twice, or nothing"
        raise SettingError(
            f"{CLASS_NAMES} is to hold a wnid and a name a line, each wnid once, as in 'n01440764"
            f" tench'; {came!r} came instead."
        )
    return {wnid: name.strip() for wnid, name in rows}


def _stated(folder: Path, flat: list[Path]) -> list[str]:
    """The wnid of each picture from the solution file, or from the development kit's two files."""
    solution, numbers, meta = folder / SOLUTION, folder / GROUND_TRUTH, folder / META
    stated = SOLUTION if solution.is_file() else f"{GROUND_TRUTH} with {META}"
    if not solution.is_file() and not (numbers.is_file() and meta.is_file()):
        raise MissingArtefactError(
            f"val/ holds pictures without folders, and neither {SOLUTION} nor {GROUND_TRUTH} with"
            f" the development kit's {META} says what they show. Put one beside val/, or the"
            " pictures into val/<wnid>/."
        )
    try:
        if solution.is_file():
            table = pd.read_csv(solution, dtype=str, keep_default_na=False)
            wnids = dict(zip(table["ImageId"], table["PredictionString"].str.partition(" ")[0]))
            return [wnids[path.stem] for path in flat]
        require_extra("data", f"ImageNet's {META}")
        from scipy.io import loadmat

        entries = loadmat(meta, squeeze_me=True)["synsets"]
        wnids = {str(entry[0]): str(entry[1]) for entry in entries}
        lines = numbers.read_text(encoding="utf-8").split()
        return [wnids[number] for number, _ in zip(lines, flat, strict=True)]
    except (KeyError, ValueError, TypeError, IndexError, NotImplementedError) as error:
        raise SettingError(
            f"{stated} and the {len(flat)} pictures of val/ do not belong together, or one is"
            f" broken ({type(error).__name__}: {error}). A row (ImageId, PredictionString) or a"
            " line for each was expected; take all from one release."
        ) from error


def _labelled(folder: Path) -> list[tuple[str, Path]]:
    """(wnid, file) of every validation picture, in the order of wnid and file name."""
    val = folder / "val"
    if not val.is_dir():
        raise MissingArtefactError(
            f"The ImageNet folder {folder.name!r} has no folder val/ with the pictures (from"
            " image-net.org: slugkit/data/pages/imagenet.md). Put it there, or leave `objects` out."
        )
    flat = [path for path in sorted(val.iterdir()) if path.suffix.lower() in ENDS]
    deep = [path for path in sorted(val.glob("*/*")) if path.suffix.lower() in ENDS]
    if not flat and not deep:
        raise EmptySetError("val/ holds no picture; expected some, flat or in val/<wnid>/.")
    if flat:
        return sorted(zip(_stated(folder, flat), flat))
    return [(path.parent.name, path) for path in deep]


def class_names(wnids: list[str], by_wnid: dict[str, str]) -> dict[str, str]:
    """Wnid -> name, for sorted wnids: open_clip's, or those of class_names.txt.

    A name that occurs again ("missile") gets its wnid added. Raises SettingError.
    """
    unnamed = [wnid for wnid in wnids if wnid not in by_wnid]
    if by_wnid and unnamed:
        raise SettingError(
            f"{CLASS_NAMES} has no name for {unnamed[:3]}; one for each folder of val/ was"
            " expected."
        )
    if not by_wnid:
        if len(wnids) != CLASSES:
            raise SettingError(
                f"{len(wnids)} classes of ImageNet were found and {CLASSES} were expected. For a"
                f" subset write {CLASS_NAMES} beside val/, a wnid and a name a line."
            )
        import open_clip

        by_wnid = dict(zip(wnids, open_clip.IMAGENET_CLASSNAMES))
    seen, named = Counter(), {}
    for wnid, name in sorted(by_wnid.items()):
        seen[name] += 1
        named[wnid] = name if seen[name] == 1 else f"{name} ({wnid})"
    return named


def read_imagenet(folder: str | Path, size: int = 224, fit: str = "crop") -> ImageNet:
    """The validation pictures of an ImageNet folder, with open_clip's names and 7 simple templates.

    Expected: val/<wnid>/*.JPEG; or val/*.JPEG and beside val/ LOC_val_solution.csv, or the
    development kit's ground truth with its meta.mat. A subset names its classes in class_names.txt
    (a wnid and a name a line). Raises MissingArtefactError, SettingError, EmptySetError.
    """
    import open_clip

    folder = Path(folder).expanduser().absolute()
    table = pd.DataFrame(_labelled(folder), columns=["wnid", "file"])
    named = class_names(sorted(set(table["wnid"])), _by_wnid(folder))
    inside = [path.relative_to(folder / "val").as_posix() for path in table["file"]]
    table = table.assign(
        key=[f"imagenet/{name}" for name in inside],
        concept=[named[wnid] for wnid in table["wnid"]],
        domain="objects",
        file=[str(path) for path in table["file"]],
    )
    templates, prompts = open_clip.SIMPLE_IMAGENET_TEMPLATES, {}
    for wnid, name in named.items():
        plain = name.removesuffix(f" ({wnid})")
        prompts[name] = [template(plain) for template in templates]
    return ImageNet(pairs_on_disk(table, size, fit), prompts)
