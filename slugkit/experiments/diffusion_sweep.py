"""A concept forgotten in a Stable Diffusion by both methods, and several one at a time: the table
behind data/studio/diffusion_concepts.csv.
"""

from __future__ import annotations

from pathlib import Path
from time import perf_counter

import numpy as np
import pandas as pd

from slugkit import studio
from slugkit.base import data_dir, peak_memory, sha256_json, sha256_tensor, write_csv
from slugkit.data import Source, open_data
from slugkit.evaluate.clip_judge import ClipJudge
from slugkit.evaluate.diffusion import ARTIFACTS, measures, told_by
from slugkit.experiments.sweep import one_at_a_time, summarise
from slugkit.method.layers import short
from slugkit.models import Clip, load_clip
from slugkit.models.classifier import Classifier, load_classifier
from slugkit.models.diffusion import load_pipeline
from slugkit.models.weight_map import part_of
from slugkit.tasks.paper_prompts import answer_set_of, domain_of
from slugkit.unlearn.concept import DAMPING, METHODS, score_layers
from slugkit.unlearn.gradients import forget_gradient
from slugkit.unlearn.pipeline import (
    TRIALS,
    UA,
    deepest_first,
    directions_on_pipeline,
    pictures_drawn,
    search_on_pipeline,
)
from slugkit.unlearn.result import Result
from slugkit.unlearn.retain import RetainSide
from slugkit.unlearn.transfer import in_both

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


def forget_on_pipeline(
    clip: Clip,
    pipe,
    judge: Classifier | ClipJudge,
    source: Source,
    concept: str,
    method: str = "SLUG",
    *,
    forget_size: int = 120,
    retain_size: int = 2560,
    batch_size: int = 128,
    layers: int = SEVERAL,
    max_trials: int = TRIALS,
    ua: float = UA,
    damping: float = DAMPING,
    seed: int = 0,
    shared: RetainSide | None = None,
    ranked: Result | None = None,
) -> Result:
    """Search the step on a pipeline's own pictures, on the first `layers` of `deepest_first`.

    SLUG and SLUG-R differ in the direction alone (`directions_on_pipeline`): layers, probes, search
    pictures and criterion are the same. `on_front` of what is returned is the authors' rule: the
    deepest layer of the front alone.

    max_trials: probes on each layer. ua: as of `search_on_pipeline`. shared, ranked and the rest:
    as of `slugkit.unlearn.concept.unlearn`. Both models are left as they were.
    """
    start = perf_counter()
    with peak_memory() as peak:
        search = answer_set_of(source, concept, "search", 28, 1)
        part = part_of(clip.model, pipe, "text")
        side = shared or RetainSide(clip, source, [concept], retain_size, batch_size, seed)
        side.require(concept)
        forget = source.forget_set(concept, forget_size, seed)
        if ranked:
            g_forget, table, names = ranked.g_forget, ranked.layers, list(ranked.directions)
        else:
            g_forget = forget_gradient(clip, forget, batch_size)
            table = score_layers(clip, g_forget, side.gradient, parts=side.parts)
            names = deepest_first(table, part)[:layers]
            table["front"] = table["layer"] == names[0]
        given = g_forget, part, side.pairs.captions, names, damping
        along = directions_on_pipeline(method, *given)
        given = along, names, search, domain_of(source, concept), max_trials, ua
        probes = search_on_pipeline(clip, pipe, judge, *given)
    costs = {"pairs": len(forget) + side.pairs_seen, "probes": len(probes)}
    costs |= {"seconds": perf_counter() - start, "peak_mb": peak[0]}
    kept = {"g_forget": g_forget, "directions": along, "which": "all", "at_most": 1 - ua}
    return Result(concept, method, table, probes, costs=costs, **kept).choose(clip)


def pipeline_rows(
    clip: Clip, pipe, judge: Classifier, source: Source, concept: str, size: int = 2, **settings
) -> list[dict]:
    """One row a method and set of layers ("front" is the deepest layer of the front): what was
    chosen, what it took, and every measure before and after.

    size: report pictures of every other subject, 28 times as many of the target. settings: as of
    `forget_on_pipeline`.
    """
    report, domain = (
        answer_set_of(source, concept, "report", 28 * size, size),
        domain_of(source, concept),
    )

    def now() -> dict[str, float]:
        return measures(told_by(pipe, judge, report), domain)

    side = settings.pop("shared", None) or RetainSide(
        clip, source, [concept], seed=settings.get("seed", 0)
    )
    found: list[Result] = []
    for method in METHODS:
        given = {"shared": side, "ranked": found[0] if found else None, **settings}
        found.append(forget_on_pipeline(clip, pipe, judge, source, concept, method, **given))
    before, rows, known = now(), [], {}
    for each in [part for whole in found for part in (whole.on_front(clip), whole)]:
        row = {"concept": concept, "kind": source.kind(concept), "tower": "text"}
        row |= {"method": each.method, "layers": each.which, "winner": "none forgets"}
        row |= {"searched": each.table["layer"].nunique(), **each.costs}
        row |= {"drawn": pictures_drawn(each.table)}
        edit = each.patches.get("text")
        if edit and edit.sha256 not in known:
            with in_both(edit, clip, pipe):
                known[edit.sha256] = now()
        if edit:
            row |= {"winner": short(edit.layer), "rho": edit.rho, "lam": edit.lam}
        after = known[edit.sha256] if edit else dict.fromkeys(before, np.nan)
        for stage, told in (("before", before), ("after", after)):
            row |= {f"{name}_{stage}": value for name, value in told.items()}
        rows.append(row)
    return rows


def diffusion_sweep(
    concepts: list[str] | None = None,
    out: str | Path | None = None,
    pipeline: str = "studio",
    clip: str = "studio",
    device: str = "auto",
    **settings,
) -> pd.DataFrame:
    """Forget each concept on its own, by both methods, and judge the pictures. Writes a CSV after
    every concept and returns the table.

    concepts: None takes `concepts_drawn`. out: None writes data/studio/diffusion_concepts.csv;
    beside it, under the same name with `_summary`, the means over concepts. Rows about other
    concepts made with the same UNet stay. settings: as of `pipeline_rows`. Raises
    UnknownConceptError before anything starts, SearchFailedError for a concept that the pipeline
    does not draw.
    """
    net, pipe, source = (
        load_clip(clip, device),
        load_pipeline(pipeline, device),
        open_data("studio"),
    )
    judge, order = load_classifier(device=device), concepts_drawn(source.world)
    for concept in concepts or []:
        source.kind(concept)
    path = Path(out) if out else data_dir() / "studio" / "diffusion_concepts.csv"
    weights = sha256_json([sha256_tensor(p) for p in pipe.unet.parameters()])[:16]

    def rows_of(concept: str) -> list[dict]:
        return pipeline_rows(net, pipe, judge, source, concept, **settings)

    table = one_at_a_time(rows_of, concepts or order, order, path, weights)
    write_csv(path.with_stem(f"{path.stem}_summary"), summarise(table, measures_of).round(3))
    return table


def measures_of(table: pd.DataFrame) -> pd.DataFrame:
    """What `summarise` averages, a column each: UA and the artifact rate after in percent, and by
    how many points IRA, CRA and the neighbours changed.
    """
    found = {"UA": 100 * table["ua_after"]}
    for words, key in (("IRA", "ira"), ("CRA", "cra"), ("neighbours", "near")):
        found[f"{words} change"] = 100 * (table[f"{key}_after"] - table[f"{key}_before"])
    return pd.DataFrame(found | {f"{ARTIFACTS} after": 100 * table[f"{ARTIFACTS}_after"]})
