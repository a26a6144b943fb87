"""A small drawing surface: shapes in a 100 x 100 frame, turned and scaled.

A style decides how a shape is laid down (`Look`): plain fill, or a tone with an outline. Because
every shape covers what lies under it, line styles hide hidden lines, as a hand drawing does.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image, ImageDraw

Color = tuple[int, int, int]

SUPERSAMPLING = 3
"""The canvas is drawn this many times larger than the picture and averaged down."""


@dataclass(frozen=True)
class Look:
    """How one shape is laid down. fill, line: from its RGB colour (0..255) to that of its inside
    and of its outline (None: no outline). width: of lines, in 1/100 of the frame.
    """

    fill: Callable[[Color], Color]
    line: Callable[[Color], Color] | None = None
    width: float = 1.2


def arc_points(x, y, rx, ry, start, stop, steps: int) -> list[tuple[float, float]]:
    """Points of an ellipse from one angle to another, in degrees clockwise from the right."""
    angles = [math.radians(start + (stop - start) * i / steps) for i in range(steps + 1)]
    return [(x + rx * math.cos(a), y + ry * math.sin(a)) for a in angles]


class Canvas:
    """A picture being drawn. Coordinates run from 0 to 100 in both directions, y downwards.

    size: edge of the finished picture in pixels. look: how shapes are laid down.
    """

    def __init__(self, image: Image.Image, look: Look, size: int = 64):
        self.look, self.pixels = look, size * SUPERSAMPLING
        self._draw = ImageDraw.Draw(image)
        self._frame = (1.0, 0.0, 0.0, 0.0, False)

    def place(self, scale=1.0, turn=0.0, dx=0.0, dy=0.0, mirror: bool = False):
        """Set how the shapes that follow are placed: scaled and turned (radians) about the centre,
        then shifted.
        """
        self._frame = (scale, turn, dx, dy, mirror)
        return self

    def draw(self, marks: list, names: dict, traits: dict[str, str]) -> None:
        """Lay down marks, from the back to the front.

        A mark is the name of a method and what it is given, where "hat -0.2" is what `names` call
        hat: a colour, here made darker, or a number, to which is added. A dictionary stands for the
        marks that belong to the value of a trait: {trait: {value or "else": marks}}.
        """

        def known(part):
            if isinstance(part, list):
                return [known(p) for p in part]
            if not isinstance(part, str):
                return part
            name, _, more = part.partition(" ")
            found, amount = names[name], float(more or 0)
            return found + amount if isinstance(found, (int, float)) else shade(found, amount)

        for mark in marks:
            if isinstance(mark, dict):
                for trait, ways in mark.items():
                    found = ways.get(traits[trait], ways.get("else", []))
                    self.draw(found, names, traits)
            else:
                getattr(self, mark[0])(*known(mark[1:]))

    def _map(self, points):
        scale, turn, dx, dy, mirror = self._frame
        c, s = math.cos(turn) * scale, math.sin(turn) * scale
        unit = self.pixels / 100
        mapped = []
        for x, y in points:
            x, y = (50 - x if mirror else x - 50), y - 50
            px, py = c * x - s * y + 50 + dx, s * x + c * y + 50 + dy
            mapped.append((round(px * unit), round(py * unit)))
        return mapped

    def _line_width(self, width: float) -> int:
        scale = max(0.6, self._frame[0])
        return max(2, round(width * scale * self.pixels / 100))

    def polygon(self, points, color: Color):
        """A closed shape through the points (x, y); longer ones stand for `arc_points`."""
        parts = ([point] if len(point) == 2 else arc_points(*point) for point in points)
        mapped = self._map(point for part in parts for point in part)
        self._draw.polygon(mapped, fill=self.look.fill(color))
        if self.look.line is not None:
            around, line = [*mapped, mapped[0], mapped[1]], self.look.line(color)
            self._draw.line(around, line, self._line_width(self.look.width), joint="curve")

    def shape(self, half, color: Color):
        """A symmetric closed shape. half: points on one side, as distance from the middle and y."""
        left = [(50 - dx, y) for dx, y in half]
        self.polygon(left + [(50 + dx, y) for dx, y in reversed(half) if dx], color)

    def ellipse(self, x, y, rx, ry, color: Color, start: float = 0, stop: float = 360):
        """An ellipse about (x, y), or the part of it between two angles."""
        steps = max(10, round(28 * (stop - start) / 360))
        points = arc_points(x, y, rx, ry, start, stop, steps)
        self.polygon(points if stop - start < 360 else points[:-1], color)

    def pupil(self, x, y, rx, ry, color: Color, reach: float, gaze: float):
        """An ellipse that moves sideways by `reach` as far as the eyes look, -1 .. 1."""
        self.ellipse(x + reach * gaze, y, rx, ry, color)

    def beads(self, x, y, rx, ry, start, stop, count: int, r, color: Color):
        """Circles along part of an ellipse."""
        for at in arc_points(x, y, rx, ry, start, stop, count - 1):
            self.ellipse(*at, r, r, color)

    def row(self, x0, x1, y, count: int, r, color: Color):
        """Circles side by side."""
        for k in range(count):
            self.ellipse(x0 + k * (x1 - x0) / (count - 1), y, r, r, color)

    def rect(self, x0, y0, x1, y1, color: Color):
        """A rectangle between two corners."""
        self.polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], color)

    def star(self, x, y, outer, inner, color: Color):
        """A star of five points about (x, y)."""
        tips, dents = (arc_points(x, y, r, r, -90, 270, 10) for r in (outer, inner))
        self.polygon([(tips, dents)[k % 2][k] for k in range(10)], color)

    def heart(self, x, y, r, color: Color):
        """A heart about (x, y), `r` half its width."""
        points = []
        for k in range(36):
            t = 2 * math.pi * k / 36
            one, two, three, four = (math.cos(n * t) for n in (1, 2, 3, 4))
            up = 0.81 * one - 0.31 * two - 0.12 * three - 0.06 * four
            points.append((x + r * math.sin(t) ** 3, y - r * up))
        self.polygon(points, color)

    def stroke(self, points, color: Color, width: float):
        """An open line through the points, `width` in canvas units."""
        ink = self.look.line(color) if self.look.line is not None else color
        self._draw.line(self._map(points), fill=ink, width=self._line_width(width), joint="curve")

    def rays(self, x, y, inner, outer, count: int, color: Color, width: float):
        """Strokes about (x, y), from one distance to another."""
        ends = (arc_points(x, y, r, r, 0, 360, count)[:-1] for r in (inner, outer))
        for ray in zip(*ends):
            self.stroke(ray, color, width)

    def arc(self, x, y, rx, ry, start, stop, color: Color, width: float):
        """Part of an ellipse's outline."""
        steps = max(6, round(24 * abs(stop - start) / 360))
        self.stroke(arc_points(x, y, rx, ry, start, stop, steps), color, width)


def mix(a: Color, b: Color, share: float) -> Color:
    """`a` moved towards `b` by `share` (0..1)."""
    return tuple(round(p + (q - p) * share) for p, q in zip(a, b))


def shade(color: Color, amount: float) -> Color:
    """Darker for amount < 0, lighter for amount > 0 (range -1..1)."""
    return mix(color, (255, 255, 255) if amount > 0 else (0, 0, 0), abs(amount))


def luminance(color: Color) -> float:
    """Perceived brightness, 0..1 (Rec. 601 weights)."""
    return (0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]) / 255
