"""What a sweep measures on a Stable Diffusion and on a LLaVA, which share a tower with a CLIP: the
tables behind data/studio/diffusion_concepts.csv and data/studio/vlm_concepts.csv.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from slugkit import studio
from slugkit.base import sha256_json
from slugkit.data import Source, StudioSource, open_data
from slugkit.evaluation import vlm as answers
from slugkit.evaluation.diffusion import ARTIFACTS, measures, networks_sha256, told_by
from slugkit.evaluation.vlm import answered
from slugkit.experiments.cluster import Cluster
from slugkit.experiments.sweep import (
    asking_on,
    both_methods,
    change,
    chosen,
    made_by,
    place_of,
    retain_of,
    sweep_concepts,
)
from slugkit.models import Clip, load_clip
from slugkit.models.classifier import Classifier, load_classifier
from slugkit.models.diffusion import load_pipeline
from slugkit.models.fingerprint import weights_sha256
from slugkit.models.vlm import Vlm, load_vlm
from slugkit.tasks import answer_set_of, domain_of
from slugkit.tasks.questions import question_set, stranger_set
from slugkit.unlearning.call import unlearn
from slugkit.unlearning.families import OnPipeline, OnVlm
from slugkit.unlearning.pipeline import TRIALS, pictures_drawn
from slugkit.unlearning.result import Result

NOVEL = "star-shaped house"
"""The odd combination that is reported, the studio's counterpart of the paper's avocado chair;
fixed before any search."""
SEVERAL = 4
"""Layers that both methods search, the authors' one among them."""


def family_rows(
    clip: Clip,
    model: Any,
    source: Source,
    concept: str,
    on: OnPipeline | OnVlm,
    now: Callable[[Any], dict[str, float]],
    more: Callable[[Result], dict] = lambda found: {},
    **settings,
) -> list[dict]:
    """One row a method and set of layers, of a model that shares a tower with a CLIP: what was
    chosen, what it took, and every measure before and after.

    Args:
        model: what the edit is put into.
        on: the family on which the step is searched.
        now: a model -> every measure of it as it stands.
        more: columns of its own, by what was found.
        settings: as of `unlearn`.
    """
    side = settings.pop("shared", None) or retain_of(clip, source, concept, **settings)

    def search(method: str, ranked: Result | None) -> Result:
        given = {"on": on, "shared": side, "ranked": ranked, **settings}
        return unlearn(clip, source, concept, method, **given)

    return measured_rows(both_methods(clip, search), model, source.kind(concept), now, more)


def measured_rows(
    found: list[Result],
    model: Any,
    kind: str,
    now: Callable[[Any], dict[str, float]],
    more: Callable[[Result], dict],
) -> list[dict]:
    """One row a result, as of `family_rows`. kind: the concept's."""
    before, rows, known = now(model), [], {}
    for each in found:
        edit = next(iter(each.patches.values()), None)
        if edit and edit.sha256 not in known:
            with each.applied(model) as edited:
                known[edit.sha256] = now(edited)
        after = known[edit.sha256] if edit else dict.fromkeys(before, np.nan)
        row = chosen(each, each.table["tower"].iloc[0], kind) | more(each)
        row |= {f"{name}_before": value for name, value in before.items()}
        rows.append(row | {f"{name}_after": value for name, value in after.items()})
    return rows


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
    layers: int = SEVERAL,
    max_trials: int = TRIALS,
    **settings,
) -> list[dict]:
    """`family_rows` of a pipeline, "front" being the deepest layer of the front, with the number of
    layers searched and pictures drawn.

    layers, max_trials: as of `OnPipeline`. settings: as of `unlearn`.
    """

    def more(found: Result) -> dict:
        searched = found.table["layer"].nunique()
        return {"searched": searched, "drawn": pictures_drawn(found.table)}

    on, now = OnPipeline(pipe, judge, layers, max_trials), drawn_now(judge, source, concept)
    return family_rows(clip, pipe, source, concept, on, now, more, **settings)


def drawn_now(judge: Classifier, source: Source, concept: str) -> Callable[[Any], dict[str, float]]:
    """A pipeline -> every measure of its pictures of the report prompts."""
    report = answer_set_of(source, concept, "report", 56, 2)
    domain = domain_of(source, concept)
    return lambda pipe: measures(told_by(pipe, judge, report), domain)


def pipeline_sha256(pipe, judge: Classifier) -> str:
    """Of all networks that draw and judge."""
    return sha256_json([*networks_sha256(pipe), weights_sha256(judge.model)])


@lru_cache(maxsize=1)
def opened_family(
    family: str, model: str, clip: str, device: str = "auto"
) -> tuple[Clip, Source, OnPipeline | OnVlm, str]:
    """The CLIP, the data, on what a step is searched, and what the table is made with; loaded once
    in a process.
    """
    net, source = load_clip(clip, device), open_data("studio")
    if family == "vlm":
        on = OnVlm(load_vlm(model, device), "paper", 4)
        return net, source, on, made_by(weights_sha256(on.vlm.model), {})
    pipe, judge = load_pipeline(model, device), load_classifier(device=device)
    made = made_by(pipeline_sha256(pipe, judge), {})
    return net, source, OnPipeline(pipe, judge, SEVERAL), made


def _rows(
    family: str, model: str, clip: str, device: str, settings: dict, concept: str
) -> list[dict]:
    """The rows of one concept, in whatever process."""
    net, source, on, _ = opened_family(family, model, clip, device)
    if family == "vlm":
        return vlm_rows(net, on.vlm, source, concept, **settings)
    return pipeline_rows(net, on.pipe, on.judge, source, concept, **settings)


def family_sweep(
    family: str,
    concepts: list[str] | None = None,
    out: str | Path | None = None,
    model: str = "studio",
    clip: str = "studio",
    device: str = "auto",
    processes: int | Cluster = 1,
    **settings,
) -> pd.DataFrame:
    """Forget each concept on its own, by both methods, and judge the pictures ("diffusion") or ask
    ("vlm"); goes on as `slugkit.experiments.sweep.sweep` does.

    concepts: None takes `concepts_drawn`, or the ten report people. out: None writes
    data/studio/FAMILY_concepts.csv. processes: concepts at once, or a `Cluster`. settings: as of
    `pipeline_rows` or `vlm_rows`. Raises UnknownConceptError, SettingError for a model of one's own
    without a file, SearchFailedError for a concept that the model does not know.
    """
    path = place_of(out, f"{family}_concepts.csv", model, clip, **settings)
    _, source, _, made = opened_family(family, model, clip, asking_on(processes, device))
    drawn = family == "diffusion"
    order = concepts_drawn(source.world) if drawn else source.world.report["person"]
    return sweep_concepts(
        partial(_rows, family, model, clip, device, settings),
        source,
        concepts,
        order,
        path,
        made_by(made, settings),
        MEASURES[family],
        processes=processes,
    )


def vlm_rows(
    clip: Clip, vlm: Vlm, source: Source, concept: str, max_trials: int = 10, **settings
) -> list[dict]:
    """`family_rows` of a LLaVA, "front" being `paper_layer`; settings: as of `unlearn`."""
    on = OnVlm(vlm, "paper", 4, max_trials)
    return family_rows(clip, vlm, source, concept, on, asked_now(source, concept), **settings)


def asked_now(source: StudioSource, concept: str) -> Callable[[Any], dict[str, float]]:
    """A LLaVA -> every measure of its answers to the report questions."""
    report = question_set(source.world, concept, "report", 112, 4)
    strangers = stranger_set(source.world)

    def now(vlm: Vlm) -> dict[str, float]:
        unknown = answered(vlm, strangers)["outcome"] == "no name"
        return answers.measures(answered(vlm, report)) | {"strangers": float(unknown.mean())}

    return now


def _averaged(names: dict[str, str], table: pd.DataFrame) -> pd.DataFrame:
    """What `summarise` averages, a column each: by how many points it changed, or after in percent.
    names: of the columns -> a measure of the table.
    """
    changes = {name: change(table, key) for name, key in names.items() if name.endswith(" change")}
    after = {name: 100 * table[f"{names[name]}_after"] for name in names.keys() - changes.keys()}
    return pd.DataFrame(changes | after)[list(names)]


DRAWN = {"UA": "ua", "IRA change": "ira", "CRA change": "cra", "neighbours change": "near"}
DRAWN |= {f"{ARTIFACTS} after": ARTIFACTS}
ASKED = {"right name after": "right_name", "right name, worst wording after": "right_name_worst"}
ASKED |= {"another name after": "another_name", "no name after": "no_name"}
ASKED |= {"others change": "own", "neighbours change": "neighbours"}
ASKED |= {"strangers not named change": "strangers", "battery change": "battery"}
MEASURES = {"diffusion": partial(_averaged, DRAWN), "vlm": partial(_averaged, ASKED)}
"""Family -> what is averaged over concepts, of its table."""
