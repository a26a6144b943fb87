"""What a smaller form of the patch costs: bytes a weight, the error, and FA@5 of ten people.

Run by hand: python ci/bench/forms.py. Prints, for every form, the largest bytes a weight and error,
and FA@5 on report pictures and wordings (mean and largest over the people, and the largest
difference from full precision for one person), for SLUG's own patches of the text tower. The last
line scales the low rank to a layer of 1024 x 1024.
"""

import tempfile
from pathlib import Path

import torch

from slugkit import patch
from slugkit.data import open_data
from slugkit.evaluation.clip import Scorer, zero_shot_task
from slugkit.method.edit import EditableLayer
from slugkit.models import load_clip
from slugkit.unlearning.retain import RetainSide
from slugkit.unlearning.several import slug_patches

RANKS = (16, 8, 4, 2)
LIMIT = 0.2e6
"""Bytes that a low-rank patch of 1024 x 1024 may take."""


def size(p: patch.Patch) -> int:
    """Bytes of the file."""
    with tempfile.TemporaryDirectory() as folder:
        return patch.save(p, Path(folder) / "p.safetensors").stat().st_size


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(2)
    clip, source = load_clip("studio", "cpu"), open_data("studio")
    people = source.world.report["person"]
    search, report = (
        Scorer(clip, zero_shot_task(source, people, split)) for split in ("search", "report")
    )
    forget = {c: source.forget_set(c, 120) for c in people}
    whole, _ = slug_patches(clip, search, forget, RetainSide(clip, source, people))
    forms = {"fp32": whole, "fp16": [patch.half(p) for p in whole]}
    forms |= {f"rank {r}": [patch.low_rank(p, r) for p in whole] for r in RANKS}
    scores = {}
    for name, patches in forms.items():
        scores[name] = []
        for p in patches:
            with patch.applied(p, clip.model):
                scores[name].append(float((report.of(p.concept, report.classes()) < 5).mean()))
        weights = max(size(p) / p.direction.numel() for p in patches)
        error, mean = max(p.error for p in patches), sum(scores[name]) / len(patches)
        worst = max(abs(a - b) for a, b in zip(scores[name], scores["fp32"], strict=True))
        print(
            f"{name}: {weights:.2f} bytes a weight at most, error {100 * error:.2f} % at most; "
            f"{len(patches)} people, FA@5 mean {100 * mean:.2f} %, largest "
            f"{100 * max(scores[name]):.1f} %, largest difference for one person "
            f"{100 * worst:.1f} points",
            flush=True,
        )
    square = patch.make(
        "transformer.resblocks.0.attn.out_proj.weight", patch_layer(1024), 1.0, "nobody"
    )
    sizes = {r: size(patch.low_rank(square, r)) / 1e6 for r in (48, *RANKS)}
    print(
        f"1024 x 1024: fp16 {size(patch.half(square)) / 1e6:.2f} MB, "
        + ", ".join(f"rank {r} {mb:.3f} MB" for r, mb in sizes.items())
        + f"; {LIMIT / 1e6:.1f} MB is the limit"
    )


def patch_layer(width: int):
    """A square layer of random numbers."""
    numbers = torch.Generator().manual_seed(0)
    weight, direction = (torch.randn(width, width, generator=numbers) for _ in range(2))
    return EditableLayer(weight, direction)


if __name__ == "__main__":
    main()
