"""The invented characters: the studio's stand-ins for copyrighted figures.

Each is one drawing with a few moods.
"""

from __future__ import annotations

import math

from slugkit.studio.canvas import Canvas, shade

_INK, _WHITE = (34, 30, 40), (252, 252, 252)


def _eye(c: Canvas, x: float, y: float, r: float, gaze: float) -> None:
    c.ellipse(x, y, r, r, _WHITE)
    c.ellipse(x + gaze * r * 0.3, y, r * 0.52, r * 0.56, _INK)


def _mood(c: Canvas, x: float, y: float, w: float, expression: str) -> None:
    if expression in ("smile", "calm"):
        up, height = (2, 4) if expression == "smile" else (0, 1)
        c.arc(x, y - up, w, height, 10, 170, _INK, 2.2)
    elif expression == "open":
        c.ellipse(x, y, w * 0.6, w * 0.55, (130, 30, 44))
    else:
        c.arc(x, y + 3, w, 4, 190, 350, _INK, 2.2)


def tin_wobble(c: Canvas, expression: str, gaze: float) -> None:
    """A square tin robot with an antenna and a dial on its chest."""
    steel, teal = (150, 166, 182), (40, 170, 168)
    c.stroke([(50, 26), (50, 12)], shade(steel, -0.4), 2.4)
    c.ellipse(50, 10, 4.2, 4.2, (236, 70, 60))
    c.rect(28, 25, 72, 60, steel)
    c.rect(22, 36, 28, 50, teal)
    c.rect(72, 36, 78, 50, teal)
    _eye(c, 40, 40, 6.5, gaze)
    _eye(c, 60, 40, 6.5, gaze)
    _mood(c, 50, 53, 8, expression)
    c.rect(42, 60, 58, 67, shade(steel, -0.3))
    c.rect(24, 67, 76, 108, teal)
    c.ellipse(50, 84, 10, 10, (246, 214, 80))
    c.stroke([(50, 84), (56, 78)], _INK, 2)


def puff_morrow(c: Canvas, expression: str, gaze: float) -> None:
    """A pale round ghost with a purple bow and a wavy hem."""
    body = (226, 226, 248)
    angles = [math.pi * (1 + k / 16) for k in range(17)]
    top = [(50 + 27 * math.cos(a), 46 + 30 * math.sin(a)) for a in angles]
    hem = [(77, 92), (70, 84), (63, 94), (56, 85), (50, 95), (44, 85), (37, 94), (30, 84), (23, 92)]
    c.polygon([*top, *hem], body)
    c.ellipse(39, 44, 5, 7, _INK)
    c.ellipse(61, 44, 5, 7, _INK)
    c.ellipse(40.5 + gaze, 42, 1.8, 2.2, _WHITE)
    c.ellipse(62.5 + gaze, 42, 1.8, 2.2, _WHITE)
    c.ellipse(31, 54, 4, 2.6, (250, 170, 190))
    c.ellipse(69, 54, 4, 2.6, (250, 170, 190))
    _mood(c, 50, 58, 6, expression)
    bow = (140, 60, 190)
    c.polygon([(50, 71), (36, 64), (36, 79)], bow)
    c.polygon([(50, 71), (64, 64), (64, 79)], bow)
    c.ellipse(50, 71, 4, 4, shade(bow, -0.25))


def ogo_monocle(c: Canvas, expression: str, gaze: float) -> None:
    """A green one-eyed monster with two horns and a toothy grin."""
    green = (96, 178, 70)
    c.polygon([(31, 32), (22, 8), (42, 24)], (240, 224, 176))
    c.polygon([(69, 32), (78, 8), (58, 24)], (240, 224, 176))
    c.ellipse(50, 62, 33, 42, green)
    c.ellipse(50, 86, 20, 20, shade(green, 0.4))
    _eye(c, 50, 44, 13.5, gaze)
    c.stroke([(38, 28), (62, 28)] if expression != "sad" else [(38, 31), (62, 26)], _INK, 3)
    c.ellipse(50, 68, 14, 7 if expression in ("open", "smile") else 4, (96, 24, 44))
    for x in (41, 50, 59):
        c.polygon([(x - 3, 63), (x + 3, 63), (x, 69)], _WHITE)


def foxglove_pip(c: Canvas, expression: str, gaze: float) -> None:
    """An orange fox with a blue scarf, large ears and a white muzzle."""
    orange, blue = (236, 126, 42), (44, 92, 200)
    c.polygon([(22, 108), (28, 80), (72, 80), (78, 108)], orange)
    c.polygon([(24, 40), (22, 8), (46, 27)], orange)
    c.polygon([(76, 40), (78, 8), (54, 27)], orange)
    c.polygon([(28, 30), (27, 17), (38, 26)], (250, 214, 200))
    c.polygon([(72, 30), (73, 17), (62, 26)], (250, 214, 200))
    c.polygon([(20, 44), (34, 24), (66, 24), (80, 44), (66, 66), (50, 76), (34, 66)], orange)
    cheeks = [(22, 48), (44, 50), (50, 58), (56, 50), (78, 48)]
    c.polygon([*cheeks, (66, 66), (50, 76), (34, 66)], _WHITE)
    _eye(c, 38, 42, 5, gaze)
    _eye(c, 62, 42, 5, gaze)
    c.ellipse(50, 61, 4.6, 3.4, _INK)
    _mood(c, 50, 67, 4.5, expression)
    c.rect(28, 76, 72, 85, blue)
    c.polygon([(60, 80), (70, 80), (72, 102), (62, 102)], shade(blue, -0.2))


CHARACTERS = {
    "Tin Wobble": tin_wobble,
    "Puff Morrow": puff_morrow,
    "Ogo Monocle": ogo_monocle,
    "Foxglove Pip": foxglove_pip,
}
"""Name of each character -> function (canvas, expression, gaze)."""
