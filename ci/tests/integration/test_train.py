"""Training: its own tokenizer, resumable to the bit, and the whole way on pictures that nobody here
drew.
"""

import json

import numpy as np
import pytest
import torch
from digits import write_digits
from safetensors.torch import load_file

from slugkit.base import SettingError, UnknownConceptError
from slugkit.data import open_data
from slugkit.evaluation.clip import evaluate_clip
from slugkit.models import load_clip
from slugkit.studio.train import clip as training
from slugkit.studio.train import loop
from slugkit.studio.train.pictures import folder_pictures, studio_pictures
from slugkit.studio.train.tokenizer import learn_tokenizer
from slugkit.unlearning.call import unlearn
from slugkit.unlearning.concept import evaluate

SMALL = dict(
    batch=24,
    embed_dim=16,
    vision_width=32,
    vision_layers=2,
    text_width=32,
    text_layers=1,
    head_width=16,
    patch_size=16,
    warmup=5,
    context=12,
)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return write_digits(tmp_path_factory.mktemp("digits"), limit=300)


def test_the_tokenizer_learns_whole_words_and_ends_with_the_end_token(tmp_path):
    tokenizer = learn_tokenizer(
        ["a photo of the digit seven", "the number nine"] * 30, tmp_path, 600, 12
    )
    ids = tokenizer("a photo of the digit seven")["input_ids"]
    assert len(ids) == 8 and max(ids) == ids[-1] == len(tokenizer) - 1
    assert tokenizer.unk_token_id not in tokenizer("Qüx 42!", add_special_tokens=False)["input_ids"]


def test_batches_hold_distinct_keys_and_repeat_by_seed(digits):
    pictures = folder_pictures(digits)
    recipe = training.Recipe(**SMALL)
    groups, captions = training.draw_batch(pictures, recipe, 0, 3)
    assert all(len({pictures.keys[i] for i in g}) == len(g) == 10 for g in groups) and len(
        captions
    ) == sum(map(len, groups))
    assert (
        training.draw_batch(pictures, recipe, 0, 3)
        == (groups, captions)
        != training.draw_batch(pictures, recipe, 0, 4)
    )


def test_an_oracle_never_sees_the_concept(digits):
    assert "seven" not in set(folder_pictures(digits, without="seven").keys)
    with pytest.raises(UnknownConceptError):
        studio_pictures(without="Nobody Atall")


def test_a_killed_training_ends_with_the_same_weights(digits, tmp_path, monkeypatch):
    pictures = folder_pictures(digits)
    recipe = training.Recipe(**SMALL, steps=220, patch_dropout=0.5)
    tokenizer = learn_tokenizer(pictures.texts, tmp_path / "t", 600, recipe.context)
    from open_clip.tokenizer import HFTokenizer

    tokenize = HFTokenizer(str(tmp_path / "t"), context_length=recipe.context)
    config = training.model_config(recipe, len(tokenizer))

    def train(checkpoint):
        torch.manual_seed(1)
        model = training.build_model(config)
        training.fit(model, tokenize, pictures, recipe, 0, "cpu", checkpoint)
        return model.state_dict()

    straight = train(None)
    calls, original = [], training.draw_batch

    def stop_at_150(*arguments):
        calls.append(1)
        if len(calls) > 150:
            raise KeyboardInterrupt
        return original(*arguments)

    checkpoint = tmp_path / "state.safetensors"
    monkeypatch.setattr(training, "draw_batch", stop_at_150)
    with pytest.raises(KeyboardInterrupt):
        train(checkpoint)
    monkeypatch.setattr(training, "draw_batch", original)
    assert checkpoint.is_file()
    resumed = train(checkpoint)
    assert all(torch.equal(straight[k], resumed[k]) for k in straight)
    with pytest.raises(SettingError, match="another recipe"):
        model = training.build_model(config)
        loop.load_state(
            checkpoint,
            {"model": model},
            loop.make_optimizer(model, recipe),
            training.Recipe(**SMALL, steps=7),
        )


def test_a_folder_of_real_digits_from_training_to_forgetting(digits, tmp_path, monkeypatch):
    monkeypatch.setenv("SLUGKIT_RUNS", str(tmp_path / "runs"))
    folder = training.train_clip(data=str(digits), out=tmp_path / "clip", steps=20)
    card = json.loads((folder / "model_card.json").read_text(encoding="utf-8"))
    assert card["scores"][0]["n"] == 60 and (folder / "merges.txt").is_file()
    assert "seven</w>" in json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    clip, source = load_clip(str(folder), "cpu"), open_data(str(digits))
    known = {
        name: (
            evaluate_clip(clip, source.exam(name, "search"), "before")
            .query("metric == 'FA@1' and wording == 'mean'")["value"]
            .item()
        )
        for name in source.concepts()
    }
    best = max(known, key=known.get)  # after so few steps the CLIP tells few digits apart
    found = unlearn(clip, source, best, forget_size=15, retain_size=60, batch_size=10, max_trials=5)
    metrics = evaluate(clip, source, [found])
    assert set(metrics["group"]) == {"target", "neighbours", "classes"} and set(
        metrics["split"]
    ) == {"report"}
    assert load_file(folder / "open_clip_model.safetensors")["visual.proj"].shape == (
        128,
        training.Recipe().embed_dim,
    )


def test_the_digits_are_the_real_ones(digits):
    source = open_data(str(digits))
    assert len(source.concepts()) == 10 and len(source.pairs) == 300
    seven = source.pairs.images[(source.pairs.table["concept"] == "seven").to_numpy()].mean((0, 3))
    assert seven[8:20].mean() > 1.5 * seven[52:, :20].mean() and np.isfinite(seven).all()
