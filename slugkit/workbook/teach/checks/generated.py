"""Checks for notebook 06: guidance, and the unlearning scores of generated pictures."""

import torch

from slugkit.workbook.teach.checks.bench import Bench, random_tensor


def guided(function) -> None:
    """Checks guided(empty, named, scale): classifier-free guidance, empty + scale (named - empty),
    (N, c, h, w) float64 (Ho and Salimans 2022, equation 6, in the form of Stable Diffusion). Raises
    CheckFailed.
    """
    bench = Bench(function)
    cases = ((2, 4, 3, 3), 4.0), ((1, 4, 8, 8), 1.0), ((3, 2, 5, 5), 7.5), ((2, 1, 2, 2), 0.0)
    for seed, (shape, scale) in enumerate(cases):
        empty, named = random_tensor(seed, *shape), random_tensor(seed + 50, *shape)
        step = scale * (named - empty)
        slips = {
            "the step starts at named: start at empty and go scale times to named.": named + step,
            "the two are swapped: the direction is from empty to named.": empty - step,
            "this adds named itself: add the difference of the two.": empty + scale * named,
            "(1 - scale) stands on the wrong one: at scale 1 the answer is named.": (
                named - scale * (named - empty)
            ),
            "the scale is missing: it says how far to go.": named,
            "this is the step alone: add it to empty.": step,
        }
        bench.close(bench.call(empty, named, scale), empty + step, slips)
    bench.done()


def _scores(subject, called, domain, target, *, count_target=False, pooled=False):
    right = [a == b for a, b in zip(subject, called, strict=True)]
    rows = list(zip(right, subject, domain, strict=True))
    mine = [r for r, s, _ in rows if s == target]
    own = domain[subject.index(target)]
    others = [row for row in rows if count_target or row[1] != target]
    kept = {d: [r for r, _, e in others if e == d] for d in dict.fromkeys(domain)}
    inside = kept.pop(own)
    cross = [sum(kept.values(), [])] if pooled else kept.values()
    return (
        1 - sum(mine) / len(mine),
        sum(inside) / len(inside),
        sum(sum(o) / len(o) for o in cross) / len(cross),
    )


def _near(got, wanted) -> bool:
    return all(abs(a - b) < 1e-9 for a, b in zip(got, wanted, strict=True))


def _shown(scores) -> str:
    return "({:.3f}, {:.3f}, {:.3f})".format(*scores)


def unlearning_scores(function) -> None:
    """Checks unlearning_scores(subject, called, domain, target) -> (UA, IRA, CRA), shares 0..1
    (UnlearnCanvas, section 4), from three lists with one entry a picture. Raises CheckFailed.
    """
    bench = Bench(function)
    names = dict.fromkeys(("Ann", "Ben", "Cyd"), "people") | {"cup": "objects", "key": "objects"}
    names["neon"] = "styles"
    for seed in range(5):
        rng = torch.Generator().manual_seed(seed)
        more = torch.randint(len(names), (34,), generator=rng).tolist()
        subject = [*names, *(list(names)[i] for i in more)]
        called = [s if float(torch.rand((), generator=rng)) < 0.6 else "Zoe" for s in subject]
        given = subject, called, [names[s] for s in subject], ("Ann", "cup")[seed % 2]
        ua, ira, cra = wanted = _scores(*given)
        three = "three numbers (UA, IRA, CRA) were expected"
        got = bench.numbers(bench.call(*given), three, "return a tuple of three.", 3)
        slips = {
            "UA is the share of the target's pictures NOT called the target.": (1 - ua, ira, cra),
            "in percent: return shares, 0..1.": tuple(100 * x for x in wanted),
            "the target's own pictures do not count for IRA.": _scores(*given, count_target=True),
            "CRA is the mean over domains, each with the same weight.": _scores(
                *given, pooled=True
            ),
            "IRA and CRA are swapped: IRA is the target's own domain.": (ua, cra, ira),
        }
        slips = {hint: wrong for hint, wrong in slips.items() if not _near(wanted, wrong)}
        look, gave = "compare each of the three with the words above.", f"{_shown(got)} came back"
        bench.same(got, wanted, slips, look, gave, _near, _shown)
    bench.done()
