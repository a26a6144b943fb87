"""ImageNet's validation pictures from a folder on this machine (`pages/imagenet.md`), for TA_IN."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from slugkit.base import EmptySetError, MissingArtefactError, SettingError, require_extra
from slugkit.data.pairs import Pairs, pairs_on_disk

CLASSES, CLASS_NAMES = 1000, "class_names.txt"
SOLUTION, META = "LOC_val_solution.csv", "meta.mat"
GROUND_TRUTH = "ILSVRC2012_validation_ground_truth.txt"
FRACTION, SEED = 0.05, 0
"""The paper's share of the validation pictures (2,500 of 50,000) and the seed of the draw."""
ENDS = (".jpeg", ".jpg", ".png")


@dataclass
class ImageNet:
    """The validation pictures and the classes.

    pairs: one row a picture; wnid is the WordNet number of its class. prompts: class name -> its
    prompts, in the order of the sorted wnids.
    """

    pairs: Pairs
    prompts: dict[str, list[str]]

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
            f"The ImageNet folder {folder.name!r} has no folder val/ with the validation pictures"
            " (from image-net.org, or a subset: slugkit/data/pages/imagenet.md). Put it there, or"
            " leave `objects` out of the recipe."
        )
    flat = [path for path in sorted(val.iterdir()) if path.suffix.lower() in ENDS]
    if flat:
        return sorted(zip(_stated(folder, flat), flat))
    deep = [path for path in sorted(val.glob("*/*")) if path.suffix.lower() in ENDS]
    if not deep:
        raise EmptySetError("val/ holds no picture; expected some, flat or in val/<wnid>/.")
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
