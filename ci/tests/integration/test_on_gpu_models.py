"""Every flow of pipelines, LLaVAs, judges and trainings on a GPU that is not there."""

import dataclasses
import types

import numpy as np
import pandas as pd
import pytest
import torch
from on_gpu import *  # noqa: F403 - fixtures
from on_gpu import TEXT, TWO, VISION, WHO
from pretend_gpu import on_gpu
from tiny_trainings import UNET, VAE, small_pictures
from tiny_vlm import SMALL

from slugkit import patch, studio
from slugkit.evaluation import scores
from slugkit.evaluation import vlm as asking
from slugkit.evaluation.clip_judge import clip_judge
from slugkit.evaluation.diffusion import text_image_cosines, told_by
from slugkit.method import search
from slugkit.method.directions import retain_aware_directions
from slugkit.models import load_clip
from slugkit.models.activations import read_moments
from slugkit.models.classifier import load_classifier
from slugkit.models.diffusion import draw, load_pipeline
from slugkit.models.vlm import load_vlm
from slugkit.models.weight_map import locate
from slugkit.studio.train import classifier as train_judge
from slugkit.studio.train import diffusion as train_pipeline
from slugkit.studio.train import vlm as train_llava
from slugkit.studio.train.clip import train_clip
from slugkit.tasks.prompts import answer_set, join_answer_sets
from slugkit.unlearning import pipeline as pipeline_search
from slugkit.unlearning import vlm as vlm_measure
from slugkit.unlearning.concept import ARMS
from slugkit.unlearning.families import Job, OnPipeline
from slugkit.unlearning.result import winning_patch


def held(request, name):
    """What holds a tower: the pipeline, or the network of the CLIP or LLaVA."""
    model = request.getfixturevalue(name)
    return model if name == "pipe" else model.model


HOLDERS = [("text", "clip"), ("text", "pipe"), ("vision", "clip"), ("vision", "vlm")]


@pytest.mark.parametrize("tower, name", HOLDERS)
def test_a_patch_goes_on_and_off_bit_for_bit_in_every_form(request, edits, tower, name, tmp_path):
    patch.save(edits[tower], tmp_path / "edit")
    model, edit = held(request, name), patch.load(tmp_path / "edit")
    small = dataclasses.replace(edit, lam=edit.lam / 3, rho=edit.rho / 3)
    several = [patch.half(edit)], [patch.low_rank(edit, 2)], [patch.add([edit, small])]
    before = locate(model, edit.layer).read()
    for listed in ([edit], *several, [edit, small]):
        for p in listed:
            p.verify(model)
            p.apply(model)
        now = locate(model, edit.layer).read()
        assert on_gpu(now) and not torch.equal(now, before)
        patch.save_record(model, tmp_path / "record")
        known = patch.load_record(tmp_path / "record", model)
        assert {p.sha256 for p in known} == {p.sha256 for p in listed}
        for p in listed:
            p.remove(model)
        assert torch.equal(locate(model, edit.layer).read(), before)


@pytest.mark.parametrize("tower, name", [HOLDERS[1], HOLDERS[3]])
def test_what_is_measured_in_both_is_what_apply_gives(request, clip, edits, tower, name):
    other, edit = held(request, name), edits[tower]
    with edit.applied(clip.model), edit.applied(other):
        measured = locate(other, edit.layer).read()
    with edit.applied(other):
        assert torch.equal(locate(other, edit.layer).read(), measured)


def test_pictures_are_drawn_judged_and_searched_on(clip, pipe, judge, found, tmp_path, monkeypatch):
    monkeypatch.setenv("SLUGKIT_CACHE", str(tmp_path))
    sets = [answer_set(studio.load_world(), concept, "search", 2, 1) for concept in TWO]
    table = join_answer_sets(sets, TWO, set())
    rest = table[table["group"] != "target"].groupby("domain").head(2)
    table = pd.concat([table[table["group"] == "target"], rest])
    told = told_by(pipe, judge, table, 4)
    assert told.loc[told["group"] == "target", "right_subject"].mean() > 0.5
    two = table.iloc[[0, -1]]
    images = draw(pipe, two["prompt"].tolist(), two["seed"].tolist(), 4)
    assert (text_image_cosines(clip, two["prompt"].tolist(), images) > 0).all()
    assert set(clip_judge(clip, table).name(images)["subject"]) <= set(table["subject"])
    layers, how = [TEXT], dict(max_trials=2, ua=0.5, steps=4)
    monkeypatch.setattr(search, "FIRST_RHO", 8.0)
    pairs = types.SimpleNamespace(captions=["a car", WHO])
    side, on = types.SimpleNamespace(pairs=pairs), OnPipeline(pipe, judge)
    moved = [
        on.directions(Job(clip, None, WHO, method, None, side, found.g_forget), layers)
        for method in ARMS
    ]
    assert all(on_gpu(way[TEXT]) for way in moved)
    on_pictures = clip, pipe, judge
    one = table[(table["group"] != "target") | (table["subject"] == WHO)]
    probes = pipeline_search.search_on_pipeline(
        *on_pictures, moved[0], layers, one, "figures", **how
    )
    assert winning_patch(clip, moved[0], probes, "text", WHO, at_most=0.5).layer == TEXT


def test_a_saved_pipeline_and_a_saved_llava_run_in_plain_libraries(kind, pipe, vlm, tmp_path):
    from diffusers import StableDiffusionPipeline
    from transformers import LlavaForConditionalGeneration

    from slugkit.models.diffusion import save_pipeline

    plain = StableDiffusionPipeline.from_pretrained(save_pipeline(pipe, tmp_path / "pipe"))
    assert {part.dtype for part in (plain.unet, plain.vae, plain.text_encoder)} == {torch.float32}
    noise = [torch.Generator().manual_seed(1)]
    made = plain("a car", num_inference_steps=2, generator=noise, output_type="np").images
    ours = draw(load_pipeline(str(tmp_path / "pipe"), "cpu"), ["a car"], [1], 2, 7.5)
    assert np.abs((255 * made).round() - ours).max() <= 1
    vlm.model.save_pretrained(tmp_path / "vlm")
    one = LlavaForConditionalGeneration.from_pretrained(tmp_path / "vlm")
    assert {p.dtype for p in one.parameters()} == {torch.float16}
    same = zip(one.parameters(), vlm.model.parameters(), strict=True)
    assert all(torch.equal(a, b.cpu()) for a, b in same)


def test_answers_are_given_and_searched_on_along_the_models_own_gradient(kind, clip, vlm, few):
    asked = asking.question_set(studio.load_world(), WHO, "search", 7, 1, all_kinds=False)
    rows = asked.table.groupby("group").head(2).index
    asked = asked.take(np.isin(np.arange(len(asked.table)), rows))
    mine = asked.take((asked.table["group"] == "target").to_numpy())
    if kind == "cuda":  # transformers' generate asks Apple's GPU in C++
        assert asking.answered(vlm, asked)["right"].mean() > 0.5
    assert vlm_measure.writing_layers(clip, vlm)
    moments = read_moments(clip, few.retain_set(WHO, 12, 0), [VISION])
    way = retain_aware_directions(vlm_measure.answer_gradient(vlm, mine, [VISION]), moments, 0.1)
    assert on_gpu(way[VISION]) and way[VISION].dtype == torch.float32
    probes = vlm_measure.search_on_vlm(clip, vlm, way, asked, [VISION], 6, forgotten=0.5)
    edit = winning_patch(clip, way, probes, "vision", WHO, at_most=0.5)
    with edit.applied(clip.model), edit.applied(vlm.model):
        assert vlm_measure.Script(vlm, mine).given().mean() <= 0.5


@pytest.fixture(params=["auto", "cpu"])
def trained_on(request, kind, here_only, tmp_path, monkeypatch):
    """The device that a training is asked for. Nothing of one on the CPU may go to the GPU."""
    monkeypatch.setenv("SLUGKIT_RUNS", str(tmp_path))
    if request.param == "cpu":
        here_only()
    return request.param


def test_a_clip_trains_and_is_scored_where_it_was_asked_for(trained_on, folder, tmp_path):
    made = train_clip(str(folder), tmp_path / "clip", steps=2, device=trained_on)
    assert load_clip(str(made), "cpu").scale > 1


def test_a_judge_trains_and_is_scored_where_it_was_asked_for(trained_on, tmp_path, monkeypatch):
    records = studio.solo_records("train", "car", 2, ["neon", "sketch"])
    monkeypatch.setattr(train_judge, "report_records", lambda world: records)
    recipe = train_judge.ClassifierRecipe(steps=2, batch=4, warmup=1, widths=(8, 8, 16, 16))
    made = train_judge.train_classifier(
        tmp_path / "judge", recipe, records=records, device=trained_on
    )
    assert len(load_classifier(made, "cpu").name(studio.draw_many(records))) == len(records)


def test_a_pipeline_trains_and_is_scored_where_it_was_asked_for(trained_on, tmp_path, monkeypatch):
    monkeypatch.setattr(scores, "subject_domains", lambda world: {"car": "objects"})
    vae, unet = dataclasses.replace(VAE, steps=2), dataclasses.replace(UNET, steps=2)
    made = train_pipeline.train_diffusion(
        "studio", tmp_path / "pipe", vae, unet, pictures=small_pictures(), device=trained_on
    )
    assert load_pipeline(str(made), "cpu").unet.dtype == torch.float32


def test_a_llava_trains_and_is_scored_where_it_was_asked_for(
    trained_on, few_records, tmp_path, monkeypatch
):
    monkeypatch.setattr(asking, "card_scores", lambda vlm, world: [])
    recipe = train_llava.VlmRecipe(**SMALL | {"steps": 2, "batch": 4})
    made = train_llava.train_vlm(
        "studio", tmp_path / "vlm", recipe, records=few_records, device=trained_on
    )
    assert load_vlm(str(made), "cpu").model.dtype == torch.float32
