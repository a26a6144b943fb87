"""Doubtful sets are told apart from sound ones, each doubt by its own row."""

import io
import time

import numpy as np
import pandas as pd
import pytest
from picture_files import whole_files
from PIL import Image

from slugkit.data import Pairs, check_sets
from slugkit.data.checks import Fingerprints, fingerprints, near_rows
from slugkit.data.pictures import Pictures


def scene(seed, size=64):
    """A smooth picture that no other seed gives: (size, size, 3) uint8."""
    small = np.random.default_rng(seed).integers(0, 255, (7, 7, 3), np.uint8)
    return np.asarray(Image.fromarray(small).resize((size, size), Image.Resampling.BICUBIC))


def pairs(seeds, caption="a pier number {}", concept="", split="train"):
    """Pairs in memory, one scene a seed."""
    table = pd.DataFrame(
        {
            "key": [f"{split}{s}" for s in seeds],
            "caption": [caption.format(s) for s in seeds],
            "concept": concept,
            "domain": "classes",
            "style": "",
            "split": split,
        }
    )
    return Pairs(np.stack([scene(s) for s in seeds]), table)


def joined(one, other):
    """Two sets as one."""
    return Pairs(np.concatenate([one.images, other.images]), pd.concat([one.table, other.table]))


@pytest.fixture(scope="module")
def sound():
    """Sets with nothing to complain about."""
    return {
        "forget": pairs(range(30), "Ada Vell, picture {}", "Ada Vell"),
        "retain": pairs(range(100, 160)),
        "search": pairs(range(200, 230), concept="Ada Vell", split="search"),
        "report": pairs(range(300, 330), concept="Ada Vell", split="report"),
    }


def doubts(sets):
    """check -> count, of the rows that ask for something."""
    table = check_sets(**sets, concept="Ada Vell")
    assert list(table.columns) == ["check", "count", "of", "what to do"]
    asked = table[table["what to do"] != ""]
    return dict(zip(asked["check"], asked["count"]))


def test_sound_sets_raise_no_doubt(sound):
    assert doubts(sound) == {}
    assert len(check_sets(sound["forget"], sound["retain"], concept="Ada Vell")) < len(
        check_sets(**sound, concept="Ada Vell")
    )


@pytest.mark.parametrize(
    ("change", "check", "count"),
    [
        (dict(forget=pairs(range(19), "Ada Vell {}")), "pairs in the forget set", 19),
        (dict(retain=pairs(range(100, 129))), "pairs in the retain set", 29),
        (
            dict(report=pairs(range(300, 319), concept="Ada Vell")),
            "pictures of the concept in the report set",
            19,
        ),
        (
            dict(forget=joined(pairs(range(30), "Ada Vell {}"), pairs([3], "Ada Vell again {}"))),
            "exact copies within forget",
            1,
        ),
        (
            dict(retain=joined(pairs(range(100, 160)), pairs([4, 5], "seen {}"))),
            "pictures of retain also in forget",
            2,
        ),
        (
            dict(report=joined(pairs(range(300, 330), concept="Ada Vell"), pairs([105]))),
            "pictures of report also in retain",
            1,
        ),
        (
            dict(forget=joined(pairs(range(29), "Ada Vell {}"), pairs([29]))),
            "forget captions that do not name the concept",
            1,
        ),
        (
            dict(retain=joined(pairs(range(100, 160)), pairs([170], "at ada vell's {}"))),
            "retain captions that name the concept",
            1,
        ),
        (
            dict(retain=joined(pairs(range(100, 160)), pairs([170, 171, 172, 173], "stock photo"))),
            "retain pairs with a caption that occurs often",
            4,
        ),
    ],
)
def test_each_doubt_has_its_own_row(sound, change, check, count):
    assert doubts({**sound, **change}) == {check: count}


def saved_again(picture):
    """As a JPEG of quality 60, scaled to three quarters and back."""
    out = io.BytesIO()
    Image.fromarray(picture).resize((48, 48), Image.Resampling.BICUBIC).save(
        out, "JPEG", quality=60
    )
    return np.asarray(Image.open(out).resize((64, 64), Image.Resampling.BICUBIC))


def test_a_picture_saved_again_is_a_near_copy_and_not_an_exact_one(sound):
    again = pairs(range(300, 330), concept="Ada Vell", split="report")
    again.images[:3] = [saved_again(scene(s)) for s in (1, 2, 3)]
    assert doubts({**sound, "report": again}) == {"near copies in report of pictures in forget": 3}


def test_flat_pictures_are_no_copies_of_each_other():
    flat = [fingerprints(np.full((5, 32, 32, 3), level, np.uint8)) for level in (10, 200)]
    assert not near_rows(*flat).any()


def test_pictures_on_disk_are_compared_by_their_bytes_and_broken_ones_counted(sound, tmp_path):
    for seed in range(100, 160):
        Image.fromarray(scene(seed)).save(tmp_path / f"{seed}.png")
    (tmp_path / "100.png").write_bytes(b"broken")
    (tmp_path / "101.png").write_bytes((tmp_path / "102.png").read_bytes())
    files = [tmp_path / f"{seed}.png" for seed in range(100, 160)]
    on_disk = Pairs(Pictures(whole_files(files), 32), pairs(range(100, 160)).table)
    assert doubts({**sound, "retain": on_disk}) == {
        "unreadable pictures in retain": 1,
        "exact copies within retain": 1,
    }


@pytest.mark.slow
def test_near_copies_are_found_among_ten_thousand_pictures_in_seconds():
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**63, (2, 10_000, 2)).astype(np.uint64)
    bits[1, 77] = bits[0, 9_000] ^ np.uint64(0b111)  # 3 of 64 bits in either half: 6 in all
    bits[1, 78] = bits[0, 9_001] ^ np.array([0b111, 0b1111], np.uint64)
    marks = [
        Fingerprints([f"{k}{i}" for i in range(10_000)], b, np.ones(10_000, bool))
        for k, b in enumerate(bits)
    ]
    started = time.monotonic()
    assert np.flatnonzero(near_rows(*marks)).tolist() == [77]
    assert time.monotonic() - started < 15
