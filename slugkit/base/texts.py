"""Texts of unknown origin where a program would act on them: terminal, spreadsheet, file name."""

import re
import unicodedata
from typing import Any

from slugkit.base.hashing import sha256_bytes

FORMULA = re.compile(r"'*(?:\s*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n])")
"""How a cell begins that a spreadsheet takes for a formula, after the quotes of `to_cell`."""


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
    return f"{kept}-{sha256_bytes(text.encode('utf-8', 'surrogatepass'))[:8]}".lstrip("-")


def to_cell(value: Any) -> Any:
    """A value for a CSV: a text that a spreadsheet would run gets an apostrophe before it."""
    return f"'{value}" if isinstance(value, str) and FORMULA.match(value) else value


def from_cell(text: str) -> str:
    """What `to_cell` was given."""
    return text[1:] if text.startswith("'") and FORMULA.match(text) else text
