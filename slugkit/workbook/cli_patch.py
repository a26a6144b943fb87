"""The command line's `slugkit patch`: look at a patch file, check it against a model, put it on
files and take it off.
"""

from pathlib import Path
from typing import Annotated

import typer

from slugkit.base import MissingArtefactError, nearest, new_path, printable

patch_app = typer.Typer(
    no_args_is_help=True, help="Look at a patch file, or check it against a model."
)
Force = Annotated[
    bool, typer.Option("--force", help="Write over what is there, if slugkit wrote it.")
]


@patch_app.command("show")
def patch_show_command(
    file: Annotated[Path, typer.Argument(help="A patch file (.safetensors).")],
) -> None:
    """Print what a patch file says: layer, step, concept, metrics, provenance."""
    from slugkit import patch

    _require_file(file)
    edit = patch.load(file)
    lines = [
        ("concept", edit.concept),
        ("layer", f"{edit.layer} ({edit.tower} tower)"),
        ("shape", tuple(edit.shape)),
        ("lambda", f"{edit.lam:.6g}"),
        ("rho", f"{100 * edit.rho:.2f} %"),
        ("form", f"{edit.form}, relative error {edit.error:.2g}"),
    ]
    lines += [(f"base {kind}", sha) for kind, sha in edit.base_sha256.items()]
    for title, content in (("metrics", edit.metrics), ("provenance", edit.provenance)):
        lines += [(title, f"{name}: {value}") for name, value in content.items()]
    for title, value in [*lines, ("made with", f"slugkit {edit.tool_version}")]:
        _say(f"{title:<11} {value}")


@patch_app.command("verify")
def patch_verify_command(
    file: Annotated[Path, typer.Argument(help="A patch file (.safetensors).")],
    model: Annotated[str, typer.Option(help="studio, an open_clip tag, or a folder.")] = "studio",
) -> None:
    """Check that a patch belongs to a model: layer, shape and the hash of the original weights."""
    from slugkit import patch
    from slugkit.models import load_clip, model_folder
    from slugkit.patch.checkpoint import verify_files

    _require_file(file)
    edit = patch.load(file)
    local = model_folder(model) or (
        Path(model).expanduser() if Path(model).expanduser().exists() else None
    )
    if local:
        found = verify_files(edit, local)
        _say(
            f"{file} fits {model}: {edit.layer} is the layer it was made for ({'; '.join(found)})."
        )
        return
    patch.verify(edit, load_clip(model).model)
    _say(f"{file} fits {model}: {edit.layer} is the layer it was made for.")


@patch_app.command("apply")
def patch_apply_command(
    files: Annotated[list[Path], typer.Argument(help="Patch files (.safetensors).")],
    model: Annotated[
        Path, typer.Option(help="Folder or safetensors file of a model that holds the layers.")
    ],
    out: Annotated[Path, typer.Option(help="Where the edited copy goes; a new name.")],
    record: Annotated[
        bool,
        typer.Option(
            help=(
                "Leave a record in the copy, with which `remove` undoes the edit; it holds the"
                " original weights."
            )
        ),
    ] = True,
) -> None:
    """Write a copy of a model (CLIP, text encoder, pipeline, LLaVA) that holds the patches."""
    from slugkit import patch
    from slugkit.patch.checkpoint import apply_to_files

    for file in files:
        _require_file(file)
    edits = [patch.load(file) for file in files]
    apply_to_files(edits, model, out, record, _say)
    _say(f"{out} is {model} with the edits for {', '.join(edit.concept for edit in edits)}.")


@patch_app.command("remove")
def patch_remove_command(
    file: Annotated[Path, typer.Argument(help="A patch file (.safetensors).")],
    model: Annotated[Path, typer.Option(help="The edited folder or safetensors file.")],
    out: Annotated[Path, typer.Option(help="Where the copy without the edit goes; a new name.")],
    base: Annotated[
        Path | None, typer.Option(help="The original model, where the edited one has no record.")
    ] = None,
) -> None:
    """Write a copy of an edited model without the patch, bit for bit as before it."""
    from slugkit import patch
    from slugkit.patch.checkpoint import remove_from_files

    _require_file(file)
    edit = patch.load(file)
    remove_from_files(edit, model, out, base, _say)
    _say(f"{out} is {model} without the edit for {edit.concept}.")


@patch_app.command("add")
def patch_add_command(
    files: Annotated[list[Path], typer.Argument(help="Patch files of one layer.")],
    out: Annotated[Path, typer.Option(help="The patch file that does what they do together.")],
    force: Force = False,
) -> None:
    """Add patches of one layer up to one patch file."""
    from slugkit import patch

    for file in files:
        _require_file(file)
    out = new_path(out, *files, ours=force)
    total = patch.add([patch.load(file) for file in files])
    patch.save(total, out)
    _say(f"{out}: {total.layer}, rho {100 * total.rho:.2f} %, forgets {total.concept}.")


@patch_app.command("pack")
def patch_pack_command(
    file: Annotated[Path, typer.Argument(help="A patch file (.safetensors).")],
    out: Annotated[Path, typer.Option(help="The smaller patch file.")],
    rank: Annotated[
        int,
        typer.Option(help="Rank of the approximation; 0 keeps the full rank, in half precision."),
    ] = 0,
    force: Force = False,
) -> None:
    """Write a smaller form of a patch: half precision, or a matrix of low rank, with its error."""
    from slugkit import patch

    _require_file(file)
    out, edit = new_path(out, file, ours=force), patch.load(file)
    small = patch.low_rank(edit, rank) if rank else patch.half(edit)
    patch.save(small, out)
    typer.echo(
        f"{out}: {small.form}, {out.stat().st_size:,} bytes, relative error of the direction"
        f" {small.error:.2g}."
    )


def _say(text: str) -> None:
    typer.echo(printable(text))


def _require_file(file: Path) -> None:
    if not file.is_file():
        close = (
            nearest(file.name, [path.name for path in file.parent.glob("*.safetensors")])
            if file.parent.is_dir()
            else []
        )
        hint = (
            f" Did you mean {file.parent / close[0]}?"
            if close
            else " Notebook 04 leaves patches in runs/RUN/patches/."
        )
        raise MissingArtefactError(f"There is no file {file}; a patch file was expected.{hint}")
