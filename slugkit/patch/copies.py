"""Every copy of a tower in a model's folder or file: each precision, file, shard, prefix."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace

import torch
from safetensors import SafetensorError, safe_open

from slugkit.base import MissingArtefactError, PatchError
from slugkit.method.edit import PRECISIONS
from slugkit.method.layers import block_of, tower_of
from slugkit.models.convert import said_activation
from slugkit.models.hub import read_json
from slugkit.models.reachability import feature_layers
from slugkit.models.weight_map import ENCODERS, locate, prefixes
from slugkit.patch.format import Patch
from slugkit.patch.on_model import part_for, verify

RECORD = "slugkit-record.safetensors"
"""The record's name in an edited folder, and the end of its name beside an edited file."""
PARTS = (*ENCODERS, "image_encoder")
"""What a pipeline's folder calls the towers of a CLIP."""
_SHARD = re.compile(r"-\d+(?=(-of-\d+)?(\.[\w-]+)?\.safetensors$)")
"""The number in a shard's name."""
_IN_BLOCK = re.compile(r"(?:resblocks|encoder\.layers)\.(\d+)\.")
_BEFORE_LAST = ("cond_stage_model.model.", "conditioner.embedders.0.transformer.")
"""Prefixes of the encoders that Stable Diffusion 2 and XL read before their last block."""


class Copy(Mapping):
    """One copy of a tower: the tensors of a file, or of the shards of one checkpoint, under one
    prefix, by their names without it; each is read when it is first asked for.

    where: name -> file. config: what the config.json beside it says of a LLaVA's reading. home: the
    folder that holds the model; tower: which of its towers it is, the same for two copies of one.
    """

    def __init__(self, tensors: dict[str, Path], prefix: str, root: Path):
        self.prefix = prefix
        mine = {name: file for name, file in tensors.items() if name.startswith(prefix)}
        self.where = {name.removeprefix(prefix): file for name, file in mine.items()}
        self._read: dict[str, torch.Tensor] = {}
        self.folder = next(iter(mine.values())).parent
        pipeline = self.folder != root and self.folder.name in PARTS
        self.home = self.folder.parent if pipeline else self.folder
        self.tower = (self.home, self.folder.name if pipeline else prefix)
        known, self.config = read_json(self.folder / "config.json"), None
        vision = known.get("vision_config")
        read = feature_layers(SimpleNamespace(**known))
        if isinstance(vision, dict) and read is not None:
            tower = SimpleNamespace(num_hidden_layers=vision.get("num_hidden_layers", 24))
            self.config = SimpleNamespace(vision_feature_layer=read, vision_config=tower)

    def __getitem__(self, name: str) -> torch.Tensor:
        if name not in self._read:
            with safe_open(self.where[name], framework="pt") as opened:
                self._read[name] = opened.get_tensor(self.prefix + name)
        return self._read[name]

    def __contains__(self, name: object) -> bool:
        return name in self.where

    def __iter__(self) -> Iterator[str]:
        return iter(self.where)

    def __len__(self) -> int:
        return len(self.where)

    def named_parameters(self) -> Iterator[tuple[str, torch.Tensor]]:
        """The tensors read so far: all that an edit can have touched."""
        return iter(self._read.items())

    def touched(self) -> dict[Path, dict[str, torch.Tensor]]:
        """File -> full name -> tensor, of what was read and so may have been edited."""
        found: dict[Path, dict[str, torch.Tensor]] = {}
        for name, tensor in self._read.items():
            found.setdefault(self.where[name], {})[self.prefix + name] = tensor
        return found

    def said_activation(self, tower: str) -> str | None:
        """What the configuration beside the files says of the tower's activation, if anything."""
        if self.prefix and self.config is None:
            return None  # a single file: the configuration beside it may be of something else
        open_clips = any(name.startswith(("transformer.", "visual.")) for name in self.where)
        return said_activation(self.folder, tower, open_clips)

    def require_read(self, layer: str) -> None:
        """Raises PatchError where what this file is made for does not read the layer: Stable
        Diffusion 2, and XL of its first encoder, read before the last block.
        """
        kind = read_json(self.home / "model_index.json").get("_class_name")
        first_of_xl = "XL" in str(kind) and self.folder.name == "text_encoder"
        if tower_of(layer) == "vision" or not (self.prefix in _BEFORE_LAST or first_of_xl):
            return
        found = [_IN_BLOCK.search(name) for name in self.where]
        last = max((int(block[1]) for block in found if block), default=0)
        if block_of(layer) == last or layer == "text_projection":
            raise PatchError(
                f"an edit of layer {layer} cannot act: Stable Diffusion reads this encoder before"
                f" its last block, {last}. Nothing was changed. Use the patch of another layer."
            )

    def shown(self, source: Path) -> str:
        """Its files as a person finds them in the source."""
        root = source.parent if source.is_file() else source
        files = sorted(self.touched() or set(self.where.values()))
        return ", ".join(file.relative_to(root).as_posix() for file in files)


def _names(file: Path) -> list[str]:
    try:
        with safe_open(file, framework="pt") as opened:
            return list(opened.keys())
    except (OSError, SafetensorError) as error:
        raise PatchError(
            f"{file.name} cannot be read: {error}. A safetensors file was expected. Nothing was"
            " changed."
        ) from error


def _checkpoints(folder: Path) -> list[dict[str, Path]]:
    """The checkpoints of a folder, each as name -> file: shards together, other files alone."""
    files = {p.name: p for p in sorted(folder.glob("*.safetensors")) if p.is_file()}
    files = {name: file for name, file in files.items() if not name.endswith(RECORD)}
    indexed: dict[str, str] = {}
    for index in sorted(folder.glob("*.safetensors.index*.json")):
        shards = set(map(str, dict(read_json(index).get("weight_map") or {}).values()))
        lacking = sorted(shards - set(files))
        if lacking and shards & set(files):
            raise PatchError(
                f"{index.name} names {lacking[0]}, which is not in {folder.name}; all shards were"
                " expected. Fetch the rest. Nothing was changed."
            )
        indexed |= dict.fromkeys(shards, index.name)
    found: dict[str, dict[str, Path]] = {}
    for name, file in files.items():
        key, names = indexed.get(name) or _SHARD.sub("", name), dict.fromkeys(_names(file), file)
        if set(found.get(key, {})) & set(names):  # one name twice: copies, not shards
            key = name
        found[key] = found.get(key, {}) | names
    return list(found.values())


def folders(source: Path) -> list[Path]:
    """The folder and those below it that may hold a tower: no hidden ones, no safety checker; of a
    file the one that it lies in. Raises PatchError where a link leads back above itself.
    """
    found = [source.parent] if source.is_file() else []
    for place, below, _ in os.walk(source, followlinks=True):
        if os.path.realpath(place) in {os.path.realpath(above) for above in Path(place).parents}:
            raise PatchError(
                f"{place} leads back to a folder above it; a folder that can be copied was"
                " expected. Nothing was changed."
            )
        below[:] = sorted(n for n in below if not n.startswith(".") and n != "safety_checker")
        found.append(Path(place))
    return found


class Copies:
    """The safetensors files of a model's folder, or one file, and the copies of each tower in them.

    Raises MissingArtefactError where there are none, PatchError for one that cannot be read.
    """

    def __init__(self, source: Path):
        self.source = source
        self._known: dict[tuple[int, str], Copy] = {}
        if source.is_file():
            self._all = [dict.fromkeys(_names(source), source)]
        else:
            self._all = [found for folder in folders(source) for found in _checkpoints(folder)]
        if not self._all:
            raise MissingArtefactError(
                f"There is no safetensors file in {source}; a model's folder as `save_pretrained`"
                " writes it, or one file, was expected. Load and save checkpoints of other kinds"
                " with their own library first."
            )

    def of(self, layer: str) -> list[Copy]:
        """The copies that hold a layer. Raises PatchError for a layer that no CLIP has."""
        root, found = self.source if self.source.is_dir() else self.source.parent, []
        for number, tensors in enumerate(self._all):
            for prefix in prefixes(tensors, layer.split("[")[0]):
                if (number, prefix) not in self._known:
                    self._known[number, prefix] = Copy(tensors, prefix, root)
                found.append(self._known[number, prefix])
        return found

    def known(self) -> list[Copy]:
        """The copies that were asked for so far."""
        return list(self._known.values())

    def fitting(self, p: Patch) -> list[Copy]:
        """The copies that take a patch: every one of the tower that it was made for.

        Raises PatchError where there is none, or where a copy of that tower holds something else.
        """
        fits, refused = [], []
        for copy in self.of(p.layer):
            try:
                verify(p, copy)
                copy.require_read(p.layer)
                fits.append(copy)
            except PatchError as error:
                refused.append((copy, error))
        mine = [(copy, wrong) for copy, wrong in refused if not _other_model(p, copy)]
        if not fits:
            for _, wrong in (*mine, *refused):
                raise wrong
            raise PatchError(
                f"{self.source.name} has no layer {p.layer}, which the patch for {p.concept!r}"
                " edits; nothing was changed.\nUse the model that the patch was made for."
            )
        homes, towers = {copy.home for copy in fits}, {copy.tower for copy in fits}
        for copy, wrong in mine:
            if copy.home not in homes or copy.tower in towers:
                raise PatchError(
                    f"{copy.shown(self.source)} holds layer {p.layer} too and does not take the"
                    f" patch, so {self.source.name} would go on knowing what it is to forget:"
                    f" {str(wrong).splitlines()[0]}\nTake the file out of the folder, or give the"
                    " file that is meant."
                ) from wrong
        return fits


def _other_model(p: Patch, copy: Copy) -> bool:
    """Whether a copy belongs to another model: its layer has another shape."""
    place = locate(copy, p.layer.split("[")[0])
    if place is None or not {t.dtype for t in place.tensors} <= set(PRECISIONS):
        return False
    try:
        return part_for(p, place.read()).shape != p.shape
    except (TypeError, ValueError):
        return True
