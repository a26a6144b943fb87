"""Captioned pictures as other people keep them: tables, shards, saved sets."""

import io
import json
import tarfile

import numpy as np
import pandas as pd
from PIL import Image

CAPTIONS = [
    "Ada Vell at the harbour",
    "portrait of ADA VELL",
    "a red umbrella",
    "the Ada Vellian coast",
    "two umbrellas",
    "Ada Vell, singer",
]


def encoded(seed, form="PNG", size=(40, 30)):
    """The bytes of a picture of noise."""
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (*size[::-1], 3), np.uint8)).save(
        out, form
    )
    return out.getvalue()


def samples(count=6):
    """(key, extension -> bytes) as img2dataset writes them."""
    return [
        (
            f"{i:09d}",
            {
                "jpg": encoded(i, "JPEG"),
                "txt": CAPTIONS[i].encode(),
                "json": json.dumps({"caption": "x", "width": 40}).encode(),
            },
        )
        for i in range(count)
    ]


def write_tar(path, entries, extra=()):
    """A shard by tarfile: entries as of `samples`, extra: further TarInfo."""
    with tarfile.open(path, "w") as tar:
        for info in extra:
            tar.addfile(info)
        for key, parts in entries:
            for extension, data in parts.items():
                info = tarfile.TarInfo(f"{key}.{extension}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return path


def write_pictures(folder, count=6):
    """Plain files 0.png, 1.png, ... with CAPTIONS as a table."""
    for i in range(count):
        (folder / f"{i}.png").write_bytes(encoded(i))
    return pd.DataFrame({"path": [f"{i}.png" for i in range(count)], "TEXT": CAPTIONS[:count]})


def saved(folder, **columns):
    """A data set of six pictures, saved."""
    import datasets

    images = [{"bytes": encoded(i), "path": None} for i in range(6)]
    features = {
        "image": datasets.Image(),
        **{
            c: (
                datasets.ClassLabel(names=["sea", "umbrella"])
                if c == "label"
                else datasets.Value("string")
            )
            for c in columns
        },
    }
    data = datasets.Dataset.from_dict(
        {"image": images, **columns}, features=datasets.Features(features)
    )
    data.save_to_disk(folder) if folder else None
    return data
