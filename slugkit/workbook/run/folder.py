"""The run folder as a notebook sees it: what it needs and leaves, and that it is finished."""

import importlib.metadata
import platform
import resource
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from slugkit import __version__
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
    write_parquet,
)
from slugkit.evaluation.statistics import COLUMNS, KEYS
from slugkit.workbook.run import stages
from slugkit.workbook.run.manifest import Manifest, hash_of, used
from slugkit.workbook.settings import Settings

STAGES = ("before", "after", "oracle")
LIBRARIES = (
    *("torch", "open_clip_torch", "transformers", "diffusers"),
    *("numpy", "pandas", "pyarrow", "pillow", "safetensors"),
)
ANYHOW = ("run", "device", "workers", "chunk")
"""Settings that change no number."""


def slugkit_hash() -> str:
    """SHA-256 of slugkit's own source (all .py files)."""
    return sha256_tree(Path(__file__).resolve().parents[2], "*.py")


def machine(device: str) -> dict[str, Any]:
    """Where numbers are made: device (auto resolved once torch is loaded), threads, system."""
    threads = usable_cpus()
    if torch := sys.modules.get("torch"):
        threads = torch.get_num_threads()
        device = pick_device().type if device == "auto" else device
    return {"device": device, "threads": threads, "system": platform.platform()}


def provenance(device: str) -> dict[str, Any]:
    """By which code and where numbers are made: git's commit, "" without one, versions, machine."""
    commit, versions = "", {"python": platform.python_version(), "slugkit": __version__}
    for name in LIBRARIES:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    how = {"cwd": root(), "capture_output": True, "text": True, "timeout": 10, "check": True}
    with suppress(OSError, subprocess.SubprocessError):
        commit = subprocess.run(["git", "rev-parse", "HEAD"], **how).stdout.strip()
    return {"commit": commit, "versions": versions, **machine(device)}


class Run:
    """One notebook at work in the run folder `folder` with the settings `cfg`; see `open_run`."""

    def __init__(self, cfg: Settings, notebook: str):
        self.cfg, self.notebook = cfg, notebook
        self.folder = run_folder(cfg.run)
        self.manifest = Manifest(self.folder)
        # read_settings sets exactly the names of the notebook's settings cell; settings built
        # otherwise count in full
        self.settings = cfg.model_dump(include=cfg.model_fields_set or None)
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
            self.manifest.begin(self.notebook, self.settings)

    def need(self, name: str) -> Path:
        """Path of an artefact that an earlier notebook left, such as "sets/forget.parquet".

        Raises: MissingArtefactError or StaleArtefactError, with the one command that makes it.
        """
        artefact = stages.artefact_of(name)
        maker = stages.maker(artefact)
        if maker not in stages.waits_for(self.notebook):
            raise MissingArtefactError(
                f"Notebook {self.notebook} asks for {name}, which notebook {maker} leaves, and"
                " does not wait for it; list it in slugkit.workbook.run.stages.READS."
            )
        self._inputs[artefact] = self.manifest.require(name, self.settings)
        return self.folder / name.strip("/")

    def of_defaults(self) -> bool:
        """Whether this notebook and all before it have the defaults, so expected values hold."""
        finished = self.manifest.read()["stages"].items()
        before = [record["settings"] for name, record in finished if name < self.notebook]
        return all(
            value == Settings.model_fields[name].default
            for settings in (*before, self.settings)
            for name, value in settings.items()
            if name in Settings.model_fields and name not in ANYHOW
        )

    def path(self, name: str) -> Path:
        """Path in the run folder for what this notebook is about to write; parents are made.

        A folder artefact ("sets") is emptied at the first call. What is written there counts as
        left at `finish`.
        """
        self._begin()
        name = name.strip("/")
        target = self.folder / name
        if not target.resolve().is_relative_to(self.folder.resolve()):
            raise MissingArtefactError(f"{name} lies outside the run folder {self.folder}.")
        target.parent.mkdir(parents=True, exist_ok=True)
        if name not in self._promised:
            self._promised.append(name)
            if stages.ARTEFACTS.get(name) == self.notebook and not target.suffix:
                shutil.rmtree(target, ignore_errors=True)
                target.mkdir()
        return target

    def leave(self, name: str, obj: Any = None, csv: Any = None, says: str = "") -> Path:
        """Write `obj` into the run folder atomically and note its hash; returns the path.

        Args:
            obj: a DataFrame becomes parquet, a matplotlib figure figures/NAME.png and .svg. None:
                it was written to `path(name)`.
            csv: a DataFrame for figures/NAME.csv.
            says: the figure's description for the report.
        """
        self._begin()
        if obj is None:
            path = self.folder / name.strip("/")
            if not path.exists():
                raise MissingArtefactError(
                    f"{path} is to be left but is not there; write it to run.path({name!r}) first."
                )
            return self._note(path)
        if hasattr(obj, "savefig"):
            return self._figure(name, obj, csv, says)
        return self._note(write_parquet(self.path(name.removesuffix(".parquet") + ".parquet"), obj))

    def _note(self, path: Path, says: str = "") -> Path:
        name = path.resolve().relative_to(self.folder.resolve()).as_posix()
        self._outputs[name] = {"sha256": hash_of(path)} | ({"says": says} if says else {})
        return path

    def _figure(self, name: str, figure: Any, csv: Any, says: str) -> Path:
        import matplotlib

        name = "figures/" + name.removeprefix("figures/").removesuffix(".png")
        svg, png = self.path(name + ".svg"), self.path(name + ".png")
        with matplotlib.rc_context({"svg.hashsalt": "slugkit"}):
            figure.savefig(svg, bbox_inches="tight", metadata={"Date": None})
        figure.savefig(png, bbox_inches="tight", dpi=130)
        self._note(svg)
        if csv is not None:
            self._note(write_csv(self.path(name + ".csv"), csv))
        return self._note(png, says)

    def metrics(self, frame: Any) -> Path:
        """Write metrics/NN.parquet, this notebook's part of the run's one table.

        Raises: CheckFailed for a table that breaks the rules of `check_metrics`.
        """
        check_metrics(frame)
        path = self.path(f"metrics/{self.notebook[:2]}.parquet")
        return self._note(write_parquet(path, frame[COLUMNS]))

    def uses(self, *things: Any) -> None:
        """Note what lies outside the run and makes this stage stale when it changes, or comes.

        What slugkit looks for by itself since `open_run` is noted at `finish`: see `look_for`.

        Args:
            things: paths, sources of data, and loaded models (CLIP, pipeline, LLaVA, judge), of
                which the weights count, with configuration and tokenizer.
        """
        for thing in things:
            if isinstance(thing, str | Path):
                self._use(Path(thing))
            elif hasattr(thing, "looked"):
                self._use(thing.path)
            elif (place := _weights_of(thing)) is not None:
                self._use(place)
                for end in ("*.json", "*.txt") if place.is_file() else ():
                    for beside in place.parent.glob(end):
                        self._use(beside)

    def _use(self, path: Path) -> None:
        path = path.resolve()
        if str(path) not in self._uses:
            self._uses[str(path)] = used(path)

    def finish(self) -> None:
        """Write this notebook into the manifest: only then is it done.

        Raises: MissingArtefactError where something that this notebook is to leave is missing.
        """
        self._begin()
        for name in self._promised:
            if (self.folder / name).exists() and name not in self._outputs:
                self._note(self.folder / name)
        for path in looked_for()[self._before :]:
            self._use(Path(path))
        for name, maker in stages.ARTEFACTS.items():
            if maker == self.notebook and name not in (*self._outputs, *stages.OPTIONAL):
                raise MissingArtefactError(
                    f"Notebook {maker} is finishing without {name}, which others need."
                )
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        record = {
            "settings": self.settings,
            "inputs": self._inputs,
            "outputs": self._outputs,
            "uses": self._uses,
            "notebook_source": stages.source_hash(self.notebook),
            "slugkit_source": slugkit_hash(),
            "seconds": round(time.monotonic() - self._started, 1),
            "peak_mb": round((peak if sys.platform == "darwin" else peak * 1024) / 1e6),
        }
        self.manifest.put(self.notebook, record | provenance(self.cfg.device))


def open_run(cfg: Settings, notebook: str) -> Run:
    """The run folder `runs/<cfg.run>` as `notebook` (such as "03_rank_layers") sees it.

    Nothing is written before the first `path`, `leave` or `finish`.

    Raises: MissingArtefactError for a name that no notebook of the series has.
    """
    known = {*stages.SERIES, *stages.list_notebooks()}
    if notebook not in known:
        hint = did_you_mean(notebook, known) or "a name such as 03_rank_layers was expected."
        raise MissingArtefactError(f"There is no notebook {notebook} in the series: {hint}")
    return Run(cfg, notebook)


def _weights_of(model: Any) -> Path | None:
    """Where the weights of a loaded model lie on this machine; None for a hub's cache."""
    if hasattr(model, "weights"):
        return model.weights
    config = getattr(getattr(model, "model", model), "config", {})
    name = getattr(config, "_name_or_path", None) or dict(config).get("_name_or_path")
    return Path(name) if name and Path(name).is_dir() else None


def check_metrics(frame: Any) -> None:
    """Raise CheckFailed unless `frame` has exactly the columns of `COLUMNS` and sound rows."""
    if wrong := set(COLUMNS).symmetric_difference(frame):
        missing, extra = sorted(wrong & set(COLUMNS)), sorted(wrong - set(COLUMNS))
        lacks = f"lacks {', '.join(missing)}" if missing else f"has the unknown column {extra[0]}"
        raise CheckFailed(f"The metrics table {lacks}; its columns are {', '.join(COLUMNS)}.")
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
