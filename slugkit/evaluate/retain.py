"""The retain gradients of a model, computed once and used for every concept that is not in their pictures."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import torch

from slugkit.base import SettingError, cached_tensors, sha256_json
from slugkit.data import Source
from slugkit.gradients import retain_gradient
from slugkit.models import Clip
from slugkit.models.fingerprint import weights_sha256


class RetainGradients:
    """g_r of several retain draws, none of whose pictures show any of the concepts. Computed when first asked for.

    concepts: everything that will be forgotten with them. size: pairs of each draw; batch_size: the micro-batch, part of the retain loss's
    definition; draws: how many. folder: where they are kept between processes, under a name made of `key`; None keeps them in memory only.
    """

    def __init__(self, clip: Clip, source: Source, concepts: list[str], size: int = 512, batch_size: int = 128, draws: int = 5, seed: int = 0,
                 folder: str | Path | None = None):
        for concept in concepts:
            source.kind(concept)
        self.clip, self.concepts, self.batch_size, self.seed, self.folder = clip, list(concepts), batch_size, seed, Path(folder) if folder else None
        self._sets = [source.retain_set(self.concepts, size, seed, draw=k) for k in range(draws)]

    @cached_property
    def key(self) -> str:
        """SHA-256 over what decides the gradients: weights and dtype, pictures, captions and labels, micro-batch and seed."""
        weights = weights_sha256(self.clip.model)
        sets = [[pairs.sha256, pairs.captions, pairs.labels] for pairs in self._sets]
        return sha256_json([weights, sets, self.batch_size, self.seed])

    @cached_property
    def draws(self) -> list[dict[str, torch.Tensor]]:
        """One dictionary for each draw: parameter name -> gradient, float32 on the CPU, where several of them have room."""
        def computed() -> dict[str, torch.Tensor]:
            draws = (retain_gradient(self.clip, pairs, self.batch_size, self.seed) for pairs in self._sets)
            return {f"{k}/{name}": g.cpu() for k, draw in enumerate(draws) for name, g in draw.items()}

        kept = computed() if self.folder is None else cached_tensors(self._file, computed)
        names = [name for name, _ in self.clip.model.named_parameters()]
        return [{name: kept[f"{k}/{name}"] for name in names if f"{k}/{name}" in kept} for k in range(len(self._sets))]

    @property
    def captions(self) -> list[str]:
        """The distinct captions of all draws: what the concepts' edits should leave as it is."""
        return list(dict.fromkeys(caption for pairs in self._sets for caption in pairs.captions))

    @property
    def _file(self) -> Path:
        return self.folder / f"retain-{self.key[:24]}.safetensors"

    def of(self, concept: str) -> list[dict[str, torch.Tensor]]:
        """The gradients, for one of the concepts. Raises SettingError for another, whose pictures may be among them."""
        if concept not in self.concepts:
            raise SettingError(f"These retain gradients were made for {', '.join(self.concepts[:4])}{' and others' if len(self.concepts) > 4 else ''}; {concept!r} may be in their "
                               "pictures. Name every concept that is to be forgotten when they are made.")
        return self.draws
