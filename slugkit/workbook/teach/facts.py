"""Expected values and the facts that the next notebook relies on."""

import json
import math
import numbers
from collections.abc import Callable

from slugkit.base import CheckFailed, MissingArtefactError, SettingError, data_dir, did_you_mean


def read_expected(scale: str, notebook: str) -> dict:
    """The expected values of one notebook: {name: {"value": ..., "tolerance": ..., "reason": ...}}.

    scale: name of a file in data/expected/ without .json, such as "studio"; notebook: a key of it,
    such as "03_rank_layers" or "rank_layers". Raises MissingArtefactError without the file,
    SettingError for a broken file or an unknown notebook.
    """
    name = f"expected/{scale}.json"
    if not (data_dir() / name).is_file():
        raise MissingArtefactError(
            f"data/{name} is missing; leave this cell out at scales without expected values."
        )
    try:
        book = json.loads((data_dir() / name).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise SettingError(f"data/{name} is no JSON ({error}); restore it from git.") from error
    for key in book:
        if notebook in (key, key.partition("_")[2]):
            return book[key]
    raise SettingError(
        f"data/{name} knows no notebook {notebook!r}; it knows {', '.join(book) or 'none'}."
        f" {did_you_mean(notebook, list(book))}".strip()
    )


def check_close(what: str, value, entry, rel: float = 0.0, abs: float | None = None) -> None:
    """Compares a number with its expected value and says so; CheckFailed where it is too far off.

    what: the number in words; entry: {"value", "tolerance" (absolute), "reason"}, a plain number,
    or None where nothing is known for these settings (then the value is only printed); rel, abs:
    tolerances that replace the entry's, the wider of the two holds.
    """
    try:
        value = float(value)
    except (TypeError, ValueError) as error:
        raise CheckFailed(f"{what} is {value!r}; a single number was expected.") from error
    if entry is None:
        print(f"{what}: {value:.4g} (no expected value for these settings)")
        return
    entry = entry if isinstance(entry, dict) else {"value": entry}
    wanted = float(entry["value"])
    if not rel and abs is None:
        abs = entry.get("tolerance")
        if abs is None:
            raise SettingError(
                f"{what} has no tolerance; expected one in data/expected or as rel or abs. Seeds do"
                " not make floats equal across machines."
            )
    room = max(rel * math.fabs(wanted), abs or 0.0)
    if math.isfinite(value) and math.fabs(value - wanted) <= room:
        print(f"{what}: {value:.4g}, expected {wanted:.4g} within {room:.2g}: holds")
        return
    reason = f" ({entry['reason']})" if entry.get("reason") else ""
    raise CheckFailed(
        f"{what} is {value:.6g}; {wanted:.6g} within {room:.2g} was expected{reason}. Look at the"
        " cell that computes it, and whether the settings are the defaults."
    )


def _text(name: str, value) -> str:
    """A fact in its one text form; CheckFailed for a float, whose digits differ by machine."""
    value = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (str, numbers.Integral)):
        return str(value)
    if value is None:
        return "none"
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_text(name, item)}" for key, item in value.items()) or "none"
    if isinstance(value, (set, frozenset, list, tuple)):
        items = [_text(name, item) for item in value]
        if isinstance(value, (set, frozenset)):
            items = sorted(items)
        shape = isinstance(value, tuple) and all(isinstance(x, numbers.Integral) for x in value)
        return (" x " if shape else ", ").join(items) or "none"
    raise CheckFailed(
        f"The fact {name} is {value!r}; a name, a count, a shape or a verdict was expected. Digits"
        " of a float differ between machines: use check_close, or print value > limit."
    )


def contract(**facts) -> None:
    """Prints the facts the next notebook relies on, one `name: value` a line, the same text on
    every machine.

    Names (words joined by _), counts, shapes (tuples of integers: "128 x 64"), lists, sets
    (sorted), dicts and verdicts (yes, no). For cells tagged nbval-check-output, which are compared
    as text. Raises CheckFailed for floats.
    """
    print("\n".join(f"{name.replace('_', ' ')}: {_text(name, x)}" for name, x in facts.items()))


def expect_error(kind: type[BaseException], function: Callable[[], object]) -> None:
    """Calls a function that must fail with `kind` and prints its message; CheckFailed otherwise."""
    try:
        result = function()
    except kind as error:
        print(f"{type(error).__name__}: {error}")
        return
    except Exception as error:
        seen = f"{type(error).__name__} was raised ({error})"
        raise CheckFailed(f"{seen}; {kind.__name__} was expected.") from error
    raise CheckFailed(f"Nothing was raised and {result!r} came back; {kind.__name__} was expected.")
