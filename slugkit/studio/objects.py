"""The objects: each a list of marks, in a main colour that varies from picture to picture.

A mark is a method of `Canvas` and what it is given; where a colour is made from the main colour, it
is a function of that.
"""

from __future__ import annotations

import math

from slugkit.studio.canvas import Canvas, shade

_INK, _WHITE, _WOOD, _GOLD = (40, 36, 44), (250, 250, 246), (134, 88, 50), (242, 196, 62)
_GLASS, _LEAF, _RUBY, _LINE = (196, 226, 244), (54, 140, 66), (214, 48, 64), (130, 130, 140)


def tone(amount: float):
    """The main colour made lighter (above 0) or darker, as of `shade`; 0 leaves it."""
    return lambda main: shade(main, amount)


def _at(x, y, r, degrees):
    """The point at distance `r` from (x, y), by its angle from the right, clockwise."""
    return x + r * math.cos(math.radians(degrees)), y + r * math.sin(math.radians(degrees))


def _star(x, y, outer, inner):
    return [_at(x, y, (outer, inner)[k % 2], -90.0 + 180 * k / 5) for k in range(10)]


def _heart(x, y, r):
    """The outline of a heart about (x, y), `r` half its width."""
    points = []
    for k in range(36):
        t = 2 * math.pi * k / 36
        one, two, three, four = (math.cos(n * t) for n in (1, 2, 3, 4))
        up = 0.81 * one - 0.31 * two - 0.12 * three - 0.06 * four
        points.append((x + r * math.sin(t) ** 3, y - r * up))
    return points


def _moon(x, y, r):
    """The outline of a crescent about (x, y)."""
    outer = [_at(x, y, r, a) for a in range(50, 311, 12)]
    return outer + [_at(x + r * 0.34, y, r * 0.76, a) for a in range(292, 67, -15)]


def _wheel(x, y, r):
    return ("ellipse", x, y, r, r, _INK), ("ellipse", x, y, 4, 4, (190, 190, 196))


_BELL = [(20, 74), (30, 64), (33, 42), (40, 28), (50, 24), (60, 28), (67, 42), (70, 64), (80, 74)]
MAIN = tone(0)

OBJECTS = {
    "house": [
        ("rect", 64, 16, 72, 36, tone(-0.45)),
        ("rect", 25, 44, 75, 84, MAIN),
        ("polygon", [(18, 46), (50, 16), (82, 46)], tone(-0.35)),
        ("rect", 43, 60, 57, 84, _WOOD),
        ("rect", 30, 52, 39, 62, _WHITE),
        ("rect", 61, 52, 70, 62, _WHITE),
    ],
    "umbrella": [
        ("stroke", [(50, 20), (50, 78)], _WOOD, 3.4),
        ("arc", 56, 78, 6, 7, 0, 180, _WOOD, 3.4),
        ("ellipse", 50, 48, 36, 32, MAIN, 180, 360),
        ("ellipse", 50, 48, 12, 30, tone(-0.3), 180, 360),
        ("ellipse", 26, 49, 12, 5, tone(-0.15), 180, 360),
        ("ellipse", 74, 49, 12, 5, tone(-0.15), 180, 360),
    ],
    "mushroom": [
        ("polygon", [(40, 50), (60, 50), (64, 84), (36, 84)], (244, 232, 208)),
        ("ellipse", 50, 54, 34, 34, MAIN, 180, 360),
        ("ellipse", 50, 31, 6, 5.1, _WHITE),
        ("ellipse", 33, 44, 5, 4.25, _WHITE),
        ("ellipse", 67, 44, 5, 4.25, _WHITE),
    ],
    "tree": [
        ("polygon", [(44, 88), (46, 55), (54, 55), (56, 88)], _WOOD),
        ("ellipse", 36, 46, 17, 17, MAIN),
        ("ellipse", 64, 46, 17, 17, MAIN),
        ("ellipse", 50, 30, 20, 20, MAIN),
        ("ellipse", 50, 48, 16, 16, MAIN),
    ],
    "car": [
        ("polygon", [(30, 50), (38, 34), (64, 34), (74, 50)], tone(-0.2)),
        ("polygon", [(35, 49), (41, 38), (50, 38), (50, 49)], _GLASS),
        ("polygon", [(53, 38), (62, 38), (68, 49), (53, 49)], _GLASS),
        ("polygon", [(14, 52), (24, 49), (80, 49), (88, 56), (88, 68), (14, 68)], MAIN),
        *_wheel(31, 69, 9.5),
        *_wheel(71, 69, 9.5),
    ],
    "boat": [
        ("stroke", [(50, 14), (50, 66)], _WOOD, 3),
        ("polygon", [(53, 16), (53, 58), (80, 58)], _WHITE),
        ("polygon", [(47, 24), (47, 58), (26, 58)], tone(0.5)),
        ("polygon", [(16, 65), (84, 65), (72, 84), (28, 84)], MAIN),
    ],
    "clock": [
        ("ellipse", 50, 50, 34, 34, MAIN),
        ("ellipse", 50, 50, 26, 26, _WHITE),
        *(("stroke", [_at(50, 50, r, 30 * k) for r in (21, 24)], _INK, 1.6) for k in range(12)),
        ("stroke", [(50, 50), (50, 31)], _INK, 2.8),
        ("stroke", [(50, 50), (63, 56)], _INK, 2.8),
    ],
    "key": [
        ("rect", 40, 46, 88, 54, MAIN),
        ("rect", 72, 54, 77, 66, MAIN),
        ("rect", 82, 54, 87, 63, MAIN),
        ("ellipse", 28, 50, 18, 18, MAIN),
        ("ellipse", 28, 50, 8, 8, tone(0.75)),
    ],
    "mug": [
        ("ring", 70, 54, 13, 14, tone(-0.25), 5.5),
        ("polygon", [(26, 30), (70, 30), (67, 82), (29, 82)], MAIN),
        ("ellipse", 48, 30, 22, 6, tone(-0.45)),
    ],
    "lamp": [
        ("rect", 47, 48, 53, 80, _INK),
        ("ellipse", 50, 83, 17, 5, _INK),
        ("polygon", [(36, 18), (64, 18), (78, 52), (22, 52)], MAIN),
        ("rect", 24, 47, 76, 52, tone(0.45)),
    ],
    "bell": [
        ("ellipse", 50, 78, 8, 8, tone(-0.5)),
        ("polygon", _BELL, MAIN),
        ("rect", 22, 68, 78, 73, tone(-0.25)),
        ("ellipse", 50, 21, 5, 5, tone(-0.25)),
    ],
    "kite": [
        ("stroke", [(50, 64), (44, 74), (52, 82), (46, 92)], _INK, 2),
        ("polygon", [(50, 10), (76, 36), (50, 66), (24, 36)], MAIN),
        ("polygon", [(50, 10), (76, 36), (50, 36)], tone(0.4)),
        ("polygon", [(50, 66), (24, 36), (50, 36)], tone(-0.3)),
    ],
    "heart": [("polygon", _heart(50, 48, 34), MAIN), ("ellipse", 36, 36, 6, 4.5, tone(0.55))],
    "star": [("polygon", _star(50, 52, 38, 16), MAIN)],
    "moon": [("polygon", _moon(52, 50, 36), MAIN)],
    "crown": [
        ("polygon", [(18, 74), (14, 32), (34, 52), (50, 24), (66, 52), (86, 32), (82, 74)], MAIN),
        ("rect", 18, 72, 82, 82, tone(-0.3)),
        ("ellipse", 14, 31, 5, 5, _RUBY),
        ("ellipse", 50, 23, 5, 5, _RUBY),
        ("ellipse", 86, 31, 5, 5, _RUBY),
    ],
    "flower": [
        ("stroke", [(50, 54), (50, 94)], _LEAF, 4),
        ("ellipse", 60, 80, 10, 4.5, _LEAF),
        *(("ellipse", *_at(50, 40, 18, 60 * k + 30), 12, 12, MAIN) for k in range(6)),
        ("ellipse", 50, 40, 10, 10, lambda col: _GOLD if col != (246, 206, 54) else _WOOD),
    ],
    "ladder": [
        *(("rect", 34, y, 66, y + 5, tone(-0.2)) for y in (22, 36, 50, 64, 78)),
        ("rect", 29, 10, 36, 92, MAIN),
        ("rect", 64, 10, 71, 92, MAIN),
    ],
    "balloon": [
        ("stroke", [(50, 66), (46, 76), (54, 84), (50, 94)], _INK, 1.8),
        ("polygon", [(50, 60), (44, 70), (56, 70)], tone(-0.3)),
        ("ellipse", 50, 37, 26, 29, MAIN),
        ("ellipse", 41, 26, 6, 8, tone(0.55)),
    ],
    "fish": [
        ("polygon", [(66, 50), (90, 32), (90, 70)], tone(-0.25)),
        ("ellipse", 44, 51, 31, 20, MAIN),
        ("polygon", [(44, 34), (60, 22), (62, 38)], tone(-0.25)),
        ("ellipse", 28, 47, 4.6, 4.6, _WHITE),
        ("ellipse", 27, 47, 2.4, 2.4, _INK),
        ("arc", 48, 51, 9, 13, -70, 70, tone(-0.4), 2),
    ],
    "book": [
        ("polygon", [(50, 30), (86, 22), (86, 72), (50, 82)], MAIN),
        ("polygon", [(50, 30), (14, 22), (14, 72), (50, 82)], tone(-0.2)),
        ("polygon", [(50, 27), (81, 20), (81, 67), (50, 76)], _WHITE),
        ("polygon", [(50, 27), (19, 20), (19, 67), (50, 76)], (234, 232, 224)),
        *(("stroke", [(56, y), (75, y - 4)], _LINE, 1.6) for y in (36, 46, 56)),
        *(("stroke", [(44, y), (25, y - 4)], _LINE, 1.6) for y in (36, 46, 56)),
    ],
    "apple": [
        ("stroke", [(50, 36), (53, 18)], _WOOD, 4),
        ("ellipse", 63, 22, 10, 5, (70, 160, 70)),
        ("ellipse", 39, 56, 21, 26, MAIN),
        ("ellipse", 61, 56, 21, 26, MAIN),
        ("ellipse", 33, 46, 4.5, 7, tone(0.55)),
    ],
    "rocket": [
        ("polygon", [(40, 78), (60, 78), (50, 98)], (246, 150, 40)),
        ("polygon", [(36, 52), (18, 82), (38, 76)], tone(-0.3)),
        ("polygon", [(64, 52), (82, 82), (62, 76)], tone(-0.3)),
        ("polygon", [(50, 6), (62, 24), (66, 48), (62, 78), (38, 78), (34, 48), (38, 24)], _WHITE),
        ("polygon", [(50, 6), (62, 24), (64, 34), (36, 34), (38, 24)], MAIN),
        ("ellipse", 50, 50, 8.5, 8.5, (110, 180, 230)),
    ],
    "drum": [
        ("rect", 20, 40, 80, 76, MAIN),
        ("ellipse", 50, 76, 30, 9, MAIN),
        *(("stroke", [(20 + 15 * k, 42), (27.5 + 15 * k, 76)], _WHITE, 2) for k in range(5)),
        ("ellipse", 50, 40, 30, 10, (244, 234, 214)),
        ("stroke", [(56, 36), (84, 14)], _WOOD, 3.6),
    ],
}
"""Name of each object -> its marks, from the back to the front."""

SHAPES = {"star": _star(50, 54, 46, 24), "heart": _heart(50, 50, 42), "moon": _moon(54, 50, 43)}
"""Outlines that a novel concept takes on: 'a star-shaped house'."""

MARKS = {
    "house": [
        ("rect", 45, 60, 57, 78, _WOOD),
        ("rect", 36, 46, 46, 55, _WHITE),
        ("rect", 54, 46, 64, 55, _WHITE),
    ],
    "clock": [
        ("ellipse", 50, 53, 17, 17, _WHITE),
        ("stroke", [(50, 53), (50, 41)], _INK, 2.6),
        ("stroke", [(50, 53), (59, 57)], _INK, 2.6),
    ],
    "mug": [("ring", 84, 56, 9, 12, tone(-0.25), 5), ("ellipse", 50, 40, 15, 5, tone(-0.5))],
    "car": [
        ("polygon", [(38, 52), (43, 42), (58, 42), (64, 52)], _GLASS),
        *_wheel(34, 74, 9),
        *_wheel(66, 74, 9),
    ],
}
"""What makes a novel concept still read as its object: the marks drawn over the strange outline."""


def _draw(canvas: Canvas, marks: list, color) -> None:
    for method, *given in marks:
        getattr(canvas, method)(*(part(color) if callable(part) else part for part in given))


def draw_object(canvas: Canvas, name: str, color) -> None:
    """Draw one of OBJECTS. color: its main colour (RGB, 0..255)."""
    _draw(canvas, OBJECTS[name], color)


def draw_novel(canvas: Canvas, shape: str, body: str, color) -> None:
    """Draw an odd combination, such as a star-shaped house: one of SHAPES with one of MARKS."""
    canvas.polygon(SHAPES[shape], color)
    _draw(canvas, MARKS[body], color)
