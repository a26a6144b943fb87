"""What a sweep measures on a Stable Diffusion: the table behind
data/studio/diffusion_concepts.csv.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import torch

from slugkit import studio
from slugkit.base import data_dir, sha256_json
from slugkit.data import Source, open_data
from slugkit.evaluate.diffusion import ARTIFACTS, measures, told_by
from slugkit.experiments.shared_tower import SharedTower
from slugkit.experiments.sweep import made_by, sweep_concepts
from slugkit.models import Clip, load_clip
from slugkit.models.classifier import Classifier, load_classifier
from slugkit.models.diffusion import load_pipeline
from slugkit.models.fingerprint import weights_sha256
from slugkit.models.weight_map import part_of
from slugkit.tasks.paper_prompts import answer_set_of, domain_of
from slugkit.unlearn.pipeline import (
    TRIALS,
    UA,
    deepest_first,
    directions_on_pipeline,
    pictures_drawn,
    search_on_pipeline,
)

NOVEL = "star-shaped house"
"""The odd combination that is reported, the studio's counterpart of the paper's avocado chair;
fixed before any search."""
SEVERAL = 4
"""Layers that both methods search, the authors' one among them."""


def concepts_drawn(world: studio.World) -> list[str]:
    """The first five people, two characters, two objects and two styles of the report concepts,
    and one odd combination.
    """
    report = world.report
    some = *report["person"][:5], *report["character"][:2], *report["object"][:2]
    return [*some, NOVEL, *report["style"][:2]]


class OnPipeline(SharedTower):
    """A concept forgotten in a pipeline: searched on its own pictures, on the first `layers` of
    `deepest_first`, the authors' one (the deepest of the front) before the others.

    SLUG and SLUG-R differ in the direction alone. size: report pictures of every other subject, 28
    times as many of the target. ua: as of `search_on_pipeline`. judge: a `Classifier`.
    """

    def __init__(
        self, clip, pipe, judge, source, concept, size=2, layers=SEVERAL, ua=UA, **settings
    ):
        super().__init__(clip, pipe, source, concept, **{"max_trials": TRIALS, **settings})
        self.judge, self.most, self.ua, self.at_most = judge, layers, ua, 1 - ua
        self.part, self.domain = part_of(clip.model, pipe, "text"), domain_of(source, concept)
        self.report = answer_set_of(source, concept, "report", 28 * size, size)

    def layers(self, table: pd.DataFrame) -> list[str]:
        """The first of `deepest_first`."""
        return deepest_first(table, self.part)[: self.most]

    def directions(self, method: str, g_forget: dict, names: list[str]) -> tuple[dict, int]:
        """`directions_on_pipeline`."""
        captions = self.side.pairs.captions
        given = method, g_forget, self.part, captions, names, self.damping
        return directions_on_pipeline(*given), 0

    def search(self, directions: dict, names: list[str]) -> pd.DataFrame:
        """The step on each layer, by the pictures that the pipeline draws."""
        asked = answer_set_of(self.source, self.concept, "search", 28, 1)
        given = directions, names, asked, self.domain, self.max_trials, self.ua
        return search_on_pipeline(self.clip, self.model, self.judge, *given)

    def measures(self) -> dict[str, float]:
        """UA, IRA, CRA and the artifact rate on the report pictures."""
        return measures(told_by(self.model, self.judge, self.report), self.domain)


def pipeline_rows(
    clip: Clip, pipe, judge: Classifier, source: Source, concept: str, **settings
) -> list[dict]:
    """One row a method and set of layers ("front" is the deepest layer of the front), with the
    number of layers searched and pictures drawn. settings: as of `OnPipeline`.
    """
    return OnPipeline(clip, pipe, judge, source, concept, **settings).rows(
        lambda found: {
            "searched": found.probes["layer"].nunique(),
            "drawn": pictures_drawn(found.probes),
        }
    )


def pipeline_sha256(pipe, judge: Classifier) -> str:
    """Of all networks that draw and judge."""
    parts = [part for _, part in sorted(pipe.components.items())]
    networks = [part for part in parts if isinstance(part, torch.nn.Module)]
    return sha256_json([weights_sha256(network) for network in (*networks, judge.model)])


def diffusion_sweep(
    concepts: list[str] | None = None,
    out: str | Path | None = None,
    pipeline: str = "studio",
    clip: str = "studio",
    device: str = "auto",
    **settings,
) -> pd.DataFrame:
    """Forget each concept on its own, by both methods, and judge the pictures; goes on as
    `slugkit.experiments.sweep.sweep` does.

    concepts: None takes `concepts_drawn`. out: None writes data/studio/diffusion_concepts.csv.
    settings: as of `OnPipeline`. Raises UnknownConceptError, SearchFailedError for a concept that
    the pipeline does not draw.
    """
    net, pipe = load_clip(clip, device), load_pipeline(pipeline, device)
    source, judge = open_data("studio"), load_classifier(device=device)
    return sweep_concepts(
        lambda concept: pipeline_rows(net, pipe, judge, source, concept, **settings),
        source,
        concepts,
        concepts_drawn(source.world),
        out or data_dir() / "studio" / "diffusion_concepts.csv",
        made_by(pipeline_sha256(pipe, judge), settings),
        measures_of,
    )


def measures_of(table: pd.DataFrame) -> pd.DataFrame:
    """What `summarise` averages, a column each: UA and the artifact rate after in percent, and by
    how many points IRA, CRA and the neighbours changed.
    """
    found = {"UA": 100 * table["ua_after"]}
    for words, key in (("IRA", "ira"), ("CRA", "cra"), ("neighbours", "near")):
        found[f"{words} change"] = 100 * (table[f"{key}_after"] - table[f"{key}_before"])
    return pd.DataFrame(found | {f"{ARTIFACTS} after": 100 * table[f"{ARTIFACTS}_after"]})
