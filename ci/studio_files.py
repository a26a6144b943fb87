"""The studio's own pictures in the formats of the published data sets, and the recipe of them.

`python ci/studio_files.py FOLDER`
"""

from __future__ import annotations

import io
import sys
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from slugkit import studio
from slugkit.base import write_bytes, write_text
from slugkit.data.published import CLASS_NAMES, IMAGES, NAME_LIST
from slugkit.data.studio_source import StudioSource, drawn

RECIPE = "recipe.yaml"


def _encoded(image: np.ndarray) -> bytes:
    """A JPEG that loses as little as a JPEG can."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, format="JPEG", quality=95, subsampling=0)
    return stream.getvalue()


def _write_shards(folder: Path, records: list, shards: int) -> None:
    """Tar files with NUMBER.jpg and NUMBER.txt for each record, as img2dataset lays them out."""
    folder.mkdir(parents=True, exist_ok=True)
    images = drawn(records)
    for number, rows in enumerate(np.array_split(np.arange(len(records)), shards)):
        with tarfile.open(folder / f"{number:05d}.tar", "w") as tar:
            for row in rows.tolist():
                said = records[row].caption().encode()
                for end, data in (("jpg", _encoded(images[row])), ("txt", said)):
                    member = tarfile.TarInfo(f"{row:09d}.{end}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))


def write_studio_files(
    folder: str | Path, training: int = 3000, per_style: int = 3, shards: int = 2
) -> Path:
    """Write shards, a CelebA and an ImageNet folder and the recipe anew; return the recipe's path.

    training: pairs in the shards, of the CLIP's own training pictures. per_style: report pictures
    of each person and object in each style.
    """
    folder, source = Path(folder), StudioSource()
    world = source.world

    def pictured(names: Iterable[str]) -> Iterator[tuple[int, studio.Record, bytes]]:
        records = [
            r for n in names for r in studio.solo_records("report", n, per_style, world=world)
        ]
        numbered = enumerate(zip(records, drawn(records)), start=1)
        return ((number, record, _encoded(image)) for number, (record, image) in numbered)

    _write_shards(folder / "shards", source.training[:training], shards)
    lines = []
    for number, record, jpeg in pictured(world.people):
        write_bytes(folder / "celeba" / IMAGES / f"{number:06d}.jpg", jpeg)
        lines.append(f"{number:06d}.jpg {record.name.replace(' ', '_')}")
    head = [str(len(lines)), "image_id identity_name"]
    write_text(folder / "celeba" / NAME_LIST, "\n".join([*head, *lines]) + "\n")
    wnids = {name: f"n{90000000 + i}" for i, name in enumerate(world.objects)}
    place = folder / "imagenet"
    for number, record, jpeg in pictured(world.objects):
        file = f"ILSVRC2012_val_{number:08d}.JPEG"
        write_bytes(place / "val" / wnids[record.name] / file, jpeg)
    names = "".join(f"{wnid} {name}\n" for name, wnid in wnids.items())
    write_text(place / CLASS_NAMES, names)
    near = {name: world.neighbours_of(name)[:3] for name in world.report["person"]}
    said = [
        "pairs: shards",
        "people: celeba",
        "objects: imagenet",
        "neighbours:",
        *(f"  {name}: [{', '.join(names)}]" for name, names in near.items()),
    ]
    write_text(folder / RECIPE, "\n".join(said) + "\n")
    return folder / RECIPE


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("Usage: python ci/studio_files.py FOLDER")
    print(write_studio_files(sys.argv[1]))
