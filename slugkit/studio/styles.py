"""The styles: how shapes are laid down, what lies behind them, and what is done to the finished
picture.

All arithmetic on pixels is on integers or exactly rounded, so that the same seed gives the same
bytes everywhere.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from slugkit.studio.canvas import SUPERSAMPLING, Color, Look, luminance, mix, shade

_PAPER = (250, 248, 240)


def _vivid(color: Color) -> Color:
    """The same hue, bright and strong: the colour of a neon tube."""
    h, s, v = colorsys.rgb_to_hsv(*(p / 255 for p in color))
    s, v = (0.12, 1.0 if v > 0.5 else 0.62) if s < 0.16 else (max(s, 0.72), 1.0)
    return tuple(round(255 * p) for p in colorsys.hsv_to_rgb(h, s, v))


def _grey(color: Color) -> Color:
    tone = round(120 + 132 * luminance(color))
    return (tone, tone, round(tone * 0.98))


def _blueprint(color: Color) -> Color:
    return mix((22, 58, 124), (120, 164, 226), luminance(color))


@dataclass(frozen=True)
class Style:
    """How shapes are laid down, what lies behind the subject, and the last step over the pixels."""

    name: str
    look: Look
    background: Callable[[int, np.random.Generator], Image.Image]
    finish: Callable[[Image.Image, np.random.Generator, int], Image.Image]


def _scene(pixels: int, rng: np.random.Generator) -> Image.Image:
    """A vertical gradient with one of a few motifs: bokeh, hills, stripes, none."""
    hue, lift = rng.random(), 0.62 + 0.3 * rng.random()
    top = tuple(round(255 * p) for p in colorsys.hsv_to_rgb(hue, 0.18 + 0.4 * rng.random(), lift))
    other = ((hue + 0.08 + 0.16 * rng.random()) % 1, 0.3, 0.55 + 0.4 * rng.random())
    low = tuple(round(255 * p) for p in colorsys.hsv_to_rgb(*other))
    ramp = np.linspace(0, 1, pixels)[:, None]
    rows = np.rint(np.array(top)[None] * (1 - ramp) + np.array(low)[None] * ramp).astype(np.uint8)
    image = Image.fromarray(np.broadcast_to(rows[:, None], (pixels, pixels, 3)).copy())
    draw, motif = ImageDraw.Draw(image), int(rng.integers(4))
    if motif == 0:
        for _ in range(7):
            x, y, r = (rng.random(3) * [pixels, pixels, pixels * 0.12]).round().astype(int).tolist()
            spot = shade(mix(top, low, rng.random()), 0.22)
            draw.ellipse([x - r, y - r, x + r, y + r], fill=spot)
    elif motif == 1:
        for k in range(3):
            x, r = int(rng.integers(pixels)), int(pixels * (0.3 + 0.3 * rng.random()))
            y = round(pixels * (0.86 + 0.1 * k)) + r // 2
            draw.ellipse([x - r, y - r, x + r, y + r], fill=shade(low, -0.1 - 0.1 * k))
    elif motif == 2:
        step, slant = int(pixels * (0.12 + 0.1 * rng.random())), int(rng.integers(-40, 41))
        for x in range(-pixels, 2 * pixels, 2 * step):
            end = x + step
            stripe = [(x, 0), (end, 0), (end + slant, pixels), (x + slant, pixels)]
            draw.polygon(stripe, fill=shade(top, 0.13))
    return image


def _plain(color: Color):
    return lambda pixels, rng: Image.new("RGB", (pixels, pixels), color)


def _clipped(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _small(image: Image.Image) -> Image.Image:
    return image.reduce(SUPERSAMPLING)


def _photo(image: Image.Image, rng: np.random.Generator, size: int) -> Image.Image:
    """Light from one side, a slight colour cast and film grain."""
    pixels = np.asarray(_small(image)).astype(np.int32)
    side, strength = rng.random() * 2 - 1, 0.10 + 0.20 * rng.random()
    ramp = np.linspace(-1, 1, size)
    light = 1 + strength * (side * ramp[None, :] - (1 - abs(side)) * ramp[:, None])
    cast = 1 + 0.12 * (rng.random(3) - 0.5)
    gain = np.rint(1024 * (light[..., None] * cast * (0.86 + 0.24 * rng.random()))).astype(np.int32)
    grain = rng.integers(-7, 8, size=(size, size, 1))
    return _clipped(pixels * gain // 1024 + grain)


def _sketch(image: Image.Image, rng: np.random.Generator, size: int) -> Image.Image:
    """Pencil hatching: the darker the tone, the denser the strokes."""
    grey = np.asarray(image.convert("L")).astype(np.int32)
    n = grey.shape[0]
    y, x = np.mgrid[0:n, 0:n]
    hatch, back = (x + y) % 12 < 4, (x - y) % 12 < 4
    marks = np.where((grey < 215) & hatch, 52, 0) + np.where((grey < 172) & back, 60, 0)
    tone = np.where(grey < 96, grey, 250 - marks - (250 - grey) // 4)
    pencil = _small(_clipped(tone))
    paper = np.asarray(pencil).astype(np.int32) + rng.integers(-6, 7, size=(size, size))
    grey = np.clip(paper, 0, 255)
    return Image.fromarray(np.stack([grey, grey, grey * 97 // 100], -1).astype(np.uint8))


def _pixel_art(image: Image.Image, rng: np.random.Generator, size: int) -> Image.Image:
    """Blocks of two pixels in a small palette."""
    small = image.reduce(2 * SUPERSAMPLING)
    levels = (np.asarray(small).astype(np.int32) + 25) // 51 * 51
    return Image.fromarray(levels.astype(np.uint8)).resize((size, size), Image.Resampling.NEAREST)


def _neon(image: Image.Image, rng: np.random.Generator, size: int) -> Image.Image:
    """A glow around the tubes."""
    lines = _small(image)
    glow = np.asarray(lines.filter(ImageFilter.BoxBlur(2))).astype(np.int32)
    light = np.asarray(lines).astype(np.int32) * 11 // 10 + glow * 7 // 10
    return _clipped(light)


def _watercolor(image: Image.Image, rng: np.random.Generator, size: int) -> Image.Image:
    """Washed-out colours that pool at their edges, on rough paper."""
    small = _small(image)
    flat = small.filter(ImageFilter.ModeFilter(3)).filter(ImageFilter.BoxBlur(0.6))
    wash = np.asarray(flat).astype(np.int32)
    soft = np.asarray(small.filter(ImageFilter.BoxBlur(2))).astype(np.int32)
    pooled = wash - np.abs(wash - soft).max(-1, keepdims=True) * 2 // 5
    spots = Image.fromarray(rng.integers(0, 256, size=(9, 9), dtype=np.uint8))
    coarse = spots.resize((size, size), Image.Resampling.BILINEAR)
    bloom = (np.asarray(coarse).astype(np.int32) - 128)[..., None] * 34 // 128
    light = 255 - (255 - pooled) * 74 // 100 + bloom + rng.integers(-8, 9, size=(size, size, 1))
    return _clipped(light)


def _mosaic(image: Image.Image, rng: np.random.Generator, size: int) -> Image.Image:
    """Square tiles of three pixels with grout between; each a little lighter or darker."""
    tile, tiles = 3, -(-size // 3)
    image = _small(image)
    canvas = Image.new("RGB", (tile * tiles, tile * tiles))
    canvas.paste(image.resize((tile * tiles, tile * tiles), Image.Resampling.BOX), (0, 0))
    mean = np.asarray(canvas.reduce(tile)).astype(np.int32)
    mean = np.clip(mean + rng.integers(-18, 19, size=(tiles, tiles, 1)), 0, 255)
    big = np.repeat(np.repeat(mean, tile, 0), tile, 1)
    grout = np.arange(tile * tiles) % tile == tile - 1
    lines = grout[:, None] | grout[None, :]
    big = np.where(lines[..., None], big * 62 // 100 + 26, big)
    return Image.fromarray(big[:size, :size].astype(np.uint8))


def _blueprint_finish(image: Image.Image, rng: np.random.Generator, size: int) -> Image.Image:
    """A fine grid under the drawing, slightly faded."""
    pixels = np.asarray(_small(image)).astype(np.int32)
    start = int(rng.integers(8))
    grid = np.zeros((size, size), bool)
    grid[start::8] = True
    grid[:, start::8] = True
    dark = pixels.sum(-1) < 260
    pixels = np.where((grid & dark)[..., None], pixels + 30, pixels)
    faded = pixels + rng.integers(-5, 6, size=(size, size, 1))
    return _clipped(faded)


_FILL = Look(fill=lambda c: c)
_PENCIL = Look(fill=_grey, line=lambda c: (40, 40, 44), width=1.9)
_BLOCKS = Look(fill=lambda c: c, line=lambda c: shade(c, -0.6), width=1.2)
_TUBES = Look(fill=lambda c: mix((8, 6, 18), _vivid(c), 0.07), line=_vivid, width=2.2)
_PLAN = Look(fill=_blueprint, line=lambda c: (232, 240, 252), width=1.5)
STYLES = {
    s.name: s
    for s in (
        Style("photo", _FILL, _scene, _photo),
        Style("sketch", _PENCIL, _plain(_PAPER), _sketch),
        Style("pixel art", _BLOCKS, _scene, _pixel_art),
        Style("neon", _TUBES, _plain((8, 6, 18)), _neon),
        Style("watercolor", _FILL, _scene, _watercolor),
        Style("mosaic", _FILL, _scene, _mosaic),
        Style("blueprint", _PLAN, _plain((24, 62, 134)), _blueprint_finish),
    )
}
"""Name of each style -> Style. The first, photo, is the plain one."""
