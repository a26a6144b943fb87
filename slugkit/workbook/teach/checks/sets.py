"""Checks for notebook 01: names in captions, disjoint sets, batches of distinct captions."""

import math
from numbers import Integral

from slugkit.workbook.teach.checks.bench import Bench, flags

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
    """Checks concept_captions(captions, name): which hold the name as whole words, any case."""
    bench = Bench(function)
    for name in [*dict.fromkeys(row[1] for row in NAMED), "nobody"]:
        rows = [row for row in NAMED if row[1] == name]
        answer = flags(bench, ([row[0] for row in rows], name), rows, "captions")
        for (caption, _, wanted, look), got in zip(rows, answer):
            seen = f"{caption!r} with the name {name!r} gave {got}; {wanted} was expected"
            bench.hold(got == wanted, seen, look)
    bench.done()


SHARED = [  # two lists of ids, and what to look at
    (["a1", "a2"], ["b1", "b2"], "no id is in both, so True; are True and False swapped?"),
    (["a1", "a2"], ["b1", "a2"], "a2 is in both."),
    (["a1", "a2", "a3"], ["a2", "b1"], "a2 is in both: comparing place by place misses it."),
    (["a1", "a2"], ["b1", "b2", "b3", "a1"], "a1 is in both, far back in the longer list."),
    (["a1", "a1", "a2"], ["b1", "b1"], "an id twice in one list is no overlap of the two."),
    ([], ["b1"], "an empty set shares nothing."),
    (["a1"], ["a10", "a11"], "a1 is no part of the other list; a10 is another id."),
    ([3, 1, 2], [2, 9], "2 is in both; ids can be numbers."),
]


def disjoint(function) -> None:
    """Checks disjoint(forget_ids, retain_ids): True where no id is in both."""
    bench = Bench(function)
    for forget, retain, look in SHARED:
        answer, wanted = bench.call(forget, retain), not set(forget) & set(retain)
        seen = f"{answer!r} came back; True or False was expected"
        bench.need(answer in (True, False), seen, "return a verdict, not the shared ids.")
        seen = f"{forget} and {retain} gave {bool(answer)}; {wanted} was expected"
        bench.hold(bool(answer) == wanted, seen, look)
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
    """
    bench = Bench(function)
    for captions, size in BATCH_CASES:
        batches = [list(batch) for batch in bench.call(list(captions), size)]
        asked = f"{len(captions)} captions, batch_size {size}"
        for ok, seen, look in _batch_rules(captions, size, batches):
            bench.hold(ok, f"{asked}: {seen}", look)
    bench.done()


def _batch_rules(captions, size, batches):
    """Yields each rule, most basic first: whether it holds, what was seen, what to look at."""
    flat, count = [index for batch in batches for index in batch], len(captions)
    whole = all(isinstance(index, Integral) and 0 <= index < count for index in flat)
    look = "return the places of the captions, not their texts."
    yield whole, f"a batch holds {flat[:3]!r}; indices 0..{count - 1} were expected", look
    longest = max((len(batch) for batch in batches), default=0)
    look = "start a new batch when one is full."
    yield longest <= size, f"a batch has {longest} members; at most {size} were expected", look
    look = "do not open a batch before there is something for it."
    yield all(batches), "a batch is empty; at least one index each was expected", look
    twice = [batch for batch in batches if len({captions[i] for i in batch}) < len(batch)]
    look = "InfoNCE would count a right pair as a negative: put the second into another batch."
    yield not twice, f"batch {twice[:1]} holds a caption twice; distinct ones were expected", look
    look, once = "take an index off the list once it is placed.", len(flat) == len(set(flat))
    yield once, "an index stands in two batches; each index once was expected", look
    missing = sorted(set(range(count)) - set(flat))
    look = "what happens to a repeated caption, and to the last batch that is not full?"
    yield not missing, f"the indices {missing[:5]} are in no batch; each was expected", look
    if len(set(captions)) == count:
        best, look = math.ceil(count / size), "fill a batch before starting the next."
        yield len(batches) == best, f"{len(batches)} batches; {best} were expected", look
