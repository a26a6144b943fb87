"""The page of a run: findings first, then results, figures, executed notebooks and their cost."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from slugkit.base import MissingArtefactError, run_folder, write_parquet, write_text
from slugkit.workbook.run.manifest import Manifest
from slugkit.workbook.run.pages import TEMPLATES, convert
from slugkit.workbook.run.stages import command_for, read_notebook

STAGE_TITLES = {"before": "before", "after": "after the edit", "oracle": "never saw it (oracle)"}
NO_SHARES = {"text-image cosine"}
"""Metrics that may lie in 0..1 and are no share of pictures."""
FAMILIES = {"clip": "CLIP", "diffusion": "generated pictures", "vlm": "answers about pictures"}
HEROES = ("before_after_0", "dialogue_0", "first_result")
"""Figures for the first screen, the best first."""
NOTHING_YET = "No notebook of this run has measured the target before and after the edit yet."
EDIT = ["family", "model", "concept", "method"]
GROUP_ORDER = ("target", "neighbours", "people", "characters", "objects", "styles", "novel")


def _read(path: Path) -> Any:
    import pandas

    return pandas.read_parquet(path)


def _joined_metrics(folder: Path, stages: dict[str, Any]) -> Any:
    """All metrics/NN.parquet of the finished notebooks as one DataFrame; None without any."""
    import pandas

    left = [folder / name for record in stages.values() for name in record["outputs"]]
    parts = sorted(path for path in left if path.parent.name == "metrics" and path.exists())
    if not parts:
        return None
    joined = pandas.concat(map(_read, parts), ignore_index=True)
    keys = joined.columns.drop(["value", "low", "high", "n"]).tolist()
    return joined.drop_duplicates(keys, keep="last", ignore_index=True)


def _of_the_page(frame: Any) -> Any:
    """Of the metrics what the page shows: means over wordings, and the target's worst wording."""
    worst = (frame["wording"] == "worst") & (frame["group"] == "target")
    kept = frame[frame["wording"].isin(["", "mean"]) | worst]
    named = kept["metric"] + ", worst wording"
    return kept.assign(metric=kept["metric"].where(kept["wording"] != "worst", named))


def per_method(frame: Any) -> Any:
    """The metrics with the rows before the edit and of the oracle repeated for every method.

    A method's own rows count before those of another. Families keep their order; within one,
    methods of later notebooks come first. A frame without an edited row comes back as it is.
    """
    import pandas

    blocks, families = [], frame["family"].unique().tolist()
    for (family, *_), block in frame.groupby(["family", "model", "concept", "split"], sort=False):
        after, shared = block[block["stage"] == "after"], block[block["stage"] != "after"]
        for method, edited in after.groupby("method", sort=False):
            own_first = shared.iloc[(shared["method"] != method).to_numpy().argsort(kind="stable")]
            unedited = own_first.drop_duplicates(["stage", "group", "metric"])
            whole = pandas.concat([unedited.assign(method=method), edited])
            blocks.append((families.index(family), -edited.index.max(), whole))
    if not blocks:
        return frame
    blocks.sort(key=lambda found: found[:2])
    return pandas.concat([block for *_, block in blocks], ignore_index=True)


def _is_share(rows: Any) -> bool:
    within = (rows["low"] >= 0) & (rows["high"] <= 1)
    return bool(within.all()) and not set(rows["metric"]) & NO_SHARES


def _number(value: float, share: bool) -> str:
    return f"{100 * value:.1f} %" if share else f"{value:.3g}"


def _edits(frame: Any) -> Iterator[tuple[Any, str, str, dict[str, str], str]]:
    """Each edit whose target was measured before and after: its row before, both values, what
    became of the others by group, and the group that lost most ("" where none lost).

    All edits are told in the first one's metric, and shares beside a share: a mean cosine is none.
    """
    report, metric = frame["split"] == "report", None
    for _, edit in (frame[report] if report.any() else frame).groupby(EDIT, sort=False):
        rows = edit[edit["group"] == "target"]
        rows = rows[rows["metric"].isin([metric] if metric else rows["metric"].head(1))]
        if (change := _change(rows)) is None:
            continue
        share, metric = _is_share(rows), rows["metric"].iloc[0]
        before, after = (_number(value, share) for value in change)
        others, lost = {}, {}
        for group, found in _groups(edit).items():
            alike = found[found["metric"] == found["metric"].iloc[0]]
            other = _change(alike)
            if group != "target" and other and _is_share(alike) == share:
                others[group] = " to ".join(_number(value, share) for value in other)
                if group != "worst target" and other[0] > other[1]:
                    lost[group] = other[0] - other[1]
        yield rows.iloc[0], before, after, others, max(lost, key=lost.get, default="")


def finding(frame: Any) -> str:
    """What the metrics say: the target before and after, what became of the others, other edits."""
    said = []
    for one, before, after, others, most in _edits(frame):
        if said:
            cost = f", {most} {others[most]}" if most else ""
            said.append(f"{one['method']}: {after}{cost}.")
            continue
        family = FAMILIES.get(one["family"], one["family"])
        groups = ", ".join(f"{group} {change}" for group, change in others.items())
        said.append(
            f"{one['concept']} ({family}; {one['method']}): {one['metric']} went from {before} to"
            f" {after}{'; ' if groups else ''}{groups}."
        )
    if said[1:]:
        said.insert(1, "With the other edits, and what lost most:")
    return " ".join(said) or NOTHING_YET


def _first_screen(
    folder: Path, figures: dict[str, list[dict[str, Any]]], whole: Any
) -> tuple[dict[str, Any] | None, str]:
    """The picture of the first screen, and one sentence: what the notebook that drew it measured of
    its first concept, or else what any notebook of the run measured.
    """
    drawn = {
        Path(one["stem"]).name: (notebook, one)
        for notebook, of_one in figures.items()
        for one in of_one
    }
    hero = next((name for name in HEROES if name in drawn), None)
    if hero is None:
        return None, _lead(whole)
    notebook, shown = drawn[hero]
    path = folder / "metrics" / f"{notebook[:2]}.parquet"
    if not path.exists():
        return shown, _lead(whole)
    own = _of_the_page(_read(path))
    return shown, _lead(per_method(own[own["concept"] == own["concept"].iloc[0]]))


def _lead(frame: Any) -> str:
    """The first edit of the metrics in one sentence: its target, and what lost most with it."""
    if frame is None:
        return NOTHING_YET
    for one, before, after, others, most in _edits(frame):
        cost = "; no other group lost" if others else ""
        cost = f"; what lost most with it: {most}, {others[most]}" if most else cost
        change = f"{one['metric']} went from {before} to {after}"
        return f"{one['concept']}: {change} ({one['method']}){cost}."
    return NOTHING_YET


def _change(rows: Any) -> tuple[float, float] | None:
    """The values before and after the edit, where both were measured."""
    values = rows.drop_duplicates("stage").set_index("stage")["value"]
    measured = "before" in values and "after" in values
    return (values["before"], values["after"]) if measured else None


def _groups(frame: Any) -> dict[str, Any]:
    """Group -> its rows, in the order of the page."""
    found = dict(list(frame.groupby("group", sort=False)))
    return {name: found[name] for name in dict.fromkeys((*GROUP_ORDER, *found)) if name in found}


def _tables(frame: Any) -> list[dict[str, Any]]:
    """What `results.html.j2` shows: one table per family, model, concept, method and split."""
    tables, names = [], [*EDIT, "split"]
    shares = {metric: _is_share(rows) for metric, rows in frame.groupby("metric")}
    for key, block in frame.groupby(names, sort=False):
        lines = []
        for group, of_group in _groups(block).items():
            for metric, rows in of_group.groupby("metric", sort=False):
                cells = {stage: _cell(rows, stage, shares[metric]) for stage in STAGE_TITLES}
                lines.append({"group": group, "metric": metric, "cells": cells})
        tables.append({**dict(zip(names, key)), "lines": lines})
    return tables


def _cell(rows: Any, stage: str, share: bool) -> tuple[str, str]:
    """A value and what stands small below it."""
    found = rows[rows["stage"] == stage]
    if found.empty:
        return ("", "none trained") if stage == "oracle" else ("-", "")
    row = found.iloc[0]
    value, low, high = (_number(row[name], share) for name in ("value", "low", "high"))
    bounds = f"{low} to {high}, " if row["low"] != row["high"] else ""
    return value, f"{bounds}n = {int(row['n'])}"


def _render(template: str, **values: Any) -> str:
    import jinja2

    loader = jinja2.FileSystemLoader(TEMPLATES)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(template).render(titles=STAGE_TITLES, **values)


def _figures(stages: dict[str, Any], folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Notebook -> its figures: name without suffix, description, other forms there are."""
    found: dict[str, list[dict[str, Any]]] = {}
    for notebook, record in stages.items():
        for name, entry in record["outputs"].items():
            path = folder / name
            if path.parent.name == "figures" and path.suffix == ".png" and path.exists():
                forms = [form for form in ("svg", "csv") if path.with_suffix(f".{form}").exists()]
                says = entry.get("says") or f"figure {path.stem} of notebook {notebook}"
                drawn = {"stem": f"figures/{path.stem}", "says": says, "forms": forms}
                found.setdefault(notebook, []).append(drawn)
    return found


def _families(whole: Any) -> list[dict[str, Any]]:
    """Family by family: its name, concepts, what was found, tables."""
    found = []
    for family, rows in whole.groupby("family", sort=False):
        of_concepts = rows.groupby("concept", sort=False)
        told = [finding(part) for _, part in of_concepts]
        told = [text for text in told if text != NOTHING_YET]  # measured after an edit alone
        found.append(
            {
                "name": FAMILIES.get(family, family),
                "concepts": ", ".join(of_concepts.groups),
                "findings": told or [NOTHING_YET],
                "tables": _tables(rows),
            }
        )
    return found


def _title_and_question(notebook: Path) -> tuple[str, str]:
    """Heading and question of an executed notebook, of its first cell."""
    first = read_notebook(notebook).cells[0].source.splitlines()
    heading = next((line.lstrip("# ") for line in first if line.startswith("# ")), notebook.stem)
    question = next((line.lstrip("> ") for line in first if line.startswith(">")), "")
    return heading.split("·", 1)[-1].strip(), question


def build(run: str) -> Path:
    """Write metrics.parquet, a page per executed notebook and index.html into `runs/<run>`.

    Returns: The page, after printing where it is.

    Raises: MissingArtefactError where no notebook of the run has finished.
    """
    folder = run_folder(run)
    manifest = Manifest(folder)
    stages = manifest.read()["stages"]
    if not stages:
        advice = f"Run `{command_for(run, manifest.parameters({}))}`."
        raise MissingArtefactError(f"Run {run} is empty: there is nothing to report. {advice}")
    families, whole, frame = [], None, _joined_metrics(folder, stages)
    if frame is not None:
        write_parquet(folder / "metrics.parquet", frame)
        whole = per_method(_of_the_page(frame))
        families = _families(whole)
    settings: dict[str, Any] = {}
    for notebook, record in stages.items():
        settings.update(record["settings"])
        record["title"], record["question"] = notebook, ""
        if (copy := folder / f"{notebook}.ipynb").exists():
            record["title"], record["question"] = _title_and_question(copy)
            record["page"] = convert(copy, folder / f"{notebook}.html").name
    figures = _figures(stages, folder)
    hero, lead = _first_screen(folder, figures, whole)
    page = _render(
        "index.html.j2",
        run=run,
        title=f"Forgetting {settings.get('concept', 'a concept')}",
        hero=hero,
        lead=lead,
        families=families,
        figures=figures,
        stages=stages,
        settings={name: repr(value) for name, value in sorted(settings.items())},
        last=list(stages.values())[-1],
    )
    path = write_text(folder / "index.html", page)
    print(f"The page of this run: {path}")
    return path
