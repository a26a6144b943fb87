"""What every notebook begins with: its settings, its seed, the look of figures, its run folder."""

from dataclasses import replace
from typing import Any

import pandas as pd
from safetensors.torch import load_file

from slugkit.base import MissingArtefactError, seed_everything, write_parquet
from slugkit.data import load_pairs
from slugkit.models import Clip
from slugkit.patch import load, save
from slugkit.unlearning.result import Result, front_layers
from slugkit.unlearning.retain import RetainSide
from slugkit.workbook import plots
from slugkit.workbook.run.folder import Run, open_run
from slugkit.workbook.settings import Settings, read_settings


def start(namespace: dict[str, Any], notebook: str) -> tuple[Settings, Run]:
    """Read the settings cell, seed python, numpy and torch, set the figures' look, open the run.

    Args:
        namespace: the notebook's `globals()`.
        notebook: its name, such as "03_rank_layers".

    Returns: The settings, and the run folder as this notebook sees it.

    Raises: SettingError for a wrong setting, MissingArtefactError for a name of no notebook.
    """
    cfg = read_settings(namespace)
    seed_everything(cfg.seed)
    plots.use_style()
    return cfg, open_run(cfg, notebook)


def searched(cfg: Settings, run_folder: Run, whole: bool = False) -> Result:
    """What notebook 04 left in the run folder: the probes and the edits that it chose.

    The edit of the tower that `cfg` asks for comes first; where no step on it forgets there is only
    the other's, and that is said.

    Args:
        whole: with the ranked layers, the forget gradient and the costs, so that `sk.unlearn` takes
            it as `ranked`.

    Raises: MissingArtefactError where notebook 04 has not run, or no step on either tower forgets.
    """
    table = pd.read_parquet(run_folder.need("search.parquet"))
    have = set(table.loc[table["winner"], "tower"])
    towers = sorted(have, key=lambda tower: tower != cfg.tower)
    if not towers:
        raise MissingArtefactError(
            "No step on either tower made the model forget, so there is no patch to evaluate. Allow"
            " more probes in notebook 04."
        )
    if cfg.tower not in have:
        print(
            f"No step on the {cfg.tower} tower made the model forget, so all that follows is about"
            f" the edit of the {towers[0]} tower."
        )
    patches = {t: load(run_folder.need(f"patches/{t}.safetensors")) for t in towers}
    found = Result(cfg.concept, "SLUG", pd.DataFrame(), table, patches=patches)
    if whole:
        found.layers = pd.read_parquet(run_folder.need("layers.parquet"))
        stored = load_file(run_folder.need("gradients.safetensors"))
        mine = {k.removeprefix("forget/"): v for k, v in stored.items() if k.startswith("forget/")}
        found.g_forget = found.directions = mine
        found.searched = list(dict.fromkeys(table["layer"]))
        front = set(front_layers(found.layers))
        found.which = "front" if set(found.searched) <= front else "all"
        sets = run_folder.need("sets")
        pairs = sum(len(load_pairs(sets, name)) for name in ("forget", "retain"))
        found.costs = {"pairs": pairs, "probes": len(table)}
    return found


def retain_side(cfg: Settings, run_folder: Run, clip: Clip) -> RetainSide:
    """The retain side of the very pairs that notebook 01 left, for `sk.unlearn(shared=...)`."""
    pairs = load_pairs(run_folder.need("sets"), "retain")
    return RetainSide(clip, pairs, [cfg.concept], batch_size=cfg.batch_size, seed=cfg.seed)


def leave_search(run_folder: Run, name: str, found: Result) -> None:
    """Leave what a search on another model found, its probes and its one edit, for notebook 09.

    Args:
        name: the folder, "pictures" or "answers".
    """
    folder, (edit,) = run_folder.path(name), found.patches.values()
    write_parquet(folder / "search.parquet", found.table)
    save(edit, folder / "edit.safetensors")


def found_on(run_folder: Run, name: str, on_clip: Result) -> Result:
    """What `leave_search` left, with the gradient and the ranking of `on_clip`, so that
    `sk.unlearn` takes it as `ranked`.

    Raises MissingArtefactError where the notebook that leaves it has not run.
    """
    folder = run_folder.need(name)
    table, edit = pd.read_parquet(folder / "search.parquet"), load(folder / "edit.safetensors")
    family = {"pictures": "OnPipeline", "answers": "OnVlm"}[name]
    searched = list(dict.fromkeys(table["layer"]))
    found = {"table": table, "patches": {edit.tower: edit}, "searched": searched, "failed": {}}
    return replace(on_clip, family=family, costs={"probes": len(table)}, **found)
