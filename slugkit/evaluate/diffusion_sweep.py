"""Several concepts on the studio's Stable Diffusion, one at a time: the table behind data/studio/diffusion_concepts.csv."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from slugkit import studio
from slugkit.base import SearchFailedError, data_dir, sha256_json, sha256_tensor
from slugkit.data import open_data
from slugkit.evaluate.concept import forget_concept, winning_patch
from slugkit.evaluate.diffusion import measures, told_by
from slugkit.evaluate.pipeline_search import ENERGY, UA, search_on_pipeline, spared
from slugkit.evaluate.prompts import answer_set
from slugkit.evaluate.sweep import one_at_a_time
from slugkit.evaluate.transfer import in_both, transferable
from slugkit.models import load_clip
from slugkit.models.classifier import load_classifier
from slugkit.models.diffusion import load_pipeline
from slugkit.patch import Patch
from slugkit.ranking import short

NOVEL = "star-shaped house"
"""The odd combination that is reported, the studio's counterpart of the paper's avocado chair; fixed before any search."""
CRITERIA = {"clip": "CLIP's criterion", "ua": "UA on search prompts", "off span": "UA on search prompts, step off the retain set's span"}


def concepts_drawn(world: studio.World) -> list[str]:
    """The first five people, two characters, two objects and two styles of the report concepts, and one odd combination."""
    report = world.report
    return [*report["person"][:5], *report["character"][:2], *report["object"][:2], NOVEL, *report["style"][:2]]


class DiffusionSweep:
    """The models and the settings that all concepts share. size: report pictures of every other subject; layers: on how many
    layers the search on the pipeline must succeed before it ends. energy: of the steps off the span, as in `spared`."""

    def __init__(self, pipeline: str = "studio", clip: str = "studio", size: int = 2, layers: int = 2, trials: int = 6,
                 energy: float = ENERGY, seed: int = 0, device: str = "auto"):
        self.clip, self.pipe, self.judge = load_clip(clip, device), load_pipeline(pipeline, device), load_classifier(device=device)
        self.source, self.size, self.layers, self.trials, self.energy, self.seed = open_data("studio"), size, layers, trials, energy, seed

    def _edits(self, concept: str, domain: str) -> Iterator[tuple[str, Patch | None]]:
        """Criterion and the edit it chose; None where no layer forgets."""
        search = answer_set(self.source.world, concept, "search", 28, 1)
        found = forget_concept(self.clip, self.source, concept, seed=self.seed, towers=("text",))
        starts = transferable(found.probes, self.pipe)
        directions, off = spared(self.clip, self.pipe, self.source, concept, found.g_forget, self.energy, seed=self.seed)
        for criterion, along, begin in (("clip", found.g_forget, starts), ("ua", found.g_forget, starts), ("off span", directions, off)):
            probes, at_most = found.probes[found.probes["layer"].isin(starts["layer"])], 0.0
            if criterion != "clip":
                probes, at_most = search_on_pipeline(self.clip, self.pipe, self.judge, along, begin, search, domain, self.layers, self.trials), 1 - UA
            try:
                yield criterion, winning_patch(self.clip, along, probes, "text", concept, at_most=at_most)
            except SearchFailedError:
                yield criterion, None

    def rows(self, concept: str) -> list[dict]:
        """Before the edit, and with the step that each criterion chose: one dict each."""
        kind = self.source.kind(concept)
        domain = studio.KINDS[kind]
        report = answer_set(self.source.world, concept, "report", 28 * self.size, self.size)
        rows = [{"criterion": "none", **measures(told_by(self.pipe, self.judge, report), domain)}]
        for criterion, edit in self._edits(concept, domain):
            if edit is None:
                rows.append({"criterion": criterion, "layer": "none forgets"})
                continue
            with in_both(edit, self.clip, self.pipe):
                told = told_by(self.pipe, self.judge, report)
            rows.append({"criterion": criterion, "layer": short(edit.layer), "rho": edit.rho, "lam": edit.lam, **measures(told, domain)})
        return [{"concept": concept, "kind": kind, **row} for row in rows]


def diffusion_sweep(concepts: list[str] | None = None, out: str | Path | None = None, **settings) -> pd.DataFrame:
    """Forget each concept on its own and judge the pictures. Writes a CSV after every concept and returns the table.

    concepts: None takes `concepts_drawn`. out: None writes data/studio/diffusion_concepts.csv; rows about other concepts made with
    the same UNet stay. settings: as of `DiffusionSweep`. Raises UnknownConceptError before anything starts.
    """
    world = studio.load_world()
    order = concepts_drawn(world)
    for concept in concepts or []:
        world.kind(concept)
    run, path = DiffusionSweep(**settings), Path(out) if out else data_dir() / "studio" / "diffusion_concepts.csv"
    weights = sha256_json([sha256_tensor(p) for p in run.pipe.unet.parameters()])[:16]
    return one_at_a_time(run.rows, concepts or order, order, path, weights)


def averages(table: pd.DataFrame) -> pd.DataFrame:
    """Means over concepts by criterion, in percent, with the change against the unedited pipeline in points.

    Columns criterion, ua, ira, cra, ira_change, cra_change, lowest_ua, of (its concept), n (concepts).
    """
    before = table[table["criterion"] == "none"].set_index("concept")
    rows = []
    for criterion in CRITERIA:
        mine = table[(table["criterion"] == criterion) & table["ua"].notna()].set_index("concept")
        if mine.empty:
            continue
        change = {k: 100 * float(np.mean(mine[k] - before.loc[mine.index, k])) for k in ("ira", "cra")}
        rows.append({"criterion": CRITERIA[criterion], **{k: 100 * mine[k].mean() for k in ("ua", "ira", "cra")},
                     "ira_change": change["ira"], "cra_change": change["cra"], "lowest_ua": 100 * mine["ua"].min(), "of": mine["ua"].idxmin(), "n": len(mine)})
    return pd.DataFrame(rows)
