"""Every picture is opened here: bounds first, then upright, on white, eight bits a channel, RGB."""

from __future__ import annotations

import io
import stat
import struct
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
"""What is decoded, whatever a file is called: for others Pillow may start a program."""
READ_ERRORS = (OSError, SyntaxError, ValueError, TypeError, struct.error)
READ_ERRORS += (Image.DecompressionBombError,)
"""What Pillow, the file system and this file raise for a picture that cannot be read."""
MOST_BYTES, MOST_PIXELS, MOST_OBLONG = 1 << 29, 1 << 27, 100
"""Bounds of a file, of its pixels, and of the longer edge by the shorter."""
TURNED, ON_WHITE = "turned upright by the camera's tag", "transparent, laid on white"
SCALED, INKS = "16-bit grey, scaled to 8 bits", "CMYK, turned into RGB"
"""What may have to be changed in a picture for a model to see what people see."""


def plain_file(path: str | Path) -> Path:
    """The path of a plain file of at most 512 MB. Raises OSError or ValueError."""
    path = Path(path)
    about = path.stat()
    if not stat.S_ISREG(about.st_mode) or about.st_size > MOST_BYTES:
        what = f"has {about.st_size} bytes" if stat.S_ISREG(about.st_mode) else "is no plain file"
        raise ValueError(f"{path.name} {what}; a file of at most {MOST_BYTES} bytes was expected")
    return path


def opened(file: bytes | str | Path) -> Image.Image:
    """A picture, undecoded and within bounds, to be used with `with`. Raises one of READ_ERRORS."""
    source = io.BytesIO(file) if isinstance(file, bytes) else plain_file(file)
    picture = Image.open(source, formats=FORMATS)
    try:
        check_bounds(picture)
    except ValueError:
        picture.close()
        raise
    return picture


def check_bounds(picture: Image.Image) -> None:
    """Raise ValueError for a picture that would fill the memory once it is decoded and resized."""
    width, height = picture.size
    if width * height > MOST_PIXELS or max(width, height) > MOST_OBLONG * min(width, height):
        raise ValueError(
            f"it has {width} x {height} pixels; at most {MOST_PIXELS} were expected, and one edge"
            f" at most {MOST_OBLONG} times the other"
        )


def seen(picture: Image.Image) -> tuple[Image.Image, list[str]]:
    """A picture as people see it, in RGB with 8 bits, and what had to be changed for that.

    Raises one of READ_ERRORS, also for floating-point numbers and 32-bit integers.
    """
    changed, form = [], picture.format
    try:
        orientation = picture.getexif().get(ExifTags.Base.Orientation, 1)
    except READ_ERRORS:  # a broken tag says nothing; the picture itself may be whole
        orientation = 1
    if orientation in range(2, 9):
        picture, changed = ImageOps.exif_transpose(picture), [TURNED]
    # older Pillows say I for a PNG's 16 bits
    if picture.mode.startswith("I;16") or (picture.mode == "I" and form == "PNG"):
        grey = np.asarray(picture).astype(np.float32) / 257
        picture = Image.fromarray(grey.round().clip(0, 255).astype(np.uint8))
        changed.append(SCALED)
    if picture.mode in ("I", "F"):
        held = "floating-point numbers" if picture.mode == "F" else "32-bit integers"
        raise ValueError(
            f"it holds {held} (Pillow's mode {picture.mode}), and nothing says which of them is"
            " white; 8 or 16 bits were expected, so scale and save it as such"
        )
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        if picture.getextrema()[3][0] < 255:
            picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
            changed.append(ON_WHITE)
    if picture.mode == "CMYK":
        changed.append(INKS)
    picture.load()
    return picture if picture.mode == "RGB" else picture.convert("RGB"), changed


def open_rgb(file: bytes | str | Path, draft: int = 0) -> tuple[Image.Image, list[str]]:
    """`seen` of a picture. draft: edge down to which a JPEG may be reduced while it is decoded."""
    with opened(file) as picture:
        if draft:
            picture.draft("RGB", (draft, draft))
        return seen(picture)
