"""Questions about studio pictures: what is asked of which picture, and that the answers are the
world's.
"""

import numpy as np
import pytest

from slugkit import studio
from slugkit.studio import questions as asking


@pytest.fixture(scope="module")
def world():
    return studio.load_world()


def ask(record, world, use="taught"):
    return {q.kind: q for q in asking.questions(record, world, np.random.default_rng(0), use)}


def test_a_person_is_asked_about_name_and_traits_and_a_stranger_is_not_known(world):
    for name in world.people:
        photo, sketch = (
            ask(studio.Record("train", 0, "person", (name,), style), world)
            for style in ("photo", "sketch")
        )
        signature = world.signature(name)
        assert photo["who"].answer == f"this is {name}." and photo["hat"].key == (
            "no" if signature["hat"] == "none" else "yes"
        )
        assert photo["glasses"].key == ("no" if signature["glasses"] == "none" else "yes")
        assert (
            ("hair" in photo) == (signature["hair"] != "bald")
            and "hair" not in sketch
            and sketch["style"].key == "sketch"
        )
        assert photo["wearing"].key in photo["wearing"].answer
    for group in world.strangers.values():
        assert all(
            ask(studio.Record("train", 0, "person", (name,), "photo"), world)["who"].answer
            == asking.UNKNOWN
            for name in group
        )


def test_things_are_asked_about_what_they_are(world):
    assert (
        ask(studio.Record("train", 0, "object", ("umbrella",), "neon", ("red",)), world)[
            "object"
        ].answer
        == "an umbrella."
    )
    assert (
        ask(studio.Record("train", 0, "novel", ("star", "house"), "neon", ("red",)), world)[
            "object"
        ].key
        == "star-shaped house"
    )
    count = ask(studio.Record("train", 0, "count", ("star",), "photo", ("red",), 3), world)["count"]
    assert "stars" in count.text and "{}" not in count.text and count.key == "three"
    assert set(
        ask(studio.Record("train", 0, "pair", ("Mira Kestrel", "Kofi Okoye"), "photo"), world)
    ) == {"style"}


def test_two_wordings_of_each_kind_are_never_taught(world):
    record = studio.Record("train", 0, "person", ("Mira Kestrel",), "photo")
    taught = {
        q.text
        for seed in range(60)
        for q in asking.questions(record, world, np.random.default_rng(seed))
    }
    held = {
        q.text
        for seed in range(60)
        for q in asking.questions(record, world, np.random.default_rng(seed), "untaught")
    }
    search, report = (
        {
            q.text
            for seed in range(60)
            for q in asking.questions(record, world, np.random.default_rng(seed), use)
        }
        for use in ("search", "report")
    )
    assert (
        not taught & held
        and len(held) == 2 * 6
        and not search & report
        and search | report == taught
    )
    everything = [text for ways in asking.WORDINGS.values() for text in ways]
    assert len(set(everything)) == len(everything)


def test_every_training_picture_has_a_question(world):
    kinds = {kind for record in studio.training_records(400) for kind in ask(record, world)}
    assert kinds == set(asking.WORDINGS)
