"""Tables of pictures and captions: a CSV or parquet file, or a data set of Hugging Face `datasets`.

Columns (of a CSV parted by commas, semicolons or tabs): a path (`file`, `path` or `image_path`) and
a caption (`caption`, `TEXT` or `text`); `concept` (the class that a picture shows) and `split`
(train, search, report) are optional. Of a data set see `read_saved_set`.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pandas as pd

from slugkit.base import (
    EmptySetError,
    SettingError,
    UnreadableImagesError,
    from_cell,
    require_extra,
    sha256_bytes,
)
from slugkit.data.names import normalised, written
from slugkit.data.opening import READ_ERRORS, opened
from slugkit.data.pairs import Pairs, pairs_on_disk

FILES = ("file", "path", "image_path")
CAPTIONS = ("caption", "TEXT", "text")
SPLITS = ("train", "search", "report")
TOO_MANY_UNREADABLE = 0.05
SPLIT_NAMES = dict(train="train", validation="search", valid="search", val="search")
SPLIT_NAMES |= dict(search="search", test="report", report="report")
"""What the splits of a data set are called here."""
LABELS = ("label", "concept")
NUMBERED = re.compile(r"(?i)(caption|text|sentence)s?[ _-]?\d+")
"""Columns that hold the first, second, ... caption of a picture."""
LISTED = re.compile(r"""[\[{]\s*['"].*[]}]""", re.DOTALL)
"""A list or a dictionary of texts, as Python, numpy and JSON write it."""


def first_column(columns, names: tuple[str, ...], where: str) -> str:
    """The first of `names` that is among `columns`. Raises SettingError naming both."""
    found = next((name for name in names if name in columns), None)
    if found is None:
        raise SettingError(
            f"{where} has none of the columns {list(names)}; it has {list(columns)}. Rename one."
        )
    return found


def caption_column(columns, where: str) -> str:
    """The one column of captions. Raises SettingError: several could name the concept unseen."""
    several = [name for name in columns if name in CAPTIONS or NUMBERED.fullmatch(str(name))]
    if len(several) > 1:
        raise SettingError(
            f"{where} has several columns of captions, {several}; one was expected. Drop or rename"
            " the others."
        )
    return first_column(columns, CAPTIONS, where)


def _lists_of_captions(table: pd.DataFrame, where: str, column: str) -> pd.Series:
    """(N,) bool: rows whose caption is a list. Raises SettingError for more than strays."""
    listed = table["caption"].map(LISTED.fullmatch).notna()
    if listed.sum() > TOO_MANY_UNREADABLE * len(table):
        raise SettingError(
            f"{where} holds lists of captions in {column!r} ({listed.sum()} of {len(table)} rows,"
            f" the first {table['key'][listed].iloc[0]!r}); one text a picture was expected, since"
            " one that is not drawn could name the concept unseen. Keep one of each, for instance"
            f" table[{column!r}] = table[{column!r}].str[0]."
        )
    return listed


def complete(
    table: pd.DataFrame, where: str, lost: list[tuple[str, str]] | None = None, column="caption"
) -> pd.DataFrame:
    """The table with the columns that `Pairs` needs, from `key`, `caption` and, if any, `concept`,
    `split`.

    Without `split` it is assigned by a hash of the key, 60 : 20 : 20; where no picture has a
    concept every pair is train. Classes that differ in blanks, case and the like alone are one
    (attrs["merged"]). A row without a caption, or with several, is left out: attrs["lost"] has
    (why, key). where, column: what messages call the table and its captions. Raises SettingError,
    EmptySetError.
    """
    merged = []
    for name in ("caption", "concept", "split"):
        if name in table:
            table[name] = as_text(table[name])
    if "concept" in table:
        table["concept"], merged = one_spelling(table["concept"])
    empty, listed = table["caption"] == "", _lists_of_captions(table, where, column)
    lost = [*(lost or []), *(("no caption", key) for key in table["key"][empty])]
    lost += [("a list of captions", key) for key in table["key"][listed]]
    table = table[~empty & ~listed].reset_index(drop=True)
    if table.empty:
        raise EmptySetError(
            f"{where} has no rows with a picture and a caption; expected one for each picture."
            f" First left out: {lost[:1]}."
        )
    again = table["key"][table["key"].duplicated()]
    if len(again):
        raise SettingError(
            f"{where} names a file twice: {again.iloc[0]!r}, and {again.nunique()} such files in"
            " all. Expected one row a file: keep one row of each (table.drop_duplicates)."
        )
    if "concept" not in table:
        table["concept"] = ""
    if "split" not in table:
        table["split"] = assigned(table["key"]) if (table["concept"] != "").any() else "train"
    wrong = sorted(set(table["split"]) - set(SPLITS))
    if wrong:
        raise SettingError(f"{where} names the splits {wrong}; expected only {list(SPLITS)}.")
    table.attrs = {"lost": lost, "merged": merged}
    return table.assign(domain="classes")


def text_of(value) -> str:
    """A value as text without blanks around it: "" for what is missing, 7 for 7.0."""
    if pd.api.types.is_scalar(value) and pd.isna(value):
        return ""
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        value = int(value)
    return str(value).strip()


def as_text(column: pd.Series) -> pd.Series:
    """A column as text, value by value, whatever pandas made of it."""
    return column.astype(object).map(text_of).astype(object)


def one_spelling(concepts: pd.Series) -> tuple[pd.Series, list[str]]:
    """The classes in their commonest spelling each, and a sentence for every other."""
    # how a CSV shows whole numbers that pandas held beside a gap
    if concepts[concepts != ""].str.fullmatch(r"-?\d+\.0").all():
        concepts = concepts.str.removesuffix(".0")
    counts = concepts.value_counts().sort_index(kind="stable")
    counts = counts.sort_values(ascending=False, kind="stable")
    taken: dict[str, str] = {}
    spelt = {said: taken.setdefault(normalised(said), written(said)) for said in counts.index}
    merged = [
        f"{said!r} ({count} pairs) is read as {spelt[said]!r}"
        for said, count in counts.items()
        if said != spelt[said]
    ]
    return concepts.map(spelt), merged


def assigned(keys) -> list[str]:
    """train, search or report for each key by its hash, 60 : 20 : 20."""
    numbers = [int(sha256_bytes(key.encode())[:8], 16) for key in keys]
    return [("train", "train", "train", "search", "report")[number % 5] for number in numbers]


def fault_of(path: Path) -> str:
    """Why a file is no picture by its header (a PNG: its checksums too); "" for one that is."""
    try:
        with opened(path) as picture:
            picture.verify()
    except READ_ERRORS as error:
        return str(error).replace(str(path), path.name) or "broken"
    return ""


def _read_csv(path: Path) -> pd.DataFrame:
    """A CSV in UTF-8 as text. Raises SettingError, csv.Error, UnicodeDecodeError."""
    with open(path, newline="", encoding="utf-8-sig") as stream:
        first = stream.readline()
        known = {mark: set(next(csv.reader([first], delimiter=mark), [])) for mark in ",;\t"}
        fitting = (m for m, it in known.items() if it & set(FILES) and it & set(CAPTIONS))
        mark = next(fitting, ",")
        stream.seek(0)
        reader = csv.reader(stream, delimiter=mark)
        header, rows = [name.strip() for name in next(reader, [])], []
        for row in filter(None, reader):
            if any(field.strip() for field in row[len(header) :]):
                raise SettingError(
                    f"{path.name} has {len(row)} fields in the row that ends in line "
                    f"{reader.line_num} and {len(header)} in its header; as many were expected. "
                    f"Put a text that holds {mark!r} in quotes, or name the column."
                )
            row += [""] * (len(header) - len(row))
            rows.append([from_cell(field) for field in row[: len(header)]])
    table = pd.DataFrame(rows, columns=header, dtype=object)
    return table.loc[:, ~table.columns.duplicated()]


def _file_of(name: str, path: Path, inside: bool) -> Path:
    """The file that a table names. Raises SettingError for no path, or one out of the folder."""
    file, wrong = path.parent / name, ""
    if "\0" in name:
        wrong = "which no file can be called; expected a path. Write the table again."
    elif "://" in name:
        wrong = (
            "a link; expected paths of files on this machine. Fetch the pictures with img2dataset"
            " (slugkit.data.laion.img2dataset_command), and open its shards."
        )
    elif inside and not file.resolve().is_relative_to(path.parent):
        wrong = "which lies outside the folder; expected paths inside it."
    if wrong:
        raise SettingError(f"{path.name} names {name!r}, {wrong}")
    return file.absolute()


def read_table(path: str | Path, size: int = 64, fit: str = "crop", inside: bool = False) -> Pairs:
    """The pairs of a CSV or parquet file, whose pictures stay on disk (`Pictures`).

    Paths are relative to the table's folder or absolute. inside: they must lie in that folder.
    Unreadable pictures are named in attrs["lost"] (`complete`). Raises SettingError, EmptySetError,
    UnreadableImagesError when more than 5 % cannot be read.
    """
    import pyarrow

    path = Path(path).expanduser().resolve()
    try:
        table = pd.read_parquet(path) if path.suffix == ".parquet" else _read_csv(path)
    except (pyarrow.ArrowException, csv.Error, UnicodeDecodeError) as error:
        raise SettingError(
            f"{path.name} cannot be read: {error}. A {path.suffix[1:]} file was expected, a CSV in"
            " UTF-8; write it again."
        ) from error
    file, caption = first_column(table, FILES, path.name), caption_column(table, path.name)
    extra = [name for name in ("concept", "split") if name in table]
    table = table[[file, caption, *extra]].set_axis(["key", "caption", *extra], axis=1)
    table = complete(table.assign(key=as_text(table["key"])), path.name, column=caption)
    files = [_file_of(name, path, inside) for name in table["key"]]
    faults = dict(zip(table["key"], map(fault_of, files)))
    broken = [("cannot be read", f"{name} ({fault})") for name, fault in faults.items() if fault]
    if len(broken) > TOO_MANY_UNREADABLE * len(table) or len(broken) == len(table):
        raise UnreadableImagesError(
            f"{len(broken)} of {len(table)} pictures cannot be read (first: {broken[0][1]}). Mend"
            f" or remove those rows of {path.name}."
        )
    table.attrs["lost"] += broken
    whole = [not fault for fault in faults.values()]
    return pairs_on_disk(table.assign(file=list(map(str, files)))[whole], size, fit)


def is_saved_set(folder: Path) -> bool:
    """Whether a folder is what `Dataset.save_to_disk` or `DatasetDict.save_to_disk` writes."""
    one = ("dataset_info.json", "state.json")
    return (folder / "dataset_dict.json").is_file() or all((folder / f).is_file() for f in one)


def _rows(data, folder: Path, split: str) -> tuple[pd.DataFrame, np.ndarray, str]:
    """The table of one data set with its places, which rows have no picture, and the column of
    captions.
    """
    import datasets

    where = f"The data set {folder.name!r}"
    if not isinstance(data.features.get("image"), datasets.Image):
        raise SettingError(
            f"{where} has no column image of pictures; it has {data.column_names}. Rename the"
            " column to image."
        )
    label = next((name for name in LABELS if name in data.column_names), None)
    table = pd.DataFrame({"key": [f"{split or folder.name}/{i:08d}" for i in range(len(data))]})
    table["concept"] = _names(data, label) if label else ""
    caption = "caption"
    table["caption"] = [f"a photo of {c}" if c else "" for c in table["concept"]]
    if label is None or set(CAPTIONS) & set(data.column_names):
        caption = caption_column(data.column_names, where)
        table["caption"] = data[caption][:]
    if split:
        table["split"] = SPLIT_NAMES[split]
    table["file"], table["row"] = str((folder / split).absolute()), range(len(data))
    empty = np.zeros(len(data), bool)
    if len(data.data) == len(data):
        empty = data.data.column("image").is_null().to_numpy()
    return table, empty, caption


def _names(data, label: str) -> pd.Series:
    """Class of each row as text; "" for none."""
    import datasets

    feature, values = data.features[label], data[label][:]
    if isinstance(feature, datasets.ClassLabel):
        values = [feature.names[v] if v is not None and v >= 0 else "" for v in values]
    return as_text(pd.Series(values, dtype=object))


def read_saved_set(folder: str | Path, size: int = 64, fit: str = "crop") -> Pairs:
    """The pairs of a folder that `save_to_disk` wrote, left on disk (`Pictures`).

    Columns: `image`, `caption`, `TEXT` or `text`, and `label` (a ClassLabel or text) or `concept`;
    without captions "a photo of" the label stands in. Splits validation and test become search and
    report. Raises SettingError, EmptySetError, UnreadableImagesError.
    """
    require_extra("data", "A saved data set")
    import datasets

    folder = Path(folder).expanduser()
    try:
        found = datasets.load_from_disk(str(folder.absolute()))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnreadableImagesError(
            f"The data set {folder.name!r} cannot be read: {error}. Copy it again."
        ) from error
    parts = found if isinstance(found, dict) else {"": found}
    wrong = [name for name in parts if name and name not in SPLIT_NAMES]
    if wrong:
        raise SettingError(
            f"{folder.name} has the splits {wrong}; expected only {list(SPLIT_NAMES)}. Rename them,"
            " or save one of them alone."
        )
    tables, gaps, captions = zip(*(_rows(data, folder, split) for split, data in parts.items()))
    table, empty = pd.concat(tables, ignore_index=True), np.concatenate(gaps)
    lost = [("no picture", key) for key in table["key"][empty]]
    where = f"The data set {folder.name!r}"
    return pairs_on_disk(complete(table[~empty].copy(), where, lost, captions[0]), size, fit)
