"""Recipes of the smallest trainings, and the pictures that they are trained on."""

import numpy as np
import pandas as pd
from PIL import Image

from slugkit.studio.train.classifier import ClassifierRecipe
from slugkit.studio.train.diffusion import UnetRecipe
from slugkit.studio.train.pictures import TrainingPictures
from slugkit.studio.train.vae import VaeRecipe

JUDGE = ClassifierRecipe(steps=30, batch=16, warmup=3, widths=(8, 8, 16, 16), learning_rate=5e-3)
VAE = VaeRecipe(steps=4, batch=4, crop=8, settle=0.5, widths=(8, 8, 16), groups=4)
UNET = UnetRecipe(steps=4, cycles=2, batch=4, widths=(16, 32), groups=8, head_width=16, mean=0.5)


def small_pictures(count=12):
    """Noise of 16 pixels with captions, for the pipeline's trainings."""
    images = np.random.default_rng(0).integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)
    return TrainingPictures(
        images, lambda i, rng: f"a photo of Mira Kestrel {i}", [str(i) for i in range(count)], []
    )


def folder_of(
    place,
    columns,
    splits=("train", "train", "train", "search", "report"),
    classes=("ant", "bee"),
    each=10,
):
    """A folder of noise with captions.csv; columns: name -> function of the class."""
    rng, rows = np.random.default_rng(0), []
    (place / "images").mkdir(parents=True)
    for number in range(each * len(classes)):
        name, kind = f"images/{number}.png", classes[number % len(classes)]
        Image.fromarray(rng.integers(0, 255, (64, 64, 3), np.uint8)).save(place / name)
        rows.append(
            {
                "file": name,
                "caption": f"a photo of a {kind}",
                "split": splits[number // len(classes) % len(splits)],
                **{c: f(kind) for c, f in columns.items()},
            }
        )
    pd.DataFrame(rows).to_csv(place / "captions.csv", index=False)
    return place
