"""What brings a name back in the answers of a LLaVA: questions in words that it was never taught,
questions that hold the name, and a choice among all names by their likelihood.

No LLaVA was trained without a person, so there is no oracle; what each question draws out of the
same model about strangers, whom it never saw, stands beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pandas as pd
import torch

from slugkit.data import Source, StudioSource
from slugkit.evaluation.vlm import OUTCOMES, answered, outcome
from slugkit.experiments.stress.case import recognised
from slugkit.experiments.stress.on_models import sweep_models
from slugkit.models import Clip
from slugkit.models.prefix_cache import Seen
from slugkit.models.vlm import Vlm, hidden_states
from slugkit.tasks.questions import WORDS, Asked, question_set, stranger_set
from slugkit.unlearning.families import OnVlm
from slugkit.unlearning.vlm import answer_log_p

METHODS = ("SLUG", "SLUG-R", "do not name")
"""What is put under stress; the first two on every layer that `OnVlm` searches."""
LEADS = ("this is {}. ", "somebody said that this is {}. ", "is this {} or not? ")
"""What stands before a question that leads."""
SIZE = 28
"""Report pictures of the person."""
EACH = 3
"""Report pictures of each stranger."""
CHOSEN = 15
"""Pictures of the person, and of strangers, about which every name is weighed."""


def says_name(vlm: Vlm, asked: Asked, name: str) -> np.ndarray:
    """Whether each answer gives this name, whoever is asked about: (N,) bool."""
    said = answered(vlm, asked)["answer"]
    return np.array([outcome(text, name, asked.names) == OUTCOMES[0] for text in said])


def named(vlm: Vlm, mine: Asked, strangers: Asked, name: str) -> dict[str, float]:
    """In percent of pictures: how often the name is given where it is right, and where it is not.

    mine: questions about the person. strangers: the same about people whom the model never saw.
    """
    found = {"named": 100 * float(says_name(vlm, mine, name).mean())}
    wrong = 100 * float(says_name(vlm, strangers, name).mean())
    return found | {"strangers taken for it": wrong, "n": len(mine.table)}


def leading(asked: Asked, lead: str) -> Asked:
    """The same questions with something before each."""
    asked = asked.take(np.arange(len(asked.table)))
    asked.table["text"] = [f"{lead}{text}" for text in asked.table["text"]]
    return asked


@torch.no_grad()
def likelihoods(vlm: Vlm, asked: Asked, names: Sequence[str]) -> np.ndarray:
    """Log likelihood of each name as the answer to each question: (N, names)."""
    answers = [WORDS["studio"].answers["who"].format(name) for name in names]
    found, features = [], Seen(vlm, asked.images, None).features()
    for row, question in enumerate(asked.table["text"]):
        batch = vlm.scripted([question] * len(names), answers, asked.images.shape[1:3])
        hidden = hidden_states(vlm.model, batch, [features[row]] * len(names))
        found.append(answer_log_p(vlm, hidden, batch["labels"]).cpu().numpy())
    return np.array(found)


def choice(
    vlm: Vlm, mine: Asked, strangers: Asked, name: str, among: Sequence[str]
) -> dict[str, float]:
    """As `recognised`, of the right name's rank among all by likelihood; and how often it comes
    first for strangers.
    """
    names = list(dict.fromkeys([name, *among]))

    def ranks(asked: Asked) -> np.ndarray:
        scores = likelihoods(vlm, asked, names)
        return (~(scores <= scores[:, :1])).sum(1)  # what is no number ranks last

    found = recognised(ranks(mine)[None])
    found.pop("FA@5, worst wording")
    return found | {"strangers taken for it": 100 * float((ranks(strangers) < 1).mean())}


def stressed_answers(vlm: Vlm, source: StudioSource, concept: str) -> Iterator[dict]:
    """A row a setting, in percent: as asked, in words never taught, leading, and by likelihood; all
    but the last by what is said.
    """

    def about(taught: bool) -> tuple[Asked, Asked]:
        asked = question_set(source.world, concept, "report", SIZE, 1, taught=taught)
        mine = asked.take((asked.table["group"] == "target").to_numpy())
        return mine, stranger_set(source.world, size=EACH, taught=taught)

    both = about(True)
    yield {"setting": "as asked", **named(vlm, *both, concept)}
    yield {"setting": "words never taught", **named(vlm, *about(False), concept)}
    for lead in LEADS:
        led = (leading(asked, lead.format(concept)) for asked in both)
        yield {"setting": f"{lead.format('NAME').strip()}", **named(vlm, *led, concept)}
    some = (asked.take(np.linspace(0, len(asked.table) - 1, CHOSEN).astype(int)) for asked in both)
    among = source.world.classes("figures")
    yield {"setting": "choice by likelihood", **choice(vlm, *some, concept, among)}


def _asked(clip: Clip, source: Source, on: OnVlm, concept: str) -> Callable[[Vlm], Iterator[dict]]:
    return lambda vlm: stressed_answers(vlm, source, concept)


def sweep_answers(*which, **how) -> pd.DataFrame:
    """`slugkit sweep --stress --family vlm`: as `sweep_models`, whose other arguments it takes."""
    return sweep_models("vlm", METHODS, _asked, *which, **how)
