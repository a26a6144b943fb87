"""The notebooks around the method: settings, runs, figures, teaching, the command line."""


def main() -> None:
    """The command `slugkit`: says what is to be installed where its packages are missing."""
    import sys

    from slugkit.base import OldPackageError, require_extra

    try:
        require_extra("workbook", "The command line")
    except OldPackageError as missing:
        sys.exit(str(missing))
    from slugkit.workbook.cli import main as run

    run()
