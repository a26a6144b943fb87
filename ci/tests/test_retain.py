"""The retain side computed once: in parts that make up the whole, kept in a file, and refused for a
concept it knows.
"""

import pytest
import torch

from slugkit.base import SettingError, UnknownConceptError
from slugkit.evaluate import retain as room
from slugkit.evaluate.concept import forget_concept
from slugkit.evaluate.retain import RetainSide, mean_of, retain_parts
from slugkit.gradients import retain_gradient
from slugkit.models import inputs

SMALL = dict(size=60, batch_size=12)
LAYERS = ["transformer.resblocks.1.mlp.c_fc.weight", "visual.proj"]


def test_none_of_the_concepts_is_in_the_pictures(clip, source):
    many = ["Mira Kestrel", "car", "neon"]
    table = source.retain_set(many, 4000).table
    assert not set(table["concept"]) & set(many) and "neon" not in set(table["style"])
    assert not table["caption"].str.contains("Mira|neon|car ").any()
    with pytest.raises(UnknownConceptError):
        RetainSide(clip, source, ["Mira Kestrle"], **SMALL)


def test_the_parts_hold_every_pair_once_and_their_mean_is_the_whole_gradient(clip, source):
    side = RetainSide(clip, source, ["Mira Kestrel"], **SMALL)
    parts = retain_parts(side.pairs, 12)
    assert len(side.parts) == len(parts) == 5 and {len(part) for part in parts} == {12}
    keys = [key for part in parts for key in part.table["key"]]
    assert (
        sorted(keys) == sorted(side.pairs.table["key"]) and len(set(keys)) == side.pairs_seen == 60
    )
    one = retain_gradient(clip, parts[3], 12)
    assert all(torch.equal(side.parts[3][name], one[name]) for name in one)
    for name, g in side.gradient.items():
        assert torch.allclose(g, torch.stack([part[name] for part in side.parts]).mean(0))


def test_parts_of_unequal_size_weigh_by_their_pairs_and_a_part_holds_a_micro_batch(source):
    pairs = source.retain_set("Mira Kestrel", 23)
    assert [len(part) for part in retain_parts(pairs, 12)] == [23]
    assert [len(part) for part in retain_parts(pairs, 11)] == [12, 11]
    found = mean_of([{"w": torch.tensor([1.0])}, {"w": torch.tensor([4.0])}], [12, 6])
    assert found["w"].tolist() == [2.0]


def test_they_are_computed_once_kept_in_a_file_and_computed_again_where_it_is_broken(
    clip, source, tmp_path, monkeypatch
):
    asked = ["Mira Kestrel", "Kofi Okoye"]
    first = RetainSide(clip, source, asked, **SMALL, folder=tmp_path)
    first.require("Kofi Okoye")
    known = first.parts
    assert first.parts is known and len(list(tmp_path.iterdir())) == 1
    calls = []
    monkeypatch.setattr(
        room, "retain_gradient", lambda *given: calls.append(given) or retain_gradient(*given)
    )
    again = RetainSide(clip, source, asked, **SMALL, folder=tmp_path)
    assert all(torch.equal(a[n], b[n]) for a, b in zip(again.parts, known, strict=True) for n in b)
    assert not calls
    for other in (dict(SMALL, batch_size=8), dict(SMALL, size=61), dict(SMALL, seed=1)):
        assert RetainSide(clip, source, asked, **other).key != first.key
    [file] = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:1000])
    mended = RetainSide(clip, source, asked, **SMALL, folder=tmp_path)
    assert len(mended.parts) == 5 == len(calls)
    with pytest.raises(SettingError, match="'car' may be in its pictures"):
        first.require("car")


def test_what_the_layers_read_is_measured_once_a_layer(clip, source, monkeypatch):
    side, calls = RetainSide(clip, source, ["Mira Kestrel"], **SMALL), []

    def counted(clip, pairs, layers):
        calls.append(layers)
        return inputs.read_moments(clip, pairs, layers)

    monkeypatch.setattr(room, "read_moments", counted)
    first = side.moments(LAYERS[:1])[LAYERS[0]]
    both = side.moments(LAYERS)
    assert calls == [LAYERS[:1], LAYERS[1:]] and both[LAYERS[0]] is first and list(both) == LAYERS


@torch.no_grad()
def test_the_moments_are_those_of_what_the_layers_multiply(clip, source):
    """Captions up to their end token; all pictures."""
    pairs, kept = source.retain_set("Mira Kestrel", 24), {"text": [], "vision": []}
    text, vision = clip.model.transformer.resblocks[1].mlp.c_fc, clip.model.visual.ln_post
    handles = [
        text.register_forward_pre_hook(lambda module, x: kept["text"].append(x[0])),
        vision.register_forward_hook(lambda module, x, y: kept["vision"].append(y)),
    ]
    tokens = clip.tokens(pairs.captions)
    clip.model.encode_text(tokens)
    clip.image_features(pairs.images)
    for handle in handles:
        handle.remove()
    read = [x[: int(ids.argmax()) + 1] for x, ids in zip(kept["text"][0], tokens, strict=True)]
    rows = {LAYERS[0]: torch.cat(read).double()}
    pooled = torch.cat(kept["vision"]).double()
    rows[LAYERS[1]] = pooled[:, 0] if pooled.ndim == 3 else pooled
    found = inputs.read_moments(clip, pairs, LAYERS)
    for layer, x in rows.items():
        assert torch.allclose(found[layer], x.T @ x / len(x), atol=1e-5 * float(found[layer].max()))


def test_a_concept_may_be_forgotten_with_the_retain_side_of_several(clip, source):
    shared = RetainSide(clip, source, ["Mira Kestrel", "Kofi Okoye"], **SMALL)
    given = dict(forget_size=16, max_trials=1, towers=("text",), shared=shared)
    found = forget_concept(clip, source, "Mira Kestrel", **given)
    assert found.layers["front"].any() and found.seconds["gradients"] > 0
    with pytest.raises(SettingError, match="Name every concept"):
        forget_concept(clip, source, "car", **given)
