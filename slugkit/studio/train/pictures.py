"""What a CLIP is trained on: pictures with captions, from the studio or from a folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from slugkit import studio
from slugkit.base import EmptySetError, UnreadableImagesError, sha256_bytes, sha256_json
from slugkit.data import FolderSource, drawn


@dataclass
class TrainingPictures:
    """images: (N, H, W, 3) uint8.

    caption(i, rng): a caption of picture i. keys: two pictures with one key never share a batch
    (their captions say the same, so they would be false negatives). texts: what the vocabulary is
    learned from.
    alike: for each picture the pictures of the same subjects, in any style; empty where the data
    have no styles.
    """

    images: np.ndarray
    caption: Callable[[int, np.random.Generator], str]
    keys: list[str]
    texts: list[str]
    alike: list[np.ndarray] = field(default_factory=list)

    @property
    def digest(self) -> str:
        """SHA-256 over the pixels: which data this was."""
        return sha256_bytes(np.ascontiguousarray(self.images).tobytes())

    @property
    def told(self) -> str:
        """SHA-256 over the pixels and what is said of them: what a checkpoint was trained on."""
        return sha256_json([self.digest, self.texts, self.keys])


def studio_pictures(without: str | None = None) -> TrainingPictures:
    """The studio's training pictures.

    without: a concept left out wherever it occurs, for an oracle.
    """
    world = studio.load_world()
    if without is not None:
        world.kind(without)
    drawn_all = studio.training_records()
    kept = [i for i, r in enumerate(drawn_all) if without not in (r.name, *r.subjects, r.style)]
    records, images = [drawn_all[i] for i in kept], drawn(drawn_all)
    images = images if without is None else images[kept]
    texts = [r.caption(k) for r in records for k in range(2)]
    subjects: dict[tuple, list[int]] = {}
    for i, record in enumerate(records):
        subjects.setdefault((record.subjects, record.count), []).append(i)
    rows = {subject: np.array(members) for subject, members in subjects.items()}
    return TrainingPictures(
        images,
        lambda i, rng: studio.caption(records[i], world, rng),
        [f"{'+'.join(r.subjects)}|{r.style}|{r.count}" for r in records],
        texts,
        [rows[r.subjects, r.count] for r in records],
    )


def folder_pictures(folder: str | Path, without: str | None = None) -> TrainingPictures:
    """The `train` split of a folder of images with captions.csv (see slugkit.data.tables).

    without: a concept that no picture carries or names, in this spelling or another. Raises
    UnknownConceptError for one that the folder does not know.
    """
    source = FolderSource(folder)
    pairs = source.pairs.split("train")
    if without is not None:
        source.kind(without)
        pairs = source.retain_set(without, len(pairs))
    if not len(pairs):
        raise EmptySetError(
            f"{folder} holds no training picture; expected rows with split 'train' in captions.csv."
        )
    pairs = pairs.take(source.looked.whole(pairs))
    for what, why, name in source.looked.listed():
        print(f"{what}, {why}: {name}")
    if not len(pairs):
        raise UnreadableImagesError(
            f"No training picture of {folder} can be decoded; expected whole ones. Mend or replace"
            " them."
        )
    captions = list(pairs.captions)
    keys = [c or t for c, t in zip(pairs.table["concept"].fillna(""), captions)]
    return TrainingPictures(np.asarray(pairs.images), lambda i, rng: captions[i], keys, captions)
