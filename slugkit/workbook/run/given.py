"""What a person gives a run on the command line or in files of settings, as the notebooks will see
it.
"""

import contextlib
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
    """Settings from `-f` files (YAML) and `-p` pairs, read as papermill reads them; a pair wins
    over a file.

    Where a text is expected, or a list of texts, it is kept as it is written: 007, 1984, None,
    true. Paths of this machine become absolute. Raises
    SettingError for a file that is missing or holds no names with values, and for a path that is
    not there.
    """
    values: dict[str, Any] = {}
    for file in files:
        if not file.is_file():
            raise SettingError(
                f"The settings file {file} is missing; a YAML file with lines such as `seed: 1` "
                "was expected."
            )
        try:
            content = read_yaml_file(str(file))
            written = yaml.load(file.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
        except Exception as broken:
            raise SettingError(
                f"The settings file {file} is not YAML: {' '.join(str(broken).split())}."
            ) from None
        if not isinstance(content or {}, dict):
            raise SettingError(
                f"The settings file {file} holds no `name: value` lines; lines such as `seed: 1` "
                "were expected."
            )
        values.update(
            {name: _kept(name, value, written.get(name)) for name, value in (content or {}).items()}
        )
    values.update({name: _read_word(name, text) for name, text in pairs})
    return {name: _located(name, value) for name, value in values.items()}


def _kept(name: str, value: Any, written: Any) -> Any:
    """A value of a YAML file: where the setting is a text or a list of texts, as it is written
    there.
    """
    is_text = (
        isinstance(written, str)
        or isinstance(written, list)
        and all(isinstance(entry, str) for entry in written)
    )
    return (
        written
        if is_text and isinstance(written, setting_type(name)) and setting_type(name) in (str, list)
        else value
    )


def _read_word(name: str, text: str) -> Any:
    """A value of the command line: a text as it is, a list as YAML writes it, [a, b], anything else
    as papermill reads it.
    """
    if setting_type(name) is str:
        return text
    if setting_type(name) is list:
        with contextlib.suppress(yaml.YAMLError):
            return _kept(name, text, yaml.load(text, Loader=yaml.BaseLoader))
    return _resolve_type(text)


def _located(name: str, value: Any) -> Any:
    """The value of a setting that may be a path made absolute. Raises SettingError for a mistyped
    one, before a hub is asked for it.
    """
    if name not in PLACES or not isinstance(value, str):
        return value
    found = absolute_path(value)
    if name != "data" and not (notebooks_dir() / found).exists() and (wrong := mistyped(found)):
        raise SettingError(f"{name}: {wrong}")
    return found
