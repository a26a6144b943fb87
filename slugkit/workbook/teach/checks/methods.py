"""Checks of notebooks 10 and 11: what two rivals do, rounding, and the way back, on numbers."""

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


ROWS = [random_tensor(300 + n, size) for n, size in enumerate((6, 9, 5, 12))]


@exercise([(row, bits) for row, bits in zip(ROWS, (3, 4, 8, 2))])
def in_bits(row, bits):
    """Checks in_bits(row, bits): a row rounded to the nearest of 2^bits - 1 levels, symmetric about
    0, the largest |entry| being the last level.
    """
    most = 2 ** (bits - 1) - 1
    step = row.abs().max() / most

    def told(by, rounded=torch.round):
        return rounded(row / by) * by

    return told(step), {
        "these are the numbers of the levels: multiply by the step again.": (row / step).round(),
        "one level too many: symmetric levels reach 2^(bits-1) - 1.": told(
            row.abs().max() / 2 ** (bits - 1)
        ),
        "twice as fine as it may be: one bit is the sign's.": told(row.abs().max() / (2**bits - 1)),
        "rounded down: to the nearest.": told(step, torch.floor),
        "cut towards 0: to the nearest.": told(step, torch.trunc),
        "the largest |entry| sets the step, not the largest entry.": told(row.max() / most),
        "the step has no room for levels: divide the largest |entry| by 2^(bits-1) - 1.": told(
            row.abs().max()
        ),
        "the row came back as it was.": row,
    }


ENDS = [(40.0, 90.0, 10.0), (99.0, 100.0, 0.0), (5.0, 80.0, 20.0), (60.0, 75.0, 50.0)]


@exercise([tuple(torch.tensor(x, dtype=torch.float64) for x in case) for case in ENDS])
def way_back(edited, unedited, oracle):
    """Checks way_back(edited, unedited, oracle): how far an edited model is on the way from the
    oracle to the unedited one, in percent.
    """
    apart = unedited - oracle
    return 100 * (edited - oracle) / apart, {
        "this is a share: in percent.": (edited - oracle) / apart,
        "this is the way that is left: 0 is the oracle, 100 the unedited model.": 100
        * (unedited - edited)
        / apart,
        "the oracle is left out: a model that never saw it does not score 0 either.": 100
        * edited
        / unedited,
        "divide by the whole way, from the oracle to the unedited model.": 100
        * (edited - oracle)
        / unedited,
        "these are points: divide by the whole way.": edited - oracle,
        "the sign is turned round.": 100 * (oracle - edited) / apart,
    }
