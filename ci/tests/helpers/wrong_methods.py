"""Right and wrong answers to the exercises of notebooks 10 and 11."""

import torch


def npo_weight(p, p_ref, beta):
    return 2 * torch.sigmoid(beta * (p.log() - p_ref.log()))


def dampened(w, i_f, i_r, alpha, lam, above=torch.gt, factor=None):
    factor = factor or (lambda f, r: torch.minimum(torch.ones_like(f), lam * r / f))
    return torch.where(above(i_f, alpha * i_r), w * factor(i_f, i_r), w)


def in_bits(row, bits, sign=1, rounded=torch.round, largest=lambda row: row.abs().max()):
    step = largest(row) / (2 ** (bits - sign) - 1)
    return rounded(row / step) * step


def way_back(edited, unedited, oracle):
    return 100 - 100 * (unedited - edited) / (unedited - oracle)


RIGHT = {"npo_weight": npo_weight, "dampened": dampened}
RIGHT |= {"in_bits": in_bits, "way_back": way_back}
WRONG = [
    ("npo_weight", lambda p, r, b: torch.sigmoid(b * (p / r).log()), "the 2 is missing"),
    ("npo_weight", lambda p, r, b: npo_weight(r, p, b), "swapped"),
    ("npo_weight", lambda p, r, b: 2 * p / (p + r), "an exponent of both"),
    ("npo_weight", lambda p, r, b: 2 * b * p / (b * p + r), "no factor"),
    ("npo_weight", lambda p, r, b: 2 * p**b / (p**b + r), "one of the two only"),
    ("npo_weight", lambda p, r, b: 2 * p / (p + r**b), "p too"),
    ("npo_weight", lambda p, r, b: 2 * (p / r) ** b, "by their sum"),
    ("npo_weight", lambda p, r, b: (p / r) ** b, "without the 2"),
    ("npo_weight", lambda p, r, b: 1 - npo_weight(p, r, b), "at the start it is 1"),
    ("npo_weight", lambda p, r, b: p / p, "plain ascent"),
    ("npo_weight", lambda p, r, b: 2 * (p - r), "compare each step"),
    ("dampened", lambda w, f, r, a, s: torch.where(f > a * r, w * s * r / f, w), "min(1"),
    ("dampened", lambda w, f, r, a, s: w * torch.clamp(s * r / f, max=1), "the others stay"),
    ("dampened", lambda w, f, r, a, s: dampened(w, f, r, a, s, torch.le), "turned round"),
    ("dampened", lambda w, f, r, a, s: dampened(w, f, r, 1.0, s), "alpha is missing"),
    ("dampened", lambda w, f, r, a, s: dampened(w, f, r, 1 / a, s), "wrong side"),
    (
        "dampened",
        lambda w, f, r, a, s: dampened(w, f, r, a, s, factor=lambda x, y: (s * x / y).clamp(max=1)),
        "i_r over i_f",
    ),
    ("dampened", lambda w, f, r, a, s: dampened(w, f, r, a, 1.0), "lam is missing"),
    ("dampened", lambda w, f, r, a, s: dampened(w, f, r, a, 1 / s), "dampens more"),
    ("dampened", lambda w, f, r, a, s: torch.where(f > a * r, 0 * w, w), "not set to zero"),
    ("dampened", lambda w, f, r, a, s: (s * r / f).clamp(max=1), "multiply the weight"),
    ("dampened", lambda w, f, r, a, s: w.mul_(0.5), "inputs was changed"),
    ("in_bits", lambda r, b: (r / r.abs().max() * (2 ** (b - 1) - 1)).round(), "the step again"),
    ("in_bits", lambda r, b: (r / (s := r.abs().max() / 2 ** (b - 1))).round() * s, "one level"),
    ("in_bits", lambda r, b: in_bits(r, b, 0), "twice as fine"),
    ("in_bits", lambda r, b: in_bits(r, b, rounded=torch.floor), "rounded down"),
    ("in_bits", lambda r, b: in_bits(r, b, rounded=torch.trunc), "cut towards 0"),
    ("in_bits", lambda r, b: in_bits(r, b, largest=torch.max), "not the largest entry"),
    ("in_bits", lambda r, b: (r / r.abs().max()).round() * r.abs().max(), "no room for levels"),
    ("in_bits", lambda r, b: r.clone(), "as it was"),
    ("in_bits", lambda r, b: in_bits(r, b) + 0.1, "compare each step"),
    ("way_back", lambda e, u, o: (e - o) / (u - o), "in percent"),
    ("way_back", lambda e, u, o: 100 * (u - e) / (u - o), "the way that is left"),
    ("way_back", lambda e, u, o: 100 * e / u, "the oracle is left out"),
    ("way_back", lambda e, u, o: 100 * (e - o) / u, "divide by the whole way"),
    ("way_back", lambda e, u, o: e - o, "these are points"),
    ("way_back", lambda e, u, o: 100 * (o - e) / (u - o), "the sign"),
    ("way_back", lambda e, u, o: 50 + e, "compare each step"),
]
