"""The series: its notebooks, which artefact each leaves, what its settings are."""

import ast
import json
import re
import shlex
from pathlib import Path
from typing import Any

from slugkit.base import (
    MissingArtefactError,
    SettingError,
    did_you_mean,
    notebooks_dir,
    sha256_json,
)
from slugkit.workbook.settings import Settings, check_settings

SERIES = (
    "00_start_here",
    "01_data_curation",
    "02_gradients",
    "03_rank_layers",
    "04_one_step_update",
    "05_evaluate_clip",
    "06_evaluate_stable_diffusion",
    "07_evaluate_vision_language",
    "08_several_concepts",
    "09_sparing_the_others",
    "10_compare_methods",
    "11_stress_the_edit",
    "12_paper_figures",
)

ARTEFACTS = {
    "sets": "01_data_curation",
    "gradients.safetensors": "02_gradients",
    "layers.parquet": "03_rank_layers",
    "search.parquet": "04_one_step_update",
    "patches/text.safetensors": "04_one_step_update",
    "patches/vision.safetensors": "04_one_step_update",
    "pictures": "06_evaluate_stable_diffusion",
    "answers": "07_evaluate_vision_language",
}
"""Which notebook leaves what another one needs. A name without a suffix is a folder."""

READS: dict[str, tuple[str, ...]] = {
    "00_start_here": (),
    "01_data_curation": (),
    "02_gradients": ("sets",),
    "03_rank_layers": ("sets", "gradients.safetensors"),
    "04_one_step_update": ("sets", "gradients.safetensors", "layers.parquet"),
    "05_evaluate_clip": ("search.parquet", "patches/text.safetensors"),
    "06_evaluate_stable_diffusion": (),
    "07_evaluate_vision_language": (),
    "08_several_concepts": (),
    "09_sparing_the_others": (
        "sets",
        "search.parquet",
        "patches/text.safetensors",
        "pictures",
        "answers",
        "metrics/08.parquet",
    ),
    "10_compare_methods": (),
    "11_stress_the_edit": (),
}
"""What a notebook needs of earlier ones, so that it need not wait for the rest. One that is not
listed waits for all before it."""

OPTIONAL = ("patches/text.safetensors", "patches/vision.safetensors")
"""May be missing: a tower whose edit never makes the model forget has no patch."""

RELEVANT = (
    *("model", "data", "concept", "seed", "forget_size", "retain_size", "batch_size"),
    *("exclude", "split_qkv"),
    *("pipeline", "sampling_steps", "guidance", "pipeline_ua"),
    *("vision_language_model", "questions", "answer_forgotten"),
)
"""Settings that two notebooks of one run must share where both have them."""


def artefact_of(name: str) -> str:
    """The artefact that `name` is or lies in, such as "sets" for "sets/forget.parquet".

    Raises: MissingArtefactError for a name that no notebook leaves.
    """
    plain = name.strip("/")
    for artefact in ARTEFACTS:
        if plain == artefact or plain.startswith(artefact + "/"):
            return artefact
    if re.fullmatch(r"metrics/\d\d\.parquet", plain):
        return plain
    hint = did_you_mean(plain, ARTEFACTS) or f"choose one of {', '.join(ARTEFACTS)}."
    raise MissingArtefactError(f"No notebook leaves an artefact named {plain}: {hint}")


def maker(artefact: str) -> str:
    """The notebook that leaves `artefact`, a name as `artefact_of` returns it."""
    number = artefact.removeprefix("metrics/")[:2]
    found = [notebook for notebook in SERIES if notebook.startswith(number)]
    if artefact not in ARTEFACTS and not found:
        raise MissingArtefactError(f"There is no notebook {number} that would leave {artefact}.")
    return ARTEFACTS.get(artefact) or found[0]


def waits_for(notebook: str) -> set[str]:
    """The notebooks that must be done before this one begins, where they are to run at all."""
    if notebook not in READS:
        return {name for name in (*SERIES, *list_notebooks()) if name < notebook}
    direct = {maker(artefact) for artefact in READS[notebook]}
    return direct.union(*map(waits_for, direct))


def longest_chain(notebook: str, names: list[str]) -> int:
    """How many of `names` must run after this one, one after the other: those that are in the way
    of most go first where several run side by side.
    """
    after = [name for name in names if notebook in waits_for(name)]
    return max((1 + longest_chain(name, after) for name in after), default=0)


def list_notebooks() -> list[str]:
    """Names of the repository's notebooks, in order, without suffix: ["00_start_here", ...]."""
    return [path.stem for path in sorted(notebooks_dir().glob("[0-9][0-9]_*.ipynb"))]


def notebook_path(notebook: str) -> Path:
    """Path of a notebook of the series; it need not exist."""
    return notebooks_dir() / f"{notebook}.ipynb"


def select(spec: str | None = None) -> list[str]:
    """Notebooks that `spec` means, in order: "01-05", "02,04", a mix of both, None for all.

    Raises: SettingError for anything else, and where there are no such notebooks.
    """
    there = {int(name[:2]): name for name in list_notebooks()}
    if not there:
        raise SettingError(f"{notebooks_dir()} holds no notebooks; NN_name.ipynb were expected.")
    wanted: set[int] = set()
    for part in spec.split(",") if spec else ():
        match = re.fullmatch(r"(\d{1,2})(?:-(\d{1,2}))?", part.strip())
        if not match:
            wrong = "numbers such as 01-05 or 02,04 were expected. Leave it out to take all."
            raise SettingError(f"--notebooks arrived as {spec!r}; {wrong}")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            wrong = f"{part.strip()} runs backwards. Write {last:02d}-{first:02d}."
            raise SettingError(f"--notebooks arrived as {spec!r}; {wrong}")
        for end in {first, last} - set(there):
            have = ", ".join(name[:2] for name in there.values())
            raise SettingError(f"There is no notebook {end:02d}; the series has {have}.")
        wanted.update(range(first, last + 1))
    return [name for number, name in there.items() if number in wanted or not spec]


def read_notebook(path: Path) -> Any:
    """The notebook at `path` as an nbformat node.

    Raises: SettingError where it is missing or not a notebook.
    """
    import nbformat

    try:
        return nbformat.read(str(path), as_version=4)
    except Exception as broken:
        raise SettingError(f"{path} is no notebook ({broken}); restore it from git.") from None


def parameters_of(notebook: str) -> dict[str, Any]:
    """Names and default values of a notebook's settings cell, as papermill reads them.

    Raises: SettingError where a default is no plain value.
    """
    import papermill

    path = notebook_path(notebook)
    read_notebook(path)
    found = {}
    for name, entry in papermill.inspect_notebook(str(path)).items():
        try:
            found[name] = ast.literal_eval(entry["default"])
        except (ValueError, SyntaxError):
            raise SettingError(
                f"{notebook}: the default of {name} is {entry['default']!r}; a plain value was"
                " expected."
            ) from None
    return found


def settings_for(notebook: str, given: dict[str, Any], run: str) -> dict[str, Any]:
    """What a notebook of a series will see: its own defaults, those of `given` it lists, `run`.

    Raises: SettingError for a settings cell with an unknown name, or a value that does not fit.
    """
    given, values = {**given, "run": run}, parameters_of(notebook)
    try:
        checked = check_settings({name: given.get(name, value) for name, value in values.items()})
    except SettingError as wrong:
        raise SettingError(f"{notebook}: {wrong}") from None
    return {name: getattr(checked, name) for name in values}


def source_hash(notebook: str) -> str:
    """SHA-256 of the kind, text and tags of a notebook's cells, not of outputs; "" if missing."""
    path = notebook_path(notebook)
    if not path.exists():
        return ""
    # plain JSON: nbformat takes seconds to import, and every notebook's last cell comes by here
    said = []
    for cell in json.loads(path.read_text(encoding="utf-8")).get("cells", []):
        tags = cell.get("metadata", {}).get("tags", [])
        said.append([cell["cell_type"], "".join(cell["source"]), sorted(tags)])
    return sha256_json(said)


def command_for(run: str, settings: dict[str, Any], notebooks: str = "") -> str:
    """`slugkit run` as a shell takes it, with those of `settings` that are not the defaults."""
    words = ["slugkit", "run", "--run", run, *(["--notebooks", notebooks] if notebooks else [])]
    for name, value in settings.items():
        known = Settings.model_fields.get(name)
        if known and name != "run" and value != known.default:
            is_list = isinstance(value, list)
            words += ["-p", name, json.dumps(value, ensure_ascii=False) if is_list else str(value)]
    return shlex.join(words)


def call_for(notebook: str, settings: dict[str, Any], run: str) -> str:
    """The command that makes all that `notebook` leaves, with those of `settings` that count."""
    first = "01" if notebook[:2] >= "01" else "00"
    span = notebook[:2] if notebook[:2] == first else f"{first}-{notebook[:2]}"
    before = [name for name in list_notebooks() if first <= name[:2] <= notebook[:2]]
    listed = {setting for name in before for setting in parameters_of(name)} or set(settings)
    mine = {name: value for name, value in settings.items() if name in listed}
    return command_for(run, mine, span)
