"""Right and wrong answers to the exercises, as students write them, with words the check's message
must hold.
"""

import math
import re

import pandas as pd
import torch
import torch.nn.functional as F
import wrong_layers
import wrong_methods
import wrong_several
import wrong_tables
from wrong_rows import KINDS, OF_KINDS, OF_NAMES, OF_PEOPLE, PEOPLE, lost


def concept_captions(captions, name):
    return [
        bool(re.search(rf"\b{re.escape(name)}\b", caption, re.IGNORECASE)) for caption in captions
    ]


def distinct_batches(captions, batch_size):
    batches = []
    for index, caption in enumerate(captions):
        for batch in batches:
            if len(batch) < batch_size and caption not in {captions[i] for i in batch}:
                batch.append(index)
                break
        else:
            batches.append([index])
    return batches


def forget_loss(v, t):
    return F.cosine_similarity(v, t, dim=1).mean()


def retain_loss(v, t, scale):
    logits, right = scale * v @ t.T, torch.arange(len(v))
    return (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2


def mean_of_batches(means, sizes):
    return sum(size * mean for size, mean in zip(sizes, means, strict=False)) / sum(sizes)


def retain_aware(g, x, delta, power=-1, divide=True, mean=None):
    a = x.T @ x / (len(x) if divide else 1)
    scale = a.diagonal().mean() if mean is None else mean(a)
    damped = a + delta * scale * torch.eye(len(a), dtype=a.dtype)
    return g @ torch.linalg.matrix_power(damped, power)


def cosine(a, b):
    return (a @ b / (a.norm() * b.norm())).item()


def alignment(g, r):
    return abs(F.cosine_similarity(g.flatten(), r.flatten(), dim=0)).item()


def front(beats):
    def pareto(imp, ali):
        points = list(zip(imp, ali, strict=False))
        return [not any(beats(o, p) for o in points) for p in points]

    return pareto


def strictly_first(imp, ali):
    return [value == imp.max() for value in imp]


def next_lam(low, high, lam, forgotten):
    low, high = (low, lam) if forgotten else (lam, high)
    return low, high, 2 * lam if math.isinf(high) else (low + high) / 2


def accuracy_at_k(scores, labels, k):
    return (scores.topk(k).indices == labels[:, None]).any(1).double().mean().item()


def wilson(k, n, z=1.96):
    p, d = k / n, 1 + z * z / n
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (p + z * z / (2 * n) - half) / d, (p + z * z / (2 * n) + half) / d


def zero_shot(v, t):
    return (F.normalize(v, dim=1) @ F.normalize(t, dim=1).T).argmax(1)


def unlearning_scores(subject, called, domain, target, skip=True, cross=None):
    rows = list(zip(subject, called, domain, strict=True))
    own = next(d for s, c, d in rows if s == target)

    def share(kept):
        kept = list(kept)
        return sum(s == c for s, c, d in kept) / len(kept)

    apart = [share(r for r in rows if r[2] == d) for d in sorted(set(domain) - {own})]
    return (
        1 - share(r for r in rows if r[0] == target),
        share(r for r in rows if r[2] == own and (r[0] != target or not skip)),
        sum(apart) / len(apart) if cross is None else cross(rows, own, share),
    )


def in_place_step(theta, g, lam):
    theta -= lam * g
    return theta


def name_outcome(answer, name, names):
    said = answer.lower()
    if name.lower() in said:
        return "right name"
    return "another name" if any(other.lower() in said for other in names) else "no name"


SIZES = {"size": [320, 2560], "classes": [60, 72], "neighbour_pairs": [20, 150]}
FEWEST = "fewest_of_a_neighbour"
SIZES[FEWEST] = [5, 40]
BATCH_SIZES = {"batch_size": [16, 128], "loss": [0.01, 0.05], "cosine": [0.4, 1.0]}

RIGHT = {
    "retain_size_table": pd.DataFrame(SIZES),
    "batch_size_table": pd.DataFrame(BATCH_SIZES),
    "concept_captions": concept_captions,
    "disjoint": lambda a, b: set(a).isdisjoint(b),
    "distinct_batches": distinct_batches,
    "forget_loss": forget_loss,
    "retain_loss": retain_loss,
    "mean_of_batches": mean_of_batches,
    "cosine": cosine,
    "alignment": alignment,
    "pareto": front(lambda o, p: o != p and o[0] >= p[0] and o[1] <= p[1]),
    "one_step": lambda theta, g, lam: theta - lam * g,
    "next_lam": next_lam,
    "accuracy_at_k": accuracy_at_k,
    "wilson": wilson,
    "zero_shot": zero_shot,
    "guided": lambda e, n, s: (1 - s) * e + s * n,
    "unlearning_scores": unlearning_scores,
    "name_outcome": name_outcome,
    "retain_aware": lambda g, x, delta: retain_aware(g, x, delta),
}


# exercise, wrong answer, words of the hint
WRONG = [
    ("concept_captions", lambda c, n: [n in x for x in c], "case"),
    ("concept_captions", lambda c, n: [n.lower() in x.lower() for x in c], "whole words"),
    (
        "concept_captions",
        lambda c, n: [bool(re.search(rf"\b{n}\b", x, re.I)) for x in c],
        "re.escape",
    ),
    (
        "concept_captions",
        lambda c, n: [set(n.lower().split()) <= set(re.findall(r"\w+", x.lower())) for x in c],
        "together",
    ),
    ("concept_captions", lambda c, n: [x for x in c if n in x], "not the captions themselves"),
    (
        "concept_captions",
        lambda c, n: [n.lower().split()[0] in re.findall(r"\w+", x.lower()) for x in c],
        "whole name",
    ),
    ("concept_captions", lambda c, n: [not x for x in concept_captions(c, n)], "plainest"),
    ("disjoint", lambda a, b: bool(set(a) & set(b)), "swapped"),
    ("disjoint", lambda a, b: all(x != y for x, y in zip(a, b, strict=False)), "place by place"),
    ("disjoint", lambda a, b: len(set(a) | set(b)) == len(a) + len(b), "twice in one list"),
    ("disjoint", lambda a, b: set(a) & set(b), "one of True, False"),
    ("disjoint", lambda a, b: bool(a) and not set(a) & set(b), "empty set"),
    ("disjoint", lambda a, b: not any(str(x) in "".join(map(str, b)) for x in a), "another id"),
    (
        "distinct_batches",
        lambda c, b: [list(range(i, min(i + b, len(c)))) for i in range(0, len(c), b)],
        "negative",
    ),
    ("distinct_batches", lambda c, b: [[i] for i in range(len(c))], "fill a batch"),
    (
        "distinct_batches",
        lambda c, b: [[c[i] for i in x] for x in distinct_batches(c, b)],
        "not their texts",
    ),
    (
        "distinct_batches",
        lambda c, b: [x for x in distinct_batches(c, b) if len(x) == b],
        "not full",
    ),
    ("distinct_batches", lambda c, b: distinct_batches(c, b + 1), "is full"),
    ("distinct_batches", lambda c, b: [*distinct_batches(c, b), []], "empty"),
    ("distinct_batches", lambda c, b: distinct_batches(c, b) * 2, "two batches"),
    ("distinct_batches", lambda c, b: distinct_batches(list(dict.fromkeys(c)), b), "negative"),
    ("forget_loss", lambda v, t: (v * t).sum(1).mean(), "not normalised"),
    ("forget_loss", lambda v, t: (F.normalize(v, dim=1) * t).sum(1).mean(), "only one"),
    ("forget_loss", lambda v, t: F.cosine_similarity(v, t).sum(), "take the mean"),
    ("forget_loss", lambda v, t: -forget_loss(v, t), "sign"),
    ("forget_loss", lambda v, t: 1 - forget_loss(v, t), "1 - cos"),
    (
        "forget_loss",
        lambda v, t: (F.normalize(v, dim=1) @ F.normalize(t, dim=1).T).mean(),
        "diagonal",
    ),
    ("forget_loss", lambda v, t: (F.normalize(v, dim=1) * F.normalize(t, dim=1)).mean(), "dim=1"),
    (
        "forget_loss",
        lambda v, t: (F.normalize(v, dim=0) * F.normalize(t, dim=0)).sum(1).mean(),
        "columns",
    ),
    ("forget_loss", lambda v, t: F.cosine_similarity(v, t).abs().mean(), "no abs"),
    ("forget_loss", lambda v, t: F.cosine_similarity(v, t), "one number"),
    ("forget_loss", lambda v, t: forget_loss(v, t).item(), ".item()"),
    ("forget_loss", lambda v, t: forget_loss(v, t.detach()), "detached"),
    ("forget_loss", lambda v, t: v @ t, "stopped with RuntimeError"),
    ("forget_loss", lambda v, t: None, "return"),
    (
        "retain_loss",
        lambda v, t, s: F.cross_entropy(s * v @ t.T, torch.arange(len(v))),
        "image-to-text half",
    ),
    (
        "retain_loss",
        lambda v, t, s: F.cross_entropy(s * t @ v.T, torch.arange(len(v))),
        "text-to-image half",
    ),
    ("retain_loss", lambda v, t, s: 2 * retain_loss(v, t, s), "sum of both"),
    ("retain_loss", lambda v, t, s: retain_loss(v, t, 1.0), "scale is missing"),
    ("retain_loss", lambda v, t, s: retain_loss(v, t, 1 / s), "divided by the scale"),
    ("retain_loss", lambda v, t, s: retain_loss(v, t, math.exp(s)), "taken twice"),
    ("retain_loss", lambda v, t, s: len(v) * retain_loss(v, t, s), "summed over the batch"),
    ("retain_loss", lambda v, t, s: -retain_loss(v, t, s), "sign"),
    ("retain_loss", lambda v, t, s: retain_loss(v, t, s).detach(), "cut off"),
    ("mean_of_batches", lambda m, s: sum(m) / len(m), "plain mean"),
    ("mean_of_batches", lambda m, s: sum(m), "sum of the batch means"),
    ("mean_of_batches", lambda m, s: sum(n * x for n, x in zip(s, m, strict=False)), "not divided"),
    (
        "mean_of_batches",
        lambda m, s: sum(n * x for n, x in zip(s, m, strict=False)) / len(s),
        "number of batches",
    ),
    ("mean_of_batches", lambda m, s: sum(m) / sum(s), "unweighted"),
    ("mean_of_batches", lambda m, s: mean_of_batches(m, s).mean(), "shape"),
    ("mean_of_batches", lambda m, s: mean_of_batches(m, s).mean().item(), "keep the tensor"),
    ("cosine", lambda a, b: (a @ b).item(), "dot product"),
    ("cosine", lambda a, b: a @ b / a.norm(), "one norm"),
    ("cosine", lambda a, b: a @ b / b.norm(), "one norm"),
    ("cosine", lambda a, b: a @ b / (a @ a * (b @ b)), "squared"),
    ("cosine", lambda a, b: abs(cosine(a, b)), "no abs"),
    ("cosine", lambda a, b: 1 - cosine(a, b), "distance"),
    ("cosine", lambda a, b: a @ b / (a.norm() + b.norm()), "product"),
    ("cosine", lambda a, b: a * b, "one number"),
    ("cosine", lambda a, b: (a / a.sum()) @ (b / b.sum()), "formula"),
    (
        "alignment",
        lambda g, r: F.cosine_similarity(g.flatten(), r.flatten(), dim=0).item(),
        "absolute value",
    ),
    ("alignment", lambda g, r: (g * r).sum().abs().item(), "above 1|dot product"),
    ("alignment", lambda g, r: (g * r).sum().item(), "dot product"),
    ("alignment", lambda g, r: (g * r).sum().abs() / g.norm(), "one norm"),
    ("alignment", lambda g, r: (g * r).sum().abs() / r.norm(), "one norm"),
    ("alignment", lambda g, r: 1 - alignment(g, r), "1 - |cos|"),
    (
        "alignment",
        lambda g, r: (
            F.cosine_similarity(g.flatten(1), r.flatten(1)).mean().abs()
            if g.ndim > 1
            else alignment(g, r)
        ),
        "rows",
    ),
    ("alignment", lambda g, r: F.cosine_similarity(g, r, dim=0), "one number|rows|formula"),
    ("alignment", lambda g, r: 2.7, "above 1"),
    ("pareto", front(lambda o, p: o[0] > p[0] and o[1] < p[1]), "strict"),
    ("pareto", lambda i, a: [not x for x in RIGHT["pareto"](i, a)], "swapped"),
    ("pareto", front(lambda o, p: o != p and o[0] >= p[0] and o[1] >= p[1]), "same way"),
    (
        "pareto",
        front(lambda o, p: o != p and o[0] <= p[0] and o[1] <= p[1]),
        "importance is to be high",
    ),
    ("pareto", front(lambda o, p: o != p and o[0] <= p[0] and o[1] >= p[1]), "both comparisons"),
    (
        "pareto",
        lambda i, a: [
            not any(k != j and i[k] >= i[j] and a[k] <= a[j] for k in range(len(i)))
            for j in range(len(i))
        ],
        "twins",
    ),
    ("pareto", front(lambda o, p: o[0] >= p[0] and o[1] <= p[1]), "beats itself"),
    (
        "pareto",
        lambda i, a: [
            not (any(x > p for x in i) and any(y < q for y in a))
            for p, q in zip(i, a, strict=False)
        ],
        "ONE other layer",
    ),
    ("pareto", strictly_first, "most important"),
    ("pareto", lambda i, a: [0, 1], "in their order"),
    ("one_step", lambda w, g, lam: w + lam * g, "uphill"),
    ("one_step", lambda w, g, lam: w - g, "lam is missing"),
    ("one_step", lambda w, g, lam: lam * g, "change alone"),
    ("one_step", lambda w, g, lam: w - lam * g / g.norm(), "normalised"),
    ("one_step", lambda w, g, lam: w - lam * g * w.norm() / g.norm(), "relative step"),
    ("one_step", lambda w, g, lam: lam * (w - g), "theta is scaled"),
    ("one_step", lambda w, g, lam: w - lam * g.sign(), "signs"),
    ("one_step", in_place_step, "was changed"),
    ("one_step", lambda w, g, lam: (w - lam * g).sum(), "shape"),
    ("next_lam", lambda lo, hi, lam, f: next_lam(lo, hi, lam, not f), "swapped"),
    ("next_lam", lambda lo, hi, lam, f: (*next_lam(lo, hi, lam, f)[:2], 2 * lam), "not twice"),
    (
        "next_lam",
        lambda lo, hi, lam, f: (
            *next_lam(lo, hi, lam, f)[:2],
            (lo + hi) / 2 if hi < math.inf else next_lam(lo, hi, lam, f)[2],
        ),
        "old bracket",
    ),
    (
        "next_lam",
        lambda lo, hi, lam, f: (
            *next_lam(lo, hi, lam, f)[:2],
            sum(next_lam(lo, hi, lam, f)[:2]) / 2,
        ),
        "no middle",
    ),
    (
        "next_lam",
        lambda lo, hi, lam, f: (
            *next_lam(lo, hi, lam, f)[:2],
            lam / 2 if f else next_lam(lo, hi, lam, f)[2],
        ),
        "halving lam",
    ),
    ("next_lam", lambda lo, hi, lam, f: (lo, hi, next_lam(lo, hi, lam, f)[2]), "did not move"),
    ("next_lam", lambda lo, hi, lam, f: next_lam(lo, hi, lam, f)[2], "3 numbers"),
    (
        "next_lam",
        lambda lo, hi, lam, f: (lo, lam, (lo + lam) / 2) if f else (lam, hi, 2 * lam),
        "not twice",
    ),
    (
        "accuracy_at_k",
        lambda s, y, k: (s.topk(k, largest=False).indices == y[:, None]).any(1).double().mean(),
        "smallest",
    ),
    (
        "accuracy_at_k",
        lambda s, y, k: (s.topk(k).indices == y[:, None]).any(1).sum(),
        "number of hits",
    ),
    ("accuracy_at_k", lambda s, y, k: 100 * accuracy_at_k(s, y, k), "percent"),
    ("accuracy_at_k", lambda s, y, k: (s.argmax(1) == y).double().mean(), "best answer"),
    (
        "accuracy_at_k",
        lambda s, y, k: (s.topk(k).indices[:, -1] == y).double().mean(),
        "only place k",
    ),
    ("accuracy_at_k", lambda s, y, k: accuracy_at_k(s, y, k + 1), "one place too many"),
    ("accuracy_at_k", lambda s, y, k: 1 - accuracy_at_k(s, y, k), "error"),
    ("accuracy_at_k", lambda s, y, k: (s.topk(k).indices == y[:, None]).double().mean(), "N x k"),
    (
        "accuracy_at_k",
        lambda s, y, k: (s.topk(k).values == y[:, None]).any(1).double().mean(),
        "scores themselves",
    ),
    ("wilson", lambda k, n: wilson(k, n)[::-1], "swapped"),
    ("wilson", lambda k, n: tuple(100 * x for x in wilson(k, n)), "percent"),
    (
        "wilson",
        lambda k, n: tuple(k / n + s * 1.96 * math.sqrt(k / n * (1 - k / n) / n) for s in (-1, 1)),
        "no width",
    ),
    ("wilson", lambda k, n: tuple(x * (1 + 1.96**2 / n) for x in wilson(k, n)), "division"),
    ("wilson", lambda k, n: wilson(k, n, 1.645), "90 %"),
    ("wilson", lambda k, n: wilson(k, n, 1.0), "68 %"),
    ("wilson", lambda k, n: k / n, "2 numbers"),
    ("zero_shot", lambda v, t: (v @ t.T).argmax(1), "not normalised"),
    ("zero_shot", lambda v, t: (F.normalize(v, dim=1) @ t.T).argmax(1), "not normalised|only v"),
    (
        "zero_shot",
        lambda v, t: (F.normalize(v, dim=1) @ F.normalize(t, dim=1).T).argmin(1),
        "smallest",
    ),
    (
        "zero_shot",
        lambda v, t: (F.normalize(v, dim=1) @ F.normalize(t, dim=1).T).argmax(0),
        "dim=1",
    ),
    (
        "zero_shot",
        lambda v, t: (F.normalize(v, dim=1) @ F.normalize(t, dim=1).T).max(1).values,
        "integers",
    ),
    ("zero_shot", lambda v, t: F.normalize(v, dim=1) @ F.normalize(t, dim=1).T, "one class number"),
    ("guided", lambda e, n, s: n + s * (n - e), "starts at named"),
    ("guided", lambda e, n, s: e + s * (e - n), "swapped"),
    ("guided", lambda e, n, s: e + s * n, "adds named itself"),
    ("guided", lambda e, n, s: (1 - s) * n + s * e, "swapped|wrong one"),
    ("guided", lambda e, n, s: n, "scale is missing"),
    ("guided", lambda e, n, s: s * (n - e), "step alone"),
    ("guided", lambda e, n, s: (e + s * (n - e)).mean(), "shape"),
    ("guided", lambda e, n, s: n - s * (n - e), "swapped|wrong one|starts at named"),
    ("guided", lambda e, n, s: e, "formula"),
    ("guided", lambda e, n, s: None, "return at the end"),
    (
        "unlearning_scores",
        lambda *x: (1 - unlearning_scores(*x)[0], *unlearning_scores(*x)[1:]),
        "NOT called",
    ),
    ("unlearning_scores", lambda *x: tuple(100 * v for v in unlearning_scores(*x)), "percent"),
    ("unlearning_scores", lambda *x: unlearning_scores(*x, skip=False), "own pictures"),
    (
        "unlearning_scores",
        lambda *x: unlearning_scores(
            *x, cross=lambda r, own, share: share(y for y in r if y[2] != own)
        ),
        "same weight",
    ),
    (
        "unlearning_scores",
        lambda *x: (lambda u, i, c: (u, c, i))(*unlearning_scores(*x)),
        "IRA and CRA are swapped",
    ),
    ("unlearning_scores", lambda *x: unlearning_scores(*x)[0], "three"),
    ("unlearning_scores", lambda *x: unlearning_scores(*x)[:2], "three"),
    (
        "unlearning_scores",
        lambda *x: (lambda u, i, c: (u, 1 - i, 1 - c))(*unlearning_scores(*x)),
        "compare each of the three",
    ),
    (
        "unlearning_scores",
        lambda s, c, d, t: (sum(x == t for x in c) / len(c), *unlearning_scores(s, c, d, t)[1:]),
        "compare each of the three",
    ),
    (
        "unlearning_scores",
        lambda s, c, d, t: unlearning_scores(c, s, d, t),
        "stopped|compare each of the three",
    ),
    (
        "name_outcome",
        lambda a, n, m: (
            "right name" if n in a else "another name" if any(o in a for o in m) else "no name"
        ),
        "lower-case",
    ),
    (
        "name_outcome",
        lambda a, n, m: "right name" if n.lower() in a.lower() else "no name",
        "every name of the list",
    ),
    (
        "name_outcome",
        lambda a, n, m: (
            "right name" if n.lower().split()[0] in a.lower() else name_outcome(a, n, m)
        ),
        "whole name",
    ),
    (
        "name_outcome",
        lambda a, n, m: "right name" if n.lower() in a.lower() else "another name",
        "whole name",
    ),
    ("name_outcome", lambda a, n, m: n.lower() in a.lower(), "return one of"),
    (
        "name_outcome",
        lambda a, n, m: (
            "another name"
            if any(o.lower() in a.lower() for o in m)
            else "right name"
            if n.lower() in a.lower()
            else "no name"
        ),
        "the right name first|'right name' was expected",
    ),
    ("name_outcome", lambda a, n, m: "no name", "upper and lower case"),
    ("name_outcome", lambda a, n, m: "right name", "every name of the list"),
    ("name_outcome", lambda a, n, m: name_outcome(a, n, m).title(), "return one of"),
    (
        "name_outcome",
        lambda a, n, m: "right name" if a == n else name_outcome(a, n, m[:1]),
        "every name of the list",
    ),
    ("retain_aware", lambda g, x, delta: retain_aware(g, x, delta, power=1), "by the inverse"),
    ("retain_aware", lambda g, x, delta: retain_aware(g, x, delta, divide=False), "divide X^T X"),
    (
        "retain_aware",
        lambda g, x, delta: retain_aware(g, x, delta, mean=lambda a: 1.0),
        "times the mean",
    ),
    (
        "retain_aware",
        lambda g, x, delta: retain_aware(g, x, delta, mean=torch.trace),
        "not its sum",
    ),
    ("retain_aware", lambda g, x, delta: retain_aware(g, x - x.mean(0), delta), "not centred"),
    (
        "retain_aware",
        lambda g, x, delta: g @ torch.linalg.inv(x.T @ x / len(x) * (1 + delta)),
        "Look",
    ),
    (
        "retain_aware",
        lambda g, x, delta: (
            retain_aware(g.T, x, delta).T if g.shape[0] == g.shape[1] else retain_aware(g, x, delta)
        ),
        "from the right",
    ),
    ("retain_size_table", pd.DataFrame({"size": [320, 2560]}), "other keys"),
    ("retain_size_table", pd.DataFrame(SIZES | {FEWEST: [21, 40]}), "smallest count"),
    ("retain_size_table", pd.DataFrame(SIZES | {"classes": [60, None]}), "fill every row"),
    ("retain_size_table", pd.DataFrame(SIZES | {"size": [320, 320]}), "two or more, each once"),
    (
        "retain_size_table",
        pd.DataFrame(SIZES | {"neighbour_pairs": [400, 3000]}),
        "between 0 and size",
    ),
    ("retain_size_table", pd.DataFrame(SIZES | {"classes": [0, 72]}), "distinct concepts"),
    ("retain_size_table", pd.DataFrame(SIZES | {"classes": [72, 60]}), "fewer classes"),
    ("retain_size_table", pd.DataFrame(SIZES | {"neighbour_pairs": [150, 20]}), "less often"),
    ("batch_size_table", pd.DataFrame({"batch_size": [16, 128], "loss": [0.1, 0.2]}), "other keys"),
    ("batch_size_table", pd.DataFrame(BATCH_SIZES | {"loss": ["", 0.2]}), "fill every row"),
    ("batch_size_table", pd.DataFrame(BATCH_SIZES | {"batch_size": [1, 128]}), "two or more"),
    ("batch_size_table", pd.DataFrame(BATCH_SIZES | {"loss": [-0.1, 0.2]}), "never below 0"),
    ("batch_size_table", pd.DataFrame(BATCH_SIZES | {"cosine": [1.4, 1.0]}), "both norms"),
    (
        "batch_size_table",
        pd.DataFrame(BATCH_SIZES | {"cosine": [1.0, 0.4]}),
        "largest batch is not",
    ),
    ("batch_size_table", pd.DataFrame(BATCH_SIZES | {"loss": [0.05, 0.01]}), "wrong captions"),
]

RIGHT |= wrong_tables.RIGHT | wrong_several.RIGHT | wrong_layers.RIGHT | wrong_methods.RIGHT
WRONG += wrong_tables.WRONG + wrong_several.WRONG + wrong_layers.WRONG + wrong_methods.WRONG
RIGHT |= {"other_kinds": lambda: KINDS, "another_person": lambda: PEOPLE, "lost_names": lost}
WRONG += OF_KINDS + OF_PEOPLE + OF_NAMES
