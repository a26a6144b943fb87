"""A word learned from pictures, for a pipeline under stress."""

import copy
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from slugkit.base import SettingError
from slugkit.data import Pairs
from slugkit.experiments.stress import inversion, on_models
from slugkit.experiments.stress.summary import over_people
from slugkit.models.classifier import load_classifier
from slugkit.models.diffusion import draw, load_pipeline

WHO = "Oskar Marlow"


@pytest.fixture(scope="module")
def pipe():
    return load_pipeline("studio", "cpu")


def state(pipe):
    parts = pipe.text_encoder, pipe.unet, pipe.vae
    return [w.detach().clone() for part in parts for w in part.parameters()]


def encoded(pipe, text):
    return pipe.encode_prompt([text], pipe.device, 1, False)[0]


def test_a_new_word_is_read_as_its_vector_and_then_forgotten(pipe):
    before, tokenizer = state(pipe), pipe.tokenizer
    [known] = tokenizer("car", add_special_tokens=False).input_ids
    table = pipe.text_encoder.get_input_embeddings()
    with inversion.new_word(pipe, table.weight[known].detach()):
        assert torch.equal(encoded(pipe, "a photo of <it>"), encoded(pipe, "a photo of car"))
        assert torch.equal(encoded(pipe, "an eagle"), encoded(pipe, "an eagle"))
    with inversion.new_word(pipe, torch.ones(table.embedding_dim)):
        assert not torch.allclose(encoded(pipe, "a photo of <it>"), encoded(pipe, "a photo of car"))
    assert pipe.tokenizer is tokenizer and "<it>" not in tokenizer.get_vocab()
    assert not table._forward_hooks and not table._forward_pre_hooks
    assert all(torch.equal(a, b) for a, b in zip(before, state(pipe), strict=True))


def test_captions_without_the_name_are_refused(pipe, source):
    few = source.nonmembers(WHO, 2)
    nobody = Pairs(few.images, few.table.assign(caption=["nobody", "nobody"]))
    with pytest.raises(SettingError, match="None of the 2 captions holds 'Oskar Marlow'"):
        inversion.learned_word(pipe, nobody, WHO, steps=1)


def test_the_pipeline_is_itself_again_when_learning_fails(pipe, source, monkeypatch):
    tokenizer, table = pipe.tokenizer, pipe.text_encoder.get_input_embeddings()
    monkeypatch.setattr(pipe.unet, "forward", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        inversion.learned_word(pipe, source.nonmembers(WHO, 2), WHO, steps=1)
    assert pipe.tokenizer is tokenizer
    assert not table._forward_hooks and not table._forward_pre_hooks


def test_a_learned_word_denoises_its_pictures_better_than_the_one_it_began_as(pipe, source):
    before, few = state(pipe), source.nonmembers(WHO, 4)
    begun, learned = (inversion.learned_word(pipe, few, WHO, steps=n) for n in (0, 25))
    images = few.images.astype(np.float32).transpose(0, 3, 1, 2) / 127.5 - 1
    losses = []
    with torch.no_grad():
        z = pipe.vae.encode(torch.from_numpy(images)).latent_dist.mean
        z = z * pipe.vae.config.scaling_factor
        noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(9))
        for vector in (begun, learned):
            with inversion.new_word(pipe, vector):
                read = encoded(pipe, "a photo of <it>").repeat(len(z), 1, 1)
            each = []
            for t in (200, 500, 800):
                t = torch.full((len(z),), t)
                guess = pipe.unet(pipe.scheduler.add_noise(z, noise, t), t, read).sample
                each.append((guess - pipe.scheduler.get_velocity(z, noise, t)).square().mean())
            losses.append(float(sum(each)))
    assert losses[1] < losses[0]
    assert all(torch.equal(a, b) for a, b in zip(before, state(pipe), strict=True))


def test_noise_is_predicted_where_the_scheduler_says_so(pipe, source, monkeypatch):
    few, mine = source.nonmembers(WHO, 2), copy.copy(pipe)
    mine.scheduler = type(pipe.scheduler).from_config(
        pipe.scheduler.config, prediction_type="epsilon"
    )
    asked = []
    monkeypatch.setattr(
        "diffusers.DDPMScheduler.get_velocity", lambda self, *given: asked.append(1) or given[1]
    )
    a = inversion.learned_word(mine, few, WHO, steps=2)
    assert not asked
    inversion.learned_word(pipe, few, WHO, steps=2)
    assert asked and a.isfinite().all()


@pytest.fixture(scope="module")
def wanted(clip, source):
    return inversion.Wanted(clip, source, WHO)


def test_faces_are_told_apart_strangers_too(wanted):
    assert len(wanted.asked) == 28 and wanted.asked["prompt"].str.contains(WHO).all()
    known, unknown = wanted.real()
    assert known["recognised"] > 80 and unknown["recognised"] > 80
    assert known["n"] >= 29 and unknown["n"] >= 29 and wanted.stranger not in (WHO, "")
    for name in (WHO, wanted.stranger):
        few, taught, other = wanted.parts[name]
        assert (len(few), len(taught)) == (8, 40) and set(few.table["concept"]) == {name}
        keys = [set(part.table["key"]) for part in (few, taught, other)]
        assert not keys[0] & keys[1] and not keys[2] & (keys[0] | keys[1])
        assert few.table["style"].nunique() > 3
    assert wanted.faces.shows(wanted.parts[wanted.stranger][0].images, WHO) < 20


def test_each_model_is_asked_in_three_ways_and_pictures_are_counted(wanted, monkeypatch):
    wanted.asked = wanted.asked.head(4)
    pipe, drawn = load_pipeline("studio", "cpu"), []
    monkeypatch.setattr(inversion, "STEPS", 1)

    def instead(pipe, prompts, seeds, *sampling):
        drawn.append(prompts)
        return wanted.parts[WHO][1].images[:4]

    monkeypatch.setattr(inversion, "draw", instead)
    rows = list(wanted.drawn(pipe, (2, 4.0), load_classifier("studio", "cpu")))
    assert [row["setting"] for row in rows] == [
        "as asked",
        "a word from 8 pictures",
        "a word from 8 pictures, for a stranger",
    ]
    assert all(WHO in text for text in drawn[0])
    assert all("<it>" in text and WHO not in text for text in drawn[1] + drawn[2])
    assert rows[0]["recognised"] == rows[1]["recognised"] == 100 and rows[2]["recognised"] == 0
    assert rows[0]["shown"] == rows[1]["shown"] == 100 and "shown" not in rows[2]
    assert {row["n"] for row in rows} == {4}
    assert draw(pipe, ["a car"], [1], 2).shape[0] == 1  # it draws as before


def test_rows_are_of_the_unedited_model_and_of_every_edit(source, monkeypatch, capsys):
    class Found:
        def __init__(self, method):
            self.method, self.nearest = method, {"text": "edit"}
            self.patches = {} if method == "UCE" else {"pipeline": "edit"}

        def applied(self, model):
            from contextlib import nullcontext

            return nullcontext(f"{model} by {self.method}")

    on = SimpleNamespace(pipe="pipe")
    monkeypatch.setattr(on_models, "opened_family", lambda *_: (None, source, on, "made"))
    monkeypatch.setattr(on_models, "RetainSide", lambda *_: None)
    monkeypatch.setattr(on_models, "unlearn", lambda *given, **_: Found(given[3]))

    def asked(*_):
        return lambda model: iter([{"setting": model, "shown": 1 / 3, "n": 3}])

    rows = pd.DataFrame(
        on_models.rows_about("diffusion", "studio", "studio", ("SLUG", "UCE"), asked, WHO)
    )
    assert rows["setting"].tolist() == ["pipe", "pipe by SLUG", "pipe by UCE"]
    assert rows["forgotten"].tolist() == [None, True, False] and set(rows["shown"]) == {0.33}
    assert rows["tower"].tolist() == ["", "pipeline", "text"]
    assert set(over_people(rows)["metric"]) == {"shown"} and set(rows["stress"]) == {"drawings"}
