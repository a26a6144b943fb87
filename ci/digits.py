"""Real pictures that come with scikit-learn, written as a folder with captions.csv.

`python ci/digits.py FOLDER`. 1,797 handwritten digits of 8 x 8 pixels, UCI's "Optical
Recognition of Handwritten Digits" (Alpaydin and Kaynak, 1998).
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from slugkit.base import write_csv

NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
TEMPLATES = ["a photo of the digit {}", "the handwritten digit {}", "the number {}"]


def write_digits(folder: str | Path, limit: int = 0, seed: int = 0) -> Path:
    """Write the pictures (64 x 64 PNG) and captions.csv: 60 % train, 20 % search, 20 % report.

    limit: only that many pictures (0: all). Returns the folder.
    """
    from sklearn.datasets import load_digits

    folder = Path(folder)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    pixels, targets = load_digits(return_X_y=True)
    order = np.random.Generator(np.random.PCG64(seed)).permutation(len(pixels))[: limit or None]
    rows = []
    for place, i in enumerate(order.tolist()):
        grey = Image.fromarray((pixels[i].reshape(8, 8) * 255 / 16).round().astype(np.uint8))
        name = f"images/{i:04d}.png"
        grey.resize((64, 64), Image.Resampling.BICUBIC).convert("RGB").save(folder / name)
        concept = NAMES[targets[i]]
        rows.append(
            {
                "file": name,
                "caption": TEMPLATES[i % len(TEMPLATES)].format(concept),
                "concept": concept,
                "split": ("train", "train", "train", "search", "report")[place % 5],
            }
        )
    write_csv(folder / "captions.csv", pd.DataFrame(rows))
    return folder


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("Usage: python ci/digits.py FOLDER")
    count = len(list((write_digits(sys.argv[1]) / "images").iterdir()))
    print(f"{count} pictures in {sys.argv[1]}")
