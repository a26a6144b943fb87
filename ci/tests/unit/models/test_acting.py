"""Which layers act is found by looking: in pipelines with one and with two text encoders, and in
three kinds of LLaVA; patches find their own encoder.
"""

from types import SimpleNamespace

import pytest
import torch
from narrow_clip import a_clip
from random_models import VLMS, pipeline_of, vlm_of

from slugkit import patch
from slugkit.base import PatchError
from slugkit.method.edit import EditableLayer
from slugkit.method.layers import candidates, layer_table
from slugkit.models.convert import vision_tower
from slugkit.models.reachability import blocks_read, movable, unused_layers
from slugkit.models.weight_map import differences, locate, part_of, require_tower
from slugkit.patch.checkpoint import apply_to_files, remove_from_files
from slugkit.patch.record import load_record, save_record

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def nets():
    return [a_clip(), a_clip(48, seed=1, layers=4, embed=24)]


def text_layers(net):
    return [n for n in candidates(layer_table(net)) if not n.startswith("visual.")]


def an_edit(net, layer, concept="somebody"):
    direction = torch.randn(
        net.get_parameter(layer).shape, generator=torch.Generator().manual_seed(1)
    )
    editable = EditableLayer.of(net, layer, direction)
    return patch.make(layer, editable, editable.lam(0.3), concept)


def bits(model):
    return {n: p.detach().clone() for n, p in model.named_parameters()}


@pytest.mark.parametrize(
    ("kind", "left_out"), [("sd15", {"text_projection"}), ("sd21", {"text_projection", "block 2"})]
)
def test_a_pipeline_of_one_encoder(nets, kind, left_out):
    net, pipe = nets[0], pipeline_of(kind, nets[:1], reduced=True)
    before = bits(pipe.text_encoder)
    found = unused_layers(pipe, text_layers(net))
    assert {n if "resblocks" not in n else f"block {n.split('.')[2]}" for n in found} == left_out
    assert all(torch.equal(p, before[n]) for n, p in pipe.text_encoder.named_parameters())


def test_each_encoder_of_sdxl_is_edited_through_its_own_clip(nets):
    pipe = pipeline_of("sdxl", nets, reduced=True)
    assert [part_of(net, pipe, "text").name for net in nets] == ["text_encoder", "text_encoder_2"]
    first, second = (unused_layers(part_of(net, pipe, "text"), text_layers(net)) for net in nets)
    assert {n.split(".")[2] for n in first if "resblocks" in n} == {
        "2"
    } and "text_projection" in first, "SDXL reads its first encoder before the last block"
    assert second == {}, "the pooled feature of the second passes its last block and its projection"
    looks = []
    watch = pipe.text_encoder.register_forward_hook(lambda *_: looks.append(1))
    assert (
        unused_layers(part_of(nets[0], pipe, "text"), text_layers(nets[0])) == first and not looks
    ), "each layer is looked at once"
    watch.remove()
    for number, net in enumerate(nets):
        encoder, other = (pipe.text_encoder, pipe.text_encoder_2)[:: -1 if number else 1]
        mine, theirs, edit = (
            bits(encoder),
            bits(other),
            an_edit(net, "transformer.resblocks.1.mlp.c_fc.weight"),
        )
        with edit.applied(net), edit.applied(pipe):
            assert differences(net, pipe, "text") == [] and not all(
                torch.equal(p, mine[n]) for n, p in encoder.named_parameters()
            )
            assert all(torch.equal(p, theirs[n]) for n, p in other.named_parameters())
        patch.apply(edit, pipe)
        assert differences(net, pipe, "text") == [edit.layer] and [
            p.sha256 for p in patch.patches_on(pipe)
        ] == [edit.sha256]
        patch.remove(edit, pipe)
        assert all(torch.equal(p, mine[n]) for n, p in encoder.named_parameters()) and all(
            torch.equal(p, theirs[n]) for n, p in other.named_parameters()
        )
    with pytest.raises(PatchError, match="never reads it"):
        patch.apply(an_edit(nets[0], "transformer.resblocks.2.mlp.c_fc.weight"), pipe)
    for block in (2, 3):  # the first encoder never reads its block 2, and has no block 3
        with patch.applied(
            an_edit(nets[1], f"transformer.resblocks.{block}.mlp.c_fc.weight"), pipe
        ):
            assert len(differences(nets[1], pipe, "text")) == 1
        assert differences(nets[1], pipe, "text") == []
    stranger = a_clip(32, seed=3)
    with pytest.raises(PatchError, match="is not the CLIP's"):
        require_tower(stranger, pipe, "text")
    with pytest.raises(PatchError, match="none of the 2 text encoders fits"):
        patch.apply(an_edit(stranger, "transformer.resblocks.1.mlp.c_fc.weight"), pipe)


def test_a_folder_of_sdxl_is_edited_in_the_encoder_that_the_patch_was_made_for(nets, tmp_path):
    pipe = pipeline_of("sdxl", nets, reduced=True)
    pipe.save_pretrained(tmp_path / "xl")
    edit = an_edit(nets[1], "transformer.resblocks.1.mlp.c_fc.weight")
    apply_to_files([edit], tmp_path / "xl", tmp_path / "edited")
    changed = [
        name
        for name in ("text_encoder", "text_encoder_2")
        if (tmp_path / "xl" / name / "model.safetensors").read_bytes()
        != (tmp_path / "edited" / name / "model.safetensors").read_bytes()
    ]
    assert changed == ["text_encoder_2"]
    remove_from_files(edit, tmp_path / "edited", tmp_path / "back")
    from safetensors.torch import load_file

    back, own = (
        load_file(tmp_path / name / "text_encoder_2" / "model.safetensors")
        for name in ("back", "xl")
    )
    assert all(torch.equal(back[n], own[n]) for n in own)
    patch.apply(edit, pipe)
    save_record(pipe, tmp_path / "record.safetensors")
    again = pipeline_of("sdxl", nets, reduced=True)
    again.text_encoder_2.load_state_dict(pipe.text_encoder_2.state_dict())
    assert [p.sha256 for p in load_record(tmp_path / "record.safetensors", again)] == [edit.sha256]
    patch.remove(edit, again)
    assert differences(nets[1], again, "text") == []


@pytest.mark.parametrize("kind", list(VLMS))
def test_a_llava_of_each_kind_reads_its_blocks_and_no_more(nets, kind):
    model, _ = vlm_of(kind, vision_tower(nets[0]), reduced=True)
    layers = [n for n in candidates(layer_table(nets[0])) if n.startswith("visual.")]
    left_out = unused_layers(model, layers)
    assert (
        {n.split(".")[3] for n in left_out if "resblocks" in n} == {"10"}
        and "visual.proj" in left_out
        and "visual.conv1.weight" not in left_out
    )
    assert blocks_read(model) == 10, "what is found by looking is what the configuration says"
    edit = an_edit(nets[0], "visual.transformer.resblocks.9.attn.in_proj_weight")
    with patch.applied(edit, model):
        assert differences(nets[0], model, "vision") == [edit.layer]
    assert differences(nets[0], model, "vision") == []
    with pytest.raises(PatchError, match="the same when the layer is changed"):
        patch.apply(an_edit(nets[0], "visual.transformer.resblocks.10.mlp.c_fc.weight"), model)


def test_a_look_follows_what_the_model_reads_and_is_taken_once(nets):
    model, _ = vlm_of("llava15", vision_tower(nets[0]), reduced=True)
    layer, looks = "visual.transformer.resblocks.10.mlp.c_fc.weight", []
    seen = locate(model, layer).tensors[0]
    watch = model.model.vision_tower.register_forward_hook(
        lambda *_: looks.append(seen.detach().clone())
    )
    assert unused_layers(model, [layer]).keys() == unused_layers(model, [layer]).keys() == {layer}
    assert len(looks) == 2 and torch.equal(looks[1], 1.5 * looks[0]) and torch.equal(seen, looks[0])
    with (
        pytest.raises(PatchError, match="cannot act: .* never reads it.*Nothing was changed"),
        movable(nets[0], model, layer),
    ):
        pass
    packed = [f"visual.transformer.resblocks.{block}.attn.in_proj_weight[k]" for block in (9, 10)]
    assert list(unused_layers(model, packed)) == packed[1:]
    model.config.vision_feature_layer = -1
    looks.clear()
    assert unused_layers(model, [layer, *packed]) == {} and len(looks) == 1 + 3, (
        "once as it is, and once for each layer"
    )
    watch.remove()
    before, other = bits(model), "visual.transformer.resblocks.3.mlp.c_fc.weight"
    once = [None]
    model.model.vision_tower.register_forward_hook(lambda *_: once.pop())
    with pytest.raises(IndexError):
        unused_layers(model, [other])
    assert all(torch.equal(p, before[n]) for n, p in model.named_parameters()), (
        "a run that fails leaves no stretched weight behind"
    )


class Files(dict):
    """Tensors by name and what a config.json says, as `slugkit.patch.checkpoint` reads a LLaVA's
    folder.
    """

    config = SimpleNamespace(
        vision_feature_layer=-2, vision_config=SimpleNamespace(num_hidden_layers=11)
    )


def test_of_files_the_configuration_says_what_is_read(nets):
    for said, blocks in (
        (-1, 11),
        (-2, 10),
        (0, 0),
        (6, 6),
        ([-2, -5, 6], 10),
        ([6, -1], 11),
        (None, None),
    ):
        for name in ("vision_feature_layer", "vision_feature_layers"):
            config = SimpleNamespace(**{name: said}, vision_config=Files.config.vision_config)
            assert blocks_read(SimpleNamespace(config=config)) == blocks, name
    files = Files(nets[0].named_parameters())
    layers = [
        n
        for n in files
        if n.startswith("visual.")
        and n.endswith(("c_fc.weight", "proj", "ln_post.weight", "conv1.weight"))
    ]
    left_out = unused_layers(files, [*layers, "transformer.resblocks.2.mlp.c_fc.weight"])
    assert set(left_out) == {
        "visual.transformer.resblocks.10.mlp.c_fc.weight",
        "visual.proj",
        "visual.ln_post.weight",
    }
    assert set(left_out.values()) == {"Files reads the picture after block 9, before it"}
    files.config = SimpleNamespace(vision_feature_layer=1, vision_config=Files.config.vision_config)
    assert unused_layers(files, ["transformer.resblocks.2.mlp.c_fc.weight"]) == {}, (
        "what a LLaVA sees with says nothing about a text tower"
    )
