"""The edit as a file: saved, loaded, verified, applied, removed."""

import copy
import dataclasses
import gc
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_clip import changed, same_bits, state, tiny_clip
from tiny_patch import OUT_PROJ, patch_for, vars_of
from torch import nn

from slugkit import patch
from slugkit.base import PatchError, sha256_tensor
from slugkit.method.edit import EditableLayer
from slugkit.method.layers import part_rows, split_layer
from slugkit.patch import format as file
from slugkit.patch import on_model

LAYERS = [
    OUT_PROJ,
    "transformer.resblocks.1.mlp.c_fc.weight",
    "text_projection",
    "visual.conv1.weight",
    "visual.proj",
    "visual.transformer.resblocks.0.attn.in_proj_weight",
    "visual.transformer.resblocks.0.attn.in_proj_weight[q]",
    "visual.transformer.resblocks.0.attn.in_proj_weight[v]",
]
DTYPES = [torch.float32, torch.float16, torch.bfloat16]


def weights_of(model, layer):
    name, part = split_layer(layer)
    theta = model.get_parameter(name).detach()
    return theta[part_rows(len(theta), part)]


@pytest.fixture
def made():
    return patch_for(tiny_clip())


def test_base_hashes_are_those_of_the_three_precisions():
    model = tiny_clip()
    made = patch_for(model)
    for dtype, name in zip(DTYPES, ["fp32", "fp16", "bf16"], strict=True):
        half = copy.deepcopy(model).to(dtype)
        assert made.base_sha256[name] == sha256_tensor(half.get_parameter(OUT_PROJ))


# ---------------------------------------------------------------- apply


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layer", LAYERS)
def test_apply_writes_what_the_search_measured_and_nothing_else(layer, dtype, tmp_path):
    model = tiny_clip().to(dtype)
    before = state(model)
    made = patch_for(model, layer)
    with EditableLayer.of(model, layer, made.direction) as editable:
        editable.set(made.lam)
        measured = state(model)
    assert changed(before, model) == set()
    patch.apply(patch.load(patch.save(made, tmp_path / "p.safetensors")), model)
    assert changed(before, model) == {split_layer(layer)[0]}
    assert changed(measured, model) == set()


@pytest.mark.parametrize("dtype", DTYPES[1:])
def test_a_patch_made_on_fp32_fits_a_half_precision_copy(dtype):
    model = tiny_clip()
    made = patch_for(model)
    half = copy.deepcopy(model).to(dtype)
    before = state(half)
    patch.verify(made, half)
    patch.apply(made, half)
    expected = (before[OUT_PROJ].float() - made.direction * made.lam).to(dtype)
    assert same_bits(half.get_parameter(OUT_PROJ).detach(), expected)
    patch.remove(made, half)
    assert changed(before, half) == set()


def test_applying_twice_is_applying_once():
    model = tiny_clip()
    before = state(model)
    made = patch_for(model)
    patch.apply(made, model)
    once = state(model)
    patch.apply(made, model)
    assert changed(once, model) == set() and patch.patches_on(model) == [made]
    patch.remove(made, model)
    assert changed(before, model) == set() and patch.patches_on(model) == []


def test_the_step_lowers_what_the_direction_raises():
    model = tiny_clip()
    made = patch_for(model)
    before = weights_of(model, OUT_PROJ).clone()
    patch.apply(made, model)
    assert float(((weights_of(model, OUT_PROJ) - before) * made.direction).sum()) < 0


def test_a_dictionary_names_a_layer_that_is_stored_transposed():
    model, other = tiny_clip(), nn.Linear(32, 16, bias=False)
    with torch.no_grad():
        other.weight.copy_(model.text_projection.t())
    made = patch_for(model, "text_projection")
    before = other.weight.detach().clone()
    named = {"text_projection": other.weight.t()}
    patch.apply(made, model)
    patch.apply(made, named)
    assert torch.equal(other.weight.detach(), model.text_projection.detach().t())
    patch.remove(made, named)
    assert same_bits(other.weight.detach(), before)


# ---------------------------------------------------------------- remove


@given(
    picks=st.lists(
        st.tuples(st.sampled_from(LAYERS), st.floats(1e-4, 3.0)), min_size=1, max_size=6
    ),
    dtype=st.sampled_from(DTYPES),
    order=st.randoms(use_true_random=False),
)
@settings(max_examples=30, deadline=None)
def test_patches_come_off_bit_for_bit_in_any_order(picks, dtype, order):
    model = tiny_clip().to(dtype)
    before = state(model)
    made = [
        patch_for(model, layer, rho, seed=i, concept=f"concept {i}")
        for i, (layer, rho) in enumerate(picks)
    ]
    reference = tiny_clip().to(dtype)
    on: dict[str, patch.Patch] = {}
    for p in order.sample(made, len(made)) + order.sample(made, len(made)):
        if p.sha256 in on:
            patch.remove(p, model)
            del on[p.sha256]
        else:
            patch.apply(p, model)
            on[p.sha256] = p
        # the weights depend on the set of patches only: put the same set on a fresh model, in
        # another order
        reference.load_state_dict(before)
        for other in order.sample(list(on.values()), len(on)):
            patch.apply(other, reference)
        assert changed(state(reference), model) == set()
    assert not on and changed(before, model) == set() and patch.patches_on(model) == []


def test_the_block_takes_the_patch_off_also_after_an_error():
    model = tiny_clip()
    before = state(model)
    made, lasting = patch_for(model), patch_for(model, seed=2)
    patch.apply(lasting, model)
    with_lasting = state(model)
    with pytest.raises(ZeroDivisionError), patch.applied(made, model) as inside:
        assert inside is model and len(patch.patches_on(model)) == 2
        raise ZeroDivisionError
    assert changed(with_lasting, model) == set()
    with patch.applied(lasting, model):
        assert changed(with_lasting, model) == set()
    assert changed(with_lasting, model) == set(), "a patch that was on before the block stays on"
    patch.remove(lasting, model)
    assert changed(before, model) == set()


def test_several_are_on_together_and_gone_together_also_where_one_of_them_does_not_fit():
    model = tiny_clip()
    before = state(model)
    first, second = patch_for(model), patch_for(model, seed=2)
    stranger = dataclasses.replace(
        second, base_sha256={name: "0" * 64 for name in second.base_sha256}, concept="somebody"
    )
    with patch.all_applied([first, second], model) as inside:
        assert inside is model and {p.sha256 for p in patch.patches_on(model)} == {
            first.sha256,
            second.sha256,
        }
    assert changed(before, model) == set() and patch.patches_on(model) == []
    with pytest.raises(PatchError, match="somebody"), patch.all_applied([first, stranger], model):
        raise AssertionError("the block was entered")
    assert changed(before, model) == set() and patch.patches_on(model) == []


def test_remove_refuses_what_is_not_applied_here(made):
    model = tiny_clip()
    with pytest.raises(PatchError, match="not applied to this model in this process"):
        patch.remove(made, model)
    patch.apply(made, model)
    edited = state(model)
    with pytest.raises(PatchError, match="not applied"):
        patch.remove(patch_for(tiny_clip(), seed=9), model)
    # as if loaded in another process: the original is not known there
    copied = copy.deepcopy(model)
    with pytest.raises(PatchError, match="load the original"):
        patch.remove(made, copied)
    with pytest.raises(PatchError, match="not the weight"):
        patch.apply(made, copied)
    assert changed(edited, model) == set() and changed(edited, copied) == set()


def test_a_weight_changed_by_something_else_is_not_overwritten(made):
    model = tiny_clip()
    patch.apply(made, model)
    with torch.no_grad():
        model.get_parameter(OUT_PROJ)[0, 0] += 1.0
    trained = state(model)
    for call in (patch.apply, patch.remove, patch.verify):
        with pytest.raises(PatchError, match="changed by something else"):
            call(made, model)
    assert changed(trained, model) == set()


def test_original_weights_loaded_again_start_afresh(made):
    model = tiny_clip()
    before = state(model)
    patch.apply(made, model)
    edited = state(model)
    model.load_state_dict(before)
    with pytest.raises(PatchError, match="not applied"):
        patch.remove(made, model)
    patch.apply(made, model)
    assert changed(edited, model) == set()
    patch.remove(made, model)
    assert changed(before, model) == set()


def test_the_original_is_forgotten_with_its_model(made):
    model = tiny_clip()
    patch.apply(made, model)
    known = len(on_model._REGISTRY)
    del model
    gc.collect()
    assert len(on_model._REGISTRY) < known


# ---------------------------------------------------------------- models it does not belong to


def assert_refused(p, model, match):
    before = state(model)
    for call in (patch.verify, patch.apply):
        with pytest.raises(PatchError, match=match) as caught:
            call(p, model)
        assert "nothing was changed" in str(caught.value).lower()
    assert changed(before, model) == set()


def test_another_base_is_refused(made):
    assert_refused(made, tiny_clip(seed=5), "not the weight that the patch")


def test_one_different_bit_in_the_base_is_refused(made):
    model = tiny_clip()
    with torch.no_grad():
        model.get_parameter(OUT_PROJ)[3, 4] = math.nextafter(1.0, 2.0)
    assert_refused(made, model, "not the weight that the patch")


def test_a_missing_layer_is_refused_and_near_names_are_offered(made):
    assert_refused(made, nn.Linear(3, 3), "has no layer")
    lost = patch.Patch(**{**vars_of(made), "layer": "transformer.resblocks.7.attn.out_proj.weight"})
    assert_refused(
        lost, tiny_clip(), "resblocks.0.attn.out_proj.weight|resblocks.1.attn.out_proj.weight"
    )


def test_another_shape_is_refused(made):
    assert_refused(
        patch.Patch(**{**vars_of(made), "layer": "text_projection"}), tiny_clip(), "has the shape"
    )
    split = patch.Patch(**{**vars_of(made), "layer": OUT_PROJ + "[q]"})
    assert_refused(split, tiny_clip(), "does not fit")


def test_other_number_types_are_refused(made):
    assert_refused(made, tiny_clip().double(), "float64")


def test_an_edit_that_would_overflow_half_precision_is_refused():
    model = tiny_clip().half()
    before = state(model)
    with pytest.raises(PatchError, match="would not be finite"):
        patch.apply(patch_for(model, rho=1e7), model)
    assert changed(before, model) == set() and patch.patches_on(model) == []


def test_the_method_knows_no_model_library():
    import ast
    from pathlib import Path

    import slugkit.method.ranking
    import slugkit.method.search

    for module in (slugkit.method.ranking, slugkit.method.search, patch, file, on_model):
        tree = ast.parse(Path(module.__file__).read_text())
        names = {
            alias.name.split(".")[0]
            for n in ast.walk(tree)
            if isinstance(n, ast.Import)
            for alias in n.names
        }
        names |= {
            n.module.split(".")[0]
            for n in ast.walk(tree)
            if isinstance(n, ast.ImportFrom) and n.module
        }
        assert not names & {"open_clip", "transformers", "diffusers"}, module
