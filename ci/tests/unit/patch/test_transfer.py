"""One edit in CLIP and in a pipeline that shares its text tower: carried, refused, and gone again
without a trace.
"""

import contextlib
import copy
import dataclasses

import pytest
import torch
from transformers import CLIPTextConfig, CLIPTextModel

from slugkit import patch
from slugkit.base import PatchError
from slugkit.method.edit import EditableLayer
from slugkit.models import load_clip
from slugkit.models.convert import text_tower
from slugkit.models.reachability import acting_part
from slugkit.models.weight_map import differences, require_tower

LAYER = "transformer.resblocks.1.attn.in_proj_weight"


@pytest.fixture(scope="module")
def clip():
    return load_clip("studio", "cpu")


@pytest.fixture()
def encoder(clip):
    return text_tower(clip.model)


@contextlib.contextmanager
def in_both(edits, clip, other):
    """The edits in the CLIP and in what holds its tower, as a search leaves them there."""
    require_tower(clip.model, other, "text")
    for edit in edits:
        acting_part(clip.model, other, edit.layer)
    with patch.all_applied(edits, other), patch.all_applied(edits, clip.model):
        yield


def make_edit(clip, layer=LAYER):
    weight = clip.model.get_parameter(layer)
    direction = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    editable = EditableLayer.of(clip.model, layer, direction)
    return patch.make(layer, editable, editable.lam(0.2), "Mira Kestrel")


def state(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def same(before, model):
    return all(torch.equal(before[name], p) for name, p in model.named_parameters())


def test_the_edit_is_in_both_within_the_block_and_in_neither_after_it(clip, encoder):
    edit, before, mine = make_edit(clip), state(encoder), state(clip.model)
    with in_both([edit], clip, encoder):
        assert differences(clip.model, encoder, "text") == []
        parts = [
            encoder.encoder.layers[1].self_attn.get_submodule(f"{x}_proj").weight for x in "qkv"
        ]
        wanted = mine[LAYER] - edit.lam * edit.direction
        assert torch.allclose(torch.cat(parts), wanted) and not torch.equal(
            torch.cat(parts), mine[LAYER]
        )
    assert same(before, encoder) and same(mine, clip.model)
    with pytest.raises(RuntimeError, match="inside"), in_both([edit], clip, encoder):
        raise RuntimeError("inside")
    assert same(before, encoder) and same(mine, clip.model)


def test_several_edits_are_in_both_in_any_order_and_gone_afterwards(clip, encoder):
    other = "transformer.resblocks.0.mlp.c_proj.weight"
    edits, before, mine = (
        [
            make_edit(clip),
            dataclasses.replace(make_edit(clip), lam=1.5, concept="Kofi Okoye"),
            make_edit(clip, other),
        ],
        state(encoder),
        state(clip.model),
    )
    read = []
    for listed in (edits, edits[::-1]):
        with in_both(listed, clip, encoder):
            assert differences(clip.model, encoder, "text") == []
            read.append(state(encoder))
        assert same(before, encoder) and same(mine, clip.model)
    assert all(torch.equal(read[0][name], read[1][name]) for name in before)
    assert not torch.equal(
        read[0]["encoder.layers.0.mlp.fc2.weight"], before["encoder.layers.0.mlp.fc2.weight"]
    )
    with (
        pytest.raises(PatchError),
        in_both(
            [edits[0], dataclasses.replace(edits[2], base_sha256=edits[0].base_sha256)],
            clip,
            encoder,
        ),
    ):
        pass
    assert same(before, encoder) and same(mine, clip.model)


def wrong_base(clip, encoder):
    edit = make_edit(clip)
    return dataclasses.replace(edit, base_sha256={k: "0" * 64 for k in edit.base_sha256}), encoder


def unused(clip, encoder):
    return make_edit(clip, "text_projection"), encoder


def another_tower(clip, encoder):
    with torch.no_grad():
        encoder.encoder.layers[3].mlp.fc2.weight.add_(1.0)
    return make_edit(clip), encoder


def another_size(clip, encoder):
    config = CLIPTextConfig(
        **{
            **encoder.config.to_dict(),
            "num_hidden_layers": 2,
            "vocab_size": 64,
            "bos_token_id": 62,
            "eos_token_id": 63,
            "pad_token_id": 63,
        }
    )
    return make_edit(clip), CLIPTextModel(config)


def no_tower(clip, encoder):
    return make_edit(clip), torch.nn.Linear(2, 2)


@pytest.mark.parametrize(
    "case, says",
    [
        (wrong_base, "not the weight that the patch"),
        (unused, "layer text_projection.*cannot act.*does not use it"),
        (another_tower, "is not the CLIP's"),
        (another_size, "is not the CLIP's"),
        (no_tower, "shares no weight"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_changed(clip, encoder, case, says):
    edit, other = case(clip, encoder)
    before, mine = state(other), state(clip.model)
    with pytest.raises(PatchError, match=says) as caught, in_both([edit], clip, other):
        raise AssertionError("the block was entered")
    assert "othing was changed" in str(caught.value)
    assert same(before, other) and same(mine, clip.model)


def test_a_copy_of_the_encoder_is_the_tower_too(clip, encoder):
    other = copy.deepcopy(encoder)
    with in_both([make_edit(clip)], clip, other):
        assert differences(clip.model, other, "text") == []
