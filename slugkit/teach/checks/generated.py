"""Checks for notebook 06: guidance, and the unlearning scores of generated pictures."""

import torch

from slugkit.teach.checks.bench import Bench, random_tensor


def guided(function) -> None:
    """Checks guided(empty, named, scale): classifier-free guidance, empty + scale x (named - empty), (N, c, h, w) float64
    (Ho and Salimans 2022, equation 6, in the form of Stable Diffusion). Raises CheckFailed.
    """
    bench = Bench(function)
    for seed, (shape, scale) in enumerate((((2, 4, 3, 3), 4.0), ((1, 4, 8, 8), 1.0), ((3, 2, 5, 5), 7.5), ((2, 1, 2, 2), 0.0))):
        empty, named = random_tensor(seed, *shape), random_tensor(seed + 50, *shape)
        slips = {
            "the step starts at named: start at empty and go scale times towards named.": named + scale * (named - empty),
            "the two are swapped: the direction is from empty to named.": empty + scale * (empty - named),
            "this adds named itself: add the difference of the two.": empty + scale * named,
            "this mixes with (1 - scale) on the wrong one: at scale 1 the answer is named.": (1 - scale) * named + scale * empty,
            "the scale is missing: it says how far to go.": named,
            "this is the step alone: add it to empty.": scale * (named - empty),
        }
        bench.close(bench.call(empty, named, scale), empty + scale * (named - empty), slips)
    bench.done()


def _scores(subject, called, domain, target, *, target_domain=None, count_target=False, pooled=False):
    own = target_domain or domain[subject.index(target)]
    right = [a == b for a, b in zip(subject, called, strict=True)]
    mine = [r for r, s in zip(right, subject, strict=True) if s == target]
    kept = {d: [r for r, s, e in zip(right, subject, domain, strict=True) if e == d and (count_target or s != target)] for d in dict.fromkeys(domain)}
    others = [kept[d] for d in kept if d != own]
    cross = [sum(others, [])] if pooled else others
    return 1 - sum(mine) / len(mine), sum(kept[own]) / len(kept[own]), sum(sum(o) / len(o) for o in cross) / len(cross)


def _near(got, wanted) -> bool:
    return all(abs(a - b) < 1e-9 for a, b in zip(got, wanted, strict=True))


def unlearning_scores(function) -> None:
    """Checks unlearning_scores(subject, called, domain, target) -> (UA, IRA, CRA), shares 0..1 (UnlearnCanvas, section 4),
    from three lists with one entry a picture. Raises CheckFailed.
    """
    bench = Bench(function)
    names = {"Ann": "people", "Ben": "people", "Cyd": "people", "cup": "objects", "key": "objects", "neon": "styles"}
    for seed in range(5):
        rng = torch.Generator().manual_seed(seed)
        subject = [*names, *(list(names)[int(i)] for i in torch.randint(len(names), (34,), generator=rng))]
        called = [s if float(torch.rand((), generator=rng)) < 0.6 else "Zoe" for s in subject]
        domain, target = [names[s] for s in subject], ("Ann", "cup")[seed % 2]
        wanted, got = _scores(subject, called, domain, target), bench.call(subject, called, domain, target)
        bench.hold(isinstance(got, (tuple, list)) and len(got) == 3, f"{got!r} came back", "three numbers (UA, IRA, CRA) were expected",
                   "return a tuple of three.")
        got = [bench.number(x) for x in got]
        slips = {
            "UA is the share of the target's pictures NOT called the target.": (1 - wanted[0], *wanted[1:]),
            "in percent: return shares, 0..1.": tuple(100 * x for x in wanted),
            "the target's own pictures do not count for IRA.": _scores(subject, called, domain, target, count_target=True),
            "CRA is the mean over domains, each with the same weight.": _scores(subject, called, domain, target, pooled=True),
            "IRA and CRA are swapped: IRA is the target's own domain.": (wanted[0], wanted[2], wanted[1]),
        }
        hint = next((words for words, wrong in slips.items() if _near(got, wrong) and not _near(wanted, wrong)), "compare each of the three with the words above.")
        bench.hold(_near(got, wanted), f"({got[0]:.3f}, {got[1]:.3f}, {got[2]:.3f}) came back",
                   f"({wanted[0]:.3f}, {wanted[1]:.3f}, {wanted[2]:.3f}) was expected", hint)
    bench.done()
