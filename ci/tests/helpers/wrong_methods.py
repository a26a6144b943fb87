"""Right and wrong answers to the exercises of notebook 10."""

import torch


def npo_weight(p, p_ref, beta):
    return 2 * torch.sigmoid(beta * (p.log() - p_ref.log()))


def dampened(w, i_f, i_r, alpha, lam, above=torch.gt, factor=None):
    factor = factor or (lambda f, r: torch.minimum(torch.ones_like(f), lam * r / f))
    return torch.where(above(i_f, alpha * i_r), w * factor(i_f, i_r), w)


RIGHT = {"npo_weight": npo_weight, "dampened": dampened}
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
]
