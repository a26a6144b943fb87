"""Pictures that cannot be decoded or would fill the memory: left out by name before anything is
computed, whatever the source.
"""

import errno
import os
import re

import numpy as np
import pandas as pd
import pytest
from picture_files import (
    BROKEN,
    SOURCES,
    as_stored,
    encoded,
    noise_under_alpha,
    picture,
    tagged,
    unreadable,
    write,
)

from slugkit.base import EmptySetError, UnreadableImagesError
from slugkit.data import checks, looked, open_data
from slugkit.data.opening import check_bounds
from slugkit.data.published import IMAGES
from slugkit.models.vlm import opened
from slugkit.studio.train.pictures import folder_pictures


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of the test's own."""
    monkeypatch.setenv("SLUGKIT_CACHE", str(tmp_path / "cache"))


# -- broken ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["half a JPEG", "half a progressive JPEG", "half a WEBP", "half a BMP", "floats"]
)
@pytest.mark.parametrize("kind", ["folder", "shards", "saved set"])
def test_a_broken_picture_gives_its_place_to_the_next_and_is_named(kind, name, tmp_path):
    good = [encoded(picture(k)) for k in range(40)]
    fine = open_data(str(write(kind, tmp_path / "a", good)), 16)
    order = fine.forget_set("Ada", 20).table["key"].tolist()
    bad = int(re.findall(r"\d+", order[5])[-1])
    source = open_data(
        str(write(kind, tmp_path / "b", [*good[:bad], BROKEN[name], *good[bad + 1 :]])), 16
    )
    forget = source.forget_set("Ada", 20)
    assert len(forget) == 20 and forget.images[:].shape == (20, 16, 16, 3), (
        "as many as asked for, and all of them can be decoded"
    )
    # half a WEBP has no whole header: a folder leaves it out when it is opened, and draws from the
    # others
    if not unreadable(source):
        assert len(set(forget.table["key"]) & set(order)) == 19, (
            "the others are those that are drawn anyway"
        )
    [told] = source.left_out().to_dict("records")
    why = "cannot be read" if unreadable(source) else "cannot be decoded"
    assert (
        (told["what"], told["why"], told["pictures"]) == ("left out", why, 1)
        and f"{bad:03d}" in told["which"]
        and " (" in told["which"]
    )
    assert source.retain_set("Ada", 10).images[:].shape[0] == 10


def test_a_set_is_looked_at_once_whichever_notebook_asks(tmp_path, monkeypatch):
    place = str(
        write(
            "shards",
            tmp_path / "d",
            [BROKEN["half a JPEG"], *(encoded(picture(k)) for k in range(30))],
        )
    )
    first = open_data(place, 16)
    drawn = (
        first.forget_set("Ada", 31).table["key"].tolist(),
        first.retain_set("Ada", 12).table["key"].tolist(),
    )
    assert len(drawn[0]) == 30
    monkeypatch.setattr(
        looked, "open_rgb", lambda *_, **__: pytest.fail("no picture is decoded for this again")
    )
    for size in (16, 64):
        later = open_data(place, size)
        assert (
            later.forget_set("Ada", 31).table["key"].tolist(),
            later.retain_set("Ada", 12).table["key"].tolist(),
        ) == drawn
        assert later.left_out().equals(first.left_out())
    monkeypatch.undo()
    monkeypatch.setenv("SLUGKIT_CACHE", str(tmp_path / "cache"))
    os.utime(tmp_path / "d" / "0.tar")  # a shard that was fetched again is looked at again
    before = len(list((tmp_path / "cache").iterdir()))
    assert (
        len(open_data(place, 16).forget_set("Ada", 31)) == 30
        and len(list((tmp_path / "cache").iterdir())) > before
    )


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO, errno.EACCES])
def test_what_the_system_refuses_once_is_asked_for_again(tmp_path, monkeypatch, number):
    place, read = write("folder", tmp_path, [encoded(picture(k)) for k in range(12)]), []
    whole = looked.Pictures.encoded

    def refused(self, row):
        read.append(row)
        if len(read) == 3:
            fault = OSError(number, os.strerror(number))
            raise UnreadableImagesError("The picture cannot be read.") from fault
        return whole(self, row)

    with monkeypatch.context() as patched:
        patched.setattr(looked.Pictures, "encoded", refused)
        source = open_data(str(place), 16)
        source.forget_set("Ada", 50)
        assert source.left_out()["pictures"].sum() == 1
    source = open_data(str(place), 16)
    source.forget_set("Ada", 50)
    assert source.left_out().empty


@pytest.mark.parametrize("kind", ["folder", "unlearncanvas", "recipe"])
def test_exams_leave_broken_pictures_out_and_say_so_where_none_is_left(kind, tmp_path):
    concept = {"unlearncanvas": "Van_Gogh", "recipe": "Ada Vellmer"}.get(kind, "Ada")
    good = [encoded(picture(k)) for k in range(20)]

    def source(folder, pictures):
        place = write(kind, folder, pictures)
        if kind == "folder":
            table = pd.read_csv(place / "captions.csv").drop(columns="split")
            table.to_csv(place / "captions.csv", index=False)
        return open_data(str(place), 16)

    def keys(exam):
        return set(exam.pairs.table["key"])

    column = "style" if kind == "unlearncanvas" else "concept"
    whole = source(tmp_path / "a", good).exam(concept, "report")
    bad = whole.pairs.table["key"][whole.pairs.table[column] == concept].iloc[0]
    at = int(re.findall(r"\d+", bad)[-1]) - (kind == "unlearncanvas")
    part = source(tmp_path / "b", [*good[:at], BROKEN["half a JPEG"], *good[at + 1 :]]).exam(
        concept, "report"
    )
    assert (
        keys(whole) - keys(part) == {bad}
        and keys(part) < keys(whole)
        and part.pairs.images[:].shape[0] == len(part.pairs)
        and part.groups()["target"]
    )
    with pytest.raises(
        UnreadableImagesError,
        match="of the concept in the exam can be decoded.*cannot be decoded: ",
    ):
        source(tmp_path / "c", [BROKEN["half a JPEG"]] * 20).exam(concept, "report")


def test_a_cut_of_an_exam_takes_the_next_for_a_broken_picture(tmp_path):
    good = [encoded(picture(k)) for k in range(20)]
    place = write("recipe", tmp_path / "d", good)
    source = open_data(str(place), 16)
    others = source.exam("Ada Vellmer", "report", 2).pairs.table
    first = others["key"][others["concept"] == "Bel Vellmer"].tolist()
    (tmp_path / "d" / "celeba" / IMAGES / first[0].removeprefix("celeba/")).write_bytes(
        BROKEN["half a JPEG"]
    )
    again = open_data(str(place), 16).exam("Ada Vellmer", "report", 2).pairs.table
    second = again["key"][again["concept"] == "Bel Vellmer"].tolist()
    assert len(first) == len(second) == 2 and second[0] == first[1] and second[1] not in first


def test_where_no_picture_is_whole_one_error_names_the_first_and_why(tmp_path):
    source = open_data(str(write("shards", tmp_path / "d", [BROKEN[name] for name in BROKEN])), 16)
    with pytest.raises(
        UnreadableImagesError,
        match="None of the 6 pictures for the forget set can be decoded.*0.tar/Ada000.*truncated",
    ):
        source.forget_set("Ada", 3)
    with pytest.raises(EmptySetError, match="retain set is empty"):
        source.retain_set(["Ada", "Bel"], 3)


def test_neighbours_are_found_beside_broken_pictures(tmp_path):
    source = open_data(
        str(
            write(
                "folder",
                tmp_path / "d",
                [BROKEN["half a JPEG"], *(encoded(picture(k)) for k in range(20))],
            )
        ),
        16,
    )
    assert source.neighbours("Ada") == ["Bel"] and source.left_out()["pictures"].tolist() == [1]


def test_a_clip_is_trained_on_whole_pictures_and_the_others_are_named(tmp_path, capsys):
    place = write(
        "folder",
        tmp_path / "d",
        [
            BROKEN["half a JPEG"],
            encoded(noise_under_alpha("RGBA")[0]),
            *(encoded(picture(k)) for k in range(28)),
        ],
    )
    pictures = folder_pictures(place)
    said = capsys.readouterr().out
    assert (
        len(pictures.images) == len(pictures.keys) == 59
        and "left out, cannot be decoded: Ada000.png" in said
        and "laid on white: Ada001.png" in said
    )
    for file in place.glob("*.png"):
        file.write_bytes(BROKEN["half a JPEG"])
    with pytest.raises(UnreadableImagesError, match="No training picture"):
        folder_pictures(place)


def test_checks_count_what_cannot_be_decoded_and_fingerprint_what_is_seen(tmp_path):
    images = [encoded(picture(k), exif=tagged(1)) for k in range(3)] + [
        BROKEN["half a JPEG"],
        encoded(as_stored(picture(0), 6), exif=tagged(6)),
    ]
    marks = checks.fingerprints(
        open_data(str(write("shards", tmp_path / "d", images)), 16).pairs.images.take(range(5))
    )
    assert marks.exact.count("") == 1 and np.array_equal(marks.bits[4], marks.bits[0])


# -- too large -------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 400_000), (400_000, 2), (20_000, 20_000), (3, 301)])
def test_bounds_are_checked_before_anything_is_decoded(size):
    class Header:
        pass

    Header.size = size
    with pytest.raises(ValueError, match=f"it has {size[0]} x {size[1]} pixels; at most"):
        check_bounds(Header)
    Header.size = (3, 300)
    assert check_bounds(Header) is None


@pytest.mark.parametrize("kind", SOURCES)
def test_a_picture_that_would_fill_the_memory_is_left_out_in_every_source(kind, tmp_path):
    import resource

    bombs = [BROKEN["one by many"], *(encoded(picture(k)) for k in range(25))]
    source = open_data(str(write(kind, tmp_path / "d", bombs)), 224)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    concept = {"unlearncanvas": "Van_Gogh", "recipe": "Ada Vellmer"}.get(kind, "Ada")
    sets = (
        [source.exam(concept, split).pairs for split in ("search", "report")]
        if kind == "recipe"
        else [source.forget_set(concept, 99)]
    )
    if kind == "unlearncanvas":
        sets += [source.exam(concept, split).pairs for split in ("search", "report")]
    assert all(len(pairs.images[:]) == len(pairs) for pairs in sets)
    told = source.left_out()
    assert told["pictures"].tolist() == [1] and "1 x 400000 pixels" in told["which"][0]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000, "kilobytes"


def test_a_file_of_a_terabyte_and_a_pipe_are_not_read(tmp_path):
    huge, pipe = tmp_path / "Huge.png", tmp_path / "Pipe.png"
    with open(huge, "wb") as stream:
        stream.write(encoded(picture(1)))
        stream.truncate(1 << 40)
    os.mkfifo(pipe)
    place = write("folder", tmp_path, [encoded(picture(k)) for k in range(50)])
    table = pd.concat(
        [
            pd.read_csv(place / "captions.csv"),
            pd.DataFrame(
                {
                    "file": ["Huge.png", "Pipe.png"],
                    "caption": "x",
                    "concept": "Ada",
                    "split": "train",
                }
            ),
        ]
    )
    table.to_csv(place / "captions.csv", index=False)
    source = open_data(str(place), 16)
    assert unreadable(source) == ["Huge.png", "Pipe.png"] and source.left_out()[
        "pictures"
    ].tolist() == [2]
    with pytest.raises(UnreadableImagesError, match="Pipe.png is no plain file"):
        opened([pipe])
