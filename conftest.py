"""For pytest and nbval: stderr of a notebook (progress bars, warnings with paths) is never compared."""


def pytest_collectstart(collector):
    """Add stderr to what nbval leaves out of its comparison; covers copies of notebooks under runs/ too."""
    if getattr(collector, "skip_compare", None) is not None:
        collector.skip_compare += ("stderr",)
