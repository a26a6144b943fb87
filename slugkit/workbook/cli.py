"""The command line: slugkit run, report, student, train, patch, laion, draw, blank, sweep.

Heavy libraries are imported inside the commands, so that `slugkit --help` answers at once.
"""

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from slugkit.base import (
    SettingError,
    SlugError,
    advice_on,
    is_finished,
    new_path,
    notebooks_dir,
    printable,
    require_choice,
)
from slugkit.workbook.cli_patch import Force, patch_app

INTERRUPTED = 130
"""What typer exits with after Ctrl-C."""
app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="The SLUG workbook from the command line."
)
train_app = typer.Typer(no_args_is_help=True, help="Train the studio models again from nothing.")
app.add_typer(train_app, name="train")
app.add_typer(patch_app, name="patch")


class PairCommand(TyperCommand):
    """A command whose `-p` takes two words, NAME and VALUE, as papermill's does; typer itself has
    no such option.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Hand `-p NAME VALUE` on as `-p NAME=VALUE`.

        Raises SettingError where a word is missing.
        """
        joined, rest = [], list(args)
        while rest:
            word = rest.pop(0)
            joined.append(word)
            if word not in ("-p", "--parameter"):
                continue
            if rest and "=" in rest[0]:
                name, value = rest[0].split("=", 1)
                raise SettingError(f"-p takes two words; write -p {name} {value or 'VALUE'}.")
            if len(rest) < 2:
                raise SettingError("-p takes two words, a name and a value, as in -p seed 1.")
            joined.append(f"{rest.pop(0)}={rest.pop(0)}")
        return super().parse_args(ctx, joined)


BLANKS = (
    "An architecture of open_clip (ViT-B-32, ...), sd15, sd21, sdxl, llava15, llava16, vipllava."
)
RunName = Annotated[str, typer.Option("--run", help="Name of the run folder under runs/.")]
Out = Annotated[Path | None, typer.Option(help="Folder for the weights; the usual one without.")]
ItsClip = Annotated[str, typer.Option(help="The CLIP whose tower it shares: studio or a folder.")]
Steps = Annotated[
    int | None, typer.Option(min=1, help="Optimiser steps; the recipe's own number without it.")
]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seeds python, numpy and torch.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Resume = Annotated[bool, typer.Option(help="Go on from the last checkpoint of the same recipe.")]


@app.command("run", cls=PairCommand)
def run_command(
    run: RunName = "workbook",
    notebooks: Annotated[
        str | None, typer.Option(help='Which notebooks: "01-05" or "02,04"; all without it.')
    ] = None,
    p: Annotated[
        list[str] | None,
        typer.Option(
            "-p", "--parameter", metavar="NAME VALUE", help="A setting, as papermill's -p."
        ),
    ] = None,
    f: Annotated[
        list[Path] | None, typer.Option("-f", "--parameters-file", help="YAML file with settings.")
    ] = None,
    force: Annotated[bool, typer.Option(help="Run what nothing has changed for, too.")] = False,
    cell_timeout: Annotated[int, typer.Option(help="Seconds that one cell may take.")] = 3600,
) -> None:
    """Execute the notebooks in order into runs/RUN; the same command again goes on where it
    stopped.
    """
    from slugkit.workbook.run import report
    from slugkit.workbook.run.execute import run_series, table
    from slugkit.workbook.run.given import read_parameters

    pairs = [(name, value) for name, _, value in (pair.partition("=") for pair in p or [])]
    given = read_parameters(pairs, f or [])
    _check_concept(given)
    rows = run_series(
        run, notebooks, given, force=force, cell_timeout=cell_timeout, echo=typer.echo
    )
    typer.echo("\n" + table(rows) + "\n")
    report.build(run)


def _check_concept(given: dict[str, Any]) -> None:
    """Refuse data that is not there and a concept that the data does not have before any notebook
    starts.
    """
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
    folder: Annotated[Path, typer.Argument(help="Folder for the copies; made if it is missing.")],
) -> None:
    """Write student copies of the notebooks: exercises without their solutions."""
    from slugkit.workbook.teach import student

    made = student.make(folder if folder.is_dir() else new_path(folder, notebooks_dir()))
    typer.echo(f"{len(made)} student notebooks in {folder}")


def _place(out: Path | None, force: bool, *inputs: str) -> Path | None:
    """Where a training may write: over its own unfinished work, over more with --force."""
    return out and new_path(out, *inputs, ours=force or not is_finished(out))


@train_app.command("clip")
def train_clip_command(
    data: Annotated[str, typer.Option(help="studio, or a folder with captions.csv.")] = "studio",
    out: Out = None,
    without: Annotated[str | None, typer.Option(help="Name to leave out: an oracle.")] = None,
    steps: Steps = None,
    seed: Seed = 0,
    device: Device = "auto",
    resume: Resume = True,
    force: Force = False,
) -> None:
    """Train the studio CLIP, or a CLIP on a folder of your own."""
    from slugkit.studio.train.clip import train_clip

    out = _place(out, force, data)
    how = {"steps": steps, "seed": seed, "device": device, "resume": resume}
    train_clip(data=data, out=out, without=without, **how)


@train_app.command("diffusion")
def train_diffusion_command(
    clip: ItsClip = "studio",
    out: Out = None,
    vae_steps: Annotated[int | None, typer.Option(min=1, help="The coder's steps.")] = None,
    steps: Steps = None,
    seed: Seed = 0,
    device: Device = "auto",
    resume: Resume = True,
    force: Force = False,
) -> None:
    """Train the studio's Stable Diffusion on the CLIP's text tower."""
    from slugkit.studio.train.diffusion import train_diffusion

    out = _place(out, force, clip)
    how = {"steps": steps, "seed": seed, "device": device, "resume": resume}
    train_diffusion(clip=clip, out=out, vae_steps=vae_steps, **how)


@train_app.command("classifier")
def train_classifier_command(
    out: Out = None,
    steps: Steps = None,
    seed: Seed = 0,
    device: Device = "auto",
    resume: Resume = True,
    force: Force = False,
) -> None:
    """Train the classifier that judges generated pictures."""
    from slugkit.studio.train.classifier import train_classifier

    out = _place(out, force)
    train_classifier(out=out, steps=steps, seed=seed, device=device, resume=resume)


@train_app.command("vlm")
def train_vlm_command(
    clip: ItsClip = "studio",
    out: Out = None,
    steps: Steps = None,
    seed: Seed = 0,
    device: Device = "auto",
    resume: Resume = True,
    force: Force = False,
) -> None:
    """Train the studio's LLaVA on the CLIP's vision tower."""
    from slugkit.studio.train.vlm import train_vlm

    out = _place(out, force, clip)
    train_vlm(clip=clip, out=out, steps=steps, seed=seed, device=device, resume=resume)


@app.command("laion")
def laion_command(
    name: Annotated[str, typer.Argument(help="The name to look for, as whole words.")],
    metadata: Annotated[Path, typer.Option(help="LAION's metadata: a parquet file or a folder.")],
    out: Annotated[Path, typer.Option(help="Where the pairs found go (.parquet).")],
    limit: Annotated[int, typer.Option(min=1, help="Most pairs to take.")] = 6000,
    force: Force = False,
) -> None:
    """Search LAION's metadata for captions that hold a name, and print the command that fetches
    their pictures.
    """
    from slugkit.data.laion import img2dataset_command, search_names

    found = search_names(metadata, name, limit, new_path(out, metadata, ours=force))
    typer.echo(
        f"{len(found)} pairs name {name!r}; {out} holds them. Fetch their pictures"
        f" with:\n{img2dataset_command(out, out.with_suffix(''))}"
    )


@app.command("draw")
def draw_command(
    concepts: Annotated[list[str], typer.Argument(help="What to draw, one or more names.")],
    out: Annotated[
        Path, typer.Option(help="Folder for the pictures; new, or one that was cut off.")
    ],
    pipeline: Annotated[
        str, typer.Option(help="studio, or a folder or hub id of a text-to-image pipeline.")
    ] = "studio",
    count: Annotated[int, typer.Option(min=1, help="Pictures of each to learn from.")] = 10,
    exam: Annotated[
        int,
        typer.Option(min=0, help="Pictures of each for the search; twice as many to report on."),
    ] = 0,
    prompt: Annotated[
        list[str] | None, typer.Option(help="A wording with {} for the name; repeat it.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Denoising steps per picture.")] = 10,
    guidance: Annotated[float, typer.Option(min=0, help="Classifier-free guidance.")] = 4.0,
    device: Device = "auto",
) -> None:
    """Let a pipeline draw a forget set itself, as the paper does for characters and novel concepts:
    a folder for `-p data`.
    """
    from slugkit.experiments.drawn_set import PROMPTS, write_drawn_set

    out = out if out.is_dir() else new_path(out, pipeline)
    made = write_drawn_set(
        out, concepts, pipeline, count, exam, prompt or PROMPTS, steps, guidance, device
    )
    typer.echo(
        f"{made} holds {len(concepts)} x {count} pictures to learn from and {len(concepts)} x"
        f" {3 * exam} to be examined on. Look at them before you use them."
    )


@app.command("blank")
def blank_command(
    what: Annotated[str, typer.Argument(help=BLANKS)],
    out: Annotated[Path, typer.Argument(help="Folder for the checkpoint; a new one.")],
    clip: Annotated[
        list[Path] | None, typer.Option(help="Folder of the CLIP whose tower it shares; SDXL: two.")
    ] = None,
    form: Annotated[str, typer.Option(help="A CLIP's: open_clip or transformers.")] = "open_clip",
    reduced: Annotated[
        bool, typer.Option(help="Narrow UNet and coder, or language model, behind a whole tower.")
    ] = False,
    seed: Seed = 0,
) -> None:
    """Write a full-size checkpoint of random weights in its published format, to try memory, time
    and names without a hub.
    """
    from slugkit.models import random_weights as blank

    clips = clip or []
    out = new_path(out, *clips, ours=True)
    if what not in (*blank.PIPELINES, *blank.VLMS):
        made = blank.write_clip(what, out, form, seed)
    elif what in blank.PIPELINES:
        made = blank.write_pipeline(what, clips, out, reduced, seed)
    elif len(clips) != 1:
        raise SettingError(
            f"{what} has one vision tower, and {len(clips)} CLIP folders were given; one --clip was"
            f" expected ({blank.VLMS[what][0]})."
        )
    else:
        made = blank.write_vlm(what, clips[0], out, reduced, seed)
    typer.echo(blank.described(made))


FAMILY = """clip; diffusion: judge the pictures of the pipeline that shares the text tower; vlm: ask
the LLaVA that shares the vision tower."""


@app.command("sweep")
def sweep_command(
    concepts: Annotated[
        list[str] | None, typer.Option(help="A concept; repeat it. The report concepts without it.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="CSV file; one of data/studio/ without.")] = None,
    model: Annotated[
        str, typer.Option(help="studio, an open_clip tag, a hub id, or a folder.")
    ] = "studio",
    family: Annotated[str, typer.Option(help=FAMILY)] = "clip",
    pipeline: Annotated[
        str, typer.Option(help="For diffusion: studio, or a folder of a Stable Diffusion pipeline.")
    ] = "studio",
    vlm: Annotated[str, typer.Option(help="For vlm: studio, or a folder of a LLaVA.")] = "studio",
) -> None:
    """Forget several concepts, one at a time, each from the unedited model, and put the results in
    one table. The same command goes on where it was stopped.
    """
    require_choice(family, ("clip", "diffusion", "vlm"), "The family")
    for path in (out, out.with_stem(f"{out.stem}_summary")) if out else ():
        new_path(path, model, pipeline, vlm, ours=True)
    from slugkit.experiments.sweep import measures_of, summarise, sweep

    if family == "vlm":
        from slugkit.experiments.vlm_sweep import measures_of, vlm_sweep

        table = vlm_sweep(concepts=concepts or None, out=out, clip=model, vlm=vlm)
    elif family == "diffusion":
        from slugkit.experiments.diffusion_sweep import diffusion_sweep, measures_of

        table = diffusion_sweep(concepts=concepts or None, out=out, clip=model, pipeline=pipeline)
    else:
        table = sweep(concepts=concepts or None, out=out, model=model)
    found = summarise(table, measures_of)
    typer.echo(found[found["kind"] == "all"].drop(columns="kind").round(1).to_string(index=False))


def main() -> None:
    """Entry point of the console script; a SlugError becomes one line on stderr and exit code 2,
    and so do a full disk, a closed folder, too little memory.
    """
    try:
        app()
    except SystemExit as left:
        if left.code == INTERRUPTED and {"run", "train", "draw", "sweep"} & set(sys.argv[1:2]):
            typer.echo(
                "Stopped. The same command goes on where it stopped: "
                f"{shlex.join(['slugkit', *sys.argv[1:]])}",
                err=True,
            )
        raise
    except Exception as wrong:
        said = f"{type(wrong).__name__}: {' '.join(str(wrong).split())}"
        advice = advice_on(said)
        if not (isinstance(wrong, SlugError) or advice):
            raise
        typer.echo(
            printable(said if isinstance(wrong, SlugError) else f"{said.rstrip('.')}. {advice}"),
            err=True,
        )
        sys.exit(2)
