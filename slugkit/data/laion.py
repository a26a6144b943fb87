"""LAION's metadata (`pages/laion.md`): find the links whose caption names a concept."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from slugkit.base import EmptySetError, SettingError, UnreadableImagesError, progress, write_parquet
from slugkit.data.names import Name, name_of, normalised
from slugkit.data.tables import caption_column, first_column

LINKS = ("URL", "url")
ALSO = ("similarity", "NSFW", "punsafe", "pwatermark", "WIDTH", "HEIGHT", "width", "height")
"""Columns of LAION's metadata that are kept where they are there."""
ROWS_AT_ONCE = 65_536


def metadata_files(metadata: str | Path | list[str | Path]) -> list[Path]:
    """The parquet files of a folder, or those named. Raises SettingError."""
    named = metadata if isinstance(metadata, list) else [metadata]
    files = [Path(file).expanduser() for file in named]
    if len(files) == 1 and files[0].is_dir():
        files = sorted(files[0].glob("*.parquet"))
    missing = [file.name for file in files if not file.is_file()]
    if missing or not files:
        raise SettingError(
            f"LAION's metadata are not there: {missing[:3] or 'the folder has no .parquet file'}."
            " slugkit/data/pages/laion.md says where they are."
        )
    return files


def _opened(file: Path):
    """A parquet file, with its columns of the link, of the caption and of what is kept besides."""
    import pyarrow
    import pyarrow.parquet

    try:
        opened = pyarrow.parquet.ParquetFile(file)
    except (pyarrow.ArrowException, OSError) as error:
        raise UnreadableImagesError(
            f"{file.name} cannot be read: {error}. Fetch it again, or leave it out."
        ) from error
    columns = opened.schema_arrow.names
    caption = caption_column(columns, file.name)
    if pyarrow.types.is_nested(opened.schema_arrow.field(caption).type):
        raise SettingError(
            f"{file.name} holds lists of captions in {caption!r}; one text a link was expected."
        )
    kept = [c for c in ALSO if c in columns]
    return opened, [first_column(columns, LINKS, file.name), caption, *kept]


def _maybe(name: Name) -> str:
    """RE2 pattern of captions that may hold the name, in whatever spelling."""
    parts = (re.findall("[a-z0-9]+", form) for form in (name.normal, *name.plain))
    words = {max(found, key=len, default="") for found in parts}
    return "(?i)" + "|".join([*sorted(words - {""}), "&", r"[^\x00-\x7F]"])


def _named(opened, columns: list[str], name: Name) -> Iterator[tuple[int, int, pd.DataFrame]]:
    """Of each batch of a file: rows read, rows that nearly hold the name, and a table of those that
    do.
    """
    import pyarrow
    import pyarrow.compute

    called = ["url", "caption", *(c.lower() if c != "NSFW" else c for c in columns[2:])]
    for batch in opened.iter_batches(batch_size=ROWS_AT_ONCE, columns=columns):
        captions = batch.column(columns[1]).cast(pyarrow.string())
        holds = pyarrow.compute.match_substring_regex(captions, _maybe(name))
        some = batch.filter(pyarrow.compute.fill_null(holds, False))
        table = some.select(columns).to_pandas().set_axis(called, axis=1)
        table = table[[isinstance(url, str) for url in table["url"]]]
        near = sum(map(name.is_near, table["caption"]))
        yield batch.num_rows, near, table[table["caption"].map(name.is_in).astype(bool)]


def search_names(
    metadata: str | Path | list[str | Path],
    name: str,
    limit: int = 6000,
    out: str | Path | None = None,
) -> pd.DataFrame:
    """Links whose caption holds `name` as whole words: url, caption, similarity, NSFW, ...

    metadata: parquet files with `URL` or `url` and `TEXT`, `caption` or `text`, or a folder of
    them. limit: stop at this many links. out: a parquet file for `img2dataset_command`. `attrs` of
    the table: read (rows), duplicates (links dropped), near (rows left out that hold the name in
    another spelling only), complete (false where the limit ended the search). Raises SettingError,
    UnreadableImagesError, EmptySetError.
    """
    if not normalised(name) or limit < 1:
        raise SettingError(
            f"A name to search for and a limit of 1 or more were expected; {name!r} and {limit}"
            " came instead."
        )
    opened = [_opened(file) for file in metadata_files(metadata)]
    parts, seen, read, duplicates, spelt = [], set(), 0, 0, 0
    shown = progress(opened, f"metadata searched for {name}")
    for rows, near, table in (batch for file in shown for batch in _named(*file, name_of(name))):
        fresh = ~(table["url"].isin(seen) | table["url"].duplicated())
        read, duplicates, spelt = read + rows, duplicates + int((~fresh).sum()), spelt + near
        parts.append(table[fresh].head(limit - len(seen)))
        seen |= set(parts[-1]["url"])
        if len(seen) >= limit:
            break
    if not seen:
        raise EmptySetError(
            f"None of the {read} captions names {name!r}; expected at least one. {spelt} hold it "
            "in another spelling. Check the spelling, or search more of the metadata."
        )
    table = pd.concat([part for part in parts if len(part)], ignore_index=True)
    complete = len(seen) < limit
    table.attrs = {"read": read, "duplicates": duplicates, "near": spelt, "complete": complete}
    if out is not None:
        write_parquet(out, table[["url", "caption"]])
    return table


def img2dataset_command(parquet: str | Path, out: str | Path, image_size: int = 256) -> str:
    """The shell line that fetches the links of `parquet` into webdataset shards in `out`;
    image_size: pixels of the shorter edge. Nothing is run here. Raises SettingError.
    """
    if image_size < 1:
        raise SettingError(f"image_size={image_size} came; it must be 1 or more.")
    return (
        f"img2dataset --url_list {shlex.quote(str(parquet))} --input_format parquet --url_col url"
        " --caption_col caption --output_format webdataset --output_folder"
        f" {shlex.quote(str(out))} --image_size {image_size} --resize_mode keep_ratio"
        " --processes_count 2 --thread_count 32"
    )
