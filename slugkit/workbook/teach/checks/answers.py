"""Checks of rules, scores and sets: what a front, a search, an accuracy or a batch is."""

import json
import math
from numbers import Integral
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from slugkit.workbook.teach.checks.engine import Bench, exercise
from slugkit.workbook.teach.checks.formulas import random_tensor

CASES = json.loads(Path(__file__).with_name("cases.json").read_text(encoding="utf-8"))


def _front(importance, alignment, beats=lambda o, p: o != p and o[0] >= p[0] and o[1] <= p[1]):
    points = list(zip(importance, alignment))
    return [
        not any(beats(other, point) for j, other in enumerate(points) if j != i)
        for i, point in enumerate(points)
    ]


FRONTS = [random_tensor(seed, 2, 12).abs().tolist() for seed in range(4)] + CASES["pareto"]


@exercise(
    [tuple(map(np.array, case)) for case in FRONTS],
    otherwise="draw the points on paper: who has another to the upper left?",
    form="True or False for each layer, in their order, not the layers themselves.",
)
def pareto(importance, alignment):
    """Checks pareto(importance, alignment): which layers no other beats, a list of bool.

    Weak dominance: beaten is who is matched in one score and beaten in the other; twins both stay.
    """
    imp, ali = importance.tolist(), alignment.tolist()
    low, down, right = [-i for i in imp], [-a for a in ali], _front(imp, ali)
    twins = _front(imp, ali, lambda o, p: o[0] >= p[0] and o[1] <= p[1])
    strict = _front(imp, ali, lambda o, p: o[0] > p[0] and o[1] < p[1])
    first = [i == max(imp) for i in imp]
    apart = [i == max(imp) or a == min(ali) for i, a in zip(imp, ali)]
    return right, {
        "exact twins do not beat each other: both stay on the front.": twins,
        "every layer beats itself here: make one of >= and <= strict.": [False] * len(imp),
        "matched in one score and beaten in the other is off the front: one strict sign.": strict,
        "True and False are swapped: True means on the front.": [not item for item in right],
        "both are read the same way: importance is to be high, alignment low.": _front(imp, down),
        "importance is to be high: turn its comparison round.": _front(low, ali),
        "both comparisons are turned round: importance is to be high.": _front(low, down),
        "only the most important layer was kept: one with less alignment stays too.": first,
        "a layer is beaten where ONE other layer is better in both, not one in each.": apart,
    }


def _next(low, high, lam, forgotten) -> tuple[float, float, float]:
    low, high = (low, lam) if forgotten else (lam, high)
    return low, high, 2 * lam if math.isinf(high) else (low + high) / 2


RULE = "follow the rule on paper for this one call."


@exercise(CASES["next_lam"], otherwise=RULE, form="return low, high, lam.")
def next_lam(low, high, lam, forgotten):
    """Checks next_lam(low, high, lam, forgotten) -> (low, high, lam): double, then bisect."""
    bottom, top, step = right = _next(low, high, lam, forgotten)
    geometric = math.sqrt(bottom * top) if bottom > 0 else math.nan
    slips = {
        "once there is an upper bound, take the middle of the bracket, not twice lam.": 2 * lam,
        "without an upper bound there is no middle: double lam.": (bottom + top) / 2,
        "the middle was taken of the old bracket: move the bound first.": (low + high) / 2,
        "halving lam forgets the lower bound: take the middle of low and high.": lam / 2,
        "half the width is too small: the middle is (low + high) / 2.": (top - bottom) / 2,
        "this is the geometric mean: bisection takes (low + high) / 2.": geometric,
    }
    swapped = "the two branches are swapped: forgotten lowers `high`, else `low` is raised."
    return right, {
        swapped: _next(low, high, lam, not forgotten),
        **{hint: (bottom, top, wrong) for hint, wrong in slips.items()},
        "both bounds were moved: one probe moves one bound.": (lam, lam, lam),
        "the bounds did not move: lam becomes the new bound.": (low, high, step),
    }


OUTCOMES = {
    "right name": "upper and lower case are the same: compare lower-case texts.",
    "another name": "look for every name of the list, not for the right one alone.",
    "no name": "without a whole name of the list it is 'no name', whatever else the answer says.",
}
NAMES = ["Ann Grey", "Ben Moss", "Cyd Vale"]
SAID = [(answer, name, NAMES, outcome) for answer, name, outcome in CASES["name_outcome"]]


@exercise(SAID, inputs=3, words=tuple(OUTCOMES))
def name_outcome(answer, name, names, outcome):
    """Checks name_outcome(answer, name, names): "right name", "another name" or "no name", upper
    and lower case alike.
    """
    return outcome, {OUTCOMES[outcome]: ...}


CLAIMS = ("more", "less", "no difference")
PAIRS = [
    (pd.DataFrame({"alike": alike, "alone": 0.1, "both": 0.1 + np.array(gain)}),)
    for alike, gain in CASES["claim"]
]


@exercise(PAIRS, words=CLAIMS)
def claim(table):
    """What the halves of a table of pairs say."""
    gain = (table["both"] - table["alone"])[table["alike"].sort_values(kind="stable").index]
    half = len(gain) // 2
    apart = gain.iloc[-half:].mean() - gain.iloc[:half].mean()
    look = f"by both - alone, the more alike half gains {100 * apart:.1f} more; 2 points count."
    return CLAIMS[0 if apart > 0.02 else 1 if apart < -0.02 else 2], {look: ...}


def _pair_rules(table):
    """Rules of a table of `slugkit.unlearning.adding.pair_rows`."""
    shares, look = table[["alone", "both"]], "make the table with adding.pair_rows."
    yield len(table) > 1, f"{len(table)} pairs came; two or more were expected", look
    yield ((shares >= 0) & (shares <= 1)).all(axis=None), "a share lies outside 0..1", look
    named = table[["first", "second"]].apply(frozenset, axis=1)
    yield named.map(len).eq(2).all(), "somebody is paired with themselves", look
    twice = "a pair stands twice, perhaps in the other order"
    yield named.is_unique, twice, "each pair counts once."


def pair_experiment(function, table: pd.DataFrame | None = None) -> None:
    """Checks an experiment on pairs: the claim that the function makes of made-up tables, then the
    form of the reader's own table, and the claim about it.

    table: of `slugkit.unlearning.adding.pair_rows`; None checks the function alone.
    """
    if table is None:
        claim(function)
    else:
        claim(function, (table,), rules=_pair_rules(table))


@exercise(
    [(list(names), list(map(bool, b)), list(map(bool, a))) for names, b, a in CASES["lost_names"]],
    otherwise="one share for each name that was right at least once before.",
    form="return a dictionary of shares.",
)
def lost_names(names, before, after):
    """Checks lost_names(names, before, after) -> {name: share 0..1 of the pictures that were right
    before and are wrong after}, without those who had none right before.
    """
    table = pd.DataFrame({"all": 1, "had": before, "has": after}, dtype=int)
    table["lost"] = table["had"] * (1 - table["has"])
    every = table.groupby(names).sum()
    known = every[every["had"] > 0]
    share, kept = known["lost"] / known["had"], every["has"] / every["all"]
    slips = {
        "divide by the pictures that were right before, not by all.": every["lost"] / every["all"],
        "a picture that was wrong before cannot lose the name.": 1 - kept,
        "names that were gained do not make up for lost ones.": 1 - known["has"] / known["had"],
        "this is the share that kept the name.": 1 - share,
        "this counts pictures: divide for a share.": known["lost"],
        "leave out those who had no right picture before.": share.reindex(every.index).fillna(0),
    }
    return share.to_dict(), {hint: wrong.to_dict() for hint, wrong in slips.items()}


def _ranked(seed: int, n: int, classes: int, k: int) -> tuple:
    """Scores, labels and k; the labels of the first half are often among the best."""
    scores = random_tensor(seed, n, classes)
    labels = torch.randint(classes, (n,), generator=torch.Generator().manual_seed(seed))
    scores[torch.arange(n // 2), labels[: n // 2]] += 2.0
    return scores, labels, k


RANKED = (199, 7, 3), (8, 5, 1), (30, 10, 5), (6, 4, 4), (50, 12, 1)


@exercise([_ranked(seed, *sizes) for seed, sizes in enumerate(RANKED)])
def accuracy_at_k(scores, labels, k):
    """Checks accuracy_at_k(scores, labels, k): share of rows with their label in the first k."""
    rank, last = (scores > scores.gather(1, labels[:, None])).sum(1), scores.shape[1] - k

    def share(hits: torch.Tensor) -> torch.Tensor:
        return hits.double().mean()

    right = share(rank < k)
    return right, {
        "the smallest scores were taken: a high score is a likely class.": share(rank >= last),
        "this is the number of hits: divide by the number of pictures.": (rank < k).sum(),
        "in percent: return the share, 0..1.": 100 * right,
        "only the best answer counted: the label may be any of the first k.": share(rank == 0),
        "only place k counted: the label may be any of the first k.": share(rank == k - 1),
        "one place too many: first k means rank 0 to k - 1.": share(rank <= k),
        "one place too few: first k means rank 0 to k - 1.": share(rank < k - 1),
        "this is the error: return the share of hits.": 1 - right,
        "divided by N x k: divide the hits by the number of pictures.": right / k,
        "the scores themselves were compared with labels: compare class numbers.": 0.0,
    }


def _lengths(seed: int, n: int, classes: int, d: int) -> tuple:
    """Features of pictures and texts whose lengths differ."""
    v = random_tensor(seed, n, d) * (1 + 10 * random_tensor(50 + seed, n, 1).abs())
    long = 0.2 + 6 * random_tensor(90 + seed, classes, 1).abs()
    return v, random_tensor(200 + seed, classes, d) * long


SIZES = (9, 4, 6), (12, 7, 3), (5, 5, 8), (3, 20, 4), (9, 6, 4), (12, 5, 8), (6, 5, 3), (2, 9, 4)


@exercise(
    [_lengths(seed, *sizes) for seed, sizes in enumerate(SIZES)],
    otherwise="cosines of all pictures with all texts, then the largest in each row.",
    form="one class number a picture, whole numbers (integers): argmax over dim=1.",
)
def zero_shot(v, t):
    """Checks zero_shot(v, t): for each row of v the nearest row of t by its cosine."""
    cosines = F.normalize(v, dim=1) @ F.normalize(t, dim=1).T
    down = F.normalize(v, dim=0) @ F.normalize(t, dim=0).T
    slips = {
        "the text features are not normalised: a long one wins.": v @ t.T,
        "the smallest cosine was taken: the likely class has the largest.": -cosines,
        "a cosine of -1 means unlike: no abs here.": cosines.abs(),
        "normalised down the columns: each row is one feature, dim=1.": down,
    }
    slips = {hint: wrong.argmax(1).tolist() for hint, wrong in slips.items()}
    right = cosines.argmax(1).tolist()
    return right, slips | {"class numbers start at 0.": [place + 1 for place in right]}


def _wilson(k: int, n: int, z: float = 1.959964, divide: bool = True, move: bool = True):
    p, extra = k / n, z * z / n
    middle, half = p + extra / 2 * move, z * math.sqrt(p * (1 - p) / n + extra / (4 * n))
    divisor = 1 + extra if divide else 1.0
    return (middle - half) / divisor, (middle + half) / divisor


HITS = (0, 20), (20, 20), (5, 10), (1, 240), (190, 200), (0, 240), (37, 61)
TERMS = "compare each term with the formula above: middle, half width, divisor."


@exercise(HITS, otherwise=TERMS, form="return low, high.", tolerance=1e-4)  # z: 1.96, 1.959964
def wilson(k, n):
    """Checks wilson(k, n) -> (low, high): the 95 % interval of k hits in n (Wilson 1927)."""
    right, wald = _wilson(k, n), 1.96 * math.sqrt(k / n * (1 - k / n) / n)
    simple = k / n - wald, k / n + wald
    return right, {
        "low and high are swapped.": right[::-1],
        "in percent: return shares, 0..1.": [100 * x for x in right],
        "this is p ± z sqrt(p(1-p)/n), which at 0 or n hits has no width.": simple,
        "the simple interval, cut at 0 and 1: Wilson's moves its middle.": np.clip(simple, 0, 1),
        "the division by 1 + z²/n is missing.": _wilson(k, n, divide=False),
        "the middle did not move: add z²/(2n) to p.": _wilson(k, n, move=False),
        "this is one standard error (68 %): z is 1.96 for 95 %.": _wilson(k, n, 1.0),
        "this is the 90 % interval: z is 1.96 for 95 %.": _wilson(k, n, 1.645),
        "this is the 99 % interval: z is 1.96 for 95 %.": _wilson(k, n, 2.576),
    }


DOMAINS = {"Ann": "people", "Ben": "people", "Cyd": "people", "cup": "objects", "key": "objects"}
DOMAINS["neon"] = "styles"


def _called(seed: int) -> tuple:
    """What forty pictures show, what they are called, their domains, and the target."""
    rng = np.random.default_rng(seed)
    subject = [*DOMAINS, *map(str, rng.choice(list(DOMAINS), 34))]
    called = [name if rng.random() < 0.6 else "Zoe" for name in subject]
    return subject, called, [DOMAINS[name] for name in subject], ("Ann", "cup")[seed % 2]


@exercise(
    map(_called, range(5)),
    otherwise="compare each of the three with the words above.",
    form="return the three numbers UA, IRA, CRA.",
)
def unlearning_scores(subject, called, domain, target):
    """Checks unlearning_scores(subject, called, domain, target) -> (UA, IRA, CRA), shares 0..1
    (UnlearnCanvas, section 4), from three lists with one entry a picture.
    """
    table = pd.DataFrame({"subject": subject, "domain": domain})
    table["right"] = table["subject"] == called
    mine = table["subject"] == target
    own = table["domain"].isin(table.loc[mine, "domain"])
    cross = table[~own].groupby("domain")["right"].mean().mean()
    ua, ira = 1 - table.loc[mine, "right"].mean(), table.loc[own & ~mine, "right"].mean()
    counted, pooled = table.loc[own, "right"].mean(), table.loc[~own, "right"].mean()
    return (ua, ira, cross), {
        "UA is the share of the target's pictures NOT called the target.": (1 - ua, ira, cross),
        "in percent: return shares, 0..1.": (100 * ua, 100 * ira, 100 * cross),
        "the target's own pictures do not count for IRA.": (ua, counted, cross),
        "CRA is the mean over domains, each with the same weight.": (ua, ira, pooled),
        "IRA and CRA are swapped: IRA is the target's own domain.": (ua, cross, ira),
    }


@exercise(
    [(["a house", caption], *rest) for caption, *rest in CASES["concept_captions"]],
    inputs=2,
    form="True or False for each caption, in their order, not the captions themselves.",
)
def concept_captions(captions, name, named, look):
    """Checks concept_captions(captions, name): which hold the name as whole words, any case."""
    return [False, named], {look: ...}


@exercise(CASES["disjoint"], inputs=2, words=(True, False))
def disjoint(forget, retain, look):
    """Checks disjoint(forget_ids, retain_ids): True where no id is in both."""
    return not set(forget) & set(retain), {look: ...}


BATCHES = [
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
    for captions, size in BATCHES:
        batches = [list(batch) for batch in bench.call(list(captions), size)]
        asked = f"{len(captions)} captions, batch_size {size}: "
        bench.hold(_batch_rules(captions, size, batches), asked)
    bench.done()


def _batch_rules(captions, size, batches):
    """Rules of a division into batches, the most basic first."""
    flat, count = [index for batch in batches for index in batch], len(captions)
    whole = all(isinstance(index, Integral) and 0 <= index < count for index in flat)
    look = "return the places of the captions, not their texts."
    yield whole, f"a batch holds {flat[:3]!r}; indices 0..{count - 1} were expected", look
    longest = max(map(len, batches), default=0)
    seen = f"a batch has {longest} members; at most {size} were expected"
    yield longest <= size, seen, "start a new batch when one is full."
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
