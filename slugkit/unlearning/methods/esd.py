"""ESD: the UNet is trained to predict, for the concept, what leads away from it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from slugkit.unlearning.methods.registry import method
from slugkit.unlearning.methods.training import descend
from slugkit.unlearning.model_trial import ModelTrial

ETA = 1.0
"""How far away from the concept, the paper's eta."""
POOL, SIZE = 256, 16
"""Latents that are drawn once, and those of a step."""


def away(free: torch.Tensor, about: torch.Tensor, eta: float = ETA) -> torch.Tensor:
    """What is to be predicted of the concept: the unedited prediction without a prompt, less eta
    times what the prompt adds to it (Gandikota et al., ICCV 2023, equation 5).
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
    prompts = rng.choice(trial.prompts["prompt"].to_numpy(), size).tolist()
    about, free = pipe.encode_prompt(prompts, pipe.device, 1, True)[:2]
    both = torch.cat([free, about])
    scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config)
    scheduler.set_timesteps(trial.steps, device=pipe.device)
    edge, noise = unet.config.sample_size, torch.Generator().manual_seed(int(rng.integers(2**31)))
    z = torch.randn(size, unet.config.in_channels, edge, edge, generator=noise)
    z = z.to(pipe.device, about.dtype) * scheduler.init_noise_sigma
    stop = int(rng.integers(trial.steps))
    for t in scheduler.timesteps[: stop + 1]:
        seen = scheduler.scale_model_input(z, t)
        less, more = unet(torch.cat([seen, seen]), t, both).sample.chunk(2)
        if t == scheduler.timesteps[stop]:
            break
        z = scheduler.step(less + trial.guidance * (more - less), t, z).prev_sample
    return Latent(seen, t, about, away(less, more))


@method(
    "ESD",
    source="Gandikota et al., Erasing Concepts from Diffusion Models, ICCV 2023 (ESD-x)",
    towers=("pipeline",),
    trains=True,
)
def erased_diffusion(trial: ModelTrial) -> None:
    """Train the matrices that read the prompt so that the concept's prompts are denoised away from
    it.

    The paper draws every latent with the model in training, and takes Adam at 1e-5 for a thousand
    steps of one latent. Chosen here, to fit the budget: latents are drawn once, by the unedited
    pipeline, in batches; the learning rate is searched as for every method that trains; the prompts
    are those of the search.
    """
    trial.require_one_encoder("ESD")
    rng = np.random.default_rng([trial.seed, 5])
    pool = [latents(trial, SIZE, rng) for _ in range(POOL // SIZE)]

    def loss() -> torch.Tensor:
        batch = pool[int(rng.integers(len(pool)))]
        trial.pairs += len(batch.z)
        now = trial.model.unet(batch.z, batch.t, batch.read).sample
        return F.mse_loss(now.float(), batch.target.float())

    descend(trial, loss, SIZE)
