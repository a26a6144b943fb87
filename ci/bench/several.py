"""The second concept beside the first: the retain side is computed once and serves both.

Run by hand: python ci/bench/several.py [model]. Prints the seconds of each part for the first and
the second concept (pictures are drawn before the clock starts), and their ratio.
"""

import os
import sys
from time import perf_counter

import torch

from slugkit.data import open_data
from slugkit.models import load_clip
from slugkit.unlearning.call import unlearn
from slugkit.unlearning.retain import RetainSide

THREADS = int(os.environ.get("OMP_NUM_THREADS", 2))
CONCEPTS = ["Mira Kestrel", "Kofi Okoye"]


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(THREADS)
    clip = load_clip(sys.argv[1] if len(sys.argv) > 1 else "studio", "cpu")
    source = open_data("studio", *clip.inputs)
    for concept in CONCEPTS:
        source.exam(concept, "search"), source.forget_set(concept, 120)
    for towers in (("text",), ("text", "vision")):
        shared, seconds = RetainSide(clip, source, CONCEPTS), []
        for concept in CONCEPTS:
            started = perf_counter()
            found = unlearn(clip, source, concept, shared=shared, towers=towers)
            seconds.append(perf_counter() - started)
            parts = ", ".join(f"{part} {value:.1f} s" for part, value in found.seconds.items())
            print(
                f"{' and '.join(towers)}, {THREADS} threads, {concept}: {seconds[-1]:.1f} s "
                f"({parts}; {found.costs['probes']} probes, {found.costs['pairs']} pairs)",
                flush=True,
            )
        print(f"the second concept costs {100 * seconds[1] / seconds[0]:.0f} % of the first")


if __name__ == "__main__":
    main()
