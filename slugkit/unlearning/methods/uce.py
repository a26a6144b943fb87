"""UCE: the closed form on the matrices of a UNet that read the prompt."""

from __future__ import annotations

import re

import torch

from slugkit.base import SettingError
from slugkit.tasks.prompts import phrase
from slugkit.unlearning.methods.registry import method
from slugkit.unlearning.model_trial import ModelTrial
from slugkit.unlearning.probing import Dial
from slugkit.unlearning.result import Directions

LAMBDAS = (0.01, 0.1, 1.0)
"""Weights of ||W' - W||^2, relative to the mean square of what the kept captions are read as."""
CAPTIONS = 512
"""Captions of the retain set that are kept, at most."""
FIRST = 0.1
"""First weight of what is erased, relative to what is kept."""


def closed_form(
    weight: torch.Tensor,
    erased: torch.Tensor,
    instead: torch.Tensor,
    kept: torch.Tensor,
    strength: float,
    lamb: float,
) -> torch.Tensor:
    """W' that minimises strength E |W' c - W c*|^2 + tr((W' - W) K (W' - W)^T) + lamb |W' - W|^2
    (Gandikota et al., WACV 2024, equation 7; the last term is that of the authors' code).

    weight: W, (out, in). erased, instead: c and c*, (n, in). kept: K, (in, in), the second moment
    of what is to be read as before. Returns (out, in), of the type of W.
    """
    c, other, w = (x.cpu().double() for x in (erased, instead, weight))
    wrong = (other - c).T @ c * (strength / len(c))
    eye = torch.eye(c.shape[1], dtype=torch.float64)
    whole = c.T @ c * (strength / len(c)) + kept.cpu() + lamb * eye
    # W' = W + W wrong whole^-1, and whole is symmetric
    change = w @ torch.linalg.solve(whole, wrong.T).T
    return (w + change).to(weight.device, weight.dtype)


def without(prompt: str, subject: str, domain: str, concept: str) -> str:
    """The prompt without the concept: a subject with its article, or the name of a style."""
    names = [concept] if concept != subject else [phrase(subject, domain), subject]
    for name in names:
        found = re.search(rf"\b{re.escape(name)}\b", prompt, re.IGNORECASE)
        if found:
            return " ".join((prompt[: found.start()] + " " + prompt[found.end() :]).split())
    return prompt


@torch.no_grad()
def read_as(trial: ModelTrial, prompts: list[str]) -> tuple[torch.Tensor, list[list[int]]]:
    """What the UNet is handed of each prompt, (n, tokens, width) float32, and its token numbers."""
    pipe = trial.model
    given = pipe.encode_prompt(prompts, pipe.device, 1, False)[0].float()
    longest = pipe.tokenizer.model_max_length
    return given, pipe.tokenizer(prompts, truncation=True, max_length=longest).input_ids


def last_of(ids: list[int], name: list[int]) -> int:
    """Where the last token of a name stands among a prompt's tokens; -1 where it does not."""
    ends = [i for i in range(len(ids), 0, -1) if ids[max(0, i - len(name)) : i] == name]
    return ends[0] - 1 if ends else -1


def aligned(
    given: torch.Tensor, ids: list[int], other: torch.Tensor, other_ids: list[int], last: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The tokens from the last one of the name on, what follows it and the padding included, and
    those in the same places of the prompt without it, counted from its end.

    given, other: (tokens, width). last: where the name ends. Returns two of (n, width).
    """
    after = min(len(ids) - last, len(other_ids))
    padding = len(given) - max(len(ids), len(other_ids))
    mine = slice(len(ids) - after, len(ids) + padding)
    theirs = slice(len(other_ids) - after, len(other_ids) + padding)
    return given[mine], other[theirs]


@method(
    "UCE",
    source="Gandikota et al., Unified Concept Editing in Diffusion Models, WACV 2024",
    towers=("pipeline",),
)
def unified_concept_editing(trial: ModelTrial) -> None:
    """Read the concept's prompts as those prompts without the concept are read, and the captions of
    the retain set as before.

    The paper leaves open which tokens count, what stands in the concept's place and the weights of
    the three terms. Chosen here: the tokens from the name's last one on, as in the authors' first
    code; the search prompts without the name; the strength is searched, doubling and bisecting, at
    three weights of the third term.
    """
    trial.require_readers("UCE")
    rows = trial.prompts[["prompt", "subject", "domain"]].drop_duplicates("prompt")
    both = [(row[0], without(*row, trial.concept)) for row in rows.itertuples(index=False)]
    given, ids = read_as(trial, [prompt for prompt, _ in both])
    others, other_ids = read_as(trial, [bare for _, bare in both])
    name = trial.model.tokenizer(trial.concept, add_special_tokens=False).input_ids
    lasts = [last_of(each, name) for each in ids]
    pairs = [
        aligned(*each)
        for each in zip(given, ids, others, other_ids, lasts, strict=True)
        if each[-1] >= 0  # a name that is cut off teaches nothing
    ]
    if not pairs:
        raise SettingError(
            f"No search prompt names {trial.concept!r} within what the pipeline reads; one or more"
            " was expected. Shorten the name."
        )
    erased, instead = (torch.cat(part) for part in zip(*pairs, strict=True))
    captions = list(dict.fromkeys(trial.side.pairs.captions))[:CAPTIONS]
    read = read_as(trial, captions)[0].flatten(0, 1).cpu().double()
    kept, size = read.T @ read / len(read), float(read.square().mean())
    trial.remarks.append("it takes no gradient, and sees prompts and captions alone")
    for lamb in LAMBDAS:

        def write(strength: float, lamb: float = lamb) -> Directions:
            how = erased, instead, kept, strength, lamb * size
            return {name: closed_form(w, *how) for name, w in trial.originals.items()}

        share = trial.budget.probes // len(LAMBDAS)
        trial.search(Dial(trial, write), FIRST, max(1, share), lamb=lamb)
