"""A source of the paper's size, put together by a recipe: pairs to learn from in one place,
pictures to be examined on in others.

```yaml
pairs: shards/{00000..00001}.tar   # retain sets, and forget sets by name; anything `open_data`
takes, relative to the recipe
forget: shards/Elon_Musk.tar       # optional: the forget set in a place of its own
people: celeba                     # optional: a CelebA folder, for FA@1, FA@5 and TA_CA
objects: imagenet                  # optional: an ImageNet folder, for TA_IN
concepts: [Elon Musk]              # optional
neighbours: {Elon Musk: [Mark Zuckerberg, Jeff Bezos]}   # optional
```
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from slugkit.base import (
    AllLeftOutError,
    EmptySetError,
    SettingError,
    UnknownConceptError,
    look_for,
    nearest,
    require_choice,
    sha256_bytes,
)
from slugkit.data.names import written
from slugkit.data.pairs import Pairs, joined
from slugkit.data.published import CelebA, ImageNet, read_celeba, read_imagenet
from slugkit.data.reading import Reading, fitting
from slugkit.data.source import Exam, Prompts, Source, as_list

LEAST = 6
"""Pictures of the target that an exam needs: 2 to search on, 4 to report."""
RECIPES, SPLITS = (".yaml", ".yml", ".json"), ("search", "report")
Written = Annotated[str, AfterValidator(written)]
"""A name as `slugkit.data.names.written` writes it, which is how tables of names are read."""


class Recipe(BaseModel):
    """What a recipe file may say; see the top of this file. Read one with `read_recipe`."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    pairs: str = Field(min_length=1)
    forget: str | None = Field(None, min_length=1)
    people: str | None = Field(None, min_length=1)
    objects: str | None = Field(None, min_length=1)
    concepts: list[Written] = []
    neighbours: dict[Written, list[Written]] = {}


def thirds(table: pd.DataFrame) -> list[str]:
    """search for one third of the pictures of each concept, by the SHA-256 of the key, else report.

    The paper searches the step on the pictures that it reports; here the two never meet.
    """
    hashes = pd.Series([sha256_bytes(key.encode()) for key in table["key"]]).sort_values()
    place = hashes.groupby(table["concept"].to_numpy()[hashes.index]).cumcount().sort_index()
    return np.where(place % 3 == 0, *SPLITS).tolist()


class PaperSource(Source):
    """Sets from one source, exams from CelebA and ImageNet.

    A concept is a name that CelebA lists (kind "person", domain figures), a class of ImageNet
    ("object", domain objects), or else one that `pairs` or `forget` knows, which is then examined
    there.
    """

    def __init__(
        self,
        recipe: Recipe,
        path: Path,
        pool: Source,
        forget: Source | None = None,
        people: CelebA | None = None,
        objects: ImageNet | None = None,
        reading: Reading | None = None,
    ):
        super().__init__(path.stem, path)
        self.recipe, self.reading = recipe, reading
        self.pool, self.forget, self.people, self.objects = pool, forget or pool, people, objects
        self._asked: dict[str, Prompts] = {}
        parts = {"figures": people, "objects": objects}
        self._shown = {domain: part for domain, part in parts.items() if part}
        for part in self._shown.values():
            part.pairs.table["split"] = thirds(part.pairs.table)
        named = [name for concept, near in recipe.neighbours.items() for name in [concept, *near]]
        for name in [*named, *recipe.concepts]:
            self.kind(name)

    def _domain(self, concept: str) -> str | None:
        return next((d for d, part in self._shown.items() if concept in part.classes), None)

    def concepts(self) -> list[str]:
        """Those of the recipe; without any, those with enough pictures, or the pool's."""
        if self.recipe.concepts or not self._shown:
            return list(self.recipe.concepts) or self.pool.concepts()
        counts = [p.pairs.table["concept"].value_counts(sort=False) for p in self._shown.values()]
        return [name for faces in counts for name in faces.index[faces >= LEAST]]

    def kind(self, concept: str) -> str:
        domain = self._domain(concept)
        if domain is None:
            return self._knowing(concept).kind(concept)
        return self._shown[domain].kind

    def _knowing(self, concept: str) -> Source:
        """The source of pairs that knows a concept which is no name or class."""
        try:
            self.pool.kind(concept)
            return self.pool
        except UnknownConceptError as unknown:
            if self.forget is not self.pool:
                with suppress(UnknownConceptError):
                    self.forget.kind(concept)
                    return self.forget
            known = [name for part in self._shown.values() for name in part.classes]
            close = ", ".join(map(repr, nearest(concept, known)))
            if not close:
                raise
            raise UnknownConceptError(
                f"{unknown} Neither do the names and classes of the recipe's people and objects"
                f" hold it; nearest there: {close}."
            ) from None

    def best_known(self, kind: str) -> list[str]:
        """Of people those of `CelebA.frequent`."""
        return self.people.frequent()["name"].tolist() if kind == "person" and self.people else []

    def examined_apart(self, concept: str) -> bool:
        """Whether the concept's exams are set on pictures that are not among the pairs."""
        return self._domain(concept) is not None

    def neighbours(self, concept: str) -> list[str]:
        """Those that the recipe names; without any those of its source of pairs."""
        if concept in self.recipe.neighbours:
            return list(self.recipe.neighbours[concept])
        return [] if self._domain(concept) else self._knowing(concept).neighbours(concept)

    def forget_set(self, concept: str, size: int, seed: int = 0) -> Pairs:
        """From `forget` where the recipe has it and it holds any, else from `pairs`."""
        if self.forget is not self.pool:
            try:
                return self.forget.forget_set(concept, size, seed)
            except AllLeftOutError:
                raise
            except (UnknownConceptError, EmptySetError):
                pass
        return self.pool.forget_set(concept, size, seed)

    def retain_set(self, concept: str | list[str], size: int, seed: int = 0) -> Pairs:
        return self.pool.retain_set(concept, size, seed)

    def prompts(self, concept: str | list[str], split: str) -> Prompts:
        """Every CelebA name, and every class in the 7 simple templates; or those of its source."""
        gone = as_list(concept)
        there = [name for name in gone if self._domain(name) is None]
        found = dict(self._prompts(split)) if len(there) < len(gone) else {}
        return found | (self._knowing(there[0]).prompts(there, split) if there else {})

    def _prompts(self, split: str) -> Prompts:
        """Of people and objects the wordings that the model reads to their end."""
        if split not in self._asked:
            found = {d: part.wordings(split) for d, part in self._shown.items()}
            self._asked[split] = {d: fitting(said, self.reading) for d, said in found.items()}
        return self._asked[split]

    def exam(self, concept: str, split: str, per_style: int = 0) -> Exam:
        """All pictures of the target and its neighbours, of the 100 frequent people and of 5 % of
        ImageNet, among all names of CelebA or classes of ImageNet.
        """
        require_choice(split, SPLITS, "The split")
        domain = self._domain(concept)
        if domain is None:
            return self._knowing(concept).exam(concept, split, per_style)
        own = int((self._shown[domain].pairs.table["concept"] == concept).sum())
        if own < LEAST:
            raise EmptySetError(
                f"{concept!r} has {own} pictures to be examined on; {LEAST} or more were expected,"
                " a third of them for the search. Choose another name, or add pictures of your own."
            )
        near = [concept, *self.neighbours(concept)]
        parts = [
            part.pairs.where(part.always() | part.pairs.table["concept"].isin(near))
            for part in self._shown.values()
        ]
        return self._examined(joined(parts).split(split), concept, split, domain, most=per_style)

    def left_out(self) -> pd.DataFrame:
        sources = dict.fromkeys((self.pool, self.forget))
        parts = [*(source.left_out() for source in sources), super().left_out()]
        together = pd.concat(parts, ignore_index=True)
        return together.groupby(["what", "why"], sort=False, as_index=False).agg(
            pictures=("pictures", "sum"), which=("which", ", ".join)
        )


def _read(path: Path) -> Recipe:
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
        said = json.loads(text) if path.suffix.lower() == ".json" else yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise SettingError(
            f"The recipe {path.name} cannot be read: {str(error).splitlines()[0]}. Expected YAML or"
            " JSON with the entry `pairs`."
        ) from error
    if not isinstance(said, dict):
        raise SettingError(
            f"The recipe {path.name} holds {type(said).__name__} at its top; expected entries such"
            " as `pairs: shards/00000.tar`."
        )
    for name in map(str, said):
        require_choice(name, Recipe.model_fields, f"In the recipe {path.name} the entry")
    try:
        return Recipe(**said)
    except ValidationError as broken:
        problem = broken.errors()[0]
        where = ".".join(str(step) for step in problem["loc"])
        raise SettingError(
            f"The recipe {path.name} has a fault at `{where}`: {problem['msg']}. Mend that entry"
            " (see the top of slugkit/data/recipe.py)."
        ) from None


def read_recipe(
    path: str | Path, size: int = 224, fit: str = "crop", reading: Reading | None = None
) -> PaperSource:
    """The source that a recipe file (.yaml, .yml or .json) describes; arguments as of `open_data`.

    Places are relative to the recipe's folder. Raises SettingError for a wrong entry,
    UnknownConceptError, and what the readers raise, before any picture is decoded.
    """
    from slugkit.data import open_data

    path = Path(path).expanduser().absolute()
    recipe = _read(path)

    def read(entry: str | None, reader, *more):
        if entry is None:
            return None
        if Path(entry).suffix.lower() in RECIPES:
            raise SettingError(
                f"The recipe {path.name} names another recipe, {entry!r}; name shards, a table or a"
                " folder of pictures instead."
            )
        place = entry if entry == "studio" else str(path.parent / Path(entry).expanduser())
        found = reader(place, size, fit, *more)
        look_for(found.path if more else place)
        return found

    people, objects = read(recipe.people, read_celeba), read(recipe.objects, read_imagenet)
    pool, forget = (read(e, open_data, reading) for e in (recipe.pairs, recipe.forget))
    return PaperSource(recipe, path, pool, forget, people, objects, reading)
