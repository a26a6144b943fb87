"""What deviates from the authors' code, each with its effect on the studio.

    python ci/deviations.py [CONCEPT ...]

For every person and both towers: SLUG as it is here, then with one thing done as in the authors'
code, on the front that follows from it, with the same probes. Writes data/studio/deviations.csv, a
row a concept, tower and deviation, and from it data/studio/deviations.md.
"""

import sys
from contextlib import ExitStack
from dataclasses import dataclass, replace

import pandas as pd

from slugkit.base import cache_dir, data_dir, write_csv, write_text
from slugkit.data import Exam, open_data
from slugkit.evaluation.clip import Scorer, evaluate_clip
from slugkit.evaluation.statistics import MEAN, WORST
from slugkit.method.edit import EditableLayer
from slugkit.method.layers import block_of, short, tower_of
from slugkit.method.losses import distinct_batches
from slugkit.method.ranking import rank_layers
from slugkit.method.search import Criterion, probe_steps, winners
from slugkit.models import load_clip
from slugkit.unlearning.concept import score_layers
from slugkit.unlearning.gradients import forget_gradient, gradient_of
from slugkit.unlearning.objectives import CachedMeasure
from slugkit.unlearning.result import front_layers
from slugkit.unlearning.retain import RetainSide

CONCEPTS = ("Oskar Marlow", "Kofi Okoye", "Lotte Strand", "Selin Drover", "Inka Tarrow")
SMALL = 16  # pairs of a micro-batch, as one of the authors' scripts has it
OUT = data_dir() / "studio" / "deviations.csv"
TOWERS = ("text", "vision")
OURS, BOTH = "as here", "both of the MLP"
GROUPS = ("neighbours", "people", "objects")
TEXTS = {
    "sign": (
        "steps along +grad(1 - cos), which draws name and pictures together (Hugging Face path)",
        "steps along -grad(cos)",
    ),
    "not cleared": (
        "nothing clears the gradients between batches, nor between the sets (Hugging Face path)",
        "the mean over pairs, each set on its own",
    ),
    "one caption": (
        "every caption of the retain set is the concept's name (Hugging Face path)",
        "true captions",
    ),
    "batch of 16": ("the retain loss in micro-batches of 16", "of 128 distinct captions"),
    "norms": ("layer norms are candidates (open_clip path)", "weight matrices only"),
    "one wording": ("the search asks in one wording", "in every search wording"),
    "deepest": (
        "the deepest layer of the front (Stable Diffusion, LLaVA)",
        "every layer of the front on a CLIP",
    ),
    BOTH: (
        "where that is a matrix of an MLP, both of them move (Stable Diffusion, LLaVA)",
        "one matrix",
    ),
    "tenth probe": (
        "ten probes, after which the weights are left as the last one made them",
        "the best of the forgetting probes is remembered",
    ),
}
"""Deviation -> what the authors' code does, and what is done here."""


@dataclass
class Setting:
    """What a deviation changes: directions by layer, front by tower, the exam of the search."""

    directions: dict
    front: dict[str, list[str]]
    exam: Exam


def fronts(table: pd.DataFrame) -> dict[str, list[str]]:
    """The front's layers, by tower."""
    return {tower: front_layers(table, tower) for tower in TOWERS}


def summed(a: dict | None, b: dict) -> dict:
    """Entry by entry a + b."""
    return b if a is None else {name: a[name] + b[name] for name in b}


def not_cleared(clip, kind: str, pairs, parts: list[list[int]], lying: dict | None = None):
    """The mean over batches of what lies in `.grad` where nothing clears it; what lies there last.

    lying: what lies there at the beginning.
    """
    stored = None
    for rows in parts:
        lying = summed(lying, gradient_of(clip, kind, pairs, [rows]))
        stored = summed(stored, lying)
    return {name: g / len(parts) for name, g in stored.items()}, lying


def settings_of(clip, source, concept: str) -> dict[str, Setting]:
    """Every deviation that is a matter of directions, ranking or questions."""
    exam, pairs = source.exam(concept, "search"), source.forget_set(concept, 120, 0)
    side = RetainSide(clip, source, [concept], folder=cache_dir())
    g_f, g_r = forget_gradient(clip, pairs), side.gradient
    ours = Setting(g_f, fronts(score_layers(clip, g_f, g_r)), exam)
    small = distinct_batches(side.pairs.labels, SMALL)
    few = [list(range(i, min(i + SMALL, len(pairs)))) for i in range(0, len(pairs), SMALL)]
    f, lying = not_cleared(clip, "forget", pairs, few)
    r, _ = not_cleared(clip, "retain", side.pairs, small, lying)
    named = replace(side.pairs, table=side.pairs.table.assign(caption=concept))
    by_name = gradient_of(clip, "retain", named, distinct_batches(side.pairs.labels, 128))
    by_16 = gradient_of(clip, "retain", side.pairs, small)
    weights = {n: p.detach() for n, p in clip.model.named_parameters()}
    weights = {n: w for n, w in weights.items() if n in candidates_with_norms(weights)}
    norms = rank_layers(weights, g_f, g_r)
    one = {domain: dict(list(said.items())[:1]) for domain, said in exam.prompts.items()}
    return {
        OURS: ours,
        "sign": replace(ours, directions={n: -g for n, g in g_f.items()}),
        "not cleared": Setting(f, fronts(score_layers(clip, f, r)), exam),
        "one caption": replace(ours, front=fronts(score_layers(clip, g_f, by_name))),
        "batch of 16": replace(ours, front=fronts(score_layers(clip, g_f, by_16))),
        "norms": replace(ours, front=fronts(norms.assign(candidate=True))),
        "one wording": replace(ours, exam=replace(exam, prompts=one)),
    }


def candidates_with_norms(weights: dict) -> list[str]:
    """Names of the weights that are no biases, no embeddings and not the logit scale."""
    out = ("bias", "logit_scale", "position", "embedding")
    return [name for name in weights if not any(part in name for part in out)]


class Searches:
    """Ten probes a layer on one concept; those of one layer, direction and exam are made once."""

    def __init__(self, clip):
        self.clip, self._fixed, self._found = clip, {}, {}

    def probes(self, setting: Setting, layer: str, beside: tuple[str, ...] = ()) -> pd.DataFrame:
        """The probes of a layer, and of the layers that move with it by the same lambda."""
        key = (id(setting.directions), id(setting.exam), layer, beside)
        if key not in self._found:
            if id(setting.exam) not in self._fixed:
                self._fixed[id(setting.exam)] = Scorer(self.clip, setting.exam, layers=[layer])
            measure = CachedMeasure(self._fixed[id(setting.exam)], min((layer, *beside)))
            moved = Moved(self.clip, setting.directions, (layer, *beside))
            criterion = Criterion.among(len(setting.exam.classes(setting.exam.target_domain)))
            result = probe_steps(layer, moved, measure, criterion, stop_ratio=None)
            self._found[key] = result.frame()
        return self._found[key]


class Moved(ExitStack):
    """Layers of a model that move by one lambda, sized by the first; put back at the end."""

    def __init__(self, clip, directions: dict, layers: tuple[str, ...]):
        super().__init__()
        self._all = [EditableLayer.of(clip.model, n, directions[n]) for n in layers]
        self.rho, self.lam = self._all[0].rho, self._all[0].lam
        for each in self._all:
            self.push(each)

    def set(self, lam: float) -> None:
        """The step lam on every layer."""
        for each in self._all:
            each.set(lam)


def measured(clip, report: Exam, v, directions: dict, layers: tuple[str, ...], lam: float) -> dict:
    """FA@5 on the report split, its mean and worst wording, and the groups' accuracy, 0..1."""
    with Moved(clip, directions, layers) as moved:
        moved.set(lam)
        rows = evaluate_clip(clip, report, "after", v=v if tower_of(layers[0]) == "text" else None)
    rows = rows[(rows["metric"] == "FA@5") | rows["group"].isin(GROUPS)]
    value = rows.set_index(["group", "wording"])["value"]
    found = {"fa5": value["target", MEAN], "fa5_worst": value["target", WORST]}
    return found | {group: value[group, MEAN] for group in GROUPS}


def partner(layer: str) -> tuple[str, ...]:
    """The other matrix of the same MLP, if it is one of an MLP's."""
    for a, b in (("c_fc", "c_proj"), ("c_proj", "c_fc")):
        if f"mlp.{a}." in layer:
            return (layer.replace(a, b),)
    return ()


class Effects:
    """What each deviation does to one concept: one row a tower and deviation."""

    def __init__(self, clip, source, concept: str):
        self.clip, self.concept, self.report = clip, concept, source.exam(concept, "report")
        self.v = clip.image_features(self.report.pairs.images).cpu()
        self.searches, self.settings = Searches(clip), settings_of(clip, source, concept)
        self._known: dict[tuple, dict] = {}

    def row(
        self, name: str, tower: str, setting: Setting, front: list[str], moved: tuple = ()
    ) -> dict:
        """The winner of a front, each layer with those of `moved` beside it, as it is reported."""
        frames = [self.searches.probes(setting, layer, moved) for layer in front]
        frame = pd.concat(frames, ignore_index=True)
        fields = {"concept": self.concept, "tower": tower, "deviation": name}
        theirs, ours = {*front, *moved}, set(self.settings[OURS].front[tower])
        shared = {"shared": len(theirs & ours), "either": len(theirs | ours)}
        fields |= {"layers": len(theirs), **shared}
        best = winners(frame)
        if not len(best):
            return fields
        layer, lam = best.iloc[0]["layer"], best.iloc[0]["lam"]
        key = (id(setting.directions), layer, moved, lam)
        if key not in self._known:
            given = self.report, self.v, setting.directions, (layer, *moved), lam
            self._known[key] = measured(self.clip, *given)
        return fields | {"layer": short(layer), "rho": best.iloc[0]["rho"], **self._known[key]}

    def rows(self, tower: str) -> list[dict]:
        """SLUG as it is here first, then every deviation that occurs."""
        rows = [self.row(name, tower, s, s.front[tower]) for name, s in self.settings.items()]
        ours = self.settings[OURS]
        blocks = [layer for layer in ours.front[tower] if block_of(layer) > 0]
        for deepest in blocks and [max(blocks, key=block_of)]:
            rows.append(self.row("deepest", tower, ours, [deepest]))
            if partner(deepest):
                rows.append(self.row(BOTH, tower, ours, [deepest], partner(deepest)))
        ends = [
            self.searches.probes(ours, layer)["forgotten"].iloc[-1] for layer in ours.front[tower]
        ]
        last = {"concept": self.concept, "tower": tower, "deviation": "tenth probe"}
        return [*rows, last | {"layers": len(ends), "last_forgets": int(sum(ends))}]


def page(table: pd.DataFrame) -> str:
    """The table of deviations, in Markdown."""
    ours = table[table["deviation"] == OURS].set_index(["concept", "tower"])
    lines = []
    for name, (theirs, here) in TEXTS.items():
        part = table[table["deviation"] == name].set_index(["concept", "tower"])
        cells = []
        for tower in TOWERS:
            mine = part[part.index.get_level_values("tower") == tower]
            cells.append(effect(mine, ours.loc[mine.index]))
        lines.append(f"| {theirs} | {here} | {cells[0]} | {cells[1]} |")
    base = ours.groupby("tower")[["fa5", "fa5_worst", *GROUPS]].mean().mul(100).round(1)
    concepts = ", ".join(dict.fromkeys(table["concept"]))
    before = "\n".join(
        f"- {t} tower: FA@5 {r.fa5} %, worst wording {r.fa5_worst} %, neighbours {r.neighbours} %, "
        f"people {r.people} %, objects {r.objects} %"
        for t, r in base.iterrows()
    )
    return PAGE.format(table="\n".join(lines), concepts=concepts, base=before)


def effect(theirs: pd.DataFrame, ours: pd.DataFrame) -> str:
    """What a deviation changes, in points, mean over the concepts in which it forgets."""
    if "last_forgets" in theirs and theirs["last_forgets"].notna().any():
        good, of = (int(theirs[c].sum()) for c in ("last_forgets", "layers"))
        return f"{good} of {of} searches end on a step that forgets"
    if theirs.empty:
        return "does not occur"
    done = theirs["fa5"].notna()
    said = [
        f"{int(theirs['shared'].sum())} of {int(theirs['either'].sum())} front layers in common"
    ]
    columns = ["fa5", "fa5_worst", *GROUPS]
    change = 100 * (theirs.loc[done, columns] - ours.loc[theirs.index[done], columns]).mean()
    names = ("FA@5", "worst wording", *GROUPS)
    said += (
        [", ".join(f"{n} {x:+.1f}" for n, x in zip(names, change, strict=True))]
        if done.any()
        else []
    )
    missed = int((~done).sum())
    said += [f"none forgets for {missed} of {len(theirs)}"] if missed else []
    return "; ".join(said)


PAGE = """# What deviates from the authors' code, and what it does here

Their code is read, not run: it does not run as published. Each row is SLUG as it is here with one
thing done as they do it, on the front that follows from it, with ten probes a layer. Changes are in
points against SLUG as it is here, on report pictures in report wordings, the mean over those in
which a step forgets of
{concepts}.

As it is here, the mean over all of them:

{base}

| the authors' code | here | text tower | vision tower |
| --- | --- | --- | --- |
{table}

Written by `python ci/deviations.py` from `deviations.csv`.
"""


def main(concepts: list[str]) -> None:
    """Write the table after every concept, and the page from it."""
    clip = load_clip()
    source = open_data("studio", *clip.inputs)
    table = pd.read_csv(OUT) if OUT.is_file() else pd.DataFrame(columns=["concept"])
    for concept in concepts or CONCEPTS:
        effects = Effects(clip, source, concept)
        rows = pd.DataFrame([row for tower in TOWERS for row in effects.rows(tower)])
        table = pd.concat([table[table["concept"] != concept], rows], ignore_index=True)
        write_csv(OUT, table.round(5))
        write_text(OUT.with_suffix(".md"), page(table))
        print(rows.round(3).to_string(), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
