"""Stable Diffusion pipelines behind one small interface: prompts and seeds in, pictures out.

A pipeline is diffusers' own StableDiffusionPipeline. Its text encoder is the text tower of a CLIP, weight by weight.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from transformers import CLIPTextConfig, CLIPTextModel

from slugkit.base import ModelLoadError, data_dir
from slugkit.models.clip import Clip, pick_device
from slugkit.models.names import fill

STEPS, GUIDANCE = 10, 4.0
"""Sampling steps and classifier-free guidance at studio scale."""


def require_gelu(block: torch.nn.Module, what: str) -> None:
    """Raises ModelLoadError for a block of open_clip's class whose activation is not plain GELU."""
    if not isinstance(block.mlp.gelu, torch.nn.GELU):
        raise ModelLoadError(f"The tower's activation is {type(block.mlp.gelu).__name__}; GELU was expected. Load the {what} with transformers "
                             "from the published checkpoint instead.")


def text_encoder(clip: Clip) -> CLIPTextModel:
    """The CLIP's text tower in transformers' class, float32, without the projection, which Stable Diffusion does not use.

    Raises PatchError where a weight has no place in that class, ModelLoadError where the activation is QuickGELU (then load the
    checkpoint with transformers).
    """
    net = clip.model
    blocks, width = net.transformer.resblocks, net.token_embedding.embedding_dim
    require_gelu(blocks[0], "text encoder")
    config = CLIPTextConfig(
        vocab_size=net.vocab_size, hidden_size=width, intermediate_size=blocks[0].mlp.c_fc.out_features, hidden_act="gelu",
        num_hidden_layers=len(blocks), num_attention_heads=blocks[0].attn.num_heads, max_position_embeddings=net.context_length,
        bos_token_id=net.vocab_size - 2, eos_token_id=net.vocab_size - 1, pad_token_id=net.vocab_size - 1, projection_dim=width)
    encoder = CLIPTextModel(config).eval()
    fill(net, encoder, "text")
    return encoder


def pipeline_folder(model: str = "studio") -> Path | None:
    """Where a pipeline's files lie: the studio's, or a local folder; None for a hub id."""
    folder = data_dir() / "studio" / "diffusion" if model == "studio" else Path(model).expanduser()
    return folder if folder.is_dir() else None


@contextmanager
def no_loading_bars() -> Iterator[None]:
    """Within the block diffusers and transformers draw no bars about the files that they load."""
    from diffusers.utils import logging as of_diffusers
    from transformers.utils import logging as of_transformers
    shown = [library for library in (of_diffusers, of_transformers) if library.is_progress_bar_enabled()]
    for library in shown:
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library in shown:
            library.enable_progress_bar()


def load_pipeline(model: str = "studio", device: str = "auto"):
    """Load a StableDiffusionPipeline by `studio`, folder or hub id, without its progress bar. Raises ModelLoadError."""
    from diffusers import StableDiffusionPipeline
    where = str(pipeline_folder(model) or model)
    target = pick_device(device)
    dtype = torch.float32 if target.type == "cpu" else torch.float16
    try:
        with no_loading_bars():
            pipe = StableDiffusionPipeline.from_pretrained(where, dtype=dtype, safety_checker=None, requires_safety_checker=False,
                                                           use_safetensors=True)
    except Exception as error:
        raise ModelLoadError(f"diffusers could not load {model!r}: {error}. Give a folder as `save_pretrained` writes it, or run once with a "
                             "connection to fetch it. `slugkit train diffusion` makes the studio's. Nothing was changed.") from error
    pipe.set_progress_bar_config(disable=True)
    for part in (pipe.unet, pipe.vae):
        part.to(memory_format=torch.channels_last)  # what convolutions on a CPU prefer
    return pipe.to(target)


@torch.no_grad()
def draw(pipe, prompts: list[str], seeds: list[int], steps: int = STEPS, guidance: float = GUIDANCE, batch_size: int = 16) -> np.ndarray:
    """One picture for each prompt and seed. Returns (N, H, W, 3) uint8.

    Each picture starts from noise of its own seed, drawn on the CPU, so it does not depend on which others are in its batch.
    """
    if len(prompts) != len(seeds):
        raise ModelLoadError(f"{len(prompts)} prompts came with {len(seeds)} seeds; one seed for each prompt was expected.")
    parts = []
    for i in range(0, len(prompts), batch_size):
        noise = [torch.Generator("cpu").manual_seed(int(seed)) for seed in seeds[i:i + batch_size]]
        made = pipe(prompts[i:i + batch_size], num_inference_steps=steps, guidance_scale=guidance, generator=noise, output_type="np").images
        parts.append((255 * np.clip(made, 0, 1)).round().astype(np.uint8))
    return np.concatenate(parts)
