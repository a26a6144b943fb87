"""What a person gives a run on the command line or in files of settings."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from papermill.cli import _resolve_type
from papermill.iorw import read_yaml_file

from slugkit.base import SettingError, absolute_path, mistyped, notebooks_dir
from slugkit.workbook.settings import setting_type

PLACES = ("model", "data", "pipeline", "vision_language_model", "judge_model")
"""Settings that may be paths."""


def read_parameters(pairs: list[tuple[str, str]], files: list[Path]) -> dict[str, Any]:
    """Settings from YAML files and from pairs of the command line, which win, as papermill reads.

    Where a text or a list of texts is expected, it is kept as it is written: 007, None, true.
    Paths of this machine become absolute.

    Raises: SettingError for a file that holds no settings, and for a path that is not there.
    """
    values: dict[str, Any] = {}
    for file in files:
        values.update(_read_file(file))
    values.update({name: _read_word(name, text) for name, text in pairs})
    return {name: _located(name, value) for name, value in values.items()}


def _read_file(file: Path) -> dict[str, Any]:
    try:
        content = read_yaml_file(str(file)) or {}
        written = yaml.load(file.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
        wrong = "" if isinstance(content, dict) else "holds no `name: value` lines"
    except FileNotFoundError:
        wrong = "is missing"
    except Exception as broken:
        wrong = f"is not YAML ({' '.join(str(broken).split())})"
    if wrong:
        raise SettingError(
            f"The settings file {file} {wrong}; lines such as `seed: 1` were expected."
        )
    return {name: _as_written(name, written.get(name), value) for name, value in content.items()}


def _as_written(name: str, written: Any, value: Any) -> Any:
    """`written` where a text or a list of texts is expected and stands there, else `value`."""
    wanted = setting_type(name)
    texts = written if isinstance(written, list) else [written]
    fits = wanted in (str, list) and isinstance(written, wanted)
    return written if fits and all(isinstance(text, str) for text in texts) else value


def _read_word(name: str, text: str) -> Any:
    wanted = setting_type(name)
    if wanted is list:
        with suppress(yaml.YAMLError):
            return _as_written(name, yaml.load(text, Loader=yaml.BaseLoader), text)
    return text if wanted in (str, list) else _resolve_type(text)


def _located(name: str, value: Any) -> Any:
    """A value with its path made absolute; a mistyped one is refused before a hub is asked."""
    if name not in PLACES or not isinstance(value, str):
        return value
    found = absolute_path(value)
    if name != "data" and not (notebooks_dir() / found).exists() and (wrong := mistyped(found)):
        raise SettingError(f"{name}: {wrong}")
    return found
