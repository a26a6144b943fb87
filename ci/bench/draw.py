"""How long a generated picture takes: batched against one by one, and a second time from the cache.

python ci/bench/draw.py [--pictures 32] [--threads 2]
"""

import argparse
import os
import tempfile
import time

import torch

from slugkit import studio
from slugkit.evaluation.diffusion import drawn_prompts
from slugkit.models.diffusion import GUIDANCE, STEPS, load_pipeline
from slugkit.tasks.prompts import answer_set


def seconds(work) -> float:
    """Wall-clock seconds of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    """Draw the same prompts three ways and print seconds per picture and ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    table = answer_set(studio.load_world(), "Mira Kestrel", "search").head(asked.pictures)
    pipe = load_pipeline("studio", "cpu")
    drawn_prompts(pipe, table.head(2).assign(seed=[1, 2]))  # warm up
    with tempfile.TemporaryDirectory() as cache:
        os.environ["SLUGKIT_CACHE"] = cache
        batched = seconds(lambda: drawn_prompts(pipe, table))
        again = seconds(lambda: drawn_prompts(pipe, table))
    with tempfile.TemporaryDirectory() as cache:
        os.environ["SLUGKIT_CACHE"] = cache
        single = seconds(lambda: drawn_prompts(pipe, table, batch_size=1))
    n = len(table)
    print(f"{n} pictures, {STEPS} steps, guidance {GUIDANCE}, {asked.threads} threads")
    print(f"one by one   {single / n:.3f} s a picture")
    print(f"in batches   {batched / n:.3f} s a picture, {single / batched:.1f} times faster")
    print(f"from cache   {again / n:.4f} s a picture, {single / again:.0f} times faster")


if __name__ == "__main__":
    main()
