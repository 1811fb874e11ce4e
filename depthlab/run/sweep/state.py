"""What the directory of a sweep says: which cells have run, run, or wait. It is all that workers know of each other.

Beside the run directory of every cell lies its log, `CELL.log`. The log is locked as long as a worker or the run itself
has it open, and its last line says so if the run has failed. A run that has finished has results. Any number of workers
on any machines share a directory, if its file system locks (as local ones, NFS 4, Lustre with `flock`, and GPFS do).
"""

import fcntl
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from depthlab.errors import UserError
from depthlab.files import all_or_nothing
from depthlab.run.directory import RunDirectory, Shape, hold, is_locked, read_file
from depthlab.run.sweep.grid import Cell

FAILED, AGAIN = "depthlab sweep: failed: ", "depthlab sweep: again"
"""Lines of a worker in the log of a run."""
SCORES: Shape = {"val/score": (float, None), "val/loss/total": (float, None)}
CELLS = "cells.json"
"""In a sweep's directory: names of its cells, of all workers."""


class CellRun:
    """The run of a cell in the directory of a sweep."""

    def __init__(self, cell: Cell, sweep: Path) -> None:
        self.cell = cell
        self.directory = RunDirectory(sweep / cell.name)
        self.log = sweep / f"{cell.name}.log"  # what it prints, and what workers say of it

    def outcome(self) -> float | str | None:
        """Its score (of an experiment without, minus its validation loss); why it failed; None if it has not ended."""
        if reason := why_failed(self.log):
            return reason
        if not self.directory.results.exists():
            return None
        try:
            results = hold(read_file(self.directory.results), SCORES, self.directory.results.name)
        except UserError as error:
            return str(error)
        score, loss = results.get("val/score"), results.get("val/loss/total")
        score = score if score is not None else math.nan if loss is None else -loss
        return "its score is not a number" if math.isnan(score) else float(score)

    @contextmanager
    def claim(self) -> Iterator[IO[bytes] | None]:
        """The log, locked, to append to; None where another has it.

        Who gets it as its standard output shares the lock, which ends with the last of them: the run of a worker that
        has died keeps it.
        """
        with _locked(self.log) as log:
            if log is not None:
                with suppress(FileNotFoundError):  # NFS would answer from memory what others have left there
                    tempfile.TemporaryFile(dir=self.directory.path).close()
            yield log

    def is_running(self) -> bool:
        """Whether somebody is at it."""
        return is_locked(self.log)

    def forget_failure(self) -> None:
        """Let it run again if it has failed: from where it was, or anew if it had ended with a score that is none."""
        with self.claim() as log:
            if log is not None and isinstance(self.outcome(), str):
                log.write(f"{AGAIN}\n".encode())
                log.flush()
                if isinstance(self.outcome(), str):
                    shutil.rmtree(self.directory.path)


def why_failed(log: Path) -> str | None:
    """What a worker has written last into the log of a run, if that is why it failed."""
    with suppress(FileNotFoundError), log.open("rb") as file:
        file.seek(-min(file.seek(0, os.SEEK_END), 4096), os.SEEK_END)
        last = file.read().decode(errors="replace").rstrip("\n").rpartition("\n")[2]
        if last.startswith(FAILED):
            return last.removeprefix(FAILED)
    return None


def planned(sweep: Path) -> list[str]:
    """Names of all cells that workers have set out to run, and of those that have a log."""
    cells = sweep / CELLS
    names = _own(cells, list) if cells.is_file() else []
    return list(dict.fromkeys([*names, *sorted(log.stem for log in sweep.glob("*.log"))]))


def begin(sweep: Path, runs: Sequence[CellRun], settings: Mapping[str, Any]) -> None:
    """Begin a sweep in a directory, or go on with what was begun there.

    `sweep.json` says with which settings, those that all cells share; `cells.json` which cells there are.

    Raises:
        UserError: it was begun with other settings, or holds runs that are not a sweep's.
    """
    plan = sweep / "sweep.json"
    with _locked(sweep / ".lock", waits=True):
        if not plan.exists():
            if there := [run.directory.path for run in runs if run.directory.path.exists()]:
                raise UserError(
                    f"{there[0]} is there already, but no {plan}, with which a sweep begins: name another --run_dir, "
                    "or remove it"
                )
            with all_or_nothing(plan) as unfinished:
                unfinished.write_text(json.dumps(settings, indent=2) + "\n")
        begun = _own(plan, dict)
        for setting in sorted(settings.keys() | begun.keys()):
            if settings.get(setting) != begun.get(setting):
                raise UserError(
                    f"this sweep was begun with {setting} {begun.get(setting)}, not {settings.get(setting)}: name "
                    f"another --run_dir for another sweep, or remove {sweep}"
                )
        with all_or_nothing(sweep / CELLS) as unfinished:
            names = dict.fromkeys([*planned(sweep), *(run.cell.name for run in runs)])
            unfinished.write_text(json.dumps([*names], indent=1) + "\n")


def _own(file: Path, kind: type) -> Any:
    """What a file of the sweep's own says."""
    content = read_file(file)
    if not isinstance(content, kind) or not all(isinstance(name, str) for name in content):
        raise UserError(f"{file} is not what a sweep writes: remove the sweep's directory, or name another --run_dir")
    return content


@contextmanager
def _locked(path: Path, waits: bool = False) -> Iterator[IO[bytes] | None]:
    """A file, to append to, that nobody else has locked; None where somebody has, unless it is waited for."""
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))
        except BlockingIOError:
            yield None
        else:
            yield file
