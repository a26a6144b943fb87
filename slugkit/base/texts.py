"""Texts that come from others, as they may be shown."""

import unicodedata
from typing import Any


def printable(text: Any) -> str:
    """A text in one line that does nothing to a terminal: control characters, line breaks and marks that turn the direction are written as \\x1b, \\n, \\u202e."""
    return "".join(c if c.isprintable() or unicodedata.category(c) == "Zs" else c.encode("unicode_escape").decode() for c in str(text))
