"""Checks of curated sets before anything is computed from them: sizes, duplicates within and across
sets, captions that do not say what they should.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from PIL import Image

from slugkit.base import UnreadableImagesError, sha256_bytes
from slugkit.data.names import names_concept
from slugkit.data.opening import READ_ERRORS, open_rgb
from slugkit.data.pairs import Pairs
from slugkit.data.pictures import Pictures

FEWEST_FORGET, FEWEST_TARGET, OFTEN = 20, 20, 0.05
"""Pairs of a forget set and pictures of the target in an exam below which a check speaks up; share
of a set above which a caption occurs often.
"""
NEAR, FLAT = 6, 8
"""Bits of 128 in which near duplicates may differ; range of grey (of 255) in the 9 x 9 picture
below which a picture has no fingerprint.
"""
COLUMNS = ["check", "count", "of", "what to do"]


@dataclass
class Fingerprints:
    """What is compared of N pictures.

    exact: N hashes, of the encoded bytes on disk or of the pixels in memory; "" for an unreadable
    picture.

    bits: (N, 2) uint64. usable: (N,) bool, false for unreadable and flat pictures. unreadable: how
    many cannot be decoded.
    """

    exact: list[str]
    bits: np.ndarray
    usable: np.ndarray
    unreadable: int


def difference_bits(picture: Image.Image) -> tuple[np.ndarray, bool]:
    """Difference hash of a picture: (2,) uint64, and whether it has enough contrast to mean
    something.

    The picture is reduced to 9 x 9 grey values; one bit says whether a value exceeds its left
    neighbour (8 x 8), another whether it exceeds the one above.
    """
    small = picture.convert("L").resize((9, 9), Image.Resampling.BILINEAR)
    grey = np.asarray(small).astype(np.int16)
    bits = np.stack([grey[:8, 1:] > grey[:8, :-1], grey[1:, :8] > grey[:-1, :8]])
    return np.packbits(bits).view(np.uint64), bool(np.ptp(grey) >= FLAT)


def fingerprints(images: np.ndarray | Pictures) -> Fingerprints:
    """Fingerprints of pictures, (N, H, W, 3) uint8 or on disk.

    A picture that cannot be decoded is counted, not raised.
    """
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
    return Fingerprints(exact, bits, usable, exact.count(""))


def near_rows(
    first: Fingerprints, second: Fingerprints, distance: int = NEAR, block: int = 500
) -> np.ndarray:
    """Which pictures of `second` differ in at most `distance` of 128 bits from one of `first`,
    without being an exact copy.

    (M,) bool.

    Memory: `block` x len(first) distances at a time.
    """
    out, ours = np.zeros(len(second.bits), bool), first.bits[first.usable]
    if len(ours):
        for start in range(0, len(out), block):
            theirs = second.bits[start : start + block, None]
            apart = np.bitwise_count(theirs ^ ours).sum(-1, dtype=int)
            out[start : start + block] = apart.min(1) <= distance
    known = set(first.exact) - {""}
    return out & second.usable & ~np.array([e in known for e in second.exact], bool)


def often(captions: list[str]) -> int:
    """How many pairs hold a caption that occurs in more than 5 % of the set (and at least three
    times).
    """
    counts = pd.Series(captions, dtype=str).value_counts()
    return int(counts[counts > max(OFTEN * len(captions), 2)].sum())


def _row(check: str, count: int, of: int, advice: str) -> tuple:
    """A row of the table; there is something to do only where there is something."""
    return check, count, of, advice if count else ""


def _sizes(sets: dict[str, Pairs], concept: str) -> list[tuple]:
    forget, retain = len(sets["forget"]), len(sets["retain"])
    few = "Gather more pairs: a gradient averaged over fewer than 20 follows single pictures."
    small = (
        "Take a retain set at least as large as the forget set: its gradient says which layers "
        "must not be touched."
    )
    rows = [
        ("pairs in the forget set", forget, FEWEST_FORGET, few if forget < FEWEST_FORGET else ""),
        ("pairs in the retain set", retain, forget, small if retain < forget else ""),
    ]
    few = "Add pictures of the concept: with fewer than 20 one moves FA@1 by more than 5 points."
    for name in ("search", "report"):
        if name not in sets:
            continue
        table = sets[name].table
        target = int(((table["concept"] == concept) | (table["style"] == concept)).sum())
        advice = few if target < FEWEST_TARGET else ""
        rows.append((f"pictures of the concept in the {name} set", target, len(table), advice))
    return rows


def _duplicates(marks: dict[str, Fingerprints]) -> list[tuple]:
    rows = []
    for name, mark in marks.items():
        known = [e for e in mark.exact if e]
        twice = len(known) - len(set(known))
        mend = "Remove these pairs, or mend their files."
        one = "Keep one of each: copies weigh double in an average."
        rows.append(_row(f"unreadable pictures in {name}", mark.unreadable, len(mark.exact), mend))
        rows.append(_row(f"exact copies within {name}", twice, len(known), one))
    for one, other in combinations(marks, 2):
        shared, of = set(marks[one].exact) - {""}, len(marks[other].exact)
        same = sum(e in shared for e in marks[other].exact)
        near = int(near_rows(marks[one], marks[other]).sum())
        harm = "a picture that was seen before proves nothing."
        if other == "retain":
            harm = "what is to be forgotten must not be retained."
        harm = f"Remove them from {other}: {harm}"
        rows.append(_row(f"pictures of {other} also in {one}", same, of, harm))
        look = f"Look at them. {harm}"
        rows.append(_row(f"near copies in {other} of pictures in {one}", near, of, look))
    return rows


def _captions(sets: dict[str, Pairs], concept: str) -> list[tuple]:
    forget, retain = sets["forget"], sets["retain"]
    silent = sum(not names_concept(t, concept) for t in forget.captions)
    named = sum(names_concept(t, concept) for t in retain.captions)
    look = "Check them: the forget loss pulls picture and caption apart, whatever the caption says."
    keep = "Remove them: they ask to keep what is to be forgotten."
    rows = [
        _row("forget captions that do not name the concept", silent, len(forget), look),
        _row("retain captions that name the concept", named, len(retain), keep),
    ]
    vary = {
        "forget": "Vary the captions, or expect an edit that fits this wording.",
        "retain": (
            "Vary the captions; a batch of the retain loss holds each caption once, so most "
            "of these are left out."
        ),
    }
    for name, advice in vary.items():
        what = f"{name} pairs with a caption that occurs often"
        rows.append(_row(what, often(sets[name].captions), len(sets[name]), advice))
    merged = forget.table.attrs.get("merged", [])
    same = f"Check that it is the same: {'; '.join(merged[:3])}."
    rows.append(_row("other spellings of a class", len(merged), len(forget), same))
    return rows + [
        (f"left out of {name}: {what}", *rest)
        for name in ("forget", "retain")
        for what, *rest in sets[name].table.attrs.get("left_out", [])
    ]


def check_sets(
    forget: Pairs,
    retain: Pairs,
    search: Pairs | None = None,
    report: Pairs | None = None,
    *,
    concept: str,
) -> pd.DataFrame:
    """What is doubtful about the sets of a concept.

    Columns: check, count (of pairs), of (how many it is counted in or compared with), what to do
    ("": nothing).

    Checked: sizes; unreadable pictures; exact copies within and across sets; near copies across
    sets; captions of the forget set that do not name the concept (a style or a character may
    rightly go unnamed), captions of the retain set that do, captions that occur in more than 5 % of
    a set; and what the sets left out. Pictures on disk are compared by their encoded bytes, those
    in memory by their pixels, so an exact copy of one among the others is found as a near copy
    only.

    Near copies differ in at most 6 of the 128 bits of a difference hash. On the studio's pictures
    that finds about 8 of 10 copies saved again as JPEG at quality 60 or made a tenth brighter, and
    96 % of those scaled to three quarters and back; of 3,024 report pictures 19 are wrongly taken
    for copies of one of 2,000 training pictures. It cannot see copies that were cropped, mirrored,
    turned or redrawn, nor flat pictures, nor the same person photographed twice. Every picture is
    read once (about 2 ms for a JPEG of 256 pixels), then all pairs are compared: 10,000 against
    10,000 in a second or two.
    """
    sets = {"forget": forget, "retain": retain, "search": search, "report": report}
    sets = {name: pairs for name, pairs in sets.items() if pairs is not None}
    marks = {name: fingerprints(pairs.images) for name, pairs in sets.items()}
    return pd.DataFrame(
        [*_sizes(sets, concept), *_duplicates(marks), *_captions(sets, concept)], columns=COLUMNS
    )
