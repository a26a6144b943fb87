"""The retain side computed once: parts whose mean is the gradient, kept in a file, and refused for
a concept they know.
"""

import numpy as np
import pytest
import torch

from slugkit.base import SettingError, UnknownConceptError
from slugkit.models.activations import read_moments
from slugkit.unlearning import retain as room
from slugkit.unlearning.call import unlearn
from slugkit.unlearning.gradients import retain_gradient
from slugkit.unlearning.retain import RetainSide, mean_of, retain_parts

pytestmark = pytest.mark.slow

SMALL = dict(size=24, batch_size=12)


def test_none_of_the_concepts_is_in_the_pictures(clip, source):
    many = ["Mira Kestrel", "car", "neon"]
    table = source.retain_set(many, 4000).table
    assert not set(table["concept"]) & set(many) and "neon" not in set(table["style"])
    assert not table["caption"].str.contains("Mira|neon|car ").any()
    with pytest.raises(UnknownConceptError):
        RetainSide(clip, source, ["Mira Kestrle"], **SMALL)


def test_the_parts_are_the_set_and_their_mean_is_its_gradient(clip, source):
    side = RetainSide(clip, source, ["Mira Kestrel"], **SMALL)
    parts = retain_parts(side.pairs, 12)
    keys = [key for part in parts for key in part.table["key"]]
    assert (
        len(parts) == 2 and sorted(keys) == sorted(side.pairs.table["key"]) and len(set(keys)) == 24
    )
    by_hand = [retain_gradient(clip, part, 12, 0) for part in parts]
    for name in ("text_projection", "visual.conv1.weight"):
        assert torch.allclose(
            side.gradient[name], (by_hand[0][name] + by_hand[1][name]) / 2, atol=1e-7
        )
    assert [len(retain_parts(side.pairs, n)) for n in (4, 5, 24, 100)] == [5, 4, 1, 1]
    uneven = mean_of([{"w": torch.tensor(1.0)}, {"w": torch.tensor(4.0)}], [2, 1])
    assert uneven["w"] == pytest.approx(2.0)


def test_the_parts_are_alike_in_what_they_show(source):
    parts = retain_parts(source.retain_set("Mira Kestrel", 1000), 128)
    people = [(part.table["kind"] == "person").mean() for part in parts]
    assert len(parts) == 5 and np.ptp(people) < 0.15


def test_they_are_computed_once_kept_in_a_file_and_computed_again_where_it_is_broken(
    clip, source, tmp_path, monkeypatch
):
    asked = ["Mira Kestrel", "Kofi Okoye"]
    first = RetainSide(clip, source, asked, **SMALL, folder=tmp_path)
    parts = first.parts
    assert first.parts is parts and len(list(tmp_path.iterdir())) == 1
    calls = []
    monkeypatch.setattr(
        room,
        "retain_gradient",
        lambda *given, **how: calls.append(given) or retain_gradient(*given, **how),
    )
    again = RetainSide(clip, source, asked, **SMALL, folder=tmp_path)
    assert all(torch.equal(a[n], b[n]) for a, b in zip(again.parts, parts, strict=True) for n in b)
    assert not calls
    for other in (dict(SMALL, batch_size=8), dict(SMALL, size=25), dict(SMALL, seed=1)):
        assert RetainSide(clip, source, asked, **other).key != first.key
    [file] = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:1000])
    mended = RetainSide(clip, source, asked, **SMALL, folder=tmp_path)
    assert len(mended.parts) == 2 and len(calls) == 2


def test_what_the_layers_read_is_measured_once_a_layer(clip, source, monkeypatch):
    side, calls = RetainSide(clip, source, ["Mira Kestrel"], **SMALL), []
    layers = ["transformer.resblocks.1.mlp.c_fc.weight", "visual.proj"]
    monkeypatch.setattr(
        room, "read_moments", lambda *given: calls.append(given[2]) or read_moments(*given)
    )
    first = side.moments(layers[:1])[layers[0]]
    both = side.moments(layers)
    assert calls == [layers[:1], layers[1:]] and both[layers[0]] is first and list(both) == layers


def test_a_concept_may_be_forgotten_with_the_retain_side_of_several(clip, source):
    shared = RetainSide(clip, source, ["Mira Kestrel", "Kofi Okoye"], **SMALL)
    given = dict(forget_size=16, max_trials=1, towers=("text",), shared=shared)
    found = unlearn(clip, source, "Mira Kestrel", **given)
    assert found.layers["front"].any() and found.costs["pairs"] == 16 + 24
    assert found.costs["probes"] == len(found.table) > 0 and found.costs["peak_mb"] > 100
    with pytest.raises(SettingError, match="Name every concept"):
        unlearn(clip, source, "car", **given)
