"""Pictures that a pipeline draws itself, as a folder that `data` takes: for characters and novel
concepts, as in the paper (`data/pages/generated.md` weighs it).

The pictures that a concept is examined on come from other wordings and other seeds, so that search
and report share nothing with what the gradient sees.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pandas as pd
from PIL import Image

from slugkit.base import SettingError, progress, replace_atomically, write_csv, write_json
from slugkit.data.tables import fault_of
from slugkit.models.diffusion import GUIDANCE, STEPS, draw, load_pipeline, require_pictures
from slugkit.tasks.prompts import FIRST_SEED

PROMPTS = ("{}", "a picture of {}")
"""Wordings of the pictures to learn from. The bare name is the paper's."""
EXAM = {"search": "an image of {}", "report": "a photo of {}"}
"""Wording of the pictures to be examined on; none of PROMPTS."""
RECORD = "drawn.json"
AT_ONCE = 16


def drawn_table(
    concepts: Sequence[str], count: int, exam: int, prompts: Sequence[str] = PROMPTS
) -> pd.DataFrame:
    """What to draw: columns file, caption (the prompt), concept, split and seed.

    count: pictures of each concept to learn from, 1 or more, in turn by each of `prompts`. exam:
    pictures of each for the search, and twice as many for the report, 0 or more. Raises
    SettingError for no or repeated concepts, a count out of range, a prompt without exactly one {},
    or one of EXAM.
    """
    named = {name for name in concepts if name.strip()}
    if not named or len(named) != len(concepts) or count < 1 or exam < 0:
        raise SettingError(
            f"Asked for were {count} pictures to learn from and {exam} to be examined on of"
            f" {list(concepts)}; at least 1 and 0 of at least one concept, each named once, were"
            " expected."
        )
    wrong = [p for p in prompts if p.count("{}") != 1 or p in EXAM.values()]
    if wrong or not prompts:
        raise SettingError(
            f"The prompts {wrong or list(prompts)} cannot be used; one or more with one {{}} each"
            f" were expected, and none of {list(EXAM.values())}, which the exam is drawn with."
        )
    rows = []
    for number, name in enumerate(concepts):
        plain = f"{number:03d}_{re.sub(r'[^A-Za-z0-9]+', '_', name).strip('_')}"
        for split, size in (("train", count), ("search", exam), ("report", 2 * exam)):
            ways = [EXAM[split]] if split in EXAM else prompts
            first = FIRST_SEED.get(split, 0) + number * 10_000
            for k in range(size):
                file, said = f"images/{plain}_{split}_{k:04d}.png", ways[k % len(ways)].format(name)
                rows.append((file, said, name, split, first + k))
    return pd.DataFrame(rows, columns=["file", "caption", "concept", "split", "seed"])


def write_drawn_set(
    folder: str | Path,
    concepts: Sequence[str],
    pipeline: str = "studio",
    count: int = 10,
    exam: int = 0,
    prompts: Sequence[str] = PROMPTS,
    steps: int = STEPS,
    guidance: float = GUIDANCE,
    device: str = "auto",
) -> Path:
    """Draw the table of `drawn_table` and leave PNG files, captions.csv and a record of how they
    were drawn. Returns the folder.

    A call that was cut off goes on where it was, with what is cut short or altered; it draws a
    batch that was begun as a whole again, since a picture depends on its batch by rounding. Raises
    SettingError for a folder that holds something else or was drawn in another way, ModelLoadError
    for a pipeline that cannot be loaded or draws blank pictures, and what `drawn_table` raises.
    """
    folder, table = Path(folder).expanduser(), drawn_table(concepts, count, exam, prompts)
    known = Path(pipeline).expanduser()
    how = {"pipeline": known.resolve().name if known.is_dir() else pipeline, "steps": steps}
    how |= {"guidance": guidance, "concepts": list(concepts), "count": count, "exam": exam}
    how |= {"prompts": list(prompts)}
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        record = folder / RECORD
        if not record.is_file() or json.loads(record.read_text(encoding="utf-8")) != how:
            raise SettingError(
                f"{folder.name!r} is there already and holds something else, or pictures drawn in"
                " another way. Name a new folder, or repeat the call it was drawn with."
            )
    write_json(folder / RECORD, how)
    parts = [table.iloc[start : start + AT_ONCE] for start in range(0, len(table), AT_ONCE)]
    left = [part for part in parts if any(fault_of(folder / name) for name in part["file"])]
    if left:
        pipe = load_pipeline(pipeline, device)
        for part in progress(left, "drawing"):
            images = draw(pipe, part["caption"].tolist(), part["seed"].tolist(), steps, guidance)
            require_pictures(images, type(pipe).__name__)
            for name, image in zip(part["file"], images):
                if fault_of(folder / name):
                    picture = Image.fromarray(image)
                    replace_atomically(folder / name, partial(picture.save, format="PNG"))
    write_csv(folder / "captions.csv", table)
    return folder
