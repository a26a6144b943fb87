"""Smaller forms of a patch, sums of patches, records, and edits on files: what they hold, what they
undo, what is refused.
"""

import json
import random
import shutil
import struct

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny_clip import changed, same_bits, state, tiny_clip
from tiny_patch import OUT_PROJ, patch_for

from slugkit import patch
from slugkit.base import EmptySetError, MissingArtefactError, PatchError, SettingError, sha256_file
from slugkit.method.edit import EditableLayer
from slugkit.patch.checkpoint import RECORD, apply_to_files, remove_from_files

VISION = "visual.transformer.resblocks.1.mlp.c_fc.weight"
SIDE = 1024


def large(rank=None):
    draw = torch.Generator().manual_seed(0)
    direction = (
        torch.randn(SIDE, SIDE, generator=draw)
        if rank is None
        else torch.randn(SIDE, rank, generator=draw) @ torch.randn(rank, SIDE, generator=draw)
    )
    return patch.make(
        "x", EditableLayer(torch.randn(SIDE, SIDE, generator=draw), direction), 0.1, "Mira Kestrel"
    )


# ---------------------------------------------------------------- forms


def test_half_precision_takes_two_bytes_a_weight_and_survives_its_file(tmp_path):
    whole = large()
    small = patch.half(whole)
    path = small.save(tmp_path / "half.safetensors")
    assert path.stat().st_size <= 2.1 * SIDE**2
    loaded = patch.load(path)
    assert same_bits(
        loaded.direction, small.direction
    ) and loaded.sha256 == small.sha256 == sha256_file(path)
    assert 0 < loaded.error < 3e-4 and (
        small.direction - whole.direction
    ).norm() / whole.direction.norm() == pytest.approx(loaded.error, rel=1e-3)
    assert loaded.rho == pytest.approx(whole.rho, rel=1e-3) and loaded.form == "fp16"


def test_directions_too_small_for_half_precision_are_scaled_before():
    made = patch_for(tiny_clip())
    tiny = patch.Patch(
        **{
            name: getattr(made, name)
            for name in ("layer", "tower", "lam", "rho", "concept", "base_sha256")
        },
        direction=made.direction * 1e-9,
    )
    assert patch.half(tiny).error < 1e-3
    with pytest.raises(PatchError, match="nothing but zeros"):
        patch.half(
            patch.Patch(
                **{
                    name: getattr(made, name)
                    for name in ("layer", "tower", "lam", "rho", "concept", "base_sha256")
                },
                direction=made.direction * 0,
            )
        )


@pytest.mark.slow
def test_low_rank_is_the_best_of_its_rank_and_small(tmp_path):
    small = patch.low_rank(large(rank=40), 40)
    path = small.save(tmp_path / "low.safetensors")
    assert path.stat().st_size <= 200_000 and patch.load(path).error < 2e-3
    rough = patch.low_rank(large(rank=40), 10)
    values = torch.linalg.svdvals(large(rank=40).direction)
    assert rough.error == pytest.approx(
        float(values[10:].square().sum().sqrt() / values.square().sum().sqrt()), rel=1e-2
    )
    assert rough.rho < large(rank=40).rho and sorted(load_file(path)) == ["left", "right"]
    for rank in (0, SIDE + 1):
        with pytest.raises(SettingError, match="1 to 1024"):
            patch.low_rank(large(rank=2), rank)


@pytest.mark.parametrize(
    "layer",
    [OUT_PROJ, "visual.conv1.weight", "visual.transformer.resblocks.0.attn.in_proj_weight[k]"],
)
@pytest.mark.parametrize("make", [patch.half, lambda p: patch.low_rank(p, 3)])
def test_every_form_applies_and_comes_off(layer, make, tmp_path):
    model = tiny_clip()
    before, small = state(model), make(patch_for(model, layer))
    loaded = patch.load(small.save(tmp_path / "p.safetensors"))
    loaded.apply(model)
    assert (
        changed(before, model) == {layer.split("[")[0]}
        and patch.patches_on(model)[0].sha256 == small.sha256
    )
    small.remove(model)
    assert changed(before, model) == set()
    with loaded.applied(model) as inside:
        assert inside is model and changed(before, model)
    assert changed(before, model) == set()


def test_patches_of_one_layer_add_up_to_what_they_do_together():
    model = tiny_clip()
    one, two = patch_for(model, seed=1), patch_for(model, seed=2, rho=0.3, concept="Kofi Okoye")
    total = patch.add([one, two])
    assert (
        total.concept == "Mira Kestrel and Kofi Okoye"
        and total.provenance["sum_of"] == [one.sha256, two.sha256]
        and not total.metrics
    )
    for p in (one, two):
        p.apply(model)
    together = model.get_parameter(OUT_PROJ).detach().clone()
    for p in (one, two):
        p.remove(model)
    weight = model.get_parameter(OUT_PROJ).detach()
    assert total.rho == pytest.approx(float((together - weight).norm() / weight.norm()), rel=1e-4)
    with total.applied(model):
        assert torch.allclose(model.get_parameter(OUT_PROJ), together, atol=1e-6)
    with pytest.raises(PatchError, match="different layers"):
        patch.add([one, patch_for(model, VISION)])
    with pytest.raises(EmptySetError):
        patch.add([])


@pytest.mark.slow
def test_rho_of_a_layer_as_large_as_a_real_models_token_embedding():
    """Summed in float32 the norm of 25 million weights is off by about one in a thousand, and so
    was the rho of a sum.
    """
    weight = torch.full((49_408, 512), 0.02)
    one, two = (
        patch.make("token_embedding.weight", EditableLayer(weight, weight * size), 0.1 / size, name)
        for size, name in ((0.5, "x"), (0.25, "y"))
    )
    assert patch.add([one, two]).rho == pytest.approx(0.2, rel=1e-6) and patch.half(
        one
    ).rho == pytest.approx(0.1, rel=1e-4)


# ---------------------------------------------------------------- records


def edited(dtype=torch.float32):
    model = tiny_clip().to(dtype)
    before, made = (
        state(model),
        [
            patch_for(model),
            patch_for(model, seed=2, concept="Kofi Okoye"),
            patch_for(model, VISION, seed=3),
        ],
    )
    for p in made:
        p.apply(model)
    return model, before, made


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_record_lets_another_process_take_edits_off(dtype, tmp_path):
    model, before, made = edited(dtype)
    path = patch.save_record(model, tmp_path / "record.safetensors")
    other = tiny_clip().to(dtype)
    other.load_state_dict(state(model))  # as if loaded elsewhere: nothing is known about it
    with pytest.raises(PatchError, match="not applied"):
        made[0].remove(other)
    assert [p.sha256 for p in patch.load_record(path, other)] == [
        p.sha256 for p in patch.patches_on(model)
    ]
    for p in made[::-1]:
        p.remove(other)
    assert changed(before, other) == set()


def test_a_record_of_another_model_or_a_broken_one_is_refused(tmp_path):
    model, _, _ = edited()
    path = patch.save_record(model, tmp_path / "record.safetensors")
    other = tiny_clip()
    before = state(other)
    with pytest.raises(PatchError, match="does not hold what the record says"):
        patch.load_record(path, other)
    data, draw = path.read_bytes(), random.Random(1)
    other.load_state_dict(state(model))
    for place in draw.sample(range(len(data)), 150):
        path.write_bytes(
            data[:place] + bytes([data[place] ^ (1 << draw.randrange(8))]) + data[place + 1 :]
        )
        try:
            patch.load_record(path, other)
        except PatchError:
            continue
        found = {p.sha256 for p in patch.patches_on(other)}
        assert found == {p.sha256 for p in patch.patches_on(model)}, place
    for broken in (b"", data[:100], data[:-3]):
        path.write_bytes(broken)
        with pytest.raises(PatchError, match="no|not a sound record"):
            patch.load_record(path, tiny_clip())
    with pytest.raises(PatchError, match="nothing to record"):
        patch.save_record(tiny_clip(seed=4), tmp_path / "none.safetensors")
    assert changed(before, tiny_clip()) == set()


# ---------------------------------------------------------------- files


@pytest.fixture
def folder(tmp_path):
    where = tmp_path / "model"
    where.mkdir()
    save_file(
        {name: t.contiguous() for name, t in tiny_clip().state_dict().items()},
        where / "open_clip_model.safetensors",
        {"format": "pt"},
    )
    (where / "note.txt").write_text("kept")
    return where


def test_an_edit_on_a_folder_is_the_edit_on_the_model_and_comes_off(folder, tmp_path):
    model, made = tiny_clip(), [patch_for(tiny_clip()), patch_for(tiny_clip(), VISION, seed=3)]
    original = sha256_file(folder / "open_clip_model.safetensors")
    out = apply_to_files(made, folder, tmp_path / "edited")
    for p in made:
        p.apply(model)
    held = load_file(out / "open_clip_model.safetensors")
    assert all(same_bits(held[name], tensor) for name, tensor in model.state_dict().items())
    with safe_open(out / "open_clip_model.safetensors", "pt") as opened:
        assert opened.metadata() == {"format": "pt"}
    assert (out / "note.txt").read_text() == "kept" and sha256_file(
        folder / "open_clip_model.safetensors"
    ) == original
    half_way = remove_from_files(made[0], out, tmp_path / "half-way")
    back = remove_from_files(made[1], half_way, tmp_path / "back")
    first, again = (
        load_file(folder / "open_clip_model.safetensors"),
        load_file(back / "open_clip_model.safetensors"),
    )
    assert (
        all(same_bits(first[name], again[name]) for name in first) and not (back / RECORD).exists()
    )


def test_a_second_edit_on_an_edited_folder_and_the_base_instead_of_a_record(folder, tmp_path):
    made = [patch_for(tiny_clip()), patch_for(tiny_clip(), seed=2, concept="Kofi Okoye")]
    once = apply_to_files(made[:1], folder, tmp_path / "once")
    twice = apply_to_files(made[1:], once, tmp_path / "twice")
    model = tiny_clip()
    for p in made:
        p.apply(model)
    assert same_bits(
        load_file(twice / "open_clip_model.safetensors")[OUT_PROJ],
        model.get_parameter(OUT_PROJ).detach(),
    )
    (once / RECORD).unlink()
    with pytest.raises(PatchError, match="no record of its edits"):
        remove_from_files(made[0], once, tmp_path / "x")
    back = remove_from_files(made[0], once, tmp_path / "back", base=folder)
    assert same_bits(
        load_file(back / "open_clip_model.safetensors")[OUT_PROJ],
        tiny_clip().get_parameter(OUT_PROJ).detach(),
    )
    (twice / RECORD).unlink()
    with pytest.raises(PatchError, match="Another edit is on it too"):
        remove_from_files(made[0], twice, tmp_path / "y", base=folder)
    assert not (tmp_path / "x").exists() and not (tmp_path / "y").exists()


def test_one_file_alone_and_several_shards(folder, tmp_path):
    made, tensors = patch_for(tiny_clip()), load_file(folder / "open_clip_model.safetensors")
    out = apply_to_files(
        [made], folder / "open_clip_model.safetensors", tmp_path / "edited.safetensors"
    )
    assert (tmp_path / f"edited-{RECORD}").is_file() and not same_bits(
        load_file(out)[OUT_PROJ], tensors[OUT_PROJ]
    )
    back = remove_from_files(made, out, tmp_path / "back.safetensors")
    assert same_bits(load_file(back)[OUT_PROJ], tensors[OUT_PROJ])
    shards = tmp_path / "shards"
    shards.mkdir()
    names = sorted(tensors)
    for k in range(3):
        save_file({name: tensors[name] for name in names[k::3]}, shards / f"model-{k}.safetensors")
    cut = apply_to_files([made], shards, tmp_path / "cut", record=False)
    moved = [
        name
        for name in names
        for k in range(3)
        if name in load_file(cut / f"model-{k}.safetensors")
        and not same_bits(load_file(cut / f"model-{k}.safetensors")[name], tensors[name])
    ]
    assert moved == [OUT_PROJ] and not (cut / RECORD).exists()


def test_what_cannot_be_edited_on_files_is_refused_and_nothing_is_left(folder, tmp_path):
    made = patch_for(tiny_clip())
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(MissingArtefactError, match="no safetensors file"):
        apply_to_files([made], empty, tmp_path / "out")
    with pytest.raises(SettingError, match="is there already"):
        apply_to_files([made], folder, empty)
    with pytest.raises(PatchError, match="not the weight that the patch"):
        apply_to_files([patch_for(tiny_clip(seed=5))], folder, tmp_path / "out")
    (folder / "open_clip_model.safetensors").write_bytes(
        (folder / "open_clip_model.safetensors").read_bytes()[:-8]
    )
    with pytest.raises(PatchError, match="cannot be read"):
        apply_to_files([made], folder, tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "model"]


# ---------------------------------------------------------------- broken files, by the thousand


def broken_copies(data, count, seed):
    """Copies of a patch file with bits flipped, bytes cut, doubled, overwritten, or a header of
    another length.
    """
    draw = random.Random(seed)
    for _ in range(count):
        copy = bytearray(data)
        for _ in range(draw.randint(1, 3)):
            place, way = (
                (
                    draw.randrange(len(copy))
                    if draw.random() < 0.5
                    else draw.randrange(min(len(copy), 2500))
                ),
                draw.randrange(5),
            )
            if way == 0:
                copy[place] ^= 1 << draw.randrange(8)
            elif way == 1:
                del copy[place : place + draw.choice((1, 7, 1000, len(copy)))]
            elif way == 2:
                copy[place:place] = copy[place : place + draw.choice((1, 8, 300))]
            elif way == 3:
                copy[place : place + 8] = draw.randbytes(8)
            else:
                copy[:8] = struct.pack(
                    "<Q", draw.choice((0, 1, 8, 2**31, 2**63, len(copy), draw.randrange(1, 4000)))
                )
            copy = copy or bytearray(b"\0")
        yield bytes(copy)


@pytest.mark.parametrize(
    "make",
    [lambda p: p, patch.half, lambda p: patch.low_rank(p, 4)],
    ids=["fp32", "fp16", "low rank"],
)
def test_2400_broken_files_give_a_patch_error_or_the_same_patch(make):
    small = make(patch_for(tiny_clip()))
    data, refused = small.content(), 0
    for copy in broken_copies(data, 800, 7):
        try:
            assert patch.format.loads(copy).sha256 == small.sha256
        except PatchError as error:
            refused, text = refused + 1, str(error)
            assert "Nothing was changed" in text and len(text) < 1000
    assert refused > 700


def test_a_file_that_would_unfold_into_more_than_memory_is_refused_before():
    header, body = patch.low_rank(patch_for(tiny_clip()), 1).content(), None
    size = struct.unpack("<Q", header[:8])[0]
    record = json.loads(json.loads(header[8 : 8 + size])["__metadata__"]["slugkit"])
    record["shape"] = [1 << 24, 1 << 24]
    from safetensors.torch import save as bytes_of

    from slugkit.base import sha256_json, sha256_tensor

    tensors = {"left": torch.ones(1 << 10, 1).half(), "right": torch.ones(1, 1 << 10).half()}
    record["tensors_sha256"] = {name: sha256_tensor(t) for name, t in tensors.items()}
    record["checksum"] = sha256_json({k: v for k, v in record.items() if k != "checksum"})
    body = bytes_of(tensors, {"slugkit": json.dumps(record)})
    with pytest.raises(PatchError, match="more than any patch needs"):
        patch.format.loads(body)


@given(
    concept=st.text(max_size=40),
    note=st.recursive(
        st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=9),
        lambda kids: (
            st.lists(kids, max_size=3) | st.dictionaries(st.text(max_size=5), kids, max_size=3)
        ),
        max_leaves=6,
    ),
)
@settings(max_examples=60, deadline=None)
def test_whatever_text_the_metadata_hold_it_is_only_text(concept, note):
    made = patch_for(tiny_clip(), concept=concept, provenance={"note": note})
    assert patch.format.loads(made.content()).concept == concept and patch.format.loads(
        made.content()
    ).provenance == {"note": note}


def test_no_copy_is_left_where_writing_fails(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(
        shutil, "copytree", lambda *a, **k: (_ for _ in ()).throw(OSError("disk full"))
    )
    with pytest.raises(OSError, match="disk full"):
        apply_to_files([patch_for(tiny_clip())], folder, tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model"]


def test_the_command_line_applies_removes_adds_and_packs(folder, tmp_path):
    from typer.testing import CliRunner

    from slugkit.workbook import cli

    def run(*words):
        return CliRunner().invoke(cli.app, ["patch", *map(str, words)])

    one, two = (
        patch_for(tiny_clip(), seed=k, concept=c).save(tmp_path / f"{k}.safetensors")
        for k, c in ((1, "Mira Kestrel"), (2, "Kofi Okoye"))
    )
    applied = run("apply", one, two, "--model", folder, "--out", tmp_path / "edited")
    assert (
        applied.exit_code == 0 and "with the edits for Mira Kestrel, Kofi Okoye" in applied.output
    )
    assert (
        run("remove", two, "--model", tmp_path / "edited", "--out", tmp_path / "one").exit_code == 0
    )
    assert (
        run("remove", one, "--model", tmp_path / "one", "--out", tmp_path / "none").exit_code == 0
    )
    original = load_file(folder / "open_clip_model.safetensors")
    assert all(
        same_bits(original[name], tensor)
        for name, tensor in load_file(tmp_path / "none" / "open_clip_model.safetensors").items()
    )
    assert (
        run("verify", one, "--model", folder).exit_code == 0
        and "fits" in run("verify", one, "--model", tmp_path / "none").output
    )
    assert (
        "forgets Mira Kestrel and Kofi Okoye"
        in run("add", one, two, "--out", tmp_path / "sum.safetensors").output
    )
    assert (
        "fp16" in run("pack", one, "--out", tmp_path / "half.safetensors").output
        and "fp16" in run("show", tmp_path / "half.safetensors").output
    )
    assert "low rank" in run("pack", one, "--out", tmp_path / "low.safetensors", "--rank", 2).output
    # its record tells the original
    assert run("verify", one, "--model", tmp_path / "edited").exit_code == 0
    assert isinstance(
        run("apply", one, "--model", folder, "--out", tmp_path / "edited").exception, SettingError
    )
    assert (
        not run(
            "apply", one, "--model", folder, "--out", tmp_path / "bare", "--no-record"
        ).exception
        and not (tmp_path / "bare" / RECORD).exists()
    )
    assert isinstance(run("verify", one, "--model", tmp_path / "bare").exception, PatchError)
