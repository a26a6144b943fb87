"""What is drawn, from drawings.json: objects, characters and people as marks on a `Canvas`.

The main colour of an object varies from picture to picture; a figure varies in expression and gaze;
a person has a fixed signature (face, skin, hair, beard, glasses, hat, clothes).
"""

from __future__ import annotations

import json
from pathlib import Path

from slugkit.studio.canvas import Canvas

DRAWINGS = json.loads(Path(__file__).with_name("drawings.json").read_text(encoding="utf-8"))
COLORS, TRAITS, EXPRESSIONS = (DRAWINGS[key] for key in ("colors", "traits", "expressions"))
"""Name of each colour of objects and clothes -> RGB (0..255); every trait of a signature with the
values it may take.
"""


def draw_object(canvas: Canvas, name: str, color) -> None:
    """Draw an object. color: its main colour (RGB, 0..255)."""
    canvas.draw(DRAWINGS["objects"][name], DRAWINGS["palettes"]["objects"] | {"main": color}, {})


def draw_novel(canvas: Canvas, shape: str, body: str, color) -> None:
    """Draw an odd combination, such as a star-shaped house: the outline of one thing with the parts
    that make another known.
    """
    marks = [DRAWINGS["outlines"][shape], *DRAWINGS["parts"][body]]
    canvas.draw(marks, DRAWINGS["palettes"]["objects"] | {"main": color}, {})


def draw_character(canvas: Canvas, name: str, expression: str, gaze: float) -> None:
    """Draw one of the invented characters, the stand-ins for copyrighted figures."""
    names = DRAWINGS["palettes"]["characters"] | {"gaze": gaze}
    canvas.draw(DRAWINGS["characters"][name], names, {"expression": expression})


def draw_person(canvas: Canvas, signature: dict, expression: str, gaze: float) -> None:
    """Draw one person from the chest up. gaze: where the eyes look, -1 (left) .. 1 (right)."""
    rx, ry = DRAWINGS["heads"][signature["face"]]
    clothes = COLORS[signature["clothes_color"]]
    contrast = COLORS["white" if sum(clothes) < 560 else "blue"]
    names = DRAWINGS["palettes"]["people"] | {
        "skin": DRAWINGS["skin"][signature["skin"]],
        "hair": DRAWINGS["hair"][signature["hair_color"]],
        "hat": COLORS[signature["hat_color"]],
        "clothes": clothes,
        "contrast": contrast,
        "shirt": contrast if signature["clothes"] == "overalls" else clothes,
        "tie": contrast if sum(clothes) > 200 else COLORS["red"],
        "gaze": gaze,
        "rx": rx,
        "ry": ry,
        "left": 50 - rx,
        "right": 50 + rx,
        "top": 45 - ry,
        "chin": 45 + ry,
    }
    canvas.draw(DRAWINGS["person"], names, signature | {"expression": expression})
