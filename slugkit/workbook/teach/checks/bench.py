"""The bench on which an exercise is tried: cases, comparison, and the slip behind an answer."""

import copy
import functools
import math
from collections.abc import Callable, Iterable

import numpy as np
import torch

from slugkit.base import CheckFailed

TOLERANCE = 1e-8
FORMULA = "compare each step with the formula above."
SHAPES = [(4, 4), (3, 7), (8, 2), (5,), (4, 3, 2, 2)]
"""Shapes a weight can have: square, wide, tall, a vector, a convolution."""


def random_tensor(seed: int, *shape: int) -> torch.Tensor:
    """A float64 tensor of standard normal numbers, the same for the same seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random_pairs(shapes, seed: int, scale: float = 1.0) -> list[tuple]:
    """Two random tensors for each shape, the second from `seed` on and `scale` times as large."""
    return [
        (random_tensor(i, *shape), scale * random_tensor(seed + i, *shape))
        for i, shape in enumerate(shapes)
    ]


class Bench:
    """Counts the checks of one exercise; the first that fails raises CheckFailed."""

    def __init__(self, function: Callable):
        self.function, self.passed = function, 0
        self.name = getattr(function, "__name__", "your function")

    def need(self, ok, seen: str, look: str) -> None:
        """What must hold without being counted.

        Args:
            ok: whether it holds.
            seen: what happened and what was expected.
            look: what to look at.
        """
        if not ok:
            raise CheckFailed(f"{self.name}, check {self.passed + 1}: {seen}. Look: {look}")

    def hold(self, ok, seen: str, look: str) -> None:
        """`need`, counted as a check."""
        self.need(ok, seen, look)
        self.passed += 1

    def call(self, *inputs, copies: bool = True):
        """The reader's answer; fails where it stops, returns nothing or changes its inputs.

        copies: hand copies in; without, the answer's graph leads back to the inputs.
        """
        before = copy.deepcopy(inputs)
        given, inputs = (copy.deepcopy(inputs), inputs) if copies else (inputs, before)
        try:
            answer = self.function(*given)
        except NotImplementedError:
            raise
        except Exception as error:
            raise CheckFailed(
                f"{self.name} stopped with {type(error).__name__}: {error}. It was called with:"
                f" {'; '.join(map(_short, inputs))}."
            ) from error
        look = "is there a return at the end?"
        self.need(answer is not None, "None came back; an answer was expected", look)
        look = "make a new tensor or list instead of writing into the one passed in."
        kept = all(map(_same, inputs, given))
        self.need(kept, "one of the inputs was changed; they were to stay as they are", look)
        return answer

    def done(self) -> None:
        """Says how many checks passed."""
        print(f"{self.passed} checks passed")

    def number(self, answer) -> float:
        """The answer as one finite number."""
        if isinstance(answer, torch.Tensor):
            seen = f"a tensor of shape {tuple(answer.shape)} came back; one number was expected"
            look = "take the norm or mean over all entries, not along one axis."
            self.need(answer.numel() == 1, seen, look)
            answer = answer.detach()
        (value,) = _floats([answer]) or [None]
        look = "what does the return line hand back?"
        self.need(value is not None, f"{answer!r} came back; one number was expected", look)
        look = "is something divided by zero, or a logarithm taken of it?"
        self.need(math.isfinite(value), f"{value} came back; a finite one was expected", look)
        return value

    def tensor(self, answer, shape) -> torch.Tensor:
        """The answer as a tensor of that shape."""
        expected = f"came back; a tensor of shape {tuple(shape)} was expected"
        look = "keep the tensor, without .item() or .sum()."
        kind = type(answer).__name__
        self.need(isinstance(answer, torch.Tensor), f"a {kind} {expected}", look)
        look = "the result has the shape of one of its inputs."
        self.need(answer.shape == shape, f"shape {tuple(answer.shape)} {expected}", look)
        return answer.detach()

    def compare(self, got, wanted, slips: dict, otherwise=FORMULA, seen="", tolerance=TOLERANCE):
        """One check of an answer; slips: {hint: the answer that slip would give}."""
        near = functools.partial(_near, tolerance=tolerance)
        look = next((hint for hint, wrong in slips.items() if near(got, wrong)), otherwise)
        if isinstance(wanted, torch.Tensor) and wanted.ndim:
            seen = "a tensor with other values came back; the right one differs"
        else:
            seen = seen or f"{_short(got)} came back; {_short(wanted)} was expected"
        self.hold(near(got, wanted), seen, look)


def one_value(bench: Bench, inputs, wanted):
    """Reads the answer to a call as a number or a tensor, like the right one."""
    answer = bench.call(*inputs)
    if isinstance(wanted, torch.Tensor) and wanted.ndim:
        return bench.tensor(answer, wanted.shape)
    return bench.number(answer)


def several(*names: str):
    """A reader of the answer to a call as so many numbers."""
    count = {2: "two", 3: "three"}[len(names)]

    def read(bench: Bench, inputs, wanted) -> tuple[float, ...]:
        answer = bench.call(*inputs)
        found, listed = _floats(answer), ", ".join(names)
        seen = f"{answer!r} came back; {count} numbers ({listed}) were expected"
        bench.need(len(found) == len(names), seen, f"return {listed}.")
        return tuple(found)

    return read


def flags(bench: Bench, inputs, wanted, what: str = "layers") -> list[bool]:
    """Reads the answer to a call as a list of True and False, as many as in the right one."""
    answer = bench.call(*inputs)
    answer = answer.tolist() if hasattr(answer, "tolist") else list(answer)
    seen = f"{answer!r} came back; a list of {len(wanted)} times True or False was expected"
    look = f"one answer for each, in their order, not the {what} themselves."
    bench.need(len(answer) == len(wanted) and all(x in (0, 1) for x in answer), seen, look)
    return [bool(item) for item in answer]


def exercise(
    cases: Iterable[tuple], read: Callable = one_value, otherwise=FORMULA, tolerance=TOLERANCE
):
    """Decorator: makes the right answer and those of the usual slips the check of an exercise.

    Args:
        cases: the inputs of each call.
        read: (bench, inputs, right answer) -> the reader's answer; makes the call.
        otherwise: what to look at where no slip gives the answer.
        tolerance: relative and absolute.

    The decorated function takes the inputs of a call and returns (right answer, {hint: wrong one}).
    """

    cases = list(cases)

    def decorated(answers):
        @functools.wraps(answers)
        def check(function) -> None:
            bench = Bench(function)
            for inputs in cases:
                wanted, slips = answers(*inputs)
                got, seen = read(bench, inputs, wanted), ""
                if not any(isinstance(x, torch.Tensor) for x in inputs):
                    asked = f"{answers.__name__}({', '.join(map(_short, inputs))})"
                    seen = f"{asked} gave {_short(got)}; {_short(wanted)} was expected"
                bench.compare(got, wanted, slips, otherwise, seen, tolerance)
            bench.done()

        del check.__wrapped__  # its signature is not that of the check
        return check

    return decorated


def _floats(values) -> list[float]:
    try:
        return [float(value) for value in values]
    except (TypeError, ValueError):
        return []


def _short(value) -> str:
    """An input or an answer in words."""
    if isinstance(value, torch.Tensor) and value.ndim:
        return f"float64 of shape {tuple(value.shape)}"
    if isinstance(value, (float, torch.Tensor)):
        return f"{float(value):.6g}"
    if isinstance(value, (tuple, np.ndarray)):
        return f"({', '.join(map(_short, value))})"
    return repr(value)[:80]


def _same(before, after) -> bool:
    """Whether an input is as it was, also when it is a list of tensors."""
    if isinstance(before, (list, tuple)):
        return len(before) == len(after) and all(map(_same, before, after))
    if isinstance(before, torch.Tensor):
        return torch.equal(before, after)
    return bool(np.array_equal(before, after))


def _near(a, b, tolerance: float) -> bool:
    """Whether two numbers, tensors or lists are equal up to rounding."""
    a, b = torch.as_tensor(a, dtype=torch.float64), torch.as_tensor(b, dtype=torch.float64)
    return a.shape == b.shape and torch.allclose(a, b, rtol=tolerance, atol=tolerance)
