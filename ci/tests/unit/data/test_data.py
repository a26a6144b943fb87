"""Sets and exams: disjoint, labelled, and honest about what could not be read."""

import numpy as np
import pandas as pd
import pytest
from picture_files import unreadable
from PIL import Image

from slugkit.base import (
    EmptySetError,
    MissingArtefactError,
    SettingError,
    UnknownConceptError,
    UnreadableImagesError,
)
from slugkit.data import (
    FolderSource,
    Pairs,
    PairsSource,
    load_pairs,
    names_concept,
    open_data,
    pool,
)
from slugkit.data.pictures import Pictures
from slugkit.method.losses import distinct_batches


@pytest.fixture(scope="module")
def source():
    return open_data("studio")


def make_folder(path, count=40, **columns):
    rng = np.random.default_rng(0)
    rows = []
    for i in range(count):
        kind = ("red", "green")[i % 2]
        pixels = np.zeros((16, 16, 3), np.uint8)
        pixels[..., i % 2] = rng.integers(180, 255)
        Image.fromarray(pixels).save(path / f"{i}.png")
        rows.append(
            {
                "file": f"{i}.png",
                "caption": f"a {kind} square",
                "concept": kind,
                "split": ("train", "train", "search", "report")[i // 2 % 4],
            }
        )
    table = pd.DataFrame(rows).assign(**columns)
    table.to_csv(path / "captions.csv", index=False)
    return table


def test_forget_and_retain_sets_are_training_pictures_and_disjoint(source):
    forget, retain = (
        source.forget_set("Mira Kestrel", 60, 0),
        source.retain_set("Mira Kestrel", 200, 0),
    )
    assert set(forget.table["split"]) == set(retain.table["split"]) == {"train"}
    assert not set(forget.table["key"]) & set(retain.table["key"])
    assert set(forget.table["concept"]) == {"Mira Kestrel"}
    assert not any("Mira Kestrel" in s for s in retain.table["subjects"])
    assert not any(names_concept(c, "Mira Kestrel") for c in retain.captions)


def test_captions_are_matched_once_for_all_sets_of_a_concept(tmp_path, monkeypatch):
    make_folder(tmp_path)
    source, asked, name_of = FolderSource(tmp_path), [], pool.name_of
    monkeypatch.setattr(pool, "name_of", lambda name: asked.append(name) or name_of(name))
    first = [source.retain_set("red", 5, seed).table["key"].tolist() for seed in range(3)]
    assert asked.count("red") == 1
    assert set(source.retain_set("green", 5).table["concept"]) == {"red"}
    assert source.retain_set(["red"], 5, 2).table["key"].tolist() == first[2]
    again = [FolderSource(tmp_path).retain_set("red", 5, k).table["key"].tolist() for k in range(3)]
    assert again == first and first[0] != first[1]


def test_a_style_is_left_out_of_its_retain_set(source):
    assert "neon" not in set(source.retain_set("neon", 200).table["style"])
    assert set(source.forget_set("neon", 60).table["style"]) == {"neon"}


def test_seeds_of_the_retain_set_differ_and_repeat(source):
    keys = [tuple(source.retain_set("car", 100, seed).table["key"]) for seed in (0, 1, 0)]
    assert keys[0] == keys[2] != keys[1]


def test_report_and_search_exams_share_no_picture_and_have_enough_of_the_target(source):
    search, report = source.exam("car", "search"), source.exam("car", "report")
    assert not set(search.pairs.table["key"]) & set(report.pairs.table["key"])
    assert len(report.groups()["target"][1]) >= 200
    assert {"target", "neighbours", "people", "objects", "styles"} <= set(report.groups())


def test_groups_leave_the_target_out(source):
    exam = source.exam("car", "search")
    target = set(exam.groups()["target"][1])
    assert all(
        not target & set(rows) for group, (_, rows) in exam.groups().items() if group != "target"
    )
    neon = source.exam("neon", "search")
    rest = np.concatenate([rows for group, (_, rows) in neon.groups().items() if group != "target"])
    assert "neon" not in set(neon.pairs.table["style"].to_numpy()[rest])


def test_an_odd_combination_is_forgotten_among_odd_combinations_and_its_parts_stay(source):
    name = "star-shaped house"
    forget, retain = source.forget_set(name, 60, 0), source.retain_set(name, 600, 0)
    assert (
        set(forget.table["concept"]) == {name}
        and set(forget.table["domain"]) == {"novel"}
        and forget.table["caption"].str.contains(name).all()
    )
    assert name not in set(retain.table["concept"]) and {"star", "house"} < set(
        retain.table["concept"]
    )
    exam = source.exam(name, "search")
    assert exam.target_domain == "novel" and exam.classes("novel") == source.world.classes("novel")
    groups = exam.groups()
    assert {"target", "neighbours", "novel", "objects", "people", "characters", "styles"} == set(
        groups
    ) and len(groups["target"][1]) == 12 * 7
    assert exam.prompts["novel"]["a picture of {}"][name] == ["a picture of a star-shaped house"]
    assert "novel" not in source.exam("house", "search").prompts


def test_pairs_survive_saving_bit_for_bit(source, tmp_path):
    pairs = source.forget_set("Tin Wobble", 37, 3)
    pairs.save(tmp_path, "forget")
    again = load_pairs(tmp_path, "forget")
    assert np.array_equal(pairs.images, again.images) and pairs.captions == again.captions
    (tmp_path / "forget.png").unlink()
    with pytest.raises(MissingArtefactError, match="notebook 01"):
        load_pairs(tmp_path, "forget")


def test_batches_are_distinct_and_lose_nothing_but_lone_rows():
    labels = ["a", "b", "c", "a", "b", "a"]
    parts = distinct_batches(labels, 3)
    assert all(len({labels[i] for i in rows}) == len(rows) <= 3 for rows in parts)
    used = sorted(i for rows in parts for i in rows)
    assert len(used) == len(set(used)) == 5  # the third "a" would stand alone


def test_a_folder_is_a_source(tmp_path):
    make_folder(tmp_path)
    source = FolderSource(tmp_path)
    assert source.concepts() == ["green", "red"] and source.neighbours("red") == ["green"]
    assert set(source.forget_set("red", 99).table["concept"]) == {"red"}
    assert set(source.retain_set("red", 99).table["concept"]) == {"green"}
    exam = source.exam("red", "report")
    assert len(exam.groups()["target"][1]) > 0
    asked = {split: source.prompts("red", split)["classes"] for split in ("search", "report")}
    assert [w for said in asked.values() for w in said].count("a {} square") == 1
    assert all(
        len(said) == 3 and said[w]["red"] == [w.format("red")]
        for said in asked.values()
        for w in said
    )
    with pytest.raises(UnknownConceptError, match="'red'"):
        source.kind("reed")


def test_splits_are_assigned_by_name_when_none_are_given(tmp_path):
    make_folder(tmp_path, 60)
    table = pd.read_csv(tmp_path / "captions.csv").drop(columns="split")
    table.to_csv(tmp_path / "captions.csv", index=False)
    first = FolderSource(tmp_path).pairs.table["split"]
    assert set(first) == {"train", "search", "report"} and list(first) == list(
        FolderSource(tmp_path).pairs.table["split"]
    )


def test_unreadable_pictures_are_counted_and_named(tmp_path):
    make_folder(tmp_path, 40)
    (tmp_path / "7.png").write_bytes(b"not a picture")
    source = FolderSource(tmp_path)
    assert unreadable(source) == ["7.png"] and len(source.pairs) == 39
    damaged = bytearray((tmp_path / "8.png").read_bytes())
    damaged[-20] ^= 1
    (tmp_path / "8.png").write_bytes(damaged)
    assert unreadable(FolderSource(tmp_path)) == ["7.png", "8.png"]
    for i in range(8):
        (tmp_path / f"{i}.png").write_bytes(b"not a picture")
    with pytest.raises(UnreadableImagesError, match="9 of 40"):
        FolderSource(tmp_path)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (dict(split="test"), SettingError, "train"),
        (dict(file="0.png"), SettingError, "twice"),
        (dict(file=[f"../{i}.png" for i in range(40)]), SettingError, "outside"),
        (dict(split="report"), EmptySetError, "empty"),
    ],
)
def test_a_broken_captions_file_says_what_is_wrong(tmp_path, change, error, words):
    make_folder(tmp_path, 40, **change)
    with pytest.raises(error, match=words):
        FolderSource(tmp_path).forget_set("red", 10)


def test_a_missing_folder_or_captions_file_says_so(tmp_path):
    with pytest.raises(SettingError, match="no folder"):
        open_data(str(tmp_path / "nowhere"))
    with pytest.raises(SettingError, match="captions.csv"):
        FolderSource(tmp_path)


def test_neighbours_look_at_sixteen_training_pictures_of_each_class(tmp_path):
    make_folder(tmp_path, 200)
    source = FolderSource(tmp_path)
    train = source.pairs.split("train").table
    for name in train.groupby("concept")["key"].apply(lambda names: names.iloc[16:]):
        (tmp_path / name).write_bytes(b"broken since it was opened")
    assert len(train) == 100 and source.neighbours("red") == ["green"]
    with pytest.raises(UnreadableImagesError):
        source.pairs.images[:]


def test_a_folder_is_read_at_the_size_that_is_asked_for_and_only_then(tmp_path):
    make_folder(tmp_path)
    pairs = FolderSource(tmp_path, 24).pairs
    assert isinstance(pairs.images, Pictures) and pairs.images[:2].shape == (2, 24, 24, 3)
    assert np.array_equal(
        pairs.images[1],
        np.asarray(Image.open(tmp_path / "1.png").resize((24, 24), Image.Resampling.BICUBIC)),
    )


def test_any_labelled_pairs_are_a_source(source):
    pairs = source.exam("car", "search").pairs
    pool = PairsSource(Pairs(pairs.images, pairs.table.assign(split="train")), "drawn", source.path)
    assert (
        pool.kind("car") == "class"
        and len(pool.neighbours("car")) == 3
        and set(pool.forget_set("car", 5).table["concept"]) == {"car"}
    )
    assert "car" not in set(pool.retain_set("car", 500).table["concept"])
    with pytest.raises(UnknownConceptError, match="'car'"):
        pool.kind("cars")
    with pytest.raises(EmptySetError, match="report split holds no picture"):
        pool.exam("car", "report")


@pytest.mark.parametrize(
    "concept", ["Oskar Marlow", "Tin Wobble", "car", "neon", "star-shaped house", "tree"]
)
def test_search_and_report_share_no_wording_and_none_names_the_concept(source, concept):
    asked = {split: source.prompts(concept, split) for split in ("search", "report")}
    for domain in asked["search"]:
        search, report = (asked[split][domain] for split in ("search", "report"))
        assert not set(search) & set(report) and min(len(search), len(report)) >= (
            2 if domain == "styles" else 4
        )
        texts = [
            {t for said in w.values() for c in said for t in said[c]} for w in (search, report)
        ]
        assert not texts[0] & texts[1]
        for said in (*search.values(), *report.values()):
            assert [*said] == source.world.classes(domain)
            named = {
                c for c, words in said.items() if any(names_concept(t, concept) for t in words)
            }
            assert named <= {concept} | {c for c in said if names_concept(c, concept)}
    if concept == "Oskar Marlow":
        assert min(len(asked[split]["figures"]) for split in asked) >= 6


def test_characters_are_a_group_apart_from_people(source):
    exam = source.exam("Oskar Marlow", "search")
    shown = {
        g: set(exam.pairs.table["concept"].to_numpy()[rows])
        for g, (_, rows) in exam.groups().items()
    }
    assert shown["characters"] == set(source.world.characters)
    assert shown["people"] == set(source.world.people) - {"Oskar Marlow"}
