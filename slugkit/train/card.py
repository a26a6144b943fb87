"""Model cards: how a model was made, and how well it does on pictures that neither training nor any search saw."""

from __future__ import annotations

import json
from pathlib import Path

from slugkit.base import write_json, write_text

CARD = "model_card.json"


def write_card(folder: Path, device: str = "auto", **facts) -> None:
    """Write model_card.json and a README.md beside the weights, with scores measured now on the report split, on `device`."""
    from slugkit.evaluate.scores import score_model
    write_json(folder / CARD, facts)
    facts["scores"] = score_model(folder, facts["data"], device)
    write_json(folder / CARD, facts)
    write_text(folder / "README.md", _readme(folder.name, facts))


def read_card(folder: Path) -> dict:
    """The card of a model folder; empty when it has none."""
    path = folder / CARD
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def score_rows(scores: list[dict]) -> str:
    """Lines of a Markdown table: what, share, 95 % interval, denominator. scores: dicts what, value, low, high (0..1), n."""
    return "\n".join(f"| {s['what']} | {100 * s['value']:.1f} % | {100 * s['low']:.1f} to {100 * s['high']:.1f} % | {s['n']} |" for s in scores)


def recipe_rows(recipe: dict) -> str:
    """A Markdown list of a recipe."""
    return "\n".join(f"* {k}: {v}" for k, v in recipe.items())


def _readme(name: str, facts: dict) -> str:
    rows, recipe = score_rows(facts["scores"]), recipe_rows(facts["recipe"])
    never = f" It never saw **{facts['without']}**: an oracle for that concept." if facts["without"] else ""
    return f"""# {name}

A small CLIP (open_clip's own class), trained from nothing with plain InfoNCE on the pictures of `{facts['data']}`.{never}
Both towers use GELU (not QuickGELU), pre-norm blocks, a class token (image) and the end token (text) for pooling; pixels
are normalised with mean 0.5 and standard deviation 0.5. Every class that shares these weights must be configured so.

| zero-shot on the report split | top-1 | 95 % interval | pictures |
| --- | --- | --- | --- |
{rows}

Recipe (seed {facts['seed']}, AdamW, cosine learning rate; training pictures SHA-256 `{facts['data_sha256'][:16]}`, weights
SHA-256 `{facts['weights_sha256'][:16]}`):

{recipe}

For learning and testing. The people, names and characters are invented.
"""
