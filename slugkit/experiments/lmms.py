"""MME, GQA and MMBench at paper scale: the command for lmms-eval in an environment of its own, and
its results read back in.

lmms-eval (https://github.com/EvolvingLMMs-Lab/lmms-eval, 0.7) pins other libraries than the
workbook does, so it never enters the workbook's environment: save the model before and after the
edit, run it there on both folders, compare the two files here.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pandas as pd

from slugkit.base import MissingArtefactError, SettingError

TASKS = ("mme", "gqa", "mmbench_en_dev_static")
"""What the paper measures utility with; the static MMBench needs no judge behind an interface."""
IN_WORDS = {
    "mme_perception_score": "MME perception (0 to 2000)",
    "mme_cognition_score": "MME cognition (0 to 800)",
    "exact_match": "GQA exact match (0 to 1)",
    "gpt_eval_score": "MMBench accuracy (0 to 100)",
}


def command(model: str | Path, out: str | Path, tasks: tuple[str, ...] = TASKS) -> str:
    """The shell line that runs the batteries on a LLaVA-1.5 or LLaVA-NeXT (llava_hf knows no
    VipLLaVA). model: a folder as `save_pretrained` writes it, or a hub id. out: folder for results.
    """
    return (
        f"python -m lmms_eval --model llava_hf --model_args {shlex.quote(f'pretrained={model}')}"
        f" --tasks {','.join(tasks)} --batch_size 1 --output_path {shlex.quote(str(out))}"
    )


def read_results(path: str | Path) -> pd.DataFrame:
    """The scores in a results file, or in the newest of an output folder: columns task, metric,
    value (in the battery's own unit), stderr (NaN where none), n (questions). Raises
    MissingArtefactError, SettingError.
    """
    inside = sorted(Path(path).rglob("*results.json"), key=lambda file: file.name)
    file = Path(path) if Path(path).is_file() else inside[-1] if inside else None
    if file is None:
        raise MissingArtefactError(
            f"There is no results file of lmms-eval under {path}; one named DATE_results.json was"
            f" expected. Run:\n{command('MODEL', path)}"
        )
    try:
        whole = json.loads(file.read_text(encoding="utf-8"))
        results, counts = whole["results"], whole["n-samples"]
        rows = []
        for task, found in results.items():
            for key, value in found.items():
                name, _, filtered = key.partition(",")
                if filtered and "_stderr" not in key and isinstance(value, (int, float)):
                    stderr, n = found.get(f"{name}_stderr,{filtered}"), counts[task]["effective"]
                    rows.append((task, IN_WORDS.get(name, name), float(value), stderr, int(n)))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SettingError(
            f"{file.name} is no results file of lmms-eval ({type(error).__name__}: {error}); a JSON"
            " file with `results` and `n-samples` was expected."
        ) from error
    table = pd.DataFrame(rows, columns=["task", "metric", "value", "stderr", "n"])
    return table.assign(stderr=pd.to_numeric(table["stderr"], errors="coerce"))


def compared(before: str | Path, after: str | Path) -> pd.DataFrame:
    """Both results side by side: columns task, metric, before, after, change, n."""
    old, new = (read_results(path) for path in (before, after))
    old = old.rename(columns={"value": "before"})[["task", "metric", "before"]]
    both = old.merge(new.rename(columns={"value": "after"}), on=["task", "metric"])
    both["change"] = both["after"] - both["before"]
    return both[["task", "metric", "before", "after", "change", "n"]]
