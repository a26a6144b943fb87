"""The engine of the checks: tries a reader's function, and names the slip behind a wrong answer."""

import copy
import functools
import math
from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd
import torch

from slugkit.base import CheckFailed

FORMULA = "compare each step with the formula above."


class Bench:
    """Counts the checks of one exercise; the first that fails raises CheckFailed."""

    def __init__(self, function: Callable):
        self.function, self.passed = function, 0
        self.name = getattr(function, "__name__", "your function")

    def need(self, ok, seen: str, look: str) -> None:
        """What must hold without being counted; else says what was seen, and where to look."""
        if not ok:
            raise CheckFailed(f"{self.name}, check {self.passed + 1}: {seen}. Look: {look}")

    def hold(self, rules: Iterable[tuple], asked: str = "") -> None:
        """Counts rules, each (whether it holds, what was seen, what to look at)."""
        for ok, seen, look in rules:
            self.need(ok, asked + seen, look)
            self.passed += 1

    def call(self, *inputs):
        """The reader's answer; fails where it stops, returns nothing or changes its inputs."""
        before = copy.deepcopy(inputs)
        try:
            answer = self.function(*inputs)
        except NotImplementedError:
            raise
        except Exception as error:
            raise CheckFailed(
                f"{self.name} stopped with {type(error).__name__}: {error}. It was called with:"
                f" {'; '.join(map(_short, before))}."
            ) from error
        look = "is there a return at the end?"
        self.need(answer is not None, "None came back; an answer was expected", look)
        look = "make a new tensor or list instead of writing into the one passed in."
        kept = all(map(_same, before, inputs))
        self.need(kept, "one of the inputs was changed; they were to stay as they are", look)
        return answer

    def done(self) -> None:
        """Says how many checks passed."""
        print(f"{self.passed} checks passed")


def exercise(cases, inputs=None, otherwise=FORMULA, form="", words=(), tolerance=1e-5, loss=False):
    """Decorator: makes the right answer and those of the usual slips the check of an exercise.

    Args:
        cases: the arguments of the decorated function.
        inputs: how many of them the reader's function gets; None is all.
        otherwise: what to look at where no slip gives the answer.
        form: what to look at where the answer has another form than the right one.
        words: all answers there are, where they are words or verdicts.
        tolerance: relative, and a hundredth of it absolute; the default lets float32 pass.
        loss: a gradient must flow from the answer back to the inputs.

    The decorated function returns (right answer, {slip: what a reader gets who makes it}), where
    `...` stands for any answer. The check takes the reader's function, more cases, and rules that
    are to hold before.
    """
    cases = list(cases)

    def decorated(answers):
        @functools.wraps(answers)
        def check(function, *more, rules=()) -> None:
            bench = Bench(function)
            bench.hold(rules)
            for case in (*cases, *more):
                wanted, slips = answers(*case)
                given = copy.deepcopy(case[:inputs])
                asked = f"{answers.__name__}({', '.join(map(_short, given))})"
                if loss:
                    leaves = [x.requires_grad_() for x in given if isinstance(x, torch.Tensor)]
                answer = bench.call(*given)
                got = _read(bench, answer, wanted, form, words)
                if loss:
                    bench.hold(_differentiable(answer, leaves))
                hints = (slips | {otherwise: ...}).items()
                look = next(hint for hint, x in hints if x is ... or _near(got, x, tolerance))
                seen = f"{asked} gave {_short(got)}; {_short(wanted)} was expected"
                if isinstance(wanted, torch.Tensor) and wanted.ndim:
                    seen = f"{asked} gave a tensor with other values than the right one"
                bench.hold([(_near(got, wanted, tolerance), seen, look)])
            bench.done()

        del check.__wrapped__  # its signature is not that of the check
        return check

    return decorated


def _differentiable(answer, leaves):
    """Rules: the answer hangs on all its inputs."""
    seen = "the loss is cut off from the features; a tensor for backward() was expected"
    look = "leave out .item(), float(), .detach() and torch.no_grad()."
    yield isinstance(answer, torch.Tensor) and answer.requires_grad, seen, look
    flows = torch.autograd.grad(answer, leaves, allow_unused=True)
    seen = "no gradient reaches one of the two feature matrices; both were expected to get one"
    yield all(g is not None for g in flows), seen, "is one of them detached on the way?"


def _read(bench: Bench, answer, wanted, form: str, words: tuple):
    """The answer in the form of the right one: a word, numbers by name, several, a tensor, one."""
    answer = answer.detach() if isinstance(answer, torch.Tensor) else answer
    found, look, value = [], form, answer
    if words:
        expected, look = "one of them", f"return one of {', '.join(map(repr, words))}."
        fits = isinstance(value, (str, int, np.bool_)) and value in words
    elif isinstance(wanted, dict):
        expected = "a dictionary of numbers"
        fits = isinstance(value, dict) and len(_floats(value.values())) == len(value)
    elif isinstance(wanted, (list, tuple)):
        value = found = _floats(value)
        expected = f"{len(wanted)} numbers" if isinstance(wanted, tuple) else "an answer for each"
        whole = isinstance(wanted, tuple) or all(x.is_integer() for x in found)
        fits = len(found) == len(wanted) and whole
    elif isinstance(wanted, torch.Tensor) and wanted.ndim:
        expected = f"a tensor of shape {tuple(wanted.shape)}"
        look = "keep the tensor, without .item() or .sum(); the shape is that of an input."
        fits = isinstance(value, torch.Tensor) and value.shape == wanted.shape
    else:
        found = _floats([value])
        expected, look = "one number", "sum or mean over all entries? What does the return give?"
        value, fits = (found or [None])[0], len(found) == 1
    bench.need(fits, f"{_short(answer)} came back; {expected} was expected", look)
    look = "is something divided by zero, or a logarithm taken of it?"
    finite = isinstance(wanted, tuple) or all(map(math.isfinite, found))
    bench.need(finite, f"{value} came back; a finite one was expected", look)
    return value


def _floats(values) -> list[float]:
    try:
        return [float(value) for value in values]
    except (TypeError, ValueError, RuntimeError):
        return []


def _near(a, b, tolerance: float) -> bool:
    """Whether two answers are equal up to rounding."""
    if isinstance(b, str):
        return a == b
    if isinstance(b, dict):
        return a.keys() == b.keys() and _near([a[k] for k in b], list(b.values()), tolerance)
    a, b = (torch.as_tensor(x, dtype=torch.float64) for x in (a, b))
    return a.shape == b.shape and torch.allclose(a, b, rtol=tolerance, atol=tolerance / 100)


def _same(before, after) -> bool:
    """Whether an input is as it was, also when it is a list of tensors."""
    if isinstance(before, (list, tuple)):
        return len(before) == len(after) and all(map(_same, before, after))
    if isinstance(before, torch.Tensor):
        return torch.equal(before, after)
    return bool(np.array_equal(before, after))


def _short(value) -> str:
    """An input or an answer in words."""
    if isinstance(value, torch.Tensor) and value.ndim:
        return f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, (float, torch.Tensor)):
        return f"{float(value):.6g}"
    if isinstance(value, pd.DataFrame):
        return f"a table of {len(value)} rows"
    if isinstance(value, (tuple, np.ndarray)):
        return f"({', '.join(map(_short, value))})"
    return repr(value)[:80]
