"""A worker of a sweep: runs one cell after the other, each in a process of its own."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import IO

from depthlab.run.sweep.grid import Cell
from depthlab.run.sweep.state import FAILED, CellRun

FitCommand = Callable[[Cell, Path, bool], list[str]]
"""From a cell, its run directory, and whether to go on with the run that is there, to the command that runs it."""

POLL = 5
"""Seconds between two looks at what others do."""
RANKS = ("RANK", "WORLD_SIZE", "MASTER_", "LOCAL_", "GROUP_", "ROLE_", "TORCHELASTIC_", "SLURM_", "NODE_RANK")
"""How the variables begin by which `torchrun` and `srun` tell a process that it is one of several."""


def work(runs: Sequence[CellRun], command: FitCommand) -> None:
    """Run cells until all have ended.

    Raises:
        KeyboardInterrupt: at Ctrl-C, once the run has saved.
        OSError: the directory cannot be written, or its file system does not lock.
    """
    durations: list[float] = []
    waits = False
    while waiting := [run for run in runs if run.outcome() is None]:
        for run in waiting:
            with run.claim() as log:
                if log is None or run.outcome() is not None:
                    continue
                outcome = _run(run, log, command, durations)
            _say(f"{_progress(runs, durations)} {run.cell.name} {outcome}")
            waits = False
            break
        else:
            if not waits:
                _say("Nothing is left to take: waiting for what other workers run.")
            waits = True
            time.sleep(POLL)


def _run(run: CellRun, log: IO[bytes], command: FitCommand, durations: list[float]) -> str:
    """Run a cell that is claimed, or go on with what is left of it, and say how it ended."""
    name, run_dir = run.cell.name, run.directory
    resumes = run_dir.can_go_on()
    if not resumes:  # it was stopped before it had anything to keep
        shutil.rmtree(run_dir.path, ignore_errors=True)
    _say(f"{'Going on with' if resumes else 'Running'} {name}")
    begins, began = log.seek(0, os.SEEK_END), time.monotonic()
    process = subprocess.Popen(
        command(run.cell, run_dir.path, resumes),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env=environment_of_a_run(os.environ),
        start_new_session=True,  # Ctrl-C reaches the worker alone, which hands it on once
    )
    status, outcome, seconds = _wait(process), run.outcome(), time.monotonic() - began
    if status or outcome is None:
        outcome = _last_word(run.log.read_bytes()[begins:].decode(errors="replace"), status)
    if isinstance(outcome, str):
        log.write(f"\n{FAILED}{outcome}\n".encode())
        return f"failed: {outcome}"
    if not resumes:
        durations.append(seconds)
    return f"finished in {_time(seconds)}, score {outcome:.4f}"


def _wait(process: subprocess.Popen) -> int:
    """Wait for the end of a run; its status."""
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.terminate()  # it finishes its step and saves
        try:
            process.wait()
        except KeyboardInterrupt:
            process.kill()
            process.wait()
        raise


def environment_of_a_run(ours: Mapping[str, str]) -> dict[str, str]:
    """A worker's environment without what makes it one of several: its runs are no ranks of one training.

    Under `torchrun` every worker of a machine sees all of its GPUs, and takes its own.
    """
    environment = {name: value for name, value in ours.items() if not name.startswith(RANKS)}
    if "TORCHELASTIC_RUN_ID" in ours and ours["LOCAL_WORLD_SIZE"] != "1":
        rank, devices = int(ours["LOCAL_RANK"]), ours.get("CUDA_VISIBLE_DEVICES", "").split(",")
        environment["CUDA_VISIBLE_DEVICES"] = devices[rank % len(devices)] or str(rank)
    return environment


def _last_word(output: str, status: int) -> str:
    """Why a run failed, in one line of its output."""
    if status < 0:
        return f"killed by {signal.Signals(-status).name}"
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("depthlab: error:")]
    return [*lines, *errors][-1].removeprefix("depthlab: error: ") if lines else f"it ended with status {status}"


def _progress(runs: Sequence[CellRun], durations: Sequence[float]) -> str:
    """How many cells have ended, and for how long the others will take if they are as those that ran here."""
    left = [run for run in runs if run.outcome() is None]
    ended = f"[{len(runs) - len(left)}/{len(runs)}]"
    if not left or not durations:
        return ended
    workers = min(sum(run.is_running() for run in left) + 1, len(left))  # this one goes on if there is any
    seconds = sum(durations) / len(durations) * len(left) / workers
    return f"{ended} about {_time(seconds)} left with {workers} worker{'s' if workers > 1 else ''}:"


def _time(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


def _say(text: str) -> None:
    print(f"{text}\n", end="", flush=True)  # in one write: unbuffered, another worker's line would come before the end
