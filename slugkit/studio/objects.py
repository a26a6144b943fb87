"""The objects: one small drawing each, in a main colour that varies from picture to picture."""

from __future__ import annotations

import math

from slugkit.studio.canvas import Canvas, shade

_INK, _WHITE, _WOOD, _GOLD = (40, 36, 44), (250, 250, 246), (134, 88, 50), (242, 196, 62)


def _at(x, y, r, degrees):
    """The point at distance `r` from (x, y), by its angle from the right, clockwise."""
    return x + r * math.cos(math.radians(degrees)), y + r * math.sin(math.radians(degrees))


def _star_points(x, y, outer, inner):
    return [_at(x, y, (outer, inner)[k % 2], -90.0 + 180 * k / 5) for k in range(10)]


def heart_points(x, y, r):
    """The outline of a heart about (x, y), `r` half its width."""
    pts = []
    for k in range(36):
        t = 2 * math.pi * k / 36
        one, two, three, four = (math.cos(n * t) for n in (1, 2, 3, 4))
        up = 0.81 * one - 0.31 * two - 0.12 * three - 0.06 * four
        pts.append((x + r * math.sin(t) ** 3, y - r * up))
    return pts


def moon_points(x, y, r):
    """The outline of a crescent about (x, y)."""
    outer = [_at(x, y, r, a) for a in range(50, 311, 12)]
    return outer + [_at(x + r * 0.34, y, r * 0.76, a) for a in range(292, 67, -15)]


def house(c, col):
    """Draw a house on the canvas in the main colour `col` (RGB, 0..255)."""
    c.rect(64, 16, 72, 36, shade(col, -0.45))
    c.rect(25, 44, 75, 84, col)
    c.polygon([(18, 46), (50, 16), (82, 46)], shade(col, -0.35))
    c.rect(43, 60, 57, 84, _WOOD)
    c.rect(30, 52, 39, 62, _WHITE)
    c.rect(61, 52, 70, 62, _WHITE)


def umbrella(c, col):
    """Draw an umbrella on the canvas in the main colour `col` (RGB, 0..255)."""
    c.stroke([(50, 20), (50, 78)], _WOOD, 3.4)
    c.arc(56, 78, 6, 7, 0, 180, _WOOD, 3.4)
    c.ellipse(50, 48, 36, 32, col, 180, 360)
    c.ellipse(50, 48, 12, 30, shade(col, -0.3), 180, 360)
    for x in (26, 74):
        c.ellipse(x, 49, 12, 5, shade(col, -0.15), 180, 360)


def mushroom(c, col):
    """Draw a mushroom on the canvas in the main colour `col` (RGB, 0..255)."""
    c.polygon([(40, 50), (60, 50), (64, 84), (36, 84)], (244, 232, 208))
    c.ellipse(50, 54, 34, 34, col, 180, 360)
    for x, y, r in ((50, 31, 6), (33, 44, 5), (67, 44, 5)):
        c.ellipse(x, y, r, r * 0.85, _WHITE)


def tree(c, col):
    """Draw a tree on the canvas in the main colour `col` (RGB, 0..255)."""
    c.polygon([(44, 88), (46, 55), (54, 55), (56, 88)], _WOOD)
    for x, y, r in ((36, 46, 17), (64, 46, 17), (50, 30, 20), (50, 48, 16)):
        c.ellipse(x, y, r, r, col)


def car(c, col):
    """Draw a car on the canvas in the main colour `col` (RGB, 0..255)."""
    c.polygon([(30, 50), (38, 34), (64, 34), (74, 50)], shade(col, -0.2))
    c.polygon([(35, 49), (41, 38), (50, 38), (50, 49)], (196, 226, 244))
    c.polygon([(53, 38), (62, 38), (68, 49), (53, 49)], (196, 226, 244))
    c.polygon([(14, 52), (24, 49), (80, 49), (88, 56), (88, 68), (14, 68)], col)
    for x in (31, 71):
        c.ellipse(x, 69, 9.5, 9.5, _INK)
        c.ellipse(x, 69, 4, 4, (190, 190, 196))


def boat(c, col):
    """Draw a boat on the canvas in the main colour `col` (RGB, 0..255)."""
    c.stroke([(50, 14), (50, 66)], _WOOD, 3)
    c.polygon([(53, 16), (53, 58), (80, 58)], _WHITE)
    c.polygon([(47, 24), (47, 58), (26, 58)], shade(col, 0.5))
    c.polygon([(16, 65), (84, 65), (72, 84), (28, 84)], col)


def clock(c, col):
    """Draw a clock on the canvas in the main colour `col` (RGB, 0..255)."""
    c.ellipse(50, 50, 34, 34, col)
    c.ellipse(50, 50, 26, 26, _WHITE)
    for k in range(12):
        c.stroke([_at(50, 50, 21, 30 * k), _at(50, 50, 24, 30 * k)], _INK, 1.6)
    c.stroke([(50, 50), (50, 31)], _INK, 2.8)
    c.stroke([(50, 50), (63, 56)], _INK, 2.8)


def key(c, col):
    """Draw a key on the canvas in the main colour `col` (RGB, 0..255)."""
    c.rect(40, 46, 88, 54, col)
    c.rect(72, 54, 77, 66, col)
    c.rect(82, 54, 87, 63, col)
    c.ellipse(28, 50, 18, 18, col)
    c.ellipse(28, 50, 8, 8, shade(col, 0.75))


def mug(c, col):
    """Draw a mug on the canvas in the main colour `col` (RGB, 0..255)."""
    c.ring(70, 54, 13, 14, shade(col, -0.25), 5.5)
    c.polygon([(26, 30), (70, 30), (67, 82), (29, 82)], col)
    c.ellipse(48, 30, 22, 6, shade(col, -0.45))


def lamp(c, col):
    """Draw a lamp on the canvas in the main colour `col` (RGB, 0..255)."""
    c.rect(47, 48, 53, 80, _INK)
    c.ellipse(50, 83, 17, 5, _INK)
    c.polygon([(36, 18), (64, 18), (78, 52), (22, 52)], col)
    c.rect(24, 47, 76, 52, shade(col, 0.45))


def bell(c, col):
    """Draw a bell on the canvas in the main colour `col` (RGB, 0..255)."""
    c.ellipse(50, 78, 8, 8, shade(col, -0.5))
    left = [(20, 74), (30, 64), (33, 42), (40, 28)]
    c.polygon([*left, (50, 24), *((100 - x, y) for x, y in reversed(left))], col)
    c.rect(22, 68, 78, 73, shade(col, -0.25))
    c.ellipse(50, 21, 5, 5, shade(col, -0.25))


def kite(c, col):
    """Draw a kite on the canvas in the main colour `col` (RGB, 0..255)."""
    c.stroke([(50, 64), (44, 74), (52, 82), (46, 92)], _INK, 2)
    c.polygon([(50, 10), (76, 36), (50, 66), (24, 36)], col)
    c.polygon([(50, 10), (76, 36), (50, 36)], shade(col, 0.4))
    c.polygon([(50, 66), (24, 36), (50, 36)], shade(col, -0.3))


def heart(c, col):
    """Draw a heart on the canvas in the main colour `col` (RGB, 0..255)."""
    c.polygon(heart_points(50, 48, 34), col)
    c.ellipse(36, 36, 6, 4.5, shade(col, 0.55))


def star(c, col):
    """Draw a star on the canvas in the main colour `col` (RGB, 0..255)."""
    c.polygon(_star_points(50, 52, 38, 16), col)


def moon(c, col):
    """Draw a moon on the canvas in the main colour `col` (RGB, 0..255)."""
    c.polygon(moon_points(52, 50, 36), col)


def crown(c, col):
    """Draw a crown on the canvas in the main colour `col` (RGB, 0..255)."""
    c.polygon([(18, 74), (14, 32), (34, 52), (50, 24), (66, 52), (86, 32), (82, 74)], col)
    c.rect(18, 72, 82, 82, shade(col, -0.3))
    for x, y in ((14, 31), (50, 23), (86, 31)):
        c.ellipse(x, y, 5, 5, (214, 48, 64))


def flower(c, col):
    """Draw a flower on the canvas in the main colour `col` (RGB, 0..255)."""
    c.stroke([(50, 54), (50, 94)], (54, 140, 66), 4)
    c.ellipse(60, 80, 10, 4.5, (54, 140, 66))
    for k in range(6):
        c.ellipse(*_at(50, 40, 18, 60 * k + 30), 12, 12, col)
    c.ellipse(50, 40, 10, 10, _GOLD if col != (246, 206, 54) else _WOOD)


def ladder(c, col):
    """Draw a ladder on the canvas in the main colour `col` (RGB, 0..255)."""
    for y in (22, 36, 50, 64, 78):
        c.rect(34, y, 66, y + 5, shade(col, -0.2))
    c.rect(29, 10, 36, 92, col)
    c.rect(64, 10, 71, 92, col)


def balloon(c, col):
    """Draw a balloon on the canvas in the main colour `col` (RGB, 0..255)."""
    c.stroke([(50, 66), (46, 76), (54, 84), (50, 94)], _INK, 1.8)
    c.polygon([(50, 60), (44, 70), (56, 70)], shade(col, -0.3))
    c.ellipse(50, 37, 26, 29, col)
    c.ellipse(41, 26, 6, 8, shade(col, 0.55))


def fish(c, col):
    """Draw a fish on the canvas in the main colour `col` (RGB, 0..255)."""
    c.polygon([(66, 50), (90, 32), (90, 70)], shade(col, -0.25))
    c.ellipse(44, 51, 31, 20, col)
    c.polygon([(44, 34), (60, 22), (62, 38)], shade(col, -0.25))
    c.ellipse(28, 47, 4.6, 4.6, _WHITE)
    c.ellipse(27, 47, 2.4, 2.4, _INK)
    c.arc(48, 51, 9, 13, -70, 70, shade(col, -0.4), 2)


def book(c, col):
    """Draw a book on the canvas in the main colour `col` (RGB, 0..255)."""
    c.polygon([(50, 30), (86, 22), (86, 72), (50, 82)], col)
    c.polygon([(50, 30), (14, 22), (14, 72), (50, 82)], shade(col, -0.2))
    c.polygon([(50, 27), (81, 20), (81, 67), (50, 76)], _WHITE)
    c.polygon([(50, 27), (19, 20), (19, 67), (50, 76)], (234, 232, 224))
    for y in (36, 46, 56):
        c.stroke([(56, y), (75, y - 4)], (130, 130, 140), 1.6)
        c.stroke([(44, y), (25, y - 4)], (130, 130, 140), 1.6)


def apple(c, col):
    """Draw an apple on the canvas in the main colour `col` (RGB, 0..255)."""
    c.stroke([(50, 36), (53, 18)], _WOOD, 4)
    c.ellipse(63, 22, 10, 5, (70, 160, 70))
    c.ellipse(39, 56, 21, 26, col)
    c.ellipse(61, 56, 21, 26, col)
    c.ellipse(33, 46, 4.5, 7, shade(col, 0.55))


def rocket(c, col):
    """Draw a rocket on the canvas in the main colour `col` (RGB, 0..255)."""
    c.polygon([(40, 78), (60, 78), (50, 98)], (246, 150, 40))
    c.polygon([(36, 52), (18, 82), (38, 76)], shade(col, -0.3))
    c.polygon([(64, 52), (82, 82), (62, 76)], shade(col, -0.3))
    c.polygon([(50, 6), (62, 24), (66, 48), (62, 78), (38, 78), (34, 48), (38, 24)], _WHITE)
    c.polygon([(50, 6), (62, 24), (64, 34), (36, 34), (38, 24)], col)
    c.ellipse(50, 50, 8.5, 8.5, (110, 180, 230))


def drum(c, col):
    """Draw a drum on the canvas in the main colour `col` (RGB, 0..255)."""
    c.rect(20, 40, 80, 76, col)
    c.ellipse(50, 76, 30, 9, col)
    for k in range(5):
        c.stroke([(20 + 15 * k, 42), (27.5 + 15 * k, 76)], _WHITE, 2)
    c.ellipse(50, 40, 30, 10, (244, 234, 214))
    c.stroke([(56, 36), (84, 14)], _WOOD, 3.6)


_ROWS = (
    (house, umbrella, mushroom, tree, car, boat, clock, key, mug, lamp, bell, kite),
    (heart, star, moon, crown, flower, ladder, balloon, fish, book, apple, rocket, drum),
)
OBJECTS = {draw.__name__: draw for row in _ROWS for draw in row}
"""Name of each object -> function (canvas, main colour)."""

SHAPES = {
    "star": lambda: _star_points(50, 54, 46, 24),
    "heart": lambda: heart_points(50, 50, 42),
    "moon": lambda: moon_points(54, 50, 43),
}
"""Outlines that a novel concept takes on: 'a star-shaped house'."""


def _house_marks(c, col):
    c.rect(45, 60, 57, 78, _WOOD)
    c.rect(36, 46, 46, 55, _WHITE)
    c.rect(54, 46, 64, 55, _WHITE)


def _clock_marks(c, col):
    c.ellipse(50, 53, 17, 17, _WHITE)
    c.stroke([(50, 53), (50, 41)], _INK, 2.6)
    c.stroke([(50, 53), (59, 57)], _INK, 2.6)


def _mug_marks(c, col):
    c.ring(84, 56, 9, 12, shade(col, -0.25), 5)
    c.ellipse(50, 40, 15, 5, shade(col, -0.5))


def _car_marks(c, col):
    c.polygon([(38, 52), (43, 42), (58, 42), (64, 52)], (196, 226, 244))
    for x in (34, 66):
        c.ellipse(x, 74, 9, 9, _INK)
        c.ellipse(x, 74, 4, 4, (190, 190, 196))


MARKS = {"house": _house_marks, "clock": _clock_marks, "mug": _mug_marks, "car": _car_marks}
"""What makes a novel concept still read as its object: the marks drawn over the strange outline."""


def draw_novel(c: Canvas, shape: str, body: str, col) -> None:
    """Draw an odd combination, such as a star-shaped house.

    shape: one of SHAPES; body: one of MARKS.
    """
    c.polygon(SHAPES[shape](), col)
    MARKS[body](c, col)
