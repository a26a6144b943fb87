"""Checks of scores: top-k accuracy, zero-shot classes, Wilson's interval, UA, IRA and CRA."""

import math

import torch
import torch.nn.functional as F

from slugkit.workbook.teach.checks.bench import Bench, exercise, random_tensor, several


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
    rank = (scores > scores.gather(1, labels[:, None])).sum(1)
    last = scores.shape[1] - k

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


def _classes(bench: Bench, inputs, wanted) -> tuple[int, ...]:
    """Reads the answer to a call as one class number for each picture."""
    answer = torch.as_tensor(bench.call(*inputs))
    seen = f"shape {tuple(answer.shape)} came back; ({len(wanted)},) was expected"
    look = "one class number a picture, without the scores: the maximum goes over dim=1."
    bench.need(answer.shape == (len(wanted),), seen, look)
    seen = "numbers with a point came back; class numbers (integers) were expected"
    look = "argmax gives the place of the largest cosine, max its value."
    bench.hold(not answer.is_floating_point(), seen, look)
    return tuple(answer.tolist())


def _lengths(seed: int, n: int, classes: int, d: int) -> tuple:
    """Features of pictures and texts whose lengths differ."""
    v = random_tensor(seed, n, d) * (1 + 10 * random_tensor(5 + seed, n, 1).abs())
    long = 0.2 + 6 * random_tensor(9 + seed, classes, 1).abs()
    return v, random_tensor(100 + seed, classes, d) * long


SIZES = (9, 4, 6), (12, 7, 3), (5, 5, 8), (3, 20, 4)
NEAREST = "cosines of all pictures with all texts, then the largest in each row."


@exercise([_lengths(seed, *sizes) for seed, sizes in enumerate(SIZES)], _classes, NEAREST)
def zero_shot(v, t):
    """Checks zero_shot(v, t): for each row of v the nearest row of t by its cosine."""
    cosines = F.normalize(v, dim=1) @ F.normalize(t, dim=1).T
    down = F.normalize(v, dim=0) @ F.normalize(t, dim=0).T
    slips = {
        "the text features are not normalised: a long one wins.": v @ t.T,
        "only v is normalised: t must be too, or a long one wins.": F.normalize(v, dim=1) @ t.T,
        "the smallest cosine was taken: the likely class has the largest.": -cosines,
        "a cosine of -1 means unlike: no abs here.": cosines.abs(),
        "normalised down the columns: each row is one feature, dim=1.": down,
    }
    slips = {hint: tuple(wrong.argmax(1).tolist()) for hint, wrong in slips.items()}
    right = tuple(cosines.argmax(1).tolist())
    return right, slips | {"class numbers start at 0.": tuple(place + 1 for place in right)}


def _wilson(k: int, n: int, z: float = 1.959964, divide: bool = True, move: bool = True):
    p, extra = k / n, z * z / n
    middle, half = p + extra / 2 * move, z * math.sqrt(p * (1 - p) / n + extra / (4 * n))
    divisor = 1 + extra if divide else 1.0
    return (middle - half) / divisor, (middle + half) / divisor


HITS = (0, 20), (20, 20), (5, 10), (1, 240), (190, 200), (0, 240), (37, 61)
TERMS = "compare each term with the formula above: middle, half width, divisor."


@exercise(HITS, several("low", "high"), TERMS, tolerance=1e-4)  # whether z was 1.96 or 1.959964
def wilson(k, n):
    """Checks wilson(k, n) -> (low, high): the 95 % interval of k hits in n (Wilson 1927)."""
    right, wald = _wilson(k, n), 1.96 * math.sqrt(k / n * (1 - k / n) / n)
    simple = k / n - wald, k / n + wald
    cut = max(0, simple[0]), min(1, simple[1])
    return right, {
        "low and high are swapped.": right[::-1],
        "in percent: return shares, 0..1.": tuple(100 * x for x in right),
        "this is p ± z sqrt(p(1-p)/n), which at 0 or n hits has no width.": simple,
        "the simple interval, cut at 0 and 1: Wilson's moves its middle and widens.": cut,
        "the division by 1 + z²/n is missing.": _wilson(k, n, divide=False),
        "the middle did not move: add z²/(2n) to p.": _wilson(k, n, move=False),
        "this is one standard error (68 %): z is 1.96 for 95 %.": _wilson(k, n, 1.0),
        "this is the 90 % interval: z is 1.96 for 95 %.": _wilson(k, n, 1.645),
        "this is the 99 % interval: z is 1.96 for 95 %.": _wilson(k, n, 2.576),
    }


def _scores(subject, called, domain, target, *, count_target=False, pooled=False):
    right = [a == b for a, b in zip(subject, called)]
    rows = list(zip(right, subject, domain))
    mine = [r for r, s, _ in rows if s == target]
    own = domain[subject.index(target)]
    others = [row for row in rows if count_target or row[1] != target]
    kept = {d: [r for r, _, e in others if e == d] for d in dict.fromkeys(domain)}
    inside = kept.pop(own)
    cross = [sum(kept.values(), [])] if pooled else kept.values()
    shares = [sum(o) / len(o) for o in cross]
    return 1 - sum(mine) / len(mine), sum(inside) / len(inside), sum(shares) / len(shares)


DOMAINS = {"Ann": "people", "Ben": "people", "Cyd": "people", "cup": "objects", "key": "objects"}
DOMAINS["neon"] = "styles"


def _called(seed: int) -> tuple:
    """What forty pictures show, what they are called, their domains, and the target."""
    rng, names = torch.Generator().manual_seed(seed), list(DOMAINS)
    more = torch.randint(len(names), (34,), generator=rng).tolist()
    subject = [*names, *(names[i] for i in more)]
    called = [s if float(torch.rand((), generator=rng)) < 0.6 else "Zoe" for s in subject]
    return subject, called, [DOMAINS[s] for s in subject], ("Ann", "cup")[seed % 2]


WORDS = "compare each of the three with the words above."


@exercise(map(_called, range(5)), several("UA", "IRA", "CRA"), WORDS, tolerance=1e-9)
def unlearning_scores(*given):
    """Checks unlearning_scores(subject, called, domain, target) -> (UA, IRA, CRA), shares 0..1
    (UnlearnCanvas, section 4), from three lists with one entry a picture.
    """
    ua, ira, cra = wanted = _scores(*given)
    weighted, counted = _scores(*given, pooled=True), _scores(*given, count_target=True)
    return wanted, {
        "UA is the share of the target's pictures NOT called the target.": (1 - ua, ira, cra),
        "in percent: return shares, 0..1.": tuple(100 * x for x in wanted),
        "the target's own pictures do not count for IRA.": counted,
        "CRA is the mean over domains, each with the same weight.": weighted,
        "IRA and CRA are swapped: IRA is the target's own domain.": (ua, cra, ira),
    }
