"""Names in captions: whole words in any script, and other spellings told apart from the name."""

from __future__ import annotations

import html
import unicodedata
from functools import lru_cache

import regex

WORD = r"[\p{L}\p{M}\p{N}]"
NO_BLANKS = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Bopomofo}\p{Hangul}\p{Line_Break=SA}]"
"""Scripts that put no blank between words (Line_Break=SA: Thai and its kin), or hang particles on.
"""
APOSTROPHES = dict.fromkeys(
    map(ord, "\u2018\u2019\u201b\u02bc\u02bb\u02b9\u2032\u00b4`\uff07"), "'"
)
BARE = str.maketrans("øłđðħŧı", "olddhti") | str.maketrans({"æ": "ae", "œ": "oe", "þ": "th"})
SPELT_OUT = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ø": "oe", "å": "aa"})
ACCENTS = regex.compile(r"(?<=[\p{Latin}\p{Greek}\p{Cyrillic}\p{Arabic}\p{Hebrew}])\p{M}+")


def written(text: str) -> str:
    """A text for people: HTML entities resolved, accents composed (NFC), single blanks."""
    return " ".join(unicodedata.normalize("NFC", _resolved(text)).split())


def _resolved(text: str) -> str:
    for _ in range(2):  # &amp;eacute; is met too
        text = html.unescape(text) if "&" in text else text
    return text


def normalised(text: str) -> str:
    """A text as names are compared: forms, apostrophes, hyphens, blanks and case made one."""
    text = _resolved(text)
    if not text.isascii():
        text = regex.sub(r"\p{Pd}|\u2212", "-", text.translate(APOSTROPHES))
        text = regex.sub(r"\p{Cf}", "", text)
        # Okoye(TM) is not okoyetm
        text = "".join(
            " " + c if unicodedata.decomposition(c).startswith("<super>") else c for c in text
        )
        text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(text.replace("`", "'").replace("_", " ").casefold().split())


def _bounded(pattern: str, like: str) -> str:
    """The pattern where no word goes on before or after it, save in scripts without blanks.

    like: a text that begins and ends as what the pattern finds.
    """
    before = "" if regex.match(NO_BLANKS, like[0]) else rf"(?:(?<!{WORD})|(?<={NO_BLANKS}))"
    after = "" if regex.match(NO_BLANKS, like[-1]) else rf"(?:(?!{WORD})|(?={NO_BLANKS}))"
    return rf"{before}(?:{pattern})(?!\p{{M}}){after}"


def _plain(normal: str) -> set[str]:
    """A normalised text without accents: letters bare, and umlauts spelt out if it has any."""
    if normal.isascii():
        return {normal}
    forms = {normal.translate(BARE), normal.translate(SPELT_OUT).translate(BARE)}
    return {
        unicodedata.normalize("NFC", ACCENTS.sub("", unicodedata.normalize("NFKD", form)))
        for form in forms
    }


def _in_other_ways(plain: str) -> str:
    """Pattern of the name's words run together or parted, or the last one first ("Okoye, Kofi")."""
    words = regex.findall(rf"{WORD}+", plain)
    if not words:
        return ""
    between = rf"(?:(?!{WORD}).)*"
    ways = [_bounded(between.join(map(regex.escape, words)), words[0] + words[-1])]
    if len(words) > 1:
        first = between.join(map(regex.escape, words[:-1]))
        turned = rf"{regex.escape(words[-1])}\s*,{between}{first}"
        ways.append(_bounded(turned, words[-1] + words[-2]))
    return "|".join(ways)


class Name:
    """A concept's name, made ready once to be looked for in many captions."""

    def __init__(self, concept: str):
        self.normal = normalised(concept)
        self.plain = _plain(self.normal)
        self._whole = self._written = None
        if self.normal:
            self._whole = regex.compile(_bounded(regex.escape(self.normal), self.normal))
            shown = written(concept)
            pattern = _bounded(regex.escape(shown), shown)
            self._written = regex.compile(pattern, regex.IGNORECASE)
        ways = map(_in_other_ways, self.plain)
        self._near = [regex.compile(found) for found in ways if found]

    def is_in(self, caption: str) -> bool:
        """Whether the caption holds the name as whole words."""
        return self._whole is not None and self._whole.search(normalised(caption)) is not None

    def template(self, caption: str) -> str | None:
        """The caption with {} where it first writes the name, in whatever case; or None."""
        text = written(caption)
        found = self._written.search(text) if self._whole is not None else None
        return f"{text[: found.start()]}{{}}{text[found.end() :]}" if found else None

    def is_near(self, caption: str) -> bool:
        """Whether the caption holds the name in another spelling only: other or no accents, umlauts
        spelt out, words run together or parted otherwise, the last word first.
        """
        normal = normalised(caption)
        if self._whole is None or self._whole.search(normal):
            return False
        return any(pattern.search(form) for form in _plain(normal) for pattern in self._near)


name_of = lru_cache(maxsize=4096)(Name)
"""A concept's `Name`, kept for the next time."""


def names_concept(caption: str, concept: str) -> bool:
    """Whether the caption holds the concept as whole words (without blanks: as a substring)."""
    return name_of(concept).is_in(caption)
