"""The bench on which an exercise is tried: random inputs, comparison, and the guess at the slip behind a wrong
answer.
"""

import copy
import math
from collections.abc import Mapping

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

    def call(self, *inputs):
        """Calls the reader's function with copies, and fails where it stops, returns nothing or changes its inputs."""
        given = copy.deepcopy(inputs)
        try:
            answer = self.function(*given)
        except NotImplementedError:
            raise
        except Exception as error:
            raise CheckFailed(
                f"{self.name} stopped with {type(error).__name__}: {error}. {self._inputs(inputs)}"
            ) from error
        if answer is None:
            self.fail("None came back", "an answer was expected", "is there a return at the end?")
        for before, after in zip(inputs, given, strict=True):
            same = torch.equal(before, after) if isinstance(before, torch.Tensor) else _same(before, after)
            if not same:
                self.fail(
                    "one of the inputs was changed",
                    "the inputs were to stay as they are",
                    "make a new tensor or list instead of writing into the one passed in.",
                )
        return answer

    @staticmethod
    def _inputs(inputs) -> str:
        """The inputs of a call in words."""
        words = [f"float64 of shape {tuple(x.shape)}" if isinstance(x, torch.Tensor) else repr(x)[:80] for x in inputs]
        return f"It was called with: {'; '.join(words)}."

    def fail(self, happened: str, expected: str, look: str):
        """Raises CheckFailed: what happened, what was expected, what to look at."""
        raise CheckFailed(f"{self.name}, check {self.passed + 1}: {happened}; {expected}. Look: {look}")

    def hold(self, ok, happened: str, expected: str, look: str) -> None:
        """One check that must hold."""
        if not ok:
            self.fail(happened, expected, look)
        self.passed += 1

    def number(self, answer) -> float:
        """The answer as one finite number."""
        if isinstance(answer, torch.Tensor) and answer.numel() != 1:
            self.fail(
                f"a tensor of shape {tuple(answer.shape)} came back",
                "one number was expected",
                "take the norm or mean over all entries, not along one axis.",
            )
        try:
            value = float(answer.detach() if isinstance(answer, torch.Tensor) else answer)
        except (TypeError, ValueError):
            self.fail(f"{answer!r} came back", "one number was expected", "what does the return line hand back?")
        if not math.isfinite(value):
            self.fail(
                f"{value} came back",
                "a finite number was expected",
                "is something divided by zero, or a logarithm taken of it?",
            )
        return value

    def close(
        self,
        answer,
        wanted,
        slips: Mapping[str, object] | None = None,
        otherwise: str = "compare each step with the formula above.",
    ) -> None:
        """Compares a number or tensor with the right one; slips: {hint: the answer that slip would give}."""
        single = not isinstance(wanted, torch.Tensor) or wanted.ndim == 0
        if not single:
            self._shape(answer, wanted)
        got = self.number(answer) if single else answer.detach()
        if _near(got, wanted):
            self.passed += 1
            return
        for hint, wrong in (slips or {}).items():
            if wrong is not None and _near(got, wrong) and not _near(wanted, wrong):
                self.fail(self._seen(got), self._wanted(wanted), hint)
        self.fail(self._seen(got), self._wanted(wanted), otherwise)

    def _shape(self, got, wanted) -> None:
        if not isinstance(got, torch.Tensor):
            self.fail(
                f"a {type(got).__name__} came back",
                f"a tensor of shape {tuple(wanted.shape)} was expected",
                "keep the tensor, without .item() or .sum().",
            )
        if got.shape != wanted.shape:
            self.fail(
                f"shape {tuple(got.shape)} came back",
                f"{tuple(wanted.shape)} was expected",
                "the result has the shape of one of its inputs.",
            )

    @staticmethod
    def _seen(got) -> str:
        return "a tensor with other values came back" if isinstance(got, torch.Tensor) else f"{got:.6g} came back"

    @staticmethod
    def _wanted(wanted) -> str:
        return "the right one differs" if isinstance(wanted, torch.Tensor) else f"{float(wanted):.6g} was expected"

    def done(self) -> None:
        """Says how many checks passed."""
        print(f"{self.passed} checks passed")


def _same(before, after) -> bool:
    """Whether an input is as it was, also when it is a list of tensors."""
    if isinstance(before, (list, tuple)) and any(isinstance(item, torch.Tensor) for item in before):
        return len(before) == len(after) and all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    if isinstance(before, np.ndarray):
        return np.array_equal(before, after)
    return bool(before == after)


def _near(a, b, tolerance: float = TOLERANCE) -> bool:
    """Whether two numbers or tensors are equal up to rounding in float64."""
    a, b = torch.as_tensor(a, dtype=torch.float64), torch.as_tensor(b, dtype=torch.float64)
    return a.shape == b.shape and bool(torch.allclose(a, b, rtol=tolerance, atol=tolerance))
