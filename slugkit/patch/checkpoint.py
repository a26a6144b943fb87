"""An edit on files: a model's folder or safetensors file is copied, and the copy holds the edit;
no model class is needed.

Works on what `save_pretrained` of transformers and diffusers writes, on open_clip's
`open_clip_model.safetensors`, on sharded checkpoints, and on single files of other makers (Stable
Diffusion's, ComfyUI's). Every copy of the tower is edited, each in its own precision. The original
is never changed.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import struct
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import torch

from slugkit.base import PatchError, new_path
from slugkit.models.hub import read_json
from slugkit.patch.copies import PARTS, RECORD, Copies, Copy, folders
from slugkit.patch.format import Patch
from slugkit.patch.on_model import applied, apply, find, part_for, patches_on, remove
from slugkit.patch.record import load_record, save_record

KEPT = frozenset(
    ".json .txt .md .model .tiktoken .jinja .jinja2 .yaml .yml .toml .csv .tsv .py .html .png .jpg"
    " .jpeg .webp .gif .svg .safetensors".split()
)
"""Endings of files that are copied; of others nobody here can say whether they hold weights."""
SMALL = 1 << 20
"""Bytes of a file without an ending that is copied."""


def _record_of(root: Path, source: Path, folder: Path) -> Path:
    """Where the record of a folder lies in `root`, laid out as the source, or beside one file."""
    if source.is_dir():
        return root / folder.relative_to(source) / RECORD
    return root.with_name(f"{root.stem}-{RECORD}")


def opened(source: Path) -> Copies:
    """`Copies` of a folder or file, with what the records in it tell of their edits."""
    copies = Copies(source)
    for folder in folders(source):

        def in_folder(layer: str, folder: Path = folder) -> list[Copy]:
            return [copy for copy in copies.of(layer) if copy.folder == folder]

        record = _record_of(source, source, folder)
        if record.is_file():
            load_record(record, copies, in_folder)
    return copies


def verify_files(p: Patch, source: str | Path) -> list[str]:
    """Check that `apply_to_files` would take the patch. Returns the files that hold its layer, one
    text a copy. Raises PatchError, MissingArtefactError.
    """
    return [copy.shown(Path(source)) for copy in opened(Path(source)).fitting(p)]


def _left_out(
    source: Path, edited: Iterable[Copy], said: list[str]
) -> Callable[[str, list[str]], set[str]]:
    """What `copytree` leaves out: records, hidden folders, and files that may be weights of other
    kinds, whose names go into `said`.
    """
    whole = {  # a pipeline's UNet, coder, scheduler are copied as they are
        home / name
        for home in {copy.home for copy in edited}
        for name, kind in read_json(home / "model_index.json").items()
        if isinstance(kind, list) and name not in PARTS
    }

    def kept(file: Path) -> bool:
        if file.is_dir():
            return not file.name.startswith(".")
        if not file.is_file() or file.name.endswith(RECORD):
            return False
        if file.suffix.lower() in KEPT or whole & set(file.parents):
            return True
        return not file.suffix and file.stat().st_size <= SMALL

    def chosen(folder: str, names: list[str]) -> set[str]:
        out = {name for name in names if not kept(Path(folder) / name)}
        place = Path(folder).relative_to(source)
        said.extend((place / name).as_posix() for name in out if not name.endswith(RECORD))
        return out

    return chosen


def _overwrite(file: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Put tensors in the place of their namesakes in a safetensors file; other bytes stay."""
    file.chmod(file.stat().st_mode | stat.S_IWUSR)
    with file.open("rb+") as stream:
        size = struct.unpack("<Q", stream.read(8))[0]
        header = json.loads(stream.read(size))
        for name, tensor in tensors.items():
            stream.seek(8 + size + header[name]["data_offsets"][0])
            stream.write(tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes())
        stream.flush()
        os.fsync(stream.fileno())


def _written(
    source: Path, out: Path, edited: list[Copy], record: bool, say: Callable[[str], None]
) -> None:
    """Copy the source to `out`, whole or not at all, with what was read of the copies in it."""
    said: list[str] = []
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as scratch:
        whole = Path(scratch) / out.name
        if source.is_dir():
            shutil.copytree(source, whole, ignore=_left_out(source, edited, said))
        else:
            shutil.copyfile(source, whole)
        for copy in edited:
            for file, tensors in copy.touched().items():
                _overwrite(whole / file.relative_to(source), tensors)
        for folder in {copy.folder for copy in edited} if record else ():
            mine = [copy for copy in edited if copy.folder == folder]
            if any(patches_on(copy) for copy in mine):
                save_record(mine, _record_of(whole, source, folder))
        for made in sorted(Path(scratch).iterdir()):  # of a file also the record beside it
            made.rename(out.with_name(made.name))
    say(f"Edited: {'; '.join(copy.shown(source) for copy in edited)}.")
    if said:
        say(
            "Left out of the copy, as they may hold the weights as they were: "
            f"{', '.join(sorted(said))}."
        )


def apply_to_files(
    patches: list[Patch],
    source: str | Path,
    out: str | Path,
    record: bool = True,
    say: Callable[[str], None] = lambda text: None,
) -> Path:
    """Write a copy of a model's folder or file that holds the patches, beside the edits its own
    records tell of. Returns `out`.

    record: leave a record in the copy, with which `remove_from_files` undoes the edit; it holds
    the original weights, so leave it out of what you publish. say: hears which files were edited,
    and which were left out because they may hold the weights in another format.
    Raises PatchError, MissingArtefactError, SettingError; nothing is written then.
    """
    source, out = Path(source), new_path(out, source)
    copies = opened(source)
    for p in patches:
        for copy in copies.fitting(p):
            apply(p, copy)
    _written(source, out, [copy for copy in copies.known() if patches_on(copy)], record, say)
    return out


def remove_from_files(
    p: Patch,
    source: str | Path,
    out: str | Path,
    base: str | Path | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Path:
    """Write a copy of an edited folder or file without the patch, bit for bit as it was before it.
    Returns `out`.

    Uses the records in the folder; or base: the original model's folder or file, where this patch
    is the layer's only edit. say: as in `apply_to_files`.
    Raises PatchError where neither tells the original of every copy, MissingArtefactError,
    SettingError; nothing is written then.
    """
    source, out = Path(source), new_path(out, source, base)
    copies = opened(source)
    known = Copies(Path(base)).fitting(p) if base is not None else []
    freed = []
    for copy in copies.of(p.layer):
        recorded = p.sha256 in {on.sha256 for on in patches_on(copy)}
        if recorded:
            remove(p, copy)
        if recorded or known and _taken_from_base(p, copy, known):
            freed.append(id(copy))
    if not freed:
        raise PatchError(
            f"{source} has no record of its edits, so the original of {p.layer} is not known here;"
            " nothing was changed.\nGive the original model with --base, or take the original"
            " itself."
        )
    copies.fitting(p)  # every other copy is the original too
    edited = [copy for copy in copies.known() if id(copy) in freed or patches_on(copy)]
    _written(source, out, edited, True, say)
    return out


def _taken_from_base(p: Patch, copy: Copy, known: list[Copy]) -> bool:
    """Put the base's weight in the place of the edited one; False where the copy belongs to another
    model, or is the original; PatchError where it holds more than this patch on the base.
    """
    mine, original = find(p.layer, p.concept, copy), False
    for base in known:
        before = find(p.layer, p.concept, base).weight
        if (before.dtype, before.shape) != (mine.weight.dtype, mine.weight.shape):
            continue
        original |= torch.equal(before, mine.weight)
        with applied(p, base):
            same = torch.equal(find(p.layer, p.concept, base).weight, mine.weight)
        if same:
            mine.place.write(before)
            return True
    if original or part_for(p, mine.weight).shape != p.shape:
        return False
    raise PatchError(
        f"the base with the patch for {p.concept!r} alone is not what layer {mine.name} of this"
        " model holds; nothing was changed.\nAnother edit is on it too: use the record that was"
        " saved with it, or the original itself."
    )
