"""What a method is given that works on a Stable Diffusion or a LLaVA itself, not on a CLIP's tower:
other weights, or words that are said beside each prompt.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd

from slugkit.base import SettingError, sha256_json
from slugkit.data import Source
from slugkit.method.search import Criterion, Measure
from slugkit.unlearning.probing import Budget, Dial, Probing
from slugkit.unlearning.retain import RetainSide
from slugkit.unlearning.steering import Steering, network_of, spoken_to

CROSS = ("attn2.to_k.weight", "attn2.to_v.weight")
"""How the matrices of a UNet end that read the prompt: keys and values of its cross-attention."""


class ModelTrial(Probing):
    """A pipeline or a LLaVA in the hands of a method, with `weights` those of a UNet that read the
    prompt, and none of a LLaVA.

    Args:
        model: a pipeline of diffusers, or a `Vlm`.
        source, concept, side: what is forgotten, and what must stay.
        prompts: of the search split, which name the concept: columns prompt, subject, domain.
        sampling: denoising steps and guidance.
        measure_of: a model -> what a probe asks of it.

    Attributes:
        said: what is said to the model now, as `slugkit.unlearning.steering.SpokenTo` takes it.
    """

    dear = True

    def __init__(
        self,
        model: Any,
        source: Source,
        concept: str,
        side: RetainSide,
        prompts: pd.DataFrame,
        sampling: tuple[int, float],
        measure_of: Callable[[Any], Measure],
        criterion: Criterion,
        budget: Budget,
        seed: int = 0,
    ):
        self.model, self.source, self.concept, self.side = model, source, concept, side
        self.prompts, (self.steps, self.guidance) = prompts, sampling
        self.said, self._measure_of = {}, measure_of
        self._measures: dict[str, Measure] = {}
        self.tower = "pipeline" if hasattr(model, "unet") else "vlm"
        network = network_of(model)
        names = [n for n, _ in network.named_parameters() if n.endswith(CROSS)]
        names = names if self.tower == "pipeline" else []
        super().__init__(network, names, self, criterion, budget, seed)

    def _asked(self) -> Measure:
        """The measure of the model as it is spoken to now; of a LLaVA, whose measure holds its
        pictures, only the last one is kept.
        """
        key = sha256_json(self.said)
        if self.tower == "vlm":
            self._measures = {k: m for k, m in self._measures.items() if k == key}
        if key not in self._measures:
            self._measures[key] = self._measure_of(spoken_to(self.model, self.said))
        return self._measures[key]

    def forget(self) -> dict[str, float]:
        """Of the model as it is, as a `Measure`."""
        return self._asked().forget()

    def retain(self) -> dict[str, float]:
        """What must stay, of the model as it is, after `forget`."""
        return self._asked().retain()

    @property
    def rho(self) -> float:
        """Size of the present change relative to the weights that may change."""
        return super().rho if self.size else 0.0

    def restore(self) -> None:
        """Put the unedited weights back, and say nothing more."""
        super().restore()
        self.said = {}

    def say(self, **said: Any) -> None:
        """Say this to the model from now on, in the place of what was said."""
        self.said = said

    def _state(self) -> tuple[dict, dict]:
        return super()._state() if self.rho else {}, dict(self.said)

    def require_readers(self, method: str) -> None:
        """Raises SettingError for a pipeline with several text encoders, or whose UNet has no
        matrices of its own that read the prompt.
        """
        if getattr(self.model, "text_encoder_2", None) is not None or not self.weights:
            raise SettingError(
                f"{method} was asked of {type(self.model).__name__}; a pipeline with one text"
                f" encoder, and a UNet with matrices named …{CROSS[0]}, was expected. Take adapters"
                " off, or choose another method."
            )

    def found(self, concept: str, method: str) -> tuple[Steering | None, bool, pd.DataFrame]:
        """The best state as an edit, whether it has forgotten, and every probe, the best one in the
        column chosen; of a pipeline also how many pictures were drawn. None where no state was
        probed.
        """
        at, state, table = self.best()
        if at < 0:
            return None, False, table
        if self.tower == "pipeline":
            table["drawn"] = sum(measure.drawn for measure in self._measures.values())
        row = self.rows[at]
        edit = Steering(concept, self.tower, *state, row["rho"])
        return edit, bool(row["forgotten"]), table


class Saying(Dial):
    """As `Dial`, of what is said: the number -> the arguments of `ModelTrial.say`."""

    def set(self, lam: float) -> None:
        """Say what the number means."""
        self.trial.restore()
        self.trial.say(**self.write(lam))
