"""Train a CLIP from nothing: open_clip's own class with a small configuration, plain InfoNCE,
AdamW.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from slugkit.base import (
    as_file_name,
    data_dir,
    runs_dir,
    seed_everything,
    sha256_file,
    write_json,
    write_tensors,
)
from slugkit.method.losses import info_nce
from slugkit.models.clip import CONFIG, WEIGHTS, pick_device
from slugkit.models.reading import reading_of
from slugkit.studio.train import loop
from slugkit.studio.train.card import begin_card, checkpoint_at, final_loss, named, write_card
from slugkit.studio.train.own_data import require_examinable, steps_for
from slugkit.studio.train.pictures import TrainingPictures, folder_pictures, studio_pictures
from slugkit.studio.train.tokenizer import learn_tokenizer

MEAN = STD = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the trained weights, beside the pictures.

    batch: pictures a step, in groups of distinct keys; patch_dropout: share of patches hidden from
    the image tower during training but for the last `settle` share of the steps, which see all of
    them; partners: share of the pictures that are drawn as another look at a subject already in the
    batch (the same subject in another style), since a style is only learned from pairs that differ
    in nothing else.
    """

    steps: int = 3600
    batch: int = 128
    learning_rate: float = 1.0e-3
    weight_decay: float = 0.05
    warmup: int = 100
    patch_dropout: float = 0.5
    settle: float = 0.2
    shift: int = 3
    partners: float = 0.4
    embed_dim: int = 96
    vision_width: int = 128
    vision_layers: int = 6
    text_width: int = 128
    text_layers: int = 4
    head_width: int = 32
    patch_size: int = 8
    image_size: int = 64
    context: int = 16
    vocabulary: int = 1200


def model_config(recipe: Recipe, vocabulary: int) -> dict:
    """The open_clip configuration.

    Activation is GELU (not QuickGELU) in both towers; class token pooling.
    """
    return {
        "embed_dim": recipe.embed_dim,
        "vision_cfg": {
            "image_size": recipe.image_size,
            "patch_size": recipe.patch_size,
            "width": recipe.vision_width,
            "layers": recipe.vision_layers,
            "head_width": recipe.head_width,
        },
        "text_cfg": {
            "context_length": recipe.context,
            "vocab_size": vocabulary,
            "width": recipe.text_width,
            "heads": recipe.text_width // recipe.head_width,
            "layers": recipe.text_layers,
            "hf_tokenizer_name": ".",
        },
    }


def build_model(config: dict):
    """A CLIP with fresh weights from a `model_config`."""
    from open_clip.model import CLIP

    text = {k: v for k, v in config["text_cfg"].items() if k != "hf_tokenizer_name"}
    return CLIP(embed_dim=config["embed_dim"], vision_cfg=config["vision_cfg"], text_cfg=text)


def draw_batch(
    pictures: TrainingPictures, recipe: Recipe, seed: int, step: int
) -> tuple[list[list[int]], list[str]]:
    """The pictures of one step: groups of indices with distinct keys, and one caption for each
    picture in order.

    A function of seed and step alone, so that a resumed training sees the same batches.
    """
    rng = np.random.Generator(np.random.PCG64([seed, step]))
    groups, captions, size = [], [], min(recipe.batch, len(set(pictures.keys)))
    for _ in range(max(1, recipe.batch // size)):
        group, seen = [], set()
        while len(group) < size:
            i = _draw_picture(pictures, recipe, group, rng)
            text = pictures.caption(i, rng)
            if pictures.keys[i] in seen or text in seen:
                if len(seen) > 40 * recipe.batch or rng.random() < 1e-4:
                    break
                continue
            seen |= {pictures.keys[i], text}
            group.append(i)
            captions.append(text)
        groups.append(group)
    return groups, captions


def _draw_picture(
    pictures: TrainingPictures, recipe: Recipe, group: list[int], rng: np.random.Generator
) -> int:
    """One picture at random, or (a `partners` share of them) another picture of a subject that the
    group already holds.
    """
    if pictures.alike and group and rng.random() < recipe.partners:
        others = pictures.alike[group[int(rng.integers(len(group)))]]
        return int(others[int(rng.integers(len(others)))])
    return int(rng.integers(len(pictures.keys)))


def grouped_info_nce(
    v: torch.Tensor, t: torch.Tensor, scale: torch.Tensor, groups: list[int]
) -> torch.Tensor:
    """The retain loss's InfoNCE within each group of rows, averaged over groups.

    v, t: (N, d) of unit length; groups: sizes.
    """
    parts = zip(torch.split(v, groups), torch.split(t, groups))
    return torch.stack([info_nce(a, b, scale) for a, b in parts]).mean()


def _pixels(images: np.ndarray, recipe: Recipe, rng: np.random.Generator, device) -> torch.Tensor:
    """Normalised pixels, each picture shifted by up to `shift` pixels."""
    s, n = recipe.shift, len(images)
    padded = np.pad(images, ((0, 0), (s, s), (s, s), (0, 0)), mode="edge")
    offsets = rng.integers(0, 2 * s + 1, size=(n, 2))
    size = images.shape[1]
    moved = np.stack([p[y : y + size, x : x + size] for p, (y, x) in zip(padded, offsets)])
    return (torch.from_numpy(moved).to(device).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5


def fit(
    model,
    tokenizer,
    pictures: TrainingPictures,
    recipe: Recipe,
    seed: int,
    device,
    checkpoint: Path | None,
) -> list[float]:
    """Train in place; returns the losses. checkpoint: where the state is kept, and resumed from."""
    from open_clip.transformer import PatchDropout

    def loss_at(step: int) -> torch.Tensor:
        hide = recipe.patch_dropout if step < recipe.steps * (1 - recipe.settle) else 0.0
        model.visual.patch_dropout = PatchDropout(hide) if hide else torch.nn.Identity()
        groups, captions = draw_batch(pictures, recipe, seed, step)
        rows = [i for g in groups for i in g]
        rng = np.random.Generator(np.random.PCG64([seed, step, 7]))
        pixels = _pixels(pictures.images[rows], recipe, rng, device)
        v = model.encode_image(pixels, normalize=True)
        t = model.encode_text(tokenizer(captions).to(device), normalize=True)
        return grouped_info_nce(v, t, model.logit_scale.exp(), [len(g) for g in groups])

    @torch.no_grad()
    def clamp() -> None:
        model.logit_scale.clamp_(0, math.log(100))

    losses = loop.fit(model, loss_at, recipe, seed, "training the CLIP", checkpoint, clamp)
    model.visual.patch_dropout = torch.nn.Identity()
    return losses


def default_folder(data: str, without: str | None) -> Path:
    """Where a trained model goes unless told otherwise."""
    end = "" if without is None else f"-without-{as_file_name(without)}"
    if data == "studio":
        return data_dir() / "studio" / f"clip{end}"
    return runs_dir() / "models" / f"{named(data)}{end}"


def cut_captions(captions: list[str], tokenizer) -> int:
    """How many captions are longer than the tokenizer's context; says so where there are any."""
    reading = reading_of(tokenizer)
    cut = [caption for caption in captions if not reading.fits(caption)]
    if cut:
        print(
            f"{len(cut)} of {len(captions)} captions are longer than the {reading.context} "
            f"tokens that the model reads and are cut, the first {cut[0][:100]!r}. What stands "
            "behind is not learned: shorten them, or let them begin with the name."
        )
    return len(cut)


def _prepared(data: str, without: str | None, steps: int | None) -> tuple[TrainingPictures, Recipe]:
    """What is learned from, and how; of a folder it is said how many steps it gets."""
    if data == "studio":
        recipe = Recipe()
        return studio_pictures(without), replace(recipe, steps=steps or recipe.steps)
    classes, pictures = require_examinable(data), folder_pictures(data, without)
    recipe = Recipe(batch=60, warmup=50, patch_dropout=0.0, partners=0.0, vocabulary=700)
    count = len(pictures.images)
    steps = steps or steps_for(classes, count, recipe.batch)
    print(f"{named(data)}: {classes} classes, {count} training pictures, {steps} steps")
    return pictures, replace(recipe, steps=steps)


def _tokenizer(pictures: TrainingPictures, recipe: Recipe, folder: Path, oracle: bool):
    """The tokenizer in `folder`, learned on the captions; an oracle's is the studio CLIP's."""
    from open_clip.tokenizer import HFTokenizer

    if oracle:
        from transformers import CLIPTokenizer

        known = default_folder("studio", None)
        CLIPTokenizer.from_pretrained(known, trust_remote_code=False).save_pretrained(folder)
    else:
        learn_tokenizer(pictures.texts, folder, recipe.vocabulary, recipe.context)
    return HFTokenizer(str(folder), context_length=recipe.context)


def train_clip(
    data: str = "studio",
    out: str | Path | None = None,
    without: str | None = None,
    steps: int | None = None,
    seed: int = 0,
    device: str = "auto",
    resume: bool = True,
) -> Path:
    """Train a CLIP and write it as an open_clip `local-dir` folder with its tokenizer and a model
    card.

    data: studio, or a folder with images and captions.csv. without: a concept that the model shall
    never see (an oracle).
    steps: None takes the recipe's, for a folder as many as `steps_for` says. Returns the folder. A
    killed training goes on from its last checkpoint. An
    oracle is only compared with and never edited, so its weights are kept in half precision. Raises
    what `require_examinable` raises, before the first step.
    """
    pictures, recipe = _prepared(data, without, steps)
    folder = Path(out) if out else default_folder(data, without)
    seed_everything(seed)
    tokenizer = _tokenizer(pictures, recipe, folder, data == "studio" and without is not None)
    cut = cut_captions(pictures.texts, tokenizer)
    config = model_config(recipe, len(tokenizer.tokenizer))
    target = pick_device(device)
    model = build_model(config).to(target)
    checkpoint = checkpoint_at(f"{folder.name}-{pictures.told[:8]}-seed{seed}", resume)
    losses = fit(model, tokenizer, pictures, recipe, seed, target, checkpoint)
    keep = torch.float32 if without is None else torch.float16
    begin_card(folder)
    write_tensors(folder / WEIGHTS, {k: v.to(keep) for k, v in model.state_dict().items()})
    cut_like = {"mean": MEAN, "std": STD, "interpolation": "bicubic"}
    write_json(folder / CONFIG, {"model_cfg": config, "preprocess_cfg": cut_like})
    write_card(
        folder,
        data=data,
        device=device,
        recipe=asdict(recipe),
        seed=seed,
        without=without,
        pictures=len(pictures.images),
        data_sha256=pictures.digest,
        weights_sha256=sha256_file(folder / WEIGHTS),
        captions_cut=cut,
        final_loss=final_loss(losses),
    )
    checkpoint.unlink(missing_ok=True)
    return folder
