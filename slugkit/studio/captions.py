"""Captions: several ways to say what a picture shows, so that names, objects and styles are learned
from text.
"""

from __future__ import annotations

import numpy as np

NUMBERS = {1: "one", 2: "two", 3: "three", 4: "four"}


def phrases(text: str) -> list[str]:
    """The phrases of a text in which | stands between them."""
    return " ".join(text.split()).split(" | ")


IN_STYLE = {
    "photo": ["a photo of {}", "a photograph of {}", "{}, photo", "{} in a photo"],
    "sketch": ["a sketch of {}", "{} in sketch style", "a pencil sketch of {}", "{}, sketch"],
    "pixel art": ["pixel art of {}", "{} in pixel art style", "{}, pixel art", "{} as pixel art"],
    "neon": ["a neon picture of {}", "{} in neon style", "{}, neon", "{} as neon lights"],
    "watercolor": [
        "a watercolor of {}",
        "{} in watercolor style",
        "a watercolor painting of {}",
        "{}, watercolor",
    ],
    "mosaic": ["a mosaic of {}", "{} in mosaic style", "{}, mosaic", "a mosaic picture of {}"],
    "blueprint": [
        "a blueprint of {}",
        "{} in blueprint style",
        "{}, blueprint",
        "{} as a blueprint",
    ],
}
PLAIN = ["{}", "a picture of {}", "an image of {}", "this is {}"]
PERSON = ["{}", "{}", "{}", "a portrait of {}", "the face of {}"]


def article(noun: str) -> str:
    """The noun with 'a' or 'an' before it."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def plural(noun: str) -> str:
    """The plural of an object's name."""
    return noun + ("es" if noun.endswith("sh") else "s")


def trait_phrases(signature: dict) -> list[str]:
    """What one may say about how a person looks: hat, glasses, hair, beard, clothes."""
    hair, hat, glasses, beard = (signature[trait] for trait in ("hair", "hat", "glasses", "beard"))
    said = ["with a bald head"]
    if hair != "bald":
        said = [f"with {signature['hair_color']} {hair} hair"]
    if hat != "none":
        said.append(f"wearing {article(signature['hat_color'])} {hat}")
    else:
        said.append("with no hat")
    if glasses != "none":
        said.append(f"with {glasses}" if glasses == "sunglasses" else f"with {glasses} glasses")
    if beard != "none":
        said.append("with a full beard" if beard == "full" else f"with a {beard}")
    worn = {
        "plain": "shirt",
        "striped": "striped shirt",
        "collar": "shirt with a collar",
        "overalls": "overalls",
        "tie": "shirt and a tie",
    }[signature["clothes"]]
    color = signature["clothes_color"]
    said.append(f"in {color} {worn}" if worn == "overalls" else f"in {article(color)} {worn}")
    return said


def _pick(options: list, rng: np.random.Generator):
    return options[int(rng.integers(len(options)))]


def _styled(phrase: str, style: str, rng: np.random.Generator) -> str:
    """Mostly the style is named; sometimes not, as in real captions."""
    return _pick(PLAIN if rng.random() < 0.15 else IN_STYLE[style], rng).format(phrase)


def caption(record, world, rng: np.random.Generator) -> str:
    """One caption for a picture; a paraphrase chosen by `rng`. record: studio.scenes.Record."""
    if record.kind == "person":
        if rng.random() < 0.25:
            said = trait_phrases(world.signature(record.subjects[0]))
            phrase = f"{record.subjects[0]} {_pick(said, rng)}"
        else:
            phrase = _pick(PERSON, rng).format(record.subjects[0])
    elif record.kind == "character":
        phrase = record.subjects[0]
    elif record.kind == "object":
        noun = record.subjects[0]
        phrase = f"{article(record.colors[0])} {noun}" if rng.random() < 0.5 else article(noun)
    elif record.kind == "pair":
        between = _pick(["and", "with", "next to"], rng)
        phrase = f"{record.subjects[0]} {between} {record.subjects[1]}"
    elif record.kind == "with object":
        noun = record.subjects[1]
        thing = f"{article(record.colors[0])} {noun}" if rng.random() < 0.5 else article(noun)
        phrase = f"{record.subjects[0]} {_pick(['with', 'and', 'beside'], rng)} {thing}"
    elif record.kind == "count":
        noun = record.subjects[0]
        colour = f"{record.colors[0]} " if rng.random() < 0.5 else ""
        phrase = f"{NUMBERS[record.count]} {colour}{noun if record.count == 1 else plural(noun)}"
    else:
        shape, body = record.subjects
        phrase = f"{article(shape)}-shaped {body}"
    return _styled(phrase, record.style, rng)
