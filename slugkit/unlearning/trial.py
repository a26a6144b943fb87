"""What a method is given to make one tower of a CLIP forget, and what it may spend on it.

A method changes `Trial.weights` in place, asks `Trial.probe` what that forgot, and may go on, put
the weights back (`Trial.restore`) and try something else, until pairs or probes are used up
(`slugkit.unlearning.probing`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from slugkit.base import SettingError
from slugkit.data import Pairs
from slugkit.method.layers import candidates, layer_table
from slugkit.method.losses import distinct_batches
from slugkit.method.search import Criterion, Measure
from slugkit.models import Clip
from slugkit.patch import PatchSet, set_of
from slugkit.unlearning.gradients import forget_gradient
from slugkit.unlearning.probing import Budget, Probing
from slugkit.unlearning.result import Directions
from slugkit.unlearning.retain import RetainSide


class Pool:
    """Pairs to learn from, and their features by the unedited model.

    pairs: N of them. v, t: (N, d) float32 of unit length, of pictures and captions.
    """

    def __init__(self, pairs: Pairs, v: torch.Tensor, t: torch.Tensor, seed: int):
        self.pairs, self.v, self.t, self.seed = pairs, v, t, seed

    def __len__(self) -> int:
        return len(self.pairs)

    def draws(self, size: int, distinct: bool = False) -> Draws:
        """Rows, `size` at a time or as many as there are, without end: all pairs in a seeded order,
        then in another.

        distinct: no two pictures of a class and style together, as InfoNCE wants it.
        """

        def once(again: int) -> list[list[int]]:
            if distinct:
                found = distinct_batches(self.pairs.labels, size, self.seed + again)
            else:
                order = np.random.default_rng([self.seed, again]).permutation(len(self)).tolist()
                found = [order[i : i + size] for i in range(0, len(order), size)]
            most = max(map(len, found))
            return [rows for rows in found if len(rows) == most]

        return Draws(once)


class Draws:
    """Batches of rows without end, all of one size."""

    def __init__(self, once: Callable[[int], list[list[int]]]):
        self._once, self._again, self._left = once, 0, once(0)
        self.size = len(self._left[0])

    def __next__(self) -> list[int]:
        if not self._left:
            self._again += 1
            self._left = self._once(self._again)
        return self._left.pop(0)


class Trial(Probing):
    """One tower of a CLIP in the hands of a method.

    Args:
        forget: pairs that show the concept.
        side: the retain side, whose pairs show none of it.
        measure: what a probe asks of the model as it is.
        criterion: when it has forgotten.
        seed: of everything that is drawn.

    Attributes:
        layers: names of the candidate layers of the tower: all that may change.
        forget, retain: a `Pool` of either set.
    """

    def __init__(
        self,
        clip: Clip,
        tower: str,
        forget: Pairs,
        side: RetainSide,
        measure: Measure,
        criterion: Criterion,
        budget: Budget,
        seed: int = 0,
    ):
        self.clip, self.tower, self.side = clip, tower, side
        self.layers = tower_layers(clip, tower)
        super().__init__(clip.model, self.layers, measure, criterion, budget, seed)
        self._forget = forget

    @contextmanager
    def _unedited(self) -> Iterator[None]:
        """Within the block the unedited weights are in place; afterwards those of before."""
        now = {name: w.detach().clone() for name, w in self.weights.items()}
        self.restore()
        try:
            yield
        finally:
            self.write(now)

    @cached_property
    def forget(self) -> Pool:
        """The forget set."""
        with self._unedited():
            pairs = self._forget
            v = self.clip.image_features(pairs.images)
            return Pool(pairs, v, self.clip.text_features(pairs.captions), self.seed)

    @cached_property
    def retain(self) -> Pool:
        """The retain set."""
        with self._unedited():
            return Pool(self.side.pairs, *self.side.features, self.seed)

    @cached_property
    def g_forget(self) -> Directions:
        """SLUG's forget gradient of the layers, at the unedited weights; it costs the forget set's
        pairs.
        """
        self.pairs += len(self._forget)
        with self._unedited():
            how = {"weights": self.layers, "chunk": self.side.chunk}
            return forget_gradient(self.clip, self._forget, **how)

    @cached_property
    def g_retain(self) -> Directions:
        """SLUG's retain gradient of the layers, likewise; it costs the retain set's pairs."""
        self.pairs += self.side.pairs_seen
        with self._unedited():
            found = self.side.gradient
            return {name: found[name].to(w.device) for name, w in self.weights.items()}

    def encode(self, pool: Pool, rows: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Features of pairs by the model as it is: v and t, (n, d) float32 of unit length. The
        tower at hand carries a graph, which counts the pairs; the other's are the pool's.
        """
        self.pairs += len(rows)
        if self.tower == "text":
            tokens = self.clip.tokens([pool.pairs.captions[row] for row in rows])
            return pool.v[rows], F.normalize(self.clip.model.encode_text(tokens).float(), dim=-1)
        pixels = self.clip.pixels(pool.pairs.images[np.asarray(rows)])
        return F.normalize(self.clip.model.encode_image(pixels).float(), dim=-1), pool.t[rows]

    def found(self, concept: str, method: str) -> tuple[PatchSet | None, bool, pd.DataFrame]:
        """The best state as an edit, whether it has forgotten, and every probe, the best one in the
        column chosen. None where no state was probed or the best one is the unedited model.
        """
        at, weights, table = self.best()
        if at < 0:
            return None, False, table
        row = self.rows[at]
        metrics = {"split": "search", "forget": row["forget"]}
        if row["forgotten"]:
            metrics["retain"] = row["retain"]
        if row["rho"] == 0:
            return None, bool(row["forgotten"]), table
        how = {"metrics": metrics, "provenance": {"method": method}}
        edit = set_of(self.clip.model, weights, concept, self.layers, **how)
        return edit, bool(row["forgotten"]), table


def tower_layers(clip: Clip, tower: str) -> list[str]:
    """The candidate layers of a tower, in the network's order: the one that is read first before
    all others.
    """
    table = layer_table(clip.model)
    found = table[table["candidate"] & (table["tower"] == tower)]
    if found.empty:
        raise SettingError(f"The model has no {tower} tower with layers that may change.")
    last = found["kind"].eq("proj") & (found["block"] < 0)
    return candidates(pd.concat([found[~last], found[last]]))
