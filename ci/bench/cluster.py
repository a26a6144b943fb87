"""What a task on Slurm costs beside the same work in one process, and what follows from it for many
concepts.

python ci/bench/cluster.py [--concepts 4] [--at-once 1] [--price 0]

price: of a task's hour, in whatever currency. Without a Slurm it says so and ends.
"""

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch

from slugkit.experiments.cluster import Cluster
from slugkit.experiments.sweep import opened, sweep

MANY, NODES = 1000, (1, 20, 100)
"""Concepts that are projected, on how many tasks at once."""


def seconds(work) -> float:
    """Wall-clock seconds of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    """Sweep the same concepts here and on Slurm: seconds a concept, and the projection."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--concepts", type=int, default=4)
    parser.add_argument("--at-once", type=int, default=1)
    parser.add_argument("--price", type=float, default=0.0)
    asked = parser.parse_args()
    if shutil.which("sbatch") is None:
        print("There is no Slurm here, so nothing was measured.")
        return
    torch.set_num_threads(1)
    loading = seconds(lambda: opened("studio", "studio"))
    concepts = opened("studio", "studio")[1].reported()[: asked.concepts]
    with tempfile.TemporaryDirectory(dir=".") as folder:
        plain, ours = Path(folder, "plain.csv"), Path(folder, "slurm.csv")
        cluster = Cluster(asked.at_once, poll=1.0)
        here = seconds(lambda: sweep(concepts, plain, towers=("text",))) / len(concepts)
        there = seconds(lambda: sweep(concepts, ours, towers=("text",), processes=cluster))
        timed = ["seconds", "peak_mb"]
        tables = [opened_table(path).drop(columns=timed) for path in (plain, ours)]
    task = there * asked.at_once / len(concepts)
    print(f"{len(concepts)} concepts, text tower, one thread; loading once {loading:.1f} s")
    print(f"here         {here:6.1f} s a concept")
    print(f"a task       {task:6.1f} s, {task - here:.1f} s more, {task / here:.2f} times as long")
    print(f"same tables, times and memory apart: {tables[0].equals(tables[1])}")
    for nodes in NODES:
        hours = MANY * task / 3600
        paid = f", {hours * asked.price:.0f} to pay" if asked.price else ""
        print(f"{MANY} such concepts, {nodes:3d} at once: {hours / nodes:6.2f} h{paid}")


def opened_table(path: Path):
    """A table as text, so that the same digits are the same."""
    import pandas as pd

    return pd.read_csv(path, dtype=str, keep_default_na=False)


if __name__ == "__main__":
    main()
