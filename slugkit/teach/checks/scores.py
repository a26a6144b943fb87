"""Checks for notebook 05: top-k accuracy, Wilson's interval, zero-shot classes."""

import math

import torch
import torch.nn.functional as F

from slugkit.teach.checks.bench import Bench, random_tensor


def accuracy_at_k(function) -> None:
    """Checks accuracy_at_k(scores, labels, k): share of the N rows whose label is among the k largest of C scores.
    Raises CheckFailed.
    """
    bench = Bench(function)
    for seed, (n, classes, k) in enumerate(((199, 7, 3), (8, 5, 1), (30, 10, 5), (6, 4, 4), (50, 12, 1))):
        scores = random_tensor(seed, n, classes)
        labels = torch.randint(classes, (n,), generator=torch.Generator().manual_seed(seed))
        scores[torch.arange(n // 2), labels[: n // 2]] += 2.0
        rank = (scores > scores.gather(1, labels[:, None])).sum(1)
        share = (rank < k).double().mean()
        last = scores.topk(k, largest=False).indices
        slips = {
            "the smallest scores were taken: a high score means a likely class.": (last == labels[:, None])
            .any(1)
            .double()
            .mean(),
            "this is the number of hits: divide by the number of pictures.": (rank < k).sum(),
            "in percent: return the share, 0..1.": 100 * share,
            "only the best answer counted: the label may be anywhere among the first k.": (rank == 0).double().mean(),
            "only place k counted: the label may be anywhere among the first k.": (rank == k - 1).double().mean(),
            "one place too many: first k means rank 0 to k - 1.": (rank <= k).double().mean(),
            "one place too few: first k means rank 0 to k - 1.": (rank < k - 1).double().mean(),
            "this is the error: return the share of hits.": 1 - share,
            "divided by N x k: divide the hits by the number of pictures.": share / k,
            "the scores themselves were compared with labels: compare class numbers (topk(...).indices).": torch.tensor(
                0.0
            ),
        }
        bench.close(bench.call(scores, labels, k), share, slips)
    bench.done()


def _wilson(k: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    p, spread = k / n, 1 + z * z / n
    middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (middle - half) / spread, (middle + half) / spread


def _near_pair(got, wanted) -> bool:
    """Whether two intervals agree, whether z was 1.96 or 1.959964."""
    return all(abs(a - b) < 2e-4 * max(1, abs(b)) for a, b in zip(got, wanted, strict=True))


def wilson(function) -> None:
    """Checks wilson(k, n) -> (low, high): Wilson's 95 % interval of k hits in n, shares 0..1 (Wilson 1927). Raises
    CheckFailed.
    """
    bench = Bench(function)
    z = 1.96
    for k, n in ((0, 20), (20, 20), (5, 10), (1, 240), (190, 200), (0, 240), (37, 61)):
        answer = bench.call(k, n)
        try:
            low, high = answer = tuple(float(value) for value in answer)
        except (TypeError, ValueError):
            bench.fail(f"{answer!r} came back", "two numbers (low, high) were expected", "return low, high.")
        p, right = k / n, _wilson(k, n)
        wald = z * math.sqrt(p * (1 - p) / n)
        middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        slips = {
            "low and high are swapped.": right[::-1],
            "in percent: return shares, 0..1.": (100 * right[0], 100 * right[1]),
            "this is p ± z sqrt(p(1-p)/n): at 0 or n hits it has no width. Wilson's interval moves "
            "its middle and widens.": (
                p - wald,
                p + wald,
            ),
            "this is the simple interval, cut at 0 and 1: Wilson's moves its middle and widens.": (
                max(0, p - wald),
                min(1, p + wald),
            ),
            "the division by 1 + z²/n is missing.": (middle - half, middle + half),
            "the middle did not move: add z²/(2n) to p.": ((p - half) / (1 + z * z / n), (p + half) / (1 + z * z / n)),
            "this is the interval for one standard error (68 %): z is 1.96 for 95 %.": _wilson(k, n, 1.0),
            "this is the 90 % interval: z is 1.96 for 95 %.": _wilson(k, n, 1.645),
            "this is the 99 % interval: z is 1.96 for 95 %.": _wilson(k, n, 2.576),
        }
        look = next(
            (hint for hint, wrong in slips.items() if _near_pair(answer, wrong)),
            "compare each term with the formula above: middle, half width, divisor.",
        )
        bench.hold(
            _near_pair(answer, right),
            f"wilson({k}, {n}) gave ({low:.4g}, {high:.4g})",
            f"({right[0]:.4g}, {right[1]:.4g}) was expected",
            look,
        )
    bench.done()


def zero_shot(function) -> None:
    """Checks zero_shot(v, t): for each row of v (N, d) the row of t (C, d) with the largest cosine, N class numbers.
    Raises CheckFailed.
    """
    bench = Bench(function)
    for seed, (n, classes, d) in enumerate(((9, 4, 6), (12, 7, 3), (5, 5, 8), (3, 20, 4))):
        v = random_tensor(seed, n, d) * (1 + 10 * random_tensor(5 + seed, n, 1).abs())
        t = random_tensor(100 + seed, classes, d) * (0.2 + 6 * random_tensor(9 + seed, classes, 1).abs())
        cosines = F.normalize(v, dim=1) @ F.normalize(t, dim=1).T
        answer = bench.call(v, t)
        answer = torch.as_tensor(answer)
        if answer.shape != (n,):
            look = (
                "the best picture for each class was taken: the maximum goes over the classes (dim=1)."
                if answer.shape == (classes,)
                else "return one class number a picture, without the scores."
            )
            bench.fail(
                f"shape {tuple(answer.shape)} came back", f"({n},), one class for each picture, was expected", look
            )
        bench.hold(
            not answer.is_floating_point(),
            "numbers with a point came back",
            "class numbers (integers) were expected",
            "argmax gives the place of the largest cosine, max its value.",
        )
        bare = v @ t.T
        slips = {
            "the text features are not normalised: a long one wins every picture.": bare.argmax(1),
            "only v is normalised: t must be too, or a long text feature wins.": (F.normalize(v, dim=1) @ t.T).argmax(
                1
            ),
            "the smallest cosine was taken: the likely class has the largest.": cosines.argmin(1),
            "a cosine of -1 means unlike: no abs here.": cosines.abs().argmax(1),
            "normalised down the columns: each row is one feature, dim=1.": (
                F.normalize(v, dim=0) @ F.normalize(t, dim=0).T
            ).argmax(1),
            "class numbers start at 0.": cosines.argmax(1) + 1,
        }
        look = next(
            (hint for hint, wrong in slips.items() if torch.equal(answer, wrong)),
            "cosines of all pictures with all texts, then the largest in each row.",
        )
        bench.hold(
            torch.equal(answer, cosines.argmax(1)),
            f"{answer.tolist()} came back",
            f"{cosines.argmax(1).tolist()} was expected",
            look,
        )
    bench.done()
