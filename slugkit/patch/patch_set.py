"""Several patches that are one edit: what a method leaves that changes more than one layer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from slugkit.base import PatchError, as_file_name, sha256_json
from slugkit.method.edit import EditableLayer
from slugkit.method.layers import tower_of
from slugkit.method.ranking import norm
from slugkit.patch.format import Patch, load, make
from slugkit.patch.on_model import all_applied


@dataclass(frozen=True, eq=False)
class PatchSet:
    """Patches of different layers that belong together; it stands where one patch does.

    patches: one a layer, at least one. rho: size of the whole change relative to the layers that
    the method could change, ||change|| / ||weights||, 0 or more. Raises PatchError where two are of
    one layer, or there is none.
    """

    patches: tuple[Patch, ...]
    rho: float
    lam = 1.0

    def __post_init__(self) -> None:
        if not self.patches or len({p.layer for p in self.patches}) < len(self.patches):
            raise PatchError(
                f"{len(self.patches)} patches do not make one edit; one or more were expected, each"
                " of another layer.\nApply patches of one layer one by one."
            )

    @property
    def layer(self) -> str:
        """How many layers it changes, in words; of a single one its name."""
        return self.patches[0].layer if len(self.patches) == 1 else f"{len(self.patches)} layers"

    @property
    def tower(self) -> str:
        """text or vision; both where it changes both."""
        return " and ".join(sorted({p.tower for p in self.patches}))

    @property
    def concept(self) -> str:
        """What is forgotten."""
        return self.patches[0].concept

    @cached_property
    def sha256(self) -> str:
        """SHA-256 over the patches' own, in any order the same."""
        return sha256_json(sorted(p.sha256 for p in self.patches))

    def save(self, folder: str | Path) -> Path:
        """Write every patch into a folder of its own, which `load_set` reads. Returns the folder.

        Raises PatchError where something is there already.
        """
        folder = Path(folder)
        if folder.exists() and (folder.is_file() or any(folder.iterdir())):
            raise PatchError(
                f"{folder.name} is not an empty folder; a new one was expected.\nName another one."
                " Nothing was changed."
            )
        folder.mkdir(parents=True, exist_ok=True)
        for p in self.patches:
            p.save(folder / f"{as_file_name(p.layer)}.safetensors")
        return folder

    def applied(self, model: Any) -> AbstractContextManager[Any]:
        """Within the block the model holds the whole edit; afterwards it is as before."""
        return all_applied(self.patches, model)


def load_set(folder: str | Path) -> PatchSet:
    """The edit that `PatchSet.save` wrote. Raises PatchError for a folder without sound patches."""
    found = [load(path) for path in sorted(Path(folder).glob("*.safetensors"))]
    changed = sum(norm(p.direction) ** 2 * p.lam**2 for p in found)
    whole = {p.provenance.get("norm_of_the_layers") for p in found}
    known = len(whole) == 1 and isinstance(size := next(iter(whole)), float) and size > 0
    return PatchSet(tuple(found), changed**0.5 / size if known else 0.0)


def set_of(
    model: torch.nn.Module,
    new: Mapping[str, torch.Tensor],
    concept: str,
    among: Iterable[str],
    *,
    metrics: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> PatchSet:
    """The edit from the model's weights to new ones; layers that are as they were have no patch.

    Args:
        model: it holds the unedited weights, and is left as it is.
        new: layer -> weight of the same shape.
        among: all layers that could change; rho is relative to them.
        metrics, provenance: of every patch, anything JSON can hold.

    Raises:
        PatchError: nothing changed, or to numbers that are not finite.
    """
    old = {name: model.get_parameter(name).detach() for name in among}
    size = sum(norm(w) ** 2 for w in old.values()) ** 0.5
    given = {"metrics": metrics, "model": model}
    given["provenance"] = {**(provenance or {}), "norm_of_the_layers": size}
    patches, changed = [], 0.0
    for name, weight in new.items():
        direction = old[name].float() - weight.detach().float()
        if not bool(direction.any()):
            continue
        changed += norm(direction) ** 2
        editable = EditableLayer(old[name], direction)
        patches.append(make(name, editable, 1.0, concept, tower=tower_of(name), **given))
    return PatchSet(tuple(patches), changed**0.5 / size)
