"""Gradients of pictures on disk, in chunks, in half precision, by several processes, and as files
that are joined.
"""

import copy
import dataclasses
import subprocess
import sys
import threading
import time

import pytest
import torch
from picture_files import whole_files
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from slugkit.base import (
    GradientError,
    MissingArtefactError,
    SettingError,
    UnreadableImagesError,
    write_tensors,
)
from slugkit.data import Pairs
from slugkit.data.pictures import Pictures
from slugkit.method.layers import candidates, layer_table
from slugkit.method.ranking import cosine, importance
from slugkit.models import memory
from slugkit.unlearning.gradient_files import join_safetensors
from slugkit.unlearning.gradients import Ahead, forget_gradient, gradient_of, retain_gradient
from slugkit.unlearning.losses import batches, micro_batches
from slugkit.unlearning.workers import gradients_by_workers


@pytest.fixture(scope="module")
def forget(source):
    return source.forget_set("Mira Kestrel", 24, 0)


@pytest.fixture(scope="module")
def retain(source):
    return source.retain_set("Mira Kestrel", 40, 0)


@pytest.fixture(scope="module")
def g_retain(clip, retain):
    return retain_gradient(clip, retain, 8)


@pytest.fixture
def on_disk(forget, tmp_path):
    files = [tmp_path / f"{k}.png" for k in range(12)]
    for file, image in zip(files, forget.images, strict=False):
        Image.fromarray(image).save(file)
    return files, Pairs(Pictures(whole_files(files), 64), forget.table.iloc[:12])


def farthest(found, expected):
    """The largest relative difference over all layers; of the logit scale, a scalar sum of terms
    that cancel, the absolute one.
    """
    assert set(found) == set(expected)
    apart = {n: (found[n] - g).norm().item() for n, g in expected.items() if g.norm() > 0}
    return max(
        far if n == "logit_scale" else far / expected[n].norm().item() for n, far in apart.items()
    )


# -- streaming -------------------------------------------------------------------------------------


def test_pictures_on_disk_give_the_gradient_of_pictures_in_memory(clip, forget, on_disk):
    found, expected = (
        forget_gradient(clip, pairs, 4) for pairs in (on_disk[1], forget.take(range(12)))
    )
    assert all(torch.equal(found[n], expected[n]) for n in expected)


def test_one_batch_is_decoded_ahead_in_the_background_and_no_more(on_disk):
    files, pairs = on_disk
    coming = iter(Ahead(lambda part: part.images[:], batches(pairs, 4)))
    assert next(coming).shape == (4, 64, 64, 3)
    assert any(thread.name.startswith("ahead") for thread in threading.enumerate())
    time.sleep(0.5)
    for file in files[4:]:
        file.unlink()
    assert next(coming).shape == (4, 64, 64, 3), "decoded while the first was worked on"
    with pytest.raises(UnreadableImagesError, match="8.png"):
        next(coming)


def test_a_frozen_weight_has_no_gradient_and_stays_frozen(clip, forget):
    weight = clip.model.get_parameter("visual.proj")
    weight.requires_grad_(False)
    try:
        found = forget_gradient(clip, forget, 24)
        assert (
            found["visual.proj"].norm() == 0
            and found["text_projection"].norm() > 0
            and not weight.requires_grad
        )
    finally:
        weight.requires_grad_(True)


# -- chunks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [3, 8, 100])
def test_a_chunked_micro_batch_has_the_gradient_of_the_whole(clip, retain, chunk):
    whole = retain_gradient(clip, retain, 40)
    assert farthest(retain_gradient(clip, retain, 40, chunk=chunk), whole) < 1e-5
    assert farthest(retain_gradient(clip, retain, 8), whole) > 0.01, (
        "smaller micro-batches are another loss"
    )


def test_a_chunk_of_the_forget_loss_is_a_smaller_batch(clip, forget):
    assert (
        farthest(forget_gradient(clip, forget, 24, chunk=5), forget_gradient(clip, forget, 24))
        < 1e-5
    )


def test_chunks_reach_one_tower_alone_too(clip, retain):
    whole = retain_gradient(clip, retain, 40)["text_projection"]
    found = retain_gradient(clip, retain, 40, chunk=16, weights=["text_projection"])
    assert list(found) == ["text_projection"] and farthest(found, {"text_projection": whole}) < 1e-5


def test_settings_out_of_range_are_refused(clip, retain):
    with pytest.raises(SettingError, match="chunk is 0"):
        retain_gradient(clip, retain, 8, chunk=0)
    with pytest.raises(SettingError, match="fp32, tf32, bf16, fp16"):
        retain_gradient(clip, retain, 8, precision="half")


def test_micro_batches_that_go_through_the_towers_together_keep_their_own_losses(clip, source):
    retain = source.retain_set("Mira Kestrel", 100, 0)  # micro-batches of 8, the last one of 4
    apart = retain_gradient(clip, retain, 8, chunk=8)
    seen = []
    for chunk in (16, 40, 64, 1000):
        seen.append(farthest(retain_gradient(clip, retain, 8, chunk=chunk), apart))
    assert max(seen) < 1e-5 and farthest(retain_gradient(clip, retain, 16), apart) > 0.01


def test_as_many_go_together_as_the_memory_plan_allows(clip, retain, monkeypatch):
    sizes = []
    forward = clip.model.encode_image
    monkeypatch.setattr(
        clip.model, "encode_image", lambda x, **more: sizes.append(len(x)) or forward(x, **more)
    )
    for free, largest in ((10**11, 40), (3 * 10**8, 24), (10**6, 8)):
        monkeypatch.setattr(memory, "free_memory", lambda device, free=free: free)
        sizes.clear()
        retain_gradient(clip, retain, 8)
        assert max(sizes) <= largest and max(sizes) % 8 == 0, (free, sizes)
    assert pairs_at(clip, 10**11, monkeypatch) > pairs_at(clip, 3 * 10**8, monkeypatch) >= 8


def pairs_at(clip, free, monkeypatch):
    """Pairs encoded together in micro-batches of 8 with so many bytes free."""
    monkeypatch.setattr(memory, "free_memory", lambda device: free)
    return memory.pairs_together(clip, 8)


# -- precision -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "precision, least, share", [("bf16", 0.999, 0.01), ("fp16", 0.9999, 0.002)]
)
def test_half_precision_keeps_direction_and_importance(clip, forget, precision, least, share):
    few = forget.take(range(6))
    found, expected = (forget_gradient(clip, few, precision=precision), forget_gradient(clip, few))
    weights = dict(clip.model.named_parameters())
    assert farthest(found, expected) > 1e-5, "something was computed in half precision"
    for layer in candidates(layer_table(clip.model)):
        assert (
            found[layer].dtype == torch.float32 and cosine(found[layer], expected[layer]) > least
        ), layer
        assert importance(found[layer], weights[layer]) == pytest.approx(
            importance(expected[layer], weights[layer]), rel=share
        ), layer


def test_fp16_lowers_its_scale_until_nothing_overflows(clip, forget, monkeypatch):
    from slugkit.unlearning import gradients as accumulate

    few = forget.take(range(4))
    monkeypatch.setattr(accumulate, "FP16_SCALES", (2.0**40, 2.0**10, 1.0))
    assert farthest(forget_gradient(clip, few, precision="fp16"), forget_gradient(clip, few)) < 0.01


def test_chunks_and_the_scale_of_fp16_go_together(clip, retain):
    few = retain.take(range(6))
    found = retain_gradient(clip, few, 6, precision="fp16", chunk=4)
    assert farthest(found, retain_gradient(clip, few, 6)) < 0.02


def test_weights_in_half_precision_are_summed_in_float32(clip, forget):
    half = dataclasses.replace(clip, model=copy.deepcopy(clip.model).bfloat16())
    parts = micro_batches(forget.take(range(12)), "forget", 3)
    found = gradient_of(half, "forget", forget, parts, chunk=3)
    singles = [gradient_of(half, "forget", forget, [part]) for part in parts]
    assert {g.dtype for g in found.values()} == {torch.float32}
    for name in ("visual.proj", "text_projection"):
        assert torch.allclose(
            found[name], torch.stack([g[name] for g in singles]).mean(0), rtol=1e-5, atol=1e-9
        )


# -- several processes -----------------------------------------------------------------------------


def test_two_processes_give_the_gradient_of_one_over_five_micro_batches(
    clip, retain, g_retain, tmp_path
):
    retain.save(tmp_path, "retain")
    assert len(micro_batches(retain, "retain", 8)) == 5
    out = tmp_path / "gradients" / "retain.safetensors"
    found = gradients_by_workers(
        "studio", tmp_path, "retain", "retain", 2, 8, device="cpu", out=out
    )
    assert farthest(found, g_retain) < 1e-5 and farthest(load_file(out), g_retain) < 1e-5
    assert list(tmp_path.glob("gradients/*")) == [out]


def test_of_four_processes_on_a_cpu_the_one_without_a_micro_batch_adds_nothing(
    clip, forget, tmp_path
):
    forget.save(tmp_path, "forget")
    assert len(micro_batches(forget, "forget", 8)) == 3
    out, several = (
        tmp_path / "forget.safetensors",
        ["--multi_gpu", "--num_processes", "4", "--num_machines", "1", "--main_process_port", "0"],
    )
    subprocess.run(
        [
            sys.executable,
            "-m",
            "accelerate.commands.launch",
            *several,
            "--mixed_precision",
            "no",
            "--dynamo_backend",
            "no",
            "-m",
            "slugkit.unlearning.workers",
            "--model",
            "studio",
            "--folder",
            tmp_path,
            "--name",
            "forget",
            "--kind",
            "forget",
            "--batch-size",
            "8",
            "--device",
            "cpu",
            "--out",
            out,
        ],
        check=True,
    )
    with safe_open(out, "pt") as file:
        assert file.metadata()["workers"] == "4"
    assert farthest(load_file(out), forget_gradient(clip, forget, 24)) < 1e-5


def test_what_fails_in_a_worker_comes_back_as_one_error(on_disk, tmp_path):
    files, pairs = on_disk
    pairs.save(tmp_path, "forget")
    files[7].write_bytes(b"no picture")
    with pytest.raises(
        GradientError,
        match=(
            r"(?s)A worker of the forget gradient failed: The picture in .*7\.png.* cannot be"
            r" decoded.*Nothing was written"
        ),
    ):
        gradients_by_workers(
            "studio",
            tmp_path,
            "forget",
            "forget",
            2,
            4,
            device="cpu",
            out=tmp_path / "g.safetensors",
        )
    assert not (tmp_path / "g.safetensors").exists()


def test_what_can_be_known_before_is_refused_before(tmp_path):
    with pytest.raises(SettingError, match="workers is 0"):
        gradients_by_workers("studio", tmp_path, "forget", "forget", 0, device="cpu")
    with pytest.raises(MissingArtefactError, match="forget.parquet"):
        gradients_by_workers("studio", tmp_path, "forget", "forget", 2, device="cpu")


# -- files -----------------------------------------------------------------------------------------


def test_joined_files_hold_every_tensor_under_its_prefix(tmp_path):
    first = {"a": torch.randn(3, 5), "b.c": torch.randn(7).bfloat16()}
    second = {"a": torch.randn(2), "scalar": torch.tensor(1.5)}
    files = {"forget": tmp_path / "f.safetensors", "draw1": tmp_path / "d.safetensors"}
    for file, tensors in zip(files.values(), (first, second), strict=True):
        write_tensors(file, tensors)
    found = load_file(join_safetensors(files, tmp_path / "out" / "all.safetensors"))
    expected = {f"forget/{n}": g for n, g in first.items()} | {
        f"draw1/{n}": g for n, g in second.items()
    }
    assert set(found) == set(expected) and all(torch.equal(found[n], expected[n]) for n in expected)


def test_a_broken_part_is_refused_and_nothing_is_written(tmp_path):
    whole = write_tensors(tmp_path / "w.safetensors", {"a": torch.randn(50)})
    short = tmp_path / "s.safetensors"
    short.write_bytes(whole.read_bytes()[:-40])
    text = tmp_path / "t.safetensors"
    text.write_text("no tensors")
    for broken, said in (
        (short, "cut short"),
        (text, "cannot be read as safetensors"),
        (tmp_path / "missing", "cannot be read"),
    ):
        with pytest.raises(GradientError, match=said):
            join_safetensors({"forget": whole, "retain": broken}, tmp_path / "all.safetensors")
    with pytest.raises(GradientError, match="no files to join"):
        join_safetensors({}, tmp_path / "all.safetensors")
    assert not (tmp_path / "all.safetensors").exists()
