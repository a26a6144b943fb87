"""Models that others wrapped or moved away: compiled, in DataParallel, with adapters, offloaded by
accelerate.
"""

import accelerate
import pytest
import torch
from tiny_clip import tiny_clip
from tiny_patch import OUT_PROJ, patch_for
from tiny_transformers import filled, whole

from slugkit import patch
from slugkit.base import PatchError
from slugkit.models import load_clip
from slugkit.models.convert import text_tower
from slugkit.models.diffusion import draw, load_pipeline
from slugkit.models.vlm import load_vlm
from slugkit.models.weight_map import locate

pytestmark = pytest.mark.slow

LAYER, SEEN = (
    "transformer.resblocks.1.attn.in_proj_weight",
    "visual.transformer.resblocks.2.attn.in_proj_weight",
)


class Adapter(torch.nn.Module):
    """A linear layer with an adapter, laid out as PEFT's LoRA does it."""

    def __init__(self, base_layer):
        super().__init__()
        self.base_layer = base_layer
        self.lora_A, self.lora_B = (
            torch.nn.Linear(base_layer.in_features, 2, bias=False),
            torch.nn.Linear(2, base_layer.out_features, bias=False),
        )
        torch.nn.init.zeros_(self.lora_B.weight)

    def forward(self, x):
        return self.base_layer(x) + self.lora_B(self.lora_A(x))


def with_adapters(model):
    for block in model.modules():
        if hasattr(block, "q_proj"):
            block.q_proj, block.out_proj = Adapter(block.q_proj), Adapter(block.out_proj)
    return model


def with_peft(model):
    if not any(
        hasattr(block, "q_proj") for block in model.modules()
    ):  # open_clip has no linear layers for q, k and v
        return model
    peft = pytest.importorskip("peft")
    return peft.get_peft_model(model, peft.LoraConfig(target_modules=["q_proj", "out_proj"], r=2))


def in_hooks(model):
    return accelerate.cpu_offload(model, execution_device=torch.device("cpu"))


WRAPPERS = {
    "compiled": torch.compile,
    "parallel": torch.nn.DataParallel,
    "adapters": with_adapters,
    "peft": with_peft,
    "offloaded": in_hooks,
    "compiled and parallel": lambda model: torch.nn.DataParallel(torch.compile(model)),
    "offloaded, compiled": lambda model: torch.compile(in_hooks(model)),
}


@pytest.mark.parametrize("wrap", WRAPPERS)
@pytest.mark.parametrize(
    "made",
    [lambda net: filled(whole(), net), text_tower, lambda net: net],
    ids=["CLIPModel", "CLIPTextModel", "open_clip"],
)
def test_a_wrapped_model_takes_the_patch_where_its_weights_are_and_gives_it_back(
    wrap, made, tmp_path
):
    for layer in (OUT_PROJ, LAYER):
        edit, plain, model = (
            patch_for(tiny_clip(), layer),
            made(tiny_clip()),
            WRAPPERS[wrap](made(tiny_clip())),
        )
        edit.apply(plain)
        expected, original = locate(plain, layer).read(), locate(made(tiny_clip()), layer).read()
        for _ in range(2):
            patch.verify(edit, model)
            edit.apply(model)
            assert torch.equal(locate(model, layer).read(), expected) and [
                p.sha256 for p in patch.patches_on(model)
            ] == [edit.sha256]
        patch.save_record(model, tmp_path / "record.safetensors")
        edit.remove(model)
        assert torch.equal(locate(model, layer).read(), original) and patch.patches_on(model) == []
        with edit.applied(model):
            assert [
                p.sha256 for p in patch.load_record(tmp_path / "record.safetensors", model)
            ] == [edit.sha256]


@pytest.fixture(scope="module")
def edits():
    net = load_clip("studio", "cpu").model
    return patch_for(net, LAYER), patch_for(net, SEEN)


@pytest.mark.parametrize("wrap", [in_hooks, torch.compile, with_adapters])
def test_a_pipeline_with_a_wrapped_encoder_draws_with_the_edit_and_without_it_as_before(
    wrap, edits
):
    def drawn(pipe):
        with torch.compiler.set_stance("force_eager"):
            return draw(pipe, ["a photo of a cat"], [3], steps=2)

    plain = load_pipeline("studio", "cpu")
    before = drawn(plain)
    edits[0].apply(plain)
    after = drawn(plain)
    pipe = load_pipeline("studio", "cpu")
    for name in ("text_encoder", "unet", "vae") if wrap is in_hooks else ("text_encoder",):
        setattr(pipe, name, wrap(getattr(pipe, name)))
    with edits[0].applied(pipe):
        assert (drawn(pipe) == after).all() and not (after == before).all()
    assert (drawn(pipe) == before).all()
    with pytest.raises(PatchError, match="has no layer"):
        edits[1].apply(pipe)


def test_an_offloaded_or_parallel_llava_is_edited_and_still_says_which_layers_it_never_reads(edits):
    for wrap in (in_hooks, torch.nn.DataParallel):
        own = load_vlm("studio", "cpu")
        pixels = own.seen(
            torch.randint(
                0,
                255,
                (1, 64, 64, 3),
                dtype=torch.uint8,
                generator=torch.Generator().manual_seed(0),
            ).numpy()
        )
        edits[1].apply(own.model)
        expected = own.model.get_image_features(**pixels, return_dict=True).pooler_output[0]
        edits[1].remove(own.model)
        model = wrap(own.model)
        edits[1].apply(model)
        assert torch.equal(
            getattr(model, "module", model)
            .get_image_features(**pixels, return_dict=True)
            .pooler_output[0],
            expected,
        )
        edits[1].remove(model)
        with pytest.raises(PatchError, match="never reads it|reads the picture after"):
            patch_for(
                load_clip("studio", "cpu").model, "visual.transformer.resblocks.5.mlp.c_fc.weight"
            ).apply(model)


def test_weights_on_disk_or_nowhere_are_refused_in_a_sentence(tmp_path):
    edit = patch_for(tiny_clip())
    away = accelerate.disk_offload(
        filled(whole(), tiny_clip()), tmp_path / "disk", execution_device=torch.device("cpu")
    )
    with torch.device("meta"):
        nowhere = whole()
    pipe = load_pipeline("studio", "cpu")
    pipe.text_encoder = accelerate.disk_offload(
        pipe.text_encoder, tmp_path / "encoder", execution_device=torch.device("cpu")
    )
    mine = patch_for(load_clip("studio", "cpu").model, LAYER)
    for model, p in ((away, edit), (nowhere, edit), (pipe, mine)):
        for call in (patch.verify, patch.apply):
            with pytest.raises(
                PatchError, match="is not in memory: it was offloaded to disk, or never loaded"
            ):
                call(p, model)
