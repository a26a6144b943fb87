"""A full-size ViT-B-32's gradient over pictures in shards: seconds and peak memory, slugkit's
beside a plain loop.

Run by hand:

python ci/bench/gradients.py [micro-batches] [micro-batches for the peaks] [bf16]

Micro-batches are of 16 pairs; 20 of them, and 2 for the peaks, if nothing is said.

Weights are random (no download); shards of synthetic JPEGs are written into a temporary folder.
Seconds: both ways in one process, in turns of five micro-batches, decoding the same way; the bar is
a ratio of 1.2. Peaks: one child process each, beside the plan and beside weights + two gradient
copies + activations. `bf16` adds that variant, which is slow on a CPU without it.
"""

import io
import json
import resource
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np
import pandas as pd
import torch
from PIL import Image

from slugkit.data import Pairs
from slugkit.data.pictures import Pictures
from slugkit.models.clip import _wrap
from slugkit.models.memory import plan
from slugkit.unlearning.gradients import gradient_of
from slugkit.unlearning.losses import micro_batches, retain_loss

PER_SHARD, EDGE, BATCH, TURN = 160, 256, 16, 5
VARIANTS = {
    "plain loop": (16, None, "fp32"),
    "slugkit": (16, None, "fp32"),
    "slugkit, 32": (32, None, "fp32"),
    "slugkit, 32 in chunks of 8": (32, 8, "fp32"),
}


def jpeg(generator: np.random.Generator) -> bytes:
    """A smooth coloured picture of EDGE pixels as JPEG."""
    small = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(small).resize((EDGE, EDGE), Image.Resampling.BICUBIC).save(
        stream, "JPEG", quality=90
    )
    return stream.getvalue()


def write_shards(folder: Path, number: int) -> None:
    """Shards as webdataset reads them: KEY.jpg and KEY.txt beside each other."""
    generator = np.random.default_rng(0)
    for start in range(0, number, PER_SHARD):
        with tarfile.open(folder / f"{start:06d}.tar", "w") as shard:
            for k in range(start, min(start + PER_SHARD, number)):
                for name, data in (
                    (f"{k:06d}.jpg", jpeg(generator)),
                    (f"{k:06d}.txt", f"picture number {k}".encode()),
                ):
                    member = tarfile.TarInfo(name)
                    member.size = len(data)
                    shard.addfile(member, io.BytesIO(data))


def read_places(folder: Path, size: int) -> Pairs:
    """The shards' pictures by their places, none of them decoded."""
    places, captions = [], []
    for file in sorted(folder.glob("*.tar")):
        with tarfile.open(file) as shard:
            for member in shard:
                if member.name.endswith(".jpg"):
                    places.append((str(file), member.offset_data, member.size, -1))
                else:
                    captions.append(shard.extractfile(member).read().decode())
    table = pd.DataFrame(
        {
            "key": [str(k) for k in range(len(places))],
            "caption": captions,
            "concept": "",
            "domain": "",
            "style": "",
            "split": "",
        }
    )
    return Pairs(
        Pictures(pd.DataFrame(places, columns=["file", "offset", "length", "row"]), size), table
    )


def model():
    """ViT-B-32 with random weights, always the same."""
    import open_clip

    torch.manual_seed(0)
    return _wrap(
        open_clip.create_model("ViT-B-32"), open_clip.get_tokenizer("ViT-B-32"), "ViT-B-32", None
    )


def plain(clip, parts: list[Pairs]) -> dict[str, torch.Tensor]:
    """Decode, forward, backward, adding up in `.grad`; the mean over batches of equal size."""
    clip.model.zero_grad(set_to_none=True)
    for part in parts:
        retain_loss(clip, Pairs(part.images[:], part.table)).backward()
    found = {name: w.grad / len(parts) for name, w in clip.model.named_parameters()}
    clip.model.zero_grad(set_to_none=True)
    return found


def peak_mb() -> float:
    """Peak resident memory of this process so far, MB (10^6 bytes)."""
    return (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        * (1 if sys.platform == "darwin" else 1024)
        / 1e6
    )


def one_peak(folder: Path, variant: str, number: int) -> None:
    """In a child: compute one variant and print its peak beside what was predicted, as JSON."""
    batch_size, chunk, precision = (
        (16, None, "bf16") if variant == "slugkit, bf16" else VARIANTS[variant]
    )
    clip = model()
    pairs = read_places(folder, clip.image_size)
    made = plan(clip, batch_size, precision, chunk, copies=1)
    live = made.gradients + made.fixed + made.per_pair * made.together
    parts = micro_batches(pairs.take(range(number * batch_size)), "retain", batch_size)
    before, started = peak_mb(), perf_counter()
    if variant == "plain loop":
        plain(clip, [pairs.take(rows) for rows in parts])
    else:
        gradient_of(clip, "retain", pairs, parts, precision, chunk)
    found = {
        "seconds": (perf_counter() - started) / len(parts),
        "peak": peak_mb(),
        "added": peak_mb() - before,
        "predicted": (made.needed - made.weights) / 1e6,
        "bar": (2 * made.gradients + made.activations) / 1e6,
        "live": live / 1e6,
        "weights": made.weights / 1e6,
    }
    print("result " + json.dumps(found))


def times(folder: Path, number: int) -> None:
    """Seconds of both ways over the same micro-batches, in turns of five, and how far the two
    gradients are apart.
    """
    clip = model()
    parts = [list(range(k * BATCH, (k + 1) * BATCH)) for k in range(number)]
    spent, farthest = {"plain": 0.0, "slugkit": 0.0}, 0.0
    plain(clip, [read_places(folder, clip.image_size).take(parts[0])])
    for k in range(0, len(parts), TURN):
        turn, found = parts[k : k + TURN], {}
        for way in ("plain", "slugkit") if k // TURN % 2 == 0 else ("slugkit", "plain"):
            pairs = read_places(folder, clip.image_size)  # none of them decoded yet
            started = perf_counter()
            found[way] = (
                plain(clip, [pairs.take(rows) for rows in turn])
                if way == "plain"
                else gradient_of(clip, "retain", pairs, turn)
            )
            spent[way] += perf_counter() - started
        farthest = max(
            farthest,
            *(
                ((found["plain"][n] - g).norm() / g.norm()).item()
                for n, g in found["slugkit"].items()
                if g.norm() > 0
            ),
        )
    print(
        f"{len(parts)} micro-batches of {BATCH}, {torch.get_num_threads()} threads: plain loop"
        f" {spent['plain']:.1f} s, slugkit {spent['slugkit']:.1f} s, ratio"
        f" {spent['slugkit'] / spent['plain']:.3f} (bar 1.2); gradients differ by {farthest:.1e} at"
        " most",
        flush=True,
    )


def main() -> None:
    """Write the shards, measure seconds here and peaks in children, print."""
    number, few = int((sys.argv[1:2] or ["20"])[0]), int((sys.argv[2:3] or ["2"])[0])
    with tempfile.TemporaryDirectory() as spare:
        folder = Path(spare)
        write_shards(folder, max(number * BATCH, few * 32))
        for variant in [*VARIANTS, *(["slugkit, bf16"] if "bf16" in sys.argv else [])]:
            done = subprocess.run(
                [sys.executable, __file__, "--child", spare, variant, str(few)],
                capture_output=True,
                text=True,
            )
            if done.returncode:
                sys.exit(done.stderr)
            found = json.loads(
                next(
                    line for line in done.stdout.splitlines() if line.startswith("result ")
                ).removeprefix("result ")
            )
            print(
                f"{variant}: peak {found['peak']:.0f} MB, of it added by the gradient"
                f" {found['added']:.0f}; plan {found['predicted']:.0f}, live tensors alone"
                f" {found['live']:.0f}, two gradient copies + activations {found['bar']:.0f};"
                f" weights {found['weights']:.0f}; {found['seconds']:.1f} s a micro-batch",
                flush=True,
            )
        times(folder, number)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        one_peak(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
    else:
        main()
