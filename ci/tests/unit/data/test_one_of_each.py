"""One file of a name in a shard, one caption a picture, and no more shards than a pattern may name:
the rest is named or refused, never taken in silence.
"""

import io
import json
import tarfile
import time

import numpy as np
import pandas as pd
import pytest
from pair_files import CAPTIONS, encoded, samples, saved, write_pictures, write_tar
from picture_files import left_out

from slugkit.base import SettingError
from slugkit.data import open_data
from slugkit.data.laion import search_names


def member(tar, name, data):
    """Add a file to an open tar."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


@pytest.mark.parametrize(
    ("again", "reason"),
    [
        (["0.jpg"], "0.jpg: the second file of this name, the first is taken"),
        (["0.txt"], "0.txt: the second file of this name, the first is taken"),
        (["0.JPG", "0.TXT"], "0.JPG: the second file of this name, the first is taken"),
        (["0.png"], "0.png: another picture of the sample, the .jpg is taken"),
        (["0.jpg", "0.jpg"], "0.jpg: the second file of this name, the first is taken"),
    ],
)
def test_the_first_file_of_a_name_counts_and_the_second_is_named(tmp_path, again, reason):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name, data in (
            ("0.jpg", encoded(0, "JPEG")),
            ("0.txt", b"the first"),
            ("1.jpg", encoded(1, "JPEG")),
            ("1.txt", b"another"),
        ):
            member(tar, name, data)
        for name in again:
            member(
                tar,
                name,
                (
                    encoded(7, "PNG" if name.endswith("png") else "JPEG")
                    if not name.lower().endswith("txt")
                    else b"the second"
                ),
            )
    source = open_data(str(tmp_path / "a.tar"), 16)
    assert source.pairs.captions == ["the first", "another"] and source.pairs.images.encoded(
        0
    ) == encoded(0, "JPEG")
    assert left_out(source)[0] == f"a.tar/{reason}" and len(left_out(source)) == len(again)
    told = source.left_out()
    assert told["pictures"].sum() == len(again) and set(told["what"]) == {"left out"}


@pytest.mark.parametrize(
    ("names", "key", "part"),
    [
        (["pic.v1.jpg", "pic.v1.txt"], "pic", "v1.jpg"),
        (["12.5mm.jpg", "12.txt"], "12", "5mm.jpg"),
        (["a/Dr. Vell.jpg", "a/Dr. Vell.txt"], "a/Dr", " vell.jpg"),
        (["0.left.png", "0.right.png", "0.txt"], "0", "left.png"),
    ],
)
def test_a_name_with_a_dot_is_left_out_and_the_message_shows_how_it_is_cut(
    tmp_path, names, key, part
):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name, data in (
            ("9.jpg", encoded(1, "JPEG")),
            ("9.txt", b"a pier"),
            *((n, b"text" if n.endswith("txt") else encoded(2)) for n in names),
        ):
            member(tar, name, data)
    source = open_data(str(tmp_path / "a.tar"), 16)
    assert source.pairs.captions == ["a pier"]
    assert left_out(source) == [
        f"a.tar/{key} (cut at the first dot: {key.split('/')[-1]}.{part} is its part {part!r}): no"
        " picture"
    ]


@pytest.mark.parametrize(
    "pattern",
    [
        "{00000..99999999}.tar",
        "{0..9}{0..9}{0..9}{0..9}{0..9}{0..9}.tar",
        "{99999999999999999999999..1}.tar",
        "{a,{0..-999999}}.tar",
        "{" + ",".join(["{a,b}" * 30, "c"]) + "}.tar",
        "{0..999999999..2}.tar",
    ],
)
def test_a_pattern_is_bounded_before_it_is_expanded(tmp_path, pattern):
    began = time.monotonic()
    with pytest.raises(SettingError, match="names more than 100000 shards"):
        open_data(str(tmp_path / pattern))
    assert time.monotonic() - began < 1


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("{0..3}.tar", 4),
        ("{{0..1},{3..3}}.tar", 3),
        ("{0..3..2}.tar", 2),
        ("{1,3}.tar", 2),
        ("{3..0}.tar", 4),
    ],
)
def test_patterns_within_bounds_name_their_shards(tmp_path, pattern, found):
    for i in range(4):
        write_tar(tmp_path / f"{i}.tar", samples(1))
    assert len(open_data(str(tmp_path / pattern)).pairs) == found
    with pytest.raises(SettingError, match="without its partner"):
        open_data(str(tmp_path / "{0..3.tar"))


LISTS = {
    "lists": lambda text: [text, "another"],
    "arrays": lambda text: np.array([text, "another"]),
    "one each": lambda text: [text],
    "written by Python": lambda text: str([text, "another"]),
    "written by JSON": lambda text: json.dumps([text, "another"]),
    "by language": lambda text: {"en": text, "de": "ein Bild"},
}


@pytest.mark.parametrize("how", LISTS)
def test_lists_of_captions_are_refused_by_the_name_of_their_column(tmp_path, how):
    table = write_pictures(tmp_path)
    table["TEXT"] = [LISTS[how](text) for text in CAPTIONS]
    table.to_parquet(tmp_path / "pairs.parquet")
    table.to_csv(tmp_path / "pairs.csv", index=False)
    for name in ("pairs.parquet", "pairs.csv"):
        with pytest.raises(
            SettingError,
            match=(
                "pairs.* holds lists of captions in 'TEXT' .6 of 6 rows, the first '0.png'.*one"
                " text a picture"
            ),
        ):
            open_data(str(tmp_path / name))


@pytest.mark.parametrize("place", ["shards", "saved set"])
def test_lists_of_captions_are_refused_in_shards_and_saved_sets(tmp_path, place):
    if place == "shards":
        (tmp_path / "d").mkdir()
        write_tar(
            tmp_path / "d" / "0.tar",
            [
                (
                    f"{i}",
                    {
                        "jpg": encoded(i, "JPEG"),
                        "json": json.dumps({"caption": [CAPTIONS[i], "another"]}).encode(),
                    },
                )
                for i in range(6)
            ],
        )
    else:
        import datasets

        features = datasets.Features(
            {"image": datasets.Image(), "caption": datasets.List(datasets.Value("string"))}
        )
        columns = {
            "image": [{"bytes": encoded(i), "path": None} for i in range(6)],
            "caption": [[text, "another"] for text in CAPTIONS],
        }
        datasets.Dataset.from_dict(columns, features).save_to_disk(str(tmp_path / "d"))
    with pytest.raises(SettingError, match="'d' holds lists of captions in 'caption' .6 of 6"):
        open_data(str(tmp_path / "d"))


def test_a_stray_list_is_left_out_by_name_and_brackets_alone_are_a_caption(tmp_path):
    count = 40
    for i in range(count):
        (tmp_path / f"{i}.png").write_bytes(encoded(i % 6))
    captions = [
        "[untitled]",
        "[2021] a pier",
        "{x}",
        "['Heroes', 'Ziggy']",
        *(f"a pier {i}" for i in range(4, count)),
    ]
    pd.DataFrame({"path": [f"{i}.png" for i in range(count)], "TEXT": captions}).to_csv(
        tmp_path / "pairs.csv", index=False
    )
    source = open_data(str(tmp_path / "pairs.csv"))
    assert (
        left_out(source) == ["3.png: a list of captions"]
        and source.pairs.captions[:3] == captions[:3]
    )


@pytest.mark.parametrize(
    "columns",
    [
        ("caption", "text"),
        ("TEXT", "caption_2"),
        ("text", "Sentence 1", "sentence2"),
        ("caption", "captions_0"),
    ],
)
def test_several_columns_of_captions_are_refused_by_name(tmp_path, columns):
    table = (
        write_pictures(tmp_path).drop(columns="TEXT").assign(**{name: CAPTIONS for name in columns})
    )
    table.to_parquet(tmp_path / "pairs.parquet")
    with pytest.raises(SettingError, match="several columns of captions.*" + ".*".join(columns)):
        open_data(str(tmp_path / "pairs.parquet"))
    saved(str(tmp_path / "set"), **{name: CAPTIONS for name in columns})
    with pytest.raises(SettingError, match="several columns of captions"):
        open_data(str(tmp_path / "set"))


def test_several_rows_of_a_file_are_refused_with_how_many(tmp_path):
    table = write_pictures(tmp_path)
    pd.concat([table, table.head(3).assign(TEXT="another")]).to_csv(
        tmp_path / "pairs.csv", index=False
    )
    with pytest.raises(
        SettingError,
        match="names a file twice: '0.png', and 3 such files in all.*keep one row of each",
    ):
        open_data(str(tmp_path / "pairs.csv"))


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"TEXT": [CAPTIONS]}, "m.parquet holds lists of captions in 'TEXT'"),
        ({"caption": [{"en": "a", "de": "b"}]}, "m.parquet holds lists of captions in 'caption'"),
        ({"TEXT": ["a"], "caption": ["b"]}, "m.parquet has several columns of captions"),
    ],
)
def test_metadata_with_several_captions_are_refused_too(tmp_path, columns, words):
    pd.DataFrame({"url": ["http://a/0"], **columns}).to_parquet(tmp_path / "m.parquet")
    with pytest.raises(SettingError, match=words):
        search_names(tmp_path, "Ada Vell")
