"""Data folders of studio pictures under names of one's own."""

import pandas as pd
from PIL import Image

from slugkit import studio

PEOPLE = ["Kofi Okoye", "Petra Quillon", "Oskar Marlow", "Bram Hollick"]


def make_folder(folder, names, captions="a photo of {}", shown=None, each=(6, 4, 4)):
    """Studio pictures of `shown` (by default of the names) under other names: train, search and
    report pictures of each.
    """
    rows = []
    for number, name in enumerate(names):
        for split, count in zip(("train", "search", "report"), each):
            records = studio.solo_records(
                "nonmember" if split == "train" else split, (shown or names)[number], 1
            )[:count]
            for picture in studio.draw_many(records):
                file = f"{len(rows)}.png"
                Image.fromarray(picture).save(folder / file)
                text = captions[number] if isinstance(captions, list) else captions
                rows.append(
                    {"file": file, "caption": text.format(name), "concept": name, "split": split}
                )
    pd.DataFrame(rows).to_csv(folder / "captions.csv", index=False)
    return str(folder)
