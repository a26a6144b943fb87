"""The retain side of a model, computed once and used for every concept that is not in its pictures:
the retain gradient, in parts by which its noise is known, and what the layers read of the retain
set.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from slugkit.base import SettingError, cached_tensors, sha256_json
from slugkit.data import Pairs, Source
from slugkit.models import Clip
from slugkit.models.activations import read_moments
from slugkit.models.fingerprint import weights_sha256
from slugkit.unlearning.gradients import retain_gradient

PARTS = 5
"""Parts of the retain set; their spread says how noisy its gradient is."""


def retain_parts(pairs: Pairs, batch_size: int, seed: int = 0) -> list[Pairs]:
    """The retain set in five parts of about one size, drawn at random; fewer where a part would
    hold less than one micro-batch, and at least one.
    """
    count = max(1, min(PARTS, len(pairs) // batch_size))
    order = np.random.Generator(np.random.PCG64([seed, 13])).permutation(len(pairs))
    return [pairs.take(np.sort(order[k::count])) for k in range(count)]


def mean_of(parts: list[dict[str, torch.Tensor]], sizes: list[int]) -> dict[str, torch.Tensor]:
    """The retain gradient from those of its parts, each weighted by its pairs."""
    return {
        name: sum(n * part[name] for n, part in zip(sizes, parts, strict=True)) / sum(sizes)
        for name in parts[0]
    }


class RetainSide:
    """g_r over a retain set that shows none of the concepts, and the second moments of its inputs.

    Computed when first asked for; `used` names what was asked for ("gradient", "features").

    source: where the retain set is drawn, or the retain set itself. concepts: everything that will
    be forgotten with it. size: pairs of the retain set. batch_size: the micro-batch, part of the
    retain loss's definition. folder: where gradients are kept between processes, under a name made
    of `key`; None keeps them in memory only. chunk: pairs encoded at a time, as of
    `retain_gradient`. weights: those whose gradient is wanted; None means all.
    """

    def __init__(
        self,
        clip: Clip,
        source: Source | Pairs,
        concepts: list[str],
        size: int = 2560,
        batch_size: int = 128,
        seed: int = 0,
        folder: str | Path | None = None,
        chunk: int | None = None,
        weights: list[str] | None = None,
    ):
        self.clip, self.concepts, self.batch_size = clip, list(concepts), batch_size
        self.chunk, self.weights = chunk, weights
        self.seed, self.folder = seed, Path(folder) if folder else None
        if isinstance(source, Pairs):
            self.pairs = source
        else:
            for concept in concepts:
                source.kind(concept)
            self.pairs = source.retain_set(self.concepts, size, seed)
        self._sets = retain_parts(self.pairs, batch_size, seed)
        self._moments: dict[str, torch.Tensor] = {}
        self.used: set[str] = set()

    @cached_property
    def key(self) -> str:
        """SHA-256 over what decides the gradients: weights and dtype, pictures, captions and
        labels, micro-batch and seed.
        """
        weights = weights_sha256(self.clip.model)
        sets = [[pairs.sha256, pairs.captions, pairs.labels] for pairs in self._sets]
        some = [] if self.weights is None else [self.weights]
        return sha256_json([weights, sets, self.batch_size, self.seed, *some])

    @cached_property
    def parts(self) -> list[dict[str, torch.Tensor]]:
        """One dictionary for each part: parameter name -> gradient, float32 on the CPU, where all
        of them have room.
        """

        how = {"chunk": self.chunk, "weights": self.weights}

        def computed() -> dict[str, torch.Tensor]:
            found = (
                retain_gradient(self.clip, pairs, self.batch_size, self.seed, **how)
                for pairs in self._sets
            )
            return {f"{k}/{n}": g.cpu() for k, part in enumerate(found) for n, g in part.items()}

        file = self.folder and self.folder / f"retain-{self.key[:24]}.safetensors"
        kept = cached_tensors(file, computed) if file else computed()
        names = [name for name, _ in self.clip.model.named_parameters()]
        return [
            {name: kept[f"{k}/{name}"] for name in names if f"{k}/{name}" in kept}
            for k in range(len(self._sets))
        ]

    @cached_property
    def _whole(self) -> dict[str, torch.Tensor]:
        return mean_of(self.parts, [len(pairs) for pairs in self._sets])

    @property
    def gradient(self) -> dict[str, torch.Tensor]:
        """g_r over the whole retain set: parameter name -> float32 on the CPU."""
        self.used.add("gradient")
        return self._whole

    @property
    def pairs_seen(self) -> int:
        """Pairs of the retain set, each of which is seen forwards and backwards once."""
        return len(self.pairs)

    @cached_property
    def _encoded(self) -> tuple[torch.Tensor, torch.Tensor]:
        pairs = self.pairs
        return self.clip.image_features(pairs.images), self.clip.text_features(pairs.captions)

    @property
    def features(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Features of the pairs by the model as it was when they were first asked for: pictures and
        captions, (N, d) float32 of unit length each.
        """
        self.used.add("features")
        return self._encoded

    def moments(self, layers: list[str]) -> dict[str, torch.Tensor]:
        """Second moments of what the layers read of the retain set, see
        `slugkit.models.activations.read_moments`.
        """
        lacking = [layer for layer in layers if layer not in self._moments]
        if lacking:
            self._moments |= read_moments(self.clip, self.pairs, lacking)
        return {layer: self._moments[layer] for layer in layers}

    def require(self, concept: str) -> None:
        """Raises SettingError for a concept that may be in the pictures: one that was not named at
        the start.
        """
        if concept not in self.concepts:
            listed = (
                f"{', '.join(self.concepts[:4])}{' and others' if len(self.concepts) > 4 else ''}"
            )
            raise SettingError(
                f"This retain set was drawn for {listed}; {concept!r} may be in its pictures. Name "
                "every concept that is to be forgotten when it is made."
            )
