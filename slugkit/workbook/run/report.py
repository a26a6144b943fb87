"""The page of a run: the finding about every concept first, then the table, the figures, the
executed notebooks and what it cost.
"""

import html
from pathlib import Path
from typing import Any

from slugkit.base import MissingArtefactError, run_folder, write_parquet, write_text
from slugkit.workbook.run.manifest import Manifest
from slugkit.workbook.run.pages import convert
from slugkit.workbook.run.stages import command_for

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; }
body { padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .8rem; border-bottom: 1px solid #ddd; }
th, td { text-align: left; vertical-align: top; }
td.number { text-align: right; } small { color: #666; }
tr.target td { background: #fdf1de; font-weight: 600; }
.finding { font-size: 1.25rem; border-left: .3rem solid #d55e00; padding-left: 1rem; }
figure { margin: 2rem 0; } img { max-width: 100%; } figcaption { color: #444; }
"""

STAGE_TITLES = {"before": "before", "after": "after the edit", "oracle": "never saw it (oracle)"}
NO_SHARES = {"text-image cosine"}
"""Metrics that may lie in 0..1 and are no share of pictures."""
FAMILIES = {"clip": "CLIP", "diffusion": "generated pictures", "vlm": "answers about pictures"}
GROUP_ORDER = ("target", "neighbours", "people", "characters", "objects", "styles", "novel")


def joined_metrics(folder: Path) -> Any:
    """All metrics/NN.parquet of the finished notebooks as one DataFrame, in the notebooks' order;
    None without any.
    """
    import pandas

    parts = []
    for record in Manifest(folder).read()["stages"].values():
        parts += [folder / name for name in record["outputs"] if name.startswith("metrics/")]
    frames = [pandas.read_parquet(path) for path in sorted(parts) if path.exists()]
    if not frames:
        return None
    joined = pandas.concat(frames, ignore_index=True)
    keys = [name for name in joined.columns if name not in ("value", "low", "high", "n")]
    return joined.drop_duplicates(keys, keep="last", ignore_index=True)


def of_the_page(frame: Any) -> Any:
    """Of the metrics what the page shows: means over wordings, scores without, and in what wording
    the target is known best.
    """
    worst = (frame["wording"] == "worst") & (frame["group"] == "target")
    kept = frame[frame["wording"].isin(["", "mean"]) | worst]
    named = kept["metric"] + ", worst wording"
    return kept.assign(metric=kept["metric"].where(kept["wording"] != "worst", named))


def per_method(frame: Any) -> Any:
    """The metrics with the rows before the edit and of the oracle repeated for every edited method
    of the same model and concept.

    A method's own rows count before those of another. Families keep their order; within one,
    methods of later notebooks come first. A frame without an edited row comes back as it is.
    """
    import pandas

    blocks, families = [], list(dict.fromkeys(frame["family"]))
    for (family, *_), block in frame.groupby(["family", "model", "concept", "split"], sort=False):
        after = block[block["stage"] == "after"]
        for method in dict.fromkeys(after["method"]):
            shared = block[block["stage"] != "after"]
            shared = shared.iloc[(shared["method"] != method).to_numpy().argsort(kind="stable")]
            shared = shared.drop_duplicates(["stage", "group", "metric"]).assign(method=method)
            edited = after[after["method"] == method]
            blocks.append(
                (families.index(family), -edited.index.max(), pandas.concat([shared, edited]))
            )
    if not blocks:
        return frame
    blocks.sort(key=lambda found: found[:2])
    return pandas.concat([block for *_, block in blocks], ignore_index=True)


def _is_share(rows: Any) -> bool:
    return (
        bool(((rows["low"] >= 0) & (rows["high"] <= 1)).all())
        and not set(rows["metric"]) & NO_SHARES
    )


def _number(value: float, share: bool) -> str:
    return f"{100 * value:.1f} %" if share else f"{value:.3g}"


def finding(frame: Any) -> str:
    """From the metrics (report split): the target before and after, what became of the others, and
    what every other edit measured did to the target and the others.
    """
    told = frame[frame["split"] == "report"] if (frame["split"] == "report").any() else frame
    said, metric = [], None
    for _, edit in told.groupby(["family", "model", "concept", "method"], sort=False):
        rows = edit[edit["group"] == "target"]
        rows = rows[rows["metric"] == (metric or rows["metric"].iloc[0])] if len(rows) else rows
        values = rows.drop_duplicates("stage").set_index("stage")["value"]
        if "before" not in values or "after" not in values:
            continue
        one, share = rows.iloc[0], _is_share(rows)
        others = _others(edit, share)
        if metric is None:
            metric = one["metric"]
            parts = ", ".join(
                f"{group} {_number(first, share)} to {_number(last, share)}"
                for group, first, last in others
            )
            said.append(
                f"{one['concept']} ({FAMILIES.get(one['family'], one['family'])}; {one['method']}):"
                f" {metric} went from {_number(values['before'], share)} to"
                f" {_number(values['after'], share)}{f'; {parts}' if parts else ''}."
            )
        else:
            worst = max(
                (found for found in others if found[0] != "worst target"),
                key=lambda found: found[1] - found[2],
                default=None,
            )
            cost = (
                f", {worst[0]} {_number(worst[1], share)} to {_number(worst[2], share)}"
                if worst
                else ""
            )
            said.append(f"{one['method']}: {_number(values['after'], share)}{cost}.")
    if not said:
        return "No notebook of this run has measured the target before and after the edit yet."
    return said[0] + (
        f" With the other edits, and what lost most: {' '.join(said[1:])}" if said[1:] else ""
    )


def _others(edit: Any, share: bool) -> list[tuple[str, float, float]]:
    """(group, before, after) of all but the target, as one edit left them: shares beside a share,
    since a mean cosine is none.
    """
    found = []
    for group in [name for name in _groups(edit) if name != "target"]:
        of_group = edit[edit["group"] == group]
        alike = of_group[of_group["metric"] == of_group["metric"].iloc[0]]
        first = alike.drop_duplicates("stage").set_index("stage")["value"]
        if "before" in first and "after" in first and _is_share(alike) == share:
            found.append((group, first["before"], first["after"]))
    return found


def _groups(frame: Any) -> list[str]:
    there = list(dict.fromkeys(frame["group"]))
    return [name for name in GROUP_ORDER if name in there] + [
        name for name in there if name not in GROUP_ORDER
    ]


def _cell(rows: Any, stage: str, share: bool) -> str:
    found = rows[rows["stage"] == stage]
    if found.empty:
        return (
            '<td class="number"><small>none trained</small></td>'
            if stage == "oracle"
            else '<td class="number">-</td>'
        )
    row = found.iloc[0]
    value, low, high = (_number(row[name], share) for name in ("value", "low", "high"))
    bounds = f"{low} to {high}, " if row["low"] != row["high"] else ""
    return f'<td class="number">{value}<br><small>{bounds}n = {int(row["n"])}</small></td>'


def results_table(frame: Any) -> str:
    """HTML tables of the metrics, one per family, model, concept, method and split: groups down,
    stages across.
    """
    parts = []
    for key, block in frame.groupby(["family", "model", "concept", "method", "split"], sort=False):
        family, model, concept, method, split = (html.escape(str(part)) for part in key)
        heads = "".join(f"<th>{title}</th>" for title in STAGE_TITLES.values())
        lines = [
            f"<h3>{concept} - {method} - {family}, {model}</h3>",
            f"<p><small>{split} split; 95 % intervals</small></p>",
        ]
        lines.append(f"<table><tr><th>group</th><th>metric</th>{heads}</tr>")
        for group in _groups(block):
            of_group = block[block["group"] == group]
            for metric, rows in of_group.groupby("metric", sort=False):
                share = _is_share(frame[frame["metric"] == metric])
                cells = "".join(_cell(rows, stage, share) for stage in STAGE_TITLES)
                mark = ' class="target"' if group == "target" else ""
                lines.append(
                    f"<tr{mark}><td>{html.escape(str(group))}</td><td>{html.escape(str(metric))}</td>{cells}</tr>"
                )
        parts.append("\n".join([*lines, "</table>"]))
    return "\n".join(parts)


def _figures(stages: dict[str, Any], folder: Path) -> str:
    parts = []
    for notebook, record in stages.items():
        for name, entry in record["outputs"].items():
            if name.startswith("figures/") and name.endswith(".png") and (folder / name).exists():
                says = html.escape(
                    entry.get("says") or f"figure {Path(name).stem} of notebook {notebook}"
                )
                stem = name.removesuffix(".png")
                links = [
                    f'<a href="{stem}{end}">{end[1:].upper()}</a>'
                    for end in (".svg", ".csv")
                    if (folder / (stem + end)).exists()
                ]
                parts.append(
                    f'<figure><img src="{name}" alt="{says}"><figcaption>{says}'
                    f" <small>{' '.join(links)}</small></figcaption></figure>"
                )
    return "\n".join(parts)


def _costs(stages: dict[str, Any], pages: dict[str, Path]) -> str:
    lines = ["<table><tr><th>notebook</th><th>seconds</th><th>peak MB</th></tr>"]
    for notebook, record in stages.items():
        name = f'<a href="{pages[notebook].name}">{notebook}</a>' if notebook in pages else notebook
        lines.append(
            f'<tr><td>{name}</td><td class="number">{record.get("seconds", 0):.1f}</td>'
            f'<td class="number">{record.get("peak_mb", 0)}</td></tr>'
        )
    return "\n".join([*lines, "</table>"])


def _made_with(stages: dict[str, Any]) -> str:
    last = list(stages.values())[-1]
    versions = ", ".join(f"{name} {number}" for name, number in last.get("versions", {}).items())
    text = (
        f"device {last.get('device')}, {last.get('threads')} threads; {versions}; commit"
        f" {last.get('commit') or 'unknown'}"
    )
    return f"<p><small>{html.escape(text)}</small></p>"


def _settings(stages: dict[str, Any]) -> str:
    values: dict[str, Any] = {}
    for record in stages.values():
        values.update(record["settings"])
    items = ", ".join(f"{name} {value!r}" for name, value in sorted(values.items()))
    return f"<p><small>settings: {html.escape(items)}</small></p>"


def build(run: str) -> Path:
    """Write metrics.parquet, a page per executed notebook and index.html into `runs/<run>`; print
    and return the page.

    Raises MissingArtefactError where no notebook of the run has finished, SettingError for a name
    that is no run's.
    """
    folder = run_folder(run)
    manifest = Manifest(folder)
    stages = manifest.read()["stages"]
    if not stages:
        command = command_for(run, manifest.parameters({}))
        raise MissingArtefactError(
            f"Run {run} has no finished notebook, so there is nothing to report. Run `{command}`."
        )
    frame = joined_metrics(folder)
    body = [f"<h1>{html.escape(run)}</h1>"]
    if frame is not None:
        write_parquet(folder / "metrics.parquet", frame)
        whole = per_method(of_the_page(frame))
        body += [
            f'<p class="finding">{html.escape(finding(part))}</p>'
            for _, part in whole.groupby(["family", "concept"], sort=False)
        ]
        body += ["<h2>Results</h2>", results_table(whole)]
    else:
        body.append('<p class="finding">No notebook of this run has left results yet.</p>')
    pages = {}
    for notebook in stages:
        copy = folder / f"{notebook}.ipynb"
        if copy.exists():
            pages[notebook] = convert(copy, folder / f"{notebook}.html")
    figures = _figures(stages, folder)
    if figures:
        body += ["<h2>Figures</h2>", figures]
    body += [
        "<h2>Notebooks, with time and memory</h2>",
        _costs(stages, pages),
        _settings(stages),
        _made_with(stages),
    ]
    head = (
        '<meta charset="utf-8"><meta name="viewport"'
        f' content="width=device-width"><title>{html.escape(run)}</title>'
    )
    page = (
        f'<!doctype html>\n<html lang="en"><head>{head}<style>{STYLE}</style></head>\n<body>\n'
        + "\n".join(body)
        + "\n</body></html>\n"
    )
    path = write_text(folder / "index.html", page)
    print(f"The page of this run: {path}")
    return path
