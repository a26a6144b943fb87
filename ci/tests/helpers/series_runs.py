"""Runs of a series within a test, and the command line that a test starts."""

from slugkit.workbook.run import execute

# Other tests of the same checkout may edit slugkit meanwhile; here its source stays as it is.
CLI = (
    "import slugkit.workbook.run.execute as e; e.slugkit_hash = lambda: 'as it is'\n"
    "from slugkit.workbook.cli import main; main()"
)


def go(notebooks=None, given=None, **more):
    """Run the series quietly; returns the states and the lines it said."""
    lines = []
    rows = execute.run_series("workbook", notebooks, given, echo=lines.append, **more)
    assert execute.table(rows).splitlines()[-1].startswith("together")
    return [row["state"] for row in rows], lines
