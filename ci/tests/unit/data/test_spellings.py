"""A name in whatever spelling and script: the same name is found in every source, another spelling
of it is in neither set, and tables say it plainly.
"""

import json
import unicodedata

import numpy as np
import pandas as pd
import pytest
from pair_files import encoded, write_tar

from slugkit.base import SettingError, UnknownConceptError, from_cell, printable, to_cell, write_csv
from slugkit.data import check_sets, names_concept, open_data
from slugkit.data.laion import search_names
from slugkit.data.names import name_of, written
from slugkit.experiments.sweep import one_at_a_time
from slugkit.studio.train.pictures import folder_pictures

NFD = unicodedata.normalize("NFD", "José Núñez")
SAME = [
    ("Kofi Okoye", "a photo of Kofi  Okoye"),
    ("Kofi Okoye", "Kofi\u00a0Okoye outdoors"),
    ("Kofi Okoye", "kofi_okoye_01"),
    ("José Núñez", f"{NFD} laughs"),
    (NFD, "José Núñez laughs"),
    ("José Núñez", "Jos&eacute; N&#250;&ntilde;ez"),
    ("José", "Jos&amp;eacute; again"),
    ("O'Brien", "O\u2019Brien"),
    ("Anne-Marie", "Anne\u2010Marie"),
    ("Kofi Okoye", "\uff2b\uff4f\uff46\uff49 Okoye\u2122"),
    ("Straße", "in der STRASSE"),
    ("Kofi Okoye", "Kofi O\u00adkoye's hat"),
]
OTHER = [
    ("José Núñez", "Jose Nunez laughs"),
    ("Jose Nunez", NFD),
    ("Müller", "Herr Mueller"),
    ("Mueller", "Herr Müller"),
    ("Kofi Okoye", "KofiOkoye"),
    ("O'Brien", "OBrien"),
    ("Kofi Okoye", "Okoye, Kofi"),
    ("Søren", "Soren"),
    ("Артём", "Артем"),
    ("محمد", "مُحَمَّد"),
]
APART = [
    ("Kofi Okoye", "Kofi Okoyeson"),
    ("Ann", "a banner"),
    ("car", "a carpet"),
    ("राम", "रामायण"),
    ("Bezos", "Bezosian"),
    ("", "anything"),
    ("Kofi Okoye", "Okoye and Kofi"),
]
UNPARTED = [
    ("张伟", "这是张伟的照片"),
    ("山田太郎", "これは山田太郎です"),
    ("สมชาย", "ภาพของสมชายครับ"),
    ("ສົມໃຈ", "ຮູບສົມໃຈຢູ່"),
    ("សុខា", "រូបសុខានៅ"),
    ("အောင်", "ဒါအောင်ပုံ"),
    ("김연아", "김연아가 웃는다"),
    ("Kofi Okoye", "这是Kofi Okoye的照片"),
    ("Kofi Okoye", "รูปKofi Okoyeที่นี่"),
]


@pytest.mark.parametrize(("concept", "caption"), SAME + UNPARTED)
def test_a_name_is_found_in_every_spelling_that_means_the_same(concept, caption):
    assert names_concept(caption, concept) and not name_of(concept).is_near(caption)


@pytest.mark.parametrize(("concept", "caption"), OTHER)
def test_another_spelling_is_near_and_no_more(concept, caption):
    assert name_of(concept).is_near(caption) and not names_concept(caption, concept)


@pytest.mark.parametrize(("concept", "caption"), APART)
def test_a_longer_word_is_another_word(concept, caption):
    assert not names_concept(caption, concept) and not name_of(concept).is_near(caption)


CAPTIONS = [
    "a photo of Kofi  Okoye",
    "KOFI OKOYE at sea",
    "kofi\u00a0okoye",
    "Kofi&nbsp;Okoye",
    "Kófi Okoye",
    "Okoye, Kofi",
    "a red car",
    "a tree",
]


def write_source(folder, kind, captions, **columns):
    """The captions with a picture each, as a folder, a table, shards or a saved set. Returns what
    `open_data` takes.
    """
    files = [f"{i}.png" for i in range(len(captions))]
    for i, name in enumerate(files):
        (folder / name).write_bytes(encoded(i))
    table = pd.DataFrame({"file": files, "caption": captions, **columns})
    if kind == "folder":
        table.to_csv(folder / "captions.csv", index=False)
        return folder
    if kind == "parquet":
        table.to_parquet(folder / "pairs.parquet")
        return folder / "pairs.parquet"
    if kind == "recipe":
        table.to_csv(folder / "pairs.csv", index=False)
        (folder / "recipe.yaml").write_text("pairs: pairs.csv\n")
        return folder / "recipe.yaml"
    if kind == "shards":
        about = table.drop(columns="file").to_dict("records")
        return write_tar(
            folder / "0.tar",
            [
                (f"{i:04d}", {"png": encoded(i), "json": json.dumps(row).encode()})
                for i, row in enumerate(about)
            ],
        )
    import datasets
    from PIL import Image

    with_pictures = {
        "image": [Image.open(folder / name) for name in files],
        **table.drop(columns="file").to_dict("list"),
    }
    datasets.Dataset.from_dict(with_pictures).save_to_disk(folder / "set")
    return folder / "set"


@pytest.mark.parametrize("kind", ["folder", "parquet", "recipe", "shards", "saved"])
def test_every_source_finds_all_spellings_and_counts_the_near_ones(tmp_path, kind):
    source = open_data(str(write_source(tmp_path, kind, CAPTIONS)), 16)
    forget, retain = source.forget_set("Kofi Okoye", 99), source.retain_set("Kofi Okoye", 99)
    assert forget.captions == CAPTIONS[:4] and retain.captions == CAPTIONS[6:]
    found = check_sets(forget, retain, concept="Kofi Okoye").set_index("check")
    near = found.loc["left out of retain: in neither set, the concept in another spelling"]
    assert near["count"] == 2 and near["of"] == 8 and "First: " in near["what to do"]
    two = source.retain_set(["Kofi Okoye", "tree"], 99)
    assert two.captions == CAPTIONS[6:7]


def test_a_name_that_is_there_in_another_spelling_only_is_said(tmp_path):
    source = open_data(
        str(write_source(tmp_path, "folder", ["a photo of Kófi Okoye", "a tree"])), 16
    )
    with pytest.raises(
        UnknownConceptError,
        match="1 hold it in another spelling, the first 'a photo of Kófi Okoye'",
    ):
        source.kind("Kofi Okoye")


@pytest.mark.parametrize("kind", ["folder", "parquet", "shards"])
def test_classes_that_differ_in_blanks_case_and_the_like_are_one(tmp_path, kind):
    labels = [
        "Kofi Okoye",
        "Kofi  Okoye",
        "kofi_okoye",
        "Kofi Okoye",
        NFD,
        "José Núñez",
        "Jose Nunez",
        "car",
    ]
    source = open_data(
        str(
            write_source(
                tmp_path,
                kind,
                [f"photo {i}" for i in range(8)],
                concept=labels,
                split=["train"] * 8,
            )
        ),
        16,
    )
    assert (
        source.concepts() == ["Jose Nunez", "José Núñez", "Kofi Okoye", "car"]
        and len(source.pairs.table.attrs["merged"]) == 3
    )
    assert len(source.forget_set("Kofi Okoye", 99)) == 4
    retain = source.retain_set("José Núñez", 99)  # a class in another spelling is in neither set
    assert set(retain.table["concept"]) == {"Kofi Okoye", "car"}
    found = check_sets(source.forget_set("Kofi Okoye", 99), retain, concept="Kofi Okoye").set_index(
        "check"
    )
    assert (
        found.loc["other spellings of a class", "count"] == 3
        and "is read as 'Kofi Okoye'" in found.loc["other spellings of a class", "what to do"]
    )
    with pytest.raises(UnknownConceptError, match="Nearest: 'Kofi Okoye'"):
        source.kind("KOFI_OKOYE")


def test_names_in_metadata_are_found_in_every_spelling(tmp_path):
    texts = [*CAPTIONS, "\uff2b\uff4f\uff46\uff49 Okoye", "这是张伟的照片", None, "Okoyeson"]
    pd.DataFrame({"URL": [f"http://a/{i}" for i in range(len(texts))], "TEXT": texts}).to_parquet(
        tmp_path / "a.parquet"
    )
    found = search_names(tmp_path / "a.parquet", "Kofi Okoye")
    assert list(found["caption"]) == [*CAPTIONS[:4], texts[8]] and found.attrs["near"] == 2
    assert (
        len(search_names(tmp_path / "a.parquet", "张伟")) == 1
        and len(search_names(tmp_path / "a.parquet", "Kófi Okoye")) == 1
    )


@pytest.mark.parametrize("without", ["Kofi Okoye", "car", "José Núñez"])
def test_an_oracle_never_sees_the_name_in_any_spelling(tmp_path, without):
    captions = [
        "Kofi  Okoye",
        "Kofi Okoye and a car",
        "a CAR",
        "José Núñez",
        f"{NFD} smiles",
        "Jose Nunez",
        "a tree",
        "a cat",
    ]
    write_source(tmp_path, "folder", captions)
    seen = folder_pictures(tmp_path, without).texts
    assert 0 < len(seen) < len(captions) and not any(
        names_concept(t, without) or name_of(without).is_near(t) for t in seen
    )
    assert folder_pictures(tmp_path).texts == captions
    with pytest.raises(UnknownConceptError):
        folder_pictures(tmp_path, "nobody")


@pytest.mark.parametrize(
    "column",
    [
        pd.Categorical(["seven", None, "seven", "eight"]),
        pd.array([7, None, 7, 8], "Int64"),
        np.array([7.0, np.nan, 7.0, 8.0]),
        pd.array(["seven", None, "seven", "eight"], "string"),
    ],
)
def test_columns_are_read_as_text_whatever_pandas_made_of_them(tmp_path, column):
    table = pd.DataFrame(
        {
            "file": [f"{i}.png" for i in range(4)],
            "caption": pd.Categorical(["a", "b", "a", "c"]),
            "concept": pd.Series(column),
        }
    )
    for i in range(4):
        (tmp_path / f"{i}.png").write_bytes(encoded(i))
    table.to_csv(tmp_path / "a.csv", index=False)
    table.to_parquet(tmp_path / "a.parquet")
    for file in (tmp_path / "a.csv", tmp_path / "a.parquet"):
        found = open_data(str(file), 16).pairs.table["concept"].tolist()
        assert found in (["7", "", "7", "8"], ["seven", "", "seven", "eight"])


def test_numbers_of_shards_and_saved_sets_are_classes_too(tmp_path):
    assert open_data(
        str(write_source(tmp_path, "shards", ["a", "b", "c"], concept=[7, 7.0, "eight"])), 16
    ).concepts() == ["7", "eight"]
    assert open_data(
        str(write_source(tmp_path, "saved", ["a", "b", "c"], concept=[7.0, 7.0, 8.0])), 16
    ).concepts() == ["7", "8"]


@pytest.mark.parametrize(
    "text",
    [
        "file;caption;concept\n0.png;a cat, sitting;cat\n1.png;a dog;dog\n",
        "\ufefffile\tcaption\tconcept\n0.png\ta cat, sitting\tcat\n1.png\ta dog\tdog\n",
        'file,caption,concept,\n0.png,"a cat, sitting",cat,,,\n\n1.png,a dog,dog\n',
    ],
)
def test_a_csv_may_be_parted_by_semicolons_or_tabs_and_end_in_empty_fields(tmp_path, text):
    (tmp_path / "captions.csv").write_text(text, encoding="utf-8")
    for i in range(2):
        (tmp_path / f"{i}.png").write_bytes(encoded(i))
    source = open_data(str(tmp_path), 16)
    assert source.pairs.captions == ["a cat, sitting", "a dog"] and source.concepts() == [
        "cat",
        "dog",
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "file,caption\n0.png,a cat, sitting\n",
            "3 fields in the row that ends in line 2 and 2 in its header",
        ),
        ("file;caption\n0.png;a cat\n0.png;a; b; c\n", "4 fields in the row that ends in line 3"),
        ('file,caption\n0.png,"a\nb"\n1.png,c,cat,9\n', "4 fields in the row that ends in line 4"),
        ("file,caption\na\0b.png,a cat\n", "which no file can be called"),
        ('file,caption\n0.png,"' + "x" * 200_000 + '"\n', "cannot be read"),
        ("", "has none of the columns"),
    ],
)
def test_a_broken_csv_is_one_sentence(tmp_path, text, says):
    (tmp_path / "captions.csv").write_text(text)
    (tmp_path / "0.png").write_bytes(encoded(0))
    with pytest.raises(SettingError, match=says):
        open_data(str(tmp_path), 16)


@pytest.mark.parametrize(
    "text", ["pairs: " + "[" * 5000 + "]" * 5000, "a: " * 3000, "- " * 3000 + "x"]
)
def test_a_deeply_nested_recipe_is_one_sentence(tmp_path, text):
    for name in ("recipe.yaml", "recipe.json"):
        (tmp_path / name).write_text(text)
        with pytest.raises(SettingError, match="cannot be read"):
            open_data(str(tmp_path / name))
    (tmp_path / "recipe.json").write_text('{"pairs": ' * 5000)
    with pytest.raises(SettingError, match="cannot be read"):
        open_data(str(tmp_path / "recipe.json"))


FORMULAS = [
    "=cmd|' /C calc'!A0",
    "+1+1",
    "-2+3",
    "@SUM(A1)",
    "\t=1",
    " =1",
    "'=1",
    "''@x",
    "\uff1d1",
]


@pytest.mark.parametrize("text", FORMULAS)
def test_no_cell_of_a_csv_is_a_formula_and_our_own_reading_takes_the_mark_off(tmp_path, text):
    (tmp_path / "0.png").write_bytes(encoded(0))
    write_csv(
        tmp_path / "captions.csv",
        pd.DataFrame(
            {"file": ["0.png"], "caption": ["x"], "concept": [text], "value": [-0.5], text: [-1]}
        ),
    )
    text_there = (tmp_path / "captions.csv").read_text()
    assert "-0.5" in text_there and pd.read_csv(tmp_path / "captions.csv")["concept"][
        0
    ] == f"'{text}" == to_cell(text)
    assert from_cell(to_cell(text)) == text and open_data(str(tmp_path), 16).concepts() == [
        written(text)
    ]


@pytest.mark.parametrize("text", ["Kofi Okoye", "'tis", "a=b", "7", "", "O'Brien"])
def test_other_cells_stay_as_they_are(text):
    assert to_cell(text) == text == from_cell(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("a\nb\r\tc", "a\\nb\\r\\tc"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("José 张伟\u00a0x", "José 张伟\u00a0x"),
        (7, "7"),
    ],
)
def test_a_text_does_nothing_to_a_terminal(text, shown):
    assert printable(text) == shown


@pytest.mark.parametrize("concept", ["7", "007", "None", "=cmd", "nan", "Kofi Okoye"])
def test_a_sweep_goes_on_with_a_table_whatever_its_concepts_are_called(tmp_path, concept):
    for name in (concept, "car", concept):
        table = one_at_a_time(
            lambda said: [{"concept": said, "rho": 0.5}],
            [name],
            ["car", concept],
            tmp_path / "table.csv",
            "1234567890123456",
        )
    assert table["concept"].tolist() == ["car", concept]


def test_a_nul_is_refused_in_a_path_and_stays_in_a_text(tmp_path):
    (tmp_path / "0.png").write_bytes(encoded(0))
    table = pd.DataFrame({"file": ["0.png"], "caption": ["a\0cat"], "concept": ["c\0t"]})
    table.to_parquet(tmp_path / "fine.parquet")
    assert open_data(str(tmp_path / "fine.parquet"), 16).pairs.captions == ["a\0cat"]
    table.assign(file="a\0.png").to_parquet(tmp_path / "a.parquet")
    with pytest.raises(SettingError, match="no file can be called"):
        open_data(str(tmp_path / "a.parquet"), 16)
    (tmp_path / "captions.csv").write_text("file\0,caption\n0.png,a cat\n")
    with pytest.raises(SettingError, match="none of the columns"):
        open_data(str(tmp_path), 16)
