"""Several concepts on the studio's Stable Diffusion, one at a time, by both methods: the table
behind data/studio/diffusion_concepts.csv."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

import pandas as pd

from slugkit import studio
from slugkit.base import SearchFailedError, data_dir, peak_memory, sha256_json, sha256_tensor
from slugkit.data import open_data
from slugkit.evaluate.concept import DAMPING, METHODS, score_layers, winning_patch
from slugkit.evaluate.diffusion import ARTIFACTS, measures, told_by
from slugkit.evaluate.pipeline_search import (
    TRIALS,
    UA,
    costs_of,
    deepest_first,
    directions_on_pipeline,
    search_on_pipeline,
)
from slugkit.evaluate.prompts import answer_set
from slugkit.evaluate.retain import RetainSide
from slugkit.evaluate.sweep import one_at_a_time, over_concepts
from slugkit.evaluate.transfer import in_both
from slugkit.gradients import forget_gradient
from slugkit.models import load_clip
from slugkit.models.classifier import load_classifier
from slugkit.models.diffusion import load_pipeline
from slugkit.patch import Patch
from slugkit.ranking import short

NOVEL = "star-shaped house"
"""The odd combination that is reported, the studio's counterpart of the paper's avocado chair;
fixed before any search."""
DEEPEST, SEVERAL = "deepest", "several"
"""The layers of a row: the deepest of the front alone, as in the authors' code, or the best of
several."""
MEASURES = {"UA": "ua", "IRA change": "ira", "CRA change": "cra", "neighbours change": "near"}
"""What is averaged over concepts -> its column."""


def concepts_drawn(world: studio.World) -> list[str]:
    """The first five people, two characters, two objects and two styles of the report concepts,
    and one odd combination.
    """
    report = world.report
    some = *report["person"][:5], *report["character"][:2], *report["object"][:2]
    return [*some, NOVEL, *report["style"][:2]]


class DiffusionSweep:
    """The models and the settings that all concepts share.

    size: report pictures of every other subject. layers: how many of `deepest_first` both methods
    search; the first alone makes the rows "deepest". trials: probes on each. damping: of SLUG-R.
    """

    def __init__(
        self,
        pipeline: str = "studio",
        clip: str = "studio",
        size: int = 2,
        layers: int = 4,
        trials: int = TRIALS,
        damping: float = DAMPING,
        forget_size: int = 120,
        seed: int = 0,
        device: str = "auto",
    ):
        self.clip, self.pipe = load_clip(clip, device), load_pipeline(pipeline, device)
        self.judge, self.source = load_classifier(device=device), open_data("studio")
        self.size, self.layers, self.trials, self.damping = size, layers, trials, damping
        self.forget_size, self.seed = forget_size, seed

    def _edits(self, concept: str, domain: str) -> Iterator[tuple[dict, Patch | None]]:
        """Method, layers and what they took, and the edit; None where no layer forgets."""
        clock = perf_counter()
        side = RetainSide(self.clip, self.source, [concept], seed=self.seed)
        forget = self.source.forget_set(concept, self.forget_size, self.seed)
        g_forget = forget_gradient(self.clip, forget, side.batch_size)
        table = score_layers(self.clip, g_forget, side.gradient, parts=side.parts)
        names = deepest_first(table, self.pipe)[: self.layers]
        search = answer_set(self.source.world, concept, "search", 28, 1)
        models, ranked = (self.clip, self.pipe, self.judge), perf_counter() - clock
        for method in METHODS:
            with peak_memory() as peak:
                clock, given = perf_counter(), (side.pairs.captions, names, self.damping)
                along = directions_on_pipeline(method, g_forget, self.pipe, *given)
                begun = ranked + perf_counter() - clock
                probes = search_on_pipeline(*models, along, names, search, domain, self.trials)
            for which, some in ((DEEPEST, probes[probes["layer"] == names[0]]), (SEVERAL, probes)):
                took = {"pairs": len(forget) + side.pairs_seen, **costs_of(some)}
                took |= {"seconds": begun + took["seconds"], "peak_mb": peak[0]}
                given = self.clip, along, some, "text", concept
                try:
                    edit = winning_patch(*given, {"method": method}, 1 - UA)
                except SearchFailedError:
                    edit = None
                yield {"method": method, "layers": which, **took}, edit

    def rows(self, concept: str) -> list[dict]:
        """Before the edit, and after that of each method and set of layers: one dict each."""
        kind = self.source.kind(concept)
        domain = studio.KINDS[kind]
        report = answer_set(self.source.world, concept, "report", 28 * self.size, self.size)
        before = measures(told_by(self.pipe, self.judge, report), domain)
        rows = [{"method": "none", "layers": "", **before}]
        for row, edit in self._edits(concept, domain):
            if edit is None:
                rows.append({**row, "layer": "none forgets"})
                continue
            with in_both(edit, self.clip, self.pipe):
                told = told_by(self.pipe, self.judge, report)
            step = {"layer": short(edit.layer), "rho": edit.rho, "lam": edit.lam}
            rows.append({**row, **step, **measures(told, domain)})
        return [{"concept": concept, "kind": kind, **row} for row in rows]


def diffusion_sweep(
    concepts: list[str] | None = None, out: str | Path | None = None, **settings
) -> pd.DataFrame:
    """Forget each concept on its own by both methods and judge the pictures. Writes a CSV after
    every concept and returns the table.

    concepts: None takes `concepts_drawn`. out: None writes data/studio/diffusion_concepts.csv; rows
    about other concepts made with the same UNet stay. settings: as of `DiffusionSweep`. Raises
    UnknownConceptError before anything starts.
    """
    world = studio.load_world()
    order = concepts_drawn(world)
    for concept in concepts or []:
        world.kind(concept)
    run = DiffusionSweep(**settings)
    path = Path(out) if out else data_dir() / "studio" / "diffusion_concepts.csv"
    weights = sha256_json([sha256_tensor(p) for p in run.pipe.unet.parameters()])[:16]
    return one_at_a_time(run.rows, concepts or order, order, path, weights)


def averages(table: pd.DataFrame) -> pd.DataFrame:
    """Over concepts, from the table of `diffusion_sweep`, in percent and points: both methods, and
    SLUG-R minus SLUG in pairs.

    One row for each set of layers, method and measure: UA after, the change of IRA, CRA and of the
    neighbours against the unedited pipeline, and the artifact rate after. Columns layers, method,
    measure, mean, median, low, high (95 % bootstrap over concepts; NaN for fewer than five), worst
    (the lowest; of artifacts the highest), of which concept, n (those that a layer forgot).
    """
    before = table[table["method"] == "none"].set_index("concept")
    rows = []
    for which, part in table[table["method"] != "none"].groupby("layers", sort=False):
        by = {}
        for method in METHODS:
            mine = part[(part["method"] == method) & part["ua"].notna()].set_index("concept")
            own = {m: 100 * mine[c] for m, c in MEASURES.items() if c in mine}
            for name in [m for m in own if m.endswith("change")]:
                own[name] -= 100 * before.loc[mine.index, MEASURES[name]]
            by[method] = pd.DataFrame(own | {ARTIFACTS: 100 * mine[ARTIFACTS]})
        by["SLUG-R minus SLUG"] = (by["SLUG-R"] - by["SLUG"]).dropna(how="all")
        for method, found in by.items():
            rows += [
                {"layers": which, "method": method, "measure": name}
                | over_concepts(found[name], largest=name == ARTIFACTS)
                for name in found
                if found[name].notna().any()
            ]
    return pd.DataFrame(rows)
