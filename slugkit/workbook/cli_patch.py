"""`slugkit patch`: look at a patch file, check it, put it on a model's files and take it off."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from slugkit.base import MissingArtefactError, nearest, new_path, printable

patch_app = typer.Typer(
    no_args_is_help=True, help="Look at a patch file, or check it against a model."
)
Force = Annotated[bool, Option("--force", help="Write over what is there, if slugkit wrote it.")]
File = Annotated[Path, Argument(help="A patch file (.safetensors).")]
Files = Annotated[list[Path], Argument(help="Patch files (.safetensors).")]


@patch_app.command("show")
def patch_show_command(file: File) -> None:
    """Print what a patch file says: layer, step, concept, metrics, provenance."""
    edit = _load(file)
    lines = [
        ("concept", edit.concept),
        ("layer", f"{edit.layer} ({edit.tower} tower)"),
        ("shape", tuple(edit.shape)),
        ("lambda", f"{edit.lam:.6g}"),
        ("rho", f"{100 * edit.rho:.2f} %"),
        ("form", f"{edit.form}, relative error {edit.error:.2g}"),
        *((f"base {kind}", sha) for kind, sha in edit.base_sha256.items()),
        *(("metrics", f"{name}: {value}") for name, value in edit.metrics.items()),
        *(("provenance", f"{name}: {value}") for name, value in edit.provenance.items()),
        ("made with", f"slugkit {edit.tool_version}"),
    ]
    for title, value in lines:
        _say(f"{title:<11} {value}")


@patch_app.command("verify")
def patch_verify_command(
    file: File,
    model: Annotated[str, Option(help="studio, an open_clip tag, or a folder.")] = "studio",
) -> None:
    """Check that a patch belongs to a model: layer, shape and the hash of the original weights."""
    from slugkit import patch
    from slugkit.models import load_clip, model_folder
    from slugkit.patch.checkpoint import verify_files

    edit, local, found = _load(file), model_folder(model) or Path(model).expanduser(), ""
    if local.exists():
        found = f" ({'; '.join(verify_files(edit, local))})"
    else:
        patch.verify(edit, load_clip(model).model)
    _say(f"{file} fits {model}: {edit.layer} is the layer it was made for{found}.")


@patch_app.command("apply")
def patch_apply_command(
    files: Files,
    model: Annotated[Path, Option(help="Folder or safetensors file that is copied.")],
    out: Annotated[Path, Option(help="Where the edited copy goes; a new name.")],
    record: Annotated[bool, Option(help="Leave a record for `remove` in it.")] = True,
) -> None:
    """Write a copy of a model (CLIP, text encoder, pipeline, LLaVA) that holds the patches."""
    from slugkit.patch.checkpoint import apply_to_files

    edits = [_load(file) for file in files]
    apply_to_files(edits, model, out, record, _say)
    _say(f"{out} is {model} with the edits for {', '.join(edit.concept for edit in edits)}.")


@patch_app.command("remove")
def patch_remove_command(
    file: File,
    model: Annotated[Path, Option(help="The edited folder or safetensors file.")],
    out: Annotated[Path, Option(help="Where the copy without the edit goes; a new name.")],
    base: Annotated[Path | None, Option(help="The original, where there is no record.")] = None,
) -> None:
    """Write a copy of an edited model without the patch, bit for bit as before it."""
    from slugkit.patch.checkpoint import remove_from_files

    edit = _load(file)
    remove_from_files(edit, model, out, base, _say)
    _say(f"{out} is {model} without the edit for {edit.concept}.")


@patch_app.command("add")
def patch_add_command(
    files: Files,
    out: Annotated[Path, Option(help="The patch file that does what they do together.")],
    force: Force = False,
) -> None:
    """Add patches of one layer up to one patch file."""
    from slugkit import patch

    edits, out = [_load(file) for file in files], new_path(out, *files, ours=force)
    total = patch.add(edits)
    patch.save(total, out)
    _say(f"{out}: {total.layer}, rho {100 * total.rho:.2f} %, forgets {total.concept}.")


@patch_app.command("pack")
def patch_pack_command(
    file: File,
    out: Annotated[Path, Option(help="The smaller patch file.")],
    rank: Annotated[int, Option(help="0: full rank, in half precision.")] = 0,
    force: Force = False,
) -> None:
    """Write a smaller form of a patch: half precision, or a matrix of low rank, with its error."""
    from slugkit import patch

    edit, out = _load(file), new_path(out, file, ours=force)
    small = patch.low_rank(edit, rank) if rank else patch.half(edit)
    patch.save(small, out)
    size, error = f"{out.stat().st_size:,} bytes", f"{small.error:.2g}"
    typer.echo(f"{out}: {small.form}, {size}, relative error of the direction {error}.")


def _say(text: str) -> None:
    typer.echo(printable(text))


def _load(file: Path) -> Any:
    """The patch in `file`. Raises: MissingArtefactError, with the nearest name."""
    from slugkit import patch

    if not file.is_file():
        close = nearest(file.name, [path.name for path in file.parent.glob("*.safetensors")], 1)
        hint = "Notebook 04 leaves patches in runs/RUN/patches/."
        if close:
            hint = f"Did you mean {file.parent / close[0]}?"
        raise MissingArtefactError(f"There is no file {file}; a patch file was expected. {hint}")
    return patch.load(file)
