"""Train the judge of generated pictures on the studio: subject and style of pictures that show one thing."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from slugkit import studio
from slugkit.base import data_dir, runs_dir, seed_everything, sha256_file, write_json, write_tensors
from slugkit.data import drawn
from slugkit.evaluate.statistics import wilson
from slugkit.models.classifier import CONFIG, WEIGHTS, Classifier, build_classifier, load_classifier, pixels
from slugkit.models.clip import pick_device

from . import loop
from .card import CARD

KINDS = {"person": "people", "character": "characters", "object": "objects", "novel": "novel concepts"}
"""Kinds of picture that show one thing, and what they are called on the card."""


@dataclass(frozen=True)
class ClassifierRecipe:
    """Everything that decides the judge's weights. shift: pixels by which a picture is moved; soft: largest standard deviation
    of a blur, in pixels, since generated pictures are softer than drawn ones."""

    steps: int = 2500
    batch: int = 96
    learning_rate: float = 2.0e-3
    weight_decay: float = 0.05
    warmup: int = 100
    shift: int = 4
    soft: float = 1.0
    widths: tuple[int, ...] = (32, 64, 128, 256)
    blocks: tuple[int, ...] = (1, 1, 1, 1)


def subject_name(record: studio.Record) -> str:
    """What the judge is to call a picture: the name drawn, or "star-shaped house" for an odd combination."""
    return f"{record.subjects[0]}-shaped {record.subjects[1]}" if record.kind == "novel" else record.subjects[0]


def subject_classes(world: studio.World) -> list[str]:
    """All subjects: people, characters, objects, novel combinations."""
    return [*world.people, *world.characters, *world.objects, *(f"{shape}-shaped {body}" for shape, body in world.novel)]


def report_records(world: studio.World, per_style: int = 4) -> list[studio.Record]:
    """Report pictures of every subject in every style, `per_style` each."""
    alone = [r for s in (*world.people, *world.characters, *world.objects) for r in studio.solo_records("report", s, per_style, world=world)]
    odd = [studio.Record("report", i, "novel", tuple(pair), style, (world.colors[i % len(world.colors)],))
           for pair in world.novel for style in world.styles for i in range(per_style)]
    return alone + odd


def _augmented(images: np.ndarray, recipe: ClassifierRecipe, device) -> torch.Tensor:
    x = F.pad(pixels(images, device), (recipe.shift,) * 4, mode="replicate")
    y, left = (int(torch.randint(0, 2 * recipe.shift + 1, ())) for _ in range(2))
    x = x[:, :, y:y + images.shape[1], left:left + images.shape[2]]
    half = len(x) // 2
    if recipe.soft and half:
        from torchvision.transforms.functional import gaussian_blur
        sigma = 0.1 + recipe.soft * float(torch.rand(()))
        x = torch.cat([gaussian_blur(x[:half], 5, sigma), x[half:]])
    return x


def fit_classifier(model, images: np.ndarray, targets: torch.Tensor, subjects: int, recipe: ClassifierRecipe, seed: int, device,
                   checkpoint: Path | None) -> list[float]:
    """Train in place. images: (N, H, W, 3) uint8; targets: (N, 2) int64, numbers of subject and style. Returns the losses."""
    def loss_at(step: int) -> torch.Tensor:
        rows = np.random.Generator(np.random.PCG64([seed, step, 23])).integers(0, len(images), size=recipe.batch)
        logits, wanted = model(_augmented(images[rows], recipe, device)), targets[torch.from_numpy(rows)].to(device)
        return F.cross_entropy(logits[:, :subjects], wanted[:, 0]) + F.cross_entropy(logits[:, subjects:], wanted[:, 1])

    return loop.fit(model, loss_at, recipe, seed, "training the classifier", checkpoint)


def score_classifier(judge: Classifier, records: list[studio.Record]) -> list[dict]:
    """Accuracy by kind of subject, and of styles: dicts what, value (0..1), low, high (Wilson 95 %), n."""
    said = judge.name(drawn(records))
    right = {KINDS[kind]: [said["subject"][i] == subject_name(r) for i, r in enumerate(records) if r.kind == kind] for kind in KINDS}
    right["styles"] = [said["style"][i] == r.style for i, r in enumerate(records)]
    rows = []
    for what, hits in right.items():
        if hits:
            low, high = wilson(sum(hits), len(hits))
            rows.append({"what": what, "value": sum(hits) / len(hits), "low": low, "high": high, "n": len(hits)})
    return rows


def train_classifier(out: str | Path | None = None, recipe: ClassifierRecipe | None = None, steps: int | None = None, seed: int = 0,
                     device: str = "auto", resume: bool = True, records: list[studio.Record] | None = None) -> Path:
    """Train the judge and write it, in half precision, with a model card scored on the report split. Returns the folder.

    records: other training pictures than the studio's, for a test. A killed training goes on from its last checkpoint.
    """
    world, recipe = studio.load_world(), recipe or ClassifierRecipe()
    recipe = replace(recipe, steps=steps or recipe.steps)
    folder, target = Path(out) if out else data_dir() / "studio" / "classifier", pick_device(device)
    records = [r for r in records or studio.training_records() if r.kind in KINDS]
    subjects = subject_classes(world)
    targets = torch.tensor([[subjects.index(subject_name(r)), world.styles.index(r.style)] for r in records])
    checkpoint = runs_dir() / "training" / f"{folder.name}-seed{seed}.safetensors"
    if not resume:
        checkpoint.unlink(missing_ok=True)
    seed_everything(seed)
    model = build_classifier(len(subjects) + len(world.styles), recipe.widths, recipe.blocks).to(target)
    losses = fit_classifier(model, drawn(records), targets, len(subjects), recipe, seed, target, checkpoint)
    write_tensors(folder / WEIGHTS, {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()})
    write_json(folder / CONFIG, {"subjects": subjects, "styles": world.styles, "widths": recipe.widths, "blocks": recipe.blocks})
    write_json(folder / CARD, {"recipe": asdict(recipe), "seed": seed, "weights_sha256": sha256_file(folder / WEIGHTS),
                               "final_loss": sum(losses[-50:]) / max(1, len(losses[-50:])),
                               "scores": score_classifier(load_classifier(folder, "cpu"), report_records(world))})
    checkpoint.unlink(missing_ok=True)
    return folder
