"""When a concept counts as forgotten."""

from dataclasses import dataclass

from slugkit.base import SettingError

TOP = {"fa1": 1, "fa5": 5}
"""What a criterion looks at -> its k."""
MANY = 20
"""Classes from which on the criterion asks that the name be not among the first five."""


@dataclass(frozen=True)
class Criterion:
    """When the model counts as having forgotten: the target's forget accuracy FA@k, in the search
    wording in which it is largest, is `at_most` (0 to less than 1) or less.

    target: "fa1" (no picture is called by the name) or "fa5" (the name is not among the first five
    answers, as in the authors' code).
    """

    target: str = "fa5"
    at_most: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.at_most < 1:
            raise SettingError(
                f"at_most is {self.at_most}; a share of 0 or more and less than 1 was expected,"
                " such as 0: none is recognised."
            )
        if self.target not in TOP:
            raise SettingError(f"target is {self.target!r}; 'fa1' or 'fa5' was expected.")

    @classmethod
    def among(cls, classes: int, target: str = "auto") -> "Criterion":
        """The criterion for a name among so many classes: "auto" is FA@5 from 20 classes up, else
        FA@1 (among seven, "not in the first five" is no sensible demand).
        """
        return cls(("fa5" if classes >= MANY else "fa1") if target == "auto" else target)

    @property
    def name(self) -> str:
        """As it is written: FA@1 or FA@5."""
        return f"FA@{TOP[self.target]}"

    def value(self, forget: dict[str, float]) -> float:
        """The forget accuracy the criterion looks at, of shares fa1 and fa5: 0..1."""
        return float(forget[self.target])

    def forgotten(self, forget: dict[str, float]) -> bool:
        """Whether that accuracy is `at_most` or less."""
        return self.value(forget) <= self.at_most
