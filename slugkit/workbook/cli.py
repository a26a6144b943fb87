"""The command line: slugkit run, report, student, train, patch, laion, draw, blank, sweep.

Heavy libraries are imported inside the commands, so that `slugkit --help` answers at once.
"""

import shlex
import sys
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option
from typer.core import TyperCommand

from slugkit.base import (
    SettingError,
    SlugError,
    absolute_path,
    advice_on,
    is_finished,
    new_path,
    notebooks_dir,
    printable,
    require_choice,
    usable_cpus,
)
from slugkit.workbook.cli_patch import Force, patch_app

INTERRUPTED = 130
"""What typer exits with after Ctrl-C."""
RESUMABLE = {"run", "train", "draw", "sweep"}
app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="The SLUG workbook from the command line."
)
app.add_typer(patch_app, name="patch")

RunName = Annotated[str, Option("--run", help="Name of the run folder under runs/.")]
Seed = Annotated[int, Option(min=0, max=2**32 - 1, help="Seeds python, numpy and torch.")]
Device = Annotated[str, Option(help="auto, cpu, cuda or mps.")]


class PairCommand(TyperCommand):
    """A command whose `-p` takes two words, NAME and VALUE, as papermill's; typer has no such."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Hand `-p NAME VALUE` on as `-p NAME=VALUE`. Raises: SettingError for a missing word."""
        joined, rest = [], iter(args)
        for word in rest:
            joined.append(word)
            if word in ("-p", "--parameter"):
                name, value = next(rest, ""), next(rest, None)
                if "=" in name:
                    wanted = name.replace("=", " ", 1)
                    raise SettingError(f"-p takes two words; write -p {wanted}.")
                if value is None:
                    raise SettingError("-p takes two words, a name and a value, as in -p seed 1.")
                joined.append(f"{name}={value}")
        return super().parse_args(ctx, joined)


@app.command("run", cls=PairCommand)
def run_command(
    run: RunName = "workbook",
    notebooks: Annotated[str | None, Option(help='"01-05" or "02,04"; all without it.')] = None,
    p: Annotated[
        list[str] | None, Option("-p", "--parameter", metavar="NAME VALUE", help="A setting.")
    ] = None,
    f: Annotated[
        list[Path] | None, Option("-f", "--parameters-file", help="YAML with settings.")
    ] = None,
    force: Annotated[bool, Option(help="Run what nothing has changed for, too.")] = False,
    cell_timeout: Annotated[int, Option(help="Seconds that one cell may take.")] = 3600,
    jobs: Annotated[
        int, Option(min=0, help="Notebooks at once; 0 takes what the machine allows.")
    ] = 0,
) -> None:
    """Execute the notebooks in order into runs/RUN; the same command goes on where it stopped."""
    from slugkit.workbook.run import report
    from slugkit.workbook.run.execute import run_series, table
    from slugkit.workbook.run.given import read_parameters

    pairs = [tuple(pair.split("=", 1)) for pair in p or []]
    given = read_parameters(pairs, f or [])
    _check_concept(given)
    rows = run_series(
        run, notebooks, given, force=force, cell_timeout=cell_timeout, jobs=jobs, echo=typer.echo
    )
    typer.echo("\n" + table(rows) + "\n")
    report.build(run)


def _check_concept(given: dict[str, Any]) -> None:
    """Refuse data that is not there, and a concept that it lacks, before any notebook starts."""
    if not {"concept", "data"} & set(given):
        return
    from slugkit.data import open_data
    from slugkit.workbook.settings import check_settings

    wanted = check_settings({name: given[name] for name in ("concept", "data") if name in given})
    open_data(wanted.data).kind(wanted.concept)


@app.command("report")
def report_command(run: RunName = "workbook") -> None:
    """Join a run's metrics and write its HTML page."""
    from slugkit.workbook.run import report

    report.build(run)


@app.command("student")
def student_command(
    folder: Annotated[Path, Argument(help="Folder for the copies; made if it is missing.")],
    nbgrader: Annotated[
        bool, Option("--nbgrader", help="Mark answers and checks for nbgrader's source folder.")
    ] = False,
) -> None:
    """Write student copies of the notebooks: exercises without their solutions."""
    from slugkit.workbook.teach import student

    folder_or_new = folder if folder.is_dir() else new_path(folder, notebooks_dir())
    made = student.make(folder_or_new, nbgrader)
    typer.echo(f"{len(made)} student notebooks in {folder}")


Training = StrEnum("Training", ["clip", "diffusion", "classifier", "vlm"])
OWN_OPTIONS: dict[str, dict[str, Any]] = {
    "clip": {"data": "studio", "without": None},
    "diffusion": {"clip": "studio", "vae_steps": None},
    "classifier": {},
    "vlm": {"clip": "studio"},
}
"""Options of `slugkit train` that not every training has, with their defaults."""


@app.command("train")
def train_command(
    what: Annotated[Training, Argument(help="A model of the studio.")],
    out: Annotated[Path | None, Option(help="Folder for the weights.")] = None,
    data: Annotated[str | None, Option(help="For clip: studio, or a folder of pairs.")] = None,
    without: Annotated[str | None, Option(help="For clip: a name to leave out.")] = None,
    clip: Annotated[str | None, Option(help="For diffusion, vlm: whose tower it shares.")] = None,
    vae_steps: Annotated[int | None, Option(min=1, help="For diffusion: VAE steps.")] = None,
    steps: Annotated[int | None, Option(min=1, help="Training steps; else the recipe's.")] = None,
    seed: Seed = 0,
    device: Device = "auto",
    resume: Annotated[bool, Option(help="Go on from the recipe's last checkpoint.")] = True,
    force: Force = False,
) -> None:
    """Train a model of the studio again from nothing, or a CLIP on a folder of your own."""
    own = dict(OWN_OPTIONS[what])
    given = {"data": data, "without": without, "clip": clip, "vae_steps": vae_steps}
    given = {name: value for name, value in given.items() if value is not None}
    for name in given.keys() - own:
        raise SettingError(f"`slugkit train {what}` has no --{name.replace('_', '-')}.")
    own.update(given)
    if out:
        # over its own unfinished work, over more with --force
        inputs = own.get("data"), own.get("clip")
        out = new_path(out, *inputs, ours=force or not is_finished(out))
    train = getattr(import_module(f"slugkit.studio.train.{what}"), f"train_{what}")
    train(out=out, steps=steps, seed=seed, device=device, resume=resume, **own)


@app.command("laion")
def laion_command(
    name: Annotated[str, Argument(help="The name to look for, as whole words.")],
    metadata: Annotated[Path, Option(help="LAION's metadata: a parquet file or a folder.")],
    out: Annotated[Path, Option(help="Where the pairs found go (.parquet).")],
    limit: Annotated[int, Option(min=1, help="Most pairs to take.")] = 6000,
    force: Force = False,
) -> None:
    """Search LAION's captions for a name, and print the command that fetches the pictures."""
    from slugkit.data.laion import img2dataset_command, search_names

    found = search_names(metadata, name, limit, new_path(out, metadata, ours=force))
    fetch = img2dataset_command(out, out.with_suffix(""))
    typer.echo(f"{len(found)} pairs name {name!r}; {out} holds them. Fetch their pictures with:")
    typer.echo(fetch)


@app.command("draw")
def draw_command(
    concepts: Annotated[list[str], Argument(help="What to draw, one or more names.")],
    out: Annotated[Path, Option(help="Folder for the pictures; new, or one that was cut off.")],
    pipeline: Annotated[str, Option(help="studio, or a folder or hub id.")] = "studio",
    count: Annotated[int, Option(min=1, help="Pictures of each to learn from.")] = 10,
    exam: Annotated[int, Option(min=0, help="Pictures of each to search on.")] = 0,
    prompt: Annotated[list[str] | None, Option(help="Wording with {} for the name.")] = None,
    steps: Annotated[int, Option(min=1, help="Denoising steps per picture.")] = 10,
    guidance: Annotated[float, Option(min=0, help="Classifier-free guidance.")] = 4.0,
    device: Device = "auto",
) -> None:
    """Let a pipeline draw a forget set, as the paper does for characters: a folder for -p data."""
    from slugkit.experiments.drawn_set import PROMPTS, write_drawn_set

    out = out if out.is_dir() else new_path(out, pipeline)
    made = write_drawn_set(
        out, concepts, pipeline, count, exam, prompt or PROMPTS, steps, guidance, device
    )
    typer.echo(
        f"{made} holds {len(concepts)} x {count} pictures to learn from and {len(concepts)} x"
        f" {3 * exam} to be examined on. Look at them before you use them."
    )


FAMILY = "clip; diffusion: judge the pipeline's pictures; vlm: ask the LLaVA."
EVERY = "Every method at equal budgets: on a CLIP's text tower (--out is a folder), or --family."
STRESS = "What brings back what was forgotten: by a CLIP, or in what --family draws or answers."
OWN = "studio, or your own pictures: a folder, table, shards or recipe. For clip."
WHERE = "here, one after another; processes of this machine; or slurm, a task a concept."
AT_ONCE = "Concepts at once; on slurm 256 where nothing is said."
ASKED = "What a task asks Slurm for, as submitit names it: timeout_min, slurm_partition, ..."
SWEPT = ("seed", "forget_size", "retain_size", "batch_size", "damping", "max_trials", "device")
"""Settings of the notebooks that a sweep takes, of a CLIP also target."""


def _where(on: str, at_once: int, asked: list[str]) -> Any:
    """What a sweep takes for `processes`. Raises SettingError for what does not go together."""
    require_choice(on, ("", "here", "processes", "slurm"), "Where a sweep runs")
    if on == "slurm":
        from slugkit.experiments.cluster import Cluster

        return Cluster.of(at_once, asked)
    if asked:
        raise SettingError("--slurm is for --on slurm; write both, or neither.")
    if on == "here" and at_once > 1:
        raise SettingError(f"--on here is one at a time, --processes {at_once} is not; leave one.")
    return at_once or (usable_cpus() if on == "processes" else 1)


def _swept(p: list[str] | None, family: str) -> dict[str, Any]:
    """Settings of `unlearn` from `-p` that are not the usual ones. Raises SettingError for those
    that a sweep does not take.
    """
    from slugkit.workbook.run.given import read_parameters
    from slugkit.workbook.settings import Settings, check_settings

    given = read_parameters([tuple(pair.split("=", 1)) for pair in p or []], [])
    checked, usual = check_settings(given), Settings()
    able = SWEPT + (("target",) if family == "clip" else ())
    for name in given:
        if name not in able:
            raise SettingError(f"A sweep takes {', '.join(able)} by -p, and not {name}.")
    values = {name: getattr(checked, name) for name in given}
    return {name: value for name, value in values.items() if value != getattr(usual, name)}


def _sweep_methods(
    concepts: list[str] | None, out: Path | None, model: str, data: str, processes: Any
) -> None:
    """`slugkit sweep --methods`: the table of every method, and its means."""
    from slugkit.experiments import compared
    from slugkit.experiments.methods import sweep_methods

    if out is not None and not out.is_dir():
        new_path(out, model)
    given = {"folder": out, "model": model, "data": data, "processes": processes}
    table = sweep_methods(concepts or None, **given)
    summary = compared.over_all(compared.by_concept(table))
    typer.echo(compared.wide(summary, list(compared.RANKED)).to_string())


def _sweep_stress(
    concepts: list[str] | None,
    out: Path | None,
    model: str,
    data: str,
    processes: Any,
    family: str,
    other: str,
) -> None:
    """`slugkit sweep --stress`: the table of every stress, and how far each brings an edit back; of
    another family what its model, `other`, draws or answers.
    """
    from slugkit.experiments.stress.answers import sweep_answers
    from slugkit.experiments.stress.inversion import sweep_drawings
    from slugkit.experiments.stress.summary import over_people, way_back
    from slugkit.experiments.stress.table import sweep_stress

    if family == "clip":
        table = sweep_stress(concepts or None, out, model, data, processes=processes)
    else:
        sweep = sweep_answers if family == "vlm" else sweep_drawings
        table = sweep(concepts or None, out, other, model, processes)
    back = way_back(table)
    found = over_people(table).round(1) if back.empty else back.round(1)
    typer.echo(found.to_string(index=False))


@app.command("sweep", cls=PairCommand)
def sweep_command(
    concepts: Annotated[list[str] | None, Option(help="A concept; repeat it.")] = None,
    out: Annotated[Path | None, Option(help="CSV file; one of data/studio/ without.")] = None,
    model: Annotated[str, Option(help="studio, a tag, a hub id, or a folder.")] = "studio",
    data: Annotated[str, Option(help=OWN)] = "studio",
    family: Annotated[str, Option(help=FAMILY)] = "clip",
    pipeline: Annotated[
        str, Option(help="For diffusion: studio, or a pipeline's folder.")
    ] = "studio",
    vlm: Annotated[str, Option(help="For vlm: studio, or a folder of a LLaVA.")] = "studio",
    methods: Annotated[bool, Option("--methods", help=EVERY)] = False,
    stress: Annotated[bool, Option("--stress", help=STRESS)] = False,
    p: Annotated[
        list[str] | None, Option("-p", "--parameter", metavar="NAME VALUE", help="A setting.")
    ] = None,
    on: Annotated[str, Option(help=WHERE)] = "",
    processes: Annotated[int, Option(min=0, max=1000, help=AT_ONCE)] = 0,
    slurm: Annotated[list[str] | None, Option(metavar="NAME=VALUE", help=ASKED)] = None,
) -> None:
    """Forget several concepts, each from the unedited model, and put the results in one table.

    The same command goes on where it was stopped.
    """
    require_choice(family, ("clip", "diffusion", "vlm"), "The family")
    if stress and methods:
        raise SettingError("--stress and --methods are two tables; one of them was expected.")
    if data != "studio" and family != "clip":
        raise SettingError(f"--data is for --family clip; the {family} sweep asks the studio's.")
    settings = _swept(p, family)
    if settings and (stress or methods):
        raise SettingError("-p is for the plain sweep; --methods and --stress have their own.")
    model, data = absolute_path(model), absolute_path(data)
    where = _where(on, processes, slurm or [])
    if methods and family == "clip":
        _sweep_methods(concepts, out, model, data, where)
        return
    for path in (out, out.with_stem(f"{out.stem}_summary")) if out else ():
        new_path(path, model, data, pipeline, vlm, ours=True)
    other = absolute_path(vlm if family == "vlm" else pipeline)
    if stress:
        _sweep_stress(concepts, out, model, data, where, family, other)
        return
    if methods:
        from slugkit.experiments.compared import over_all
        from slugkit.experiments.other_methods import beside_others, others_by_concept, sweep_others

        table = sweep_others(family, concepts or None, out, other, model, where)
        found = over_all(others_by_concept(beside_others(family, others=table), family))
        typer.echo(found.round(1).to_string(index=False))
        return
    from slugkit.experiments.sweep import measures_of, summarise, sweep

    given = {"concepts": concepts or None, "out": out, "processes": where, **settings}
    if family == "clip":
        table = sweep(model=model, data=data, **given)
    else:
        from slugkit.experiments.family_sweeps import MEASURES, family_sweep

        measures_of = MEASURES[family]
        table = family_sweep(family, model=other, clip=model, **given)
    found = summarise(table, measures_of)
    typer.echo(found[found["kind"] == "all"].drop(columns="kind").round(1).to_string(index=False))


def main() -> None:
    """Entry point of the console script.

    A SlugError and a trouble of the machine become one line on stderr and exit code 2.
    """
    try:
        app()
    except SystemExit as left:
        if left.code == INTERRUPTED and RESUMABLE & set(sys.argv[1:2]):
            again = shlex.join(["slugkit", *sys.argv[1:]])
            typer.echo(f"Stopped. The same command goes on where it stopped: {again}", err=True)
        raise
    except Exception as wrong:
        said = f"{type(wrong).__name__}: {' '.join(str(wrong).split())}"
        if not isinstance(wrong, SlugError):
            if not (advice := advice_on(said)):
                raise
            said = f"{said.rstrip('.')}. {advice}"
        typer.echo(printable(said), err=True)
        sys.exit(2)
