"""Captions: several ways to say what a picture shows, so that names, objects and styles are learned
from text.
"""

from __future__ import annotations

import numpy as np

NUMBERS = {1: "one", 2: "two", 3: "three", 4: "four"}
PLAIN = ["{}", "a picture of {}", "an image of {}", "this is {}"]
PERSON = ["{}", "{}", "{}", "a portrait of {}", "the face of {}"]
WORN = {
    "plain": "shirt",
    "striped": "striped shirt",
    "collar": "shirt with a collar",
    "overalls": "overalls",
    "tie": "shirt and a tie",
}


def article(noun: str) -> str:
    """The noun with 'a' or 'an' before it."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def plural(noun: str) -> str:
    """The plural of an object's name."""
    return noun + ("es" if noun.endswith("sh") else "s")


def trait_phrases(signature: dict) -> list[str]:
    """What one may say about how a person looks: hair, hat, glasses, beard, clothes."""
    hair, hat, glasses, beard = (signature[trait] for trait in ("hair", "hat", "glasses", "beard"))
    bald, colour, worn = hair == "bald", signature["clothes_color"], WORN[signature["clothes"]]
    said = ["with a bald head" if bald else f"with {signature['hair_color']} {hair} hair"]
    bare, of_hat = hat == "none", signature["hat_color"]
    said.append("with no hat" if bare else f"wearing {article(of_hat)} {hat}")
    if glasses != "none":
        said.append(f"with {glasses}" if glasses == "sunglasses" else f"with {glasses} glasses")
    if beard != "none":
        said.append("with a full beard" if beard == "full" else f"with a {beard}")
    said.append(f"in {colour if worn == 'overalls' else article(colour)} {worn}")
    return said


def pick(options, rng: np.random.Generator):
    """One of them, by chance."""
    return options[int(rng.integers(len(options)))]


def _phrase(record, world, rng: np.random.Generator) -> str:
    """What is in the picture."""
    name, *others = record.subjects
    if record.kind == "person":
        if rng.random() < 0.25:
            return f"{name} {pick(trait_phrases(world.signature(name)), rng)}"
        return pick(PERSON, rng).format(name)
    if record.kind in ("character", "novel"):
        return name if record.kind == "character" else article(record.name)
    if record.kind == "pair":
        return f"{name} {pick(['and', 'with', 'next to'], rng)} {others[0]}"
    noun, coloured = record.subjects[-1], rng.random() < 0.5
    if record.kind == "count":
        noun = noun if record.count == 1 else plural(noun)
        return f"{NUMBERS[record.count]} {record.colors[0] + ' ' if coloured else ''}{noun}"
    thing = f"{article(record.colors[0])} {noun}" if coloured else article(noun)
    if record.kind == "object":
        return thing
    return f"{name} {pick(['with', 'and', 'beside'], rng)} {thing}"


def caption(record, world, rng: np.random.Generator) -> str:
    """One caption for a picture; a paraphrase chosen by `rng`. record: studio.scenes.Record.

    Mostly the style is named; sometimes not, as in real captions.
    """
    phrase = _phrase(record, world, rng)
    return pick(PLAIN if rng.random() < 0.15 else world.in_style(record.style), rng).format(phrase)
