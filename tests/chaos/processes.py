"""A `depthlab` command in a forked process of its own, to be killed where it is."""

import contextlib
import multiprocessing.util
import os
import signal
import sys
import time
import traceback
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
    """Notes where a run is, and which samples each step took: one line a step, which a killed run leaves behind."""

    def __init__(self, folder: str) -> None:
        self.place, self.samples = Path(folder) / "place", Path(folder) / "samples"
        self.times = 0

    def at(self, place: str) -> None:
        self.times += 1
        self.place.write_text(f"{place} {self.times}\n")

    def on_train_batch_start(self, *hook: Any) -> None:
        self.at("step")

    def on_validation_start(self, *hook: Any) -> None:
        self.at("validation")

    def on_save_checkpoint(self, *hook: Any) -> None:
        self.at("saving")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        rows = [hash(tuple(row)) for row in batch["input_ids"].tolist()]
        with self.samples.with_suffix(f".{trainer.global_rank}").open("a") as file:
            print(trainer.global_step, batch_idx, *rows, file=file)


class Process:
    """A command that runs in a group of its own; what it prints goes to a file."""

    def __init__(self, command: Sequence[str], folder: Path, before: Callable[[], None] = lambda: None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
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
    def place(self) -> tuple[str, int]:
        """Where the run is, and the how manieth place that is."""
        try:
            name, times = self.place_file.read_text().split()
        except (FileNotFoundError, ValueError):
            return "start", 0
        return name, int(times)

    def ended(self) -> bool:
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
        return self.status is not None

    def wait_for(self, place: str, times: int = 1) -> bool:
        """Wait until the run has come to a place so many times; whether it has."""
        seen, last = 0, -1
        for _ in self._patiently():
            if self.ended():
                return False
            name, number = self.place
            if name == place and number != last:
                seen, last = seen + 1, number
                if seen >= times:
                    return True
        return False

    def wait(self) -> int:
        """Wait for its end: the status, as a shell has it; one that never ends is killed."""
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
