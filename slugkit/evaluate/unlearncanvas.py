"""UnlearnCanvas's own protocol: which pictures are drawn for an unlearned model, the two classifiers that judge them, and UA, IRA, CRA.

For each concept every object is drawn in every style from 5 seeds: 51 x 20 x 5 = 5,100 pictures. The tiers lite and smoke are ours: parts of the full answer
set, with wider intervals (`error_bars`), for when 5,100 pictures of 100 steps are too many. SLUG's own script measured something else: other prompts, no
fixed seeds, 10 pictures.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from slugkit.base import ModelLoadError, ShapeError, progress, require_choice
from slugkit.data.unlearncanvas import OBJECTS, STYLES, concept_kind, prompt
from slugkit.evaluate.diffusion import drawn_prompts, ua_ira_cra
from slugkit.evaluate.statistics import wilson
from slugkit.models.classifier import pixels
from slugkit.models.clip import pick_device

SEEDS = (188, 288, 588, 688, 888)
STEPS, GUIDANCE, PICTURE_SIZE = 100, 9.0, 512
TIERS = ("full", "lite", "smoke")
VIT = "vit_large_patch16_224"
"""timm's name of both classifiers; the benchmark starts them from the weights augreg_in21k and gives them a new head, 1024 -> 51 styles or 20 objects."""
SMOKE_TARGET = 20


def _all_prompts() -> pd.DataFrame:
    rows = [(prompt(name, style), seed, name, style) for seed in SEEDS for style in STYLES for name in OBJECTS]
    return pd.DataFrame(rows, columns=["prompt", "seed", "object", "style"])


def answer_set(concept: str, tier: str = "full") -> pd.DataFrame:
    """The pictures to draw for a model that unlearned `concept`: columns prompt, seed, object, style, group ("target" or "rest").

    tier: "full", the benchmark's 5,100. "lite": the target from all seeds, the rest from the first (1,100 for a style, 1,224 for an object). "smoke": 20
    pictures of the target and 50 of the rest, from the first seed, spread evenly over objects and styles. lite and smoke are parts of full. Raises
    UnknownConceptError, SettingError for another tier.
    """
    require_choice(tier, TIERS, "The tier")
    kind, table = concept_kind(concept), _all_prompts()
    table["group"] = np.where(table[kind] == concept, "target", "rest")
    if tier == "full":
        return table
    first, target = table["seed"] == SEEDS[0], table["group"] == "target"
    if tier == "lite":
        return table[target | first].reset_index(drop=True)
    mine = table[target & first]
    mine = mine.iloc[np.linspace(0, len(mine) - 1, SMOKE_TARGET).round().astype(int)]
    rest = table[~target & first]
    names, looks = ([n for n in all_names if n != concept] for all_names in (OBJECTS, STYLES))
    diagonal = pd.DataFrame({"object": [names[i % len(names)] for i in range(50)], "style": looks[:50]})
    return pd.concat([mine, diagonal.merge(rest, on=["object", "style"])[table.columns]], ignore_index=True)


def error_bars(concept: str, tier: str = "full", share: float = 0.5) -> pd.DataFrame:
    """How sure UA, IRA and CRA can be at a tier's size: columns metric, n, half_width (percentage points).

    half_width: half the width of the 95 % Wilson interval of n pictures of which round(share * n) are right; it is widest at share 0.5. The interval takes
    pictures as independent; those of one prompt or one seed are not quite. Raises what `answer_set` raises.
    """
    sizes = answer_set(concept, tier)["group"].value_counts()
    counts = {"UA": int(sizes["target"]), "IRA": int(sizes["rest"]), "CRA": int(sizes["rest"])}
    bounds = {metric: wilson(round(share * n), n) for metric, n in counts.items()}
    return pd.DataFrame([{"metric": m, "n": counts[m], "half_width": 50 * (high - low)} for m, (low, high) in bounds.items()])


def scores(table: pd.DataFrame, said: pd.DataFrame) -> pd.DataFrame:
    """UA, IRA and CRA of an answer set: rows metric, group, value (0..1), low, high (95 % Wilson), n.

    table: an answer set. said: the classifiers' answers in the same order, columns object and style. UA: share of the target's pictures that are not called
    the target. IRA: of the rest, those called right in the target's domain. CRA: of the rest, those called right in the other domain; the target's own
    pictures are in neither. Raises ShapeError.
    """
    if len(table) != len(said):
        raise ShapeError(f"{len(said)} answers came for {len(table)} pictures; one a picture, in the answer set's order, was expected.")
    right = {column: said[column].to_numpy() == table[column].to_numpy() for column in ("object", "style")}
    told = table.assign(domain="objects", extra=False, right_subject=right["object"], right_style=right["style"])
    target, rest = (table.loc[table["group"] == group, "style"] for group in ("target", "rest"))
    found = ua_ira_cra(told, "objects" if target.isin(rest).any() else "styles")
    return found[(found["metric"] != "CRA") | (found["group"] == "all")].reset_index(drop=True)


@dataclass
class CanvasJudge:
    """The benchmark's two classifiers. style: 51 outputs in the order of STYLES. object: 20 in the order of OBJECTS."""

    style: torch.nn.Module
    object: torch.nn.Module

    @torch.no_grad()
    def name(self, images: np.ndarray, batch_size: int = 32) -> pd.DataFrame:
        """(N, H, W, 3) uint8 -> columns object and style. Pictures are squashed to the classifiers' 224 x 224 (bilinear) and brought to -1..1."""
        from torchvision.transforms import functional as F
        device, size = next(self.style.parameters()).device, self.style.patch_embed.img_size
        rows = {"object": [], "style": []}
        for i in range(0, len(images), batch_size):
            part = torch.from_numpy(np.ascontiguousarray(images[i:i + batch_size])).permute(0, 3, 1, 2)
            small = F.resize(part, list(size), F.InterpolationMode.BILINEAR, antialias=True)
            x = pixels(small.permute(0, 2, 3, 1).numpy(), device)
            for column, model, classes in (("object", self.object, OBJECTS), ("style", self.style, STYLES)):
                rows[column] += [classes[k] for k in model(x).argmax(1).tolist()]
        return pd.DataFrame(rows)


def build_judge(classes: int, architecture: str = VIT) -> torch.nn.Module:
    """One of the two classifiers with random weights: timm's `architecture` with `classes` outputs, in eval mode."""
    import timm
    return timm.create_model(architecture, pretrained=False, num_classes=classes).eval()


def _load(path: str | Path, classes: tuple[str, ...], what: str, architecture: str) -> torch.nn.Module:
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file
    path = Path(path).expanduser()
    how = "slugkit/data/pages/unlearncanvas.md shows how to turn the benchmark's .pth into .safetensors, once."
    if path.suffix != ".safetensors" or not path.is_file():
        raise ModelLoadError(f"The {what} classifier {path.name!r} is {'not there' if path.suffix == '.safetensors' else 'no .safetensors file'}; only such a "
                             f"file is read. {how}")
    try:
        with safe_open(path, "pt") as stream:
            head = stream.get_slice("head.weight").get_shape() if "head.weight" in stream.keys() else []
        if not head or head[0] != len(classes):
            raise ModelLoadError(f"The {what} classifier {path.name!r} has {head[0] if head else 'no'} outputs; {len(classes)} were expected, one for each "
                                 f"{what} of the benchmark. Take style50 for styles and style50_cls for objects. {how}")
        model = build_judge(len(classes), architecture)
        model.load_state_dict(load_file(path))
    except (RuntimeError, OSError, SafetensorError) as error:
        raise ModelLoadError(f"The {what} classifier {path.name!r} does not fit timm's {architecture}: {str(error).splitlines()[0]}. {how}") from error
    return model


def load_canvas_judge(style_file: str | Path, object_file: str | Path, device: str = "auto", architecture: str = VIT) -> CanvasJudge:
    """The style and the object classifier from two safetensors files, in eval mode. Nothing else is read: a .pth could run code.

    Raises ModelLoadError for a file of another kind, a wrong number of outputs (seen before the weights are read), or weights that do not fit.
    """
    target = pick_device(device)
    style = _load(style_file, STYLES, "style", architecture)
    return CanvasJudge(style.to(target), _load(object_file, OBJECTS, "object", architecture).to(target))


def told_by_canvas(pipe, judge: CanvasJudge, table: pd.DataFrame, steps: int = STEPS, guidance: float = GUIDANCE, chunk: int = 100,
                   batch_size: int = 4) -> pd.DataFrame:
    """An answer set drawn as the benchmark says and judged: columns object and style, for `scores`.

    DDIM with eta 0, the pipeline's own size (512 x 512 for the benchmark's model), each picture from noise of its seed. Latents are not clipped and the last
    step ends at the first alpha, as in the benchmark's sampler. `chunk` pictures at a time are in memory; each chunk is kept under cache_dir(), so a run that
    was cut off goes on. The pipeline's scheduler is put back at the end.
    """
    from diffusers import DDIMScheduler
    before, parts = pipe.scheduler, []
    pipe.scheduler = DDIMScheduler.from_config(before.config, clip_sample=False, set_alpha_to_one=False, steps_offset=1)
    try:
        for i in progress(range(0, len(table), chunk), "drawing the answer set"):
            parts.append(judge.name(drawn_prompts(pipe, table.iloc[i:i + chunk], steps, guidance, batch_size)))
    finally:
        pipe.scheduler = before
    return pd.concat(parts, ignore_index=True)
