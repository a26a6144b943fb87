"""Stable Diffusion pipelines behind one small interface: prompts and seeds in, pictures out.

A pipeline is diffusers' own class. Its text encoder is the text tower of a CLIP, weight by weight;
Stable Diffusion XL has two, each of its own CLIP.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from slugkit.base import ModelLoadError, pick_device, require_extra, write_json
from slugkit.models.hub import loading_family, read_json

STEPS, GUIDANCE = 10, 4.0
"""Sampling steps and classifier-free guidance at studio scale."""


def load_pipeline(model: str = "studio", device: str = "auto", device_map: str = ""):
    """Load a text-to-image pipeline of diffusers by `studio`, folder or hub id, without its
    progress bar: Stable Diffusion 1, 2, XL and those built alike.

    device_map: "balanced" spreads its parts over several GPUs (accelerate); "" puts all on
    `device`. On a GPU weights are float16, on a CPU float32.
    Raises ModelLoadError, saying how to get what is missing.
    """
    require_extra("diffusion", "A Stable Diffusion pipeline")
    from diffusers import DiffusionPipeline

    target = pick_device(device)
    with loading_family(model, "diffusion", "a pipeline's", target, device_map) as (where, how):
        index = read_json(Path(where) / "model_index.json")
        if not index or "safety_checker" in index:
            # Stable Diffusion 1's blackens pictures and so hides what was forgotten
            how |= {"safety_checker": None, "requires_safety_checker": False}
        pipe = DiffusionPipeline.from_pretrained(where, trust_remote_code=False, **how)
    pipe.set_progress_bar_config(disable=True)
    for name in ("unet", "vae"):
        if getattr(pipe, name, None) is not None:
            getattr(pipe, name).to(memory_format=torch.channels_last)  # faster on a CPU
    return pipe if device_map else pipe.to(target)


def save_pipeline(pipe, folder: str | Path) -> Path:
    """Write a pipeline as `save_pretrained` does, so that plain diffusers loads it in one type.

    Returns the folder.
    """
    folder = Path(folder)
    pipe.save_pretrained(folder)
    # diffusers reads its own networks as float32, transformers in the type that config.json names
    for config in folder.glob("text_encoder*/config.json"):
        write_json(config, json.loads(config.read_text(encoding="utf-8")) | {"dtype": "float32"})
    return folder


def picture_edge(pipe) -> int:
    """Pixels along the longer edge of the pictures that a pipeline draws by default."""
    sample = pipe.unet.config.sample_size
    return int(max(sample) if isinstance(sample, (list, tuple)) else sample) * pipe.vae_scale_factor


@torch.no_grad()
def draw(
    pipe,
    prompts: list[str],
    seeds: list[int],
    steps: int = STEPS,
    guidance: float = GUIDANCE,
    batch_size: int = 0,
) -> np.ndarray:
    """One picture for each prompt and seed. Returns (N, H, W, 3) uint8.

    Each picture starts from noise of its own seed, drawn on the CPU, so it depends on which others
    are in its batch by rounding alone, which may show in a pixel here and there. The noise is drawn
    in the pipeline's own type, as diffusers does: float16 gives other pictures than float32, as
    many of which show what was asked for. batch_size:
    pictures at once; 0 takes 16 of up to 256 pixels, 4 of 512, 1 of larger ones. What is no number
    (NaN) comes out black: `require_pictures` finds such a picture.
    """
    if len(prompts) != len(seeds):
        raise ModelLoadError(
            f"{len(prompts)} prompts came with {len(seeds)} seeds; one seed for each prompt was"
            " expected."
        )
    batch_size, parts = batch_size or min(16, max(1, (1024 // picture_edge(pipe)) ** 2)), []
    for i in range(0, len(prompts), batch_size):
        now = slice(i, i + batch_size)
        noise = [torch.Generator("cpu").manual_seed(int(seed)) for seed in seeds[now]]
        made = pipe(
            prompts[now],
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=noise,
            output_type="np",
        ).images
        parts.append((255 * np.nan_to_num(made).clip(0, 1)).round().astype(np.uint8))
    return np.concatenate(parts)


def blank(images: np.ndarray) -> np.ndarray:
    """Which of (N, H, W, 3) uint8 pictures, (N,) bool, are one colour all over: no channel varies
    by more than 3 of 255.
    """
    flat = images.reshape(len(images), -1, 3).astype(int)
    return ((flat.max(1) - flat.min(1)) <= 3).all(1)


def require_pictures(images: np.ndarray, by: str = "the pipeline") -> None:
    """Raises ModelLoadError where an unedited pipeline (`by`) drew blank pictures."""
    count = int(blank(images).sum())
    if count:
        raise ModelLoadError(
            f"{count} of {len(images)} pictures that {by} drew before any edit are one colour all"
            " over, as one of NaN comes out; pictures of something were expected. Causes: a VAE"
            " that overflows in half precision (device=cpu computes in float32), a safety checker,"
            " weights that do not belong together. Nothing was changed."
        )
