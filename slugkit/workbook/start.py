"""What every notebook begins with: its settings, its seed, the look of figures, its run folder."""

from typing import Any

from slugkit.base import seed_everything
from slugkit.workbook import plots
from slugkit.workbook.run.folder import Run, open_run
from slugkit.workbook.settings import Settings, read_settings


def start(namespace: dict[str, Any], notebook: str) -> tuple[Settings, Run]:
    """Read the settings cell, seed python, numpy and torch, set the figures' look, open the run.

    Args:
        namespace: the notebook's `globals()`.
        notebook: its name, such as "03_rank_layers".

    Returns:
        The settings, and the run folder as this notebook sees it.

    Raises:
        SettingError: a setting of another type, or out of range.
        MissingArtefactError: a name that no notebook of the series has.
    """
    cfg = read_settings(namespace)
    seed_everything(cfg.seed)
    plots.use_style()
    return cfg, open_run(cfg, notebook)
