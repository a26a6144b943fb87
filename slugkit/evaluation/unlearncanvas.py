"""UnlearnCanvas's own protocol: which pictures are drawn for an unlearned model, the two
classifiers that judge them, and how sure UA, IRA and CRA can be.

For each concept every object is drawn in every style from 5 seeds: 51 x 20 x 5 = 5,100 pictures.
The tiers lite and smoke are ours: parts of the full answer set, with wider intervals
(`error_bars`), for when 5,100 pictures of 100 steps are too many. SLUG's own script measured
something else: other prompts, no fixed seeds, 10 pictures.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from slugkit.base import ModelLoadError, SettingError, pick_device, require_choice
from slugkit.data import CanvasSource, Source
from slugkit.data.pictures import Pictures
from slugkit.data.unlearncanvas import OBJECTS, STYLES, concept_kind
from slugkit.evaluation.frechet import INCEPTION_FEATURES
from slugkit.evaluation.statistics import wilson
from slugkit.models.classifier import best_named, pixels
from slugkit.models.precision import multiplying
from slugkit.tasks.canvas_prompts import GUIDANCE, PICTURE_SIZE, STEPS, answer_set

VIT = "vit_large_patch16_224"
"""timm's name of both classifiers; the benchmark starts them from the weights augreg_in21k and
gives them a new head, 1024 -> 51 styles or 20 objects.
"""
STYLE_FILE, OBJECT_FILE = "style50.safetensors", "style50_cls.safetensors"
HOW = (
    "slugkit/data/pages/unlearncanvas.md shows how to turn the benchmark's .pth into .safetensors,"
    " once."
)


def error_bars(concept: str, tier: str = "full", share: float = 0.5) -> pd.DataFrame:
    """How sure UA, IRA and CRA can be at a tier's size: columns metric, n, half_width (percentage
    points).

    half_width: half the width of the 95 % Wilson interval of n pictures of which round(share * n)
    are right; it is widest at share 0.5. The interval takes pictures as independent; those of one
    prompt or one seed are not quite. Raises what `answer_set` raises.
    """
    sizes = answer_set(concept, tier)["group"].value_counts()
    counts = {"UA": int(sizes["target"]), "IRA": int(sizes["rest"]), "CRA": int(sizes["rest"])}
    table = pd.DataFrame({"metric": list(counts), "n": list(counts.values())})
    low, high = wilson((share * table["n"]).round().to_numpy(), table["n"].to_numpy())
    return table.assign(half_width=50 * (high - low))


@dataclass
class CanvasJudge:
    """The benchmark's two classifiers, with the interface of
    `slugkit.models.classifier.Classifier`.

    Load them with `load_canvas_judge` or `judge_in`.

    style: 51 outputs in the order of STYLES. object: 20 in the order of OBJECTS. weights: the
    folder of their files, where it is known.
    """

    style: torch.nn.Module
    object: torch.nn.Module
    weights: Path | None = None
    subjects: tuple[str, ...] = OBJECTS
    styles: tuple[str, ...] = STYLES

    @torch.no_grad()
    @multiplying()
    def shares(self, images: np.ndarray, own: str = "subject") -> torch.Tensor:
        """(N, H, W, 3) uint8 -> (N, C) float32: softmax of the object classifier (own "subject",
        20) or of the style classifier ("style", 51), of pictures squashed to 224 x 224 (bilinear),
        -1..1.
        """
        from torchvision.transforms import functional as F

        models = {"subject": self.object, "style": self.style}
        model = models[require_choice(own, models, "What is judged")]
        device, size, parts = next(model.parameters()).device, model.patch_embed.img_size, []
        for i in range(0, len(images), 32):
            part = torch.from_numpy(np.ascontiguousarray(images[i : i + 32]))
            squashed = part.permute(0, 3, 1, 2)
            small = F.resize(squashed, list(size), F.InterpolationMode.BILINEAR, antialias=True)
            said = model(pixels(small.permute(0, 2, 3, 1).numpy(), device))
            parts.append(said.float().softmax(1).cpu())
        return torch.cat(parts)

    def name(self, images: np.ndarray) -> pd.DataFrame:
        """(N, H, W, 3) uint8 -> columns subject, style, and subject_share, style_share: the softmax
        of the answer, 0..1.
        """
        thing, look = (self.shares(images, own) for own in ("subject", "style"))
        return best_named(thing, OBJECTS, look, STYLES)


def build_judge(classes: int, architecture: str = VIT) -> torch.nn.Module:
    """One of the two classifiers with random weights: timm's `architecture` with `classes` outputs,
    in eval mode.
    """
    import timm

    return timm.create_model(architecture, pretrained=False, num_classes=classes).eval()


def _load(
    path: str | Path, classes: tuple[str, ...], what: str, architecture: str
) -> torch.nn.Module:
    """A classifier from its file, whose outputs are counted before the network is built."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = Path(path).expanduser()
    named = f"The {what} classifier {path.name!r}"
    if path.suffix != ".safetensors" or not path.is_file():
        is_it = "not there" if path.suffix == ".safetensors" else "no .safetensors file"
        raise ModelLoadError(f"{named} is {is_it}; only such a file is read. {HOW}")
    try:
        state = load_file(path)
        outputs = len(state.get("head.weight", ()))
        if outputs != len(classes):
            raise ModelLoadError(
                f"{named} has {outputs} outputs; {len(classes)} were expected, one for each {what}"
                f" of the benchmark: style50 for styles and style50_cls for objects. {HOW}"
            )
        model = build_judge(len(classes), architecture)
        model.load_state_dict(state)
    except (RuntimeError, OSError, SafetensorError) as error:
        said = str(error).splitlines()[0]
        raise ModelLoadError(
            f"{named} does not fit timm's {architecture}: {said}. {HOW}"
        ) from error
    return model


def load_canvas_judge(
    style_file: str | Path, object_file: str | Path, device: str = "auto", architecture: str = VIT
) -> CanvasJudge:
    """The style and the object classifier from two safetensors files, in eval mode.

    Nothing else is read: a .pth could run code. Raises ModelLoadError for a file of another kind, a
    wrong number of outputs, or weights that do not fit.
    """
    target = pick_device(device)
    style = _load(style_file, STYLES, "style", architecture)
    thing = _load(object_file, OBJECTS, "object", architecture)
    return CanvasJudge(style.to(target), thing.to(target))


def judge_in(folder: str | Path, device: str = "auto") -> CanvasJudge:
    """The judge from a folder with style50.safetensors and style50_cls.safetensors; a config.json
    beside them may name another timm `architecture`.

    Raises ModelLoadError for a file that is missing or does not fit.
    """
    folder, architecture = Path(folder).expanduser(), VIT
    if (folder / "config.json").is_file():
        try:
            said = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            architecture = said["architecture"]
            build_judge(1, architecture)
        except (ValueError, KeyError, TypeError, RuntimeError, AttributeError) as error:
            raise ModelLoadError(
                f"The config.json of the judge {folder.name!r} names no architecture that timm can"
                f' build ({error}); {{"architecture": "{VIT}"}} was expected.'
            ) from error
    judge = load_canvas_judge(folder / STYLE_FILE, folder / OBJECT_FILE, device, architecture)
    judge.weights = folder
    return judge


def require_canvas(source: Source) -> None:
    """Raises SettingError for data that are not UnlearnCanvas's folder."""
    if not isinstance(source, CanvasSource):
        raise SettingError(
            f"The data {source.name!r} are not UnlearnCanvas's folder; STYLE/OBJECT/N.jpg was"
            " expected (slugkit/data/pages/unlearncanvas.md). Notebook 06 is for other data."
        )


def as_published(flat: dict[str, float], method: str, own: str) -> pd.DataFrame:
    """UA, IRA and CRA under the published table's names, for
    `slugkit.experiments.published.beside`.

    flat: of `slugkit.evaluation.diffusion.measures`, shares. own: the concept is a "style" or a
    "subject". Returns method, metric, value, low, high (percent) and n.
    """
    rows = []
    for name in ("ua", "ira", "cra"):
        metric = f"{name.upper()} ({'style' if own == 'style' else 'object'})"
        ends = {"value": "", "low": "_low", "high": "_high"}
        percent = {column: 100 * flat[name + end] for column, end in ends.items()}
        rows.append({"method": method, "metric": metric, **percent, "n": flat[f"{name}_n"]})
    return pd.DataFrame(rows)


def ddim(pipe):
    """The benchmark's sampler for a pipeline: DDIM (eta 0) with the pipeline's own noise schedule.

    Latents are not clipped and the last step ends at the first alpha, as in the benchmark's code.
    """
    from diffusers import DDIMScheduler

    return DDIMScheduler.from_config(
        pipe.scheduler.config, clip_sample=False, set_alpha_to_one=False, steps_offset=1
    )


def departures(judge, tier: str, steps: int, guidance: float, edge: int) -> str:
    """One sentence on how a measurement differs from the benchmark's protocol, if it does.

    judge: what names the pictures. edge: of the pictures, in pixels.
    """
    wanted = (
        ("answer_tier", tier, "full"),
        ("sampling_steps", steps, STEPS),
        ("guidance", guidance, GUIDANCE),
        ("pixels along an edge", edge, PICTURE_SIZE),
    )
    found = [f"{name} {value} ({theirs})" for name, value, theirs in wanted if value != theirs]
    if not isinstance(judge, CanvasJudge):
        found.append(
            "a zero-shot CLIP judges, which is not the benchmark's judge (its two classifiers:"
            " judge_model)"
        )
    if not found:
        return "Prompts, seeds, sampler, steps, guidance, size and judge are UnlearnCanvas's own."
    return (
        "Prompts, seeds and sampler (DDIM) are UnlearnCanvas's own; what differs from its"
        f" protocol, given in brackets: {'; '.join(found)}."
    )


def frechet_sets(
    source: CanvasSource, concept: str, size: int, seed: int = 0
) -> tuple[pd.DataFrame, Pictures]:
    """What the benchmark's FID compares: the rest of the full answer set, to be drawn, and pictures
    of the data set, undecoded at 512 x 512 (squashed).

    Neither side holds the target. Of both `size` are drawn without replacement, or all where there
    are fewer: up to 5,000 for a style, 4,845 for an object. The pictures are those of the report,
    five of each object in each style; the benchmark takes numbers 1 to 5, which may be ones that a
    gradient saw. Raises SettingError for fewer than 2,049 on a side, of which the covariance of
    2,048 features would be singular.
    """
    table, pairs = answer_set(concept, "full"), source.exam(concept, "report").pairs
    table = table[table["group"] == "rest"]
    column = "style" if concept_kind(concept) == "style" else "concept"
    real = pairs.where(pairs.table[column] != concept).images
    found = min(size, len(table), len(real))
    if found <= INCEPTION_FEATURES:
        raise SettingError(
            f"frechet_size {size} with {len(real)} report pictures in {source.name!r} compares"
            f" {found}; more than {INCEPTION_FEATURES} on each side were expected, as many as"
            " Inception has features. Ask for 5000; 0 leaves it out."
        )
    rows = np.sort(np.random.Generator(np.random.PCG64([seed, 13])).permutation(len(real))[:size])
    drawn = table.sample(min(size, len(table)), random_state=seed).reset_index(drop=True)
    return drawn, Pictures(real.take(rows).places, PICTURE_SIZE, "squash")
