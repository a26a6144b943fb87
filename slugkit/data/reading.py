"""What a model reads of a text: its tokens, up to its context."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from slugkit.base import SettingError


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


def fitting(
    prompts: dict[str, dict[str, list[str]]], reading: Reading
) -> dict[str, dict[str, list[str]]]:
    """Of wording -> class -> texts the wordings that are read to their end; all where there is
    none.

    Raises SettingError where two classes that are called differently get the same tokens.
    """
    fine = {
        wording: classes
        for wording, classes in prompts.items()
        if all(reading.fits(text) for texts in classes.values() for text in texts)
    }
    for classes in (fine or prompts).values():
        seen: dict[tuple, list[str]] = {}
        for texts in classes.values():
            other = seen.setdefault(tuple(reading.key(t) for t in texts), texts)
            if other != texts:
                raise SettingError(
                    f"The model reads {reading.context} tokens of a text, and these are the same "
                    f"for {other[0]!r} and {texts[0]!r}; different ones were expected. Give one of "
                    "the classes a shorter or another name, write captions that begin with the "
                    "name, or take a model that reads more."
                )
    return fine or prompts
