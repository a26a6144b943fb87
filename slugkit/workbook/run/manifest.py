"""The manifest of a run: one record per finished notebook, and whether what it left still holds.

A record is written when a notebook finishes and dropped as soon as the same notebook begins to
write again, so a record stands for files that are whole. What a notebook was begun with is noted
beside. A record holds settings, hashes of notebook, slugkit, inputs, outputs and of other files
looked for (weights, the world's definition), and seconds, memory, versions.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from slugkit.base import (
    MissingArtefactError,
    SlugError,
    StaleArtefactError,
    sha256_file,
    sha256_tree,
    write_json,
)
from slugkit.workbook.run.stages import OPTIONAL, RELEVANT, artefact_of, call_for, maker

NAME = "manifest.json"
RECORD = dict.fromkeys(("settings", "inputs", "outputs", "uses"), dict)
RECORD |= {"notebook_source": str, "slugkit_source": str}
"""What every record holds, beside what it says about the machine."""
BIG = 2 * 10**9
"""Bytes from which a folder's contents are not read: its files' number, sizes and last change stand
for them.
"""


def hash_of(path: Path) -> str:
    """SHA-256 of a file, or of a folder's names and contents.

    Raises FileNotFoundError where neither is there.
    """
    if path.is_dir():
        return sha256_tree(path)
    return sha256_file(path)


def _stamp(path: Path) -> list[int]:
    """Size and time of change of a file; of a folder how many files it holds, their sizes together
    and the last change.
    """
    if path.is_dir():
        found = [p.stat() for p in path.rglob("*") if p.is_file() and "__pycache__" not in p.parts]
        return [
            len(found),
            sum(s.st_size for s in found),
            max((s.st_mtime_ns for s in found), default=0),
        ]
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def used(path: Path) -> dict[str, Any]:
    """Entry for a file or folder outside the run that a stage looked for: hash, size and time of
    change; both empty where it is not there.
    """
    path = Path(path)
    if not path.exists():
        return {"sha256": "", "stamp": []}
    stamp = _stamp(path)
    return {"sha256": "" if path.is_dir() and stamp[1] > BIG else hash_of(path), "stamp": stamp}


def use_changed(path: str, entry: dict[str, Any]) -> bool:
    """Whether a file noted by `used` has come, gone or differs. Same size and time of change count
    as unchanged (weights are big).
    """
    file = Path(path)
    stamp = _stamp(file) if file.exists() else []
    if stamp == entry["stamp"]:
        return False
    return not stamp or not entry["sha256"] or hash_of(file) != entry["sha256"]


def _is_record(notebook: str, record: Any) -> bool:
    """Whether a record has what `RECORD` says, and hashes where hashes are expected."""
    if not re.fullmatch(r"\w+", notebook) or not isinstance(record, dict):
        return False
    if not all(isinstance(record.get(key), kind) for key, kind in RECORD.items()):
        return False
    left, used_by_it = record["outputs"].values(), record["uses"].values()
    if not all(
        isinstance(e, dict) and isinstance(e.get("sha256"), str) for e in (*left, *used_by_it)
    ):
        return False
    return all("stamp" in entry for entry in used_by_it)


class Manifest:
    """`manifest.json` of one run folder; read anew at every call, since a kernel and its runner
    share it.
    """

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        self.path = self.folder / NAME

    def read(self) -> dict[str, Any]:
        """The whole manifest: {"run": name, "stages": {notebook: record}, "settings": {notebook:
        what it was begun with}}. Raises StaleArtefactError if unreadable.
        """
        if not self.path.exists():
            return {"run": self.folder.name, "stages": {}, "settings": {}}
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            begun = content.setdefault("settings", {}).values()
            whole = all(isinstance(settings, dict) for settings in begun)
            whole = whole and all(_is_record(*item) for item in content["stages"].items())
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
            whole = False
        if not whole:
            raise StaleArtefactError(
                f"{self.path} is not a manifest that slugkit wrote; nothing in this run can be"
                f" trusted. Delete the folder {self.folder} and run again, or use another run name."
            )
        return content

    def stage(self, notebook: str) -> dict[str, Any] | None:
        """The record of a finished notebook, or None."""
        return self.read()["stages"].get(notebook)

    def put(self, notebook: str, record: dict[str, Any]) -> None:
        """Write or replace the record of a notebook."""
        content = self.read()
        content["stages"][notebook] = record
        content["stages"] = dict(sorted(content["stages"].items()))
        write_json(self.path, content)

    def begin(self, notebook: str, settings: dict[str, Any]) -> None:
        """Forget the record of a notebook, if there is one, and note the settings that it begins
        with: they outlast a run that is cut off.
        """
        content = self.read()
        content["stages"].pop(notebook, None)
        content["settings"][notebook] = settings
        write_json(self.path, content)

    def parameters(self, settings: dict[str, Any]) -> dict[str, Any]:
        """The run's own parameters: `settings`, and of those that it lacks what the run's notebooks
        were begun with, the last one first.
        """
        found: dict[str, Any] = {}
        for _, begun in sorted(self.read()["settings"].items()):
            found.update(begun)
        return found | settings

    # -- does it still hold? -----------------------------------------------------------------------

    def sha_of(self, name: str, settings: dict[str, Any]) -> str:
        """What `require` returns, or "" where it would raise because the artefact is missing or
        stale.
        """
        try:
            return self.require(name, settings)
        except (MissingArtefactError, StaleArtefactError):
            return ""

    def require(self, name: str, settings: dict[str, Any]) -> str:
        """SHA-256 of the artefact that `name` belongs to, once it is sure that it fits `settings`
        and is up to date.

        Raises MissingArtefactError or StaleArtefactError, naming the notebook to run and the
        command.
        """
        artefact = artefact_of(name)
        stage = maker(artefact)
        record = self.stage(stage)
        error, what = self._fault(name, artefact, stage, record, settings)
        if what:
            # only now: to spell out the command, the notebooks are read
            command = call_for(stage, self.parameters(settings), self.folder.name)
            raise error(f"{what}. Run notebook {stage[:2]} first: {command}")
        return record["outputs"][artefact]["sha256"]

    def _fault(
        self,
        name: str,
        artefact: str,
        stage: str,
        record: dict[str, Any] | None,
        settings: dict[str, Any],
    ) -> tuple[type[SlugError], str]:
        """Error class and text for what is wrong with an artefact; the text is "" where
        nothing is.
        """
        path = self.folder / artefact
        if record is None:
            state = "was started but not finished" if path.exists() else "has not been run"
            where = f"from run {self.folder.name}: notebook {stage}, which leaves it, {state}"
            return MissingArtefactError, f"{name} is missing {where}"
        if artefact not in record["outputs"]:
            why = " (it leaves none for a tower that never forgot)" if artefact in OPTIONAL else ""
            return (
                MissingArtefactError,
                f"Notebook {stage} finished without leaving {artefact}{why}",
            )
        if not (self.folder / name.strip("/")).exists():
            return (
                MissingArtefactError,
                f"{name} was deleted from run {self.folder.name} after notebook {stage}",
            )
        if hash_of(path) != record["outputs"][artefact]["sha256"]:
            return StaleArtefactError, f"{artefact} was changed after notebook {stage} left it"
        made = record["settings"]
        for setting in RELEVANT:
            if setting in made and setting in settings and made[setting] != settings[setting]:
                was, wanted = f"{setting} {made[setting]!r}", f"{setting} {settings[setting]!r}"
                return (
                    StaleArtefactError,
                    f"{artefact} was made by notebook {stage} with {was}; {wanted} was expected",
                )
        reason = self.outdated(stage)
        return StaleArtefactError, f"{artefact} is out of date: {reason}" if reason else ""

    def outdated(self, stage: str, seen: Iterable[str] = ()) -> str:
        """Why what a finished `stage` left is out of date (its inputs changed, here or further up);
        "" if it is not.
        """
        record = self.stage(stage)
        if record is None:
            return f"notebook {stage} has not finished"
        for path, entry in record["uses"].items():
            if use_changed(path, entry):
                return f"{Path(path).name}, which notebook {stage} used, has changed"
        for artefact, sha in record["inputs"].items():
            above = maker(artefact)
            if above in seen or above == stage or not sha:
                continue
            upper = self.stage(above)
            if upper is None:
                return f"notebook {above} was started again and has not finished"
            if upper["outputs"].get(artefact, {}).get("sha256") != sha:
                return (
                    f"notebook {above} has left a different {artefact} since notebook {stage} ran"
                )
            reason = self.outdated(above, (*seen, stage))
            if reason:
                return reason
        return ""

    def complete(self, stage: str) -> bool:
        """Whether every file that a finished `stage` left is still there, unchanged."""
        record = self.stage(stage)
        if record is None:
            return False
        for name, entry in record["outputs"].items():
            path = self.folder / name
            if not path.exists() or hash_of(path) != entry["sha256"]:
                return False
        return True
