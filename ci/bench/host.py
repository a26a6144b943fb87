"""What a gradient pass costs beside forward and backward, against another checkout in turns.
Run by hand:

    git worktree add ../first 30dad98
    python ci/bench/host.py ../first [rounds, default 5]

Two cases, one thread each: (1) JPEGs of 224 pixels on disk for a small CLIP whose towers are
replaced by a constant, so that only reading, decoding, tokens, normalising, losses and sums are
left; a first pass over pictures that nobody has decoded yet, and a second one; (2) the retain pass
in micro-batches of 16 on a CLIP with towers of two narrow layers. Seconds are CPU
seconds of the process and wall seconds; the gradients of both checkouts must agree to 1e-5.
"""

import copy
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
import pandas as pd

PICTURES, EDGE, BATCH = 384, 224, 16
CONFIG = {
    "embed_dim": 32,
    "quick_gelu": False,
    "vision_cfg": {"image_size": EDGE, "layers": 2, "width": 64, "patch_size": 32},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
}
SMALL = copy.deepcopy(CONFIG)
SMALL["vision_cfg"] |= {"image_size": 64, "patch_size": 16, "width": 32, "head_width": 16}
SMALL["text_cfg"] |= {"context_length": 16, "width": 32, "heads": 2}


def write_jpegs(folder: Path) -> None:
    """Smooth pictures with some grain, as photographs compress."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for k in range(PICTURES):
        rough = Image.fromarray(rng.integers(0, 256, (14, 14, 3), dtype=np.uint8)).resize(
            (EDGE, EDGE), Image.Resampling.BICUBIC
        )
        grain = np.asarray(rough).astype(int) + rng.integers(-6, 7, (EDGE, EDGE, 3))
        Image.fromarray(grain.clip(0, 255).astype(np.uint8)).save(
            folder / f"{k:04d}.jpg", quality=90
        )


def clip_of(config: dict):
    """A small CLIP of open_clip's class with random weights, always the same."""
    import open_clip
    import torch

    from slugkit.models.clip import _wrap

    torch.manual_seed(0)
    model = open_clip.model.CLIP(
        **{
            k: (
                open_clip.model.CLIPVisionCfg(**v)
                if k == "vision_cfg"
                else open_clip.model.CLIPTextCfg(**v)
                if k == "text_cfg"
                else v
            )
            for k, v in config.items()
        }
    )
    return _wrap(
        model,
        open_clip.SimpleTokenizer(context_length=config["text_cfg"]["context_length"]),
        "small",
        None,
    )


def table_of(number: int) -> pd.DataFrame:
    """Captions of some length, all different."""
    captions = [
        f"a photograph of the {k}th thing, taken from the left on a rainy day in the old town"
        for k in range(number)
    ]
    return pd.DataFrame(
        {
            "key": [str(k) for k in range(number)],
            "caption": captions,
            "concept": "",
            "domain": "",
            "style": "",
            "split": "",
        }
    )


def constant(clip) -> None:
    """Towers that compute nothing: every picture and every text has the same features."""
    import torch

    v, t = clip.model.visual.proj, clip.model.text_projection
    clip.model.encode_image = lambda x, normalize=False: torch.ones(len(x), 1) * v[:1].sum(0)
    clip.model.encode_text = lambda x, normalize=False: torch.ones(len(x), 1) * t[:1].sum(0)


def child(folder: Path, out: Path) -> None:
    """Measure this checkout; figures as JSON on the last line, the gradients of case 2 in `out`."""
    import torch
    from safetensors.torch import save_file

    from slugkit.data import Pairs
    from slugkit.data.pairs import pairs_on_disk
    from slugkit.unlearning.gradients import retain_gradient

    torch.set_num_threads(1)
    found = {}

    def on_disk(folder):
        files = [str(file.absolute()) for file in sorted(folder.glob("*.jpg"))]
        return pairs_on_disk(table_of(PICTURES).assign(file=files), EDGE, "crop")

    def timed(name, call):
        wall, cpu = perf_counter(), process_time()
        result = call()
        found[name], found[f"{name}, CPU"] = perf_counter() - wall, process_time() - cpu
        return result

    clip = clip_of(CONFIG)
    constant(clip)
    pairs = on_disk(folder)
    retain_gradient(clip, pairs.take(range(32)), BATCH)  # imports, merges of the tokenizer
    pairs = on_disk(folder)
    for size in (BATCH, 128):
        timed(
            f"first pass, batch {size}",
            lambda pairs=pairs, size=size: retain_gradient(clip, pairs, size),
        )
        timed(
            f"second pass, batch {size}",
            lambda pairs=pairs, size=size: retain_gradient(clip, pairs, size),
        )
        pairs = on_disk(folder)
    clip = clip_of(SMALL)
    images = np.random.default_rng(1).integers(0, 256, (2 * PICTURES, 64, 64, 3), dtype=np.uint8)
    pairs = Pairs(images, table_of(2 * PICTURES))
    retain_gradient(clip, pairs.take(range(32)), BATCH)
    gradient = timed("narrow towers, batch 16", lambda: retain_gradient(clip, pairs, BATCH))
    save_file(gradient, out)
    print(json.dumps(found))


def measured(checkout: Path, folder: Path, out: Path) -> dict:
    """One child of a checkout."""
    environment = os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, __file__, "--child", str(folder), str(out)],
        env=environment,
        cwd=checkout,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Both checkouts in turns; medians and ratios."""
    from safetensors.torch import load_file

    here, other = Path(__file__).resolve().parents[2], Path(sys.argv[1]).resolve()
    rounds = int((sys.argv[2:3] or ["5"])[0])
    with tempfile.TemporaryDirectory() as spare:
        folder = Path(spare)
        write_jpegs(folder)
        rows = {way: [] for way in (here, other)}
        for _ in range(rounds):
            for way in rows:
                rows[way].append(measured(way, folder, folder / f"{way == here}.safetensors"))
        new, old = (load_file(folder / f"{way}.safetensors") for way in (True, False))
    apart = max(((new[n] - g).norm() / g.norm()).item() for n, g in old.items() if g.norm() > 0)
    for name in rows[here][0]:
        now, then = (np.median([row[name] for row in rows[way]]) for way in (here, other))
        print(
            f"{name}: {1000 * now:.0f} ms, other checkout {1000 * then:.0f} ms, "
            f"ratio {now / then:.2f}"
        )
    print(f"gradients of case 2 differ by {apart:.1e} at most, relative to their norm")


if __name__ == "__main__":
    child(Path(sys.argv[2]), Path(sys.argv[3])) if sys.argv[1:2] == ["--child"] else main()
