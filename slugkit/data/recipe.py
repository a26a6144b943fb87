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
from slugkit.data.celeba import CelebA, read_celeba
from slugkit.data.imagenet import FRACTION, ImageNet, read_imagenet
from slugkit.data.looked import Looked, noted
from slugkit.data.names import written
from slugkit.data.pairs import COLUMNS, Pairs
from slugkit.data.pictures import Pictures
from slugkit.data.reading import Reading, fitting
from slugkit.data.source import Exam, Prompts, Source, as_list
from slugkit.data.wordings import PLAIN, dealt_texts

LEAST = 6
"""Pictures of the target that an exam needs: 2 to search on, 4 to report."""
ENOUGH = 2500
"""Pictures of ImageNet in an exam: the paper's 5 % of the whole set; of a smaller set as many as
there are.
"""
SPLITS = ("search", "report")
PEOPLE = {"search": PLAIN["search"][1:], "report": ("{}.", *PLAIN["report"])}
"""How a person is asked for: in the report as the authors' code does, "{name}.", and in other
words.
"""
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
    """search or report for every row: one third of the pictures of each concept, rounded up, is for
    the search.

    Which third goes by the SHA-256 of the row's key (the file), so it is the same on every machine.
    The paper searches the step on the pictures that it reports; here the two never meet. Needs the
    columns key and concept.
    """
    hashes = pd.Series([sha256_bytes(key.encode()) for key in table["key"]]).sort_values()
    place = hashes.groupby(table["concept"].to_numpy()[hashes.index]).cumcount().sort_index()
    return np.where(place % 3 == 0, *SPLITS).tolist()


def joined(parts: list[Pairs]) -> Pairs:
    """Sets of pictures on disk, of one size and fit, as one, in this order; of the tables the
    columns that all sets have.
    """
    places, first = pd.concat([part.images.places for part in parts]), parts[0].images
    return Pairs(
        Pictures(places, first.size, first.fit),
        pd.concat([part.table[COLUMNS] for part in parts], ignore_index=True),
    )


class PaperSource:
    """Sets from one source, exams from CelebA and ImageNet (`slugkit.data.source.Source`).

    A concept is a name that CelebA lists (kind "person", examined in the domain figures), a class
    of ImageNet ("object", domain objects), or else one that `pairs` or `forget` knows, which is
    then examined there. Search and report pictures are disjoint: see `thirds`.
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
        self.recipe, self.path, self.name, self.reading = recipe, path, path.stem, reading
        self.pool, self.forget, self.people, self.objects = pool, forget or pool, people, objects
        self.looked = Looked()
        self._asked: dict[str, Prompts] = {}
        for part in (people, objects):
            if part is not None:
                part.pairs.table["split"] = thirds(part.pairs.table)
        self._classes = {"figures": people.names} if people else {}
        if objects:
            self._classes["objects"] = list(objects.prompts)
        named = [name for concept, near in recipe.neighbours.items() for name in [concept, *near]]
        for name in [*named, *recipe.concepts]:
            self.kind(name)

    def _domain(self, concept: str) -> str | None:
        return next((domain for domain, names in self._classes.items() if concept in names), None)

    def concepts(self) -> list[str]:
        """Those of the recipe; without any, CelebA's people with enough pictures and ImageNet's
        classes, or the pool's concepts.
        """
        if self.recipe.concepts:
            return list(self.recipe.concepts)
        parts = [part for part in (self.people, self.objects) if part is not None]
        if not parts:
            return self.pool.concepts()
        counts = [part.pairs.table["concept"].value_counts(sort=False) for part in parts]
        return [name for faces in counts for name in faces.index[faces >= LEAST]]

    def kind(self, concept: str) -> str:
        """person, object, or what its source of pairs calls it.

        Raises UnknownConceptError naming the nearest.
        """
        domain = self._domain(concept)
        if domain is not None:
            return {"figures": "person", "objects": "object"}[domain]
        return self._knowing(concept).kind(concept)

    def _knowing(self, concept: str) -> Source:
        """The source of pairs that knows a concept which is no name or class: `pairs`, else
        `forget`.

        Raises UnknownConceptError.
        """
        try:
            self.pool.kind(concept)
            return self.pool
        except UnknownConceptError as unknown:
            if self.forget is not self.pool:
                with suppress(UnknownConceptError):
                    self.forget.kind(concept)
                    return self.forget
            known = [name for names in self._classes.values() for name in names]
            close = ", ".join(map(repr, nearest(concept, known)))
            if not close:
                raise
            raise UnknownConceptError(
                f"{unknown} Neither do the names and classes of the recipe's people and objects"
                f" hold it; nearest there: {close}."
            ) from None

    def examined_apart(self, concept: str) -> bool:
        """Whether the concept's exams are set on CelebA or ImageNet, whose pictures are not among
        the pairs.
        """
        return self._domain(concept) is not None

    def neighbours(self, concept: str) -> list[str]:
        """Those that the recipe names for the concept; without any, none for people and classes,
        and for others those of their source of pairs.
        """
        if concept in self.recipe.neighbours:
            return list(self.recipe.neighbours[concept])
        return [] if self._domain(concept) else self._knowing(concept).neighbours(concept)

    def forget_set(self, concept: str, size: int, seed: int = 0) -> Pairs:
        """Training pairs about the concept, from `forget` where the recipe has it and it holds any,
        else from `pairs`.
        """
        if self.forget is not self.pool:
            try:
                return self.forget.forget_set(concept, size, seed)
            except (UnknownConceptError, EmptySetError) as nothing:
                if isinstance(nothing, AllLeftOutError):
                    raise
        return self.pool.forget_set(concept, size, seed)

    def retain_set(self, concept: str | list[str], size: int, seed: int = 0) -> Pairs:
        """Training pairs from `pairs` that do not show the concept, or any of several."""
        return self.pool.retain_set(concept, size, seed)

    def prompts(self, concept: str | list[str], split: str) -> Prompts:
        """figures: every CelebA name, in the report in the authors' words too, "{name}."; objects:
        every class, the 7 simple templates dealt out to search and report. For another concept
        those of its source.
        """
        gone = as_list(concept)
        there = [name for name in gone if self._domain(name) is None]
        found = self._prompts(split) if len(there) < len(gone) else {}
        return found | (self._knowing(there[0]).prompts(there, split) if there else {})

    def _prompts(self, split: str) -> Prompts:
        """Of people and objects the wordings that the model reads to their end."""
        if split not in self._asked:
            found: Prompts = {}
            if self.people:
                names = self.people.names
                found["figures"] = {
                    w: {n: [w.replace("{}", n)] for n in names} for w in PEOPLE[split]
                }
            if self.objects:
                found["objects"] = dealt_texts(self.objects.prompts, split)
            if self.reading is not None:
                found = {d: fitting(said, self.reading) for d, said in found.items()}
            self._asked[split] = found
        return dict(self._asked[split])

    def exam(self, concept: str, split: str, per_style: int = 0) -> Exam:
        """All pictures of the target and its neighbours, those of the 100 frequent people (TA_CA)
        and of the 5 % of ImageNet (TA_IN), of one split.

        FA@1 and FA@5 are among all names of CelebA, for a class of ImageNet among its classes.
        Search and report share no picture (`thirds`). The group people holds the neighbours too,
        and never the target, which the paper's 100 names may hold. per_style: pictures of each
        other person or class, 0 for all. Raises EmptySetError for a target with fewer than 6
        pictures, SettingError for another split.
        """
        require_choice(split, SPLITS, "The split")
        domain = self._domain(concept)
        if domain is None:
            return self._knowing(concept).exam(concept, split, per_style)
        near, parts = self.neighbours(concept), []
        own = (self.people if domain == "figures" else self.objects).pairs.table["concept"]
        if (own == concept).sum() < LEAST:
            raise EmptySetError(
                f"{concept!r} has {int((own == concept).sum())} pictures to be examined on; {LEAST}"
                " or more were expected, a third of them for the search. Choose another name, or"
                " add pictures of your own."
            )
        if self.people:
            wanted = {concept, *near, *self.people.frequent()["name"]}
            parts.append(self.people.pairs.where(self.people.pairs.table["concept"].isin(wanted)))
        if self.objects:
            every = self.objects.pairs
            drawn = self.objects.subset(max(FRACTION, min(1.0, ENOUGH / len(every))))
            named = every.table["concept"].isin([concept, *near])
            parts.append(every.where(named | every.table["key"].isin(drawn.table["key"])))
        pairs = joined(parts).split(split)
        shown = pairs.table["concept"]

        def cut(rows: np.ndarray) -> np.ndarray:
            some = shown[rows]
            place = some.groupby(some).cumcount()
            return rows[(place < per_style) | (some == concept)] if per_style else rows

        pairs = self.looked.exam(pairs, (shown == concept).to_numpy(), cut)
        kind, prompts = self.kind(concept), self.prompts(concept, split)
        return Exam(pairs, concept, kind, domain, prompts, near, split)

    def left_out(self) -> pd.DataFrame:
        """What was left out of the data and changed in them, in the sets that were drawn so far:
        columns what, why, pictures, which (`looked.noted`).
        """
        sources = dict.fromkeys((self.pool, self.forget))
        parts = [*(source.left_out() for source in sources), noted(self.looked.listed())]
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
            f"The recipe {path.name} cannot be read: {str(error).splitlines()[0]}. A YAML or JSON"
            " file with the entry `pairs` was expected."
        ) from error
    if not isinstance(said, dict):
        raise SettingError(
            f"The recipe {path.name} holds {type(said).__name__} at its top; entries such as"
            " `pairs: shards/00000.tar` were expected."
        )
    unknown = [str(name) for name in said if name not in Recipe.model_fields]
    for name in unknown:
        require_choice(name, Recipe.model_fields, f"In the recipe {path.name} the entry")
    try:
        return Recipe(**said)
    except ValidationError as broken:
        problem = broken.errors()[0]
        where = ".".join(str(step) for step in problem["loc"])
        raise SettingError(
            f"The recipe {path.name} has a fault at `{where}`: {problem['msg']}. `pairs`, `forget`,"
            " `people` and `objects` are places, `concepts` is a list of names, `neighbours` gives"
            " a list of names for a name. Mend that entry."
        ) from None


def read_recipe(
    path: str | Path, size: int = 224, fit: str = "crop", reading: Reading | None = None
) -> PaperSource:
    """The source that a recipe file (.yaml, .yml or .json) describes. size, fit: of its pictures,
    see `Pictures`. reading: as of `open_data`.

    Places are relative to the recipe's folder. Raises SettingError for an unknown or wrong entry,
    UnknownConceptError for a concept or a neighbour that nothing knows, and what `open_data`,
    `read_celeba` and `read_imagenet` raise, before any picture is decoded.
    """
    from slugkit.data import open_data

    path = Path(path).expanduser().absolute()
    recipe = _read(path)

    def place(entry: str) -> str:
        if Path(entry).suffix.lower() in (".yaml", ".yml", ".json"):
            raise SettingError(
                f"The recipe {path.name} names another recipe, {entry!r}; shards, a table or a"
                " folder of pictures was expected. Name these instead."
            )
        return entry if entry == "studio" else str(path.parent / Path(entry).expanduser())

    people = read_celeba(place(recipe.people), size, fit) if recipe.people else None
    objects = read_imagenet(place(recipe.objects), size, fit) if recipe.objects else None
    pool = open_data(place(recipe.pairs), size, fit, reading)
    forget = open_data(place(recipe.forget), size, fit, reading) if recipe.forget else None
    for part in (pool, forget, recipe.people, recipe.objects):
        if part is not None:
            look_for(place(part) if isinstance(part, str) else part.path)
    return PaperSource(recipe, path, pool, forget, people, objects, reading)
