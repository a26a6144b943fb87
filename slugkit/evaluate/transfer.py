"""One edit, two models: the CLIP whose gradients made it, and the model that holds the CLIP's tower."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pandas as pd

from slugkit import patch
from slugkit.base import SearchFailedError
from slugkit.models import Clip
from slugkit.models.acting import acting_part, unused_layers
from slugkit.models.names import require_tower


@contextmanager
def in_both(edit: patch.Patch, clip: Clip, other: Any) -> Iterator[Any]:
    """Within the block the CLIP and `other` hold the edit, each as `apply` puts it there; afterwards both are as before, bit for bit.

    other: a model that shares the edit's tower, such as a StableDiffusionPipeline. Yields it. Raises PatchError, with
    nothing changed, where its tower is not the CLIP's, where it does not use the layer, or where the edit is for another base.
    """
    with all_in_both([edit], clip, other):
        yield other


@contextmanager
def all_in_both(edits: Iterable[patch.Patch], clip: Clip, other: Any) -> Iterator[Any]:
    """`in_both` for several edits at once, on one layer or on several. The order does not matter."""
    edits = list(edits)
    for tower in dict.fromkeys(edit.tower for edit in edits):
        require_tower(clip.model, other, tower)
    for edit in edits:
        acting_part(clip.model, other, edit.layer.split("[")[0])
    with patch.all_applied(edits, other), patch.all_applied(edits, clip.model):
        yield other


def transferable(probes: pd.DataFrame, other: Any, tower: str = "text") -> pd.DataFrame:
    """The tower's layers that the CLIP's search made forget and that `other` uses, best first: one probe each.

    probes: as notebook 04 leaves them. The order is that of a tower's winner. Raises SearchFailedError if none is left.
    """
    chosen = probes[probes["chosen"] & (probes["tower"] == tower)]
    left_out = unused_layers(other, list(chosen["layer"]))
    kept = chosen[~chosen["layer"].isin(left_out)].sort_values(["forget", "retain", "rho"], ascending=[True, False, True], kind="stable")
    if kept.empty:
        raise SearchFailedError(f"No layer of the {tower} tower that made the CLIP forget is used by {type(other).__name__}"
                                f"{' (' + ', '.join(left_out) + ')' if left_out else ''}. Allow more probes in notebook 04, or set search_front='all'.")
    return kept
