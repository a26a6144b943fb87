"""One edit, two models: the CLIP whose gradients made it, and the model that holds the CLIP's
tower.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from slugkit import patch
from slugkit.models import Clip
from slugkit.models.reachability import acting_part
from slugkit.models.weight_map import require_tower


@contextmanager
def in_both(edit: patch.Patch, clip: Clip, other: Any) -> Iterator[Any]:
    """Within the block the CLIP and `other` hold the edit, each as `apply` puts it there;
    afterwards both are as before, bit for bit.

    other: a model that shares the edit's tower, such as a StableDiffusionPipeline. Yields it.
    Raises PatchError, with nothing changed, where its tower is not the CLIP's, where it does not
    use the layer, or where the edit is for another base.
    """
    with all_in_both([edit], clip, other):
        yield other


@contextmanager
def all_in_both(edits: Iterable[patch.Patch], clip: Clip, other: Any) -> Iterator[Any]:
    """`in_both` for several edits at once, on one layer or on several.

    The order does not matter.
    """
    edits = list(edits)
    for tower in dict.fromkeys(edit.tower for edit in edits):
        require_tower(clip.model, other, tower)
    for edit in edits:
        acting_part(clip.model, other, edit.layer.split("[")[0])
    with patch.all_applied(edits, other), patch.all_applied(edits, clip.model):
        yield other
