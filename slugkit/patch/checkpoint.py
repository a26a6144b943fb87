"""An edit on files: a model's folder or safetensors file is copied, and the copy holds the edit; no model class is needed.

Works on what `save_pretrained` of transformers and diffusers writes, on open_clip's `open_clip_model.safetensors`, and on sharded checkpoints. The original is never changed.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from slugkit.base import MissingArtefactError, PatchError, ShapeError
from slugkit.patch import on_model
from slugkit.patch.file import Patch
from slugkit.patch.record import load_record, save_record

RECORD = "slugkit-record.safetensors"
"""The record's name in an edited folder."""
INSIDE = ("", "text_encoder", "text_encoder_2", "image_encoder")
"""Where a pipeline's folder keeps the towers of a CLIP."""


class Checkpoint(Mapping):
    """The tensors of one model's safetensors files by name, each read when it is first asked for. config: what its config.json says of a LLaVA's reading.

    files: of one model, such as the shards of a folder. Raises PatchError for a file that cannot be read.
    """

    def __init__(self, files: list[Path]):
        self.where: dict[str, Path] = {}
        self._read: dict[str, torch.Tensor] = {}
        for file in files:
            try:
                with safe_open(file, framework="pt") as opened:
                    self.where |= dict.fromkeys(opened.keys(), file)
            except (OSError, SafetensorError) as error:
                raise PatchError(f"{file.name} cannot be read: {error}. A safetensors file was expected. Nothing was changed.") from error
        self.folder = files[0].parent
        self.config = _config(self.folder)

    def __getitem__(self, name: str) -> torch.Tensor:
        if name not in self._read:
            with safe_open(self.where[name], framework="pt") as opened:
                self._read[name] = opened.get_tensor(name)
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

    def changed(self) -> set[Path]:
        """The files of which a tensor was read, and so may have been edited."""
        return {self.where[name] for name in self._read}


def _config(folder: Path) -> SimpleNamespace | None:
    """vision_feature_layer and the depth of the vision tower from a LLaVA's config.json; None for another model."""
    try:
        known = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        depth = int(known["vision_config"]["num_hidden_layers"])
        return SimpleNamespace(vision_feature_layer=known["vision_feature_layer"], vision_config=SimpleNamespace(num_hidden_layers=depth))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _models_in(path: Path) -> list[list[Path]]:
    """The safetensors files of each model under a path: one file, or those of a folder and of a pipeline's encoders."""
    if path.is_file():
        return [[path]]
    found = [sorted(p for p in (path / name).glob("*.safetensors") if p.name != RECORD) for name in INSIDE if (path / name).is_dir()]
    return [files for files in found if files]


def holding(path: Path, p: Patch) -> Checkpoint:
    """The model under a path that holds a patch's layer: of a pipeline's text encoders the one in which the layer has the patch's shape.

    Raises MissingArtefactError where there are no safetensors files, PatchError where none holds it.
    """
    models = _models_in(path)
    if not models:
        raise MissingArtefactError(f"There is no safetensors file in {path}; a model's folder as `save_pretrained` writes it, or one file, was expected. "
                                   "Checkpoints of other kinds are not read: load and save them with their own library first.")
    problems, fitting = [], []
    for files in models:
        model = Checkpoint(files)
        try:
            found = on_model.find(p.layer, p.concept, model)
            fitting.append((found.weight[on_model.rows_of(p, found.weight)].shape != p.direction.shape, len(fitting), model))
        except (PatchError, ShapeError, TypeError) as error:
            problems.append(error)
    if not fitting:
        raise problems[0]
    return min(fitting)[-1]


def _written(source: Path, out: Path, models: list[Checkpoint]) -> None:
    """Copy the source to `out`, which appears whole or not at all, with the models' tensors in the place of the old ones."""
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as scratch:
        copy = Path(scratch) / out.name
        if source.is_dir():
            shutil.copytree(source, copy, ignore=shutil.ignore_patterns(RECORD))
        for model in models:
            for file in model.changed():
                with safe_open(file, framework="pt") as opened:
                    metadata = opened.metadata()
                tensors = load_file(file) | {name: t for name, t in model.named_parameters() if model.where[name] == file}
                save_file(tensors, copy / file.relative_to(source) if source.is_dir() else copy, metadata)
        copy.rename(out)


def _record_of(root: Path, source: Path, model: Checkpoint) -> Path:
    """Where the record of a model under `source` lies in `root`, which is laid out alike: in its folder, or beside the one file."""
    return root / model.folder.relative_to(source) / RECORD if source.is_dir() else root.with_name(f"{root.stem}-{RECORD}")


def _need_new(out: Path) -> None:
    if out.exists():
        raise PatchError(f"{out} is there already; a new name was expected, so that nothing is overwritten. Choose another --out, or delete it.")
    out.parent.mkdir(parents=True, exist_ok=True)


def apply_to_files(patches: list[Patch], source: str | Path, out: str | Path, record: bool = True) -> Path:
    """Write a copy of a model's folder or file that holds the patches, beside the edits its own record tells of. Returns `out`.

    record: leave a record in the copy, with which `remove_from_files` undoes the edit; it holds the original weights, so leave it out of what you publish.
    Raises PatchError, MissingArtefactError; nothing is written then.
    """
    source, out = Path(source), Path(out)
    _need_new(out)
    models: dict[Path, Checkpoint] = {}
    for p in patches:
        model = holding(source, p)
        model = models.setdefault(model.folder, model)
        if _record_of(source, source, model).is_file() and not on_model.patches_on(model):
            load_record(_record_of(source, source, model), model)
        on_model.apply(p, model)
    _written(source, out, list(models.values()))
    if record:
        for model in models.values():
            save_record(model, _record_of(out, source, model))
    return out


def remove_from_files(p: Patch, source: str | Path, out: str | Path, base: str | Path | None = None) -> Path:
    """Write a copy of an edited folder or file without the patch, bit for bit as it was before it. Returns `out`.

    Uses the record in the folder; or base: the original model's folder or file, where this patch is the layer's only edit. Raises PatchError where neither tells
    the original, MissingArtefactError; nothing is written then.
    """
    source, out = Path(source), Path(out)
    _need_new(out)
    model = holding(source, p)
    if base is not None:
        _take_from_base(p, model, holding(Path(base), p))
    elif _record_of(source, source, model).is_file():
        load_record(_record_of(source, source, model), model)
        on_model.remove(p, model)
    else:
        raise PatchError(f"{source} has no record of its edits, so the original of {p.layer} is not known here; nothing was changed.\n"
                         "Give the original model with --base, or take the original itself.")
    _written(source, out, [model])
    if on_model.patches_on(model):
        save_record(model, _record_of(out, source, model))
    return out


def _take_from_base(p: Patch, model: Checkpoint, base: Checkpoint) -> None:
    """Put the base's weight in the place of the edited one, if the base with this patch alone is what the model holds."""
    mine, original = on_model.find(p.layer, p.concept, model), on_model.find(p.layer, p.concept, base)
    before = original.weight.clone()
    with on_model.applied(p, base):
        same = torch.equal(on_model.find(p.layer, p.concept, base).weight, mine.weight)
    if not same:
        raise PatchError(f"the base with the patch for {p.concept!r} alone is not what layer {mine.name} of this model holds; nothing was changed.\n"
                         "Another edit is on it too: use the record that was saved with it, or the original itself.")
    mine.place.write(before)
