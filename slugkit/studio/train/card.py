"""Model cards: how a model was made, and how well it does on pictures that neither training nor any
search saw.
"""

from __future__ import annotations

import json
from pathlib import Path

from slugkit.base import SettingError, runs_dir, write_json, write_text
from slugkit.data import open_data
from slugkit.models.clip import model_folder

CARD = "model_card.json"


def named(place: str) -> str:
    """What a card calls data or a model: the name of a folder, never where it lies."""
    path = Path(place).expanduser()
    return path.resolve().name if path.exists() else place


def begin_card(folder: Path) -> None:
    """Mark a folder as slugkit's before weights are written into it, so that a training that is
    cut off there may go on in it; the whole card takes the place of this one.
    """
    write_json(folder / CARD, {"weights_sha256": None})


def write_card(folder: Path, *, data: str, pictures: int, device: str = "auto", **facts) -> None:
    """Write model_card.json and a README.md beside the weights, with scores measured now on the
    report split of `data`, on `device`, and print what was reached.

    pictures: how many it was trained on.
    """
    from slugkit.evaluation.scores import score_model

    facts = {"recipe": facts.pop("recipe"), "seed": facts.pop("seed"), "data": named(data), **facts}
    write_json(folder / CARD, facts)
    facts["scores"] = score_model(folder, data, device)
    if data != "studio":
        facts |= {"pictures": pictures, "classes": len(open_data(data).concepts())}
        print(reached(facts))
    write_json(folder / CARD, facts)
    write_text(folder / "README.md", _readme(folder.name, facts))


def reached(facts: dict) -> str:
    """A sentence on what a CLIP trained on a folder tells apart, beside what guessing would."""
    score, classes = facts["scores"][0], facts["classes"]
    return (
        f"After {facts['recipe']['steps']:,} steps on {facts['pictures']:,} pictures of "
        f"{classes} classes it is right about {100 * score['value']:.1f} % of "
        f"{score['n']} report pictures ({100 * score['low']:.1f} to {100 * score['high']:.1f} "
        f"%); guessing is right about {100 / classes:.1f} %."
    )


def require_of_studio(clip: str, what: str) -> None:
    """Raises SettingError unless a CLIP was trained on the studio, whose pictures and captions
    `what` is trained with: another knows neither their names nor,
    it may be, their length."""
    folder = model_folder(clip)
    card = read_card(folder) if folder is not None else {}
    data = card.get("data", "pictures that no model card of slugkit names")
    if data != "studio" or "classes" in card:
        raise SettingError(
            f"The CLIP {named(clip)!r} was trained on {data}, and {what} is trained on the studio's"
            " pictures and captions, whose names it does not know; a CLIP trained on the studio"
            " was expected. Make one with `slugkit train clip --out FOLDER`, and give that folder"
            " as --clip."
        )


def final_loss(losses: list[float]) -> float:
    """The mean of the last 50 losses, as a card says it."""
    last = losses[-50:]
    return sum(last) / max(1, len(last))


def checkpoint_at(name: str, resume: bool = True) -> Path:
    """Where a training of this name keeps its state. resume: False forgets what was kept there."""
    path = runs_dir() / "training" / f"{name}.safetensors"
    if not resume:
        path.unlink(missing_ok=True)
    return path


def of_clip(facts: dict) -> str:
    """The CLIP whose tower a model shares, as its card calls it."""
    if facts["clip"] == "studio":
        return "the studio CLIP"
    return f"the studio-trained CLIP `{facts['clip']}`"


def read_card(folder: Path) -> dict:
    """The card of a model folder; empty when it has none."""
    path = folder / CARD
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def score_rows(scores: list[dict]) -> str:
    """Lines of a Markdown table: what, share, 95 % interval, denominator.

    scores: dicts what, value, low, high (0..1), n.
    """
    return "\n".join(
        f"| {s['what']} | {100 * s['value']:.1f} % | {100 * s['low']:.1f} to {100 * s['high']:.1f}"
        f" % | {s['n']} |"
        for s in scores
    )


def recipe_rows(recipe: dict) -> str:
    """A Markdown list of a recipe."""
    return "\n".join(f"* {k}: {v}" for k, v in recipe.items())


def _readme(name: str, facts: dict) -> str:
    rows, recipe = score_rows(facts["scores"]), recipe_rows(facts["recipe"])
    said, never, last = "", "", "The people, names and characters are invented."
    if "classes" in facts:
        said = f"{reached(facts)} More steps (`--steps`) may tell them better apart.\n\n"
        last = (
            f"The pictures and captions are those of `{facts['data']}`; whom or what they show, and"
            " what may be done with them and with this model, its owner knows."
        )
    if facts["without"]:
        never = f" It never saw **{facts['without']}**: an oracle for that concept."
    return f"""# {name}

A small CLIP (open_clip's own class), trained from nothing with plain InfoNCE on the pictures of
`{facts["data"]}`.{never} Both towers use GELU (not QuickGELU), pre-norm blocks, a class token
(image) and the end token (text) for pooling; pixels are normalised with mean 0.5 and standard
deviation 0.5. Every class that shares these weights must be configured so.

{said}| zero-shot on the report split | top-1 | 95 % interval | pictures |
| --- | --- | --- | --- |
{rows}

Recipe (seed {facts["seed"]}, AdamW, cosine learning rate; training pictures SHA-256
`{facts["data_sha256"][:16]}`, weights SHA-256 `{facts["weights_sha256"][:16]}`):

{recipe}

For learning and testing. {last}
"""
