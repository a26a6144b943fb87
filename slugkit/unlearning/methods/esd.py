"""ESD: the UNet is trained to predict, for the concept, what leads away from it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from slugkit.models.diffusion import picture_edge
from slugkit.unlearning.methods.registry import method
from slugkit.unlearning.methods.training import descend
from slugkit.unlearning.methods.uce import without
from slugkit.unlearning.model_trial import ModelTrial

ETA = 1.0
"""How far away from the concept, the paper's eta."""
POOL, SIZE = 256, 16
"""Latents that are drawn once, and those of a step."""


def away(free: torch.Tensor, about: torch.Tensor, eta: float = ETA) -> torch.Tensor:
    """What is to be predicted of the concept: the unedited prediction without it, less eta times
    what the concept adds to that (Gandikota et al., ICCV 2023, equation 5).
    """
    return free - eta * (about - free)


class Latent(NamedTuple):
    """A batch of noisy latents at one time: latents, time, the prompts' states, and the target."""

    z: torch.Tensor
    t: torch.Tensor
    read: torch.Tensor
    target: torch.Tensor


@torch.no_grad()
def latents(trial: ModelTrial, size: int, rng: np.random.Generator) -> Latent:
    """Prompts drawn by the unedited pipeline up to a random step."""
    pipe, unet = trial.model, trial.model.unet
    rows = trial.prompts.iloc[rng.integers(len(trial.prompts), size=size)]
    rows = rows[["prompt", "subject", "domain"]]
    bare = [without(*row, trial.concept) for row in rows.itertuples(index=False)]
    about, free = pipe.encode_prompt(rows["prompt"].tolist(), pipe.device, 1, True)[:2]
    rest = pipe.encode_prompt(bare, pipe.device, 1, False)[0]
    both = torch.cat([free, about])
    scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config)
    scheduler.set_timesteps(trial.steps, device=pipe.device)
    edge = picture_edge(pipe) // pipe.vae_scale_factor
    noise = torch.Generator().manual_seed(int(rng.integers(2**31)))
    z = torch.randn(size, unet.config.in_channels, edge, edge, generator=noise)
    z = z.to(pipe.device, about.dtype) * scheduler.init_noise_sigma
    stop = int(rng.integers(trial.steps))
    for t in scheduler.timesteps[: stop + 1]:
        seen = scheduler.scale_model_input(z, t)
        if t == scheduler.timesteps[stop]:
            break
        less, more = unet(torch.cat([seen, seen]), t, both).sample.chunk(2)
        z = scheduler.step(less + trial.guidance * (more - less), t, z).prev_sample
    less, more = unet(torch.cat([seen, seen]), t, torch.cat([rest, about])).sample.chunk(2)
    return Latent(seen, t, about, away(less, more))


@method(
    "ESD",
    source="Gandikota et al., Erasing Concepts from Diffusion Models, ICCV 2023, keys and values",
    towers=("pipeline",),
    trains=True,
)
def erased_diffusion(trial: ModelTrial) -> None:
    """Train the matrices that read the prompt so that the concept's prompts are denoised away from
    it.

    The paper has the bare name as its prompt and the empty one as what is left without it, draws
    every latent with the model in training, and takes Adam at 1e-5 for a thousand steps of one
    latent. Chosen here: the search prompts, and what is left of each without the name, so that
    nothing else in them is unlearned; and, to fit the budget, latents that are drawn once, by the
    unedited pipeline, in batches, while the learning rate is searched as for every method that
    trains.
    """
    trial.require_readers("ESD")
    rng = np.random.default_rng([trial.seed, 5])
    pool = [latents(trial, SIZE, rng) for _ in range(POOL // SIZE)]

    def loss() -> torch.Tensor:
        batch = pool[int(rng.integers(len(pool)))]
        trial.pairs += len(batch.z)
        now = trial.model.unet(batch.z, batch.t, batch.read).sample
        return F.mse_loss(now.float(), batch.target.float())

    descend(trial, loss, SIZE)
