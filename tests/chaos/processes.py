"""A `depthlab` command in a forked process of its own, to be killed where it is."""

import contextlib
import math
import multiprocessing.util
import os
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

import depthlab.commands.experiment  # noqa: F401 (so that a fork need not)
from depthlab.cli import main

PATIENCE = 300
"""Seconds after which a process that does not end, or never comes to where it was to be hit, counts as lost."""


class Witness(Callback):
    """Notes where a run is, and which samples each step took: one line a step, which a killed run leaves behind.

    Rank 0 stops at the place that the file `stop_at` in the folder names, and how often it has come there; where that
    says `nan`, too, a weight is NaN from there on.
    """

    def __init__(self, folder: str) -> None:
        self.place, self.samples = Path(folder) / "place", Path(folder) / "samples"
        self.stop_at = (Path(folder) / "stop_at").read_text()
        self.times: Counter[str] = Counter()
        self.poisons = False

    def at(self, place: str, trainer: Trainer) -> None:
        if trainer.is_global_zero:
            self.times[place] += 1
            self.place.write_text(place)
            if f"{place} {self.times[place]}" == self.stop_at:
                os.kill(os.getpid(), signal.SIGSTOP)
            elif f"{place} {self.times[place]} nan" == self.stop_at:
                self.poisons = True

    def on_train_batch_start(self, trainer: Trainer, *hook: Any) -> None:
        self.at("step", trainer)

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: torch.Tensor) -> None:
        if self.poisons:
            next(pl_module.parameters()).data.view(-1)[0] = math.nan  # past autograd, which would say so itself

    def on_validation_start(self, trainer: Trainer, *hook: Any) -> None:
        self.at("validation", trainer)

    def on_save_checkpoint(self, trainer: Trainer, *hook: Any) -> None:
        self.at("saving", trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        rows = [hash(tuple(row)) for row in batch["input_ids"].tolist()]
        with self.samples.with_suffix(f".{trainer.global_rank}").open("a") as file:
            print(trainer.global_step, batch_idx, *rows, file=file)


class Process:
    """A command that runs in a group of its own; what it prints goes to a file."""

    def __init__(
        self, command: Sequence[str], folder: Path, stop_at: str = "", before: Callable[[], None] = lambda: None
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "stop_at").write_text(stop_at)
        self.place_file, self.log = folder / "place", folder / f"log-{len(list(folder.glob('log-*')))}"
        self.place_file.unlink(missing_ok=True)
        self.status: int | None = None
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            self._become(command, before)

    def _become(self, command: Sequence[str], before: Callable[[], None]) -> None:
        status = 1
        try:
            os.setsid()
            log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(log, 1)
            os.dup2(log, 2)
            sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
                signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
            torch.set_num_threads(1)
            before()
            main(command)
            status = 0
        except SystemExit as exit_:
            status = exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(BaseException):
                multiprocessing.util._exit_function()  # ends its workers
            os._exit(status)

    @property
    def place(self) -> str:
        """Where the run is."""
        return (self.place_file.exists() and self.place_file.read_text()) or "start"

    def ended(self) -> bool:
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
        return self.status is not None

    def has_stopped(self) -> bool:
        """Wait until it has come to where it is to stop; or has ended."""
        for _ in self._patiently():
            pid, status = os.waitpid(self.pid, os.WNOHANG | os.WUNTRACED)
            if pid and os.WIFSTOPPED(status):
                return True
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
                return False
        return False

    def wait(self) -> int:
        """Wait for its end, going on from where it has stopped: the status; one that never ends is killed."""
        self.kill(signal.SIGCONT)
        for _ in self._patiently():
            if self.ended():
                return self.status
        self.kill(signal.SIGKILL, group=True)
        os.waitpid(self.pid, 0)
        self.status = -signal.SIGALRM
        return self.status

    def kill(self, number: int, group: bool = False) -> None:
        with contextlib.suppress(ProcessLookupError):
            (os.killpg if group else os.kill)(self.pid, number)

    def children(self) -> list[int]:
        """Processes that this one has started."""
        with contextlib.suppress(FileNotFoundError):
            return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]
        return []

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def errors(self) -> list[str]:
        """What it said in the end that was wrong, a line each; with a traceback, that it was one."""
        lines = self.output.splitlines()
        told = [line for line in lines if line.startswith("depthlab: error:")]
        return told + [line for line in lines if line.startswith("Traceback")]

    @staticmethod
    def _patiently() -> Iterator[None]:
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            yield
            time.sleep(0.005)
