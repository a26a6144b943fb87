"""Run folders, their manifest, and the execution of the series."""

from slugkit.workbook.run.execute import run_series
from slugkit.workbook.run.folder import Run, open_run
