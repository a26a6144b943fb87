"""Stable Diffusion pipelines behind one small interface: prompts and seeds in, pictures out.

A pipeline is diffusers' own class. Its text encoder is the text tower of a CLIP, weight by weight;
Stable Diffusion XL has two, each of its own CLIP.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from slugkit.base import ModelLoadError, data_dir, write_json
from slugkit.models.clip import Clip, pick_device
from slugkit.models.convert import text_tower
from slugkit.models.hub import need_repository, no_loading_bars, plain_classes, variant

STEPS, GUIDANCE = 10, 4.0
"""Sampling steps and classifier-free guidance at studio scale."""


def text_encoder(clip: Clip):
    """The CLIP's text tower in transformers' CLIPTextModel, float32, without the projection, which
    Stable Diffusion does not use.

    Raises PatchError where a weight has no place in that class, ModelLoadError for an architecture
    that it cannot hold.
    """
    return text_tower(clip.model)


def pipeline_folder(model: str = "studio") -> Path | None:
    """Where a pipeline's files lie: the studio's, or a local folder; None for a hub id."""
    folder = data_dir() / "studio" / "diffusion" if model == "studio" else Path(model).expanduser()
    return folder if folder.is_dir() else None


def load_pipeline(model: str = "studio", device: str = "auto", device_map: str = ""):
    """Load a text-to-image pipeline of diffusers by `studio`, folder or hub id, without its
    progress bar: Stable Diffusion 1, 2, XL and those built alike.

    device_map: "balanced" spreads its parts over several GPUs (accelerate); "" puts all on
    `device`. On a GPU weights are float16, on a CPU float32.
    Raises ModelLoadError, saying how to get what is missing.
    """
    from diffusers import DiffusionPipeline

    folder, target = pipeline_folder(model), pick_device(device)
    if folder is None:
        need_repository(
            model,
            "a pipeline's folder as `save_pretrained` writes it",
            "`slugkit train diffusion` makes the studio's.",
        )
    more = (
        {"safety_checker": None, "requires_safety_checker": False} if _has_checker(folder) else {}
    )
    try:
        with no_loading_bars(), plain_classes(model, folder or model):
            pipe = DiffusionPipeline.from_pretrained(
                str(folder or model),
                dtype=torch.float32 if target.type == "cpu" else torch.float16,
                use_safetensors=True,
                trust_remote_code=False,
                **variant(folder or model),
                **({"device_map": device_map} if device_map else {}),
                **more,
            )
    except ModelLoadError:
        raise
    except Exception as error:
        raise ModelLoadError(
            f"diffusers could not load {model!r}: {error}. Give a folder as `save_pretrained`"
            " writes it, or run once with a connection to fetch it. `slugkit train diffusion`"
            " makes the studio's. Nothing was changed."
        ) from error
    pipe.set_progress_bar_config(disable=True)
    for name in ("unet", "vae"):
        if getattr(pipe, name, None) is not None:
            # what convolutions on a CPU prefer
            getattr(pipe, name).to(memory_format=torch.channels_last)
    return pipe if device_map else pipe.to(target)


def _has_checker(folder: Path | None) -> bool:
    """Whether a pipeline may bring a safety checker, which blackens pictures and so hides what was
    forgotten: Stable Diffusion 1's does.
    """
    if folder is None:
        return True
    try:
        return "safety_checker" in json.loads(
            (folder / "model_index.json").read_text(encoding="utf-8")
        )
    except (OSError, ValueError):
        return False


def save_pipeline(pipe, folder: str | Path) -> Path:
    """Write a pipeline as `save_pretrained` does, so that plain diffusers loads it in one type,
    also from a GPU, where it is in half precision.

    Returns the folder.

    diffusers reads its own networks as float32 unless told otherwise, transformers its encoders in
    the type that their config.json names: they are told the same.
    """
    folder = Path(folder)
    pipe.save_pretrained(folder)
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
    are in its batch by rounding alone, which may show in a pixel here and there. batch_size:
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
        noise = [
            torch.Generator("cpu").manual_seed(int(seed)) for seed in seeds[i : i + batch_size]
        ]
        made = pipe(
            prompts[i : i + batch_size],
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=noise,
            output_type="np",
        ).images
        parts.append((255 * np.nan_to_num(made).clip(0, 1)).round().astype(np.uint8))
    return np.concatenate(parts)


def blank(images: np.ndarray) -> np.ndarray:
    """Which of (N, H, W, 3) uint8 pictures are one colour all over: no channel varies by more than
    3 of 255.

    (N,) bool.
    """
    flat = images.reshape(len(images), -1, 3).astype(int)
    return ((flat.max(1) - flat.min(1)) <= 3).all(1)


def require_pictures(images: np.ndarray, by: str = "the pipeline") -> None:
    """Raises ModelLoadError where pictures of an unedited pipeline are blank.

    by: what drew them, for the message.
    """
    count = int(blank(images).sum())
    if count:
        raise ModelLoadError(
            f"{count} of {len(images)} pictures that {by} drew before any edit are one colour all"
            " over, as one of NaN comes out; pictures of something were expected. Causes: a VAE"
            " that overflows in half precision (device=cpu computes in float32), a safety checker,"
            " weights that do not belong together. Nothing was changed."
        )
