"""Pictures as people have them, encoded, and sources of every kind that hold them."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import ExifTags, Image

from slugkit.data import open_data
from slugkit.data.published import IMAGES, NAME_LIST

SOURCES = ("folder", "table", "shards", "saved set", "recipe", "unlearncanvas")


def whole_files(files):
    """Places of pictures that are a file each."""
    names = [str(Path(file).absolute()) for file in files]
    return pd.DataFrame({"file": names, "offset": -1, "length": -1, "row": -1})


def left_out(source):
    """ "name: why" of what was left out at opening and beside the sets."""
    return [f"{name}: {why}" for _, why, name in source.told]


def unreadable(source):
    """The files that could not be read at opening."""
    return [name.partition(" (")[0] for _, why, name in source.told if why == "cannot be read"]


def picture(seed=0, size=(48, 36)):
    """A smooth picture, left and right and top and bottom of which differ."""
    small = np.random.default_rng(seed).integers(0, 255, (4, 5, 3), np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


def encoded(image, form="PNG", **how):
    """A picture's bytes."""
    out = io.BytesIO()
    image.save(out, form, **how)
    return out.getvalue()


def tagged(orientation):
    """EXIF that says how the camera was held."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return exif


def as_stored(image, orientation):
    """The pixels that a camera stores under this tag, so that the picture turned upright is
    `image`.
    """
    back = {
        2: 0,
        3: 3,
        4: 1,
        5: 5,
        6: 2,
        7: 6,
        8: 4,
    }  # FLIP_LEFT_RIGHT, ROTATE_180, FLIP_TOP_BOTTOM, TRANSPOSE, ROTATE_90, TRANSVERSE, ROTATE_270
    return image.transpose(back[orientation])


def write(kind, folder, pictures):
    """A source of this kind with these encoded pictures, all of the class or person Ada (of the
    object Dogs), in this order, and as many of another.
    """
    folder.mkdir(parents=True, exist_ok=True)
    named = [
        (f"{name}{i:03d}", name, data)
        for name, many in (
            ("Ada", pictures),
            ("Bel", [encoded(picture(900 + i)) for i in range(len(pictures))]),
        )
        for i, data in enumerate(many)
    ]
    if kind in ("folder", "table"):
        for key, _, data in named:
            (folder / f"{key}.png").write_bytes(data)
        rows = pd.DataFrame(
            [
                {
                    "file": f"{key}.png",
                    "caption": f"{key} {name}",
                    "concept": name,
                    "split": "train",
                }
                for key, name, _ in named
            ]
        )
        rows.to_csv(folder / ("captions.csv" if kind == "folder" else "pairs.csv"), index=False)
        return folder if kind == "folder" else folder / "pairs.csv"
    if kind == "shards":
        with tarfile.open(folder / "0.tar", "w") as tar:
            for key, name, data in named:
                for end, part in (
                    ("png", data),
                    ("txt", f"{key} {name}".encode()),
                    ("json", json.dumps({"concept": name, "split": "train"}).encode()),
                ):
                    member = tarfile.TarInfo(f"{key}.{end}")
                    member.size = len(part)
                    tar.addfile(member, io.BytesIO(part))
        return folder
    if kind == "saved set":
        import datasets

        features = datasets.Features(
            {
                "image": datasets.Image(),
                "text": datasets.Value("string"),
                "concept": datasets.Value("string"),
            }
        )
        columns = {
            "image": [{"bytes": d, "path": None} for _, _, d in named],
            "text": [f"{k} {n}" for k, n, _ in named],
            "concept": [n for _, n, _ in named],
        }
        datasets.DatasetDict({"train": datasets.Dataset.from_dict(columns, features)}).save_to_disk(
            str(folder / "set")
        )
        return folder / "set"
    if kind == "unlearncanvas":
        for key, name, data in named:
            place = folder / ("Van_Gogh" if name == "Ada" else "Monet") / "Dogs"
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{int(key[3:]) + 1}.jpg").write_bytes(data)
        return folder
    (folder / "celeba" / IMAGES).mkdir(parents=True)
    for key, _, data in named:
        (folder / "celeba" / IMAGES / f"{key}.jpg").write_bytes(data)
    (folder / "celeba" / NAME_LIST).write_text(
        "\n".join(
            [
                str(len(named)),
                "image_id identity_name",
                *(f"{k}.jpg {n}_Vellmer" for k, n, _ in named),
            ]
        )
    )
    write("shards", folder / "pairs", pictures)
    (folder / "recipe.yaml").write_text("pairs: pairs\npeople: celeba\n")
    return folder / "recipe.yaml"


def pictures_of(kind, folder, pictures, size=32):
    """What a source of this kind shows of these encoded pictures: (N, size, size, 3) of its own
    order.
    """
    source = open_data(str(write(kind, folder, pictures)), size)
    pairs = source.people.pairs if kind == "recipe" else source.pairs
    mine = (
        pairs.table["style"] == "Van_Gogh"
        if kind == "unlearncanvas"
        else pairs.table["concept"].str.startswith("Ada")
    )
    return pairs.where(mine).images[:]


def noise_under_alpha(mode):
    """Noise whose left half is transparent, and what is seen of it on white."""
    pixels = np.random.default_rng(1).integers(0, 255, (20, 20, 3), np.uint8)
    grey = mode in ("LA",)
    image = Image.fromarray(pixels).convert("L" if grey else "RGB")
    expected = np.array(image.convert("RGB"))
    expected[:, :10] = 255
    alpha = Image.fromarray(
        np.repeat(np.where(np.arange(20) < 10, 0, 255).astype(np.uint8)[None], 20, 0)
    )
    image.putalpha(alpha)
    return image, expected


def halved(form, **how):
    """The first half of a picture's bytes: its header is whole."""
    data = encoded(picture(8, (300, 200)), form, **how)
    return data[: len(data) // 2]


BROKEN = {
    "half a JPEG": halved("JPEG"),
    "half a progressive JPEG": halved("JPEG", progressive=True),
    "half a WEBP": halved("WEBP"),
    "half a BMP": halved("BMP"),
    "floats": encoded(Image.new("F", (9, 9)), "TIFF"),
    "one by many": encoded(Image.new("L", (1, 400_000))),
}
