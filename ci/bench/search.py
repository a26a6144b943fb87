"""One concept from loaded model to chosen patch: time and peak memory, beside the plain way, in the
same process.

Plain: for every probe, deep copy the model and evaluate everything. Fast: what the workbook does.
Same layers (the front of the first retain draw), probes, pictures, batch size and threads; the
winners and their lambdas must be the same. Run by
hand: python ci/bench/search.py [concept] [model]
"""

import os
import resource
import sys
from functools import partial
from pathlib import Path
from time import perf_counter

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "helpers"))
from plain_measure import PlainMeasure

from slugkit.data import open_data
from slugkit.method.layers import short
from slugkit.method.search import Criterion, winners
from slugkit.models import load_clip
from slugkit.unlearning.call import unlearn
from slugkit.unlearning.concept import search_along, search_layers
from slugkit.unlearning.gradients import forget_gradient
from slugkit.unlearning.result import front_layers

THREADS = int(os.environ.get("OMP_NUM_THREADS", 2))


def peak() -> float:
    """Peak resident memory of this process so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def slow_measure(clip, exam, layer: str) -> PlainMeasure:
    """The plain measure, the same for every layer."""
    return PlainMeasure(clip, exam)


def main() -> None:
    """Measure and print."""
    concept = sys.argv[1] if len(sys.argv) > 1 else "Mira Kestrel"
    torch.set_num_threads(THREADS)
    clip, source = (
        load_clip(sys.argv[2] if len(sys.argv) > 2 else "studio", "cpu"),
        open_data("studio"),
    )
    (
        source.exam(concept, "search"),
        source.forget_set(concept, 120),
        source.retain_set(concept, 2560),
    )  # drawn once, not timed
    print(f"{concept}, {THREADS} threads; peak memory with model and pictures {peak():.0f} MB")
    found = unlearn(clip, source, concept)
    fast = found.seconds["search"]
    print(
        f"gradients {found.seconds['gradients']:.1f} s, ranking {found.seconds['ranking']:.2f} s,"
        f" search {fast:.1f} s ({len(found.table)} probes on {found.table['layer'].nunique()}"
        f" layers); peak {peak():.0f} MB"
    )
    exam = source.exam(concept, "search")
    g_forget = forget_gradient(clip, source.forget_set(concept, 120))
    ratios = {}
    for tower in ("text", "vision"):
        layers = front_layers(found.layers, tower)
        timed = {}
        criterion = Criterion.among(len(exam.classes(exam.target_domain)))
        for way in ("fast", "plain"):
            started = perf_counter()
            if way == "fast":
                probes = search_layers(clip, exam, g_forget, layers, criterion)
            else:
                measure_of = partial(slow_measure, clip, exam)
                probes = search_along(clip, g_forget, layers, measure_of, criterion)
            timed[way] = (perf_counter() - started, winners(probes), len(probes))
        ratios[tower] = timed["plain"][0] / timed["fast"][0]
        best = [
            (short(w.iloc[0]["layer"]), round(w.iloc[0]["lam"], 6)) if len(w) else None
            for _, w, _ in timed.values()
        ]
        print(
            f"{tower}: fast {timed['fast'][0]:.1f} s, plain {timed['plain'][0]:.1f} s,"
            f" {ratios[tower]:.1f} times; probes {timed['fast'][2]} and {timed['plain'][2]}; winner"
            f" {best[0]} and {best[1]}: {'the same' if best[0] == best[1] else 'DIFFERENT'}"
        )
        ratios[tower + "_seconds"] = timed
    plain = sum(ratios[t + "_seconds"]["plain"][0] for t in ("text", "vision"))
    quick = sum(ratios[t + "_seconds"]["fast"][0] for t in ("text", "vision"))
    print(
        f"both towers: fast {quick:.1f} s, plain {plain:.1f} s, {plain / quick:.1f} times; peak"
        f" {peak():.0f} MB"
    )


if __name__ == "__main__":
    main()
