"""The studio as a source: training pictures, search and report pictures, members and non-members,
drawn when asked for.
"""

from __future__ import annotations

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
from slugkit.data.looked import noted
from slugkit.data.names import names_concept
from slugkit.data.pairs import Pairs
from slugkit.data.source import Exam, Prompts, as_list, choose
from slugkit.studio.captions import article

PER_STYLE = {"search": (2, 10), "report": (6, 24)}
"""Pictures per style and subject: for everything, and on top of that for the concept in question.
"""
SOLO = ("person", "character", "object", "novel")
"""Kinds of picture that show one thing."""


def drawn(records: list) -> np.ndarray:
    """Draw records, keeping the pictures under cache_dir() so that the next call reads them.

    (N, 64, 64, 3) uint8.
    """
    import torch

    room, parts = Path(studio.__file__).parent, "canvas people characters objects styles scenes"
    code = [(room / f"{part}.py").read_text(encoding="utf-8") for part in parts.split()]
    key = sha256_json([code, [r.key for r in records]])
    workers = usable_cpus() if len(records) > 1500 else 0

    def make() -> dict[str, torch.Tensor]:
        return {"images": torch.from_numpy(studio.draw_many(records, workers=workers))}

    path = cache_dir() / f"pictures-{key[:20]}.safetensors"
    return cached_tensors(path, make)["images"].numpy()


def as_pairs(records: list, odd: bool = False) -> Pairs:
    """Records as pairs, drawn.

    odd: odd combinations are classes too, as where one of them is the concept.
    """
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


class StudioSource:
    """The drawn world.

    Forget and retain sets come from the CLIP's own training pictures, as in the paper.
    """

    name = "studio"

    def __init__(self):
        self.world = studio.load_world()
        self.path = data_dir() / "studio" / "world.json"
        self._training = None

    @property
    def training(self) -> list:
        """The records of all training pictures."""
        if self._training is None:
            self._training = studio.training_records(world=self.world)
        return self._training

    def concepts(self) -> list[str]:
        """Every person, character, object, style and odd combination."""
        return [n for names in self.world.concepts().values() for n in names]

    def kind(self, concept: str) -> str:
        """person, character, object, style or novel.

        Raises UnknownConceptError naming the nearest.
        """
        return self.world.kind(concept)

    def neighbours(self, concept: str) -> list[str]:
        """Near twins and the people with most traits in common, objects of like shape, like styles,
        the house of another shape.
        """
        return self.world.neighbours_of(concept)

    def _solo(self, concept: str, records: list) -> list:
        if self.kind(concept) == "style":
            return [r for r in records if r.style == concept and r.kind in SOLO[:3]]
        return [r for r in records if r.name == concept and r.kind in SOLO]

    def forget_records(self, concept: str, size: int, seed: int = 0) -> list:
        """Which training pictures make up the forget set."""
        mine = self._solo(concept, self.training)
        return [mine[i] for i in choose(len(mine), size, [seed, 11], "forget set")]

    def retain_records(self, concept: str | list[str], size: int, seed: int = 0) -> list:
        """Which training pictures make up the retain set."""
        without = set(as_list(concept))
        for name in without:
            self.kind(name)
        rest = [r for r in self.training if not without & {r.name, *r.subjects, r.style}]
        return [rest[i] for i in choose(len(rest), size, [seed, 12, 0], "retain set")]

    def forget_set(self, concept: str, size: int, seed: int = 0) -> Pairs:
        """`size` training pictures of the concept alone, over all styles (for a style: over all
        subjects).
        """
        return as_pairs(self.forget_records(concept, size, seed), self.kind(concept) == "novel")

    def retain_set(self, concept: str | list[str], size: int, seed: int = 0) -> Pairs:
        """`size` training pictures in which the concept (or any of several) does not occur."""
        return as_pairs(self.retain_records(concept, size, seed))

    def nonmembers(self, concept: str, size: int, seed: int = 0) -> Pairs:
        """Pictures like the forget set's that no model was trained on, matched style by style to
        that set's make-up.
        """
        forget = self.forget_set(concept, size, seed)
        count: dict = {}
        records = []
        for subject, style in zip(forget.table["concept"], forget.table["style"]):
            k = count[subject, style] = count.get((subject, style), -1) + 1
            records.append(studio.solo_records("nonmember", subject, k + 1, [style], self.world)[k])
        return as_pairs(records, self.kind(concept) == "novel")

    def prompts(self, concept: str | list[str], split: str) -> Prompts:
        """Every class in the split's wordings (world.json), but for wordings that name the concept,
        or any of several.

        A style is asked for by texts about other things: objects and the people who are no report
        concepts, those of even number in the search and of odd number in the report.
        """
        require_choice(split, PER_STYLE, "The split")
        gone = as_list(concept)
        odd = "novel" in {self.kind(c) for c in gone}
        named = ["figures", "objects", *(["novel"] if odd else [])]
        found: Prompts = {domain: self._names(domain, gone, split) for domain in named}
        return {**found, "styles": self._styles(gone, split)}

    def _names(self, domain: str, gone: list[str], split: str) -> dict[str, dict[str, list[str]]]:
        """Wording -> class -> its one text, of a domain whose classes are people or things."""
        said = {c: c if domain == "figures" else article(c) for c in self.world.classes(domain)}
        wordings = self.world.wordings[domain][split]
        kept = [w for w in wordings if not any(names_concept(w, concept) for concept in gone)]
        return {w: {c: [w.format(text)] for c, text in said.items()} for w in kept}

    def _styles(self, gone: list[str], split: str) -> dict[str, dict[str, list[str]]]:
        """Wording -> style -> its texts: each way of naming the style, about objects and people."""
        turn, report = list(PER_STYLE).index(split), self.world.report["person"]
        about = [article(o) for o in self.world.objects[turn::2] if o not in gone]
        about += [p for p in self.world.people if p not in (*report, *gone)][turn::2]
        styles = self.world.wordings["styles"][split]
        return {
            form: {s: [said[form].format(it) for it in about] for s, said in styles.items()}
            for form in next(iter(styles.values()))
        }

    def exam(self, concept: str, split: str, per_style: int = 0) -> Exam:
        """All subjects over all styles, and more pictures of the concept itself.

        per_style: pictures per style and subject (0: 2 for search, 6 for report, with 10 and 24
        more of the concept). Search and report pictures are disjoint. Odd combinations are asked
        about only where one of them is the concept.
        """
        kind = self.kind(concept)
        base, extra = PER_STYLE[split]
        base = min(base, per_style) if per_style else base
        domains = ["figures", "objects", *(["novel"] if kind == "novel" else [])]
        subjects = [subject for domain in domains for subject in self.world.classes(domain)]

        def solo(subject: str, count: int) -> list:
            return studio.solo_records(split, subject, count, world=self.world)

        pairs = as_pairs([r for s in subjects for r in solo(s, base)], kind == "novel")
        if kind != "style":
            more = [r for r in solo(concept, base + extra) if r.index >= base]
            added = as_pairs(more, kind == "novel")
            images = np.concatenate([pairs.images, added.images])
            pairs = Pairs(images, pd.concat([pairs.table, added.table]))
        domain, prompts = studio.KINDS[kind], self.prompts(concept, split)
        return Exam(pairs, concept, kind, domain, prompts, self.neighbours(concept), split)

    def left_out(self) -> pd.DataFrame:
        """Nothing: the studio's pictures are drawn when they are asked for."""
        return noted([])
