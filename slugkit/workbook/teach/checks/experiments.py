"""Checks of experiments: the reader's own numbers, for their form and their direction."""

import functools
import math
from numbers import Real
from operator import itemgetter

import pandas as pd

from slugkit.workbook.teach.checks.engine import Bench


def _number(value) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _share(value) -> bool:
    return _number(value) and 0 <= value <= 1


CELLS = {  # kind of a cell: whether it holds such a one, that in words, what to look at
    "name": (lambda x: isinstance(x, str) and x, "a name", "whose row is it?"),
    "number": (_number, "a number", "fill every row you measured, with plain numbers."),
    "positive": (
        lambda x: _number(x) and x > 0,
        "a number above 0",
        "a size, length or damping is.",
    ),
    "share": (_share, "one share of 0 to 1", "is it in percent? Divide by 100."),
    "ends": (
        lambda x: isinstance(x, (tuple, list)) and len(x) == 2 and all(map(_share, x)),
        "(before, after), shares of 0 to 1,",
        "copy both from the report table; are they in percent? Divide by 100.",
    ),
}


def experiment(columns: dict, key: str | None = None, whom: str = "each of them once."):
    """Decorator: makes rules on a reader's rows the check of an experiment.

    Args:
        columns: for each column what it holds: a kind of CELLS, or all the words there are.
        key: the column in which two rows or more are to differ.
        whom: what to look at where they do not.

    The decorated function takes the rows, dictionaries, and yields rules: (whether it holds, what
    was seen, what to look at). The check takes a data frame or a function that returns the rows.
    """

    def decorated(rules):
        @functools.wraps(rules)
        def check(table) -> None:
            bench = Bench(table if callable(table) else rules)
            rows = bench.call() if callable(table) else table
            rows = rows.to_dict("records") if isinstance(rows, pd.DataFrame) else rows
            for rule in _form(rows, columns, key, whom):
                bench.need(*rule)
            bench.passed += callable(table)  # the form of what a function returns is a check
            bench.hold(rules(rows))
            bench.done()

        del check.__wrapped__  # its signature is not that of the check
        return check

    return decorated


def _form(rows, columns, key, whom):
    """Rules of every table, the most basic first."""
    listed = isinstance(rows, list) and rows and all(isinstance(row, dict) for row in rows)
    seen = f"{str(rows)[:80]} came back; a list of dictionaries was expected"
    yield listed, seen, "one dictionary a row, in a list."
    for row in rows:
        seen = f"a row has other keys than {', '.join(columns)}: {', '.join(map(str, row))}"
        yield set(row) == set(columns), seen, "each row is to have these, and no other."
        for name, kind in columns.items():
            chosen = kind.__contains__, f"one of {kind}", "copy the word."
            holds, words, look = CELLS[kind] if isinstance(kind, str) else chosen
            seen = f"{name} is {row[name]!r}; {words} was expected"
            yield holds(row[name]), seen, look
    keys = [row[key] for row in rows] if key else [1, 2]
    seen = f"rows with {key} {keys} came back; two or more, each once, were expected"
    yield len(set(keys)) == len(keys) >= 2, seen, whom


RETAIN_SIZES = ("size", "classes", "neighbour_pairs", "fewest_of_a_neighbour")


@experiment(dict.fromkeys(RETAIN_SIZES, "number"), "size")
def retain_size_table(rows):
    """Checks the experiment of notebook 01: a table of RETAIN_SIZES."""
    rows = sorted(rows, key=itemgetter("size"))
    first, last = rows[0], rows[-1]
    look = "count the rows whose concept is a neighbour, not their captions' letters."
    inside = all(0 <= row["neighbour_pairs"] <= row["size"] for row in rows)
    yield inside, "neighbour_pairs is not between 0 and size", look
    few = all(1 <= row["classes"] <= row["size"] for row in rows)
    yield few, "classes is not between 1 and size", "count distinct concepts."
    look = "a larger draw of the same data shows at least as many; is size the retain set's?"
    yield last["classes"] >= first["classes"], "the largest set shows fewer classes", look
    look = "every pair is as likely to be drawn, so their number grows with the size."
    grows = last["neighbour_pairs"] >= first["neighbour_pairs"]
    yield grows, "the largest set shows the neighbours less often", look
    fewest = all(0 <= row["fewest_of_a_neighbour"] <= row["neighbour_pairs"] for row in rows)
    yield fewest, "fewest_of_a_neighbour is more than neighbour_pairs", "take the smallest count."


@experiment({"batch_size": "number", "loss": "number", "cosine": "number"}, "batch_size")
def batch_size_table(rows):
    """Checks the experiment of notebook 02: columns batch_size, loss and cosine, the cosine of the
    retain gradient with that of the largest batch.
    """
    rows = sorted(rows, key=itemgetter("batch_size"))
    first, last = rows[0], rows[-1]
    yield first["batch_size"] >= 2, "a batch has one pair", "InfoNCE needs two or more."
    low = min(row["loss"] for row in rows)
    yield low >= 0, "a loss is negative", "InfoNCE is never below 0."
    bounded = all(abs(row["cosine"]) <= 1 + 1e-6 for row in rows)
    yield bounded, "a cosine is outside -1..1", "divide by both norms."
    look = "compare with the largest batch, over the same pairs; its own cosine is 1."
    yield abs(last["cosine"] - 1) < 1e-3, "the largest batch is not at cosine 1", look
    look = "more wrong captions make it harder to find the right one."
    grows = last["loss"] > first["loss"]
    yield grows, "the loss of the largest batch is not the larger one", look


@experiment({"batch_size": "positive", "noise": "number", "shared": "number"}, "batch_size")
def batch_fronts(rows):
    """Checks the table of experiment 3.3: rows with batch_size, noise, shared.

    noise: median standard error of the cosines; shared: share of the first row's front layers that
    are on this front too.
    """
    for row in rows:
        yield row["noise"] > 0, "noise is out of range", "a standard error is above 0."
        yield _share(row["shared"]), "shared is out of range", "a share is 0..1: not in percent?"
    look = "the first row is compared with itself: all of its front is shared."
    yield rows[0]["shared"] == 1, "the first row's `shared` is not 1", look


CRITERIA = {"concept": "name", "criterion": ("fa1", "fa5"), "rho": "number", "kept": "number"}


@experiment(CRITERIA)
def two_criteria(rows):
    """Checks the table of experiment 4.4: rows with concept, criterion, rho, kept.

    criterion: "fa1" or "fa5", both for every concept on one layer; kept: share of what must stay.
    """
    for row in rows:
        look = "it is a share of the weight's norm, above 0: 0.25, not 25."
        yield 0 < row["rho"] < 10, "rho is out of range", look
        yield _share(row["kept"]), "kept is out of range", "a share is 0..1: not in percent?"
    for concept in dict.fromkeys(row["concept"] for row in rows):
        rho = [(row["criterion"], row["rho"]) for row in rows if row["concept"] == concept]
        asked = sorted(name for name, _ in rho)
        seen = f"{concept} has {', '.join(asked)}; fa1 and fa5 were expected"
        yield asked == ["fa1", "fa5"], seen, "one row for each criterion, and no other."
        look = "a name that is not among the first five is not first: were the rows swapped?"
        longer = dict(rho)["fa5"] >= 0.98 * dict(rho)["fa1"]
        yield longer, f"{concept} needs a longer step for fa1 than for fa5", look


def _moved(rows, measure: str, rises: bool = False):
    """Rules: the concept was forgotten, so that its measure rose or fell."""
    for row in rows:
        before, after = row[measure]
        seen = f"{measure} of {row['concept']!r} goes from {before} to {after}; it was to "
        seen += "rise" if rises else "fall"
        look = "are before and after swapped, or was nothing forgotten?"
        yield after > before if rises else after < before, seen, look


def _paid(rows, others: tuple[str, ...]):
    """Rules: `paid` names the group that loses most; up to 0.01 nobody does."""
    for row in rows:
        losses = {name: row[name][0] - row[name][1] for name in others} | {"nobody": 0.01}
        most = max(losses.values())
        right = [name for name, loss in losses.items() if loss >= most - 1e-9]
        right = ["nobody"] if "nobody" in right else right
        seen = f"{row['paid']!r} is said to pay for {row['concept']!r}"
        seen += f"; by its numbers {' or '.join(right)} loses most"
        look = "a loss is before minus after; one point or less is nobody's."
        yield row["paid"] in right, seen, look


PAYERS = ("neighbours", "IRA", "CRA", "nobody")
KINDS = {"concept": "name", "predicted": PAYERS, "paid": PAYERS}
KINDS |= dict.fromkeys(("UA", "neighbours", "IRA", "CRA"), "ends")


@experiment(KINDS, "concept", "an object and a style; a person is what this notebook did.")
def other_kinds(rows):
    """Checks other_kinds() -> one row a concept: concept, predicted and paid (neighbours, IRA, CRA
    or nobody), and UA, neighbours, IRA and CRA as (before, after), shares 0..1.
    """
    yield from _moved(rows, "UA", rises=True)
    yield from _paid(rows, PAYERS[:3])


LOSERS = ("neighbours", "people", "battery", "nobody")
PEOPLE = {"concept": "name", "predicted": LOSERS, "paid": LOSERS}
PEOPLE |= dict.fromkeys(("right name", "neighbours", "people", "battery"), "ends")


@experiment(PEOPLE, "concept", "two people who were not forgotten above.")
def another_person(rows):
    """Checks another_person() -> one row a person: concept, predicted and paid (neighbours, people,
    battery or nobody), and right name (the target's), neighbours, people and battery as (before,
    after), shares 0..1.
    """
    yield from _moved(rows, "right name")
    yield from _paid(rows, LOSERS[:3])


MORE = ("more", "less")
CONCEPTS = {"concept": "name", "expected": MORE, "seen": MORE}
CONCEPTS |= dict.fromkeys(("FA@5", "neighbours", "people"), "ends")


@experiment(CONCEPTS, "concept")
def two_concepts(rows):
    """Checks two_concepts() -> one row a concept: concept; FA@5, neighbours and people as (before,
    after), shares 0..1; expected and seen, "more" or "less": what its neighbours lose, compared
    with the other row's.
    """
    if len(rows) != 2:
        yield False, f"{len(rows)} rows came back; two were expected", "two concepts."
    yield from _moved(rows, "FA@5")
    losses = [row["neighbours"][0] - row["neighbours"][1] for row in rows]
    for row, mine, other in zip(rows, losses, losses[::-1]):
        seen = f"{row['concept']!r}: {row['seen']!r} was seen, its neighbours lose {mine:.3f}"
        seen += f" and the other's {other:.3f}"
        right = abs(mine - other) < 1e-9 or row["seen"] == ("more" if mine > other else "less")
        yield right, seen, "a loss is before minus after, of the neighbours."


DAMPINGS = {"layer": "name", "damping": "positive", "rho": "positive"}
DAMPINGS |= dict.fromkeys(("FA@5", "neighbours", "people"), "share")


@experiment(DAMPINGS, "damping")
def dampings(rows):
    """Checks dampings() -> one row a damping: damping, rho (both above 0), and FA@5, neighbours
    and people after the edit, shares 0..1, and the layer.

    The length is relative to the weight; with more damping the direction turns to g_f, so that on
    one and the same layer a shorter step forgets: rho does not grow with it.
    """
    for row in rows:
        seen = f"FA@5 is {row['FA@5']} at damping {row['damping']}; the step was to forget"
        look = "compare steps that forget; is it the column after?"
        yield row["FA@5"] <= 0.2, seen, look
    rows = sorted(rows, key=itemgetter("damping"))
    least, most = rows[0], rows[-1]
    wide = most["damping"] >= 10 * least["damping"]
    seen = f"the dampings are {least['damping']} to {most['damping']}; a factor of 10 was expected"
    yield wide, seen, "neighbouring values differ by chance alone."
    seen = f"rho is {least['rho']} at {least['damping']} and {most['rho']} at {most['damping']}"
    look = "were two rows swapped? More damping turns d to g_f, and its step is shorter."
    yield most["layer"] != least["layer"] or most["rho"] <= least["rho"], seen, look
