"""Write data/expected/studio.json from the artefacts of a finished run of the defaults: python
ci/expected.py RUN_FOLDER

Only after the weights, the studio or the method changed on purpose; the diff belongs in the commit.
"""

import sys
from pathlib import Path

import pandas as pd
from safetensors.torch import load_file

from slugkit.base import data_dir, write_json
from slugkit.models import load_clip
from slugkit.unlearning.concept import score_layers

REASON = (
    "another CPU kind or thread count moves float32 sums of a few hundred gradients in the third"
    " digit at most"
)


def entry(value: float, share: float) -> dict:
    """A value with an absolute tolerance of `share` of it, and why."""
    return {"value": round(value, 8), "tolerance": round(abs(value) * share, 10), "reason": REASON}


def main(run: Path) -> None:
    """Read the run's gradients, score the layers, write the file."""
    stored = load_file(run / "gradients.safetensors")
    parts = [
        {k.removeprefix(p): v for k, v in stored.items() if k.startswith(p)}
        for p in ("forget/", "retain/")
    ]
    table: pd.DataFrame = score_layers(load_clip("studio", "cpu"), *parts)
    best = table.set_index("layer").loc[table.set_index("layer")["importance"].idxmax()]
    values = {
        "importance": entry(best["importance"], 0.01),
        "alignment": entry(best["alignment"], 0.05),
    }
    print(write_json(data_dir() / "expected" / "studio.json", {"03_rank_layers": values}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
