"""What a sweep measures on a LLaVA: the table behind data/studio/vlm_concepts.csv."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from slugkit.base import data_dir
from slugkit.data import Source, open_data
from slugkit.evaluate.vlm import answered, measures
from slugkit.evaluate.vlm_words import own_words
from slugkit.experiments.shared_tower import SharedTower
from slugkit.experiments.sweep import made_by, sweep_concepts
from slugkit.method.directions import retain_aware_directions
from slugkit.method.layers import weight_of
from slugkit.models import Clip, load_clip
from slugkit.models.fingerprint import weights_sha256
from slugkit.models.vlm import Vlm, load_vlm
from slugkit.tasks.paper_questions import questions_about, talks_to_forget
from slugkit.tasks.questions import question_set, stranger_set
from slugkit.unlearn.vlm import answer_gradient, paper_layer, search_on_vlm, writing_layers

SEARCHED = 84
"""Search pictures of the target."""


class OnVlm(SharedTower):
    """A concept forgotten in a LLaVA: searched on its own answers, on the paper's layer and on
    those that write.

    SLUG takes CLIP's forget gradient, as the authors' code does; SLUG-R the gradient of the model's
    answers about the same pictures. size: pictures of every other subject, of search and report.
    words: as of `questions_about`.
    """

    tower = "vision"

    def __init__(
        self, clip: Clip, vlm: Vlm, source: Source, concept: str, size=4, words="paper", **settings
    ):
        super().__init__(clip, vlm.model, source, concept, **settings)
        self.vlm, self.size, self.words = vlm, size, words

    def layers(self, table: pd.DataFrame) -> list[str]:
        """`paper_layer`, then `writing_layers`."""
        names = [paper_layer(table, self.vlm), *writing_layers(self.clip, self.vlm)]
        return list(dict.fromkeys(names))

    def directions(self, method: str, g_forget: dict, names: list[str]) -> tuple[dict, int]:
        """CLIP's gradient, or that of the answers, by layer."""
        if method == "SLUG":
            return {name: weight_of(g_forget, name) for name in names}, 0
        given = self.source, self.concept, self.forget_size, self.seed, self.words
        talks = own_words(self.vlm, talks_to_forget(*given))
        own = answer_gradient(self.vlm, talks, names)
        along = retain_aware_directions(own, self.side.moments(names), self.damping)
        return along, len(talks.table)

    def search(self, directions: dict, names: list[str]) -> pd.DataFrame:
        """The step on each layer, by the model's own answers."""
        given = self.source, self.concept, "search", self.words, SEARCHED, self.size, False
        asked = own_words(self.vlm, questions_about(*given))
        return search_on_vlm(self.clip, self.vlm, directions, asked, names, self.max_trials)

    def measures(self) -> dict[str, float]:
        """The outcomes on the report pictures, and the share of strangers who are not named."""
        world = self.source.world
        report = question_set(world, self.concept, "report", 28 * self.size, self.size)
        unknown = answered(self.vlm, stranger_set(world))["outcome"] == "no name"
        return measures(answered(self.vlm, report)) | {"strangers": float(unknown.mean())}


def vlm_rows(clip: Clip, vlm: Vlm, source: Source, concept: str, **settings) -> list[dict]:
    """One row a method and set of layers ("front" is `paper_layer`). settings: as of `OnVlm`."""
    return OnVlm(clip, vlm, source, concept, **settings).rows()


def vlm_sweep(
    concepts: list[str] | None = None,
    out: str | Path | None = None,
    vlm: str = "studio",
    clip: str = "studio",
    device: str = "auto",
    **settings,
) -> pd.DataFrame:
    """Forget each concept on its own, by both methods, and ask; goes on as
    `slugkit.experiments.sweep.sweep` does.

    concepts: None takes the ten report people. out: None writes data/studio/vlm_concepts.csv.
    settings: as of `OnVlm`. Raises UnknownConceptError, SearchFailedError for a concept that the
    model does not name.
    """
    net, llava, source = load_clip(clip, device), load_vlm(vlm, device), open_data("studio")
    return sweep_concepts(
        lambda concept: vlm_rows(net, llava, source, concept, **settings),
        source,
        concepts,
        source.world.report["person"],
        out or data_dir() / "studio" / "vlm_concepts.csv",
        made_by(weights_sha256(llava.model), settings),
        measures_of,
    )


def measures_of(table: pd.DataFrame) -> pd.DataFrame:
    """What `summarise` averages, a column each: the target's outcomes after in percent, and by how
    many points the others, neighbours and strangers (not named) and the battery changed.
    """
    outcomes = {"right name": "right_name", "right name, worst wording": "right_name_worst"}
    outcomes |= {"another name": "another_name", "no name": "no_name"}
    found = {f"{words} after": 100 * table[f"{key}_after"] for words, key in outcomes.items()}
    groups = {
        "others": "own",
        "neighbours": "neighbours",
        "strangers not named": "strangers",
        "battery": "battery",
    }
    for words, key in groups.items():
        found[f"{words} change"] = 100 * (table[f"{key}_after"] - table[f"{key}_before"])
    return pd.DataFrame(found)
