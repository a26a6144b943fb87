"""Texts of unknown origin where a program would act on them: on a terminal, and in a spreadsheet."""

import re
import unicodedata
from typing import Any

FORMULA = re.compile(r"'*(?:\s*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n])")
"""How a cell begins that a spreadsheet takes for a formula; quotes before it are one more than were in the text."""


def printable(text: Any) -> str:
    """A text in one line that does nothing to a terminal: control characters, line breaks and marks that turn the direction are written as \\x1b, \\n, \\u202e."""
    return "".join(c if c.isprintable() or unicodedata.category(c) == "Zs" else c.encode("unicode_escape").decode() for c in str(text))


def to_cell(value: Any) -> Any:
    """A value for a CSV: a text that a spreadsheet would run gets an apostrophe before it. Everything else stays as it is."""
    return f"'{value}" if isinstance(value, str) and FORMULA.match(value) else value


def from_cell(text: str) -> str:
    """What `to_cell` was given."""
    return text[1:] if text.startswith("'") and FORMULA.match(text) else text
