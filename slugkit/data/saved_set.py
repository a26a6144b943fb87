"""A folder that Hugging Face `datasets` wrote with `save_to_disk`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from slugkit.base import SettingError, UnreadableImagesError, require_extra
from slugkit.data.pairs import Pairs, pairs_on_disk
from slugkit.data.tables import CAPTIONS, as_text, caption_column, complete

SPLIT_NAMES = dict(train="train", validation="search", valid="search", val="search")
SPLIT_NAMES |= dict(search="search", test="report", report="report")
"""What the splits of a data set are called here."""
LABELS = ("label", "concept")


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
