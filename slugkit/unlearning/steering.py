"""Edits that are no patches: other weights than a CLIP's towers, and words that are said to a model
beside each prompt or question.

They live in memory. A pipeline that keeps one is written with `save_pipeline` within `applied`; who
says words to a model says them again.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch

from slugkit.base import SettingError, sha256_json, sha256_tensor
from slugkit.models.vlm import Vlm


class SpokenTo:
    """A pipeline to which something is said beside each prompt; all else is the pipeline's own.

    said: what its call takes, without the prompts; with `safety_concept` the call is that of
    diffusers' Safe Latent Diffusion, with the same networks.
    """

    def __init__(self, pipe: Any, said: dict[str, Any]):
        self.pipe, self.said = pipe, dict(said)
        self._call, self._more = pipe, dict(said)
        concept = self._more.pop("safety_concept", None)
        if concept is not None:
            self._call = _safe(pipe)
            self._call.safety_concept = concept

    def __getattr__(self, name: str) -> Any:
        return getattr(self.pipe, name)

    def __call__(self, prompts: list[str], **how: Any) -> Any:
        """As the pipeline's; a text among what is said is said beside every prompt."""
        more = {k: [v] * len(prompts) if isinstance(v, str) else v for k, v in self._more.items()}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it has no safety checker, which is meant
            return self._call(prompts, **more, **how)


def _safe(pipe: Any) -> Any:
    """Diffusers' Safe Latent Diffusion over a pipeline's networks."""
    try:
        from diffusers import StableDiffusionPipelineSafe
        from diffusers.utils import logging
    except ImportError as gone:
        raise SettingError(
            "This version of diffusers has no Safe Latent Diffusion any more; 0.42 has. Install"
            " that, or choose another method."
        ) from gone
    parts = {k: v for k, v in pipe.components.items() if k != "image_encoder"}
    if "text_encoder_2" in parts:
        raise SettingError(
            f"Safe Latent Diffusion was asked of {type(pipe).__name__}; a pipeline with one text"
            " encoder was expected, as diffusers has it for Stable Diffusion 1 and 2 alone."
        )
    loud = logging.get_verbosity()
    logging.set_verbosity_error()  # it says that it is kept but not extended
    try:
        safe = StableDiffusionPipelineSafe(**parts, requires_safety_checker=False)
    finally:
        logging.set_verbosity(loud)
    safe.set_progress_bar_config(disable=True)
    return safe


def spoken_to(model: Any, said: dict[str, Any]) -> Any:
    """The model, a pipeline or a `Vlm`, with what is said to it; with nothing said itself."""
    if not said:
        return model
    return replace(model, **said) if isinstance(model, Vlm) else SpokenTo(model, said)


def network_of(model: Any) -> torch.nn.Module:
    """Where a pipeline's or a `Vlm`'s weights outside the CLIP's towers are: the UNet, or all of
    the LLaVA.
    """
    return model.model if isinstance(model, Vlm) else model.unet


@dataclass(frozen=True, eq=False)
class Steering:
    """What a method leaves that is no patch; it stands where one does in a `Result`.

    concept: what is forgotten. tower: "pipeline" or "vlm". weights: name in `network_of` -> new
    weight. said: what is said to the model. rho: size of the change relative to the weights that
    could change, 0 where nothing but words is said.
    """

    concept: str
    tower: str
    weights: dict[str, torch.Tensor] = field(repr=False)
    said: dict[str, Any]
    rho: float
    lam = 1.0

    @property
    def layer(self) -> str:
        """What it changes, in words."""
        return f"{len(self.weights)} matrices" if self.weights else "no weight"

    @cached_property
    def sha256(self) -> str:
        """SHA-256 over weights and words."""
        weights = {name: sha256_tensor(weight) for name, weight in self.weights.items()}
        return sha256_json([weights, self.said])

    @contextmanager
    def applied(self, model: Any) -> Iterator[Any]:
        """Within the block a model that is edited so, which is to be used in the place of the one
        given; afterwards that one holds its own weights again, bit for bit.
        """
        network = network_of(model)
        kept = {name: network.get_parameter(name) for name in self.weights}
        before = {name: w.detach().clone() for name, w in kept.items()}
        try:
            _write(kept, self.weights)
            yield spoken_to(model, self.said)
        finally:
            _write(kept, before)


@torch.no_grad()
def _write(kept: dict[str, torch.nn.Parameter], new: dict[str, torch.Tensor]) -> None:
    for name, weight in new.items():
        kept[name].copy_(weight)
