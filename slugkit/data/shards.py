"""Webdataset shards: tar files whose members are 000000012.jpg, 000000012.txt, ...

A shard is read once, header by header; nothing is unpacked. A name is cut at its first dot, as
webdataset cuts it: 12.5mm.jpg is the part "5mm.jpg" of the sample "12", and no picture of it.
"""

from __future__ import annotations

import json
import re
import tarfile
from pathlib import Path, PurePosixPath

import pandas as pd

from slugkit.base import SettingError, UnreadableImagesError, did_you_mean, progress, require_extra
from slugkit.data.pairs import Pairs
from slugkit.data.pictures import PLACE, Pictures
from slugkit.data.tables import complete, text_of

PICTURES = ("jpg", "jpeg", "png", "webp")
LONGEST_TEXT = 1 << 20
"""Bytes of a caption or of a sample's JSON beyond which it is not read."""
MOST_SHARDS = 100_000
BLOCK = 512
RANGE = re.compile(r"\{-?\d+\.\.-?\d+(?:\.\.-?\d+)?\}|\{[A-Za-z]\.\.[A-Za-z](?:\.\.-?\d+)?\}|[{},]")
"""A range in braces, or a sign of a list in braces."""


def find_shards(data: str | Path) -> list[Path]:
    """The shards of a .tar file, a folder, or a pattern such as `shards/{00000..00009}.tar`, in
    order.

    Raises SettingError where there is none, one of the pattern is missing, or it has too many.
    """
    path = Path(data).expanduser()
    if path.is_dir():
        files = sorted(p for p in path.glob("*.tar") if p.is_file())
        if not files:
            raise SettingError(
                f"The folder {path.name!r} holds no .tar file; expected shards such as 00000.tar."
            )
        return files
    files = [path]
    if "{" in str(path.parent) and not path.parent.is_dir():
        raise SettingError(
            f"{str(data)!r} has braces in the name of a folder; expected in a file's name only."
        )
    if "{" in path.name and not path.is_file():
        files = [Path(name) for name in _expanded(path)]
    missing = [file for file in files if not file.is_file()]
    if missing:
        beside = [p.name for p in missing[0].parent.glob("*.tar")]
        raise SettingError(
            f"{len(missing)} of {len(files)} shards are missing, the first {missing[0].name!r}."
            f" Fetch it again. {did_you_mean(missing[0].name, beside)}".rstrip()
        )
    return files


def _expanded(path: Path) -> list[str]:
    """The names of a brace pattern. Raises SettingError."""
    require_extra("data", "A brace pattern of shards")
    import braceexpand

    if _at_most(path.name) > MOST_SHARDS:
        raise SettingError(
            f"The pattern {path.name[:80]!r} names more than {MOST_SHARDS} shards. Check its range."
        )
    try:
        return list(braceexpand.braceexpand(str(path)))
    except (braceexpand.UnbalancedBracesError, RecursionError) as error:
        raise SettingError(
            f"The pattern {path.name[:80]!r} has a brace without its partner, or too many;"
            " expected for instance {00000..00009}.tar."
        ) from error


def _at_most(pattern: str) -> int:
    """How many names a brace pattern has, or more; never expanded for this."""
    # of each open brace: names of the alternatives before the last comma, names of the one at hand
    levels = [[0, 1]]
    for part in RANGE.findall(pattern):
        if part == "{":
            levels.append([0, 1])
        elif part == "," and len(levels) > 1:
            levels[-1] = [sum(levels[-1]), 1]
        elif part == "}" and len(levels) > 1:
            names = sum(levels.pop())
            levels[-1][1] *= names
        elif len(part) > 1:
            first, last, *step = part[1:-1].split("..")
            if max(map(len, (first, last))) > 18:
                return MOST_SHARDS + 1
            place = int if first.lstrip("-").isdigit() else ord
            stride = abs(int(step[0])) if step and len(step[0]) < 18 else 1
            levels[-1][1] *= abs(place(last) - place(first)) // max(stride, 1) + 1
    return sum(map(sum, levels))


class Shard:
    """The samples of one tar file, indexed by its headers.

    samples: key -> extension -> (offset, length) in bytes. ignored: members that are no plain file
    with a plain relative name, or a second one of a name. whole: whether the file ends as a tar
    does. Raises UnreadableImagesError for a file that is no plain tar.
    """

    def __init__(self, path: Path):
        self.path, self.samples, self.ignored, self.whole, read = path, {}, [], False, 0
        self._size = path.stat().st_size
        with open(path, "rb") as stream:
            try:
                with tarfile.open(fileobj=stream, mode="r:") as tar:
                    for member in tar:
                        read += 1
                        self._add(member)
                    stream.seek(tar.offset)
                    end = stream.read(BLOCK)
                    self.whole = len(end) == BLOCK and not any(end)
            except (tarfile.TarError, OSError, ValueError, OverflowError) as error:
                if self._size and not read:
                    raise UnreadableImagesError(
                        f"{path.name} is no tar file that can be read in place: {error}. Fetch it"
                        " again, or unpack a .tar.gz; an uncompressed .tar was expected."
                    ) from error

    def _add(self, member: tarfile.TarInfo) -> None:
        name = PurePosixPath(member.name)
        if member.isdir():
            return
        if not member.isreg() or member.issparse() or name.is_absolute() or ".." in name.parts:
            self.ignored.append(f"{member.name}: no plain file")
            return
        stem, _, extension = name.name.partition(".")
        if member.offset_data + member.size > self._size:
            return
        parts = self.samples.setdefault(str(name.parent / stem), {})
        if extension.lower() in parts:
            self.ignored.append(f"{member.name}: the second file of this name, the first is taken")
        else:
            parts[extension.lower()] = (member.offset_data, member.size)

    def rows(self, label: str) -> tuple[list[dict], list[str]]:
        """One row a whole pair, and the names of what lacks a picture or a caption."""
        rows, incomplete = [], [f"{label}/{entry}" for entry in self.ignored]
        with open(self.path, "rb") as stream:
            for key, parts in self.samples.items():
                about = _about(stream, parts)
                there = [extension for extension in PICTURES if extension in parts]
                for other in there[1:]:
                    lost = f"another picture of the sample, the .{there[0]} is taken"
                    incomplete.append(f"{label}/{key}.{other}: {lost}")
                if there and about["caption"]:
                    offset, length = parts[there[0]]
                    place = {"file": str(self.path.absolute()), "offset": offset, "length": length}
                    rows.append({"key": f"{label}/{key}", **about, **place})
                    continue
                name, part = PurePosixPath(key).name, next((p for p in parts if "." in p), "")
                cut = f" (cut at the first dot: {name}.{part} is its part {part!r})" if part else ""
                lacks = "caption" if there else "picture"
                incomplete.append(f"{label}/{key}{cut}: no {lacks}")
        return rows, incomplete


def _about(stream, parts: dict) -> dict[str, str]:
    """Caption, concept and split of a sample: from its .txt, else from its .json."""

    def text(extension: str) -> str:
        offset, length = parts.get(extension, (0, 0))
        if not 0 < length <= LONGEST_TEXT:
            return ""
        stream.seek(offset)
        return stream.read(length).decode("utf-8", errors="replace").strip()

    try:
        said = json.loads(text("json") or "{}")
    except (ValueError, RecursionError):
        said = {}
    said = said if isinstance(said, dict) else {}

    def plain(name: str) -> str:
        value = said.get(name)
        return text_of(value) if isinstance(value, (str, int, float)) else ""

    several = said.get("caption") if isinstance(said.get("caption"), (list, dict)) else None
    caption = text("txt") or (json.dumps(several) if several else plain("caption"))
    return {"caption": caption, "concept": plain("concept"), "split": plain("split")}


def read_shards(data: str | Path, size: int = 64, fit: str = "crop") -> Pairs:
    """The pairs of one or more shards (`find_shards`), left in their tar files (`Pictures`).

    The caption is the sample's .txt, or "caption" of its .json, which may hold "concept" and
    "split". What is left out stands in `table.attrs["incomplete"]`. Raises SettingError,
    EmptySetError, UnreadableImagesError for shards that are cut off.
    """
    files, rows, incomplete, cut = find_shards(data), [], [], []
    plain = len({file.name for file in files}) == len(files)
    for file in progress(files, "shards indexed"):
        shard = Shard(file)
        found, lacking = shard.rows(file.name if plain else f"{file.parent.name}/{file.name}")
        rows += found
        incomplete += lacking
        if not shard.whole:
            cut.append(f"{file.name} ends too early and has {len(found)} whole pairs")
    if cut:
        raise UnreadableImagesError(
            f"{len(cut)} of {len(files)} shards are cut off: {'; '.join(cut[:5])}. Fetch it again,"
            " or leave it out of the folder or pattern."
        )
    table = pd.DataFrame(rows, columns=["key", "caption", "concept", "split", *PLACE[:3]])
    if not table["split"].any():
        table = table.drop(columns="split")
    table.attrs |= {"incomplete": incomplete, "caption": "caption"}
    table = complete(table, f"The shards {Path(data).name!r}")
    pictures = Pictures(table[PLACE[:3]].assign(row=-1), size, fit)
    return Pairs(pictures, table.drop(columns=PLACE[:3]))
