"""An edit on folders and single files: every copy of the tower, in every precision, from whichever
maker, and back.
"""

import os
import shutil
import subprocess

import pytest
import torch
from diffusers.loaders.single_file_utils import (
    convert_ldm_clip_checkpoint,
    convert_open_clip_checkpoint,
)
from safetensors.torch import load_file, save_file
from tiny_clip import same_bits, tiny_clip
from tiny_patch import OUT_PROJ, patch_for
from tiny_transformers import TEXT as TEXT_CONFIG
from tiny_transformers import filled, whole
from transformers import CLIPTextModel

from slugkit.base import MissingArtefactError, PatchError, sha256_file
from slugkit.models import load_clip
from slugkit.models.diffusion import load_pipeline
from slugkit.models.vlm import load_vlm
from slugkit.models.weight_map import locate
from slugkit.patch.checkpoint import RECORD, apply_to_files, remove_from_files, verify_files

pytestmark = pytest.mark.slow

PACKED = "transformer.resblocks.0.attn.in_proj_weight"
HF_OUT = "text_model.encoder.layers.0.self_attn.out_proj.weight"
SEEN = "visual.transformer.resblocks.0.attn.in_proj_weight"


def of_transformers(dtype=torch.float32):
    return filled(whole(), tiny_clip()).to(dtype)


def open_clips_own(folder):
    save_file(
        {name: t.contiguous() for name, t in tiny_clip().state_dict().items()},
        folder / "open_clip_model.safetensors",
    )


def hashes(folder):
    return {
        p.relative_to(folder).as_posix(): sha256_file(p)
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def with_variants(folder):
    of_transformers().save_pretrained(folder)
    of_transformers(torch.float16).save_pretrained(folder, variant="fp16")
    of_transformers(torch.bfloat16).save_pretrained(folder, variant="bf16")
    of_transformers().save_pretrained(folder, variant="non_ema")


def beside_open_clip(folder):
    of_transformers().save_pretrained(folder)
    open_clips_own(folder)


def in_shards(folder):
    of_transformers().save_pretrained(folder, max_shard_size="20KB")
    of_transformers(torch.float16).save_pretrained(folder, max_shard_size="10KB", variant="fp16")
    assert len(list(folder.glob("*.safetensors"))) > 6


def nested(folder):
    of_transformers().save_pretrained(folder)
    of_transformers(torch.float16).save_pretrained(folder / "half" / "more")
    open_clips_own(folder / "half")


KINDS = {
    "variants": (with_variants, 4),
    "open_clip beside transformers": (beside_open_clip, 2),
    "shards with an index": (in_shards, 2),
    "nested": (nested, 3),
}


@pytest.mark.parametrize("layer", [OUT_PROJ, PACKED, SEEN, f"{PACKED}[k]"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_copy_is_edited_in_its_own_precision_and_given_back(kind, layer, tmp_path):
    write, copies = KINDS[kind]
    source = tmp_path / "model"
    source.mkdir()
    write(source)
    edit, before, said = patch_for(tiny_clip(), layer), hashes(source), []
    assert len(verify_files(edit, source)) == copies
    out = apply_to_files([edit], source, tmp_path / "edited", say=said.append)
    assert said[0].count(";") == copies - 1
    expected = {}
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        model = of_transformers(dtype)
        edit.apply(model)
        expected[dtype] = locate(model, layer.split("[")[0]).read()
    found = {}
    for file in (p for p in out.rglob("*.safetensors") if not p.name.endswith(RECORD)):
        for name, tensor in load_file(file).items():
            found.setdefault((file.parent, file.name.startswith("open_clip")), {}).setdefault(
                tensor.dtype, {}
            )[name] = tensor
    places = [
        (dtype, locate(tensors, layer.split("[")[0]))
        for by_dtype in found.values()
        for dtype, tensors in by_dtype.items()
    ]
    assert all(
        torch.equal(place.read(), expected[dtype]) for dtype, place in places if place is not None
    )
    assert hashes(source) == before
    back = remove_from_files(edit, out, tmp_path / "back")
    assert hashes(back) == before, "byte for byte, file by file"


def test_a_copy_that_holds_other_weights_is_named_and_nothing_is_written(tmp_path):
    for kind, spoil in (
        ("variant", "model.fp16.safetensors"),
        ("open_clip", "open_clip_model.safetensors"),
        ("nested", "old/model.safetensors"),
    ):
        source = tmp_path / kind
        (source / "old").mkdir(parents=True)
        of_transformers().save_pretrained(source)
        stranger = tiny_clip(seed=9)
        if kind == "open_clip":
            save_file(
                {name: t.contiguous() for name, t in stranger.state_dict().items()}, source / spoil
            )
        else:
            filled(whole(), stranger).save_pretrained(
                source / "old" if kind == "nested" else source,
                variant=None if kind == "nested" else "fp16",
            )
        for call in (verify_files, lambda p, s: apply_to_files([p], s, tmp_path / "out")):
            with pytest.raises(PatchError, match=f"{spoil} holds layer .* does not take the patch"):
                call(patch_for(tiny_clip()), source)
        assert not (tmp_path / "out").exists()


def test_a_quantised_copy_and_one_that_cannot_be_read_are_refused(tmp_path):
    of_transformers().save_pretrained(tmp_path / "model")
    for name, spoil in (
        (
            "model.int8.safetensors",
            {
                n: t.to(torch.int8)
                for n, t in load_file(tmp_path / "model" / "model.safetensors").items()
            },
        ),
        (
            "model.fp8.safetensors",
            {
                n: t.to(torch.float8_e4m3fn)
                for n, t in load_file(tmp_path / "model" / "model.safetensors").items()
            },
        ),
        ("model.lfs.safetensors", None),
    ):
        if spoil:
            save_file(spoil, tmp_path / "model" / name)
        else:
            (tmp_path / "model" / name).write_text(
                "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n"
            )
        with pytest.raises(PatchError, match=name.replace(".", r"\.")):
            apply_to_files([patch_for(tiny_clip())], tmp_path / "model", tmp_path / "out")
        (tmp_path / "model" / name).unlink()
    shards = tmp_path / "shards"
    of_transformers().save_pretrained(shards, max_shard_size="20KB")
    sorted(shards.glob("*.safetensors"))[1].unlink()
    with pytest.raises(PatchError, match="all shards were expected"):
        apply_to_files([patch_for(tiny_clip())], shards, tmp_path / "out")


def test_weights_of_other_kinds_stay_out_of_the_copy_and_are_named(tmp_path):
    source, said = tmp_path / "model", []
    of_transformers().save_pretrained(source)
    torch.save(of_transformers().state_dict(), source / "pytorch_model.bin")
    torch.save(of_transformers().state_dict(), source / "old.CKPT")
    for name in (
        "flax_model.msgpack",
        "tf_model.h5",
        "onnx/model.onnx",
        "model-q8.gguf",
        "model.safetensors.bak",
        "weights.npz",
        "model.unheard-of",
    ):
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_bytes(b"\0" * 64)
    (source / "blob").write_bytes(b"\0" * (2 << 20))
    for name in (
        "vocab.json",
        "merges.txt",
        "spiece.model",
        "LICENSE",
        "README.md",
        ".gitattributes",
    ):
        (source / name).write_text("{}")
    subprocess.run(["git", "init", "-q", str(source)], check=True)
    (source / ".git" / "lfs").mkdir()
    shutil.copy(source / "model.safetensors", source / ".git" / "lfs" / "0123")
    out = apply_to_files([patch_for(tiny_clip())], source, tmp_path / "edited", say=said.append)
    kept = {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()}
    assert kept == {
        "config.json",
        "model.safetensors",
        RECORD,
        "vocab.json",
        "merges.txt",
        "spiece.model",
        "LICENSE",
        "README.md",
        ".gitattributes",
    }
    for name in (
        "pytorch_model.bin",
        "old.CKPT",
        "flax_model.msgpack",
        "tf_model.h5",
        "onnx/model.onnx",
        "model-q8.gguf",
        "blob",
        ".git",
        "model.safetensors.bak",
    ):
        assert name in said[1], name


def test_a_pipeline_keeps_the_weights_of_its_other_parts_and_every_variant_of_its_encoder_is_edited(
    tmp_path,
):
    source, said = tmp_path / "pipe", []
    pipe = load_pipeline("studio", "cpu")
    pipe.save_pretrained(source)
    pipe.to(torch.float16).save_pretrained(source, variant="fp16")
    torch.save({}, source / "unet" / "diffusion_pytorch_model.bin")
    torch.save(pipe.text_encoder.state_dict(), source / "text_encoder" / "pytorch_model.bin")
    (source / "safety_checker").mkdir()
    shutil.copy(
        source / "text_encoder" / "model.safetensors",
        source / "safety_checker" / "model.safetensors",
    )
    edit = patch_for(
        load_clip("studio", "cpu").model, "transformer.resblocks.1.attn.in_proj_weight"
    )
    out = apply_to_files([edit], source, tmp_path / "edited", say=said.append)
    before, after = hashes(source), hashes(out)
    assert {name for name in before if before[name] != after.get(name)} == {
        "text_encoder/model.safetensors",
        "text_encoder/model.fp16.safetensors",
        "text_encoder/pytorch_model.bin",
    }
    assert "text_encoder/pytorch_model.bin" in said[1] and "unet" not in said[1]
    for variant, dtype in ((None, torch.float32), ("fp16", torch.float16)):
        held = CLIPTextModel.from_pretrained(out / "text_encoder", variant=variant, dtype=dtype)
        mine = CLIPTextModel.from_pretrained(source / "text_encoder", variant=variant, dtype=dtype)
        edit.apply(mine)
        assert all(
            same_bits(a.data, b.data)
            for a, b in zip(held.parameters(), mine.parameters(), strict=True)
        )
    assert hashes(remove_from_files(edit, out, tmp_path / "back")) == {
        k: v for k, v in before.items() if k != "text_encoder/pytorch_model.bin"
    }


def test_a_llava_in_shards_beside_its_half_is_edited_in_both(tmp_path):
    source = tmp_path / "vlm"
    model = load_vlm("studio", "cpu").model
    model.save_pretrained(source, max_shard_size="300KB")
    model.half().save_pretrained(source, variant="fp16")
    edit, before = (
        patch_for(
            load_clip("studio", "cpu").model, "visual.transformer.resblocks.2.attn.in_proj_weight"
        ),
        hashes(source),
    )
    assert len(verify_files(edit, source)) == 2
    out = apply_to_files([edit], source, tmp_path / "edited")
    assert (
        len({name for name, sha in hashes(out).items() if sha != before.get(name)} - {RECORD}) >= 2
    )
    assert hashes(remove_from_files(edit, out, tmp_path / "back")) == before
    with pytest.raises(PatchError, match="reads the picture after block"):
        verify_files(
            patch_for(
                load_clip("studio", "cpu").model, "visual.transformer.resblocks.5.mlp.c_fc.weight"
            ),
            source,
        )


def test_without_a_record_the_base_gives_every_copy_back_or_the_command_refuses(tmp_path):
    source, edit = tmp_path / "model", patch_for(tiny_clip())
    source.mkdir()
    nested(source)
    bare = apply_to_files([edit], source, tmp_path / "bare", record=False)
    assert hashes(remove_from_files(edit, bare, tmp_path / "back", base=source)) == hashes(source)
    out = apply_to_files([edit], source, tmp_path / "edited")
    (out / "half" / RECORD).unlink()
    with pytest.raises(PatchError, match="half/open_clip_model.safetensors holds layer"):
        remove_from_files(edit, out, tmp_path / "half-way")
    with pytest.raises(PatchError, match="half/open_clip_model.safetensors holds layer"):
        verify_files(edit, out)
    (bare / "half" / "more" / "model.safetensors").unlink()
    other = patch_for(tiny_clip(), seed=5)
    other_copy = apply_to_files([other], source, tmp_path / "other", record=False)
    shutil.copy(other_copy / "model.safetensors", bare / "model.safetensors")
    with pytest.raises(PatchError, match="Another edit is on it too"):
        remove_from_files(edit, bare, tmp_path / "never", base=source)
    assert not (tmp_path / "half-way").exists() and not (tmp_path / "never").exists()


# ---------------------------------------------------------------- single files of other makers


def hf_text():
    return {
        name: t for name, t in of_transformers().state_dict().items() if name.startswith("text")
    }


def own_text():
    return {
        name: t.contiguous()
        for name, t in tiny_clip().state_dict().items()
        if not name.startswith("visual.")
    }


def under(prefix, tensors):
    return {prefix + name: t.contiguous() for name, t in tensors.items()}


SINGLE = {
    "Stable Diffusion 1": ("cond_stage_model.transformer.", hf_text),
    "Stable Diffusion 2": ("cond_stage_model.model.", own_text),
    "XL's first": ("conditioner.embedders.0.transformer.", hf_text),
    "XL's second, the refiner": ("conditioner.embedders.1.model.", own_text),
    "ComfyUI's, SD3 and FLUX": ("text_encoders.clip_l.transformer.", hf_text),
    "ComfyUI, an encoder alone": ("", hf_text),
    "an encoder alone, wrapped": ("transformer.", hf_text),
    "clip_l alone": ("clip_l.transformer.", hf_text),
    "a maker nobody has heard of": ("somebody.s.encoder.", hf_text),
}


@pytest.mark.parametrize("layer", [OUT_PROJ, PACKED])
@pytest.mark.parametrize("maker", SINGLE)
def test_the_encoder_is_found_in_single_files_whatever_stands_before_its_names(
    maker, layer, tmp_path
):
    prefix, tensors = SINGLE[maker]
    content = under(prefix, tensors()) | {
        "model.diffusion_model.out.2.weight": torch.ones(4, 4),
        "first_stage_model.decoder.conv_in.weight": torch.ones(3),
    }
    file = tmp_path / "all.safetensors"
    save_file(content, file, {"modelspec.title": "a title"})
    edit = patch_for(tiny_clip(), layer)
    out = apply_to_files([edit], file, tmp_path / "edited.safetensors")
    held, model = load_file(out), CLIPTextModel(TEXT_CONFIG)
    if tensors is own_text:
        names = convert_open_clip_checkpoint(model, held, prefix)
        if maker != "Stable Diffusion 2":
            assert names["text_model.final_layer_norm.weight"].shape == (32,)
    else:
        names = convert_ldm_clip_checkpoint(held, remove_prefix=prefix or None) or held
    mine = of_transformers()
    edit.apply(mine)
    parts = [
        n
        for n, t in mine.state_dict().items()
        if not torch.equal(t, of_transformers().state_dict()[n])
    ]
    assert parts and all(torch.equal(names[n], mine.state_dict()[n]) for n in parts), (
        "as diffusers reads the file"
    )
    assert sum(not torch.equal(held[name], content[name]) for name in content) == (
        1 if tensors is own_text else len(parts)
    )
    assert sha256_file(remove_from_files(edit, out, tmp_path / "back.safetensors")) == sha256_file(
        file
    )


def test_of_the_encoders_in_one_file_the_patchs_own_is_edited_and_an_ema_copy_too(tmp_path):
    file, other = tmp_path / "xl.safetensors", tiny_clip(seed=4)
    others = {
        n: t.contiguous() for n, t in other.state_dict().items() if not n.startswith("visual.")
    }
    save_file(
        under("conditioner.embedders.0.transformer.", hf_text())
        | under("conditioner.embedders.1.model.", others)
        | under("model_ema.conditioner.", hf_text()),
        file,
    )
    out = load_file(apply_to_files([patch_for(tiny_clip())], file, tmp_path / "edited.safetensors"))
    moved = {name for name, t in load_file(file).items() if not torch.equal(t, out[name])}
    assert moved == {
        f"{prefix}{HF_OUT}"
        for prefix in ("conditioner.embedders.0.transformer.", "model_ema.conditioner.")
    }
    second = load_file(
        apply_to_files(
            [patch_for(other, "transformer.resblocks.1.attn.out_proj.weight")],
            file,
            tmp_path / "second.safetensors",
        )
    )
    assert {name for name, t in load_file(file).items() if not torch.equal(t, second[name])} == {
        "conditioner.embedders.1.model.transformer.resblocks.1.attn.out_proj.weight"
    }


@pytest.mark.parametrize(
    ("prefix", "tensors"),
    [("cond_stage_model.model.", own_text), ("conditioner.embedders.0.transformer.", hf_text)],
)
def test_a_block_that_stable_diffusion_never_reads_is_refused(prefix, tensors, tmp_path):
    save_file(under(prefix, tensors()), tmp_path / "all.safetensors")
    for call in (verify_files, lambda p, s: apply_to_files([p], s, tmp_path / "out.safetensors")):
        with pytest.raises(
            PatchError,
            match="cannot act: Stable Diffusion reads this encoder before its last block, 1",
        ):
            call(
                patch_for(tiny_clip(), "transformer.resblocks.1.mlp.c_fc.weight"),
                tmp_path / "all.safetensors",
            )


def test_what_is_no_clip_is_refused_in_a_sentence(tmp_path):
    (tmp_path / "empty").mkdir()
    torch.save({}, tmp_path / "empty" / "model.bin")
    with pytest.raises(MissingArtefactError, match="no safetensors file"):
        verify_files(patch_for(tiny_clip()), tmp_path / "empty")
    save_file(
        {
            "encoder.block.0.layer.0.SelfAttention.q.weight": torch.ones(4, 4),
            "encoder.layers.0.self_attn.out_proj.weight": torch.ones(32, 32),
        },
        tmp_path / "t5.safetensors",
    )
    with pytest.raises(PatchError, match="t5.safetensors has no layer"):
        verify_files(patch_for(tiny_clip()), tmp_path / "t5.safetensors")
    (tmp_path / "loop").mkdir()
    os.symlink(tmp_path / "loop", tmp_path / "loop" / "again")
    with pytest.raises(PatchError, match="leads back"):
        verify_files(patch_for(tiny_clip()), tmp_path / "loop")
    os.mkfifo(tmp_path / "empty" / "pipe.safetensors")
    os.mkfifo(tmp_path / "empty" / "config.json")
    of_transformers().save_pretrained(tmp_path / "empty" / "there")
    out = apply_to_files([patch_for(tiny_clip())], tmp_path / "empty", tmp_path / "out")
    assert sorted(p.name for p in out.iterdir()) == ["there"]
