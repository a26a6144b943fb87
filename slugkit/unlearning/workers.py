r"""One gradient by several processes: each takes whole micro-batches, so that their number does not
change the result but for rounding.

    torchrun --nproc-per-node 4 -m slugkit.unlearning.workers --model studio \
        --folder runs/workbook/sets --name forget --kind forget --out forget.safetensors

On a CPU the processes speak through gloo, on several GPUs through nccl. `accelerate launch -m
slugkit.unlearning.workers ...` runs the same file with as many processes as it is configured for.
Without a GPU `--cpu` starts a single one, whatever `--num_processes` says; `--multi_gpu
--num_processes 2 --main_process_port 0` starts two on a CPU as well.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import deque
from pathlib import Path

import torch
from safetensors.torch import load_file

from slugkit.base import (
    EmptySetError,
    GradientError,
    SettingError,
    SlugError,
    require_choice,
    thread_environment,
    usable_cpus,
    write_tensors,
)
from slugkit.data import load_pairs
from slugkit.method.gradients import check_finite
from slugkit.models import load_clip, pick_device
from slugkit.unlearning.gradients import gradient_of
from slugkit.unlearning.losses import KINDS, PRECISIONS, loss_of, micro_batches

FAILED = "slugkit-worker-failed "


def gradients_by_workers(
    model: str,
    folder: str | Path,
    name: str,
    kind: str,
    workers: int = 2,
    batch_size: int = 128,
    seed: int = 0,
    precision: str = "fp32",
    chunk: int | None = None,
    device: str = "auto",
    out: str | Path | None = None,
) -> dict[str, torch.Tensor]:
    """g_f or g_r ("forget" or "retain") of a saved set, computed by `workers` processes of
    torchrun: the same as of one to about 1e-6.

    model: as of `load_clip`, which each worker calls for itself. folder, name: where `Pairs.save`
    wrote the set. out: safetensors file to leave, None for none. The others as of
    `retain_gradient`. Raises SettingError, MissingArtefactError, EmptySetError before anything
    starts, GradientError with what the first failing worker said.
    """
    require_choice(kind, KINDS, "The gradient")
    require_choice(precision, PRECISIONS, "The precision")
    most = {"cuda": torch.cuda.device_count(), "mps": 1}.get(pick_device(device).type, 64)
    if not 1 <= workers <= most:
        raise SettingError(
            f"workers is {workers}; 1 to {most} were expected: one for each GPU, or processes that"
            " share the CPU."
        )
    if not micro_batches(load_pairs(Path(folder), name), kind, batch_size, seed, chunk):
        raise EmptySetError(
            f"{name} holds no micro-batch to take the {kind} gradient over; at least two pairs with"
            " distinct captions were expected."
        )
    with tempfile.TemporaryDirectory() as spare:
        target = Path(out) if out is not None else Path(spare) / "gradient.safetensors"
        given = {"model": model, "folder": folder, "name": name, "kind": kind, "out": target}
        given |= {"batch-size": batch_size, "seed": seed, "precision": precision, "device": device}
        given |= {"chunk": chunk} if chunk is not None else {}
        _launch(workers, [f"--{key}={value}" for key, value in given.items()], kind)
        return load_file(target)


def _launch(workers: int, arguments: list[str], kind: str) -> None:
    """Run the workers to their end, passing their progress on.

    Raises GradientError with the first failure that one of them reported.
    """
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={workers}", "-m", "slugkit.unlearning.workers", *arguments]
    environment = {**os.environ, **thread_environment(max(1, usable_cpus() // workers))}
    last, reports = deque(maxlen=1), []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as running:
        for line in running.stdout:
            if line.startswith(FAILED):
                reports.append(json.loads(line.removeprefix(FAILED)))
            elif line.strip():
                last.append(line.strip())
                if line.startswith(f"{kind} gradient"):
                    print(line, end="", file=sys.stderr, flush=True)
    if running.returncode:
        killed = "(a process that is killed without a word has usually run out of memory)"
        said = reports[0] if reports else f"{''.join(last)} {killed}"
        raise GradientError(
            f"A worker of the {kind} gradient failed: {said} Nothing was written; mend it, or take"
            " fewer workers."
        )


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="slugkit.unlearning.workers",
        description="One gradient over a saved set, by the processes that torchrun started.",
    )
    for name in ("model", "folder", "name", "out"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--kind", required=True, choices=KINDS)
    parser.add_argument("--precision", default="fp32", choices=list(PRECISIONS))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--chunk", type=int)
    return parser.parse_args(argv)


def work(given: argparse.Namespace) -> None:
    """What every worker does: load the model, take its run of whole micro-batches (none adds
    zeros), add the sums up in their order; the first one writes the file. Raises SlugError.
    """
    from accelerate import PartialState
    from accelerate.utils import gather

    state = PartialState(cpu=pick_device(given.device).type == "cpu")
    clip = load_clip(given.model, given.device)
    loss_of(clip, given.kind, given.precision, given.chunk)
    pairs = load_pairs(Path(given.folder), given.name)
    parts = micro_batches(pairs, given.kind, given.batch_size, given.seed, given.chunk)
    with state.split_between_processes(parts) as mine:
        mine = list(mine)
    seen = sum(len(part) for part in parts)
    share = sum(len(part) for part in mine) / max(seen, 1)
    if not seen:
        raise EmptySetError(
            f"There is no batch to take the {given.kind} gradient over; expected at least two pairs"
            " with distinct captions."
        )
    own = gradient_of(clip, given.kind, pairs, mine, given.precision, given.chunk) if mine else None
    total = {}
    for name, w in clip.model.named_parameters():
        term = share * own[name] if own else torch.zeros_like(w, dtype=torch.float32)
        total[name] = gather(term[None].contiguous()).sum(0)
    check_finite(total, f"{given.kind} gradient")
    if state.is_main_process:
        about = {"kind": given.kind, "workers": str(state.num_processes)}
        write_tensors(given.out, total, about | {"micro_batches": str(len(parts))})
    state.wait_for_everyone()
    state.destroy_process_group()


def main(argv: list[str] | None = None) -> int:
    """Entry of each process; 0, or 1 after one line that says what went wrong."""
    try:
        work(_arguments(argv))
    except Exception as error:
        said = str(error) if isinstance(error, SlugError) else f"{type(error).__name__}: {error}."
        print(f"\n{FAILED}{json.dumps(said)}", file=sys.stderr, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
