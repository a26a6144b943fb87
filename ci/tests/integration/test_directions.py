"""SLUG's sign, measured without the package's losses, and SLUG-R's direction: formula, side,
orientation and what it reads.
"""

import numpy as np
import pytest
import torch

from slugkit.base import SettingError
from slugkit.method.directions import from_the_left, retain_aware, retain_aware_directions
from slugkit.method.edit import EditableLayer
from slugkit.models.activations import read_moments
from slugkit.unlearning.gradients import forget_gradient

LAYERS = (
    "text_projection",
    "visual.proj",
    "transformer.resblocks.1.attn.out_proj.weight",
    "transformer.resblocks.3.mlp.c_fc.weight",
    "visual.transformer.resblocks.2.attn.in_proj_weight",
    "visual.conv1.weight",
)


def raw_cosine(clip, pairs) -> float:
    """The mean cosine of the matching pairs, from open_clip's towers and numpy alone."""
    pixels = np.asarray(pairs.images).astype(np.float32) / 255
    pixels = torch.from_numpy((pixels - clip.mean) / clip.std).float().permute(0, 3, 1, 2)
    with torch.no_grad():
        v = clip.model.encode_image(pixels).double().numpy()
        t = clip.model.encode_text(clip.tokenizer(pairs.captions)).double().numpy()
    return float(((v * t).sum(1) / np.linalg.norm(v, axis=1) / np.linalg.norm(t, axis=1)).mean())


@pytest.fixture(scope="module")
def forget(source):
    return source.forget_set("Oskar Marlow", 24, 0)


@pytest.fixture(scope="module")
def g_forget(clip, forget):
    return forget_gradient(clip, forget, 24)


@pytest.fixture(scope="module")
def retain(source):
    return source.retain_set("Oskar Marlow", 48, 0)


@pytest.mark.parametrize("layer", LAYERS)
def test_a_step_against_g_f_lowers_the_raw_cosine_of_the_forget_pairs(
    clip, forget, g_forget, layer
):
    before = raw_cosine(clip, forget)
    with EditableLayer.of(clip.model, layer, g_forget[layer]) as editable:
        editable.set(editable.lam(0.01))
        against = raw_cosine(clip, forget)
        editable.set(-editable.lam(0.01))
        along = raw_cosine(clip, forget)
    assert against < before < along and raw_cosine(clip, forget) == before


def square():
    """An asymmetric square direction and a second moment, with which no side can stand in for the
    other.
    """
    rng = torch.Generator().manual_seed(4)
    x = torch.randn(40, 5, generator=rng, dtype=torch.float64) * torch.tensor([3.0, 1, 1, 0.5, 0.1])
    return torch.randn(5, 5, generator=rng), x.T @ x / 40


@pytest.mark.parametrize("damping", [1.0, 0.1, 0.01, 0.001])
def test_retain_aware_is_its_formula_from_the_right(damping):
    g, moment = square()
    inverse = np.linalg.inv(moment.numpy() + damping * np.trace(moment.numpy()) / 5 * np.eye(5))
    wanted = g.double().numpy() @ inverse
    wanted *= np.linalg.norm(g.numpy()) / np.linalg.norm(wanted)
    found = retain_aware(g, moment, damping).numpy()
    assert np.allclose(found, wanted, atol=1e-5) and found.dtype == np.float32
    wrong = inverse @ g.double().numpy()
    wrong *= np.linalg.norm(g.numpy()) / np.linalg.norm(wrong)
    assert not np.allclose(found, wrong, atol=0.05)


def test_it_moves_the_retain_outputs_least_for_its_effect_and_large_damping_is_slug():
    g, moment = square()

    def felt(d):
        """Mean square change of the layer's outputs on the retain set at a first-order
        effect of 1.
        """
        d = d.double() / (g.double() * d.double()).sum()
        return float(torch.trace(d @ moment @ d.T))

    found = [felt(retain_aware(g, moment, damping)) for damping in (1e9, 1.0, 0.1, 0.001)]
    assert found == sorted(found, reverse=True) and found[0] == pytest.approx(felt(g), rel=1e-4)
    rng = torch.Generator().manual_seed(5)
    assert all(felt(g + 0.3 * torch.randn(5, 5, generator=rng)) > found[-1] for _ in range(50))
    with pytest.raises(SettingError, match="damping is 0"):
        retain_aware(g, moment, 0.0)


def test_a_matrix_that_multiplies_from_the_right_is_turned():
    g, moment = square()
    found = retain_aware_directions(
        {"visual.proj": g, "a.weight": g}, {"visual.proj": moment, "a.weight": moment}, 0.1
    )
    assert torch.equal(found["a.weight"], retain_aware(g, moment, 0.1))
    assert torch.allclose(found["visual.proj"], retain_aware(g.T, moment, 0.1).T)
    assert not torch.allclose(found["visual.proj"], found["a.weight"], atol=0.05)


def moment_by_hook(module, run) -> torch.Tensor:
    """Second moment of a module's inputs, counted here."""
    rows = []
    hook = module.register_forward_pre_hook(
        lambda m, inputs: rows.append(inputs[0].detach().flatten(0, -2))
    )
    with torch.no_grad():
        run()
    hook.remove()
    x = torch.cat(rows).double()
    return x.T @ x / len(x)


def test_the_moments_are_of_what_the_layers_read(clip, retain):
    """Against open_clip's own modules: captions to their end token one by one, pictures,
    patches.
    """
    names = [
        "transformer.resblocks.1.mlp.c_fc.weight",
        "text_projection",
        "visual.transformer.resblocks.2.mlp.c_proj.weight",
        "visual.proj",
        "visual.conv1.weight",
    ]
    found = read_moments(clip, retain, names)
    model, tokens = clip.model, clip.tokens(retain.captions)
    pixels, pooled = clip.pixels(retain.images), []

    def text():
        for row in tokens:
            end = int(row.argmax()) + 1
            x = model.token_embedding(row[None, :end]) + model.positional_embedding[:end]
            x = model.transformer(x, attn_mask=model.attn_mask[:end, :end])
            pooled.append(model.ln_final(x)[:, -1])

    assert torch.allclose(
        found[names[0]],
        moment_by_hook(model.transformer.resblocks[1].mlp.c_fc, text),
        rtol=1e-3,
        atol=1e-4,
    )
    x = torch.cat(pooled).double()
    assert torch.allclose(found["text_projection"], x.T @ x / len(x), rtol=1e-3, atol=1e-4)
    block = model.visual.transformer.resblocks[2].mlp.c_proj
    assert torch.allclose(
        found[names[2]],
        moment_by_hook(block, lambda: model.encode_image(pixels)),
        rtol=1e-3,
        atol=1e-4,
    )
    with torch.no_grad():
        v = model.encode_image(pixels).double()
        patches = (
            torch.nn.functional.unfold(pixels, 8, stride=8).transpose(1, 2).flatten(0, 1).double()
        )
    assert torch.allclose(
        model.visual.proj.T.double() @ found["visual.proj"] @ model.visual.proj.double(),
        v.T @ v / len(v),
        rtol=1e-3,
        atol=1e-3,
    )
    assert torch.allclose(
        found["visual.conv1.weight"], patches.T @ patches / len(patches), rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("layer", LAYERS)
def test_slug_r_forgets_with_less_change_to_what_the_retain_set_gives(
    clip, forget, retain, g_forget, layer
):
    """At one length of effect on the raw cosine, SLUG-R moves the features of the retain pairs
    less.
    """
    moments = read_moments(clip, retain, [layer])
    ways = {
        "SLUG": g_forget[layer],
        "SLUG-R": retain_aware_directions(g_forget, moments, 0.01)[layer],
    }

    def features():
        return torch.cat([clip.image_features(retain.images), clip.text_features(retain.captions)])

    before, start, moved = features(), raw_cosine(clip, forget), {}
    for method, direction in ways.items():
        effect = float((g_forget[layer].double() * direction.double()).sum())
        with EditableLayer.of(clip.model, layer, direction) as editable:
            editable.set(0.02 / effect)
            assert raw_cosine(clip, forget) < start
            moved[method] = float((features() - before).norm())
    assert moved["SLUG-R"] < 0.8 * moved["SLUG"]


def test_a_direction_is_turned_so_that_its_inputs_are_its_columns():
    g = torch.arange(6.0).reshape(2, 3)
    assert torch.equal(from_the_left("text_projection", g), g.T)
    assert torch.equal(from_the_left("transformer.resblocks.0.mlp.c_fc.weight", g), g)
    assert from_the_left("visual.conv1.weight", torch.ones(4, 3, 2, 2)).shape == (4, 12)
