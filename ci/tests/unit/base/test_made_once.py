"""What is made once, by several threads, or only as far as memory allows; and what the names of
precisions switch on.
"""

import dataclasses
import threading

import numpy as np
import pytest
import torch
from picture_files import whole_files
from PIL import Image

from slugkit.base import UnreadableImagesError, each
from slugkit.data import pictures
from slugkit.data.pictures import Pictures
from slugkit.models import clip as clip_module
from slugkit.models.activations import read_moments
from slugkit.models.classifier import load_classifier
from slugkit.models.precision import PRECISIONS, multiplying
from slugkit.unlearning.gradients import forget_gradient

# -- threads -------------------------------------------------------------------------------------


def test_each_keeps_the_order_uses_several_threads_and_raises_the_first_error():
    names, both = set(), threading.Barrier(2, timeout=20)

    def work(k):
        if k < 2:
            both.wait()  # two at the same time, or this breaks
        names.add(threading.current_thread().name)
        return k * k

    assert each(work, range(40)) == [k * k for k in range(40)] and len(names) > 1
    with pytest.raises(ZeroDivisionError):
        each(lambda k: 1 / (k - 3), range(8))


# -- pictures ------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path):
    made = [tmp_path / f"{k}.png" for k in range(6)]
    for k, file in enumerate(made):
        Image.fromarray(np.full((20, 20, 3), 40 * k, np.uint8)).save(file)
    return made


def test_a_picture_is_decoded_once_for_all_sets_made_of_one(files):
    whole = Pictures(whole_files(files), 20)
    part = whole.take([4, 1])
    first = part[:]
    for file in files:
        file.unlink()
    assert np.array_equal(whole[[1, 4]], first[::-1]) and first[0].max() == 160
    with pytest.raises(UnreadableImagesError, match="0.png"):
        whole[:]


@pytest.mark.parametrize("kept", [0, 1, 4])
def test_no_more_pictures_are_kept_than_there_is_room_for(files, monkeypatch, kept):
    monkeypatch.setattr(pictures, "KEPT_BYTES", kept * 20 * 20 * 3)
    whole = Pictures(whole_files(files), 20)
    assert whole[:].max(axis=(1, 2, 3)).tolist() == [0, 40, 80, 120, 160, 200]
    assert len(whole._kept) <= kept + 1 and whole[:].max(axis=(1, 2, 3)).tolist() == [
        0,
        40,
        80,
        120,
        160,
        200,
    ]


def test_pixels_are_what_their_definition_says(clip):
    images = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)
    plain = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(side)[:, None, None] for side in (clip.mean, clip.std))
    assert torch.equal(clip.pixels(images), (plain - mean) / std)
    assert torch.equal(clip.pixels(torch.from_numpy(images)), clip.pixels(images))
    other = np.random.default_rng(0).integers(0, 256, (3, 30, 40, 3), dtype=np.uint8)
    square = [
        np.asarray(Image.fromarray(i).resize((64, 64), Image.Resampling.BICUBIC)) for i in other
    ]
    assert np.array_equal(clip.resized(other), np.stack(square)) and clip.resized(images) is images


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_model_in_any_precision_reads_pixels_of_its_own_type(dtype):
    from slugkit.models import load_clip

    clip = load_clip("studio", "cpu")
    clip.model.to(dtype)
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    assert clip.pixels(images).dtype == dtype and clip.image_features(images).dtype == torch.float32
    assert (
        clip.image_features(images).isfinite().all()
        and clip.text_features(["a photo"]).isfinite().all()
    )


# -- texts ---------------------------------------------------------------------------------------


def test_a_text_is_cut_into_tokens_once(clip, monkeypatch):
    asked = []
    counted = dataclasses.replace(
        clip, tokenizer=lambda texts: asked.extend(texts) or clip.tokenizer(texts), _known={}
    )
    texts = ["a photo of a cat", "Mira Kestrel", "a photo of a cat", "neon"]
    assert (
        torch.equal(counted.tokens(texts), clip.tokenizer(texts)) and asked == texts[:2] + texts[3:]
    )
    assert torch.equal(counted.tokens(texts[::-1]), clip.tokenizer(texts[::-1])) and len(asked) == 3
    monkeypatch.setattr(clip_module, "TEXTS_KEPT", 4)
    more = [f"thing {k}" for k in range(3)]
    assert (
        torch.equal(counted.tokens(more + texts), clip.tokenizer(more + texts))
        and len(counted._known) == 3
    )


# -- precision -----------------------------------------------------------------------------------


def flags():
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize("precision", list(PRECISIONS))
def test_fp32_means_fp32_and_the_process_keeps_its_own_settings(precision):
    before = flags()
    with multiplying(precision):
        assert flags() == ((True, True) if precision == "tf32" else (False, False))
    with pytest.raises(KeyError), multiplying(precision):
        raise KeyError
    assert flags() == before


def test_what_layers_read_and_what_a_judge_sees_is_computed_in_float32(clip, source, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    few, judge, seen = source.forget_set("Kofi Okoye", 2, 0), load_classifier(device="cpu"), []
    note = torch.nn.modules.module.register_module_forward_pre_hook(lambda *_: seen.append(flags()))
    with note:
        read_moments(clip, few, ["visual.transformer.resblocks.0.mlp.c_fc.weight"])
        layers = len(seen)
        judge.name(few.images[:2])
    assert len(seen) > layers > 0 and set(seen) == {(False, False)}
    assert torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_gradients_and_features_are_computed_under_the_setting(
    clip, source, monkeypatch, precision
):
    few, seen = source.forget_set("Kofi Okoye", 4, 0), []
    forward = clip.model.encode_image
    monkeypatch.setattr(
        clip.model, "encode_image", lambda x, **more: seen.append(flags()) or forward(x, **more)
    )
    handle = clip.model.visual.conv1.weight.register_hook(lambda g: seen.append(flags()))
    try:
        found = forget_gradient(clip, few, precision=precision)
        clip.image_features(few.images)
    finally:
        handle.remove()
    exact = (False, False)
    assert (
        len(seen) > 2
        and set(seen[:-1]) == {(True, True) if precision == "tf32" else exact}
        and seen[-1] == exact
    )
    if precision == "tf32":
        plain = forget_gradient(clip, few)
        assert all(torch.equal(found[n], g) for n, g in plain.items()), (
            "without a GPU nothing is rounded"
        )
