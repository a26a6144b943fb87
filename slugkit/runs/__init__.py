"""Run folders, their manifest, and the execution of the series."""

from slugkit.runs.execute import run_series
from slugkit.runs.folder import Run, open_run
