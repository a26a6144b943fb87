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
from slugkit.data.pairs import Pairs, pairs_on_disk
from slugkit.data.tables import complete, text_of

PICTURES = ("jpg", "jpeg", "png", "webp")
LONGEST_TEXT = 1 << 20
"""Bytes of a caption or of a sample's JSON beyond which it is not read."""
MOST_SHARDS, LONGEST_PATTERN, BLOCK = 100_000, 4000, 512
RANGE = re.compile(r"\{-?\d+\.\.-?\d+(?:\.\.-?\d+)?\}|\{[A-Za-z]\.\.[A-Za-z](?:\.\.-?\d+)?\}|[{},]")
"""A range in braces, or a sign of a list in braces."""


def find_shards(data: str | Path) -> list[Path]:
    """The shards of a .tar file, a folder, or a pattern such as `shards/{00000..00009}.tar`.

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
    if "{" in str(path.parent) and not path.parent.is_dir():
        raise SettingError(
            f"{str(data)!r} has braces in the name of a folder; expected in a file's name only."
        )
    files = _expanded(path) if "{" in path.name and not path.is_file() else [path]
    missing = [file for file in files if not file.is_file()]
    if missing:
        beside = [p.name for p in missing[0].parent.glob("*.tar")]
        raise SettingError(
            f"{len(missing)} of {len(files)} shards are missing, the first {missing[0].name!r}."
            f" Fetch it again. {did_you_mean(missing[0].name, beside)}".rstrip()
        )
    return files


def _expanded(path: Path) -> list[Path]:
    """The files of a brace pattern. Raises SettingError."""
    require_extra("data", "A brace pattern of shards")
    import braceexpand

    said = f"The pattern {path.name[:80]!r}"
    if len(path.name) > LONGEST_PATTERN or _at_most(path.name) > MOST_SHARDS:
        raise SettingError(f"{said} names more than {MOST_SHARDS} shards. Check its range.")
    try:
        return list(map(Path, braceexpand.braceexpand(str(path))))
    except (braceexpand.UnbalancedBracesError, RecursionError) as error:
        raise SettingError(
            f"{said} has a brace without its partner, or too many; expected for instance"
            " {00000..00009}.tar."
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
            place = int if first.lstrip("-").isdigit() else ord
            stride = abs(int(step[0])) if step else 1
            levels[-1][1] *= abs(place(last) - place(first)) // max(stride, 1) + 1
    return sum(map(sum, levels))


def _samples(path: Path) -> tuple[dict[str, dict], list[tuple[str, str]], bool]:
    """Key -> extension -> (offset, length) in a tar file, by its headers; why and name of what is
    left out; whether it ends as a tar does. Raises UnreadableImagesError for what is no plain tar.
    """
    samples, lost, whole, read, size = {}, [], False, 0, path.stat().st_size
    with open(path, "rb") as stream:
        try:
            with tarfile.open(fileobj=stream, mode="r:") as tar:
                for member in tar:
                    read += 1
                    why = "" if member.isdir() else _add(samples, member, size)
                    lost += [(why, member.name)] if why else []
                stream.seek(tar.offset)
                end = stream.read(BLOCK)
                whole = len(end) == BLOCK and not any(end)
        except (tarfile.TarError, OSError, ValueError, OverflowError) as error:
            if size and not read:
                raise UnreadableImagesError(
                    f"{path.name} is no tar file that can be read in place: {error}. Fetch it"
                    " again, or unpack a .tar.gz; an uncompressed .tar was expected."
                ) from error
    return samples, lost, whole


def _add(samples: dict[str, dict], member: tarfile.TarInfo, size: int) -> str:
    """Add a file of a shard to its sample; why it is left out, else ""."""
    name = PurePosixPath(member.name)
    if not member.isreg() or member.issparse() or name.is_absolute() or ".." in name.parts:
        return "no plain file"
    if member.offset_data + member.size > size:
        return ""
    stem, _, extension = name.name.partition(".")
    parts = samples.setdefault(str(name.parent / stem), {})
    if extension.lower() in parts:
        return "the second file of this name, the first is taken"
    parts[extension.lower()] = (member.offset_data, member.size)
    return ""


def _rows(path: Path, label: str) -> tuple[list[dict], list[tuple[str, str]], bool]:
    """One row a whole pair; why and name of what is left out; whether the shard is whole."""
    samples, ignored, whole = _samples(path)
    rows, lost = [], [(why, f"{label}/{name}") for why, name in ignored]
    with open(path, "rb") as stream:
        for key, parts in samples.items():
            about = _about(stream, parts)
            there = [extension for extension in PICTURES if extension in parts]
            for other in there[1:]:
                why = f"another picture of the sample, the .{there[0]} is taken"
                lost.append((why, f"{label}/{key}.{other}"))
            if there and about["caption"]:
                offset, length = parts[there[0]]
                place = {"file": str(path.absolute()), "offset": offset, "length": length}
                rows.append({"key": f"{label}/{key}", **about, **place})
                continue
            name, part = PurePosixPath(key).name, next((p for p in parts if "." in p), "")
            cut = f" (cut at the first dot: {name}.{part} is its part {part!r})" if part else ""
            lost.append((f"no {'caption' if there else 'picture'}", f"{label}/{key}{cut}"))
    return rows, lost, whole


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
    "split". Raises SettingError, EmptySetError, UnreadableImagesError for shards that are cut off.
    """
    files, rows, lost, cut = find_shards(data), [], [], []
    plain = len({file.name for file in files}) == len(files)
    for file in progress(files, "shards indexed"):
        label = file.name if plain else f"{file.parent.name}/{file.name}"
        found, lacking, whole = _rows(file, label)
        rows += found
        lost += lacking
        if not whole:
            cut.append(f"{file.name} ends too early and has {len(found)} whole pairs")
    if cut:
        raise UnreadableImagesError(
            f"{len(cut)} of {len(files)} shards are cut off: {'; '.join(cut[:5])}. Fetch it again,"
            " or leave it out of the folder or pattern."
        )
    columns = ["key", "caption", "concept", "split", "file", "offset", "length"]
    table = pd.DataFrame(rows, columns=columns)
    if not table["split"].any():
        table = table.drop(columns="split")
    return pairs_on_disk(complete(table, f"The shards {Path(data).name!r}", lost), size, fit)
