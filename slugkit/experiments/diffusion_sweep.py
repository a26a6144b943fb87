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
from slugkit.evaluation.diffusion import ARTIFACTS, measures, told_by
from slugkit.experiments.sweep import family_rows, made_by, sweep_concepts
from slugkit.models import Clip, load_clip
from slugkit.models.classifier import Classifier, load_classifier
from slugkit.models.diffusion import load_pipeline
from slugkit.models.fingerprint import weights_sha256
from slugkit.tasks import answer_set_of, domain_of
from slugkit.unlearning.families import OnPipeline
from slugkit.unlearning.pipeline import TRIALS, UA, pictures_drawn

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


def pipeline_rows(
    clip: Clip,
    pipe,
    judge: Classifier,
    source: Source,
    concept: str,
    size: int = 2,
    layers: int = SEVERAL,
    max_trials: int = TRIALS,
    ua: float = UA,
    **settings,
) -> list[dict]:
    """One row a method and set of layers ("front" is the deepest layer of the front), with the
    number of layers searched and pictures drawn.

    Args:
        size: report pictures of every other subject, 28 times as many of the target.
        layers, max_trials, ua: as of `OnPipeline`.
        settings: as of `unlearn`.
    """
    report = answer_set_of(source, concept, "report", 28 * size, size)
    domain = domain_of(source, concept)
    return family_rows(
        clip,
        pipe,
        source,
        concept,
        OnPipeline(pipe, judge, layers, max_trials, ua),
        lambda: measures(told_by(pipe, judge, report), domain),
        lambda found: {
            "searched": found.table["layer"].nunique(),
            "drawn": pictures_drawn(found.table),
        },
        **settings,
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
    settings: as of `pipeline_rows`. Raises UnknownConceptError, SearchFailedError for a concept
    that the pipeline does not draw.
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
