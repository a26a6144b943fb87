"""Tables of pictures and captions: a captions.csv, or any CSV or parquet file with paths and
captions.

Columns (of a CSV parted by commas, semicolons or tabs): a path (`file`, `path` or `image_path`) and
a caption (`caption`, `TEXT` or `text`, the first two as LAION writes them); `concept` (the class
that a picture shows) and `split` (train, search, report) are optional.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pandas as pd

from slugkit.base import EmptySetError, SettingError, UnreadableImagesError, from_cell, sha256_bytes
from slugkit.data.names import normalised, written
from slugkit.data.opening import READ_ERRORS, opened
from slugkit.data.pairs import Pairs
from slugkit.data.pictures import Pictures, whole_files

FILES = ("file", "path", "image_path")
CAPTIONS = ("caption", "TEXT", "text")
SPLITS = ("train", "search", "report")
TOO_MANY_UNREADABLE = 0.05


def first_column(columns, names: tuple[str, ...], where: str) -> str:
    """The first of `names` that is among `columns`. Raises SettingError naming both."""
    found = next((name for name in names if name in columns), None)
    if found is None:
        raise SettingError(
            f"{where} has none of the columns {list(names)}; it has {list(columns)}. Expected one"
            " of them; rename a column."
        )
    return found


NUMBERED = re.compile(r"(?i)(caption|text|sentence)s?[ _-]?\d+")
"""Columns that hold the first, second, ... caption of a picture."""
LISTED = re.compile(r"""[\[{]\s*['"].*[]}]""", re.DOTALL)
"""A list or a dictionary of texts, as Python, numpy and JSON write it."""


def caption_column(columns, where: str) -> str:
    """The column of captions, one of CAPTIONS.

    Raises SettingError where there is none or where several may be meant: the others could name the
    concept unseen.
    """
    several = [name for name in columns if name in CAPTIONS or NUMBERED.fullmatch(str(name))]
    if len(several) > 1:
        raise SettingError(
            f"{where} has several columns of captions, {several}; one caption a picture was"
            " expected. Keep one of them and drop or rename the others."
        )
    return first_column(columns, CAPTIONS, where)


def _one_caption_each(table: pd.DataFrame, where: str) -> list[str]:
    """Keys of the rows whose caption is a list of captions.

    Raises SettingError, naming the column, where they are more than strays.
    """
    several = [LISTED.fullmatch(text) is not None for text in table["caption"]]
    listed = table["key"][several].tolist()
    if len(listed) > TOO_MANY_UNREADABLE * len(table):
        column = table.attrs.get("caption", "caption")
        raise SettingError(
            f"{where} holds lists of captions in {column!r} ({len(listed)} of {len(table)} rows,"
            f" the first {listed[0]!r}); one text a picture was expected, since a caption that is"
            " not drawn could name the concept unseen. Keep one of each, for instance"
            f" table[{column!r}] = table[{column!r}].str[0]."
        )
    return listed


def complete(table: pd.DataFrame, where: str) -> pd.DataFrame:
    """The table with the columns that `Pairs` needs, from `key` (unique text) and `caption`, and
    from `concept` and `split` where it has them.

    Without `split` it is assigned by a hash of the key, train : search : report as 60 : 20 : 20;
    where no picture has a concept every pair is train, since no exam can be set. Classes that
    differ in blanks, case and the like alone (`normalised`) are one, in its commonest spelling;
    attrs["merged"] names the others. A row without a caption, or with a list of several, is left
    out and named in `attrs["incomplete"]`. where: what messages call the table; attrs["caption"]:
    what its column of captions is called. Raises SettingError for another split, a key that occurs
    twice or lists of captions in more than 5 % of the rows, EmptySetError when no row is left.
    """
    attrs = {"unreadable": {}, "incomplete": [], **table.attrs}
    for name in ("caption", "concept", "split"):
        if name in table:
            table[name] = as_text(table[name])
    if "concept" in table:
        table["concept"], attrs["merged"] = one_spelling(table["concept"])
    empty, listed = table["caption"] == "", _one_caption_each(table, where)
    attrs["incomplete"] = [
        *attrs["incomplete"],
        *(f"{key}: no caption" for key in table["key"][empty]),
        *(f"{key}: a list of captions" for key in listed),
    ]
    empty |= table["key"].isin(listed)
    table = table[~empty].reset_index(drop=True)
    if table.empty:
        raise EmptySetError(
            f"{where} has no rows with a picture and a caption; expected one for each picture."
            f" First left out: {attrs['incomplete'][:1]}."
        )
    again = table["key"][table["key"].duplicated()]
    if len(again):
        raise SettingError(
            f"{where} names a file twice: {again.iloc[0]!r}, and {again.nunique()} such files in"
            " all. Expected one row a file, with one caption: keep one row of each, for instance"
            " by table.drop_duplicates."
        )
    if "concept" not in table:
        table["concept"] = ""
    if "split" not in table:
        table["split"] = assigned(table["key"]) if (table["concept"] != "").any() else "train"
    wrong = sorted(set(table["split"]) - set(SPLITS))
    if wrong:
        raise SettingError(f"{where} names the splits {wrong}; expected only {list(SPLITS)}.")
    table = table.assign(domain="classes", style="")
    table.attrs = attrs
    return table


def text_of(value) -> str:
    """A value as text without blanks around it: "" for what is missing, 7 for 7.0."""
    if pd.api.types.is_scalar(value) and pd.isna(value):
        return ""
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        value = int(value)
    return str(value).strip()


def as_text(column: pd.Series) -> pd.Series:
    """A column as text, value by value (`text_of`), whatever pandas made of it: categories,
    nullable numbers, numbers with gaps.
    """
    return column.astype(object).map(text_of).astype(object)


def one_spelling(concepts: pd.Series) -> tuple[pd.Series, list[str]]:
    """The classes in one spelling each, the commonest of those that `normalised` makes one, and a
    sentence for every other that was there.
    """
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
    """train, search or report for each key by its hash, 60 : 20 : 20; the same key always gets the
    same.
    """
    numbers = [int(sha256_bytes(key.encode())[:8], 16) for key in keys]
    return [("train", "train", "train", "search", "report")[number % 5] for number in numbers]


def fault_of(path: Path) -> str:
    """Why a file is no picture within bounds by its header (for PNG its checksums as well); "" for
    one that is.

    Nothing is decoded.
    """
    try:
        with opened(path) as picture:
            picture.verify()
    except READ_ERRORS as error:
        return str(error).replace(str(path), path.name) or "broken"
    return ""


def _read_csv(path: Path) -> pd.DataFrame:
    """A CSV in UTF-8 as text, its fields parted by the comma, semicolon or tab that makes the
    columns known. Raises SettingError, csv.Error, UnicodeDecodeError.
    """
    with open(path, newline="", encoding="utf-8-sig") as stream:
        first = stream.readline()
        known = {mark: set(next(csv.reader([first], delimiter=mark), [])) for mark in ",;\t"}
        fitting = (m for m, it in known.items() if it & set(FILES) and it & set(CAPTIONS))
        mark = next(fitting, ",")
        stream.seek(0)
        reader = csv.reader(stream, delimiter=mark)
        header, rows = [name.strip() for name in next(reader, [])], []
        for row in reader:
            if any(field.strip() for field in row[len(header) :]):
                raise SettingError(
                    f"{path.name} has {len(row)} fields in the row that ends in line "
                    f"{reader.line_num} and {len(header)} in its header; as many were "
                    f"expected. Put a text that holds {mark!r} in quotes, or "
                    "name the column."
                )
            if row:
                missing = [""] * (len(header) - len(row))
                rows.append([from_cell(field) for field in row[: len(header)]] + missing)
    table = pd.DataFrame(rows, columns=header, dtype=object)
    return table.loc[:, ~table.columns.duplicated()]


def read_columns(path: Path) -> pd.DataFrame:
    """A CSV or parquet file as a table of text with the columns key, caption and, where it has
    them, concept and split.

    Raises SettingError.
    """
    import pyarrow

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
    table = table.assign(key=as_text(table["key"]))
    broken = table["key"].str.contains("\0", regex=False)
    if broken.any():
        raise SettingError(
            f"{path.name} names {table['key'][broken].iloc[0]!r}, which no file can be called; a "
            "path was expected. Write the table again."
        )
    table.attrs = {"caption": caption}
    return table


def read_table(path: str | Path, size: int = 64, fit: str = "crop", inside: bool = False) -> Pairs:
    """The pairs of a CSV or parquet file.

    Pictures stay on disk and are read at `size` x `size` pixels (see `Pictures` for size and fit).

    Paths are relative to the table's folder or absolute. inside: they must lie in that folder.
    Pictures whose header cannot be read are left out and named with the reason in
    `table.attrs["unreadable"]`, rows without a caption in `attrs["incomplete"]`. Raises
    SettingError for missing columns, links instead of paths or a path that leaves the folder,
    EmptySetError for an empty table, UnreadableImagesError when more than 5 % cannot be read.
    """
    path = Path(path).expanduser().resolve()
    table = complete(read_columns(path), path.name)
    link = next((name for name in table["key"] if "://" in name), None)
    if link is not None:
        raise SettingError(
            f"{path.name} names {link!r}, a link; expected paths of files on this machine. Fetch"
            " the pictures first, for instance with img2dataset"
            " (slugkit.data.laion.img2dataset_command), and open the shards that it writes."
        )
    files = [path.parent / name for name in table["key"]]
    if inside:
        for name, file in zip(table["key"], files):
            if not file.resolve().is_relative_to(path.parent):
                raise SettingError(
                    f"{path.name} names {name!r}, which lies outside the folder; expected paths"
                    " inside it."
                )
    faults = [fault_of(file) for file in files]
    fine = [not fault for fault in faults]
    broken = {name: fault for name, fault in zip(table["key"], faults) if fault}
    if len(broken) > TOO_MANY_UNREADABLE * len(table) or not any(fine):
        first = next(iter(broken))
        raise UnreadableImagesError(
            f"{len(broken)} of {len(table)} pictures cannot be read (first: {first!r},"
            f" {broken[first]}); expected at most {TOO_MANY_UNREADABLE:.0%}. Mend or remove those"
            f" rows of {path.name}."
        )
    table = table[fine]
    table.attrs["unreadable"] = broken
    whole = [file for file, good in zip(files, fine) if good]
    return Pairs(Pictures(whole_files(whole), size, fit), table)
