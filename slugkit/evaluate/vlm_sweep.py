"""Several people on the studio's LLaVA, one at a time and by every way of choosing the step: the table behind data/studio/vlm_concepts.csv."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from slugkit.base import SearchFailedError, data_dir, sha256_json, sha256_tensor
from slugkit.data import open_data
from slugkit.evaluate.concept import Forgetting, forget_concept, front_layers, winning_patch
from slugkit.evaluate.statistics import bootstrap_mean
from slugkit.evaluate.sweep import one_at_a_time
from slugkit.evaluate.transfer import in_both, transferable
from slugkit.evaluate.vlm import answered, measures, question_set, retain_talks, training_set
from slugkit.evaluate.vlm_measure import FORGOTTEN, answer_gradient, factors, search_on_vlm, writing_layers
from slugkit.gradients import counterweighted, off_span, preconditioned
from slugkit.models import load_clip
from slugkit.models.layers import weight_of
from slugkit.models.acting import unused_layers
from slugkit.models.vlm import load_vlm
from slugkit.patch import Patch
from slugkit.ranking import short

METHODS = {"rule": "paper's rule: first front, CLIP's criterion", "clip": "CLIP's criterion", "answers": "CLIP's gradient, searched on answers",
           "own": "own gradient, searched on answers", "own off span": "own gradient off the span, searched on answers",
           "own preconditioned": "own gradient preconditioned, searched on answers", "own counterweighted": "own gradient preconditioned, with a counterweight, searched on answers"}
"""How the step is chosen -> in words."""
ENERGY, DAMPING, COUNTERWEIGHT = 0.9, 0.1, 2.0
"""Share of the retain set's layer inputs that a direction is taken off; damping and counterweight of the preconditioned one."""


class VlmSweep:
    """The models and the settings that all concepts share. size, search_size: report and search pictures of every other subject; trials: probes per layer;
    forgotten: as of `search_on_vlm`; forget_size: conversations about the target, at most, for the model's own gradient."""

    def __init__(self, vlm: str = "studio", clip: str = "studio", size: int = 4, search_size: int = 4, trials: int = 10, forgotten: float = FORGOTTEN, forget_size: int = 400,
                 seed: int = 0, device: str = "auto"):
        self.clip, self.vlm, self.source = load_clip(clip, device), load_vlm(vlm, device), open_data("studio")
        self.size, self.search_size, self.trials = size, search_size, trials
        self.forgotten, self.forget_size, self.seed = forgotten, forget_size, seed

    def _searched(self, concept: str, found: Forgetting) -> Iterator[tuple[str, dict, pd.DataFrame]]:
        """Method, directions and probes of every search on answers; CLIP's front is searched, with the counterweight the layers that write."""
        front = [n for n in front_layers(found.layers, "vision") if n not in unused_layers(self.vlm.model, [n])]
        writing = writing_layers(self.clip, self.vlm)
        reach = list(dict.fromkeys([*front, *writing]))
        search, talks = question_set(self.source.world, concept, "search", 84, self.search_size, all_kinds=False), retain_talks(self.source, concept, 512, self.seed)
        own = answer_gradient(self.vlm, training_set(self.source, concept, self.forget_size, self.seed), reach)
        others = answer_gradient(self.vlm, talks.take(talks.table["group"] == "names"), reach)
        felt = factors(self.vlm, talks, reach)
        ways = {"answers": {n: weight_of(found.g_forget, n) for n in front}, "own": {n: own[n] for n in front},
                "own off span": {n: off_span(own[n], felt[n][0], ENERGY) for n in front},
                "own preconditioned": {n: preconditioned(own[n], *felt[n], DAMPING) for n in front},
                "own counterweighted": {n: counterweighted(own[n], others[n], *felt[n], DAMPING, COUNTERWEIGHT) for n in writing}}
        for method, directions in ways.items():
            yield method, directions, search_on_vlm(self.clip, self.vlm, directions, search, list(directions), self.trials, self.forgotten)

    def _edits(self, concept: str) -> Iterator[tuple[str, Patch | None]]:
        """Method and its edit; None where no layer forgets."""
        found = forget_concept(self.clip, self.source, concept, seed=self.seed, towers=("vision",))
        first = found.probes[found.probes["layer"].isin(front_layers(found.layers, "vision", "first"))]
        for method, probes in (("rule", first), ("clip", found.probes)):
            try:
                starts = transferable(probes, self.vlm.model, "vision")
                yield method, winning_patch(self.clip, found.g_forget, probes[probes["layer"].isin(starts["layer"])], "vision", concept)
            except SearchFailedError:
                yield method, None
        for method, directions, probes in self._searched(concept, found):
            try:
                yield method, winning_patch(self.clip, directions, probes, "vision", concept, at_most=1 - self.forgotten)
            except SearchFailedError:
                yield method, None

    def rows(self, concept: str) -> list[dict]:
        """Before the edit and after each method's: one dict each."""
        report = question_set(self.source.world, concept, "report", 28 * self.size, self.size)
        rows = [{"method": "none", **measures(answered(self.vlm, report))}]
        for method, edit in self._edits(concept):
            if edit is None:
                rows.append({"method": method, "layer": "none forgets"})
                continue
            with in_both(edit, self.clip, self.vlm.model):
                told = answered(self.vlm, report)
            rows.append({"method": method, "layer": short(edit.layer), "rho": edit.rho, "lam": edit.lam, **measures(told)})
        return [{"concept": concept, **row} for row in rows]


def vlm_sweep(concepts: list[str] | None = None, out: str | Path | None = None, **settings) -> pd.DataFrame:
    """Forget each concept on its own and ask. Writes a CSV after every concept and returns the table.

    concepts: None takes the ten report people. out: None writes data/studio/vlm_concepts.csv; rows about other concepts made with the same
    language model stay. settings: as of `VlmSweep`. Raises UnknownConceptError before anything starts.
    """
    run, path = VlmSweep(**settings), Path(out) if out else data_dir() / "studio" / "vlm_concepts.csv"
    order = run.source.world.report["person"]
    for concept in concepts or []:
        run.source.kind(concept)
    weights = sha256_json([sha256_tensor(p) for p in run.vlm.model.parameters()])[:16]
    return one_at_a_time(run.rows, concepts or order, order, path, weights)


def averages(table: pd.DataFrame) -> pd.DataFrame:
    """Means over concepts by method: right_name after in percent, changes of own, neighbours and battery in points with their 95 % bootstrap intervals.

    Columns method, right_name, highest (its concept: of), own, own_low, own_high, neighbours, ..., battery, ..., n (concepts in which a layer forgot).
    """
    before = table[table["method"] == "none"].set_index("concept")
    rows = []
    for method, words in METHODS.items():
        mine = table[(table["method"] == method) & table["right_name"].notna()].set_index("concept")
        if mine.empty:
            continue
        row = {"method": words, "right_name": 100 * mine["right_name"].mean(), "highest": 100 * mine["right_name"].max(), "of": mine["right_name"].idxmax()}
        for group in ("own", "neighbours", "battery"):
            change = 100 * (mine[group] - before.loc[mine.index, group])
            low, high = bootstrap_mean(change.to_numpy())
            row |= {group: change.mean(), f"{group}_low": low, f"{group}_high": high}
        rows.append(row | {"n": len(mine)})
    return pd.DataFrame(rows)
