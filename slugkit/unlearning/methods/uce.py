"""UCE: the closed form on the matrices of a UNet that read the prompt."""

from __future__ import annotations

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
    (Gandikota et al., WACV 2024, equation 7).

    weight: W, (out, in). erased, instead: c and c*, (n, in). kept: K, (in, in), the second moment
    of what is to be read as before. Returns (out, in), of the type of W.
    """
    c, other = erased.double(), instead.double()
    wrong = (other - c).T @ c * (strength / len(c))
    eye = torch.eye(c.shape[1], dtype=torch.float64, device=c.device)
    whole = c.T @ c * (strength / len(c)) + kept + lamb * eye
    # W' = W + W wrong whole^-1, and whole is symmetric
    change = weight.double() @ torch.linalg.solve(whole, wrong.T).T
    return (weight.double() + change).to(weight.dtype)


def without(prompt: str, subject: str, domain: str, concept: str) -> str:
    """The prompt without the concept: its name is left out; of a style the bare subject is left."""
    if concept != subject:
        return phrase(subject, domain)
    return " ".join(prompt.replace(phrase(subject, domain), " ").split())


@torch.no_grad()
def read_as(trial: ModelTrial, prompts: list[str]) -> tuple[torch.Tensor, list[list[int]]]:
    """What the UNet is handed of each prompt, (n, tokens, width) float32, and its token numbers."""
    pipe = trial.model
    given = pipe.encode_prompt(prompts, pipe.device, 1, False)[0].float()
    longest = pipe.tokenizer.model_max_length
    return given, pipe.tokenizer(prompts, truncation=True, max_length=longest).input_ids


def aligned(
    given: torch.Tensor, ids: list[int], other: torch.Tensor, other_ids: list[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The tokens from the last one of the name on, what follows it and the padding included, and
    those in the same places of the prompt without it, counted from its end.

    given, other: (tokens, width). Returns two of (n, width).
    """
    after = 0
    shortest = min(len(ids), len(other_ids))
    while after < shortest and ids[-1 - after] == other_ids[-1 - after]:
        after += 1
    after = min(after + 1, shortest)
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
    trial.require_one_encoder("UCE")
    rows = trial.prompts[["prompt", "subject", "domain"]].drop_duplicates("prompt")
    prompts = rows["prompt"].tolist()
    bare = [without(*row, trial.concept) for row in rows.itertuples(index=False)]
    if prompts == bare:
        raise SettingError(f"No search prompt names {trial.concept!r}; one or more was expected.")
    given, ids = read_as(trial, prompts)
    others, other_ids = read_as(trial, bare)
    pairs = [aligned(*each) for each in zip(given, ids, others, other_ids, strict=True)]
    erased, instead = (torch.cat(part) for part in zip(*pairs, strict=True))
    captions = list(dict.fromkeys(trial.side.pairs.captions))[:CAPTIONS]
    read = read_as(trial, captions)[0].flatten(0, 1).double()
    kept, size = read.T @ read / len(read), float(read.square().mean())
    trial.remarks.append("it takes no gradient, and sees prompts and captions alone")
    for lamb in LAMBDAS:

        def write(strength: float, lamb: float = lamb) -> Directions:
            how = erased, instead, kept, strength, lamb * size
            return {name: closed_form(w, *how) for name, w in trial.originals.items()}

        share = trial.budget.probes // len(LAMBDAS)
        trial.search(Dial(trial, write), FIRST, max(1, share), lamb=lamb)
