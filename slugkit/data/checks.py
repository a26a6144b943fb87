"""Checks of curated sets before anything is computed: sizes, duplicates, captions."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from slugkit.base import UnreadableImagesError, sha256_bytes
from slugkit.data.names import names_concept
from slugkit.data.opening import READ_ERRORS, open_rgb
from slugkit.data.pairs import Pairs
from slugkit.data.pictures import Pictures

FEWEST, OFTEN = 20, 0.05
"""Pairs and target pictures below which a check speaks up; share from which a caption is frequent.
"""
NEAR, FLAT = 6, 8
"""Bits of 128 in which near duplicates may differ; range of grey that a fingerprint needs."""
BLOCK = 500
"""Pictures that are compared with all others at a time, which bounds the memory."""
COLUMNS = ["check", "count", "of", "what to do"]
ADVICE = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
Row = tuple[str, int, int, str]


@dataclass
class Fingerprints:
    """What is compared of N pictures.

    exact: hashes of the encoded bytes on disk or of the pixels in memory; "" for an unreadable
    picture. bits: (N, 2) uint64. usable: (N,) bool, false for unreadable and flat pictures.
    """

    exact: list[str]
    bits: np.ndarray
    usable: np.ndarray


def difference_bits(picture: Image.Image) -> tuple[np.ndarray, bool]:
    """Difference hash of a picture: (2,) uint64, and whether it has enough contrast.

    Of its 9 x 9 grey values one bit says whether one exceeds its left neighbour, another the one
    above.
    """
    small = picture.convert("L").resize((9, 9), Image.Resampling.BILINEAR)
    grey = np.asarray(small).astype(np.int16)
    bits = np.stack([grey[:8, 1:] > grey[:8, :-1], grey[1:, :8] > grey[:-1, :8]])
    return np.packbits(bits).view(np.uint64), bool(np.ptp(grey) >= FLAT)


def fingerprints(images: np.ndarray | Pictures) -> Fingerprints:
    """Fingerprints of pictures; one that cannot be decoded is counted, not raised."""
    exact, bits, usable = [], np.zeros((len(images), 2), np.uint64), np.zeros(len(images), bool)
    for row in range(len(images)):
        try:
            if isinstance(images, Pictures):
                data = images.encoded(row)
                picture = open_rgb(data, draft=64)[0]
            else:
                data, picture = images[row].tobytes(), Image.fromarray(images[row])
            bits[row], usable[row] = difference_bits(picture)
            exact.append(sha256_bytes(data))
        except (*READ_ERRORS, UnreadableImagesError):
            exact.append("")
    return Fingerprints(exact, bits, usable)


def near_rows(first: Fingerprints, second: Fingerprints) -> np.ndarray:
    """(M,) bool: pictures of `second` that nearly copy one of `first`, exact copies left out."""
    out, ours = np.zeros(len(second.bits), bool), first.bits[first.usable]
    if len(ours):
        for start in range(0, len(out), BLOCK):
            theirs = second.bits[start : start + BLOCK, None]
            apart = np.bitwise_count(theirs ^ ours).sum(-1, dtype=int)
            out[start : start + BLOCK] = apart.min(1) <= NEAR
    known = set(first.exact) - {""}
    return out & second.usable & ~np.array([e in known for e in second.exact], bool)


def often(captions: list[str]) -> int:
    """How many pairs hold a caption of more than 5 % of the set (and at least three)."""
    counts = pd.Series(captions, dtype=str).value_counts()
    return int(counts[counts > max(OFTEN * len(captions), 2)].sum())


def _row(check: str, count: int, of: int, advice: str, wrong: bool | None = None) -> Row:
    """A row of the table; there is something to do where there is something, or what is `wrong`."""
    return check, count, of, advice if (count if wrong is None else wrong) else ""


def _sizes(sets: dict[str, Pairs], concept: str) -> list[Row]:
    forget, retain = len(sets["forget"]), len(sets["retain"])
    small, few = ADVICE["small retain set"], ADVICE["few pairs"]
    rows = [
        _row("pairs in the forget set", forget, FEWEST, few, forget < FEWEST),
        _row("pairs in the retain set", retain, forget, small, retain < forget),
    ]
    for name in [name for name in sets if name in ("search", "report")]:
        table = sets[name].table
        target = int(((table["concept"] == concept) | (table["style"] == concept)).sum())
        what, few = f"pictures of the concept in the {name} set", ADVICE["few pictures"]
        rows.append(_row(what, target, len(table), few, target < FEWEST))
    return rows


def _duplicates(marks: dict[str, Fingerprints]) -> list[Row]:
    rows = []
    for name, mark in marks.items():
        known, of = [e for e in mark.exact if e], len(mark.exact)
        twice, lost = len(known) - len(set(known)), of - len(known)
        rows.append(_row(f"unreadable pictures in {name}", lost, of, ADVICE["unreadable"]))
        rows.append(_row(f"exact copies within {name}", twice, len(known), ADVICE["copies"]))
    for one, other in combinations(marks, 2):
        shared, of = set(marks[one].exact) - {""}, len(marks[other].exact)
        same = sum(e in shared for e in marks[other].exact)
        near = int(near_rows(marks[one], marks[other]).sum())
        harm = ADVICE["to be forgotten" if other == "retain" else "seen before"].format(other)
        rows.append(_row(f"pictures of {other} also in {one}", same, of, harm))
        look = f"Look at them. {harm}"
        rows.append(_row(f"near copies in {other} of pictures in {one}", near, of, look))
    return rows


def _captions(forget: Pairs, retain: Pairs, concept: str) -> list[Row]:
    silent = sum(not names_concept(t, concept) for t in forget.captions)
    named = sum(names_concept(t, concept) for t in retain.captions)
    merged = forget.table.attrs.get("merged", [])
    same = ADVICE["merged"].format("; ".join(merged[:3]))
    told = [
        _row("forget captions that do not name the concept", silent, len(forget), ADVICE["silent"]),
        _row("retain captions that name the concept", named, len(retain), ADVICE["named"]),
    ]
    for name, pairs in (("forget", forget), ("retain", retain)):
        what, advice = f"{name} pairs with a caption that occurs often", ADVICE[f"often in {name}"]
        told.append(_row(what, often(pairs.captions), len(pairs), advice))
    told.append(_row("other spellings of a class", len(merged), len(forget), same))
    for name, pairs in (("forget", forget), ("retain", retain)):
        for what, *rest in pairs.table.attrs.get("left_out", []):
            told.append((f"left out of {name}: {what}", *rest))
    return told


def check_sets(
    forget: Pairs,
    retain: Pairs,
    search: Pairs | None = None,
    report: Pairs | None = None,
    *,
    concept: str,
) -> pd.DataFrame:
    """What is doubtful about the sets of a concept: columns check, count, of, what to do.

    Pictures on disk are compared by their encoded bytes, those in memory by their pixels. Near
    copies differ in at most 6 of the 128 bits of a difference hash: most that were saved again,
    made brighter or scaled are found; none that were cropped, mirrored or redrawn, and no flat
    pictures.
    """
    sets = {"forget": forget, "retain": retain, "search": search, "report": report}
    sets = {name: pairs for name, pairs in sets.items() if pairs is not None}
    marks = {name: fingerprints(pairs.images) for name, pairs in sets.items()}
    rows = _sizes(sets, concept) + _duplicates(marks) + _captions(forget, retain, concept)
    return pd.DataFrame(rows, columns=COLUMNS)
