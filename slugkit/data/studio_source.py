"""The studio as a source: its pictures are drawn when they are asked for."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from slugkit import studio
from slugkit.base import (
    cache_dir,
    cached_tensors,
    data_dir,
    require_choice,
    sha256_json,
    usable_cpus,
)
from slugkit.data.looked import choose
from slugkit.data.names import names_concept
from slugkit.data.pairs import Pairs
from slugkit.data.reading import Wordings
from slugkit.data.source import Exam, Prompts, Source, as_list
from slugkit.studio.captions import article, trait_phrases

PER_STYLE = {"search": (2, 10), "report": (6, 24)}
"""Pictures per style and subject: for everything, and on top of that for the concept."""
SOLO = ("person", "character", "object", "novel")
"""Kinds of picture that show one thing."""


def drawn(records: list) -> np.ndarray:
    """Records drawn: (N, 64, 64, 3) uint8, kept under cache_dir() for the next call."""
    import torch

    room, parts = Path(studio.__file__).parent, ("canvas", "drawings", "styles", "scenes")
    files = [*(room / f"{part}.py" for part in parts), room / "drawings.json"]
    code = [file.read_text(encoding="utf-8") for file in files]
    key = sha256_json([code, [r.key for r in records]])
    workers = usable_cpus() if len(records) > 5000 else 0  # each is as large as this process

    def make() -> dict[str, torch.Tensor]:
        return {"images": torch.from_numpy(studio.draw_many(records, workers=workers))}

    path = cache_dir() / f"pictures-{key[:20]}.safetensors"
    return cached_tensors(path, make)["images"].numpy()


def as_pairs(records: list, odd: bool = False) -> Pairs:
    """Records as pairs, drawn. odd: odd combinations are classes too."""
    classes = SOLO if odd else SOLO[:3]
    rows = [
        {
            "key": r.key,
            "caption": r.caption(),
            "concept": r.name if r.kind in classes else "",
            "domain": studio.KINDS[r.kind] if r.kind in classes else "",
            "style": r.style,
            "split": r.split,
            "kind": r.kind,
            "subjects": " + ".join(r.subjects),
        }
        for r in records
    ]
    return Pairs(drawn(records), pd.DataFrame(rows))


class StudioSource(Source):
    """The drawn world; its forget and retain sets are pictures that the CLIP was trained on."""

    def __init__(self):
        super().__init__("studio", data_dir() / "studio" / "world.json")
        self.world = studio.load_world()

    @cached_property
    def training(self) -> list:
        """The records of all training pictures."""
        return studio.training_records(world=self.world)

    def concepts(self) -> list[str]:
        return [n for names in self.world.concepts().values() for n in names]

    def kind(self, concept: str) -> str:
        return self.world.kind(concept)

    def neighbours(self, concept: str) -> list[str]:
        return self.world.neighbours_of(concept)

    def best_known(self, kind: str) -> list[str]:
        """Those that are reported."""
        return self.world.report.get(kind, [])

    def reported(self) -> list[str]:
        """Those that the world names."""
        return [name for names in self.world.report.values() for name in names]

    def hard_case(self, concept: str) -> list[str]:
        """A pair of twins, who differ in two traits only."""
        return list(self.world.twins[0])

    def forget_records(self, concept: str, size: int, seed: int = 0) -> list:
        """Which training pictures make up the forget set."""
        styled = self.kind(concept) == "style"
        solo = [r for r in self.training if r.kind in (SOLO[:3] if styled else SOLO)]
        mine = [r for r in solo if concept == (r.style if styled else r.name)]
        return [mine[i] for i in choose(len(mine), size, [seed, 11], "forget set")]

    def forget_set(self, concept: str, size: int, seed: int = 0) -> Pairs:
        return as_pairs(self.forget_records(concept, size, seed), self.kind(concept) == "novel")

    def nonmembers(self, concept: str, size: int) -> Pairs:
        """Of the studio's pool that no training, search or report has."""
        kind, world = self.kind(concept), self.world
        styled = kind == "style"
        subjects = [*world.people, *world.objects] if styled else [concept]
        styles = [concept] if styled else world.styles
        each = -(-size // (len(subjects) * len(styles)))
        found = [studio.solo_records("nonmember", s, each, styles, world) for s in subjects]
        records = [record for some in found for record in some]
        return as_pairs(records[:size], kind == "novel")

    def strangers(self, concept: str, size: int) -> Pairs | None:
        """The people who are kept out of every training, for a person."""
        if self.kind(concept) != "person":
            return None
        names = [name for group in self.world.strangers.values() for name in group]
        each = -(-size // (len(names) * len(self.world.styles)))
        found = [studio.solo_records("report", name, each, world=self.world) for name in names]
        return as_pairs([record for some in zip(*found) for record in some][:size])

    def descriptions(self, concept: str) -> list[str]:
        """A person's traits."""
        known = self.kind(concept) == "person"
        return trait_phrases(self.world.signature(concept)) if known else []

    def retain_set(self, concept: str | list[str], size: int, seed: int = 0) -> Pairs:
        without = set(as_list(concept))
        for name in without:
            self.kind(name)
        rest = [r for r in self.training if not without & {r.name, *r.subjects, r.style}]
        return as_pairs([rest[i] for i in choose(len(rest), size, [seed, 12, 0], "retain set")])

    def prompts(self, concept: str | list[str], split: str) -> Prompts:
        """Every class in the split's wordings (world.json), but for those that name the concept.

        A style is asked for by texts about objects and the people who are no report concepts, those
        of even number in the search and of odd number in the report.
        """
        require_choice(split, PER_STYLE, "The split")
        gone = as_list(concept)
        odd = "novel" in {self.kind(c) for c in gone}
        found = {domain: self._names(domain, gone, split) for domain in _domains(odd)}
        return {**found, "styles": self._styles(gone, split)}

    def _names(self, domain: str, gone: list[str], split: str) -> Wordings:
        """Of a domain whose classes are people or things: one text each."""
        said = {c: c if domain == "figures" else article(c) for c in self.world.classes(domain)}
        wordings = self.world.wordings[domain][split]
        kept = [w for w in wordings if not any(names_concept(w, concept) for concept in gone)]
        return {w: {c: [w.format(text)] for c, text in said.items()} for w in kept}

    def _styles(self, gone: list[str], split: str) -> Wordings:
        """Each way of naming the style, about objects and people."""
        turn, report = list(PER_STYLE).index(split), self.world.report["person"]
        about = [article(o) for o in self.world.objects[turn::2] if o not in gone]
        about += [p for p in self.world.people if p not in (*report, *gone)][turn::2]
        styles = self.world.wordings["styles"][split]
        return {
            form: {s: [said[form].format(it) for it in about] for s, said in styles.items()}
            for form in next(iter(styles.values()))
        }

    def exam(self, concept: str, split: str, per_style: int = 0) -> Exam:
        """All subjects over all styles, and more pictures of the concept itself; odd combinations
        only where one of them is the concept.
        """
        kind = self.kind(concept)
        base, extra = PER_STYLE[split]
        base, odd = min(base, per_style) if per_style else base, kind == "novel"

        def solo(subject: str, count: int) -> list:
            return studio.solo_records(split, subject, count, world=self.world)

        subjects = [subject for d in _domains(odd) for subject in self.world.classes(d)]
        pairs = as_pairs([r for s in subjects for r in solo(s, base)], odd)
        if kind != "style":
            more = as_pairs([r for r in solo(concept, base + extra) if r.index >= base], odd)
            images = np.concatenate([pairs.images, more.images])
            pairs = Pairs(images, pd.concat([pairs.table, more.table]))
        return self._examined(pairs, concept, split, studio.KINDS[kind])


def _domains(odd: bool) -> list[str]:
    return ["figures", "objects", *(["novel"] if odd else [])]
