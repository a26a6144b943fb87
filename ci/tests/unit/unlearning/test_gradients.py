"""The gradients on the real studio model: sign, batches, averaging, and what goes wrong loudly."""

from dataclasses import replace

import numpy as np
import open_clip
import pandas as pd
import pytest
import torch

from slugkit.base import EmptySetError, GradientError
from slugkit.data import Pairs, open_data
from slugkit.method.edit import EditableLayer
from slugkit.method.gradients import check_finite, mean_gradient
from slugkit.method.losses import info_nce, sigmoid_loss
from slugkit.method.ranking import cosine
from slugkit.models import load_clip
from slugkit.unlearning.gradients import forget_gradient, retain_gradient
from slugkit.unlearning.losses import batch_of, encoded, forget_loss, retain_loss


@pytest.fixture(scope="module")
def clip():
    return load_clip("studio", "cpu")


@pytest.fixture(scope="module")
def forget():
    return open_data("studio").forget_set("Mira Kestrel", 30, 0)


@pytest.fixture(scope="module")
def retain():
    return open_data("studio").retain_set("Mira Kestrel", 48, 0)


@pytest.fixture(scope="module")
def g_forget(clip, forget):
    return forget_gradient(clip, forget, 16)


@pytest.mark.slow
@pytest.mark.parametrize(
    "layer",
    [
        "text_projection",
        "visual.proj",
        "transformer.resblocks.1.mlp.c_fc.weight",
        "visual.transformer.resblocks.3.attn.in_proj_weight",
    ],
)
def test_a_small_step_against_the_gradient_lowers_the_mean_cosine(clip, forget, g_forget, layer):
    """Check (a)."""
    before = forget_loss(clip, forget).item()
    with EditableLayer.of(clip.model, layer, g_forget[layer]) as editable:
        editable.set(editable.lam(0.01))
        lower = forget_loss(clip, forget).item()
        editable.set(-editable.lam(0.01))
        higher = forget_loss(clip, forget).item()
    assert lower < before < higher
    assert forget_loss(clip, forget).item() == before


@pytest.mark.slow
def test_the_forget_gradient_does_not_depend_on_the_batch_and_the_retain_gradient_does(
    clip, forget, retain, g_forget
):
    """Check (b), with a short last batch: 30 pairs in batches of 16 and of 30."""
    whole = forget_gradient(clip, forget, 30)
    assert all(torch.allclose(whole[n], g_forget[n], atol=2e-6, rtol=1e-3) for n in whole)
    large, small = (retain_gradient(clip, retain, 48), retain_gradient(clip, retain, 12))
    assert cosine(large["visual.proj"], small["visual.proj"]) < 0.99


def test_a_short_last_batch_does_not_count_double(clip, forget):
    parts = [forget.take(range(24)), forget.take(range(24, 30))]
    means = [
        mean_gradient(clip.model, lambda b: forget_loss(clip, b), [p])["visual.proj"] for p in parts
    ]
    whole = forget_gradient(clip, forget, 24)["visual.proj"]
    assert torch.allclose(whole, (24 * means[0] + 6 * means[1]) / 30, atol=1e-6)
    assert not torch.allclose(whole, (means[0] + means[1]) / 2, atol=1e-6)


def test_gradients_are_cleared_and_weights_stay(clip, forget):
    before = {n: p.detach().clone() for n, p in clip.model.named_parameters()}
    first, second = (forget_gradient(clip, forget, 30)["visual.proj"] for _ in range(2))
    assert torch.equal(first, second)
    assert all(p.grad is None for p in clip.model.parameters())
    assert all(torch.equal(p.detach(), before[n]) for n, p in clip.model.named_parameters())


def test_with_equal_captions_the_image_to_text_loss_has_no_gradient():
    """Check (h): the trap of replacing every caption by the concept's name."""
    v = torch.nn.functional.normalize(
        torch.randn(6, 8, dtype=torch.float64), dim=-1
    ).requires_grad_()
    t = torch.nn.functional.normalize(torch.randn(1, 8, dtype=torch.float64), dim=-1).expand(6, 8)
    loss = torch.nn.functional.cross_entropy(50 * v @ t.T, torch.arange(6))
    loss.backward()
    assert loss.item() == pytest.approx(np.log(6)) and v.grad.abs().max() < 1e-12


def test_info_nce_against_a_loop():
    v, t = (
        torch.nn.functional.normalize(torch.randn(5, 7, dtype=torch.float64), dim=-1)
        for _ in range(2)
    )
    logits = 20 * v @ t.T
    by_hand = (
        -sum(
            torch.log_softmax(logits, 1)[i, i] + torch.log_softmax(logits, 0)[i, i]
            for i in range(5)
        )
        / 10
    )
    assert torch.allclose(info_nce(v, t, 20), by_hand)


def test_a_nan_names_the_layer(clip, forget):
    weight = clip.model.get_parameter("visual.proj")
    kept = weight.detach().clone()
    try:
        with torch.no_grad():
            weight[0, 0] = float("nan")
        with pytest.raises(GradientError, match="forget gradient of layer"):
            forget_gradient(clip, forget, 30)
    finally:
        with torch.no_grad():
            weight.copy_(kept)
    with pytest.raises(GradientError, match="'visual.conv1.weight'.*1 entries"):
        check_finite(
            {"a": torch.zeros(2), "visual.conv1.weight": torch.tensor([1.0, float("inf")])}
        )


def test_no_batch_is_an_error(clip, forget):
    one = Pairs(forget.images[:1], forget.table.iloc[:1])
    with pytest.raises(EmptySetError, match="distinct captions"):
        retain_gradient(clip, one, 8)


def test_a_siglip_has_its_own_loss_the_one_that_open_clip_trains_it_with(clip):
    torch.manual_seed(0)
    v, t = (torch.nn.functional.normalize(torch.randn(6, 8), dim=-1) for _ in range(2))
    theirs = open_clip.loss.SigLipLoss()(v, t, torch.tensor(10.0), torch.tensor(-10.0))
    assert torch.allclose(
        sigmoid_loss(v, t, 10.0, -10.0), theirs, rtol=1e-5
    ) and not torch.allclose(info_nce(v, t, 10.0), theirs)
    model = open_clip.CLIP(
        16,
        {"layers": 1, "width": 32, "head_width": 16, "patch_size": 8, "image_size": 16},
        {
            "layers": 1,
            "width": 32,
            "heads": 2,
            "context_length": 16,
            "vocab_size": clip.model.vocab_size,
        },
        init_logit_bias=-10,
    ).eval()
    siglip = replace(clip, model=model, image_size=16)
    table = pd.DataFrame(
        {"key": list("abcde"), "caption": [f"thing {i}" for i in range(5)]}
    ).assign(concept="", domain="", style="", split="train")
    batch = Pairs(np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8), table)
    with torch.no_grad():
        v, t = (
            torch.nn.functional.normalize(x, dim=-1)
            for x in encoded(siglip, batch_of(siglip, batch))
        )
        assert siglip.bias == -10 and clip.bias is None
        assert torch.allclose(
            retain_loss(siglip, batch), sigmoid_loss(v, t, siglip.scale, -10.0), rtol=1e-5
        )
    whole, pieces = (retain_gradient(siglip, batch, 5), retain_gradient(siglip, batch, 5, chunk=2))
    worst = max(
        (whole[n] - pieces[n]).norm() / whole[n].norm() for n in whole if whole[n].norm() > 1e-6
    )
    assert worst < 1e-4 and whole["logit_bias"].abs() > 0
