"""In which words classes are asked for where the data bring no wordings of their own."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

LEAST, SEED = 3, 31
"""Wordings that a split has at least, and the seed by which templates are dealt out."""
PLAIN = {
    "search": ("{}", "a photo of {}", "this is {}", "a drawing of {}", "{} in black and white"),
    "report": ("a picture of {}", "it is {}", "an image of {}", "{} outdoors", "a painting of {}"),
}


def _half(count: int, split: str) -> list[int]:
    """Every second place of a fixed shuffle, in order."""
    order = np.random.Generator(np.random.PCG64(SEED)).permutation(count)
    return sorted(order[list(PLAIN).index(split) :: len(PLAIN)].tolist())


def dealt(templates: Iterable[str], split: str) -> list[str]:
    """One half of the templates (texts with {}), filled up to three with plain words."""
    found = list(dict.fromkeys(templates))
    mine = [found[i] for i in _half(len(found), split)]
    plain = [wording for wording in PLAIN[split] if wording not in found]
    return mine + plain[: max(0, LEAST - len(mine))]


def dealt_texts(prompts: dict[str, list[str]], split: str) -> dict[str, dict[str, list[str]]]:
    """Wording -> class -> its text, dealt out like templates."""
    texts = len(next(iter(prompts.values())))
    return {
        f"template {i}": {c: [said[i]] for c, said in prompts.items()} for i in _half(texts, split)
    }
