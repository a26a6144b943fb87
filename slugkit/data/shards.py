"""Webdataset shards, as LAION's users and img2dataset write them: tar files whose members are
000000012.jpg, 000000012.txt, 000000012.json, ...

A shard is read once, header by header; pictures stay inside it and are decoded when they are asked
for. Nothing is ever unpacked. The name of a member is cut at its first dot, as webdataset cuts it:
before it the sample, behind it the part. So 12.5mm.jpg is the part "5mm.jpg" of the sample "12",
and no picture of it.
"""

from __future__ import annotations

import json
import re
import tarfile
from pathlib import Path, PurePosixPath

import pandas as pd

from slugkit.base import SettingError, UnreadableImagesError, did_you_mean, progress
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
    """The shards of a .tar file, of a folder of them, or of a brace pattern such as
    `shards/{00000..00009}.tar`, in order.

    Raises SettingError where the folder holds none, where one of the pattern is missing, or for
    more than 100,000.
    """
    path = Path(data).expanduser()
    if path.is_dir():
        files = sorted(p for p in path.glob("*.tar") if p.is_file())
        if not files:
            raise SettingError(
                f"The folder {path.name!r} holds no .tar file; expected shards such as 00000.tar."
            )
        return files
    names = [str(path)]
    if "{" in str(path.parent) and not path.parent.is_dir():
        raise SettingError(
            f"{str(data)!r} has braces in the name of a folder; expected them in the file's name"
            " only, as in shards/{00000..00009}.tar."
        )
    if "{" in path.name and not path.is_file():
        import braceexpand

        if _at_most(path.name) > MOST_SHARDS:
            raise SettingError(
                f"The pattern {path.name[:80]!r} names more than {MOST_SHARDS} shards; expected"
                " fewer. Check the range in braces."
            )
        try:
            names = list(braceexpand.braceexpand(str(path)))
        except (braceexpand.UnbalancedBracesError, RecursionError) as error:
            raise SettingError(
                f"The pattern {path.name[:80]!r} has a brace without its partner, or too many;"
                " expected for instance {00000..00009}.tar."
            ) from error
    files = [Path(name) for name in names]
    missing = [file for file in files if not file.is_file()]
    if missing:
        beside = [p.name for p in missing[0].parent.glob("*.tar")]
        raise SettingError(
            f"{len(missing)} of {len(files)} shards are missing, the first {missing[0].name!r};"
            " expected every one that the pattern names. Fetch it again, or name only those that"
            f" are there. {did_you_mean(missing[0].name, beside)}".rstrip()
        )
    return files


def _at_most(pattern: str) -> int:
    """How many names a brace pattern has, or more; never expanded for this.

    Braces without a partner count for nothing.
    """
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

    samples: key -> extension -> (offset, length) in bytes. ignored: members that are left out, each
    with its reason: no plain file with a plain relative name (links, devices, paths that leave the
    folder), or a second one of a name. whole: whether the file ends as a tar does. Raises
    UnreadableImagesError for a file that is no plain tar.
    """

    def __init__(self, path: Path):
        self.path, self.samples, self.ignored, self.whole, self._members = path, {}, [], False, 0
        self._size = path.stat().st_size
        with open(path, "rb") as stream:
            try:
                with tarfile.open(fileobj=stream, mode="r:") as tar:
                    for member in tar:
                        self._add(member)
                    stream.seek(tar.offset)
                    end = stream.read(BLOCK)
                    self.whole = len(end) == BLOCK and not any(end)
            except (tarfile.TarError, OSError, ValueError, OverflowError) as error:
                if self._size and not self._members:
                    raise UnreadableImagesError(
                        f"{path.name} is no tar file that can be read in place: {error}. An"
                        " uncompressed .tar was expected; unpack a .tar.gz, or fetch the shard"
                        " again."
                    ) from error

    def _add(self, member: tarfile.TarInfo) -> None:
        name, self._members = PurePosixPath(member.name), self._members + 1
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
        """One row a whole pair (key, caption, concept, split, file, offset, length), and the names
        of samples that lack a picture or a caption.
        """
        rows, incomplete = [], [f"{label}/{entry}" for entry in self.ignored]
        with open(self.path, "rb") as stream:
            for key, parts in self.samples.items():
                about = self._about(stream, parts)
                there = [extension for extension in PICTURES if extension in parts]
                for other in there[1:]:
                    lost = f"another picture of the sample, the .{there[0]} is taken"
                    incomplete.append(f"{label}/{key}.{other}: {lost}")
                if not there or not about["caption"]:
                    cut = "".join(
                        f" (cut at the first dot: {PurePosixPath(key).name}.{part} is its part"
                        f" {part!r})"
                        for part in [part for part in parts if "." in part][:1]
                    )
                    lacks = "caption" if there else "picture"
                    incomplete.append(f"{label}/{key}{cut}: no {lacks}")
                    continue
                offset, length = parts[there[0]]
                place = {"file": str(self.path.absolute()), "offset": offset, "length": length}
                rows.append({"key": f"{label}/{key}", **about, **place})
        return rows, incomplete

    def _about(self, stream, parts: dict) -> dict[str, str]:
        """Caption, concept and split of a sample: the caption from its .txt, else from its .json,
        which may hold the other two as well.
        """

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
        several = said.get("caption") if isinstance(said.get("caption"), (list, dict)) else None

        def plain(name: str) -> str:
            value = said.get(name)
            return text_of(value) if isinstance(value, (str, int, float)) else ""

        caption = text("txt") or (json.dumps(several) if several else plain("caption"))
        return {"caption": caption, "concept": plain("concept"), "split": plain("split")}


def read_shards(data: str | Path, size: int = 64, fit: str = "crop") -> Pairs:
    """The pairs of one or more shards (see `find_shards`), left in their tar files and read at
    `size` x `size` pixels (see `Pictures`).

    The caption is the sample's .txt, or "caption" of its .json; "concept" and "split" of the .json
    are taken where they are there. Samples without a picture or a caption, members that are no
    plain files, and the second file of a name are left out and named in
    `table.attrs["incomplete"]`. Raises SettingError as `find_shards` does, EmptySetError when no
    pair is whole, UnreadableImagesError for shards that are cut off, with how many whole pairs each
    has.
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
            f"{len(cut)} of {len(files)} shards are cut off: {'; '.join(cut[:5])}. A tar file that"
            " ends with an empty block was expected. Fetch it again, or leave it out of the folder"
            " or pattern."
        )
    columns = ["key", "caption", "concept", "split", *PLACE[:3]]
    table = pd.DataFrame(rows, columns=columns)
    if not table["split"].any():
        table = table.drop(columns="split")
    table.attrs |= {"incomplete": incomplete, "caption": "caption"}
    table = complete(table, f"The shards {Path(data).name!r}")
    pictures = Pictures(table[PLACE[:3]].assign(row=-1), size, fit)
    return Pairs(pictures, table.drop(columns=PLACE[:3]))
