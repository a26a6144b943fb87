"""The people: a fixed signature each (face, skin, hair, beard, glasses, hat, clothes), varied in
pose and expression.
"""

from __future__ import annotations

import math

from slugkit.studio.canvas import Canvas, shade

SKINS = {
    "pale": (250, 220, 196),
    "fair": (238, 190, 152),
    "tan": (205, 150, 108),
    "brown": (150, 98, 66),
    "dark": (92, 58, 42),
}
HAIR_COLORS = {
    "black": (34, 30, 34),
    "brown": (104, 62, 34),
    "blond": (232, 192, 88),
    "red": (190, 74, 32),
    "gray": (168, 170, 176),
    "blue": (62, 104, 214),
    "green": (60, 160, 92),
    "pink": (232, 96, 160),
}
COLORS = {
    "red": (214, 48, 44),
    "orange": (242, 138, 34),
    "yellow": (246, 206, 54),
    "green": (44, 150, 78),
    "blue": (44, 98, 206),
    "purple": (132, 66, 180),
    "white": (244, 244, 240),
    "black": (40, 40, 48),
}
EXPRESSIONS = ["smile", "calm", "open", "sad"]

TRAITS = {
    "skin": list(SKINS),
    "face": ["round", "long", "square"],
    "hair": ["bald", "short", "long", "afro", "bun", "mohawk", "bob", "curly"],
    "hair_color": list(HAIR_COLORS),
    "hat": ["none", "cap", "top hat", "beanie", "party hat", "wide hat", "headband"],
    "hat_color": list(COLORS),
    "glasses": ["none", "round", "square", "sunglasses"],
    "beard": ["none", "full", "goatee", "moustache"],
    "clothes": ["plain", "striped", "collar", "overalls", "tie"],
    "clothes_color": list(COLORS),
}
"""Every trait of a signature with the values it may take."""

HEADS = {"round": (19.0, 19.5), "long": (16.0, 22.5), "square": (18.5, 20.5)}
"""Half width and half height of each face in canvas units."""
_WHITE, _INK = (252, 252, 252), (36, 28, 34)


def draw_person(
    canvas: Canvas, signature: dict, expression: str = "smile", gaze: float = 0.0
) -> None:
    """Draw one person from the chest up. gaze: where the eyes look, -1 (left) .. 1 (right)."""
    skin, hair = SKINS[signature["skin"]], HAIR_COLORS[signature["hair_color"]]
    rx, ry = HEADS[signature["face"]]
    _back_hair(canvas, signature["hair"], hair, rx, ry)
    _body(canvas, signature, skin)
    _head(canvas, signature["face"], skin, rx, ry)
    _front_hair(canvas, signature, hair, rx, ry)
    _eyes(canvas, hair, skin, gaze, expression)
    _beard(canvas, signature["beard"], hair, skin, rx, ry)
    _mouth(canvas, expression, signature["beard"])
    _glasses(canvas, signature["glasses"], rx)
    _hat(canvas, signature, rx, ry)


def _outline(*half) -> list[tuple[float, float]]:
    """A symmetric shape. half: points on one side, as distance from the middle and height."""
    left = [(50 - dx, y) for dx, y in half]
    return left + [(50 + dx, y) for dx, y in reversed(half) if dx]


def _body(c: Canvas, sig: dict, skin) -> None:
    color = COLORS[sig["clothes_color"]]
    kind = sig["clothes"]
    shoulders = _outline((33, 108), (31, 84), (20, 76), (8, 73))
    contrast = COLORS["white"] if sum(color) < 560 else COLORS["blue"]
    c.polygon(shoulders, color if kind != "overalls" else contrast)
    if kind == "striped":
        for y in (80, 89, 98):
            half = 27.5 if y == 80 else 32
            c.rect(50 - half, y, 50 + half, y + 4.5, contrast)
    c.polygon([(42, 60), (58, 60), (58, 73), (50, 80), (42, 73)], shade(skin, -0.14))
    if kind == "collar":
        c.polygon([(41, 71), (50, 81), (42, 88), (34, 74)], contrast)
        c.polygon([(59, 71), (50, 81), (58, 88), (66, 74)], contrast)
    elif kind == "tie":
        c.polygon([(41, 72), (50, 80), (44, 86)], shade(contrast, 0.2))
        c.polygon([(59, 72), (50, 80), (56, 86)], shade(contrast, 0.2))
        tie = contrast if sum(color) > 200 else COLORS["red"]
        c.polygon([(47, 79), (53, 79), (56, 104), (44, 104)], tie)
    elif kind == "overalls":
        c.polygon(_outline((19, 108), (19, 76), (12, 74), (10, 87)), color)
        c.ellipse(38.5, 89, 2.2, 2.2, COLORS["yellow"])
        c.ellipse(61.5, 89, 2.2, 2.2, COLORS["yellow"])


def _head(c: Canvas, face: str, skin, rx: float, ry: float) -> None:
    c.ellipse(50 - rx, 47, 3.6, 5, shade(skin, -0.08))
    c.ellipse(50 + rx, 47, 3.6, 5, shade(skin, -0.08))
    if face == "square":
        c.polygon(_outline((9, 66), (rx, 55), (rx, 36), (rx - 4, 27)), skin)
    else:
        c.ellipse(50, 45, rx, ry, skin)


def _back_hair(c: Canvas, hair: str, color, rx: float, ry: float) -> None:
    if hair == "long":
        falling = (rx - 5, 88), (rx + 9, 82), (rx + 6, 40), (rx, 22), (0, 17)
        c.polygon(_outline(*falling), color)
    elif hair == "afro":
        c.ellipse(50, 37, rx + 13, ry + 7, color)
    elif hair == "bob":
        c.polygon(_outline((rx + 7, 64), (rx + 5, 38), (rx - 1, 22), (0, 18)), color)
    elif hair == "bun":
        c.ellipse(50, 15, 9, 8.5, color)
    elif hair == "curly":
        for k in range(11):
            a = math.pi * (0.86 + 1.28 * k / 10)
            c.ellipse(50 + (rx + 3) * math.cos(a), 44 + (ry + 1) * math.sin(a), 7, 7, color)


def _front_hair(c: Canvas, sig: dict, color, rx: float, ry: float) -> None:
    hair, top = sig["hair"], 45 - ry
    cap = [
        (50 + (rx + 1) * math.cos(a), 45 + (ry + 1.5) * math.sin(a))
        for a in [math.pi * (1.04 + 0.92 * k / 14) for k in range(15)]
    ]
    if hair in ("short", "bun", "afro"):
        c.polygon([*cap, (50 + rx - 5, top + 11), (50, top + 8), (50 - rx + 5, top + 11)], color)
    elif hair == "long":
        c.polygon([*cap, (50 + rx - 4, top + 14), (56, top + 5), (50 - rx + 3, top + 16)], color)
    elif hair == "bob":
        c.polygon([*cap, (50 + rx - 2, top + 13.5), (50 - rx + 2, top + 13.5)], color)
    elif hair == "mohawk":
        c.polygon(_outline((6, top + 9), (7, top - 8), (3, top - 14)), color)
    elif hair == "curly":
        for k in range(6):
            c.ellipse(50 - rx + 4 + k * (2 * rx - 8) / 5, top + 5, 5.5, 5.5, color)


def _eyes(c: Canvas, hair, skin, gaze: float, expression: str) -> None:
    lift = {"open": -1.6, "sad": 0.8}.get(expression, 0.0)
    for side in (-1, 1):
        x = 50 + side * 8
        c.ellipse(x, 44, 4.1, 3.7 if expression != "calm" else 3.0, _WHITE)
        c.ellipse(x + 1.4 * gaze, 44.2, 2.1, 2.4, _INK)
        tilt = 1.6 * side if expression == "sad" else 0
        brow = [(x - 4.5, 38.4 + lift - tilt), (x + 4.5, 38.4 + lift + tilt)]
        c.stroke(brow, shade(hair, -0.3) if hair != skin else _INK, 1.8)
    c.stroke([(50, 46), (51.5, 51), (49, 51.5)], shade(skin, -0.35), 1.6)


def _mouth(c: Canvas, expression: str, beard: str) -> None:
    lips = (178, 54, 60)
    if expression == "smile":
        c.arc(50, 54.5, 6.5, 4.2, 15, 165, lips, 2.3)
    elif expression == "calm":
        c.stroke([(45, 57.5), (55, 57.5)], lips, 2.3)
    elif expression == "open":
        c.ellipse(50, 58, 4, 3.6, (120, 26, 36))
    else:
        c.arc(50, 61, 6, 3.8, 200, 340, lips, 2.3)


def _beard(c: Canvas, beard: str, color, skin, rx: float, ry: float) -> None:
    chin = 45 + ry
    if beard == "full":
        below = (0, chin + 5), (10, chin + 3), (rx - 2, 58), (rx - 0.5, 47)
        c.polygon(_outline(*below, (rx - 5, 53), (8, 52.5), (0, 53.5)), color)
    elif beard == "goatee":
        c.polygon([(43, 60.5), (57, 60.5), (56, chin + 2), (50, chin + 6), (44, chin + 2)], color)
    if beard == "moustache":
        c.polygon(_outline((0, 51.8), (-8, 52.5), (-13, 56), (-6, 56.4), (0, 54.8)), color)


def _glasses(c: Canvas, glasses: str, rx: float) -> None:
    if glasses == "none":
        return
    frame = _INK
    for side in (-1, 1):
        x = 50 + side * 8.3
        if glasses == "round":
            c.ring(x, 44.3, 6.6, 6.6, frame, 1.9)
        elif glasses == "square":
            a, b = x - 6.8, x + 6.8
            square = [(a, 39.5), (b, 39.5), (b, 49), (a, 49), (a, 39.5), (x, 39.5)]
            c.stroke(square, (176, 34, 44), 2.1)
        else:
            c.polygon([(x - 7.6, 40), (x + 7.6, 40), (x + 6.2, 49), (x - 5.6, 50)], frame)
    c.stroke([(48, 42.5), (52, 42.5)], frame, 2.0)
    for side in (-1, 1):
        c.stroke([(50 + side * 14.5, 42.5), (50 + side * rx, 43.5)], frame, 1.6)


def _hat(c: Canvas, sig: dict, rx: float, ry: float) -> None:
    hat, color, top = sig["hat"], COLORS[sig["hat_color"]], 45 - ry
    dark = shade(color, -0.28)
    if hat == "cap":
        left, right = [(50 - rx - 1, top + 11), (50 - rx + 1, top + 1)], 50 + rx
        crown = [(45, top - 5), (56, top - 5), (right - 1, top + 1), (right + 1, top + 11)]
        c.polygon(left + crown, color)
        peak = [(50, top + 7), (right + 15, top + 9), (right + 14, top + 13), (48, top + 12)]
        c.polygon(peak, dark)
    elif hat == "top hat":
        c.rect(50 - 14, top - 16, 64, top + 6, color)
        c.rect(50 - 14, top + 0, 64, top + 5, dark)
        c.rect(50 - 23, top + 5, 73, top + 9.5, color)
    elif hat == "beanie":
        c.ellipse(50, top - 7.5, 4.5, 4.5, shade(color, 0.35))
        c.ellipse(50, top + 9, rx + 1.5, 15, color, 180, 360)
        c.rect(50 - rx - 2, top + 6, 50 + rx + 2, top + 12, dark)
    elif hat == "party hat":
        c.polygon([(50 - 14, top + 8), (50, top - 22), (64, top + 8)], color)
        band = [(50 - 9, top - 3), (59, top - 3), (61.5, top + 2.5), (38.5, top + 2.5)]
        c.polygon(band, shade(color, 0.45))
        c.ellipse(50, top - 22, 3.4, 3.4, COLORS["yellow"])
    elif hat == "wide hat":
        c.ellipse(50, top + 5, 15.5, 15, color, 180, 360)
        c.rect(50 - 15.5, top + 0.5, 65.5, top + 5, dark)
        c.ellipse(50, top + 7, rx + 17, 4.6, color)
    elif hat == "headband":
        band = (0, top + 10.5), (rx + 1, top + 14), (rx - 1.5, top + 7.5), (0, top + 5)
        c.polygon(_outline(*band), color)
