"""Train the studio's Stable Diffusion: the picture coder, then the UNet on the coded pictures, with
the CLIP's own text tower.

The text encoder is the studio CLIP's and is not trained.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from slugkit.base import (
    cached_tensors,
    data_dir,
    runs_dir,
    seed_everything,
    sha256_file,
    write_json,
    write_text,
)
from slugkit.models.classifier import load_classifier
from slugkit.models.clip import load_clip, model_folder, pick_device
from slugkit.models.convert import text_tower
from slugkit.models.diffusion import GUIDANCE, STEPS, load_pipeline
from slugkit.models.fingerprint import weights_sha256
from slugkit.studio.train import loop
from slugkit.studio.train.card import (
    CARD,
    begin_card,
    named,
    of_clip,
    read_card,
    recipe_rows,
    require_of_studio,
    score_rows,
)
from slugkit.studio.train.pictures import TrainingPictures, studio_pictures
from slugkit.studio.train.vae import VaeRecipe, build_vae, encode_all, fit_vae


@dataclass(frozen=True)
class UnetRecipe:
    """Everything that decides the UNet's weights, beside latents and captions.

    steps, cycles: steps of one cosine cycle of the learning rate, and how many there are; each
    starts from what the one before kept. empty: share of captions replaced by "", for
    classifier-free guidance. mean: decay of the running mean of the weights, which is what is kept.
    widths: channels from the finest grid down; only the coarser grids attend to the text.
    """

    steps: int = 4000
    cycles: int = 2
    batch: int = 48
    learning_rate: float = 5.0e-4
    weight_decay: float = 0.01
    warmup: int = 100
    empty: float = 0.1
    mean: float = 0.998
    widths: tuple[int, ...] = (48, 96, 192)
    groups: int = 16
    head_width: int = 32


def build_unet(recipe: UnetRecipe, vae, text_width: int):
    """A fresh UNet2DConditionModel for the coder's latents."""
    from diffusers import UNet2DConditionModel

    grid, levels = (
        vae.config.sample_size // 2 ** (len(vae.config.block_out_channels) - 1),
        len(recipe.widths),
    )
    return UNet2DConditionModel(
        sample_size=grid,
        in_channels=vae.config.latent_channels,
        out_channels=vae.config.latent_channels,
        layers_per_block=1,
        down_block_types=("DownBlock2D", *["CrossAttnDownBlock2D"] * (levels - 1)),
        up_block_types=(*["CrossAttnUpBlock2D"] * (levels - 1), "UpBlock2D"),
        block_out_channels=recipe.widths,
        norm_num_groups=recipe.groups,
        cross_attention_dim=text_width,
        attention_head_dim=tuple(max(1, width // recipe.head_width) for width in recipe.widths),
    )


def build_scheduler():
    """DDIM with a cosine schedule that predicts the velocity."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        clip_sample=False,
        timestep_spacing="trailing",
        steps_offset=1,
    )


def fit_unet(
    unet,
    latents: torch.Tensor,
    pictures: TrainingPictures,
    encoder,
    tokenizer,
    recipe: UnetRecipe,
    seed: int,
    device,
    checkpoint: Path | None,
) -> list[float]:
    """Train in place on scaled latents (N, c, h, w) with a fresh caption for every picture and
    step.

    Each cycle ends on the running mean, rounded to half precision as it is kept. checkpoint: a file
    for each cycle beside it.
    """
    scheduler, averaging = build_scheduler(), torch.optim.swa_utils
    unet.to(memory_format=torch.channels_last)

    def loss_at(step: int) -> torch.Tensor:
        rng = np.random.Generator(np.random.PCG64([seed, step, 22]))
        rows = rng.integers(0, len(latents), size=recipe.batch)
        captions = [
            "" if rng.random() < recipe.empty else pictures.caption(int(i), rng) for i in rows
        ]
        ids = tokenizer(
            captions, padding="max_length", truncation=True, return_tensors="pt"
        ).input_ids.to(device)
        with torch.no_grad():
            said = encoder(ids).last_hidden_state
        clean = latents[torch.from_numpy(rows)].float().to(device)
        noise = torch.randn(clean.shape).to(device)
        when = torch.randint(0, scheduler.config.num_train_timesteps, (len(rows),)).to(device)
        wanted = scheduler.get_velocity(clean, noise, when)
        seen = scheduler.add_noise(clean, noise, when).contiguous(memory_format=torch.channels_last)
        return torch.nn.functional.mse_loss(unet(seen, when, said).sample, wanted)

    losses = []
    for cycle in range(recipe.cycles):
        running = averaging.AveragedModel(
            unet, multi_avg_fn=averaging.get_ema_multi_avg_fn(recipe.mean)
        )
        losses += loop.fit(
            unet,
            lambda step, first=cycle * recipe.steps: loss_at(first + step),
            recipe,
            seed + cycle,
            f"training the UNet, cycle {cycle + 1} of {recipe.cycles}",
            cycle_state(checkpoint, cycle),
            after_step=lambda mean=running: mean.update_parameters(unet),
            beside={"running": running},
        )
        unet.load_state_dict(running.module.state_dict())
        unet.half().float()
    return losses


def cycle_state(checkpoint: Path | None, cycle: int) -> Path | None:
    """The checkpoint of one cycle, beside `checkpoint`."""
    return (
        None if checkpoint is None else checkpoint.with_stem(f"{checkpoint.stem}-cycle{cycle + 1}")
    )


def _state(training: str, part: str, *made_from: str) -> Path:
    """Where a part's state is kept while it is trained. made_from: hashes of what decides it."""
    name = "-".join([training, part, *(digest[:8] for digest in made_from)])
    return runs_dir() / "training" / f"{name}.safetensors"


def _remove(states: list[Path]) -> None:
    for path in states:
        path.unlink(missing_ok=True)


def _coded(vae, pictures: TrainingPictures, device, path: Path) -> torch.Tensor:
    """Latents of all pictures, kept in `path` while the UNet is trained."""
    return cached_tensors(path, lambda: {"latents": encode_all(vae, pictures.images, device)})[
        "latents"
    ]


def write_scores(folder: Path, device: str = "auto") -> None:
    """Score generated pictures with the trained judge, and write them to the folder's model card
    and README.md.

    Every subject in every style with report prompts, one picture each. Raises ModelLoadError
    without a trained judge.
    """
    from slugkit.evaluation.scores import score_pipeline

    facts = read_card(folder) | {
        "scores": score_pipeline(load_pipeline(str(folder), device), load_classifier(device=device))
    }
    write_json(folder / CARD, facts)
    write_text(folder / "README.md", _readme(facts))


def _readme(facts: dict) -> str:
    recipes = "\n\n".join(
        f"{part} (weights SHA-256"
        f" `{facts['weights_sha256'][key][:16]}`):\n\n{recipe_rows(facts['recipe'][name])}"
        for part, key, name in (
            ("AutoencoderKL", "vae", "coder"),
            ("UNet2DConditionModel", "unet", "unet"),
        )
    )
    return f"""# The studio's Stable Diffusion

diffusers' own classes in small: `StableDiffusionPipeline.from_pretrained(folder,
safety_checker=None)` loads it. Its text encoder **is** the text tower of {of_clip(facts)}, weight
by weight, and was not trained; the UNet reads its last hidden state. GELU, pre-norm, 16 tokens.
The UNet predicts the velocity (DDIM, cosine schedule). Coder and UNet are kept in half precision,
the text encoder in single.

| {STEPS} steps, guidance {GUIDANCE}, all styles | the judge is right | 95 % interval | pictures |
| --- | --- | --- | --- |
{score_rows(facts["scores"])}

Seed {facts["seed"]}, AdamW, cosine learning rate; training pictures SHA-256
`{facts["data_sha256"][:16]}`.

{recipes}

For learning and testing. The people, names and characters are invented.
"""


def _write_pipeline(
    folder: Path, vae: Any, encoder: Any, tokenizer: Any, unet: Any, facts: dict
) -> None:
    """The pipeline as `save_pretrained` writes it, and its card's facts."""
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline(
        vae=vae,
        text_encoder=encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    begin_card(folder)
    pipe.to("cpu").save_pretrained(folder)
    parts = {p: folder / p / "diffusion_pytorch_model.safetensors" for p in ("vae", "unet")}
    write_json(
        folder / CARD, facts | {"weights_sha256": {p: sha256_file(f) for p, f in parts.items()}}
    )


def train_diffusion(
    clip: str = "studio",
    out: str | Path | None = None,
    vae_recipe: VaeRecipe | None = None,
    unet_recipe: UnetRecipe | None = None,
    vae_steps: int | None = None,
    steps: int | None = None,
    seed: int = 0,
    device: str = "auto",
    resume: bool = True,
    pictures: TrainingPictures | None = None,
    score: bool = True,
) -> Path:
    """Train a StableDiffusionPipeline on the studio's pictures and write it as `save_pretrained`
    does, with a model card.

    clip: the CLIP whose text tower becomes the text encoder. vae_steps, steps: of coder and UNet;
    None takes the recipes'.
    pictures: other pictures than the studio's, for a test. score: have the trained judge name
    generated pictures for the card.
    Returns the folder. A killed training goes on from its last checkpoint. Coder and UNet are kept
    in half precision. Raises SettingError for a CLIP that was not trained on the studio,
    ModelLoadError where there is no judge for the card, before the first step.
    """
    from transformers import CLIPTokenizer

    require_of_studio(clip, "a pipeline")
    if score:
        load_classifier(device="cpu")  # what its card needs is there before the first step
    vae_recipe, unet_recipe = vae_recipe or VaeRecipe(), unet_recipe or UnetRecipe()
    vae_recipe = replace(vae_recipe, steps=vae_steps or vae_recipe.steps)
    unet_recipe = replace(unet_recipe, steps=steps or unet_recipe.steps)
    folder, target = Path(out) if out else data_dir() / "studio" / "diffusion", pick_device(device)
    pictures = pictures or studio_pictures()
    reader = load_clip(clip, "cpu")
    encoder = text_tower(reader.model).to(target)
    tokenizer = CLIPTokenizer.from_pretrained(model_folder(clip), trust_remote_code=False)
    state = partial(_state, f"{folder.name}-seed{seed}")
    coder, learner = (
        state("vae", pictures.digest),
        state("unet", weights_sha256(reader.model), pictures.told),
    )
    kept = [coder, *(cycle_state(learner, k) for k in range(unet_recipe.cycles))]
    if not resume:
        _remove(kept)
    seed_everything(seed)
    vae = build_vae(vae_recipe, pictures.images.shape[1]).to(target)
    loss = {"vae": fit_vae(vae, pictures.images, vae_recipe, seed, target, coder)}
    vae.half().float()  # pictures are coded by the coder that is kept
    kept.append(state("latents", weights_sha256(vae), pictures.digest))
    latents = _coded(vae, pictures, target, kept[-1])
    scale = 1 / latents.float().std().item()
    vae.register_to_config(scaling_factor=scale)
    unet = build_unet(unet_recipe, vae, encoder.config.hidden_size).to(target)
    loss["unet"] = fit_unet(
        unet, latents * scale, pictures, encoder, tokenizer, unet_recipe, seed, target, learner
    )
    tail = {part: sum(x[-50:]) / max(1, len(x[-50:])) for part, x in loss.items()}
    facts = {"recipe": {"coder": asdict(vae_recipe), "unet": asdict(unet_recipe)}, "seed": seed}
    facts |= {"clip": named(clip), "data_sha256": pictures.digest, "final_loss": tail}
    _write_pipeline(folder, vae.half(), encoder, tokenizer, unet.half(), facts)
    if score:
        write_scores(folder, device)
    _remove(kept)
    return folder
