"""Several patches that are one edit: applied together, taken off bit for bit, saved and read."""

import pytest
import torch
from tiny_clip import changed, state, tiny_clip
from tiny_patch import OUT_PROJ, patch_for

from slugkit import patch
from slugkit.base import GradientError, PatchError, ShapeError

OTHER = "visual.transformer.resblocks.1.mlp.c_fc.weight"
LAYERS = [OUT_PROJ, OTHER, "text_projection"]


@pytest.fixture
def model():
    return tiny_clip()


def moved(model, layers=(OUT_PROJ, OTHER), by=0.01):
    generator = torch.Generator().manual_seed(0)
    found = {n: model.get_parameter(n).detach().clone() for n in LAYERS}
    for name in layers:
        found[name] += by * torch.randn(found[name].shape, generator=generator)
    return found


def test_it_writes_the_new_weights_and_takes_them_off_bit_for_bit(model):
    before, new = state(model), moved(model)
    edit = patch.set_of(model, new, "Mira Kestrel", LAYERS)
    assert [p.layer for p in edit.patches] == [OUT_PROJ, OTHER]  # what did not change has none
    assert (edit.layer, edit.tower, edit.concept) == ("2 layers", "text and vision", "Mira Kestrel")
    with patch.applied(edit, model):
        assert changed(before, model) == {OUT_PROJ, OTHER}
        for name in (OUT_PROJ, OTHER):
            assert torch.allclose(model.get_parameter(name), new[name], rtol=0, atol=1e-7)
    assert not changed(before, model)
    with edit.applied(model):
        assert changed(before, model) == {OUT_PROJ, OTHER}


def test_its_size_is_relative_to_all_layers_that_could_change(model):
    new = moved(model)
    edit = patch.set_of(model, new, "x", LAYERS)
    size = sum(float(model.get_parameter(n).detach().square().sum()) for n in LAYERS)
    change = sum(float((new[n] - model.get_parameter(n).detach()).square().sum()) for n in LAYERS)
    assert edit.rho == pytest.approx((change / size) ** 0.5, rel=1e-5)
    assert patch.set_of(model, moved(model, [OUT_PROJ]), "x", LAYERS).layer == OUT_PROJ


def test_a_folder_holds_it_and_only_an_empty_one_is_written(model, tmp_path):
    edit = patch.set_of(model, moved(model), "x", LAYERS)
    folder = edit.save(tmp_path / "edit")
    assert len(list(folder.iterdir())) == 2
    again = patch.load_set(folder)
    assert again.sha256 == edit.sha256 and again.rho == pytest.approx(edit.rho)
    with pytest.raises(PatchError, match="not an empty folder"):
        edit.save(folder)
    with pytest.raises(PatchError, match="0 patches do not make one edit"):
        patch.load_set(tmp_path)
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(PatchError, match="no sound patch|not a sound patch"):
        patch.load_set(folder)


def test_what_is_no_edit_is_refused(model):
    one = patch_for(model)
    with pytest.raises(PatchError, match="each of another layer"):
        patch.PatchSet((one, patch_for(model, seed=2)), 0.1)
    with pytest.raises(PatchError, match="0 patches"):
        patch.set_of(model, moved(model, []), "x", LAYERS)
    broken = moved(model) | {OUT_PROJ: torch.full_like(model.get_parameter(OUT_PROJ), torch.nan)}
    with pytest.raises((PatchError, GradientError)):
        patch.set_of(model, broken, "x", LAYERS)
    with pytest.raises((ShapeError, RuntimeError)):
        patch.set_of(model, {OUT_PROJ: torch.zeros(3, 3)}, "x", LAYERS)


def test_it_stands_where_one_patch_does_among_several(model):
    before = state(model)
    edit = patch.set_of(model, moved(model, [OTHER]), "x", LAYERS)
    with patch.all_applied([patch_for(model), edit], model):
        assert changed(before, model) == {OUT_PROJ, OTHER}
    assert not changed(before, model)
