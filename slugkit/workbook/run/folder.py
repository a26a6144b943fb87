"""The run folder as a notebook sees it: what it needs, what it leaves, and that it is finished."""

import importlib.metadata
import platform
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from slugkit.base import (
    CheckFailed,
    MissingArtefactError,
    did_you_mean,
    looked_for,
    pick_device,
    root,
    run_folder,
    sha256_tree,
    usable_cpus,
    write_csv,
    write_json,
    write_parquet,
    write_tensors,
)
from slugkit.evaluate.statistics import COLUMNS, KEYS
from slugkit.workbook.run.manifest import Manifest, hash_of, used
from slugkit.workbook.run.stages import (
    ARTEFACTS,
    OPTIONAL,
    SERIES,
    artefact_of,
    list_notebooks,
    source_hash,
)
from slugkit.workbook.settings import Settings

STAGES = ("before", "after", "oracle")
LIBRARIES = (
    *("torch", "open_clip_torch", "transformers", "diffusers"),
    *("numpy", "pandas", "pyarrow", "pillow", "safetensors"),
)


def slugkit_hash() -> str:
    """SHA-256 of slugkit's own source (all .py files)."""
    return sha256_tree(Path(__file__).resolve().parents[2], "*.py")


def versions() -> dict[str, str]:
    """Versions of Python, slugkit and the libraries that numbers depend on, as far as they are
    installed.
    """
    from slugkit import __version__

    found = {"python": platform.python_version(), "slugkit": __version__}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str:
    """The repository's git commit, or "" where there is no git or no commit."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=root(), capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def peak_mb() -> int:
    """Peak resident memory of this process so far, in MB (10^6 bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6)


def machine(device: str) -> dict[str, Any]:
    """Where the numbers were made: device (auto resolved), threads of torch (CPUs to be had without
    torch), system.
    """
    threads = usable_cpus()
    torch = sys.modules.get("torch")
    if torch is not None:
        threads = torch.get_num_threads()
        if device == "auto":
            device = pick_device().type
    return {"device": device, "threads": threads, "system": platform.platform()}


class Run:
    """One notebook at work in one run folder.

    Made by `open_run`; `folder` is the run folder, `cfg` the settings.
    """

    def __init__(self, cfg: Settings, notebook: str):
        self.cfg = cfg
        self.notebook = notebook
        self.folder = run_folder(cfg.run)
        self.manifest = Manifest(self.folder)
        # read_settings sets exactly the names of the notebook's settings cell; settings built
        # otherwise count in full
        names = [name for name in Settings.names() if name in cfg.model_fields_set]
        self.settings = {name: getattr(cfg, name) for name in names or Settings.names()}
        self._inputs: dict[str, str] = {}
        self._outputs: dict[str, dict[str, Any]] = {}
        self._promised: list[str] = []
        self._uses: dict[str, dict[str, Any]] = {}
        self._began = False
        self._before = len(looked_for())
        self._started = time.monotonic()

    def _begin(self) -> None:
        if not self._began:
            self._began = True
            self.folder.mkdir(parents=True, exist_ok=True)
            self.manifest.begin(self.notebook, self.settings)

    def need(self, name: str) -> Path:
        """Path of an artefact that an earlier notebook left, such as "gradients.safetensors" or
        "sets/forget.parquet".

        Raises MissingArtefactError or StaleArtefactError; both name the notebook to run and the one
        command for it.
        """
        artefact = artefact_of(name)
        self._inputs[artefact] = self.manifest.require(name, self.settings)
        return self.folder / name.strip("/")

    def has(self, name: str) -> bool:
        """Whether `need(name)` would succeed. The answer is noted: where it would change, this
        stage is stale.
        """
        artefact = artefact_of(name)
        self._inputs[artefact] = self.manifest.sha_of(name, self.settings)
        return self._inputs[artefact] != ""

    def of_defaults(self) -> bool:
        """Whether this notebook and all before it in the run have the default settings (of run,
        device, workers and chunk whatever): expected values hold then.
        """
        stages = self.manifest.read()["stages"]
        before = [record["settings"] for name, record in stages.items() if name < self.notebook]
        known = {name: field.default for name, field in Settings.model_fields.items()}
        for name in ("run", "device", "workers", "chunk"):
            del known[name]
        return all(
            settings[name] == known[name]
            for settings in (*before, self.settings)
            for name in settings.keys() & known
        )

    def path(self, name: str) -> Path:
        """Path inside the run folder for a file or folder that this notebook is about to write;
        parents are made.

        A folder artefact ("sets") is emptied and made at the first call. What is written there
        counts as left at `finish`.
        """
        self._begin()
        name = name.strip("/")
        target = self.folder / name
        if not target.resolve().is_relative_to(self.folder.resolve()):
            raise MissingArtefactError(
                f"{name} lies outside the run folder; a path inside {self.folder} was expected."
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        if name not in self._promised:
            self._promised.append(name)
            if ARTEFACTS.get(name) == self.notebook and not Path(name).suffix:
                shutil.rmtree(target, ignore_errors=True)
                target.mkdir()
        return target

    def leave(self, name: str, obj: Any = None, csv: Any = None, says: str = "") -> Path:
        """Write `obj` into the run folder atomically and note its hash.

        Returns the path (of the PNG for a figure).

        A DataFrame becomes parquet, a dict of tensors safetensors, another dict or list JSON, a
        matplotlib figure figures/NAME.png and .svg (with `csv`, a DataFrame, figures/NAME.csv; with
        `says`, its description for the report). None or a Path: the file or folder `name` is there
        already and is only noted.
        """
        self._begin()
        if obj is None or isinstance(obj, Path):
            path = obj if isinstance(obj, Path) else self.folder / name.strip("/")
            if not path.exists():
                raise MissingArtefactError(
                    f"{path} is to be left but is not there; write it to run.path({name!r}) first."
                )
            return self._note(path)
        if hasattr(obj, "savefig"):
            return self._figure(name, obj, csv, says)
        if hasattr(obj, "to_parquet"):
            return self._note(write_parquet(self._target(name, ".parquet"), obj))
        values = obj.values() if isinstance(obj, dict) else ()
        if values and all(hasattr(value, "untyped_storage") for value in values):
            return self._note(write_tensors(self._target(name, ".safetensors"), obj))
        return self._note(write_json(self._target(name, ".json"), obj))

    def _target(self, name: str, suffix: str) -> Path:
        return self.path(name if name.endswith(suffix) else name + suffix)

    def _note(self, path: Path, says: str = "") -> Path:
        name = path.resolve().relative_to(self.folder.resolve()).as_posix()
        entry: dict[str, Any] = {"sha256": hash_of(path)}
        if says:
            entry["says"] = says
        self._outputs[name] = entry
        return path

    def _figure(self, name: str, figure: Any, csv: Any, says: str) -> Path:
        import matplotlib

        name = "figures/" + name.removeprefix("figures/").removesuffix(".png")
        with matplotlib.rc_context({"svg.hashsalt": "slugkit"}):
            figure.savefig(self.path(name + ".svg"), bbox_inches="tight", metadata={"Date": None})
        figure.savefig(self.path(name + ".png"), bbox_inches="tight", dpi=130)
        self._note(self.folder / (name + ".svg"))
        if csv is not None:
            self._note(write_csv(self.path(name + ".csv"), csv))
        return self._note(self.folder / (name + ".png"), says)

    def metrics(self, frame: Any) -> Path:
        """Write metrics/NN.parquet, this notebook's part of the run's one table.

        frame: the columns of `COLUMNS`.

        stage is before, after or oracle; value with low <= value <= high; n, the denominator, 1 or
        more.
        Raises CheckFailed where a column is missing or unknown or a row breaks these rules.
        """
        check_metrics(frame)
        path = self.path(f"metrics/{self.notebook[:2]}.parquet")
        return self._note(write_parquet(path, frame[COLUMNS]))

    def uses(self, path: str | Path) -> None:
        """Note a file or folder outside the run whose change makes this stage stale; one that is
        not there makes it stale when it comes.

        What slugkit looks for by itself since `open_run` (an oracle, a recipe's parts, tables of
        data/) is noted at `finish`: see `slugkit.base.look_for`.
        """
        path = Path(path).resolve()
        if str(path) not in self._uses:
            self._uses[str(path)] = used(path)

    def weights(self, path: str | Path) -> None:
        """Note the weights file of a model with the configuration and tokenizer beside it, or its
        folder; their change makes this stage stale.
        """
        path = Path(path)
        self.uses(path)
        for end in ("*.json", "*.txt") if path.is_file() else ():
            for beside in path.parent.glob(end):
                self.uses(beside)

    def finish(self) -> None:
        """Write this notebook into the manifest: only then is it done.

        Raises MissingArtefactError where something that this notebook is to leave was not written.
        """
        self._begin()
        for name in self._promised:
            path = self.folder / name
            if path.exists() and name not in self._outputs:
                self._note(path)
        for path in looked_for()[self._before :]:
            self.uses(path)
        owed = [name for name, stage in ARTEFACTS.items() if stage == self.notebook]
        missing = [name for name in owed if name not in (*self._outputs, *OPTIONAL)]
        if missing:
            raise MissingArtefactError(
                f"Notebook {self.notebook} is finishing without {missing[0]}, which others need."
            )
        self.manifest.put(self.notebook, self._record())

    def _record(self) -> dict[str, Any]:
        return {
            "settings": self.settings,
            "inputs": self._inputs,
            "outputs": self._outputs,
            "uses": self._uses,
            "notebook_source": source_hash(self.notebook),
            "slugkit_source": slugkit_hash(),
            "seconds": round(time.monotonic() - self._started, 1),
            "peak_mb": peak_mb(),
            "commit": commit(),
            "versions": versions(),
            **machine(self.cfg.device),
        }


def open_run(cfg: Settings, notebook: str) -> Run:
    """The run folder `runs/<cfg.run>` as `notebook` (such as "03_rank_layers") sees it.

    Nothing is written before the first `path`, `leave` or `finish`. Raises MissingArtefactError for
    a name that no notebook of the series has.
    """
    known = {*SERIES, *list_notebooks()}
    if notebook not in known:
        hint = did_you_mean(notebook, known) or "a name such as 03_rank_layers was expected."
        raise MissingArtefactError(f"There is no notebook {notebook} in the series: {hint}")
    return Run(cfg, notebook)


def check_metrics(frame: Any) -> None:
    """Raise CheckFailed unless `frame` is a metrics table: exactly the columns of `COLUMNS`, rows
    within their rules.
    """
    columns = list(frame.columns)
    missing = [name for name in COLUMNS if name not in columns]
    extra = [name for name in columns if name not in COLUMNS]
    if missing or extra:
        wrong = f"lacks {', '.join(missing)}"
        if not missing:
            wrong = f"has the unknown column {', '.join(extra)}"
        raise CheckFailed(f"The metrics table {wrong}; its columns are {', '.join(COLUMNS)}.")
    empty = [name for name in COLUMNS if frame[name].isna().any()]
    odd = sorted(set(frame["stage"].dropna()) - set(STAGES))
    value, low, high = (frame[name] for name in ("value", "low", "high"))
    inside = (low <= value + 1e-9) & (value <= high + 1e-9)
    faults = {
        "is empty; at least one row was expected": frame.empty,
        f"has an empty cell in column {''.join(empty[:1])}; fill it or drop the row": empty,
        f"has stage {''.join(odd[:1])!r}; before, after or oracle was expected": odd,
        "has a value outside its interval; low <= value <= high was expected": not inside.all(),
        "has a row with n below 1; the denominator was expected": not (frame["n"] >= 1).all(),
        "says the same thing twice; rows must differ in more than their value": (
            frame.duplicated(KEYS).any()
        ),
    }
    for what, wrong in faults.items():
        if wrong:
            raise CheckFailed(f"The metrics table {what}.")
