"""Pictures as people have them, in whatever source: turned, transparent, with 16 bits, in CMYK.
Seen as people see them, and counted.
"""

import numpy as np
import pytest
from picture_files import (
    SOURCES,
    as_stored,
    encoded,
    noise_under_alpha,
    picture,
    pictures_of,
    tagged,
    write,
)
from PIL import Image

from slugkit.base import UnreadableImagesError
from slugkit.data import open_data
from slugkit.data.opening import INKS, ON_WHITE, SCALED, TURNED, open_rgb
from slugkit.models.vlm import opened


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of the test's own."""
    monkeypatch.setenv("SLUGKIT_CACHE", str(tmp_path / "cache"))


# -- turned ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SOURCES)
def test_a_picture_is_turned_as_its_camera_was_held_in_every_source(kind, tmp_path):
    upright = [picture(k, (40, 40)) for k in range(7)]
    shown = pictures_of(
        kind,
        tmp_path / "a",
        [encoded(as_stored(image, k + 2), exif=tagged(k + 2)) for k, image in enumerate(upright)],
    )
    plain = pictures_of(kind, tmp_path / "b", [encoded(image) for image in upright])
    assert np.array_equal(shown, plain)


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_every_tag_is_honoured_in_every_format(form, orientation):
    image, how = (
        picture(3),
        {"quality": 100, "lossless": True} if form == "WEBP" else {"quality": 100},
    )
    data = encoded(
        as_stored(image, orientation),
        form,
        exif=tagged(orientation),
        **({} if form in ("PNG", "TIFF") else how),
    )
    shown, changed = open_rgb(data)
    assert (
        shown.size == image.size
        and np.abs(np.asarray(shown).astype(int) - np.asarray(image)).mean() < 3
    )
    assert changed == [TURNED]


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize(
    "exif",
    [b"Exif\0\0garbage", b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x63\0\0", b""],
)
def test_a_tag_that_says_nothing_turns_nothing(exif):
    image = picture(4)
    shown, changed = open_rgb(encoded(image, "PNG", exif=exif))
    assert np.array_equal(shown, image) and changed == []


def test_questions_are_asked_about_the_picture_as_people_see_it(tmp_path):
    image = picture(5)
    file, clear = tmp_path / "held.png", image.convert("RGBA")
    file.write_bytes(encoded(as_stored(image, 6), exif=tagged(6)))
    clear.putalpha(0)
    asked = opened([file, str(file), Image.open(file), clear, np.asarray(image)])
    assert (
        all(np.array_equal(a, image) for a in asked[:3])
        and set(np.asarray(asked[3]).ravel()) == {255}
        and np.array_equal(asked[4], image)
    )
    for wrong in (Image.new("L", (1, 400_000)), Image.new("F", (4, 4)), tmp_path / "none.png"):
        with pytest.raises(UnreadableImagesError, match="Nothing was asked"):
            opened([wrong])


# -- unusual pixels --------------------------------------------------------------------------------


def palette():
    """A palette picture whose colour 0 is transparent, and what is seen of it."""
    image = Image.fromarray(np.repeat(np.arange(20, dtype=np.uint8)[None] // 10, 20, 0), "P")
    image.putpalette([200, 0, 0, 0, 90, 0])
    expected = np.full((20, 20, 3), 255, np.uint8)
    expected[:, 10:] = (0, 90, 0)
    return image, expected


def keyed():
    """An RGB picture whose red is transparent by its colour, and what is seen of it."""
    image = Image.new("RGB", (20, 20), (200, 0, 0))
    image.paste((0, 90, 0), (10, 0, 20, 20))
    expected = np.full((20, 20, 3), 255, np.uint8)
    expected[:, 10:] = (0, 90, 0)
    return image, expected


SEEN_THROUGH = {
    "RGBA": (lambda: noise_under_alpha("RGBA"), {}),
    "LA": (lambda: noise_under_alpha("LA"), {}),
    "P": (palette, {"transparency": 0}),
    "RGB with a colour": (keyed, {"transparency": (200, 0, 0)}),
}


@pytest.mark.parametrize("name", SEEN_THROUGH)
def test_what_is_transparent_is_laid_on_white(name):
    made, how = SEEN_THROUGH[name]
    image, expected = made()
    shown, changed = open_rgb(encoded(image, **how))
    assert np.array_equal(shown, expected) and changed == [ON_WHITE]


def test_half_transparent_is_half_white_and_opaque_is_unchanged_and_not_counted():
    half = Image.new("RGBA", (8, 8), (0, 0, 0, 128))
    assert abs(int(np.asarray(open_rgb(encoded(half))[0]).mean()) - 127) <= 1
    opaque = picture(6).convert("RGBA")
    shown, changed = open_rgb(encoded(opaque))
    assert np.array_equal(shown, opaque.convert("RGB")) and changed == []


@pytest.mark.parametrize(("form", "order"), [("PNG", "<u2"), ("TIFF", "<u2"), ("TIFF", ">u2")])
def test_grey_of_16_bits_is_scaled_and_not_cut(form, order):
    values = np.linspace(0, 65535, 400).reshape(20, 20)
    image = Image.fromarray(values.astype("<u2"))
    if order == ">u2":
        image = Image.frombytes("I;16B", (20, 20), values.astype(">u2").tobytes())
    shown, changed = open_rgb(encoded(image, form))
    assert np.abs(np.asarray(shown)[..., 0] - values / 257).max() <= 1 and changed == [SCALED]
    turned, both = open_rgb(encoded(as_stored(image, 6), form, exif=tagged(6)))
    assert np.abs(np.asarray(turned)[..., 0] - values / 257).max() <= 1 and both == [TURNED, SCALED]


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("F", "floating-point numbers .*mode F.*8 or 16 bits were expected"),
        ("I", "32-bit integers"),
    ],
)
def test_numbers_without_a_white_are_refused_by_name(mode, words):
    depth = Image.fromarray(
        np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
        if mode == "F"
        else np.arange(64, dtype=np.int32).reshape(8, 8)
    )
    assert depth.mode == mode
    with pytest.raises(ValueError, match=words):
        open_rgb(encoded(depth, "TIFF"))


@pytest.mark.parametrize("form", ["JPEG", "TIFF"])
def test_cmyk_is_read_as_colours_and_said(form):
    image = picture(7)
    shown, changed = open_rgb(
        encoded(image.convert("CMYK"), form, **({"quality": 100} if form == "JPEG" else {}))
    )
    assert np.abs(np.asarray(shown).astype(int) - np.asarray(image)).mean() < 3 and changed == [
        INKS
    ]


@pytest.mark.parametrize("kind", SOURCES)
def test_every_source_counts_and_names_what_it_changed(kind, tmp_path):
    clear, grey = noise_under_alpha("RGBA")[0], Image.fromarray(np.full((9, 9), 40_000, np.uint16))
    odd = [
        encoded(clear),
        encoded(grey),
        encoded(picture(1).convert("CMYK"), "JPEG"),
        encoded(picture(2), exif=tagged(6)),
    ]
    source = open_data(
        str(write(kind, tmp_path / "d", odd + [encoded(picture(k)) for k in range(3, 20)])), 16
    )
    assert source.left_out().empty
    concept = {"unlearncanvas": "Van_Gogh", "recipe": "Ada Vellmer"}.get(kind, "Ada")
    if kind == "recipe":
        source.exam(concept, "search"), source.exam(concept, "report")
    else:
        source.forget_set(concept, 99)
    if kind == "unlearncanvas":
        source.exam(concept, "search"), source.exam(concept, "report")
    told = source.left_out()
    assert set(told["what"]) == {"changed"} and dict(zip(told["why"], told["pictures"])) == {
        ON_WHITE: 1,
        SCALED: 1,
        INKS: 1,
        TURNED: 1,
    }
    first = {
        "folder": "Ada000.png",
        "table": "Ada000.png",
        "shards": "0.tar/Ada000",
        "saved set": "train/00000000",
        "recipe": "celeba/Ada000.jpg",
        "unlearncanvas": "Van_Gogh/Dogs/1.jpg",
    }[kind]
    assert told.set_index("why")["which"][ON_WHITE] == first
