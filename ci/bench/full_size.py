"""Every combination of published models, at full size with random weights: loaded from its folder,
ranked, edited, put back.

Run by hand:

    python ci/bench/full_size.py FOLDER [NAME ...]

FOLDER: where the checkpoints are written once (up to about 25 GB). Each combination runs in
processes of its own, whose peak memory is their own. The table goes to data/full_size.csv. Random
weights have learned nothing, so nothing can be forgotten: what is shown is that names, shapes,
formats, memory and time hold.
"""

import json
import os
import platform
import resource
import subprocess
import sys
from pathlib import Path
from time import perf_counter

import numpy as np
import pandas as pd
import torch

from slugkit import patch
from slugkit.base import data_dir, write_csv
from slugkit.data import Pairs
from slugkit.method.edit import EditableLayer
from slugkit.method.layers import block_of, weight_of
from slugkit.models import load_clip
from slugkit.models.diffusion import load_pipeline
from slugkit.models.reachability import unused_layers
from slugkit.models.vlm import load_vlm
from slugkit.models.weight_map import differences, part_of
from slugkit.unlearning.concept import score_layers
from slugkit.unlearning.gradients import forget_gradient, retain_gradient
from slugkit.unlearning.result import front_layers

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "helpers"))
import random_models as blank  # noqa: E402 - the tests' own

THREADS = int(os.environ.get("OMP_NUM_THREADS", 2))
MACHINE = f"{platform.system()} {platform.machine()}, CPU"
CLIPS = {
    "ViT-B-32": ("ViT-B-32", "open_clip", ()),
    "ViT-B-16": ("ViT-B-16", "open_clip", ()),
    "ViT-L-14": ("ViT-L-14", "open_clip", ()),
    "EVA01-g-14": ("EVA01-g-14", "open_clip", ()),
    "ViT-B-16-SigLIP": ("ViT-B-16-SigLIP", "open_clip", ()),
    "CLIPModel L/14": ("ViT-L-14-quickgelu", "transformers", ()),
    "CLIPModel L/14-336": ("ViT-L-14-336-quickgelu", "transformers", ()),
    "CLIPModel H/14": ("ViT-H-14", "transformers", ()),
    "bigG/14, vision tower reduced": ("ViT-bigG-14", "open_clip", ("vision",)),
}
OTHERS = {
    "SD v1.5, UNet and VAE reduced": ("sd15", ["CLIPModel L/14"]),
    "SD v2.1, UNet and VAE reduced": ("sd21", ["CLIPModel H/14"]),
    "SDXL, UNet and VAE reduced": ("sdxl", ["CLIPModel L/14", "bigG/14, vision tower reduced"]),
    "LLaVA-1.5, language model reduced": ("llava15", ["CLIPModel L/14-336"]),
    "LLaVA-NeXT, language model reduced": ("llava16", ["CLIPModel L/14-336"]),
    "VipLLaVA, language model reduced": ("vipllava", ["CLIPModel L/14-336"]),
}


def folder_of(root: Path, name: str) -> Path:
    """The folder of a combination."""
    return root / "".join(c if c.isalnum() else "-" for c in name)


def write(root: Path, name: str) -> None:
    """Write the checkpoint of a combination, and those that it needs, where they are not
    there yet.
    """
    kind, clips = OTHERS.get(name, (None, []))
    for clip in clips:
        write(root, clip)
    out = folder_of(root, name)
    if out.exists():
        return
    beside = out.with_name(out.name + ".part")
    subprocess.run(["rm", "-rf", str(beside)], check=True)
    if name in CLIPS:
        architecture, form, small = CLIPS[name]
        blank.write_clip(architecture, beside, form, small=small)
    else:
        blank.write_around(kind, [folder_of(root, clip) for clip in clips], beside, reduced=True)
    beside.rename(out)


def pairs(count: int, size: int) -> Pairs:
    """Pictures of noise with captions of their own."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "key": [str(i) for i in range(count)],
            "caption": [f"picture number {i} of a thing" for i in range(count)],
        }
    )
    return Pairs(
        rng.integers(0, 256, (count, size, size, 3), dtype=np.uint8),
        table.assign(concept="", domain="", style="", split="train"),
    )


class Stages:
    """Seconds of each stage and what it said."""

    def __init__(self):
        self.row, self.started = {}, perf_counter()

    def done(self, stage: str) -> None:
        """The time since the last call belongs to this stage."""
        self.row[f"{stage}_s"] = round(perf_counter() - self.started, 1)
        self.started = perf_counter()


def ranked(root: Path, name: str, batch: int) -> tuple:
    """Load a CLIP, take both gradients, rank its layers.

    Returns (clip, forget gradient, table of layers, stages).
    """
    stages = Stages()
    clip = load_clip(str(folder_of(root, name)), "cpu")
    stages.done("load")
    data = pairs(2 * batch, clip.image_size)
    g_f, g_r = (
        forget_gradient(clip, data.take(range(batch)), batch),
        retain_gradient(clip, data.take(range(batch, 2 * batch)), batch),
    )
    stages.done("gradients")
    table = score_layers(clip, g_f, g_r)
    del g_r
    stages.done("rank")
    return clip, g_f, table, stages


def edit_for(clip, g_f, layer: str) -> patch.Patch:
    """A patch of one layer with a relative step of 10 %."""
    editable = EditableLayer.of(clip.model, layer, weight_of(g_f, layer))
    return patch.make(layer, editable, editable.lam(0.1), "a thing")


def on_clip(root: Path, name: str, batch: int) -> dict:
    """Rank a CLIP's layers, apply and remove a patch on each tower's front."""
    clip, g_f, table, stages = ranked(root, name, batch)
    for tower in ("text", "vision"):
        edit = edit_for(clip, g_f, front_layers(table, tower)[0])
        before = clip.model.get_parameter(edit.layer).detach().clone()
        with patch.applied(edit, clip.model):
            assert not torch.equal(clip.model.get_parameter(edit.layer), before)
        assert torch.equal(clip.model.get_parameter(edit.layer), before)
    stages.done("patch")
    weights = sum(p.numel() for p in clip.model.parameters())
    return {
        "weights_millions": round(weights / 1e6, 1),
        "candidates": int(table["candidate"].sum()),
        "pairs_a_batch": batch,
    } | stages.row


def looked_at(names: list[str]) -> list[str]:
    """What lies outside the blocks, and one matrix of the first and of the last two blocks: a look
    costs a forward pass, and a published LLaVA leaves out the last block.
    """
    blocks = sorted({block_of(name) for name in names} - {-1})
    return [
        n
        for n in names
        if block_of(n) == -1
        or (n.endswith("mlp.c_proj.weight") and block_of(n) in (blocks[0], *blocks[-2:]))
    ]


def on_other(root: Path, name: str, batch: int) -> dict:
    """Rank the CLIP whose tower another model shares, find by looking which layers act there, apply
    and remove the patch of one in both.
    """
    kind, clips = OTHERS[name]
    tower = "text" if kind in blank.PIPELINES else "vision"
    row: dict = {}
    for number, clip_name in enumerate(clips):
        clip, g_f, table, stages = ranked(root, clip_name, batch)
        other = (
            load_pipeline(str(folder_of(root, name)), "cpu")
            if tower == "text"
            else load_vlm(str(folder_of(root, name)), "cpu").model
        )
        assert differences(clip.model, other, tower) == []
        stages.done("load_other")
        names = table.loc[table["candidate"] & (table["tower"] == tower), "layer"].tolist()
        some = looked_at(names)
        left_out = unused_layers(part_of(clip.model, other, tower), some)
        stages.done("look")
        acting = [layer for layer in some if layer not in left_out]
        edit = edit_for(clip, g_f, acting[-1])
        with edit.applied(clip.model), edit.applied(other):
            assert differences(clip.model, other, tower) == []
        with patch.applied(edit, other):
            assert differences(clip.model, other, tower) == [edit.layer]
        assert differences(clip.model, other, tower) == []
        stages.done("patch")
        mark = f"_{number + 1}" if number else ""
        row |= {
            f"candidates{mark}": len(names),
            f"looked_at{mark}": len(some),
            f"left_out{mark}": " ".join(left_out),
        } | {f"{k}{mark}": v for k, v in stages.row.items()}
        row.setdefault(
            "weights_millions", round(sum(p.numel() for p in clip.model.parameters()) / 1e6, 1)
        )
        del clip, g_f, other
    return row | {"pairs_a_batch": batch}


def child(root: Path, name: str) -> None:
    """One combination in this process; its row as the last line."""
    torch.set_num_threads(THREADS)
    batch = 8 if "-B-" in name or name == "ViT-L-14" else 2
    row = (on_clip if name in CLIPS else on_other)(root, name, batch)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    print(
        json.dumps(
            {"model": name}
            | row
            | {"peak_gb": round(peak, 2), "load_on_machine": round(os.getloadavg()[1], 1)}
        )
    )


def main() -> None:
    """Write what is missing, run each combination, print and keep the table."""
    root, names = Path(sys.argv[1]).absolute(), sys.argv[2:] or [*CLIPS, *OTHERS]
    kept, rows = data_dir() / "full_size.csv", []
    for name in names:
        for step in ("write", "child"):
            done = subprocess.run(
                [sys.executable, __file__, str(root), f"--{step}", name],
                stdout=subprocess.PIPE,
                text=True,
            )
            if done.returncode:
                sys.exit(f"{name}: {step} failed")
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        print(rows[-1], flush=True)
        table = pd.DataFrame(rows).assign(threads=THREADS, machine=MACHINE, torch=torch.__version__)
        if kept.is_file():
            old = pd.read_csv(kept)
            table = pd.concat([old[~old["model"].isin(table["model"])], table], ignore_index=True)
        write_csv(kept, table)


if __name__ == "__main__":
    if len(sys.argv) > 3 and sys.argv[2] in ("--write", "--child"):
        (write if sys.argv[2] == "--write" else child)(Path(sys.argv[1]), sys.argv[3])
    else:
        main()
