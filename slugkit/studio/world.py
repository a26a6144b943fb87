"""The world: who lives in it, what they look like, what is reported; data/studio/world.json."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from slugkit.base import UnknownConceptError, data_dir, nearest
from slugkit.studio.captions import pick
from slugkit.studio.drawings import TRAITS

PASSER_BY, APART = "passer-by ", 0.3
"""What people without a name are called ("passer-by 17"), and the share of traits in which each
differs from everybody with one.
"""
KINDS = {
    "person": "figures",
    "character": "figures",
    "object": "objects",
    "style": "styles",
    "novel": "novel",
}
"""Kind of a concept -> its domain, the classes among which it is recognised.

People and characters are both named figures.
"""


def novel_name(shape: str, body: str) -> str:
    """What an odd combination is called: "star-shaped house"."""
    return f"{shape}-shaped {body}"


@dataclass(frozen=True)
class World:
    """Everything fixed about the studio.

    people: name -> signature (the 40 that the CLIP knows). strangers: the 20 kept out of it, under
    "train" and "test". twins: pairs of people who share all but two traits. report: the concepts of
    every table, by kind. neighbours: concept -> the concepts most like it (near twins first).

    wordings: domain -> split -> how its classes are asked for, where `{}` is the class: a person or
    a character by name, a thing with its article. A style is asked for by ways of saying it about
    some subject: split -> style -> way -> wording. They were chosen by how well the studio's
    unedited CLIP understands them, and each split holds some of every sort: words of the training
    captions, styles, company, and words that no caption has.
    """

    seed: int
    people: dict[str, dict]
    strangers: dict[str, dict[str, dict]]
    twins: list[list[str]]
    characters: list[str]
    objects: list[str]
    styles: list[str]
    colors: list[str]
    novel: list[list[str]]
    neighbours: dict[str, list[str]]
    report: dict[str, list[str]]
    wordings: dict[str, dict]

    def kind(self, concept: str) -> str:
        """person, character, object, style or novel. Raises UnknownConceptError."""
        kinds = {name: kind for kind, names in self.concepts().items() for name in names}
        if concept in kinds:
            return kinds[concept]
        close = ", ".join(repr(n) for n in nearest(concept, list(kinds)))
        raise UnknownConceptError(
            f"The studio has no concept {concept!r}. Expected a person, a character, an object or a"
            " style as written in data/studio/world.json, or an odd combination such as"
            f" 'star-shaped house'. Nearest: {close}."
        )

    def concepts(self) -> dict[str, list[str]]:
        """Kind -> names of every concept that can be forgotten."""
        return {
            "person": list(self.people),
            "character": self.characters,
            "object": self.objects,
            "style": self.styles,
            "novel": [novel_name(*pair) for pair in self.novel],
        }

    def classes(self, domain: str) -> list[str]:
        """Names of the classes of a domain: figures, objects, styles or novel."""
        kinds = self.concepts().items()
        return [name for kind, names in kinds if KINDS[kind] == domain for name in names]

    def neighbours_of(self, concept: str) -> list[str]:
        """The concepts most like it; of an odd combination those of its body, then of its shape."""
        if self.kind(concept) != "novel":
            return self.neighbours[concept]
        shape, body = next(pair for pair in self.novel if novel_name(*pair) == concept)
        others = [pair for pair in self.novel if pair != [shape, body]]
        return [novel_name(*pair) for k in (1, 0) for pair in others if pair[k] == (shape, body)[k]]

    def in_style(self, style: str) -> list[str]:
        """Every way of saying that something is in a style, those of the report first."""
        said = self.wordings["styles"]
        return [way for split in ("report", "search") for way in said[split][style].values()]

    def signature(self, name: str) -> dict:
        """Of a person: known, stranger, or a passer-by ("passer-by 17"), drawn by number."""
        known = {n: s for g in (self.people, *self.strangers.values()) for n, s in g.items()}
        if name.startswith(PASSER_BY):
            return _make_passer_by(known, [self.seed, 2, int(name.removeprefix(PASSER_BY))])
        if name in known:
            return known[name]
        raise UnknownConceptError(f"{name!r} is no person of the studio.")


def trait_distance(a: dict, b: dict) -> float:
    """Share of traits in which two signatures differ, 0..1; what is not worn has no colour."""
    skip = {"hat_color"} if a["hat"] == b["hat"] == "none" else set()
    if a["hair"] == b["hair"] == "bald" and a["beard"] == b["beard"] == "none":
        skip.add("hair_color")
    used = [t for t in TRAITS if t not in skip]
    return sum(a[t] != b[t] for t in used) / len(used)


def draw_signature(rng: np.random.Generator) -> dict:
    """How somebody looks, by chance."""
    signature = {trait: pick(values, rng) for trait, values in TRAITS.items()}
    if rng.random() < 0.30:
        signature["hat"] = "none"
    if rng.random() < 0.35:
        signature["glasses"] = "none"
    if signature["hat"] == "party hat" and signature["hair"] in ("bun", "mohawk"):
        signature["hair"] = "curly"
    if signature["hat"] != "none" and signature["hair"] in ("mohawk", "bun"):
        signature["hat"] = "none"
    return signature


def _make_passer_by(known: dict[str, dict], seed: list[int]) -> dict:
    """The first draw that is unlike everybody known in at least `APART` of the traits."""
    rng = np.random.Generator(np.random.PCG64(seed))
    while True:
        drawn = draw_signature(rng)
        if min(trait_distance(drawn, k) for k in known.values()) >= APART:
            return drawn


@lru_cache(maxsize=1)
def load_world() -> World:
    """The world as committed in data/studio/world.json."""
    return World(**json.loads((data_dir() / "studio" / "world.json").read_text(encoding="utf-8")))
