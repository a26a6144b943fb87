"""For pytest and nbval: one thread for each process, and stderr of a notebook (progress bars,
warnings with paths) is never compared.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def pytest_collectstart(collector):
    """Add stderr to what nbval leaves out of its comparison; covers copies of notebooks under runs/
    too.
    """
    if getattr(collector, "skip_compare", None) is not None:
        collector.skip_compare += ("stderr",)
