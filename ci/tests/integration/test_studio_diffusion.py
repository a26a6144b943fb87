"""The committed Stable Diffusion and its judge: what their cards say, and an edited pipeline where
slugkit is not there.
"""

import json
import subprocess
import sys
import types

import numpy as np
import pytest
import torch

from slugkit import patch, studio
from slugkit.base import SettingError, data_dir, sha256_file
from slugkit.data import open_data
from slugkit.method import search
from slugkit.method.edit import EditableLayer
from slugkit.models import load_clip
from slugkit.models.activations import read_moments
from slugkit.models.classifier import load_classifier
from slugkit.models.diffusion import draw, load_pipeline
from slugkit.models.hub import folder_of
from slugkit.models.reachability import reading, unused_layers
from slugkit.models.weight_map import differences
from slugkit.tasks.prompts import answer_set
from slugkit.unlearning.concept import ARMS
from slugkit.unlearning.families import Job, OnPipeline
from slugkit.unlearning.gradients import forget_gradient
from slugkit.unlearning.pipeline import pictures_drawn, read_by_encoder, search_on_pipeline

LAYER = "transformer.resblocks.0.attn.out_proj.weight"
PROMPTS, SEEDS = (
    [
        "a photo of Mira Kestrel",
        "Kofi Okoye in neon style",
        "a sketch of a car",
        "a mosaic of Tin Wobble",
    ],
    [1, 2, 3, 4],
)


@pytest.fixture(scope="module")
def clip():
    return load_clip("studio", "cpu")


@pytest.fixture(scope="module")
def pipe():
    return load_pipeline("studio", "cpu")


@pytest.fixture(scope="module")
def edit(clip):
    weight = clip.model.get_parameter(LAYER)
    direction = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    editable = EditableLayer.of(clip.model, LAYER, direction)
    return patch.make(LAYER, editable, editable.lam(0.5), "Mira Kestrel")


def test_the_cards_belong_to_the_weights_and_hold_scores():
    card = json.loads(
        (folder_of("studio", "diffusion") / "model_card.json").read_text(encoding="utf-8")
    )
    for part, digest in card["weights_sha256"].items():
        assert (
            sha256_file(
                folder_of("studio", "diffusion") / part / "diffusion_pytorch_model.safetensors"
            )
            == digest
        )
    assert {row["what"] for row in card["scores"]} == {
        "people",
        "characters",
        "objects",
        "odd combinations",
        "styles",
    }
    judge = json.loads(
        (data_dir() / "studio" / "classifier" / "model_card.json").read_text(encoding="utf-8")
    )
    assert (
        sha256_file(data_dir() / "studio" / "classifier" / "model.safetensors")
        == judge["weights_sha256"]
    )
    assert all(row["value"] > 0.97 for row in judge["scores"])


def test_its_text_encoder_is_the_studio_clips_text_tower(clip, pipe):
    assert differences(clip.model, pipe, "text") == []
    assert list(unused_layers(pipe, ["text_projection", LAYER])) == ["text_projection"]


def test_a_look_at_the_layers_is_not_cut_off(pipe, caplog):
    assert reading(pipe)()[0].isfinite().all() and "truncated" not in caplog.text


def test_the_judge_recognises_what_is_drawn(pipe):
    said = load_classifier(device="cpu").name(draw(pipe, PROMPTS, SEEDS))
    right = [name in prompt for name, prompt in zip(said["subject"], PROMPTS)]
    assert sum(right) >= 3, said


def test_the_search_on_pictures_tries_every_layer_counts_and_leaves_no_trace(
    clip, pipe, edit, tmp_path, monkeypatch
):
    monkeypatch.setenv("SLUGKIT_CACHE", str(tmp_path))
    table = answer_set(studio.load_world(), "Mira Kestrel", "search", target_size=2, size=1)
    table = table[~table["extra"]].groupby("group").head(2)
    other = "transformer.resblocks.3.mlp.c_proj.weight"
    noise = torch.randn(clip.model.get_parameter(other).shape)
    g, judge = {LAYER: edit.direction, other: noise}, load_classifier(device="cpu")
    given = (clip, pipe, judge, g, [other, LAYER], table, "figures", 1)
    monkeypatch.setattr(search, "FIRST_RHO", 1e-4)
    found = search_on_pipeline(*given, steps=4)
    assert found["layer"].tolist() == [other, LAYER] and not found["chosen"].any()
    assert pictures_drawn(found) == 4
    monkeypatch.setattr(search, "FIRST_RHO", 8.0)
    found = search_on_pipeline(*given[:4], [LAYER], *given[5:], steps=4)
    assert found["chosen"].all() and found["retain"].notna().all()
    assert pictures_drawn(found) == len(table) and found["pictures"].item() == len(table) - 2
    assert differences(clip.model, pipe, "text") == []
    with pytest.raises(SettingError, match="less than 1"):
        search_on_pipeline(*given, ua=0.0)


def test_slug_steps_along_the_gradient_and_slug_r_hardly_moves_what_the_retain_prompts_read(
    clip, pipe
):
    source = open_data("studio")
    pairs = source.retain_set("neon", 64, 0)
    moment = read_by_encoder(pipe, pairs.captions, [LAYER])[LAYER]
    again = read_by_encoder(pipe, pairs.captions, [LAYER], batch_size=17)[LAYER]
    assert torch.allclose(moment, again, rtol=1e-4, atol=1e-9) and moment.dtype == torch.float64
    to_the_end = read_moments(clip, pairs, [LAYER])[LAYER]
    assert not torch.allclose(moment, to_the_end, rtol=0.05), "padding is read, too"
    g_forget = forget_gradient(clip, source.forget_set("neon", 16, 0))
    side, on = types.SimpleNamespace(pairs=pairs), OnPipeline(pipe, None)
    plain, aware = (
        on.directions(Job(clip, source, "neon", method, None, side, g_forget), [LAYER])[LAYER]
        for method in ARMS
    )
    assert torch.equal(plain, g_forget[LAYER]) and aware.norm() == pytest.approx(plain.norm())
    felt = [float(((d.double() @ moment) * d.double()).sum().sqrt()) for d in (plain, aware)]
    assert felt[1] < 0.5 * felt[0]


def test_an_edited_pipeline_draws_the_same_where_slugkit_was_never_imported(
    clip, pipe, edit, tmp_path
):
    with edit.applied(clip.model), edit.applied(pipe):
        pipe.save_pretrained(tmp_path / "edited")
        mine = draw(pipe, PROMPTS, SEEDS, steps=4)
    script = f"""import sys, torch, numpy as np
from diffusers import StableDiffusionPipeline
pipe = StableDiffusionPipeline.from_pretrained(
    {str(tmp_path / "edited")!r}, safety_checker=None, requires_safety_checker=False
)
noise = [torch.Generator().manual_seed(seed) for seed in {SEEDS}]
made = pipe(
    {PROMPTS}, num_inference_steps=4, guidance_scale=4.0, generator=noise, output_type="np"
)
np.save({str(tmp_path / "there.npy")!r}, made.images)
assert not any(name.startswith("slugkit") for name in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    there = (255 * np.load(tmp_path / "there.npy")).round()
    assert np.abs(there - mine).max() <= 1
    untouched = draw(pipe, PROMPTS, SEEDS, steps=4)
    assert np.abs(untouched.astype(int) - mine.astype(int)).max() > 30, (
        "the edit shows in the pictures"
    )


def test_every_class_of_the_judge_can_be_drawn():
    judge, world = load_classifier(device="cpu"), studio.load_world()
    assert (
        set(judge.subjects) == {*world.classes("figures"), *world.objects, *world.classes("novel")}
        and judge.styles == world.styles
    )
