"""Train the picture coder of the studio's Stable Diffusion: diffusers' AutoencoderKL, from 64 x 64
pixels to 16 x 16 x 8 latents.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from slugkit.base import progress
from slugkit.studio.train import loop


@dataclass(frozen=True)
class VaeRecipe:
    """Everything that decides the coder's weights, beside the pictures.

    The coder is convolutional, so most steps see crops of `crop` pixels, which cost a quarter; the
    last `settle` share see whole pictures, a quarter as many. Loss: squared error + l1 x absolute
    error + kl x divergence from a standard normal.
    """

    steps: int = 20000
    batch: int = 32
    crop: int = 32
    settle: float = 0.15
    learning_rate: float = 1.0e-3
    weight_decay: float = 0.0
    warmup: int = 100
    l1: float = 1.0
    kl: float = 1.0e-6
    widths: tuple[int, ...] = (24, 48, 96)
    latent_channels: int = 8
    groups: int = 8


def build_vae(recipe: VaeRecipe, image_size: int = 64):
    """A fresh AutoencoderKL; each level but the last halves the picture's edge."""
    from diffusers import AutoencoderKL

    levels = len(recipe.widths)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=recipe.widths,
        layers_per_block=1,
        latent_channels=recipe.latent_channels,
        norm_num_groups=recipe.groups,
        sample_size=image_size,
    )


def to_tensor(images: np.ndarray, device) -> torch.Tensor:
    """(N, H, W, 3) uint8 -> (N, 3, H, W) float32 in -1..1, channels last in memory, which
    convolutions on a CPU prefer.
    """
    x = (
        torch.from_numpy(np.ascontiguousarray(images)).to(device).permute(0, 3, 1, 2).float()
        / 127.5
        - 1
    )
    return x.contiguous(memory_format=torch.channels_last)


def _crops(images: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    corners = rng.integers(0, images.shape[1] - size + 1, size=(len(images), 2))
    return np.stack(
        [picture[y : y + size, x : x + size] for picture, (y, x) in zip(images, corners)]
    )


def fit_vae(
    vae, images: np.ndarray, recipe: VaeRecipe, seed: int, device, checkpoint: Path | None
) -> list[float]:
    """Train in place on (N, H, W, 3) uint8 pictures; returns the losses."""
    vae.to(memory_format=torch.channels_last)

    def loss_at(step: int) -> torch.Tensor:
        rng = np.random.Generator(np.random.PCG64([seed, step, 21]))
        whole = step >= recipe.steps * (1 - recipe.settle)
        rows = rng.integers(
            0, len(images), size=max(1, recipe.batch // 4) if whole else recipe.batch
        )
        x = to_tensor(images[rows] if whole else _crops(images[rows], recipe.crop, rng), device)
        coded = vae.encode(x).latent_dist
        error = vae.decode(coded.sample()).sample - x
        return (
            error.square().mean() + recipe.l1 * error.abs().mean() + recipe.kl * coded.kl().mean()
        )

    return loop.fit(vae, loss_at, recipe, seed, "training the picture coder", checkpoint)


@torch.no_grad()
def encode_all(vae, images: np.ndarray, device, batch_size: int = 64) -> torch.Tensor:
    """The latents' means of all pictures, (N, c, h, w) float16 on the CPU, unscaled."""
    parts = [
        vae.encode(to_tensor(images[i : i + batch_size], device))
        .latent_dist.mean.half()
        .cpu()
        .contiguous()
        for i in progress(range(0, len(images), batch_size), "coding the pictures")
    ]
    return torch.cat(parts)
