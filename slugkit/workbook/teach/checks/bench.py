"""The bench on which an exercise is tried: random inputs, comparison, and the guess at the slip
behind a wrong answer.
"""

import copy
import math
from collections.abc import Callable, Mapping

import numpy as np
import torch

from slugkit.base import CheckFailed

TOLERANCE = 1e-8


def shapes() -> list[tuple[int, ...]]:
    """Shapes a weight can have: square, wide, tall, a vector, a convolution."""
    return [(4, 4), (3, 7), (8, 2), (5,), (4, 3, 2, 2)]


def random_tensor(seed: int, *shape: int) -> torch.Tensor:
    """A float64 tensor of standard normal numbers, the same for the same seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Bench:
    """Counts the checks of one exercise; the first that fails raises CheckFailed."""

    def __init__(self, function):
        self.function, self.passed = function, 0
        self.name = getattr(function, "__name__", "your function")

    def call(self, *inputs, copies: bool = True):
        """Calls the reader's function, and fails where it stops, returns nothing or changes its
        inputs. copies: hand copies in; without, the answer's graph leads back to the inputs.
        """
        before = copy.deepcopy(inputs)
        given, inputs = (copy.deepcopy(inputs), inputs) if copies else (inputs, before)
        try:
            answer = self.function(*given)
        except NotImplementedError:
            raise
        except Exception as error:
            raise CheckFailed(
                f"{self.name} stopped with {type(error).__name__}: {error}. {_told(inputs)}"
            ) from error
        if answer is None:
            self.fail("None came back", "an answer was expected", "is there a return at the end?")
        if not all(map(_same, inputs, given)):
            look = "make a new tensor or list instead of writing into the one passed in."
            self.fail("one of the inputs was changed", "the inputs were to stay as they are", look)
        return answer

    def fail(self, happened: str, expected: str, look: str):
        """Raises CheckFailed: what happened, what was expected, what to look at."""
        raise CheckFailed(
            f"{self.name}, check {self.passed + 1}: {happened}; {expected}. Look: {look}"
        )

    def hold(self, ok, happened: str, expected: str, look: str) -> None:
        """One check that must hold."""
        if not ok:
            self.fail(happened, expected, look)
        self.passed += 1

    def number(self, answer) -> float:
        """The answer as one finite number."""
        one = "one number was expected"
        if isinstance(answer, torch.Tensor) and answer.numel() != 1:
            look = "take the norm or mean over all entries, not along one axis."
            self.fail(f"a tensor of shape {tuple(answer.shape)} came back", one, look)
        try:
            value = float(answer.detach() if isinstance(answer, torch.Tensor) else answer)
        except (TypeError, ValueError):
            self.fail(f"{answer!r} came back", one, "what does the return line hand back?")
        if not math.isfinite(value):
            look = "is something divided by zero, or a logarithm taken of it?"
            self.fail(f"{value} came back", "a finite number was expected", look)
        return value

    def numbers(self, answer, expected: str, look: str, count: int) -> tuple[float, ...]:
        """The answer as so many numbers; expected, look: what a failure says."""
        try:
            found = tuple(float(value) for value in answer)
        except (TypeError, ValueError):
            found = ()
        if len(found) != count:
            self.fail(f"{answer!r} came back", expected, look)
        return found

    def listed(self, answer) -> list:
        """The answer as a list, also where it came as an array or a tensor."""
        return answer.tolist() if hasattr(answer, "tolist") else list(answer)

    def same(
        self,
        got,
        wanted,
        slips: Mapping[str, object],
        otherwise: str,
        gave: str,
        alike: Callable[[object, object], bool] = lambda a, b: a == b,
        show: Callable[[object], str] = str,
    ) -> None:
        """Compares an answer that is no tensor. slips: {hint: the answer that slip would give};
        gave: what was asked and came back, in words; show: an answer in words.
        """
        look = next((hint for hint, wrong in slips.items() if alike(got, wrong)), otherwise)
        self.hold(alike(got, wanted), gave, f"{show(wanted)} was expected", look)

    def close(
        self,
        answer,
        wanted,
        slips: Mapping[str, object] | None = None,
        otherwise: str = "compare each step with the formula above.",
    ) -> None:
        """Compares a number or tensor; slips: {hint: the answer that slip would give}."""
        single = not isinstance(wanted, torch.Tensor) or wanted.ndim == 0
        if not single:
            self._shape(answer, wanted)
        got = self.number(answer) if single else answer.detach()
        seen, expected = "a tensor with other values came back", "the right one differs"
        if single:
            seen, expected = f"{got:.6g} came back", f"{float(wanted):.6g} was expected"
        likely = (
            hint
            for hint, wrong in (slips or {}).items()
            if wrong is not None and _near(got, wrong) and not _near(wanted, wrong)
        )
        self.hold(_near(got, wanted), seen, expected, next(likely, otherwise))

    def _shape(self, got, wanted) -> None:
        expected = f"a tensor of shape {tuple(wanted.shape)} was expected"
        if not isinstance(got, torch.Tensor):
            look = "keep the tensor, without .item() or .sum()."
            self.fail(f"a {type(got).__name__} came back", expected, look)
        if got.shape != wanted.shape:
            look = "the result has the shape of one of its inputs."
            self.fail(f"shape {tuple(got.shape)} came back", expected, look)

    def done(self) -> None:
        """Says how many checks passed."""
        print(f"{self.passed} checks passed")


def _told(inputs) -> str:
    """The inputs of a call in words."""
    words = [
        f"float64 of shape {tuple(x.shape)}" if isinstance(x, torch.Tensor) else repr(x)[:80]
        for x in inputs
    ]
    return f"It was called with: {'; '.join(words)}."


def _same(before, after) -> bool:
    """Whether an input is as it was, also when it is a list of tensors."""
    if isinstance(before, torch.Tensor):
        return torch.equal(before, after)
    if isinstance(before, np.ndarray):
        return np.array_equal(before, after)
    if isinstance(before, (list, tuple)):
        return len(before) == len(after) and all(map(_same, before, after))
    return bool(before == after)


def _near(a, b) -> bool:
    """Whether two numbers or tensors are equal up to rounding in float64."""
    a, b = torch.as_tensor(a, dtype=torch.float64), torch.as_tensor(b, dtype=torch.float64)
    return a.shape == b.shape and torch.allclose(a, b, rtol=TOLERANCE, atol=TOLERANCE)
