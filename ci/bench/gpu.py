"""How fast a GPU runs the method, beside the limit of the same card, in at most 8 minutes. By hand:

    python ci/bench/gpu.py [--out FOLDER]   on a GPU; prints a table, writes gpu.csv (into data/)
    python ci/bench/gpu.py --small          the same code on a CPU at toy size, to its end

1. A full-size ViT-B-32 is trained for a minute on the studio, so that there is something to forget.
2. One concept from loaded model to chosen patch: seconds of gradients, ranking and search, peak
   memory.
3. Gradients of 1,000 + 8,000 pairs in micro-batches of 16 and 128, in fp32, TF32 and bf16. Beside
   them the limit: the same number of forward and backward passes, as many pairs together, in a
   plain loop over tensors that already lie on the GPU.
4. Forty concepts one after another, with one retain set, as far as a minute and a half goes.
5. Stable Diffusion v1.5 at full size (random weights): edit, draw, restore.
"""

import argparse
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path
from time import perf_counter

import numpy as np
import pandas as pd
import torch

from slugkit import patch
from slugkit.base import SearchFailedError, data_dir, write_csv
from slugkit.data import Pairs, open_data
from slugkit.evaluation.diffusion import drawn_prompts
from slugkit.evaluation.statistics import headline
from slugkit.method.edit import EditableLayer
from slugkit.models.clip import Clip, _wrap, load_clip
from slugkit.models.diffusion import draw, load_pipeline
from slugkit.models.memory import pairs_together
from slugkit.models.precision import PRECISIONS, multiplying
from slugkit.models.weight_map import locate
from slugkit.studio.train.clip import Recipe, draw_batch, grouped_info_nce
from slugkit.studio.train.pictures import studio_pictures
from slugkit.unlearning.call import unlearn
from slugkit.unlearning.concept import evaluate
from slugkit.unlearning.gradients import Ahead, forget_gradient, retain_gradient
from slugkit.unlearning.retain import RetainSide

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "helpers"))
import random_models as blank  # noqa: E402 - the tests' own

TINY = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 64, "layers": 2, "width": 64, "patch_size": 16, "head_width": 32},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
}
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def settled(device: torch.device) -> float:
    """The clock, once the GPU has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return perf_counter()


class Table:
    """Rows of what was measured, printed as they come and kept as CSV."""

    def __init__(self, out: Path, device: torch.device):
        self.out, self.device, self.rows = out, device, []
        card = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
        self.where = {"card": card, "torch": torch.__version__}

    def add(
        self, stage: str, what: str, value: float, unit: str, limit: float | None = None
    ) -> None:
        """One figure; limit: what the card could do at best, in the same unit."""
        beside = {} if limit is None else {"limit": limit, "share_of_limit": limit / value}
        self.rows.append(
            {"stage": stage, "what": what, "value": value, "unit": unit} | beside | self.where
        )
        said = (
            ""
            if limit is None
            else f", limit {limit:.3f}, {100 * limit / value:.0f} % of it reached"
        )
        print(f"{stage}: {what}: {value:.3f} {unit}{said}", flush=True)
        write_csv(self.out, pd.DataFrame(self.rows))

    def peak(self, stage: str) -> None:
        """The most memory that tensors took on the GPU since the last call."""
        if self.device.type == "cuda":
            self.add(stage, "peak memory", torch.cuda.max_memory_allocated() / 1e9, "GB")
            torch.cuda.reset_peak_memory_stats()


def fresh_clip(small: bool, device: torch.device) -> Clip:
    """A ViT-B-32 of published size, or a toy, with random weights."""
    import open_clip

    torch.manual_seed(0)
    if small:
        model, tokenizer = open_clip.model.CLIP(**TINY), open_clip.SimpleTokenizer()
    else:
        model, tokenizer = open_clip.create_model("ViT-B-32"), open_clip.get_tokenizer("ViT-B-32")
    clip = _wrap(model.to(device), tokenizer, "ViT-B-32", None)
    clip.mean, clip.std = MEAN, STD
    return clip


def enlarged(images: torch.Tensor, clip: Clip) -> torch.Tensor:
    """(n, H, W, 3) uint8 on the device -> normalised pixels of the model's size, made there."""
    x = images.permute(0, 3, 1, 2).float() / 255
    if x.shape[-1] != clip.image_size:
        x = torch.nn.functional.interpolate(x, clip.image_size, mode="bicubic")
    mean, std = (x.new_tensor(side)[:, None, None] for side in (clip.mean, clip.std))
    return (x - mean) / std


def train(clip: Clip, seconds: float, batch: int) -> tuple[int, float]:
    """Train on the studio's pictures until the time is over. Returns steps and the mean of the
    last losses.
    """
    pictures, recipe = studio_pictures(), Recipe(batch=batch)
    small = torch.from_numpy(pictures.images).to(clip.device)
    fused = clip.device.type == "cuda"
    optimizer = torch.optim.AdamW(
        clip.model.parameters(), lr=0.0, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.1, fused=fused
    )
    peak, losses, started = 5e-4, [], perf_counter()
    clip.model.train()

    def prepare(step: int) -> tuple[list[int], list[int], torch.Tensor]:
        groups, captions = draw_batch(pictures, recipe, 0, step)
        return (
            [i for group in groups for i in group],
            [len(group) for group in groups],
            clip.tokens(captions),
        )

    for rows, sizes, tokens in Ahead(prepare, range(10**6)):
        share = (perf_counter() - started) / seconds
        if share >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = peak * min((len(losses) + 1) / 200, 1) * (1 - share) + 1e-6
        x = enlarged(small[torch.tensor(rows, device=clip.device)], clip)
        with torch.autocast(clip.device.type, torch.bfloat16, enabled=fused):
            v, t = (
                clip.model.encode_image(x, normalize=True),
                clip.model.encode_text(tokens, normalize=True),
            )
        loss = grouped_info_nce(v.float(), t.float(), clip.model.logit_scale.exp(), sizes)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(clip.model.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            clip.model.logit_scale.clamp_(0, np.log(100))
        losses.append(loss.detach())
    clip.model.eval()
    return len(losses), torch.stack(losses[-50:]).mean().item()


def accuracies(clip: Clip, source, people: list[str]) -> pd.Series:
    """Share of the search pictures of each person that the model names rightly, best first."""
    from slugkit.evaluation.clip import evaluate_clip

    found = {}
    for name in people:
        rows = headline(evaluate_clip(clip, source.exam(name, "search"), "before"))
        found[name] = rows.loc[rows["metric"] == "FA@1", "value"].iloc[0]
    return pd.Series(found).sort_values(ascending=False, kind="stable")


def many_pairs(number: int, size: int) -> Pairs:
    """Pictures of noise in the model's own size, captions that are all different."""
    rng = np.random.default_rng(0)
    captions = [
        f"a photograph of thing {k}, on the left of a quiet street in the old town"
        for k in range(number)
    ]
    table = pd.DataFrame({"key": [str(k) for k in range(number)], "caption": captions})
    return Pairs(
        rng.integers(0, 256, (number, size, size, 3), dtype=np.uint8),
        table.assign(concept="", domain="", style="", split=""),
    )


def limit(clip: Clip, number: int, together: int, precision: str) -> float:
    """Seconds of as many forward and backward passes over one group of tensors on the device."""
    pixels = torch.randn(
        together, 3, clip.image_size, clip.image_size, device=clip.device, dtype=clip.dtype
    )
    tokens = clip.tokens(
        [
            f"a photograph of thing {k}, on the left of a quiet street in the old town"
            for k in range(together)
        ]
    )
    labels, half, started = torch.arange(together, device=clip.device), PRECISIONS[precision], 0.0
    for passed in range(-2, max(1, round(number / together))):
        started = settled(clip.device) if passed == 0 else started
        with multiplying(precision):
            with torch.autocast(clip.device.type, half) if half else nullcontext():
                v, t = (
                    clip.model.encode_image(pixels, normalize=True),
                    clip.model.encode_text(tokens, normalize=True),
                )
            torch.nn.functional.cross_entropy(
                clip.model.logit_scale.exp() * v.float() @ t.float().T, labels
            ).backward()
    spent = settled(clip.device) - started
    clip.model.zero_grad(set_to_none=True)
    return spent * number / (max(1, round(number / together)) * together)


def gradient_passes(clip: Clip, table: Table, forget: int, retain: int) -> None:
    """Stage 3."""
    pairs = many_pairs(forget + retain, clip.image_size)
    to_forget, to_keep = pairs.take(range(forget)), pairs.take(range(forget, forget + retain))
    retain_gradient(clip, to_keep.take(range(min(256, retain))), 128)
    precisions = ("fp32", "tf32", "bf16") if clip.device.type == "cuda" else ("fp32",)
    for precision in precisions:
        for batch in (16, 128):
            together = max(batch, pairs_together(clip, batch, precision))
            least = limit(clip, forget + retain, together, precision)
            started = settled(clip.device)
            forget_gradient(clip, to_forget, batch, precision=precision)
            retain_gradient(clip, to_keep, batch, precision=precision)
            what = f"{forget} + {retain} pairs, batch {batch}, {precision}, {together} together"
            table.add("gradients", what, settled(clip.device) - started, "s", least)
            table.peak("gradients")


def one_concept(clip: Clip, source, name: str, small: bool, table: Table) -> None:
    """Stage 2, twice: the first time libraries are loaded and kernels chosen."""
    fewer = {"retain_size": 128, "max_trials": 4} if small else {}
    for stage in ("one concept, first", "one concept"):
        started = settled(clip.device)
        found = unlearn(clip, source, name, **fewer)
        table.add(stage, "from loaded model to chosen patches", settled(clip.device) - started, "s")
        for part, seconds in found.seconds.items():
            table.add(stage, part, seconds, "s")
        table.add(stage, "probes", len(found.table), "probes")
        table.peak(stage)
    rows = headline(evaluate(clip, source, [found]))
    picked = rows[(rows["metric"] == "FA@1") | (rows["group"] == "people")]
    for row in picked.itertuples():
        table.add(
            "one concept, report",
            f"{row.stage} {row.tower} {row.group} {row.metric}",
            100 * row.value,
            "%",
        )


def many_concepts(clip: Clip, source, names: list[str], small: bool, table: Table) -> None:
    """Stage 4: as many of forty people as fit into a minute and a half, each with the paper's rule,
    one retain gradient for all.
    """
    stage, started = "concepts one after another", settled(clip.device)
    shared = RetainSide(clip, source, names, 128 if small else 2560)
    table.add(stage, "retain set, drawn once on the CPU", settled(clip.device) - started, "s")
    started = settled(clip.device)
    parts = len(shared.parts)
    table.add(stage, f"its gradient, once, {parts} parts", settled(clip.device) - started, "s")
    spent, forgot, unknown = [], 0, 0
    for name in names:
        if sum(spent) > 90:
            break
        started = settled(clip.device)
        try:
            forgot += bool(
                unlearn(clip, source, name, shared=shared, max_trials=4 if small else 10).patches
            )
        except SearchFailedError as error:  # a name that the model does not know
            unknown += 1
            print(error, flush=True)
        spent.append(settled(clip.device) - started)
    said = f"{len(spent)} of {len(names)} people, {forgot} with a patch, {unknown} not known before"
    table.add(stage, said, sum(spent), "s")
    table.add(stage, "median of a concept", float(np.median(spent)), "s")
    table.peak(stage)


def pictures(small: bool, device: torch.device, table: Table) -> None:
    """Stage 5."""
    with tempfile.TemporaryDirectory() as spare:
        started = perf_counter()
        if small:
            folder = "studio"
        else:
            clip = blank.write_clip("ViT-L-14-quickgelu", Path(spare) / "clip", "transformers")
            folder = str(blank.write_around("sd15", [clip], Path(spare) / "pipeline"))
        table.add("pictures", "random weights written", perf_counter() - started, "s")
        started = settled(device)
        pipe = load_pipeline(folder, device.type)
        table.add("pictures", "loaded", settled(device) - started, "s")
        layer = "transformer.resblocks.1.mlp.c_fc.weight"
        place = locate(pipe, layer)
        before = place.read().clone()
        direction = torch.randn(before.shape, generator=torch.Generator().manual_seed(0))
        weight = before.float().cpu()
        editable = EditableLayer(weight, direction)
        edit = patch.make(layer, editable, editable.lam(0.1), "a thing")
        steps, prompts, seeds = 20, ["a photo of a cat next to a red house"] * 4, [0, 1, 2, 3]
        own = draw(pipe, prompts, seeds, steps)
        started = settled(device)
        again = draw(pipe, prompts, seeds, steps)
        table.add(
            "pictures",
            f"a picture of {again.shape[1]} pixels, {steps} steps, 4 at once",
            (settled(device) - started) / 4,
            "s",
        )
        for name in ("hashed, drawn and kept", "the same again"):
            started = settled(device)
            drawn_prompts(pipe, pd.DataFrame({"prompt": prompts, "seed": seeds}), steps)
            table.add("pictures", name, settled(device) - started, "s")
        started = settled(device)
        with patch.applied(edit, pipe):
            table.add("pictures", "edit applied and verified", settled(device) - started, "s")
            edited = draw(pipe, prompts, seeds, steps)
        same = torch.equal(place.read(), before) and np.array_equal(
            draw(pipe, prompts, seeds, steps), own
        )
        table.add(
            "pictures",
            "weights and pictures as before once the edit is off (1 = yes)",
            float(same),
            "",
        )
        changed = float((edited != own).mean())
        table.add("pictures", "share of pixels that the edit changed", 100 * changed, "%")
        table.peak("pictures")


def main() -> None:
    """Run all stages."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="toy size, on the CPU")
    parser.add_argument(
        "--out",
        type=Path,
        default=None,
        help="folder of gpu.csv; by default data/, with --small a temporary one",
    )
    parser.add_argument("--seconds", type=float, default=60, help="how long the CLIP is trained")
    given = parser.parse_args()
    device = torch.device("cpu" if given.small else "cuda")
    with tempfile.TemporaryDirectory() as spare:
        table = Table((given.out or Path(spare if given.small else data_dir())) / "gpu.csv", device)
        began, source = perf_counter(), open_data("studio")
        clip = fresh_clip(given.small, device)
        steps, loss = train(clip, 5 if given.small else given.seconds, 32 if given.small else 256)
        table.add(
            "training", f"{steps} steps, loss {loss:.2f} at the end", perf_counter() - began, "s"
        )
        # a toy learns nobody in five seconds
        clip = load_clip("studio", "cpu") if given.small else clip
        people = source.world.concepts()["person"]
        known = accuracies(clip, source, people[:4] if given.small else people)
        table.add(
            "training",
            f"search pictures of {len(known)} people named rightly",
            100 * known.mean(),
            "%",
        )
        table.peak("training")
        one_concept(clip, source, known.index[0], given.small, table)
        gradient_passes(clip, table, *((64, 128) if given.small else (1000, 8000)))
        many_concepts(clip, source, list(known.index), given.small, table)
        del clip
        pictures(given.small, device, table)
        table.add("all", "whole script", perf_counter() - began, "s")


if __name__ == "__main__":
    main()
