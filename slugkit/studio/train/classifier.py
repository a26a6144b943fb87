"""Train the judge of generated pictures on the studio: subject and style of pictures that show one
thing.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from slugkit import studio
from slugkit.base import (
    data_dir,
    seed_everything,
    sha256_file,
    write_json,
    write_tensors,
    write_text,
)
from slugkit.data import drawn
from slugkit.evaluation.statistics import share
from slugkit.models.classifier import (
    CONFIG,
    WEIGHTS,
    Classifier,
    build_classifier,
    load_classifier,
    pixels,
)
from slugkit.models.clip import pick_device
from slugkit.studio.train import loop
from slugkit.studio.train.card import (
    CARD,
    begin_card,
    checkpoint_at,
    final_loss,
    recipe_rows,
    score_rows,
)

KINDS = {
    "person": "people",
    "character": "characters",
    "object": "objects",
    "novel": "novel concepts",
}
"""Kinds of picture that show one thing, and what they are called on the card."""


@dataclass(frozen=True)
class ClassifierRecipe:
    """Everything that decides the judge's weights.

    shift: pixels by which a picture is moved; soft: largest standard deviation of a blur, in
    pixels, since generated pictures are softer than drawn ones.
    """

    steps: int = 2500
    batch: int = 96
    learning_rate: float = 2.0e-3
    weight_decay: float = 0.05
    warmup: int = 100
    shift: int = 4
    soft: float = 1.0
    widths: tuple[int, ...] = (32, 64, 128, 256)
    blocks: tuple[int, ...] = (1, 1, 1, 1)


def subject_classes(world: studio.World) -> list[str]:
    """All subjects: people, characters, objects, novel combinations."""
    return [*world.classes("figures"), *world.objects, *world.classes("novel")]


def report_records(world: studio.World, per_style: int = 4) -> list[studio.Record]:
    """Report pictures of every subject in every style, `per_style` each."""
    each = (
        studio.solo_records("report", s, per_style, world=world) for s in subject_classes(world)
    )
    return [record for records in each for record in records]


def _augmented(images: np.ndarray, recipe: ClassifierRecipe, device) -> torch.Tensor:
    x = F.pad(pixels(images, device), (recipe.shift,) * 4, mode="replicate")
    y, left = (int(torch.randint(0, 2 * recipe.shift + 1, ())) for _ in range(2))
    x = x[:, :, y : y + images.shape[1], left : left + images.shape[2]]
    half = len(x) // 2
    if recipe.soft and half:
        from torchvision.transforms.functional import gaussian_blur

        sigma = 0.1 + recipe.soft * float(torch.rand(()))
        x = torch.cat([gaussian_blur(x[:half], 5, sigma), x[half:]])
    return x


def fit_classifier(
    model,
    images: np.ndarray,
    targets: torch.Tensor,
    subjects: int,
    recipe: ClassifierRecipe,
    seed: int,
    device,
    checkpoint: Path | None,
) -> list[float]:
    """Train in place.

    images: (N, H, W, 3) uint8; targets: (N, 2) int64, numbers of subject and style. Returns the
    losses.
    """

    def loss_at(step: int) -> torch.Tensor:
        rng = np.random.Generator(np.random.PCG64([seed, step, 23]))
        rows = rng.integers(0, len(images), size=recipe.batch)
        logits = model(_augmented(images[rows], recipe, device))
        subject, style = targets[torch.from_numpy(rows)].to(device).T
        named = F.cross_entropy(logits[:, :subjects], subject)
        return named + F.cross_entropy(logits[:, subjects:], style)

    return loop.fit(model, loss_at, recipe, seed, "training the classifier", checkpoint)


def score_classifier(judge: Classifier, records: list[studio.Record]) -> list[dict]:
    """Accuracy by kind of subject, and of styles: dicts what, value (0..1), low, high (Wilson 95
    %), n.
    """
    said = judge.name(drawn(records))
    right: dict[str, list[bool]] = {what: [] for what in (*KINDS.values(), "styles")}
    for record, subject, style in zip(records, said["subject"], said["style"]):
        right[KINDS[record.kind]].append(subject == record.name)
        right["styles"].append(style == record.style)
    return [{"what": what, **share(hits)} for what, hits in right.items() if hits]


def _readme(facts: dict) -> str:
    return f"""# The judge of generated pictures

A ResNet of timm (basic blocks, half-precision weights) with one output for each subject and each
style, trained on the studio's pictures that show one thing. UA, IRA and CRA are shares of its
answers. It never saw a generated picture.

| drawn by the studio, report split, all styles | right | 95 % interval | pictures |
| --- | --- | --- | --- |
{score_rows(facts["scores"])}

Recipe (seed {facts["seed"]}, AdamW, cosine learning rate; weights SHA-256
`{facts["weights_sha256"][:16]}`):

{recipe_rows(facts["recipe"])}

For learning and testing. The people, names and characters are invented.
"""


def train_classifier(
    out: str | Path | None = None,
    recipe: ClassifierRecipe | None = None,
    steps: int | None = None,
    seed: int = 0,
    device: str = "auto",
    resume: bool = True,
    records: list[studio.Record] | None = None,
) -> Path:
    """Train the judge and write it, in half precision, with a model card scored on the report
    split.

    Returns the folder.

    records: other training pictures than the studio's, for a test. A killed training goes on from
    its last checkpoint.
    """
    world, recipe = studio.load_world(), recipe or ClassifierRecipe()
    recipe = replace(recipe, steps=steps or recipe.steps)
    folder, target = Path(out) if out else data_dir() / "studio" / "classifier", pick_device(device)
    records = [r for r in records or studio.training_records() if r.kind in KINDS]
    subjects = subject_classes(world)
    targets = torch.tensor([[subjects.index(r.name), world.styles.index(r.style)] for r in records])
    checkpoint = checkpoint_at(f"{folder.name}-seed{seed}", resume)
    seed_everything(seed)
    outputs, size = len(subjects) + len(world.styles), {"widths": recipe.widths}
    size["blocks"] = recipe.blocks
    model = build_classifier(outputs, **size).to(target)
    images, count = drawn(records), len(subjects)
    losses = fit_classifier(model, images, targets, count, recipe, seed, target, checkpoint)
    begin_card(folder)
    weights = model.state_dict()
    kept = {k: v.half() if v.is_floating_point() else v for k, v in weights.items()}
    write_tensors(folder / WEIGHTS, kept)
    write_json(folder / CONFIG, {"subjects": subjects, "styles": world.styles, **size})
    facts = {
        "recipe": asdict(recipe),
        "seed": seed,
        "weights_sha256": sha256_file(folder / WEIGHTS),
        "final_loss": final_loss(losses),
        "scores": score_classifier(load_classifier(folder, device), report_records(world)),
    }
    write_json(folder / CARD, facts)
    write_text(folder / "README.md", _readme(facts))
    checkpoint.unlink(missing_ok=True)
    return folder
