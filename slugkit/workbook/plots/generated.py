"""Figures about generated pictures: the same prompts and seeds before and after, and UA, IRA and
CRA.
"""

import numpy as np
import pandas as pd

from slugkit.base import ShapeError
from slugkit.workbook.plots.look import listing, need_columns, percent
from slugkit.workbook.plots.pictures import picture_grid
from slugkit.workbook.plots.results import results_bars


def before_after(rows: dict, prompts, what=None, answers: dict | None = None, title: str = ""):
    """One row of pictures for each state of the model, the same prompt and seed in every column.

    rows: state -> (N, H, W, 3) uint8, the unedited model first; prompts: N texts, printed under the
    first row; what: N words, columns with the same word get the same frame; answers: state -> N
    texts (or "") printed under the other rows, such as what the judge says. Returns (figure,
    description). Raises ShapeError for rows of different length.
    """
    counts = {state: len(pictures) for state, pictures in rows.items()}
    if set(counts.values()) != {len(prompts)}:
        raise ShapeError(
            f"The rows hold {listing(counts.values())} pictures for {len(prompts)} prompts; as many"
            " as prompts were expected in each."
        )
    labels = []
    for number, state in enumerate(rows):
        said = (answers or {}).get(state, [""] * len(prompts))
        told = [f"→ {answer}" if answer else "" for answer in said]
        labels += told if number else map(str, prompts)
    states = f"in {len(rows)} states of the model, row by row"
    if len(rows) == 1:
        states = "in one state of the model"
    says = f"The same {len(prompts)} prompts and seeds {states}: {listing(rows, 6)}. {title}"
    return picture_grid(
        np.concatenate(list(rows.values())),
        labels,
        columns=len(prompts),
        title=title,
        row_labels=list(rows),
        borders=None if what is None else list(what) * len(rows),
        zoom=2,
        says=says.strip(),
    )


def step_strip(rows: dict, rhos, answers: dict | None = None, title: str = ""):
    """Some prompts, each with one seed, over growing steps: one row a prompt, one column a step.

    rows: prompt -> (S, H, W, 3) uint8; rhos: S relative steps; answers: prompt -> S texts. Returns
    (figure, description).
    Raises ShapeError for a row of another length.
    """
    for prompt, pictures in rows.items():
        if len(pictures) != len(rhos):
            raise ShapeError(
                f"The row of {prompt!r} holds {len(pictures)} pictures for {len(rhos)} steps; one"
                " each was expected."
            )
    labels = []
    for prompt in rows:
        said = [f"\n{answer}" for answer in answers[prompt]] if answers else [""] * len(rhos)
        labels += [f"ρ = {percent(rho)}{answer}" for rho, answer in zip(rhos, said, strict=True)]
    says = (
        f"{len(rows)} prompts, one seed each, over relative steps from {percent(min(rhos))} to"
        f" {percent(max(rhos))}. {title}".strip()
    )
    return picture_grid(
        np.concatenate(list(rows.values())),
        labels,
        columns=len(rhos),
        title=title,
        row_labels=list(rows),
        says=says,
    )


def unlearning_bars(metrics: pd.DataFrame):
    """UA, IRA and CRA before and after each edit, with 95 % intervals and denominators; higher is
    better everywhere.

    metrics: rows with metric UA, IRA or CRA of one concept (columns stage, method, group, metric,
    value 0..1, low, high, n).
    Returns (figure, description). Raises SettingError for a table without them.
    """
    need_columns(metrics, ["stage", "group", "metric", "value", "low", "high", "n"], "metrics")
    kept = metrics[metrics["metric"].isin(["UA", "IRA", "CRA"])]
    alone = kept["group"].isin(["target", "all"])
    named = kept.assign(group=kept["metric"].where(alone, kept["metric"] + " " + kept["group"]))
    after = named[named["stage"] == "after"]
    parts = []
    for method, mine in after.groupby("method", sort=False):
        value = mine.drop_duplicates("group").set_index("group")["value"]
        ira = mine.loc[mine["metric"] == "IRA", "value"].iloc[0]
        shares = {"UA": value["UA"], "IRA": ira, "CRA": value["CRA"]}
        said = ", ".join(f"{metric} {percent(share)}" for metric, share in shares.items())
        parts.append(f"{method}: {said}")
    return results_bars(named, label="share (%)", title="; ".join(parts))
