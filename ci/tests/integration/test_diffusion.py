"""The studio's Stable Diffusion at the smallest size: real classes, the CLIP's own text tower,
trained, saved, loaded, drawn.
"""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_trainings import UNET, VAE, small_pictures

from slugkit import studio
from slugkit.base import ModelLoadError, SettingError
from slugkit.evaluation import diffusion as evaluation
from slugkit.method.edit import EditableLayer
from slugkit.models import load_clip
from slugkit.models.classifier import Classifier, build_classifier
from slugkit.models.convert import text_tower
from slugkit.models.diffusion import draw, load_pipeline
from slugkit.models.reachability import movable
from slugkit.models.weight_map import differences
from slugkit.studio.train import diffusion as training
from slugkit.studio.train import loop
from slugkit.studio.train.classifier import subject_classes
from slugkit.studio.train.vae import VaeRecipe, build_vae, fit_vae, to_tensor
from slugkit.tasks import prompts


@pytest.fixture(scope="module")
def clip():
    return load_clip("studio", "cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("diffusion")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLUGKIT_RUNS", str(place / "runs"))
        made = training.train_diffusion(
            out=place / "pipe",
            vae_recipe=VAE,
            unet_recipe=UNET,
            pictures=small_pictures(),
            device="cpu",
            score=False,
        )
    assert not list((place / "runs").rglob("*.safetensors")), (
        "checkpoints are taken away at the end"
    )
    return made


@pytest.fixture(scope="module")
def pipe(folder):
    return load_pipeline(str(folder), "cpu")


def test_the_text_encoder_is_the_clips_text_tower_and_reads_alike(clip, pipe):
    assert differences(clip.model, pipe, "text") == []
    texts = ["a photo of Mira Kestrel", "", "two red stars"]
    ids = pipe.tokenizer(
        texts, padding="max_length", truncation=True, return_tensors="pt"
    ).input_ids
    assert torch.equal(ids, clip.tokens(texts))
    with torch.no_grad():
        read = pipe.text_encoder(ids)
        assert torch.allclose(
            torch.nn.functional.normalize(read.pooler_output @ clip.model.text_projection, dim=-1),
            clip.text_features(texts),
            atol=1e-5,
        )


def test_another_text_tower_is_told_apart(clip):
    encoder = text_tower(clip.model)
    with torch.no_grad():
        encoder.encoder.layers[2].mlp.fc1.weight[0, 0] += 1
    assert differences(clip.model, encoder, "text") == ["transformer.resblocks.2.mlp.c_fc.weight"]


def test_a_picture_depends_on_its_prompt_and_seed_alone(pipe):
    together = draw(pipe, ["Mira Kestrel", "a car", "Mira Kestrel"], [1, 2, 3], steps=2)
    assert together.shape == (3, 16, 16, 3) and together.dtype == np.uint8
    alone = draw(pipe, ["a car"], [2], steps=2, batch_size=1)
    assert np.abs(alone[0].astype(int) - together[1].astype(int)).max() <= 1
    assert not np.array_equal(together[0], together[2])
    with pytest.raises(ModelLoadError, match="one seed for each"):
        draw(pipe, ["a car"], [1, 2])


def test_generated_pictures_are_kept_until_the_weights_change(pipe, tmp_path, monkeypatch):
    monkeypatch.setenv("SLUGKIT_CACHE", str(tmp_path))
    table = pd.DataFrame({"prompt": ["Mira Kestrel", "a car"], "seed": [1, 2]})
    first = evaluation.drawn_prompts(pipe, table, steps=2)
    weight = pipe.text_encoder.encoder.layers[0].mlp.fc1.weight
    original = weight.detach().clone()

    def refuse(*arguments):
        raise AssertionError("drawn again")

    with monkeypatch.context() as patched, torch.no_grad():
        patched.setattr(evaluation, "draw", refuse)
        assert np.array_equal(evaluation.drawn_prompts(pipe, table, steps=2), first)
        weight.mul_(3)
        with pytest.raises(AssertionError, match="drawn again"):
            evaluation.drawn_prompts(pipe, table, steps=2)
        weight.copy_(original)


def test_a_drawing_that_was_cut_off_goes_on(pipe, tmp_path, monkeypatch):
    table = pd.DataFrame(
        {"prompt": ["Mira Kestrel", "a car", "a cat", "a hat", "a boat"], "seed": range(5)}
    )
    monkeypatch.setenv("SLUGKIT_CACHE", str(tmp_path / "whole"))
    whole, drawn = evaluation.drawn_prompts(pipe, table, steps=2, batch_size=2), []
    monkeypatch.setenv("SLUGKIT_CACHE", str(tmp_path / "parts"))
    monkeypatch.setattr(evaluation, "KEPT_AT_ONCE", 2)

    def breaks_off(pipe, prompts, *others):
        if len(drawn) == 2 and drawn[-1] == ["a cat", "a hat"]:
            drawn.append("cut off")
            raise KeyboardInterrupt
        drawn.append(prompts)
        return draw(pipe, prompts, *others)

    monkeypatch.setattr(evaluation, "draw", breaks_off)
    with pytest.raises(KeyboardInterrupt):
        evaluation.drawn_prompts(pipe, table, steps=2, batch_size=2)
    assert np.array_equal(evaluation.drawn_prompts(pipe, table, steps=2, batch_size=2), whole)
    assert drawn == [["Mira Kestrel", "a car"], ["a cat", "a hat"], "cut off", ["a boat"]]


def test_a_probe_on_the_pipeline_sees_the_step_and_leaves_no_trace(clip, pipe, tmp_path):
    layer, world = "transformer.resblocks.1.mlp.c_fc.weight", studio.load_world()
    subjects = subject_classes(world)
    torch.manual_seed(0)
    judge = Classifier(
        build_classifier(len(subjects) + len(world.styles), (8, 8, 16, 16), (1, 1, 1, 1)).eval(),
        subjects,
        world.styles,
    )
    table = (
        prompts.answer_set(world, "Mira Kestrel", "search", target_size=2, size=1)
        .groupby("group")
        .head(2)
    )
    weight, before = (
        clip.model.get_parameter(layer),
        pipe.text_encoder.encoder.layers[1].mlp.fc1.weight.detach().clone(),
    )
    with (
        movable(clip.model, pipe, layer) as (copy, again),
        EditableLayer.of(copy, layer, torch.randn_like(weight)) as editable,
    ):
        measure = evaluation.PipelineMeasure(pipe, judge, table, "figures", again, steps=2)
        editable.set(editable.lam(0.5))
        assert 0 <= measure.forget()["fa1"] <= 1
        assert (
            differences(clip.model, pipe, "text") == [layer]
            and torch.equal(weight, before)
            and not torch.equal(copy, before)
        )
        kept = measure.retain()
        assert kept["retain"] == pytest.approx((kept["ira"] + kept["cra"]) / 2)
    assert (
        torch.equal(pipe.text_encoder.encoder.layers[1].mlp.fc1.weight, before)
        and differences(clip.model, pipe, "text") == []
    )
    with pytest.raises(SettingError, match="search prompts were expected"):
        evaluation.PipelineMeasure(
            pipe, judge, prompts.answer_set(world, "Mira Kestrel", "report"), "figures", again
        )


def test_it_loads_where_slugkit_was_never_imported(pipe, folder, tmp_path):
    script = f"""import sys, torch, numpy as np
from diffusers import StableDiffusionPipeline
pipe = StableDiffusionPipeline.from_pretrained(
    {str(folder)!r}, safety_checker=None, requires_safety_checker=False
)
noise = [torch.Generator().manual_seed(1)]
made = pipe(
    ["Mira Kestrel"], num_inference_steps=2, guidance_scale=4.0, generator=noise, output_type="np"
)
np.save({str(tmp_path / "there.npy")!r}, made.images)
assert not any(name.startswith("slugkit") for name in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    there = (255 * np.load(tmp_path / "there.npy")).round()
    assert np.abs(there[0] - draw(pipe, ["Mira Kestrel"], [1], steps=2)[0]).max() <= 1


def test_the_card_tells_recipe_and_hashes(folder):
    card = json.loads((folder / "model_card.json").read_text(encoding="utf-8"))
    assert card["recipe"]["coder"]["steps"] == 4 and set(card["weights_sha256"]) == {"vae", "unet"}
    assert all(np.isfinite(loss) for loss in card["final_loss"].values())


def test_the_coder_learns(tmp_path):
    images = np.repeat(
        np.random.default_rng(1).integers(0, 256, (8, 1, 1, 3), dtype=np.uint8), 16, axis=1
    ).repeat(16, axis=2)
    torch.manual_seed(0)
    recipe = VaeRecipe(
        steps=200,
        batch=8,
        crop=8,
        l1=0.2,
        widths=(8, 8, 16),
        latent_channels=4,
        groups=4,
        warmup=5,
        learning_rate=5e-3,
    )
    vae = build_vae(recipe, 16)
    losses = fit_vae(vae, images, recipe, 0, "cpu", None)
    assert np.mean(losses[-10:]) < 0.3 * np.mean(losses[:10])
    assert vae.encode(to_tensor(images, "cpu")).latent_dist.mean.shape == (8, 4, 4, 4)


def test_a_missing_pipeline_says_how_to_get_one(tmp_path):
    with pytest.raises(ModelLoadError, match="slugkit train diffusion"):
        load_pipeline(str(tmp_path), "cpu")


def test_a_killed_training_goes_on_from_its_checkpoint_to_the_same_weights(tmp_path, monkeypatch):
    def fit(checkpoint):
        torch.manual_seed(0)
        vae = build_vae(VAE, 16)
        fit_vae(vae, small_pictures().images, VAE, 0, "cpu", checkpoint)
        return vae.state_dict()

    straight, checkpoint, save = fit(None), tmp_path / "state.safetensors", loop.save_state
    monkeypatch.setattr(loop, "KEEP_EVERY", 2)

    def save_and_die(*arguments):
        save(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as killed, pytest.raises(KeyboardInterrupt):
        killed.setattr(loop, "save_state", save_and_die)
        fit(checkpoint)
    resumed = fit(checkpoint)
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)
    assert (
        len(fit_vae(build_vae(VAE, 16), small_pictures().images, VAE, 0, "cpu", checkpoint)) == 1
    ), "a finished training tells its last loss"
    with pytest.raises(SettingError, match="another recipe"):
        fit_vae(
            build_vae(VAE, 16),
            small_pictures().images,
            replace(VAE, widths=(8, 16, 16)),
            0,
            "cpu",
            checkpoint,
        )
