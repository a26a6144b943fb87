"""Names and texts of unknown origin: which known name is meant, and what a program may act on."""

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from typing import Any

from rapidfuzz import fuzz, process, utils

from slugkit.base.errors import SettingError

FORMULA = re.compile(r"'*(?:\s*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n])")
"""How a cell begins that a spreadsheet takes for a formula, after the quotes of `to_cell`."""


def nearest(name: str, names: Iterable[str], n: int = 3) -> list[str]:
    """Up to `n` of `names` that look most like `name`, whatever the case, best first."""
    known = list(dict.fromkeys(names))
    found = process.extract(
        name, known, scorer=fuzz.WRatio, processor=utils.default_process, limit=n, score_cutoff=60
    )
    return [match for match, _, _ in found]


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """A phrase such as "did you mean lam_init?"; empty where none of `names` comes near."""
    close = nearest(name, names)
    return f"did you mean {' or '.join(close)}?" if close else ""


def require_choice(
    value: str, choices: Iterable[str], what: str, error: type[Exception] = SettingError
) -> str:
    """Return `value` if it is one of `choices`; else raise `error`, naming those it may mean."""
    choices = list(choices)
    if value in choices:
        return value
    few = f"choose one of {', '.join(choices)}." if len(choices) <= 12 else ""
    hint = did_you_mean(value, choices) or few
    raise error(
        f"{what} {value!r} is unknown; one of {len(choices)} names was expected. {hint}".strip()
    )


def printable(text: Any) -> str:
    """A text in one line that does nothing to a terminal: what acts is written as \\x1b, \\n."""

    def plain(c: str) -> bool:
        return c.isprintable() or unicodedata.category(c) == "Zs"

    return "".join(c if plain(c) else c.encode("unicode_escape").decode() for c in str(text))


def as_file_name(text: str) -> str:
    """A name as (part of) a file's name: lower case, hyphens for blanks.

    What a path or a shell would act on is left out; a hash then keeps such names apart.
    """
    plain = unicodedata.normalize("NFC", text).lower().replace(" ", "-")
    if re.fullmatch(r"\w[\w.-]{0,79}", plain) and ".." not in plain:
        return plain
    kept = re.sub(r"[^\w-]+", "-", plain)[:60].strip("-")
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{kept}-{digest[:8]}".lstrip("-")


def to_cell(value: Any) -> Any:
    """A value for a CSV: a text that a spreadsheet would run gets an apostrophe before it."""
    return f"'{value}" if isinstance(value, str) and FORMULA.match(value) else value


def from_cell(text: str) -> str:
    """What `to_cell` was given."""
    return text[1:] if text.startswith("'") and FORMULA.match(text) else text
