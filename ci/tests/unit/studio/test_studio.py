"""The studio: the same world, the same bytes, and splits that never share a picture."""

import dataclasses
import hashlib
import json

import draw_people
import numpy as np
import pytest

from slugkit import studio
from slugkit.base import UnknownConceptError, data_dir
from slugkit.studio.drawings import COLORS, DRAWINGS
from slugkit.studio.styles import STYLES

HASHES = data_dir() / "studio" / "picture_hashes.json"


def test_the_people_of_the_committed_world_are_drawn_from_its_seed():
    world = studio.load_world()
    assert dataclasses.asdict(draw_people.drawn(world)) == dataclasses.asdict(world)


def test_everything_in_the_committed_world_can_be_drawn():
    world = studio.load_world()
    assert world.objects == list(DRAWINGS["objects"])
    assert world.characters == list(DRAWINGS["characters"])
    assert world.styles == list(STYLES) and world.colors == list(COLORS)
    outlines, parts = DRAWINGS["outlines"], DRAWINGS["parts"]
    assert world.novel == [[shape, body] for shape in outlines for body in parts]
    assert set(world.neighbours) == {
        *(*world.people, *world.characters, *world.objects, *world.styles)
    }


def test_what_the_world_holds():
    world = studio.load_world()
    assert (
        len(world.people) >= 40
        and len(world.objects) >= 20
        and len(world.styles) >= 6
        and len(world.characters) >= 3
    )
    assert len(world.strangers["train"]) == len(world.strangers["test"]) == 10
    assert not set(world.people) & {n for g in world.strangers.values() for n in g}
    assert {k: len(v) for k, v in world.report.items()} == {
        "person": 10,
        "object": 3,
        "style": 2,
        "character": 2,
    }
    for name in [n for names in world.report.values() for n in names]:
        assert world.neighbours[name] and name not in world.neighbours[name]


def test_twins_share_all_but_two_traits_and_no_one_else_is_as_near():
    world = studio.load_world()
    assert len(world.twins) >= 3
    for a, b in world.twins:
        differing = [t for t in world.people[a] if world.people[a][t] != world.people[b][t]]
        assert len(differing) == 2, (a, b, differing)
        assert world.neighbours[a][0] == b and world.neighbours[b][0] == a
    pairs = {frozenset(t) for t in world.twins}
    others = [
        studio.trait_distance(world.people[a], world.people[b])
        for a in world.people
        for b in world.people
        if a < b and frozenset((a, b)) not in pairs
    ]
    assert min(others) > 0.2


def some_records():
    """Fifty pictures over all splits, kinds and styles."""
    records = [r for r in studio.training_records(600)][::20][:30]
    return (
        records
        + studio.solo_records("search", "Mira Kestrel", 1)
        + studio.solo_records("report", "Tin Wobble", 1)
        + studio.solo_records("nonmember", "car", 1)[:6]
    )


def test_fifty_pictures_have_the_recorded_hashes():
    found = {r.key: hashlib.sha256(studio.draw(r).tobytes()).hexdigest() for r in some_records()}
    assert len(found) == 50
    assert found == json.loads(HASHES.read_text(encoding="utf-8"))


def test_a_picture_does_not_depend_on_what_was_drawn_before():
    a, b = studio.training_records(2)
    first = studio.draw(b)
    studio.draw(a)
    assert np.array_equal(first, studio.draw(b)) and not np.array_equal(first, studio.draw(a))


def test_pictures_are_rgb_and_not_blank():
    for record in some_records():
        picture = studio.draw(record)
        assert picture.shape == (64, 64, 3) and picture.dtype == np.uint8 and picture.std() > 8, (
            record.key
        )


def test_splits_share_no_picture_and_strangers_are_in_none():
    world = studio.load_world()
    training = studio.training_records()
    assert len({r.key for r in training}) == len(training) == studio.TRAIN_SIZE
    strangers = {n for g in world.strangers.values() for n in g}
    assert not any(strangers & set(r.subjects) for r in training)
    hashes = {}
    for split in ("search", "report", "nonmember"):
        for record in studio.solo_records(split, "Mira Kestrel", 3):
            hashes.setdefault(hashlib.sha256(studio.draw(record).tobytes()).hexdigest(), set()).add(
                split
            )
    assert len(hashes) == 3 * 3 * len(world.styles) and all(len(s) == 1 for s in hashes.values())


def test_training_covers_every_kind_subject_and_style():
    world, training = studio.load_world(), studio.training_records()
    assert {r.kind for r in training} == {
        "person",
        "object",
        "character",
        "pair",
        "with object",
        "count",
        "novel",
    }
    assert {r.count for r in training if r.kind == "count"} == {1, 2, 3, 4}
    for person in world.people:
        assert {r.style for r in training if r.subjects == (person,)} == set(world.styles)


def test_captions_name_what_is_there_and_paraphrase():
    captions = {r.caption(k) for r in studio.training_records(40) for k in range(4)}
    assert len(captions) > 60
    for record in studio.training_records(200):
        if record.kind in ("person", "pair", "character"):
            assert all(name in record.caption() for name in record.subjects)
        if record.kind == "novel":
            assert f"{record.subjects[0]}-shaped {record.subjects[1]}" in record.caption()


def test_an_unknown_concept_offers_the_nearest():
    with pytest.raises(UnknownConceptError, match="Mira Kestrel"):
        studio.load_world().kind("Mira Kestral")


def test_odd_combinations_are_concepts_with_neighbours_of_the_same_body_first():
    world = studio.load_world()
    assert world.kind("star-shaped house") == "novel" and len(world.classes("novel")) == len(
        world.novel
    )
    near = world.neighbours_of("star-shaped house")
    bodies = [n.endswith("house") for n in near]
    assert (
        bodies == sorted(bodies, reverse=True)
        and any(bodies)
        and all(n.startswith("star") or n.endswith("house") for n in near)
    )
    assert (
        "star-shaped house" not in near
        and world.neighbours_of("Mira Kestrel") == world.neighbours["Mira Kestrel"]
    )
    record = studio.solo_records("report", "star-shaped house", 1, ["neon"])[0]
    assert (
        record.kind == "novel"
        and record.name == "star-shaped house"
        and record.subjects == ("star", "house")
        and len(record.colors) == 1
    )


def test_strangers_can_be_drawn_but_not_forgotten():
    world = studio.load_world()
    stranger = next(iter(world.strangers["test"]))
    assert studio.solo_records("report", stranger, 1, ["neon"])[0].kind == "person"
    with pytest.raises(UnknownConceptError):
        world.kind(stranger)


def test_passers_by_are_many_and_like_nobody_with_a_name():
    world = studio.load_world()
    known = [s for group in (world.people, *world.strangers.values()) for s in group.values()]
    signatures = [world.signature(f"passer-by {k}") for k in range(60)]
    assert (
        signatures[7] == world.signature("passer-by 7")
        and len({tuple(s.values()) for s in signatures}) == 60
    )
    assert min(studio.trait_distance(s, k) for s in signatures for k in known) >= 0.3
    pictures = studio.draw_many(
        [studio.Record("train", k, "person", (f"passer-by {k}",), "photo") for k in (0, 1)]
    )
    assert (pictures[0] != pictures[1]).any()
