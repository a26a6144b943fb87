"""Scenes: what one picture shows, as a small record, and the drawing of it.

The same record gives the same bytes anywhere.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass

import numpy as np
from PIL import Image

from slugkit.studio.canvas import SUPERSAMPLING, Canvas
from slugkit.studio.captions import caption, pick
from slugkit.studio.drawings import (
    COLORS,
    EXPRESSIONS,
    draw_character,
    draw_novel,
    draw_object,
    draw_person,
)
from slugkit.studio.styles import STYLES
from slugkit.studio.world import World, load_world, novel_name

SIZE = 64
"""Edge of a studio picture in pixels."""
MIXTURE = {
    "person": 0.42,
    "object": 0.33,
    "character": 0.06,
    "pair": 0.04,
    "with object": 0.07,
    "count": 0.04,
    "novel": 0.04,
}
"""Share of each kind of scene among the training pictures."""
TRAIN_SIZE = 30_000


@dataclass(frozen=True)
class Record:
    """One picture of the studio.

    split: train, search, report or nonmember. index: its number within the split and subject. kind:
    one of MIXTURE. subjects: names drawn. colors: main colour of the objects drawn.
    """

    split: str
    index: int
    kind: str
    subjects: tuple[str, ...]
    style: str
    colors: tuple[str, ...] = ()
    count: int = 1

    @property
    def name(self) -> str:
        """The first thing drawn, or the odd combination, as the world calls it."""
        return novel_name(*self.subjects) if self.kind == "novel" else self.subjects[0]

    @property
    def key(self) -> str:
        """A name that no other record has."""
        return f"{self.split}/{self.kind}/{'+'.join(self.subjects)}/{self.style}/{self.index}"

    def rng(self, purpose: str = "draw") -> np.random.Generator:
        """A generator of its own: the picture does not depend on what was drawn before."""
        digest = hashlib.sha256(f"{purpose}|{self.key}".encode()).digest()
        return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "little")))

    def caption(self, paraphrase: int = 0) -> str:
        """The picture's caption; other numbers give other ways of saying it."""
        return caption(self, load_world(), self.rng(f"caption{paraphrase}"))

    def row(self) -> dict:
        """The record as a table row."""
        told = {"subjects": " + ".join(self.subjects), "colors": " + ".join(self.colors)}
        return {**asdict(self), "key": self.key, **told}


LAYOUT = {
    "person": [(1.0, 0, 1.0)],
    "character": [(1.0, 0, 1.0)],
    "object": [(0.92, 0, 1.8)],
    "novel": [(0.92, 0, 1.2)],
    "pair": [(0.60, -23, 0.6), (0.60, 23, 0.6)],
    "with object": [(0.78, -13, 0.7), (0.42, 27, 0.5)],
}
"""Kind of scene -> scale, shift from the centre and wobble of each thing in it."""
SPOTS = {
    1: [(0, 0)],
    2: [(-23, 0), (23, 0)],
    3: [(-23, 14), (23, 14), (0, -22)],
    4: [(-23, -22), (23, -22), (-23, 22), (23, 22)],
}
"""Where so many things stand, as shifts from the centre."""


def _place(canvas: Canvas, rng, scale, dx, wobble, mirror) -> None:
    canvas.place(
        scale * (0.90 + 0.20 * rng.random()),
        0.22 * wobble * (rng.random() - 0.5),
        dx + 9 * wobble * (rng.random() - 0.5),
        7 * wobble * (rng.random() - 0.5) + 1.5,
        mirror=mirror and rng.random() < 0.5,
    )


def _jitter(color: str, rng: np.random.Generator) -> tuple[int, int, int]:
    return tuple(int(np.clip(p + rng.integers(-16, 17), 0, 255)) for p in COLORS[color])


def _draw_count(canvas: Canvas, record: Record, rng: np.random.Generator, color) -> None:
    for x, y in SPOTS[record.count]:
        scale, turn = 0.44 + 0.05 * rng.random(), 0.3 * (rng.random() - 0.5)
        dx, dy = (at + 4 * (rng.random() - 0.5) for at in (x, y))
        draw_object(canvas.place(scale, turn, dx, dy), record.subjects[0], color)


def _draw_figure(canvas: Canvas, name: str, rng: np.random.Generator) -> None:
    expression, gaze, world = pick(EXPRESSIONS, rng), rng.random() * 2 - 1, load_world()
    if name in world.characters:
        draw_character(canvas, name, expression, gaze)
    else:
        draw_person(canvas, world.signature(name), expression, gaze)


def draw(record: Record) -> np.ndarray:
    """Draw one picture. Returns (64, 64, 3) uint8, RGB."""
    rng, style, odd = record.rng(), STYLES[record.style], record.kind == "novel"
    image = style.background(SIZE * SUPERSAMPLING, rng)
    canvas = Canvas(image, style.look, SIZE)
    colors = [_jitter(c, rng) for c in record.colors]
    if record.kind == "count":
        _draw_count(canvas, record, rng, colors[0])
    for name, spot in zip(record.subjects, LAYOUT.get(record.kind, [])):
        _place(canvas, rng, *spot, mirror=not odd)
        if odd:
            draw_novel(canvas, *record.subjects, colors[0])
        elif name in load_world().objects:
            draw_object(canvas, name, colors[0])
        else:
            _draw_figure(canvas, name, rng)
    return np.asarray(style.finish(image, rng, SIZE).convert("RGB"))


def draw_many(records: list[Record], workers: int = 0) -> np.ndarray:
    """Draw pictures, (N, 64, 64, 3) uint8; `workers` processes draw at once (0: in this one)."""
    if not records:
        return np.zeros((0, SIZE, SIZE, 3), np.uint8)
    if workers > 1:
        with ProcessPoolExecutor(workers) as pool:
            return np.stack(list(pool.map(draw, records, chunksize=64)))
    return np.stack([draw(r) for r in records])


def as_image(pixels: np.ndarray, scale: int = 1) -> Image.Image:
    """The array as a Pillow image, enlarged by whole pixels."""
    size = (pixels.shape[1] * scale, pixels.shape[0] * scale)
    return Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST)


def training_records(count: int = TRAIN_SIZE, world: World | None = None) -> list[Record]:
    """The training pictures, a fixed mixture of all kinds of scene over all styles."""
    world = world or load_world()
    rng = np.random.Generator(np.random.PCG64([world.seed, 1]))
    kinds, cumulated = list(MIXTURE), np.cumsum(list(MIXTURE.values()))
    people, records = list(world.people), []
    for index in range(count):
        place = int(np.searchsorted(cumulated, rng.random() * cumulated[-1]))
        kind = kinds[min(place, len(kinds) - 1)]
        style, color = pick(world.styles, rng), pick(world.colors, rng)
        number = int(rng.integers(1, 5))
        if kind == "person":
            subjects = (people[index % len(people)],)
        elif kind == "character":
            subjects = (pick(world.characters, rng),)
        elif kind == "pair":
            first = pick(people, rng)
            subjects = (first, pick([p for p in people if p != first], rng))
        elif kind == "with object":
            subjects = (pick(people, rng), pick(world.objects, rng))
        elif kind == "novel":
            subjects = tuple(pick(world.novel, rng))
        else:
            subjects = (pick(world.objects, rng),)
        colors = () if kind in ("person", "character", "pair") else (color,)
        number = number if kind == "count" else 1
        records.append(Record("train", index, kind, subjects, style, colors, number))
    return records


def solo_records(
    split: str,
    subject: str,
    per_style: int,
    styles: list[str] | None = None,
    world: World | None = None,
) -> list[Record]:
    """Pictures of one subject alone, `per_style` in each style, of any split."""
    world = world or load_world()
    stranger = any(subject in group for group in world.strangers.values())
    kind, drawn = "person" if stranger else world.kind(subject), (subject,)
    if kind == "novel":
        drawn = next(tuple(pair) for pair in world.novel if novel_name(*pair) == subject)
    records = []
    for style in styles or world.styles:
        for index in range(per_style):
            rng = Record(split, index, kind, drawn, style).rng("color")
            colors = (pick(world.colors, rng),) if kind in ("object", "novel") else ()
            records.append(Record(split, index, kind, drawn, style, colors))
    return records
