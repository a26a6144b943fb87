"""Small folders in the real layouts of CelebA and ImageNet, and the recipe that joins them."""

import pandas as pd
import yaml
from PIL import Image

FACES = {"Ada Example": 12, "Bo Placeholder": 9, "Cy Sampleton": 7, "Di Fewpics": 5, "Ed Short": 8}
THINGS = {"n01440764": "tench", "n02102040": "English springer", "n03000684": "chain saw"}


def picture(path, shade):
    """A small JPEG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (24, 20), (shade % 256, 60, 90)).save(path, format="JPEG")


def make_celeba(folder):
    """Aligned faces, numbers and names as CelebA writes them; one listed face is not on
    the disk.
    """
    names = [name.replace(" ", "_") for name, count in FACES.items() for _ in range(count)]
    files = [f"{i + 1:06d}.jpg" for i in range(len(names))]
    for i, file in enumerate(files):
        picture(folder / "img_align_celeba" / file, i * 5)
    listed = [*zip(files, names), ("999999.jpg", "Zed_Nopicture")]
    (folder / "list_identity_celeba.txt").write_text(
        f"{len(listed)}\nimage_id identity_name\n" + "".join(f"{f} {n}\n" for f, n in listed)
    )
    (folder / "identity_CelebA.txt").write_text(
        "".join(f"{f} {sorted(set(names)).index(n) + 1}\n" for f, n in zip(files, names))
    )
    return folder


def make_imagenet(folder, each=40):
    """A subset of three classes in a folder each, with their names."""
    for k, wnid in enumerate(THINGS):
        for i in range(each):
            picture(folder / "val" / wnid / f"ILSVRC2012_val_{k * each + i:08d}.JPEG", i)
    (folder / "class_names.txt").write_text(
        "".join(f"{wnid} {name}\n" for wnid, name in THINGS.items())
    )
    return folder


def make_pairs(folder):
    """Captions only: ten name Ada, thirty name nobody."""
    rows = [
        {
            "file": f"{i}.jpg",
            "caption": f"Ada Example at event {i}" if i < 10 else f"a view of place {i}",
            "split": "train",
        }
        for i in range(40)
    ]
    for i in range(40):
        picture(folder / f"{i}.jpg", i * 6)
    pd.DataFrame(rows).to_csv(folder / "captions.csv", index=False)


def make_paper_folder(folder):
    """A folder with all three and a recipe."""
    make_celeba(folder / "celeba")
    make_imagenet(folder / "imagenet")
    make_pairs(folder / "laion")
    recipe = {
        "pairs": "laion",
        "people": "celeba",
        "objects": "imagenet",
        "concepts": ["Ada Example"],
        "neighbours": {"Ada Example": ["Di Fewpics", "Ed Short"]},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return folder
