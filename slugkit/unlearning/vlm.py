"""The step search on a vision-language model: its own gradients, what a probe measures, and the
search over layers.

A probe asks whether greedy decoding would give the whole answer. One forward pass over the answer
tells: it would, if every token is the likeliest one after those before it. Where a model was not
taught in which words to answer, other answers are decoded and judged.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from slugkit.base import SearchFailedError, SettingError, wide
from slugkit.evaluation.vlm import answered, judged, kept
from slugkit.method.gradients import mean_gradient
from slugkit.method.layers import candidates, kind_of, layer_table, tower_of
from slugkit.method.ranking import pareto_front
from slugkit.models import Clip
from slugkit.models.prefix_cache import Seen
from slugkit.models.reachability import unused_layers
from slugkit.models.vlm import Vlm, hidden_states
from slugkit.models.weight_map import locate, require_tower
from slugkit.tasks.questions import Asked
from slugkit.unlearning.concept import require_above_chance, search_within
from slugkit.unlearning.result import Directions

FORGOTTEN = 0.97
"""A step has forgotten when this share of the target's search pictures has lost the right name."""


def batches_of(asked: Asked, batch_size: int) -> list[np.ndarray]:
    """Rows in batches of questions and answers of like length, so that little is padded."""
    length = asked.table["text"].str.len() + asked.table["wanted"].str.len()
    order = np.argsort(length.to_numpy(), kind="stable")
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]


class Script:
    """Questions with their wanted answers, made ready once for many probes.

    vlm: the model that is asked; layer: the one that changes between the probes (canonical), from
    whose block onwards the pictures are looked at again.
    """

    def __init__(self, vlm: Vlm, asked: Asked, layer: str | None = None, batch_size: int = 64):
        self.vlm, self.asked, shape = vlm, asked, asked.images.shape[1:3]
        self.table, self._seen, self._parts = asked.table, Seen(vlm, asked.images, layer), []
        for rows in batches_of(asked, vlm.at_once(batch_size, 2, shape)):
            part = asked.table.iloc[rows]
            ready = vlm.scripted(part["text"].tolist(), part["wanted"].tolist(), shape)
            self._parts.append((rows, ready))

    @torch.no_grad()
    def given(self) -> np.ndarray:
        """Whether the model as it stands answers each question with exactly the wanted answer: (N,)
        bool.
        """
        out, features = np.zeros(len(self.table), bool), self._seen.features()
        for rows, batch in self._parts:
            hidden = hidden_states(self.vlm.model, batch, [features[row] for row in rows])[:, :-1]
            # a model that is spread over GPUs ends on another one
            labels = batch["labels"][:, 1:].to(hidden.device)
            where = labels != -100
            wrong = torch.zeros_like(where)
            wrong[where] = self.vlm.model.lm_head(hidden[where]).argmax(-1) != labels[where]
            out[rows] = (~wrong.any(dim=1)).cpu().numpy()
        return out

    @cached_property
    def _as_wanted(self) -> np.ndarray:
        """Whether the wanted words would be judged right."""
        return judged(self.asked, self.table["wanted"].tolist())["right"].to_numpy()

    def right(self) -> np.ndarray:
        """Whether the model as it stands answers each question rightly: (N,) bool.

        That is `given` for questions with a taught answer (`Asked.verbatim`); of others an answer
        in the wanted words is judged as it stands, and any other is decoded.
        """
        given = self.given()
        if self.asked.verbatim:
            return given
        out = given & self._as_wanted
        if not given.all():
            out[~given] = answered(self.vlm, self.asked.take(~given))["right"]
        return out


def told_rows(vlm: Vlm, asked: Asked, rows: np.ndarray) -> dict[str, torch.Tensor]:
    """The given rows as one batch with the wanted answers."""
    part = asked.table.iloc[rows]
    return vlm.told(asked.images[rows], part["text"].tolist(), part["wanted"].tolist())


def log_odds(vlm: Vlm, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """log p / (1 - p) of each wanted answer as a whole, p its likelihood: (N,) float32.

    batch: as `Vlm.told` gives it. Where the model is sure, the gradient of log p fades with 1 - p,
    so that the few pictures it doubts would speak for all; that of the log odds does not.
    """
    inputs = {k: v for k, v in batch.items() if k != "labels"}
    hidden = vlm.model.model(**inputs).last_hidden_state
    log_p = answer_log_p(vlm, hidden, batch["labels"])
    return (log_p - torch.log(-torch.expm1(log_p.clamp(max=-1e-9)))).float().to(hidden.device)


def answer_log_p(vlm: Vlm, hidden: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Log likelihood of each answer as a whole: (N,), at most 0, as `wide` as the machine can.

    hidden: (N, L, width), of `hidden_states`. labels: (N, L), as of `Vlm.scripted`.
    """
    labels = labels[:, 1:].to(hidden.device)
    logits = vlm.model.lm_head(hidden[:, :-1]).float().transpose(1, 2)
    tokens = F.cross_entropy(logits, labels, ignore_index=-100, reduction="none")
    return -wide(tokens).sum(1)


def answer_gradient(vlm: Vlm, asked: Asked, layers: list[str], batch_size: int = 48) -> Directions:
    """The model's own gradient: of the mean log odds of the wanted answers, by canonical layer,
    float32.

    Of the forget set it is a direction to descend along, as the gradient of the mean cosine is; of
    the retain set, minus it is the gradient of a retain loss. Only the vision tower learns, since a
    language model of billions of weights would need as many gradients. batch_size: conversations at
    once, at most. Raises GradientError, EmptySetError.
    """
    mine = {id(p) for p in vlm.model.model.vision_tower.parameters()}
    found = mean_gradient(
        vlm.model,
        lambda rows: log_odds(vlm, told_rows(vlm, asked, rows)).mean(),
        batches_of(asked, vlm.at_once(batch_size, 20, asked.images.shape[1:3])),
        "the model's own gradient",
        [name for name, p in vlm.model.named_parameters() if id(p) in mine],
    )
    return {layer: locate(found, layer).read() for layer in layers}


def writing_layers(clip: Clip, vlm: Vlm) -> list[str]:
    """The matrices that write into the stream which the language model reads: attn.out_proj and
    mlp.c_proj of every block of the vision tower that it sees through, in order, canonical names.
    """
    names = [
        n
        for n in candidates(layer_table(clip.model))
        if tower_of(n) == "vision" and kind_of(n) in ("attn.out_proj", "mlp.c_proj")
    ]
    unused = unused_layers(vlm.model, names)
    return [n for n in names if n not in unused]


def paper_layer(table: pd.DataFrame, vlm: Vlm) -> str:
    """The layer that the authors' code edits in a LLaVA: of the Pareto front over the matrices of
    the vision tower's blocks (no patch embedding, no projection) the deepest that the model reads.

    Where it reads none of that front, the front over those it reads. table: of `score_layers`.
    Raises SearchFailedError where no candidate in a block acts.
    """
    blocks = table[table["candidate"] & (table["tower"] == "vision") & (table["block"] >= 0)]
    read = ~blocks["layer"].isin(unused_layers(vlm.model, list(blocks["layer"])))
    for mine in (blocks, blocks[read]):
        on = pareto_front(mine["importance"].to_numpy(), mine["alignment"].to_numpy())
        front = mine.loc[on & read[mine.index], "layer"]
        if len(front):
            return front.iloc[-1]
    raise SearchFailedError(
        f"No candidate in a block of the vision tower acts in {type(vlm.model).__name__}; one or "
        "more was expected. Take other layers in notebook 03."
    )


class VlmMeasure:
    """What a probe measures on the model while one layer changes; search questions only.

    again: writes the step into the model (`slugkit.models.reachability.movable` yields it). Raises
    SettingError for report questions.
    """

    def __init__(self, vlm: Vlm, asked: Asked, layer: str, again: Callable[[], None]):
        if asked.split != "search":
            raise SettingError(
                f"The step search was handed {asked.split} questions; search questions were"
                " expected. Report pictures must not steer the search."
            )
        target = (asked.table["group"] == "target").to_numpy()
        self.again = again
        self._target = Script(vlm, asked.take(target), layer)
        self._rest = Script(vlm, asked.take(~target), layer)

    def forget(self) -> dict[str, float]:
        """Share of the target's pictures that still get the right name, under both keys."""
        self.again()
        still = float(self._target.right().mean())
        return {"fa1": still, "fa5": still}

    def retain(self) -> dict[str, float]:
        """Right answers about everybody and everything else, 0..1 (`kept`); what was not asked
        about is left out.
        """
        self.again()
        found = kept(self._rest.table.assign(right=self._rest.right()))
        return {part: value for part, value in found.items() if not np.isnan(value)}


def need_named(vlm: Vlm, asked: Asked) -> None:
    """Raises SearchFailedError where the model gives the target's name on no more of its pictures
    than by chance among the names: there is nothing to forget. asked: see `search_on_vlm`.
    """
    target = asked.take((asked.table["group"] == "target").to_numpy())
    hits = int(Script(vlm, target).right().sum()) if len(target.table) else 0
    if not hits or asked.names:
        name = target.table["key"].iloc[0] if len(target.table) else "the target"
        found = hits, len(target.table), len(asked.names)
        require_above_chance(name, *found, f"{vlm.source}, asked for the name,")


def search_on_vlm(
    clip: Clip,
    vlm: Vlm,
    directions: Directions,
    asked: Asked,
    layers: list[str],
    max_trials: int = 10,
    forgotten: float = FORGOTTEN,
) -> pd.DataFrame:
    """Search the step on each layer with the model's own answers as the criterion; of each layer
    the smallest forgetting step is chosen.

    Args:
        directions: canonical weight -> what is stepped along, theta - lambda * direction.
        asked: a question set of the search split.
        forgotten: share of the target's pictures that must lose the right name, above 0 to 1.

    Returns:
        The probes, as of `search_within`.

    Raises:
        PatchError: the model does not hold the CLIP's vision tower, or never reads a layer.
        SearchFailedError: there is no layer, or nothing to forget.
    """
    require_tower(clip.model, vlm.model, "vision")
    need_named(vlm, asked)
    if not layers:
        raise SearchFailedError(
            "There is no layer to search the step on: no matrix of the CLIP's front acts in"
            f" {type(vlm.model).__name__}. Run notebook 04 with search_front='all', or take another"
            " tower."
        )
    how = partial(VlmMeasure, vlm, asked), 1 - forgotten, max_trials
    return search_within(clip, vlm.model, directions, layers, *how)
