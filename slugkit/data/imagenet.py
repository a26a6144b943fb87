"""ImageNet's validation pictures from a folder on this machine, for TA_IN: what an edited CLIP
still knows of ordinary things.

Nothing is fetched. `pages/imagenet.md` says where the pictures come from and what to use instead.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from slugkit.base import EmptySetError, MissingArtefactError, SettingError
from slugkit.data.pairs import Pairs, pairs_of_files

CLASSES, CLASS_NAMES = 1000, "class_names.txt"
SOLUTION, META = "LOC_val_solution.csv", "meta.mat"
GROUND_TRUTH = "ILSVRC2012_validation_ground_truth.txt"
FRACTION, SEED = 0.05, 0
"""The paper's share of the validation pictures (2,500 of 50,000) and the seed of the draw."""
ENDS = (".jpeg", ".jpg", ".png")


@dataclass
class ImageNet:
    """The validation pictures and the classes.

    pairs: one row a picture, still on disk; key and caption (""), concept (the class name), domain
    "objects", style and split "", wnid (WordNet number of the class). prompts: class name -> its
    prompts, in class index order, which is the order of the sorted wnids.
    """

    pairs: Pairs
    prompts: dict[str, list[str]]

    def subset(self, fraction: float = FRACTION, seed: int = SEED) -> Pairs:
        """The paper's draw: int(n * fraction) pictures by numpy's RandomState(seed), without
        replacement, out of all in the order of wnid and file.

        Raises SettingError for a fraction that leaves no picture or is above 1.
        """
        size = int(len(self.pairs) * fraction)
        if not 0 < size <= len(self.pairs):
            raise SettingError(
                f"A fraction of {fraction} leaves {size} of {len(self.pairs)} pictures; a share"
                " above 0 and up to 1 was expected."
            )
        drawn = np.random.RandomState(seed).choice(len(self.pairs), size, replace=False)
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
        raise SettingError(
            f"{CLASS_NAMES} is to hold a wnid and a name a line, each wnid once, as in 'n01440764"
            f" tench'; {' '.join(bad[0]) if bad else 'a wnid twice, or nothing'!r} came instead."
        )
    return {wnid: name.strip() for wnid, name in rows}


def _ground_truth(folder: Path, count: int) -> list[str]:
    """The wnid of each of `count` validation pictures in the order of their file names, from the
    development kit's two files.

    The numbers in the ground truth file are the kit's own ILSVRC2012_ID, which are not in the order
    of the wnids: meta.mat translates them.
    """
    lines = (folder / GROUND_TRUTH).read_text(encoding="utf-8").split()
    if len(lines) != count:
        raise SettingError(
            f"{GROUND_TRUTH} has {len(lines)} lines for {count} pictures in val/; one line a"
            " picture was expected. Take all pictures, or put them into a folder for each wnid."
        )
    if not (folder / META).is_file():
        raise MissingArtefactError(
            f"{GROUND_TRUTH} holds the development kit's class numbers, and {META}, which says"
            " which wnid each number is, is not beside it. Copy it from the kit's data folder, or"
            " use LOC_val_solution.csv."
        )
    from scipy.io import loadmat

    try:
        entries = loadmat(folder / META, squeeze_me=True)["synsets"]
        wnids = {str(entry[0]): str(entry[1]) for entry in entries}
        return [wnids[number] for number in lines]
    except (KeyError, ValueError, TypeError, IndexError, NotImplementedError) as error:
        raise SettingError(
            f"{META} and {GROUND_TRUTH} do not belong together, or one is broken"
            f" ({type(error).__name__}: {error}); the numbers of the one were expected as"
            " ILSVRC2012_ID in the other. Take both from the same development kit."
        ) from error


def _labelled(folder: Path) -> list[tuple[str, Path]]:
    """(wnid, file) of every validation picture, in the order of wnid and file name."""
    val = folder / "val"
    if not val.is_dir():
        raise MissingArtefactError(
            f"The ImageNet folder {folder.name!r} has no folder val/ with the validation pictures;"
            " image-net.org gives them to those who accept its terms. ImageNette-like subsets"
            " serve too (slugkit/data/pages/imagenet.md), or leave `objects` out of the recipe."
        )
    inside = sorted(val.iterdir())
    flat = [path for path in inside if path.suffix.lower() in ENDS]
    if not flat:
        deep = (path for place in inside if place.is_dir() for path in sorted(place.iterdir()))
        return [(path.parent.name, path) for path in deep if path.suffix.lower() in ENDS]
    if (folder / SOLUTION).is_file():
        table = pd.read_csv(folder / SOLUTION, dtype=str, keep_default_na=False)
        if not {"ImageId", "PredictionString"} <= set(table):
            raise SettingError(
                f"{SOLUTION} has the columns {list(table.columns)[:4]}; ImageId and"
                " PredictionString were expected. Fetch it again."
            )
        said = table["PredictionString"].str.partition(" ")[0]
        wnids = dict(zip(table["ImageId"], said))
        unknown = [path.name for path in flat if path.stem not in wnids]
        if unknown:
            raise SettingError(
                f"{SOLUTION} has no row for {len(unknown)} pictures of val/ (first:"
                f" {unknown[0]!r}); one for each was expected. Fetch it again."
            )
        return sorted((wnids[path.stem], path) for path in flat)
    if (folder / GROUND_TRUTH).is_file():
        return sorted(zip(_ground_truth(folder, len(flat)), flat))
    raise MissingArtefactError(
        f"val/ holds pictures without folders, and neither {SOLUTION} nor {GROUND_TRUTH} (with"
        f" {META}) stands beside it to say what they show. Add one of them, or put the pictures"
        " into val/<wnid>/."
    )


def class_names(wnids: list[str], by_wnid: dict[str, str]) -> dict[str, str]:
    """Wnid -> name, for sorted wnids: open_clip's names by class index, or those of
    class_names.txt.

    A name that occurs again (open_clip's "missile" and "sunglasses" are two classes each) gets its
    wnid added. Raises SettingError where there are neither 1000 wnids nor names for them.
    """
    if by_wnid:
        unnamed = [wnid for wnid in wnids if wnid not in by_wnid]
        if unnamed:
            raise SettingError(
                f"{CLASS_NAMES} has no name for {unnamed[:3]}; one for each folder of val/ was"
                " expected."
            )
        plain = [by_wnid[wnid] for wnid in sorted(by_wnid)]
    else:
        if len(wnids) != CLASSES:
            raise SettingError(
                f"{len(wnids)} classes of ImageNet were found and {CLASSES} were expected, since"
                " open_clip's names go by the place of a wnid among all of them. For a subset"
                f" write {CLASS_NAMES} beside val/, a wnid and a name a line."
            )
        import open_clip

        plain = list(open_clip.IMAGENET_CLASSNAMES)
    seen, named = Counter(), {}
    for wnid, name in zip(sorted(by_wnid) or wnids, plain):
        seen[name] += 1
        named[wnid] = name if seen[name] == 1 else f"{name} ({wnid})"
    return named


def read_imagenet(folder: str | Path, size: int = 224, fit: str = "crop") -> ImageNet:
    """The validation pictures of an ImageNet folder, undecoded, with open_clip's class names and
    its 7 simple templates.

    size, fit: as in `Pictures`.

    Expected: val/<wnid>/*.JPEG; or val/*.JPEG and beside val/ LOC_val_solution.csv (columns
    ImageId, PredictionString), or the development kit's ILSVRC2012_validation_ground_truth.txt with
    its meta.mat. 1000 classes are expected; a subset names its classes in class_names.txt (a wnid
    and a name a line). Raises MissingArtefactError or SettingError, saying which file;
    EmptySetError where val/ holds no picture.
    """
    import open_clip

    folder = Path(folder).expanduser().absolute()
    rows = _labelled(folder)
    if not rows:
        raise EmptySetError(
            "val/ holds no JPEG; ImageNet's validation pictures were expected in it, flat or in a"
            " folder for each wnid."
        )
    named = class_names(sorted({wnid for wnid, _ in rows}), _by_wnid(folder))
    names = [named[wnid] for wnid, _ in rows]
    keys = [f"imagenet/{path.relative_to(folder / 'val').as_posix()}" for _, path in rows]
    wnids, files = [wnid for wnid, _ in rows], [path for _, path in rows]
    columns = {"key": keys, "concept": names, "domain": "objects", "wnid": wnids}
    templates = open_clip.SIMPLE_IMAGENET_TEMPLATES
    plain = {name: name.removesuffix(f" ({wnid})") for wnid, name in named.items()}
    prompts = {name: [template(said) for template in templates] for name, said in plain.items()}
    return ImageNet(pairs_of_files(files, size, fit, **columns), prompts)
