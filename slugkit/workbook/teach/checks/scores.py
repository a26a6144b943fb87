"""Checks for notebook 05: top-k accuracy, Wilson's interval, zero-shot classes."""

import math

import torch
import torch.nn.functional as F

from slugkit.workbook.teach.checks.bench import Bench, random_tensor


def accuracy_at_k(function) -> None:
    """Checks accuracy_at_k(scores, labels, k): share of the N rows whose label is among the k
    largest of C scores. Raises CheckFailed.
    """
    bench = Bench(function)
    cases = (199, 7, 3), (8, 5, 1), (30, 10, 5), (6, 4, 4), (50, 12, 1)
    for seed, (n, classes, k) in enumerate(cases):
        scores = random_tensor(seed, n, classes)
        labels = torch.randint(classes, (n,), generator=torch.Generator().manual_seed(seed))
        scores[torch.arange(n // 2), labels[: n // 2]] += 2.0
        rank = (scores > scores.gather(1, labels[:, None])).sum(1)

        def share(hits: torch.Tensor) -> torch.Tensor:
            return hits.double().mean()

        right = share(rank < k)
        anywhere = "the label may be anywhere among the first k."
        slips = {
            "the smallest scores were taken: a high score means a likely class.": share(
                rank >= classes - k
            ),
            "this is the number of hits: divide by the number of pictures.": (rank < k).sum(),
            "in percent: return the share, 0..1.": 100 * right,
            f"only the best answer counted: {anywhere}": share(rank == 0),
            f"only place k counted: {anywhere}": share(rank == k - 1),
            "one place too many: first k means rank 0 to k - 1.": share(rank <= k),
            "one place too few: first k means rank 0 to k - 1.": share(rank < k - 1),
            "this is the error: return the share of hits.": 1 - right,
            "divided by N x k: divide the hits by the number of pictures.": right / k,
            "the scores themselves were compared with labels: compare class numbers.": 0.0,
        }
        bench.close(bench.call(scores, labels, k), right, slips)
    bench.done()


def _wilson(k: int, n: int, z: float = 1.959964, divide: bool = True, move: bool = True):
    p, extra = k / n, z * z / n
    middle, half = p + extra / 2 * move, z * math.sqrt(p * (1 - p) / n + extra / (4 * n))
    divisor = 1 + extra if divide else 1.0
    return (middle - half) / divisor, (middle + half) / divisor


def _near_pair(got, wanted) -> bool:
    """Whether two intervals agree, whether z was 1.96 or 1.959964."""
    return all(abs(a - b) < 2e-4 * max(1, abs(b)) for a, b in zip(got, wanted, strict=True))


def _shown(pair) -> str:
    return "({:.4g}, {:.4g})".format(*pair)


def wilson(function) -> None:
    """Checks wilson(k, n) -> (low, high): Wilson's 95 % interval of k hits in n, shares 0..1
    (Wilson 1927). Raises CheckFailed.
    """
    bench = Bench(function)
    for k, n in ((0, 20), (20, 20), (5, 10), (1, 240), (190, 200), (0, 240), (37, 61)):
        two = "two numbers (low, high) were expected"
        answer = bench.numbers(bench.call(k, n), two, "return low, high.", 2)
        p, right = k / n, _wilson(k, n)
        wald = 1.96 * math.sqrt(p * (1 - p) / n)
        cut = (max(0, p - wald), min(1, p + wald))
        slips = {
            "low and high are swapped.": right[::-1],
            "in percent: return shares, 0..1.": (100 * right[0], 100 * right[1]),
            "this is p ± z sqrt(p(1-p)/n), which at 0 or n hits has no width.": (
                p - wald,
                p + wald,
            ),
            "the simple interval, cut at 0 and 1: Wilson's moves its middle and widens.": cut,
            "the division by 1 + z²/n is missing.": _wilson(k, n, divide=False),
            "the middle did not move: add z²/(2n) to p.": _wilson(k, n, move=False),
            "this is one standard error (68 %): z is 1.96 for 95 %.": _wilson(k, n, 1.0),
            "this is the 90 % interval: z is 1.96 for 95 %.": _wilson(k, n, 1.645),
            "this is the 99 % interval: z is 1.96 for 95 %.": _wilson(k, n, 2.576),
        }
        look = "compare each term with the formula above: middle, half width, divisor."
        gave = f"wilson({k}, {n}) gave {_shown(answer)}"
        bench.same(answer, right, slips, look, gave, _near_pair, _shown)
    bench.done()


def zero_shot(function) -> None:
    """Checks zero_shot(v, t): for each row of v (N, d) the row of t (C, d) with the largest cosine,
    N class numbers. Raises CheckFailed.
    """
    bench = Bench(function)
    for seed, (n, classes, d) in enumerate(((9, 4, 6), (12, 7, 3), (5, 5, 8), (3, 20, 4))):
        v = random_tensor(seed, n, d) * (1 + 10 * random_tensor(5 + seed, n, 1).abs())
        lengths = 0.2 + 6 * random_tensor(9 + seed, classes, 1).abs()
        t = random_tensor(100 + seed, classes, d) * lengths
        cosines = F.normalize(v, dim=1) @ F.normalize(t, dim=1).T
        half, down = F.normalize(v, dim=1) @ t.T, F.normalize(v, dim=0) @ F.normalize(t, dim=0).T
        answer = torch.as_tensor(bench.call(v, t))
        if answer.shape != (n,):
            look = "return one class number a picture, without the scores."
            if answer.shape == (classes,):
                look = "the best picture of each class was taken: the maximum goes over dim=1."
            expected = f"({n},), one class for each picture, was expected"
            bench.fail(f"shape {tuple(answer.shape)} came back", expected, look)
        bench.hold(
            not answer.is_floating_point(),
            "numbers with a point came back",
            "class numbers (integers) were expected",
            "argmax gives the place of the largest cosine, max its value.",
        )
        right = cosines.argmax(1)
        slips = {
            "the text features are not normalised: a long one wins.": (v @ t.T).argmax(1),
            "only v is normalised: t must be too, or a long text feature wins.": half.argmax(1),
            "the smallest cosine was taken: the likely class has the largest.": cosines.argmin(1),
            "a cosine of -1 means unlike: no abs here.": cosines.abs().argmax(1),
            "normalised down the columns: each row is one feature, dim=1.": down.argmax(1),
            "class numbers start at 0.": right + 1,
        }
        look = "cosines of all pictures with all texts, then the largest in each row."
        gave = f"{answer.tolist()} came back"
        bench.same(answer, right, slips, look, gave, torch.equal, lambda x: str(x.tolist()))
    bench.done()
