"""A name that is none of those that were expected, and those that it may have meant."""

from collections.abc import Iterable

from rapidfuzz import fuzz, process, utils

from slugkit.base.errors import SettingError


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
