"""A worker of a sweep: runs one cell after the other, each in a process of its own."""

import fcntl
import json
import math
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import IO

from optuna.trial import FrozenTrial, TrialState

from depthlab.run.sweep.estimate import time_left
from depthlab.run.sweep.grid import Cell
from depthlab.run.sweep.queue import HEARTBEAT, Queue, TakenOver, cell_of

FitCommand = Callable[[Cell, Path, bool], list[str]]
"""From a cell, its run directory, and whether to go on with the run that is there, to the command that runs it."""

POLL = 5
"""Seconds between two looks at what others do."""


class RunFailed(Exception):
    """The message is the run's last word."""


def work(queue: Queue, directory: Path, command: FitCommand) -> None:
    """Run cells until none is waiting or running.

    Args:
        queue: where they come from.
        directory: where their run directories and logs go.
        command: what runs one.

    Raises:
        KeyboardInterrupt: at Ctrl-C, once the run has saved and the cell is back in the queue.
    """
    waits = False
    while True:
        trial = queue.take()
        if trial is not None:
            waits = False
            _run(queue, trial, directory, command)
            continue
        if all(trial.state.is_finished() for trial in queue.trials()):
            return
        if not waits:
            _say("Nothing is left to take: waiting for what other workers run.")
        waits = True
        time.sleep(POLL)


def _run(queue: Queue, trial: FrozenTrial, directory: Path, command: FitCommand) -> None:
    """Run a cell and record how it ends."""
    cell, goes_on = cell_of(trial), trial.user_attrs["follows"] is not None
    began = time.monotonic()
    try:
        _say(f"{'Going on with' if goes_on else 'Running'} {cell.name}")
        try:
            score = _fit(cell, directory, goes_on, command, partial(queue.beat, trial))
            seconds = time.monotonic() - began
            queue.finish(trial, score, None if goes_on else seconds)
            outcome = f"finished in {duration(seconds)}, score {score:.4f}"
        except (RunFailed, OSError) as failure:
            queue.fail(trial, str(failure))
            outcome = f"failed: {failure}"
    except TakenOver:
        outcome = "was taken up by another worker: this one had not been heard of for too long"
    except KeyboardInterrupt:
        queue.give_back(trial)
        raise
    _say(f"{_progress(queue.trials())} {cell.name} {outcome}")


def _fit(cell: Cell, directory: Path, goes_on: bool, command: FitCommand, beat: Callable[[], None]) -> float:
    """Run a cell, or go on with what another worker has left of it.

    Its log is locked for as long as anything writes to it. A run whose worker alone has died is so waited for, and not
    run a second time beside itself.

    Returns:
        The score of the run.

    Raises:
        RunFailed: it ended with an error, or without results.
        TakenOver: by `beat`.
    """
    run_dir, log_file = directory / cell.name, directory / f"{cell.name}.log"
    with log_file.open("ab") as log:
        _lock(log, beat)
        if goes_on and _has_results(run_dir):
            with suppress(RunFailed):
                return _score(run_dir)
        resumes = goes_on and not _has_results(run_dir) and (run_dir / "checkpoints/last.ckpt").exists()
        if goes_on and not resumes:
            # It has diverged, or was stopped before it had anything to keep.
            shutil.rmtree(run_dir, ignore_errors=True)
        begins = log.tell()
        process = subprocess.Popen(
            command(cell, run_dir, resumes),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches the worker alone, which hands it on once
        )
        _wait(process, beat)
    if process.returncode or not _has_results(run_dir):
        with log_file.open("rb") as log:
            log.seek(begins)
            raise RunFailed(_last_word(log.read().decode(errors="replace"), process.returncode))
    return _score(run_dir)


def _lock(log: IO[bytes], beat: Callable[[], None]) -> None:
    while True:
        try:
            return fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(POLL)
            beat()


def _wait(process: subprocess.Popen, beat: Callable[[], None]) -> None:
    """Wait for the end of a run, and give signs of life."""
    try:
        while True:
            try:
                process.wait(HEARTBEAT)
                return
            except subprocess.TimeoutExpired:
                beat()
    except (KeyboardInterrupt, TakenOver):
        process.terminate()  # it finishes its step and saves
        try:
            process.wait()
        except KeyboardInterrupt:
            process.kill()
            process.wait()
        raise


def _has_results(run_dir: Path) -> bool:
    return (run_dir / "results.json").exists()


def _score(run_dir: Path) -> float:
    """The score of a run that has ended; of an experiment without, its validation loss, where less is more."""
    results = json.loads((run_dir / "results.json").read_text())
    score = results["val/score"] if "val/score" in results else -results.get("val/loss/total", math.nan)
    if math.isnan(score):
        raise RunFailed("its score is not a number")
    return score


def _last_word(output: str, status: int) -> str:
    """Why a run failed, in one line of its output."""
    if status < 0:
        return f"killed by {signal.Signals(-status).name}"
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("depthlab: error:")]
    return [*lines, *errors][-1].removeprefix("depthlab: error: ") if lines else f"it ended with status {status}"


def _progress(trials: Sequence[FrozenTrial]) -> str:
    """How many cells have ended, and for how long the others will take."""
    ended = f"[{sum(trial.state.is_finished() for trial in trials)}/{len(trials)}]"
    states = [trial.state for trial in trials]
    workers = states.count(TrialState.RUNNING) + (TrialState.WAITING in states)  # this one goes on if there is any
    seconds = time_left(
        [
            (cell_of(trial).settings, trial.user_attrs["seconds"])
            for trial in trials
            if trial.state == TrialState.COMPLETE and "seconds" in trial.user_attrs
        ],
        [(cell_of(trial).settings, _elapsed(trial)) for trial in trials if not trial.state.is_finished()],
        workers,
    )
    if seconds is None:
        return ended
    return f"{ended} about {duration(seconds)} left with {workers} worker{'s' if workers > 1 else ''}:"


def _elapsed(trial: FrozenTrial) -> float:
    """Seconds since an unfinished trial was taken, by the clock of who took it; 0 if nobody has."""
    taken = trial.datetime_start
    return 0.0 if taken is None else max((datetime.now() - taken).total_seconds(), 0.0)


def duration(seconds: float) -> str:
    """For people: in the largest unit of which there are at least two."""
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _say(text: str) -> None:
    print(text, flush=True)
