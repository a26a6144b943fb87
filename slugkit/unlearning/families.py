"""On what the step is searched: on the CLIP itself, a caller's own objective, the pictures of a
pipeline, or the answers of a vision-language model.

Each family says which layers are searched (`names`, of the layer table), along what a method steps
there (`directions`), and searches: `search` gives the probes of all these layers. Gradients and
ranking are the CLIP's in all of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from slugkit.base import require_choice, sha256_json
from slugkit.data import Pairs, Source
from slugkit.evaluation.clip_judge import ClipJudge
from slugkit.evaluation.vlm import own_words
from slugkit.method.directions import retain_aware_directions
from slugkit.method.layers import weight_of
from slugkit.method.search import Criterion, Measure
from slugkit.models import Clip
from slugkit.models.classifier import Classifier
from slugkit.models.diffusion import GUIDANCE, STEPS
from slugkit.models.vlm import Vlm
from slugkit.models.weight_map import part_of
from slugkit.tasks import domain_of
from slugkit.tasks.questions import questions_about, talks_to_forget
from slugkit.unlearning.concept import MARGIN, search_along, search_layers
from slugkit.unlearning.methods import METHODS
from slugkit.unlearning.pipeline import (
    STOP_RATIO,
    UA,
    deepest_first,
    read_by_encoder,
    search_on_pipeline,
    search_set,
)
from slugkit.unlearning.result import Directions, front_layers
from slugkit.unlearning.retain import RetainSide
from slugkit.unlearning.vlm import (
    FORGOTTEN,
    answer_gradient,
    paper_layer,
    search_on_vlm,
    writing_layers,
)


@dataclass
class Job:
    """What a family needs to know of one call of `unlearn`: whose gradients, about what, and how.

    data is None where the caller brings the pairs; damping is SLUG-R's.
    """

    clip: Clip
    data: Source | None
    concept: str
    method: str
    forget: Pairs
    side: RetainSide
    g_forget: Directions = field(default_factory=dict)
    damping: float = 0.01
    seed: int = 0

    @property
    def retain_aware(self) -> bool:
        """Whether the method steps along what the retain set hardly feels."""
        return METHODS[self.method].retain_aware

    @property
    def margin(self) -> dict[str, float] | None:
        """How many times the step found the method takes, by tower, where nobody says otherwise."""
        return MARGIN if self.retain_aware and METHODS[self.method].margin else None


def _leave_on_front(table: pd.DataFrame, layer: str) -> None:
    """In the table this layer alone stays on the front; the column pareto says which were."""
    table["pareto"], table["front"] = table["front"], table["layer"] == layer


@dataclass
class OnClip:
    """The step is searched on the CLIP: zero-shot, asked in every search wording.

    Attributes:
        target: which criterion, see `Criterion.among`.
        towers: those that are searched.
        which: "front", the layers on the Pareto front (the paper's rule), or another choice of
            `front_layers`.
        max_trials: probes of a layer, at most.
        margins: how many times the step that the search found is taken, by tower; None takes
            MARGIN for SLUG-R, and 1 for SLUG, as in the paper.
        at_most: share of the target that counts as forgotten.
        pairs_seen: pairs of gradients beside those of the CLIP.
    """

    target: str = "auto"
    towers: tuple[str, ...] = ("text", "vision")
    which: str = "front"
    max_trials: int = 10
    margins: dict[str, float] | None = None
    at_most: float = 0.0
    pairs_seen: int = 0

    def __post_init__(self):
        for tower in self.towers:
            require_choice(tower, ("text", "vision"), "The tower")

    def names(self, job: Job, table: pd.DataFrame) -> list[str]:
        """Those of the towers."""
        how = self.which, int(sha256_json([job.concept, job.seed])[:8], 16)
        return [n for tower in self.towers for n in front_layers(table, tower, *how)]

    def directions(self, job: Job, names: list[str]) -> Directions:
        """The forget gradient, or its retain-aware form."""
        if not job.retain_aware:
            return job.g_forget
        return retain_aware_directions(job.g_forget, job.side.moments(names), job.damping)

    def limits(self, job: Job) -> tuple:
        """First step (that of the search), probes and margins."""
        return 0.0, self.max_trials, job.margin if self.margins is None else self.margins

    def search(self, job: Job, along: Directions, names: list[str]) -> pd.DataFrame:
        """By the search exam."""
        exam = job.data.exam(job.concept, "search")
        criterion = Criterion.among(len(exam.classes(exam.target_domain)), self.target)
        return search_layers(job.clip, exam, along, names, criterion, *self.limits(job))


@dataclass
class OnObjective(OnClip):
    """The step is searched on what a caller measures.

    Attributes:
        objective: `forget()` gives fa1 and fa5, shares of the target that is still known, and
            `retain()` a score that is to stay high; both look at the CLIP as it then is.
        criterion: when the concept counts as forgotten.
    """

    objective: Measure | None = None
    criterion: Criterion = Criterion("fa1")

    def __post_init__(self):
        super().__post_init__()
        self.at_most = self.criterion.at_most

    def search(self, job: Job, along: Directions, names: list[str]) -> pd.DataFrame:
        """By the objective."""
        how = self.criterion, *self.limits(job)
        return search_along(job.clip, along, names, lambda layer: self.objective, *how)


@dataclass
class OnPipeline:
    """The step is searched on the pictures of a Stable Diffusion, as the authors do: the deepest
    layer of the front inside the text encoder's blocks.

    Attributes:
        pipe: a diffusers pipeline that holds the CLIP's text tower.
        judge: names what the pictures show.
        layers: how many are searched, the deepest of the front first; 1 is the authors' rule.
        ua: share of the target's search pictures that must no longer show it, above 0 to 1.
        sampling: denoising steps and guidance.
        stop_ratio: a search ends where the smallest forgetting step is this many times the largest
            that does not forget.
    """

    pipe: Any
    judge: Classifier | ClipJudge
    layers: int = 1
    max_trials: int = 10
    ua: float = UA
    sampling: tuple[int, float] = (STEPS, GUIDANCE)
    stop_ratio: float = STOP_RATIO
    which: str = "all"
    pairs_seen: int = 0

    @property
    def at_most(self) -> float:
        """Share of the target that counts as forgotten."""
        return 1 - self.ua

    def names(self, job: Job, table: pd.DataFrame) -> list[str]:
        """The deepest; in the table the first of them alone stays on the front."""
        found = deepest_first(table, part_of(job.clip.model, self.pipe, "text"))[: self.layers]
        _leave_on_front(table, found[0])
        return found

    def directions(self, job: Job, names: list[str]) -> Directions:
        """The forget gradient, or its form through what the text encoder reads of the captions."""
        if not job.retain_aware:
            return {name: weight_of(job.g_forget, name) for name in names}
        part, captions = part_of(job.clip.model, self.pipe, "text"), job.side.pairs.captions
        read = read_by_encoder(part, captions, names)
        return retain_aware_directions(job.g_forget, read, job.damping)

    def search(self, job: Job, along: Directions, names: list[str]) -> pd.DataFrame:
        """By the pictures of the search prompts."""
        asked = search_set(job.data, job.concept, self.layers)
        how = asked, domain_of(job.data, job.concept), self.max_trials, self.ua, *self.sampling
        given = job.clip, self.pipe, self.judge, along, names, *how
        return search_on_pipeline(*given, stop_ratio=self.stop_ratio)


@dataclass
class OnVlm:
    """The step is searched on the answers of a LLaVA: on the layer that the authors' code edits,
    and on those that write into what the language model reads.

    SLUG takes CLIP's forget gradient, as the authors' code does; SLUG-R the gradient of the model's
    own answers about the same pictures.

    Attributes:
        vlm: the model; its vision tower is the CLIP's.
        words: set of wordings, as of `questions_about`.
        size: search pictures of every other subject.
        paper_only: search the authors' layer alone.
        forgotten: share of the target's pictures that must lose the right name.
        target_size: search pictures of the target.
    """

    vlm: Vlm
    words: str = "paper"
    size: int = 4
    max_trials: int = 10
    paper_only: bool = False
    forgotten: float = FORGOTTEN
    which: str = "all"
    pairs_seen: int = 0
    target_size: int = 84

    @property
    def at_most(self) -> float:
        """Share of the target that counts as forgotten."""
        return 1 - self.forgotten

    def names(self, job: Job, table: pd.DataFrame) -> list[str]:
        """The authors' layer, which alone stays on the front of the table, and the others."""
        first = paper_layer(table, self.vlm)
        _leave_on_front(table, first)
        others = [] if self.paper_only else writing_layers(job.clip, self.vlm)
        return list(dict.fromkeys([first, *others]))

    def directions(self, job: Job, names: list[str]) -> Directions:
        """The forget gradient, or the retain-aware form of the model's own."""
        self.pairs_seen = 0
        if not job.retain_aware:
            return {name: weight_of(job.g_forget, name) for name in names}
        told = talks_to_forget(job.data, job.concept, len(job.forget), job.seed, self.words)
        told = own_words(self.vlm, told)
        self.pairs_seen = len(told.table)
        own = answer_gradient(self.vlm, told, names)
        return retain_aware_directions(own, job.side.moments(names), job.damping)

    def search(self, job: Job, along: Directions, names: list[str]) -> pd.DataFrame:
        """By the answers to the search questions."""
        given = job.data, job.concept, "search", self.words, self.target_size, self.size, False
        asked = own_words(self.vlm, questions_about(*given))
        how = asked, names, self.max_trials, self.forgotten
        return search_on_vlm(job.clip, self.vlm, along, *how)
