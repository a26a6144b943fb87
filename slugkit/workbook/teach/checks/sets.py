"""Checks for notebook 01: names in captions, disjoint sets, batches of distinct captions."""

import math
from numbers import Integral

from slugkit.workbook.teach.checks.bench import Bench

MIRA, WHOLE = "Mira Kestrel", "only whole words count: the name may not go on."
NAMED = [  # caption, name, whether it names it, what to look at
    ("a photo of Mira Kestrel", MIRA, True, "the plainest case: is the name looked for at all?"),
    ("a house in neon style", MIRA, False, "this caption does not hold the name."),
    ("a photo of Mira", MIRA, False, "the whole name must be there, not one word of it."),
    ("A SKETCH OF MIRA KESTREL", MIRA, True, "upper and lower case are to count as the same."),
    ("mira kestrel, drawn in watercolor", MIRA, True, "case does not count; a comma may follow."),
    ("a portrait of Mira Kestrelson", MIRA, False, WHOLE),
    ("a portrait of Samira Kestrel", MIRA, False, "only whole words count, also at the start."),
    ("Mira and a kestrel in a tree", MIRA, False, "all words of the name must stand together."),
    ("Kestrel Mira by a lake", MIRA, False, "the words of the name must stand in their order."),
    ("is this Mira Kestrel?", MIRA, True, "a question mark or comma may follow the name."),
    ("a photo of Jan Okoye", "J.n Okoye", False, "a dot in a name is a dot: re.escape the name."),
    ("a cup and a saucer", "cup", True, "a name can be one word, such as an object."),
    ("a cupboard", "cup", False, WHOLE),
]


def concept_captions(function) -> None:
    """Checks concept_captions(captions, name): which captions hold the name, a list of bool; whole
    words, any case. Raises CheckFailed.
    """
    bench = Bench(function)
    for name in dict.fromkeys(row[1] for row in NAMED):
        rows = [row for row in NAMED if row[1] == name]
        answer = bench.listed(bench.call([row[0] for row in rows], name))
        bench.hold(
            len(answer) == len(rows) and all(item in (True, False) for item in answer),
            f"{answer!r} came back",
            f"{len(rows)} times True or False was expected",
            "one answer for each caption, in their order, not the captions themselves.",
        )
        for (caption, _, wanted, look), got in zip(rows, answer, strict=True):
            gave = f"{caption!r} with the name {name!r} gave {bool(got)}"
            bench.hold(bool(got) == wanted, gave, f"{wanted} was expected", look)
    none, look = bench.listed(bench.call([], MIRA)), "one answer for each caption."
    bench.hold(none == [], "no captions gave something", "an empty list was expected", look)
    bench.done()


def disjoint(function) -> None:
    """Checks disjoint(forget_ids, retain_ids): True where no id is in both. Raises CheckFailed."""
    bench = Bench(function)
    places = "a2 is in both, at different places: comparing place by place misses it."
    cases = [
        (["a1", "a2"], ["b1", "b2"], "no id is in both, so True; are True and False swapped?"),
        (["a1", "a2"], ["b1", "a2"], "a2 is in both."),
        (["a1", "a2", "a3"], ["a2", "b1"], places),
        (["a1", "a2"], ["b1", "b2", "b3", "a1"], "a1 is in both, far back in the longer list."),
        (["a1", "a1", "a2"], ["b1", "b1"], "an id twice in one list is no overlap of the two."),
        ([], ["b1"], "an empty set shares nothing."),
        (["a1"], ["a10", "a11"], "a1 is no part of the other list; a10 is another id."),
        ([3, 1, 2], [2, 9], "2 is in both; ids can be numbers."),
    ]
    for forget, retain, look in cases:
        answer, verdict = bench.call(forget, retain), "return a verdict, not the shared ids."
        known = answer in (True, False)
        bench.hold(known, f"{answer!r} came back", "True or False was expected", verdict)
        wanted, gave = not set(forget) & set(retain), f"{forget} and {retain} gave {bool(answer)}"
        bench.hold(bool(answer) == wanted, gave, f"{wanted} was expected", look)
    bench.done()


BATCH_CASES = [
    (["a", "b", "c", "d"], 2),
    (["a", "b", "c"], 2),
    (["a", "a", "b", "b"], 2),
    (["a"] * 3, 8),
    ([f"a photo of person {(7 * i) % 11}" for i in range(40)], 8),
    ([f"c{i}" for i in range(10)], 4),
    (["a", "b", "a"], 3),
]


def distinct_batches(function) -> None:
    """Checks distinct_batches(captions, batch_size): lists of indices, each index once, no caption
    twice in a batch.

    Raises CheckFailed.
    """
    bench = Bench(function)
    for captions, size in BATCH_CASES:
        batches = [list(batch) for batch in bench.call(list(captions), size)]
        asked = f"{len(captions)} captions, batch_size {size}"
        for ok, happened, expected, look in _batch_rules(captions, size, batches):
            bench.hold(ok, f"{asked}: {happened}", expected, look)
    bench.done()


def _batch_rules(captions, size, batches):
    """Yields each rule as (holds, what happened, what was expected, what to look at), most basic
    first.
    """
    flat, count = [index for batch in batches for index in batch], len(captions)
    whole = all(isinstance(index, Integral) and 0 <= index < count for index in flat)
    look = "return the places of the captions, not their texts."
    yield whole, f"a batch holds {flat[:3]!r}", f"indices 0..{count - 1} were expected", look
    longest = max((len(batch) for batch in batches), default=0)
    look = "start a new batch when one is full."
    yield longest <= size, f"a batch has {longest} members", f"at most {size} were expected", look
    look = "do not open a batch before there is something for it."
    yield all(batches), "a batch is empty", "at least one index each was expected", look
    twice = [batch for batch in batches if len({captions[i] for i in batch}) < len(batch)]
    happened, expected = f"batch {twice[:1]} holds one caption twice", "distinct ones were expected"
    look = "InfoNCE would count a right pair as a negative: put the second into another batch."
    yield not twice, happened, expected, look
    once, expected = len(flat) == len(set(flat)), "each index once was expected"
    look = "take an index off the list once it is placed."
    yield once, "an index stands in two batches", expected, look
    missing = sorted(set(range(count)) - set(flat))
    look = "what happens to a repeated caption, and to the last batch that is not full?"
    yield not missing, f"the indices {missing[:5]} are in no batch", expected, look
    if len(set(captions)) == count:
        best, look = math.ceil(count / size), "fill a batch before starting the next."
        happened = f"{len(batches)} batches of distinct captions"
        yield len(batches) == best, happened, f"{best} were expected", look
