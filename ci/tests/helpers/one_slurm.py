"""A real Slurm of this machine alone: its controller, its one node, and rows to make on it."""

import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

NEEDED = ("munged", "slurmctld", "slurmd", "sbatch")
CONF = """ClusterName=one
SlurmctldHost={host}(127.0.0.1)
AuthType=auth/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SlurmUser=root
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=2000 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def lacking() -> str:
    """What is missing for a Slurm, or nothing."""
    names = [name for name in NEEDED if shutil.which(name) is None]
    if os.geteuid():
        names.append("root")
    return ", ".join(names)


@contextmanager
def one_slurm(folder: Path):
    """Within the block a Slurm of two cores answers; yields the variables that name it."""
    host = socket.gethostname().split(".")[0]
    conf = folder / "slurm.conf"
    conf.write_text(CONF.format(host=host, folder=folder))
    for name in ("state", "spool"):
        (folder / name).mkdir()
    for place in ("/run/munge", "/var/log/munge", "/var/lib/munge"):
        Path(place).mkdir(parents=True, exist_ok=True)
        shutil.chown(place, "munge", "munge")
    munged = subprocess.run(["pgrep", "-x", "munged"], capture_output=True).returncode
    if munged:
        subprocess.run(["su", "-s", "/bin/sh", "munge", "-c", shutil.which("munged")], check=True)
    named = os.environ | {"SLURM_CONF": str(conf)}
    for name in ("slurmctld", "slurmd"):
        subprocess.run([name, "-f", str(conf)], check=True, env=named)
    try:
        _wait(lambda: "idle" in told(named, "sinfo", "--noheader"), "the node")
        yield {"SLURM_CONF": str(conf)}
        told(named, "scancel", "--me")
        _wait(lambda: not told(named, "squeue", "--noheader"), "the queue")
    finally:
        for name in ("slurmctld", "slurmd"):
            with suppress(OSError, ValueError):
                os.kill(int((folder / f"{name}.pid").read_text()), 15)
        if munged:
            subprocess.run(["pkill", "-x", "munged"])


def told(named: dict[str, str], *command: str) -> str:
    """What a command of Slurm answers."""
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | named)
    return done.stdout.strip()


def _wait(there, what: str, seconds: float = 60) -> None:
    for _ in range(int(seconds / 0.2)):
        if there():
            return
        time.sleep(0.2)
    raise TimeoutError(f"{what} of the test's Slurm was waited for in vain")


def rows_of(folder: str, concept: str) -> list[dict]:
    """Two rows about a concept, as those of a sweep; files of the folder make it wait or fail."""
    place = Path(folder)
    with (place / "started.txt").open("a") as file:
        file.write(f"{concept}\n")
    if (place / f"break {concept}").is_file():
        raise ValueError(f"nothing can be said of {concept}")
    if (place / f"unknown {concept}").is_file():
        print(f"{concept} is left out. Nobody knows it.", file=sys.stderr)
        return []
    while (place / f"hold {concept}").is_file():
        time.sleep(0.1)
    value = 1 / 3 + len(concept)
    told = {"concept": concept, "method": "SLUG", "winner": None if len(concept) % 2 else "layer"}
    known = {"forgotten": len(concept) > 4 or float("nan"), "probes": 7}
    return [told | known | {"tower": t, "rho": value} for t in ("text", "vision")]
