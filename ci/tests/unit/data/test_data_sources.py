"""Other people's data: tables, shards, saved sets, names in LAION's metadata.

Real files, read in place, nothing dropped in silence.
"""

import json
import shlex
import tarfile

import numpy as np
import pandas as pd
import pytest
from pair_files import CAPTIONS, encoded, samples, saved, write_pictures, write_tar
from picture_files import left_out

from slugkit.base import EmptySetError, SettingError, UnknownConceptError, UnreadableImagesError
from slugkit.data import PairsSource, load_pairs, open_data, read_saved_set, read_shards
from slugkit.data.laion import img2dataset_command, search_names

# -- shards ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("writer", ["webdataset", "tarfile"])
def test_a_shard_reads_whoever_wrote_it_and_its_pictures_are_the_originals(tmp_path, writer):
    if writer == "webdataset":
        import webdataset

        with webdataset.TarWriter(str(tmp_path / "00000.tar")) as sink:
            for key, parts in samples():
                sink.write({"__key__": key, **parts})
    else:
        write_tar(tmp_path / "00000.tar", samples())
    pairs = read_shards(tmp_path / "00000.tar", size=16)
    assert pairs.captions == CAPTIONS and list(pairs.table["key"]) == [
        f"00000.tar/{i:09d}" for i in range(6)
    ]
    assert [pairs.images.encoded(i) for i in range(6)] == [parts["jpg"] for _, parts in samples()]
    assert pairs.images[:].shape == (6, 16, 16, 3) and pairs.table.attrs["lost"] == []


def test_captions_alone_make_every_name_in_them_a_concept(tmp_path):
    write_tar(tmp_path / "00000.tar", samples())
    source = open_data(str(tmp_path / "00000.tar"), size=16)
    assert (
        source.kind("ada vell") == "name"
        and source.neighbours("Ada Vell") == []
        and source.concepts() == []
    )
    assert sorted(source.forget_set("Ada Vell", 99).captions) == sorted(
        [CAPTIONS[i] for i in (0, 1, 5)]
    )
    assert sorted(source.retain_set("Ada Vell", 99).captions) == sorted(
        [CAPTIONS[i] for i in (2, 3, 4)]
    )
    assert source.retain_set(["Ada Vell", "umbrella"], 99).captions == [CAPTIONS[3], CAPTIONS[4]]
    with pytest.raises(UnknownConceptError, match="None of the 6 training captions"):
        source.kind("Bel Vell")
    with pytest.raises(EmptySetError, match="labelled pictures are needed"):
        source.exam("Ada Vell", "report")


def test_a_forget_set_from_a_shard_survives_saving(tmp_path):
    write_tar(tmp_path / "00000.tar", samples())
    forget = open_data(str(tmp_path), size=16).forget_set("Ada Vell", 2)
    forget.save(tmp_path / "run", "forget")
    again = load_pairs(tmp_path / "run", "forget")
    assert np.array_equal(again.images[:], forget.images[:]) and again.sha256 == forget.sha256


def test_several_shards_read_as_one_and_a_missing_one_is_named(tmp_path):
    for i in (0, 1, 3):
        write_tar(tmp_path / f"0000{i}.tar", samples(2))
    assert len(open_data(str(tmp_path / "{00000..00001}.tar")).pairs) == 4
    assert len(open_data(str(tmp_path)).pairs) == 6
    with pytest.raises(SettingError, match="1 of 4 shards are missing, the first '00002.tar'"):
        open_data(str(tmp_path / "{00000..00003}.tar"))


@pytest.mark.parametrize(
    ("cut", "count"), [("in a caption", 3), ("in a picture", 4), ("no end mark", 6), ("empty", 0)]
)
def test_a_shard_that_is_cut_off_is_one_clear_error(tmp_path, cut, count):
    whole = write_tar(tmp_path / "00000.tar", samples())
    write_tar(tmp_path / "00001.tar", samples())
    with tarfile.open(whole) as tar:
        at = {m.name: m.offset_data for m in tar}
    keep = {
        "in a caption": at["000000003.txt"] + 5,
        "in a picture": at["000000004.jpg"] + 600,
        "no end mark": at["000000005.json"] + 512,
        "empty": 0,
    }
    whole.write_bytes(whole.read_bytes()[: keep[cut]])
    with pytest.raises(
        UnreadableImagesError,
        match=(
            f"1 of 2 .* cut off: 00000.tar ends too early and has {count} whole pairs.*Fetch it"
            " again, or leave it out"
        ),
    ):
        open_data(str(tmp_path))


def test_samples_that_lack_something_are_named_and_json_stands_in_for_the_caption(tmp_path):
    entries = samples(4)
    del entries[0][1]["jpg"]
    del entries[1][1]["txt"], entries[1][1]["json"]
    del entries[2][1]["txt"]
    entries[3] = (
        "000000003",
        {
            "png": encoded(9),
            "json": json.dumps({"caption": "Ada", "concept": "Ada", "split": "report"}).encode(),
        },
    )
    entries[2][1]["json"] = json.dumps({"caption": "a pier", "split": "train"}).encode()
    source = open_data(str(write_tar(tmp_path / "a.tar", entries)))
    assert left_out(source) == ["a.tar/000000000: no picture", "a.tar/000000001: no caption"]
    assert source.pairs.table[["caption", "concept", "split"]].values.tolist() == [
        ["a pier", "", "train"],
        ["Ada", "Ada", "report"],
    ]


def test_links_devices_and_ways_out_of_a_shard_are_ignored(tmp_path):
    link, device, outside = (
        tarfile.TarInfo("000000007.jpg"),
        tarfile.TarInfo("000000008.jpg"),
        tarfile.TarInfo("../000000009.jpg"),
    )
    link.type, link.linkname, device.type = tarfile.SYMTYPE, "/etc/hostname", tarfile.CHRTYPE
    source = open_data(str(write_tar(tmp_path / "a.tar", samples(2), [link, device, outside])))
    assert len(source.pairs) == 2 and left_out(source) == [
        f"a.tar/{m.name}: no plain file" for m in (link, device, outside)
    ]
    assert [p.name for p in tmp_path.iterdir()] == ["a.tar"]


def test_a_compressed_or_foreign_file_is_no_shard(tmp_path):
    (tmp_path / "a.tar").write_bytes(b"not a tar" * 400)
    with pytest.raises(
        UnreadableImagesError, match="a.tar is no tar file that can be read in place"
    ):
        open_data(str(tmp_path / "a.tar"))
    with tarfile.open(tmp_path / "a.tar", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("x.txt"))
    with pytest.raises(UnreadableImagesError, match="uncompressed"):
        open_data(str(tmp_path / "a.tar"))


# -- tables ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_table_of_paths_and_captions_is_a_source(tmp_path, kind):
    (tmp_path / "pictures").mkdir()
    table = write_pictures(tmp_path / "pictures")
    table["path"] = [
        "pictures/" + p if i % 2 else str(tmp_path / "pictures" / p)
        for i, p in enumerate(table["path"])
    ]
    path = tmp_path / f"pairs.{kind}"
    table.to_csv(path, index=False) if kind == "csv" else table.to_parquet(path)
    source = open_data(str(path), size=24)
    assert (
        len(source.forget_set("Ada Vell", 9)) == 3
        and source.path == path
        and source.pairs.images.encoded(2) == encoded(2)
    )
    assert set(source.pairs.table["split"]) == {"train"}


def test_crop_and_squash_read_different_pictures(tmp_path):
    write_pictures(tmp_path).to_csv(tmp_path / "pairs.csv", index=False)
    crop, squash = (
        open_data(str(tmp_path / "pairs.csv"), 20, fit).pairs.images[0]
        for fit in ("crop", "squash")
    )
    assert crop.shape == squash.shape == (20, 20, 3) and not np.array_equal(crop, squash)
    with pytest.raises(SettingError, match="fit"):
        open_data("studio", fit="stretch")


def test_a_row_without_a_caption_is_named_and_a_link_is_refused(tmp_path):
    table = write_pictures(tmp_path)
    table.loc[4, "TEXT"] = None
    table.to_parquet(tmp_path / "pairs.parquet")
    assert left_out(open_data(str(tmp_path / "pairs.parquet"))) == ["4.png: no caption"]
    table.loc[0, "path"] = "https://example.org/a.jpg"
    table.to_parquet(tmp_path / "pairs.parquet")
    with pytest.raises(SettingError, match="a link.*img2dataset"):
        open_data(str(tmp_path / "pairs.parquet"))
    (tmp_path / "pairs.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(SettingError, match="pairs.parquet cannot be read"):
        open_data(str(tmp_path / "pairs.parquet"))


def test_a_picture_that_fails_only_when_it_is_decoded_is_named_then(tmp_path):
    table = write_pictures(tmp_path)
    (tmp_path / "3.jpg").write_bytes(encoded(3, "JPEG", (200, 200))[:4000])
    table.loc[3, "path"] = "3.jpg"
    table.to_csv(tmp_path / "pairs.csv", index=False)
    source = open_data(str(tmp_path / "pairs.csv"))
    assert left_out(source) == []
    with pytest.raises(UnreadableImagesError, match="3.jpg"):
        source.pairs.images[:]


def test_whatever_is_not_there_names_the_nearest_and_what_was_expected(tmp_path):
    (tmp_path / "pairs.parquet").write_bytes(b"")
    with pytest.raises(
        SettingError, match="no folder or file.*save_to_disk.*Nearest: 'pairs.parquet'"
    ):
        open_data(str(tmp_path / "pears.parquet"))
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(SettingError, match="file of another kind"):
        open_data(str(tmp_path / "notes.txt"))
    with pytest.raises(SettingError, match="it holds notes.txt, pairs.parquet"):
        open_data(str(tmp_path))


# -- data sets saved by datasets -------------------------------------------------------------------


def test_a_saved_data_set_is_a_source_and_its_labels_are_the_classes(tmp_path):
    saved(str(tmp_path / "set"), text=[*CAPTIONS[:5], None], label=[0, 1, 1, 0, 1, 0])
    source = open_data(str(tmp_path / "set"), size=16)
    assert (
        isinstance(source, PairsSource)
        and source.concepts() == ["sea", "umbrella"]
        and source.kind("sea") == "class"
    )
    assert left_out(source) == ["set/00000005: no caption"] and source.pairs.images.encoded(
        3
    ) == encoded(3)
    assert source.pairs.images[4].shape == (16, 16, 3)


def test_the_splits_of_a_saved_data_set_keep_their_meaning(tmp_path):
    import datasets

    data = saved(None, label=[0, 1, 1, 0, 1, 0])
    datasets.DatasetDict({"train": data, "test": data.select([1, 3])}).save_to_disk(
        str(tmp_path / "set")
    )
    pairs = read_saved_set(tmp_path / "set", 16)
    assert (
        list(pairs.table["split"]) == ["train"] * 6 + ["report"] * 2
        and pairs.captions[0] == "a photo of sea"
    )
    assert pairs.images.encoded(7) == encoded(3)
    datasets.DatasetDict({"extra": data}).save_to_disk(str(tmp_path / "odd"))
    with pytest.raises(SettingError, match="extra"):
        open_data(str(tmp_path / "odd"))
    data.rename_column("image", "img").save_to_disk(str(tmp_path / "named"))
    with pytest.raises(SettingError, match="Rename the column to image"):
        open_data(str(tmp_path / "named"))


# -- LAION's metadata ------------------------------------------------------------------------------


def write_metadata(folder):
    """Two parquet files with LAION's older and newer names; one link stands in both."""
    old = pd.DataFrame(
        {
            "URL": [f"http://a/{i}" for i in range(6)],
            "TEXT": [*CAPTIONS[:5], None],
            "similarity": 0.3,
            "NSFW": "UNLIKELY",
        }
    )
    new = pd.DataFrame(
        {
            "url": ["http://a/0", "http://b/1", "http://b/2"],
            "caption": ["Ada Vell again", "ada vell!", "a pier"],
        }
    )
    old.to_parquet(folder / "part-0.parquet", row_group_size=2)
    new.to_parquet(folder / "part-1.parquet")


def test_a_name_is_found_in_metadata_whatever_its_case_and_never_twice(tmp_path):
    write_metadata(tmp_path)
    found = search_names(tmp_path, "Ada Vell", out=tmp_path / "out" / "ada.parquet")
    assert (
        list(found["url"]) == ["http://a/0", "http://a/1", "http://b/1"]
        and found["similarity"].notna().sum() == 2
    )
    assert found.attrs == {"read": 9, "duplicates": 1, "near": 0, "complete": True}
    assert list(pd.read_parquet(tmp_path / "out" / "ada.parquet").columns) == ["url", "caption"]
    first = search_names(
        [tmp_path / "part-0.parquet", tmp_path / "part-1.parquet"], "Ada Vell", limit=1
    )
    assert list(first["url"]) == ["http://a/0"] and first.attrs == {
        "read": 6,
        "duplicates": 0,
        "near": 0,
        "complete": False,
    }
    with pytest.raises(EmptySetError, match="None of the 9 captions"):
        search_names(tmp_path, "Bel Vell")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SettingError, match="no .parquet file"):
        search_names(tmp_path / "empty", "Ada Vell")


def test_metadata_with_other_columns_or_broken_are_refused_before_any_search(tmp_path):
    write_metadata(tmp_path)
    pd.DataFrame({"url": ["x"], "title": ["y"]}).to_parquet(tmp_path / "z.parquet")
    with pytest.raises(SettingError, match="z.parquet has none of the columns"):
        search_names(tmp_path, "Ada Vell")
    (tmp_path / "z.parquet").write_bytes(b"broken")
    with pytest.raises(UnreadableImagesError, match="z.parquet cannot be read"):
        search_names(tmp_path, "Ada Vell")


def test_the_command_for_img2dataset_survives_a_shell():
    words = shlex.split(img2dataset_command("my links.parquet", "out; rm x", image_size=224))
    options = dict(zip(words[1::2], words[2::2]))
    assert (
        words[0] == "img2dataset"
        and options["--url_list"] == "my links.parquet"
        and options["--output_folder"] == "out; rm x"
    )
    assert (
        options["--output_format"] == "webdataset"
        and options["--url_col"] == "url"
        and options["--image_size"] == "224"
    )
    with pytest.raises(SettingError, match="1 or more"):
        img2dataset_command("a", "b", image_size=0)
