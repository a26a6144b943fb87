"""The notebooks themselves on full-size checkpoints of random weights, from the sets to the edited
pipeline and language model.

Run by hand:

    python ci/bench/full_size_notebooks.py FOLDER [NAME ...]

FOLDER: that of `ci/bench/full_size.py`. What is missing is written; runs and pictures go there too.
Random weights have learned no name, so a search for one says that there is nothing to forget: the
first rows, of the smallest model. But a random CLIP calls nearly every picture by the same name,
whichever that is; forgetting this one walks the whole way in CLIP. As a judge of drawn pictures it
tells nothing apart, and a random LLaVA names nobody, so notebooks 06 and 07 stop there and say so.
What is proven is names, shapes, formats, seconds and memory, nothing about unlearning. The table
goes to data/full_size_notebooks.csv.
"""

import os
import sys
from pathlib import Path
from time import perf_counter

import full_size
import pandas as pd
import torch
from PIL import Image

from slugkit import studio
from slugkit.base import RunFailedError, SlugError, data_dir, peak_memory, write_csv
from slugkit.data import drawn, open_data
from slugkit.evaluation.clip import answers
from slugkit.models import load_clip
from slugkit.workbook.run import run_series
from slugkit.workbook.run.stages import parameters_of, select

PEOPLE, EDGE = 6, 256
SMALL = {"forget_size": 8, "retain_size": 16, "batch_size": 8, "max_trials": 6, "device": "cpu"}
LARGE = {"forget_size": 4, "retain_size": 4, "batch_size": 4, "max_trials": 3}
"""Of the settings in SMALL, those of the towers that take seconds for a single pair on two cores.

They also get fewer pictures.
"""
COUNTS = {"pictures": (8, 3, 4), "few-pictures": (8, 1, 2)}
"""Pictures of each person to learn from, for the search and for the report."""
DRAWN = {"sampling_steps": 2, "pipeline_layers": 1, "pipeline_trials": 2}
SD21 = "SD v2.1, UNet, VAE and the CLIP's vision tower reduced"
COMBINATIONS = {
    "ViT-B-32": ("ViT-B-32", "01-05", {}),
    "SD v1.5, UNet and VAE reduced": ("CLIPModel L/14", "01-06", LARGE | DRAWN),
    SD21: ("H/14, vision tower reduced", "01-04,06", LARGE | DRAWN),
    "LLaVA-1.5, language model reduced": (
        "CLIPModel L/14-336",
        "01-04,07",
        LARGE
        | {"forget_size": 2, "batch_size": 2, "max_trials": 2, "questions": 1, "answer_trials": 2},
    ),
}
"""Which CLIP each runs with, which notebooks, and their settings beside SMALL."""
UNKNOWN = "ViT-B-32"
"""The combination that also runs with a name that no picture is called by."""


def write_pictures(folder: Path) -> list[str]:
    """Six people of the studio as JPEG files of 256 x 256 with captions.csv, as many pictures of
    each as COUNTS says by the folder's name.

    Returns the names.
    """
    names = studio.load_world().report["person"][:PEOPLE]
    if (folder / "captions.csv").is_file():
        return names
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for name in names:
        records = [
            (split, r)
            for split, source, count in zip(
                ("train", "search", "report"),
                ("nonmember", "search", "report"),
                COUNTS[folder.name],
            )
            for r in studio.solo_records(source, name, 2)[:count]
        ]
        for number, ((split, _), image) in enumerate(zip(records, drawn([r for _, r in records]))):
            file = f"{name.replace(' ', '_')}_{number}.jpg"
            Image.fromarray(image).resize((EDGE, EDGE), Image.Resampling.BICUBIC).save(
                folder / file, quality=92
            )
            rows.append(
                {
                    "file": file,
                    "caption": f"a portrait of {name}, number {number}",
                    "concept": name,
                    "split": split,
                }
            )
    write_csv(folder / "captions.csv", pd.DataFrame(rows))
    return names


def by_recognition(clip_folder: Path, pictures: Path, names: list[str]) -> list[str]:
    """The names, from the one by which the model calls the largest share of their own search and
    report pictures.
    """
    clip = load_clip(str(clip_folder), "cpu")
    source = open_data(str(pictures), clip.image_size, clip.fit)

    def share(name: str) -> float:
        return min(
            (answers(clip, source.exam(name, split))["answer"] == name).mean()
            for split in ("search", "report")
        )

    return sorted(names, key=share, reverse=True)


def run_notebooks(
    root: Path, name: str, pictures: Path, concept: str, what: str, chosen: list[str]
) -> None:
    """Run the notebooks one by one until one stops; a row of the table for each: seconds, peak
    memory and how it ended.
    """
    clip, _, more = COMBINATIONS[name]
    settings = (
        SMALL
        | more
        | {"model": str(full_size.folder_of(root, clip)), "data": str(pictures), "concept": concept}
    )
    for kind, setting in (("SD", "pipeline"), ("LLaVA", "vision_language_model")):
        if name.startswith(kind):
            settings[setting] = str(full_size.folder_of(root, name))
    rows = []
    for number in chosen:
        notebook = select(number)[0]
        given = {k: v for k, v in settings.items() if k in parameters_of(notebook)}
        started, ended, peak_mb = perf_counter(), "ran", 0
        with peak_memory(children=True) as peak:
            try:
                done = run_series(
                    "".join(c if c.isalnum() else "-" for c in f"{name} {what}"),
                    number,
                    given,
                    cell_timeout=7200,
                    echo=lambda line: print(line, flush=True),
                )
                peak_mb = done[0]["peak_mb"]
            except RunFailedError as stopped:
                ended = (
                    str(stopped).replace(str(root), "FOLDER").partition(" The cells up to there")[0]
                )
        rows.append(
            {
                "model": name,
                "CLIP": clip,
                "forgets": what,
                "pairs_to_forget": settings["forget_size"],
                "pairs_to_keep": settings["retain_size"],
                "search_pictures": PEOPLE * COUNTS[pictures.name][1],
                "notebook": notebook,
                "seconds": round(perf_counter() - started, 1),
                "peak_gb": round(max(peak[0], peak_mb) / 1e3, 2),
                "load_on_machine": round(os.getloadavg()[1], 1),
                "ended": ended,
            }
        )
        print(rows[-1], flush=True)
        keep(rows)
        if ended != "ran":
            break


def keep(rows: list[dict]) -> None:
    """Write the rows of one series into the table, in the place of its earlier ones."""
    kept, table = (
        data_dir() / "full_size_notebooks.csv",
        pd.DataFrame(rows).assign(
            threads=full_size.THREADS, machine=full_size.MACHINE, torch=torch.__version__
        ),
    )
    if kept.is_file():
        old, series = pd.read_csv(kept), ["model", "forgets"]
        table = pd.concat(
            [old[(old[series] != table[series].iloc[0]).any(axis=1)], table], ignore_index=True
        )
    write_csv(kept, table)


def main() -> None:
    """Write what is missing, and run each combination."""
    root, chosen = Path(sys.argv[1]).absolute(), sys.argv[2:] or list(COMBINATIONS)
    os.environ.update(
        SLUGKIT_RUNS=str(root / "runs"),
        SLUGKIT_CACHE=str(root / "cache"),
        OMP_NUM_THREADS=str(full_size.THREADS),
    )
    full_size.CLIPS["H/14, vision tower reduced"] = ("ViT-H-14", "transformers", ("vision",))
    full_size.OTHERS[SD21] = ("sd21", ["H/14, vision tower reduced"])
    for name in chosen:
        clip, notebooks, more = COMBINATIONS[name]
        pictures = root / ("few-pictures" if LARGE.keys() <= more.keys() else "pictures")
        names = write_pictures(pictures)
        for needed in (clip, name):
            full_size.write(root, needed)
        numbers, order = (
            [n[:2] for n in select(notebooks)],
            by_recognition(full_size.folder_of(root, clip), pictures, names),
        )
        if name == UNKNOWN:
            run_notebooks(
                root,
                name,
                pictures,
                order[-1],
                "a name that no picture is called by",
                [n for n in numbers if n <= "04"],
            )
        run_notebooks(
            root, name, pictures, order[0], "the name that most pictures are called by", numbers
        )


if __name__ == "__main__":
    try:
        main()
    except SlugError as wrong:
        sys.exit(str(wrong))
