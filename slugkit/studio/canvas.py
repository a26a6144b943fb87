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


class Canvas:
    """A picture being drawn. Coordinates run from 0 to 100 in both directions, y downwards.

    size: edge of the finished picture in pixels. look: how shapes are laid down.
    """

    def __init__(self, image: Image.Image, look: Look, size: int = 64):
        self.image = image
        self.look = look
        self.pixels = size * SUPERSAMPLING
        self._draw = ImageDraw.Draw(image)
        self._frame = (1.0, 0.0, 0.0, 0.0, False)

    def place(self, scale=1.0, turn=0.0, dx=0.0, dy=0.0, mirror: bool = False):
        """Set how the shapes that follow are placed: scaled and turned (radians) about the centre,
        then shifted.
        """
        self._frame = (scale, turn, dx, dy, mirror)
        return self

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

    def _line_width(self, width: float | None = None) -> int:
        scale = max(0.6, self._frame[0])
        return max(2, round((width or self.look.width) * scale * self.pixels / 100))

    def polygon(self, points, color: Color):
        """A closed shape through the points [(x, y), ...]."""
        mapped = self._map(points)
        self._draw.polygon(mapped, fill=self.look.fill(color))
        if self.look.line is not None:
            around, line = [*mapped, mapped[0], mapped[1]], self.look.line(color)
            self._draw.line(around, fill=line, width=self._line_width(), joint="curve")

    def ellipse(self, x, y, rx, ry, color: Color, start: float = 0, stop: float = 360):
        """An ellipse about (x, y), or the part of it between two angles in degrees (clockwise from
        the right).
        """
        steps = max(10, round(28 * (stop - start) / 360))
        ends = range(steps + (stop - start < 360))
        angles = [math.radians(start + (stop - start) * i / steps) for i in ends]
        self.polygon([(x + rx * math.cos(a), y + ry * math.sin(a)) for a in angles], color)

    def rect(self, x0, y0, x1, y1, color: Color):
        """A rectangle between two corners."""
        self.polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], color)

    def stroke(self, points, color: Color, width: float = 2.0):
        """An open line through the points, `width` in canvas units."""
        ink = self.look.line(color) if self.look.line is not None else color
        self._draw.line(self._map(points), fill=ink, width=self._line_width(width), joint="curve")

    def arc(self, x, y, rx, ry, start, stop, color: Color, width: float = 2.0):
        """Part of an ellipse's outline, angles in degrees."""
        steps = max(6, round(24 * abs(stop - start) / 360))
        angles = [math.radians(start + (stop - start) * i / steps) for i in range(steps + 1)]
        self.stroke([(x + rx * math.cos(a), y + ry * math.sin(a)) for a in angles], color, width)

    def ring(self, x, y, rx, ry, color: Color, width: float = 2.0):
        """The outline of a whole ellipse."""
        self.arc(x, y, rx, ry, 0, 360, color, width)


def mix(a: Color, b: Color, share: float) -> Color:
    """`a` moved towards `b` by `share` (0..1)."""
    return tuple(round(p + (q - p) * share) for p, q in zip(a, b))


def shade(color: Color, amount: float) -> Color:
    """Darker for amount < 0, lighter for amount > 0 (range -1..1)."""
    return mix(color, (255, 255, 255) if amount > 0 else (0, 0, 0), abs(amount))


def luminance(color: Color) -> float:
    """Perceived brightness, 0..1 (Rec. 601 weights)."""
    return (0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]) / 255
