"""Checks of notebook 10: what two rivals do, on numbers and tensors."""

import torch

from slugkit.workbook.teach.checks.engine import exercise
from slugkit.workbook.teach.checks.formulas import random_tensor

ODDS = [(0.02, 0.8, 0.5), (0.3, 0.6, 1.0), (0.5, 0.25, 2.0), (1e-4, 0.9, 0.3), (0.9, 0.9, 0.1)]


@exercise([tuple(torch.tensor(x, dtype=torch.float64) for x in case) for case in ODDS])
def npo_weight(p, p_ref, beta):
    """Checks npo_weight(p, p_ref, beta): 2 p^beta / (p^beta + p_ref^beta), what NPO multiplies
    ascent's gradient of log p by (Zhang et al. 2024, section 3).
    """
    now, then = p**beta, p_ref**beta
    return 2 * now / (now + then), {
        "the 2 is missing: where nothing has changed yet the weight is 1.": now / (now + then),
        "the two are swapped: the weight vanishes with p.": 2 * then / (now + then),
        "beta is missing: it is an exponent of both.": 2 * p / (p + p_ref),
        "beta is an exponent, no factor.": 2 * beta * p / (beta * p + p_ref),
        "beta stands with one of the two only.": 2 * now / (now + p_ref),
        "beta stands with one of the two only: p too.": 2 * p / (p + then),
        "this is the ratio of the two: divide by their sum.": 2 * now / then,
        "this is the ratio of the two, without the 2: divide by their sum.": now / then,
        "1 minus the weight: at the start it is 1, not 0.": 1 - 2 * now / (now + then),
        "weight 1 everywhere is plain ascent.": torch.ones_like(p),
    }


def _importances(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return (
        random_tensor(seed, 4, 6),
        random_tensor(seed + 50, 4, 6).square() * 5,
        random_tensor(seed + 99, 4, 6).square(),
    )


SELECTED = [(3.0, 0.05), (0.5, 2.0), (10.0, 0.1), (2.0, 1.5)]


@exercise([(*_importances(n), *numbers) for n, numbers in enumerate(SELECTED)])
def dampened(w, i_f, i_r, alpha, lam):
    """Checks dampened(w, i_f, i_r, alpha, lam): entries with i_f > alpha i_r times min(1, lam i_r /
    i_f), the others as they are (Foster et al. 2024, equations 3 and 4).
    """
    factor, chosen = lam * i_r / i_f, i_f > alpha * i_r

    def where(mask, values):
        return torch.where(mask, w * values, w)

    return where(chosen, factor.clamp(max=1)), {
        "a factor above 1 would strengthen the entry: min(1, ...).": where(chosen, factor),
        "only the selected entries shrink: the others stay.": w * factor.clamp(max=1),
        "the selection is turned round: those that matter MORE to the forget set.": where(
            ~chosen, factor.clamp(max=1)
        ),
        "alpha is missing in the selection.": where(i_f > i_r, factor.clamp(max=1)),
        "alpha stands on the wrong side.": where(alpha * i_f > i_r, factor.clamp(max=1)),
        "the factor is turned round: i_r over i_f.": where(chosen, (lam * i_f / i_r).clamp(max=1)),
        "lam is missing in the factor.": where(chosen, (i_r / i_f).clamp(max=1)),
        "a small lam dampens more: it multiplies.": where(chosen, (i_r / i_f / lam).clamp(max=1)),
        "selected entries are shrunk, not set to zero.": where(chosen, torch.zeros_like(w)),
        "this is the factor alone: multiply the weight by it.": factor.clamp(max=1),
    }
