"""What a model reads of a text, up to its context, and in which words classes are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from slugkit.base import SettingError

LEAST, SEED = 3, 31
"""Wordings that a split has at least, and the seed by which templates are dealt out."""
PLAIN = {
    "search": ("{}", "a photo of {}", "this is {}", "a drawing of {}", "{} in black and white"),
    "report": ("a picture of {}", "it is {}", "an image of {}", "{} outdoors", "a painting of {}"),
}
Wordings = dict[str, dict[str, list[str]]]
"""Wording -> class -> its texts."""


@dataclass(frozen=True)
class Reading:
    """A model's way to read. ids: a text -> all its tokens. context: how many of them it takes."""

    ids: Callable[[str], list[int]]
    context: int

    def fits(self, text: str) -> bool:
        """Whether the model reads the text to its end."""
        return len(self.ids(text)) <= self.context

    def part(self, text: str) -> str:
        """What the model reads of the text: all of it, or its longest beginning that fits."""
        if self.fits(text):
            return text
        low, high = 0, len(text)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.fits(text[:middle]) else (low, middle)
        return text[:low]

    def key(self, text: str) -> tuple[int, ...]:
        """What tells the text from others: the tokens that are read of it."""
        found = self.ids(text)
        return tuple(found if len(found) <= self.context else found[: self.context - 1])


def fitting(prompts: Wordings, reading: Reading | None) -> Wordings:
    """The wordings that are read to their end in every class; all of them where there is none.

    Raises SettingError where two classes that are called differently get the same tokens.
    """
    if reading is None:
        return prompts
    fine = {
        wording: classes
        for wording, classes in prompts.items()
        if all(reading.fits(text) for texts in classes.values() for text in texts)
    }
    for classes in (fine or prompts).values():
        seen: dict[tuple, list[str]] = {}
        for texts in classes.values():
            other = seen.setdefault(tuple(map(reading.key, texts)), texts)
            if other != texts:
                raise SettingError(
                    f"The model reads {reading.context} tokens of a text, and these are the same "
                    f"for {other[0]!r} and {texts[0]!r}; different ones were expected. Give one of "
                    "the classes another name, write captions that begin with the name, or take a "
                    "model that reads more."
                )
    return fine or prompts


def filled(wordings: Iterable[str], names: Iterable[str]) -> Wordings:
    """Each wording with each name in the place of {}."""
    names = list(names)
    return {w: {name: [w.replace("{}", name)] for name in names} for w in wordings}


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


def dealt_texts(prompts: dict[str, list[str]], split: str) -> Wordings:
    """Of the texts of each class one half, dealt out like templates."""
    places = _half(len(next(iter(prompts.values()))), split)
    return {f"template {i}": {c: [said[i]] for c, said in prompts.items()} for i in places}
