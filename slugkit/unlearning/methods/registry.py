"""The methods by name, and how one is added."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from slugkit.base import SettingError, require_choice


@dataclass(frozen=True)
class Method:
    """One way to unlearn under `sk.unlearn(..., method=...)`.

    Attributes:
        name: as results and tables call it.
        source: where it comes from: a paper, or whose idea it is.
        run: what is done with a `slugkit.unlearning.trial.Trial`; None for SLUG and its kin, which
            search one layer after the other.
        which: of those, which layers are searched, see `slugkit.unlearning.result.front_layers`.
        retain_aware: of those, whether the step goes along what the retain set hardly feels.
        margin: of those, whether it then takes the usual margin (`concept.MARGIN`).
        towers: those that it can change; "pipeline" or "vlm" of a method that works on a Stable
            Diffusion or a LLaVA itself.
        trains: whether more pairs would let it go on.
    """

    name: str
    source: str
    run: Callable[[Any], None] | None = None
    which: str = ""
    retain_aware: bool = False
    margin: bool = True
    towers: tuple[str, ...] = ("text", "vision")
    trains: bool = False

    @property
    def module(self) -> str:
        """Where its function was written; "" of SLUG and its kin."""
        return getattr(self.run, "__module__", "")


METHODS: dict[str, Method] = {}
"""Name -> method. `method` adds one."""


def add(new: Method) -> Method:
    """Add a method under its name; one that the same module added, as a notebook's cell that is run
    again, is replaced. Raises SettingError where another one has the name.
    """
    for known in METHODS.values():
        same = known.name == new.name and known.module == new.module != ""
        if known.name.casefold() == new.name.casefold() and not same:
            raise SettingError(
                f"There is a method {known.name!r} already; a new name was expected. Take it out"
                f" of METHODS first, or name yours otherwise."
            )
    METHODS[new.name] = new
    return new


def method(name: str, source: str, **more) -> Callable[[Callable], Callable]:
    """Decorator: add a function of a `Trial` as a method.

        @method("shrink", source="an example")
        def shrink(trial): ...

    more: further fields of `Method`.
    """

    def register(run: Callable[[Any], None]) -> Callable[[Any], None]:
        add(Method(name, source, run, **more))
        return run

    return register


def method_named(name: str) -> Method:
    """The method of this name, in capitals or not. Raises SettingError, naming those alike."""
    known = {key.casefold(): found for key, found in METHODS.items()}
    if name.casefold() in known:
        return known[name.casefold()]
    return METHODS[require_choice(name, METHODS, "The method")]
