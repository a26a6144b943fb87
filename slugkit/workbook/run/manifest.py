"""The manifest of a run: one record per finished notebook, and whether what it left still holds.

A record is written when a notebook finishes and dropped as soon as it begins to write again, so it
stands for files that are whole. The settings that a notebook was begun with are noted beside.
"""

import contextlib
import fcntl
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from slugkit.base import (
    MissingArtefactError,
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
"""Bytes from which a folder is not read, and the stamp of its files stands for it."""


def hash_of(path: Path) -> str:
    """SHA-256 of a file, or of a folder's names and contents; "" where neither is there."""
    if path.is_dir():
        return sha256_tree(path)
    return sha256_file(path) if path.exists() else ""


def _stamp(path: Path) -> list[int]:
    """Size and time of change of a file; number, size and last change of a folder's files."""
    if not path.is_dir():
        return [path.stat().st_size, path.stat().st_mtime_ns] if path.exists() else []
    found = [p.stat() for p in path.rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    last = max((status.st_mtime_ns for status in found), default=0)
    return [len(found), sum(status.st_size for status in found), last]


def used(path: Path) -> dict[str, Any]:
    """Entry for a file or folder outside the run: hash and `_stamp`, empty where it is missing."""
    stamp = _stamp(path)
    big = path.is_dir() and stamp[1] > BIG
    return {"sha256": "" if big else hash_of(path), "stamp": stamp}


def use_changed(path: str, entry: dict[str, Any]) -> bool:
    """Whether a file noted by `used` has come, gone or differs; the same stamp is no change."""
    stamp = _stamp(Path(path))
    if stamp == entry["stamp"]:
        return False
    return not stamp or not entry["sha256"] or hash_of(Path(path)) != entry["sha256"]


def changed_use(record: dict[str, Any]) -> str:
    """Name of a file outside the run that has changed since a finished notebook used it, or ""."""
    uses = record["uses"].items()
    return next((Path(path).name for path, entry in uses if use_changed(path, entry)), "")


def _is_record(notebook: str, record: Any) -> bool:
    """Whether a record has what `RECORD` says, and hashes where hashes are expected."""
    typed = all(isinstance(record[key], kind) for key, kind in RECORD.items())
    uses = record["uses"].values()
    hashed = [entry["sha256"] for entry in (*record["outputs"].values(), *uses)]
    sound = typed and all(isinstance(sha, str) for sha in hashed)
    return sound and all("stamp" in use for use in uses) and bool(re.fullmatch(r"\w+", notebook))


class Manifest:
    """`manifest.json` of one run folder; read anew at every call, as kernel and runner share it."""

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        self.path = self.folder / NAME

    def read(self) -> dict[str, Any]:
        """{"run": name, "stages": {notebook: record}, "settings": {notebook: begun with}}.

        Raises: StaleArtefactError for a file that slugkit did not write.
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
                f"{self.path} is not a manifest that slugkit wrote. Delete the folder {self.folder}"
                " and run again, or use another run name."
            )
        return content

    def stage(self, notebook: str) -> dict[str, Any] | None:
        """The record of a finished notebook, or None."""
        return self.read()["stages"].get(notebook)

    def put(self, notebook: str, record: dict[str, Any]) -> None:
        """Write or replace the record of a notebook."""
        with self._changing() as content:
            content["stages"] = dict(sorted({**content["stages"], notebook: record}.items()))

    def begin(self, notebook: str, settings: dict[str, Any]) -> None:
        """Forget the record of a notebook, and note the settings that it begins with."""
        with self._changing() as content:
            content["stages"].pop(notebook, None)
            content["settings"][notebook] = settings

    @contextlib.contextmanager
    def _changing(self) -> Iterator[dict[str, Any]]:
        """The content, to be changed within the block while no other notebook does."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / f".{NAME}.lock", "w") as lock:
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(lock, fcntl.LOCK_EX)
            content = self.read()
            yield content
            write_json(self.path, content)

    def parameters(self, settings: dict[str, Any]) -> dict[str, Any]:
        """`settings`, and those that they lack as the run's last notebook was begun with them."""
        found: dict[str, Any] = {}
        for _, begun in sorted(self.read()["settings"].items()):
            found.update(begun)
        return found | settings

    def sha_of(self, name: str, settings: dict[str, Any]) -> str:
        """What `require` returns, or "" where the artefact is missing or stale."""
        try:
            return self._checked(name, settings)
        except (MissingArtefactError, StaleArtefactError):
            return ""

    def require(self, name: str, settings: dict[str, Any]) -> str:
        """SHA-256 of the artefact that `name` belongs to, where it fits `settings`.

        Raises: MissingArtefactError or StaleArtefactError, with the command that makes it.
        """
        try:
            return self._checked(name, settings)
        except (MissingArtefactError, StaleArtefactError) as fault:
            # only now: to spell out the command, the notebooks are read
            stage = maker(artefact_of(name))
            command = call_for(stage, self.parameters(settings), self.folder.name)
            message = f"{fault}. Run notebook {stage[:2]} first: {command}"
            raise type(fault)(message) from None

    def _checked(self, name: str, settings: dict[str, Any]) -> str:
        """As `require`, without the command."""
        artefact = artefact_of(name)
        stage, path = maker(artefact), self.folder / artefact
        record = self.stage(stage)
        if record is None:
            state = "was started but not finished" if path.exists() else "has not been run"
            raise MissingArtefactError(
                f"{name} is missing from run {self.folder.name}: notebook {stage}, which leaves"
                f" it, {state}"
            )
        if artefact not in record["outputs"]:
            why = " (it leaves none for a tower that never forgot)" if artefact in OPTIONAL else ""
            raise MissingArtefactError(f"Notebook {stage} finished without leaving {artefact}{why}")
        if not (self.folder / name.strip("/")).exists():
            raise MissingArtefactError(
                f"{name} was deleted from run {self.folder.name} after notebook {stage}"
            )
        sha = record["outputs"][artefact]["sha256"]
        if hash_of(path) != sha:
            raise StaleArtefactError(f"{artefact} was changed after notebook {stage} left it")
        for setting in RELEVANT:
            was, wanted = record["settings"].get(setting), settings.get(setting)
            if None not in (was, wanted) and was != wanted:
                raise StaleArtefactError(
                    f"{artefact} was made by notebook {stage} with {setting} {was!r}; {setting}"
                    f" {wanted!r} was expected"
                )
        if reason := self._outdated(stage, record):
            raise StaleArtefactError(f"{artefact} is out of date: {reason}")
        return sha

    def _outdated(self, stage: str, record: dict[str, Any]) -> str:
        """Why a finished `stage` is out of date: its inputs changed, here or further up; or ""."""
        if changed := changed_use(record):
            return f"{changed}, which notebook {stage} used, has changed"
        for artefact, sha in record["inputs"].items():
            above = maker(artefact)
            upper = self.stage(above)
            if upper is None:
                return f"notebook {above} was started again and has not finished"
            if upper["outputs"].get(artefact, {}).get("sha256") != sha:
                return (
                    f"notebook {above} has left a different {artefact} since notebook {stage} ran"
                )
            if reason := self._outdated(above, upper):
                return reason
        return ""
