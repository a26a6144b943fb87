"""For pytest and nbval: one thread for each process, and stderr of a notebook (progress bars, warnings with paths) is never compared."""

import os

for name, value in {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}.items():  # before torch is loaded
    os.environ.setdefault(name, value)


def pytest_collectstart(collector):
    """Add stderr to what nbval leaves out of its comparison; covers copies of notebooks under runs/ too."""
    if getattr(collector, "skip_compare", None) is not None:
        collector.skip_compare += ("stderr",)
