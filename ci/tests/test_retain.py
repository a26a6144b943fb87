"""Retain gradients computed once: the same as a concept's own draws, kept in a file, and refused for a concept they know."""

import pytest
import torch

from slugkit.base import SettingError, UnknownConceptError
from slugkit.evaluate import retain as room
from slugkit.evaluate.concept import forget_concept
from slugkit.evaluate.retain import RetainGradients
from slugkit.gradients import retain_gradient

SMALL = dict(size=24, batch_size=12, draws=2)


def test_none_of_the_concepts_is_in_the_pictures_and_for_one_they_are_its_own_draws(clip, source):
    many = ["Mira Kestrel", "car", "neon"]
    table = source.retain_set(many, 4000).table
    assert not set(table["concept"]) & set(many) and "neon" not in set(table["style"]) and not table["caption"].str.contains("Mira|neon|car ").any()
    alone = RetainGradients(clip, source, ["Mira Kestrel"], **SMALL)
    own = [retain_gradient(clip, source.retain_set("Mira Kestrel", 24, 0, draw=k), 12, 0) for k in range(2)]
    assert all(torch.equal(a[name], b[name]) for a, b in zip(alone.draws, own, strict=True) for name in b)
    with pytest.raises(UnknownConceptError):
        RetainGradients(clip, source, ["Mira Kestrle"], **SMALL)


def test_they_are_computed_once_kept_in_a_file_and_computed_again_where_it_is_broken(clip, source, tmp_path, monkeypatch):
    asked = ["Mira Kestrel", "Kofi Okoye"]
    first = RetainGradients(clip, source, asked, **SMALL, folder=tmp_path)
    drawn = first.of("Kofi Okoye")
    assert first.of("Mira Kestrel") is drawn and len(list(tmp_path.iterdir())) == 1
    calls = []
    monkeypatch.setattr(room, "retain_gradient", lambda *given: calls.append(given) or retain_gradient(*given))
    again = RetainGradients(clip, source, asked, **SMALL, folder=tmp_path)
    assert all(torch.equal(a[name], b[name]) for a, b in zip(again.draws, drawn, strict=True) for name in b) and not calls
    for other in (dict(SMALL, batch_size=8), dict(SMALL, size=25), dict(SMALL, draws=1)):
        assert RetainGradients(clip, source, asked, **other).key != first.key
    [file] = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:1000])
    mended = RetainGradients(clip, source, asked, **SMALL, folder=tmp_path)
    assert len(mended.draws) == 2 and len(calls) == 2
    with pytest.raises(SettingError, match="'car' may be in their pictures"):
        first.of("car")


def test_a_concept_may_be_forgotten_with_the_gradients_of_several(clip, source):
    shared = RetainGradients(clip, source, ["Mira Kestrel", "Kofi Okoye"], **SMALL)
    found = forget_concept(clip, source, "Mira Kestrel", forget_size=16, max_trials=1, towers=("text",), shared=shared)
    assert found.layers["front"].any() and found.seconds["gradients"] > 0
    with pytest.raises(SettingError, match="Name every concept"):
        forget_concept(clip, source, "car", forget_size=16, max_trials=1, towers=("text",), shared=shared)
