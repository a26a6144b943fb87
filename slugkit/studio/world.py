"""The world: who lives in it, what they look like, what is reported; data/studio/world.json."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from slugkit.base import UnknownConceptError, data_dir, nearest
from slugkit.studio.characters import CHARACTERS
from slugkit.studio.objects import MARKS, OBJECTS, SHAPES
from slugkit.studio.people import COLORS, TRAITS
from slugkit.studio.styles import STYLES
from slugkit.studio.wordings import WORDINGS

NAMES = """Mira Kestrel, Selin Drover, Oskar Marlow, Kofi Okoye, Petra Quillon, Inka Tarrow, Bram
Hollick, Yuki Amberly, Dario Vexley, Lotte Strand, Amara Finch, Teodor Glass, Nadia
Fenwick, Ravi Copperfell, Greta Moss, Hugo Larkspur, Zola Bright, Emil Castor, Freya
Dunmore, Jonas Pike, Leila Harrow, Matteo Bluff, Nell Sorrel, Otis Wren, Paloma Reed,
Quentin Ash, Rosa Thistle, Stellan Brook, Tamsin Oak, Umberto Vale, Vera Lockhart, Wanda
Pebble, Xavier Crane, Yara Holm, Zeno Marsh, Anselm Grove, Bettina Fog, Cyrus Tallow,
Delia Spruce, Edda Norwood, Fabian Cole, Gwen Hazel, Henrik Sable, Isolde Penn, Jarek
Stone, Kaia Rowan, Lucian Frost, Maeve Teller, Nico Barrow, Odette Lund, Pavel Knoll,
Runa Birch, Silas Mead, Thea Corvin, Ugo Bramble, Viola Steppe, Wilma Ford, Yosef Dell,
Zadie Quarry, Arlo Winter"""
TWINS = [(0, 1), (3, 6), (8, 30), (12, 13), (20, 21)]
"""Pairs of people who share all but two traits."""
KNOWN, UNKNOWN_TRAIN, UNKNOWN_TEST = 40, 10, 10
PASSER_BY, APART = "passer-by ", 0.3
"""What people without a name are called ("passer-by 17"), and the share of traits in which each
differs from everybody with one.
"""


def _pairs(text: str) -> list[list[str]]:
    return [pair.split("/") for pair in " ".join(text.split()).split(", ")]


OBJECT_NEIGHBOURS = _pairs("""star/flower, moon/fish, mug/drum, balloon/kite, bell/lamp, house/book,
    mushroom/umbrella, tree/flower, car/boat, apple/heart, rocket/kite, clock/drum, crown/bell,
    ladder/key, umbrella/lamp""")
STYLE_NEIGHBOURS = _pairs("""photo/watercolor, neon/blueprint, sketch/blueprint, pixel art/mosaic,
    mosaic/photo""")
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
    "train" and "test". report: the concepts of every table, by kind. neighbours: concept -> the
    concepts most like it (near twins first). wordings: see `slugkit.studio.wordings`.
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

    def signature(self, name: str) -> dict:
        """Of a person: known, stranger, or a passer-by ("passer-by 17"), drawn by number."""
        groups = (self.people, *self.strangers.values())
        if name.startswith(PASSER_BY):
            known = [s for group in groups for s in group.values()]
            return _make_passer_by(known, [self.seed, 2, int(name.removeprefix(PASSER_BY))])
        for group in groups:
            if name in group:
                return group[name]
        raise UnknownConceptError(f"{name!r} is no person of the studio.")


def trait_distance(a: dict, b: dict) -> float:
    """Share of traits in which two signatures differ, 0..1; what is not worn has no colour."""
    skip = {"hat_color"} if a["hat"] == b["hat"] == "none" else set()
    if a["hair"] == b["hair"] == "bald" and a["beard"] == b["beard"] == "none":
        skip.add("hair_color")
    used = [t for t in TRAITS if t not in skip]
    return sum(a[t] != b[t] for t in used) / len(used)


def _draw_signature(rng: np.random.Generator) -> dict:
    signature = {trait: values[int(rng.integers(len(values)))] for trait, values in TRAITS.items()}
    if rng.random() < 0.30:
        signature["hat"] = "none"
    if rng.random() < 0.35:
        signature["glasses"] = "none"
    if signature["hat"] == "party hat" and signature["hair"] in ("bun", "mohawk"):
        signature["hair"] = "curly"
    if signature["hat"] != "none" and signature["hair"] in ("mohawk", "bun"):
        signature["hat"] = "none"
    return signature


def _make_signatures(count: int, rng: np.random.Generator) -> list[dict]:
    """Signatures far apart: each new one is the farthest of 60 draws from those so far."""
    made = [_draw_signature(rng)]
    while len(made) < count:
        draws = [_draw_signature(rng) for _ in range(60)]
        made.append(max(draws, key=lambda s: min(trait_distance(s, m) for m in made)))
    return made


def _make_twin(signature: dict, k: int) -> dict:
    """The same person but for two traits that show in every style."""
    twin = dict(signature)
    twin["glasses"] = "sunglasses" if signature["glasses"] in ("none", "round") else "none"
    if k % 2:
        other = {"striped": "collar", "overalls": "plain"}
        twin["clothes"] = other.get(signature["clothes"], "striped")
    else:
        twin["beard"] = "full" if signature["beard"] in ("none", "moustache") else "none"
    return twin


def _make_passer_by(known: list[dict], seed: list[int]) -> dict:
    """The first draw that is unlike everybody known in at least `APART` of the traits."""
    rng = np.random.Generator(np.random.PCG64(seed))
    while True:
        drawn = _draw_signature(rng)
        if min(trait_distance(drawn, k) for k in known) >= APART:
            return drawn


def build_world(seed: int = 20) -> World:
    """Make the world from nothing; the committed world.json is this with the default seed."""
    rng = np.random.Generator(np.random.PCG64(seed))
    names = [" ".join(n.split()) for n in NAMES.split(",")]
    signatures = _make_signatures(KNOWN + UNKNOWN_TRAIN + UNKNOWN_TEST, rng)
    for k, (a, b) in enumerate(TWINS):
        signatures[b] = _make_twin(signatures[a], k)
    people = dict(zip(names[:KNOWN], signatures[:KNOWN]))
    cut = KNOWN + UNKNOWN_TRAIN
    strangers = {
        "train": dict(zip(names[KNOWN:cut], signatures[KNOWN:cut])),
        "test": dict(zip(names[cut:], signatures[cut:])),
    }
    neighbours = {}
    for a, signature in people.items():
        apart = {b: trait_distance(signature, people[b]) for b in people if b != a}
        neighbours[a] = sorted(apart, key=apart.get)[:3]
    neighbours |= {c: [d for d in CHARACTERS if d != c] for c in CHARACTERS}
    for table, members in ((OBJECT_NEIGHBOURS, OBJECTS), (STYLE_NEIGHBOURS, STYLES)):
        for m in members:
            others = [k for k in members if k != m]
            neighbours[m] = [b if a == m else a for a, b in table if m in (a, b)] or others[:2]
    return World(
        seed=seed,
        people=people,
        strangers=strangers,
        twins=[[names[a], names[b]] for a, b in TWINS],
        characters=list(CHARACTERS),
        objects=list(OBJECTS),
        styles=list(STYLES),
        colors=list(COLORS),
        novel=[[shape, body] for shape in SHAPES for body in MARKS],
        neighbours=neighbours,
        report={
            "person": names[:10],
            "object": ["car", "mushroom", "star"],
            "style": ["neon", "mosaic"],
            "character": ["Tin Wobble", "Foxglove Pip"],
        },
        wordings=WORDINGS,
    )


@lru_cache(maxsize=1)
def load_world() -> World:
    """The world as committed in data/studio/world.json."""
    return World(**json.loads((data_dir() / "studio" / "world.json").read_text(encoding="utf-8")))
