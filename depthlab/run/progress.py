"""What a run says of itself while it goes on: `progress.json`, which `depthlab status` reads."""

import json
import os
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

State = Literal["running", "finished", "stopped", "failed"]

NUMBER = int | float
EVERY = 10.0
"""Seconds between two looks at what is to be written."""


@dataclass
class Progress:
    """How far a run is."""

    state: State = "running"
    doing: str = "preparing data"
    """What it is at, or waits for, and since when (seconds of the epoch)."""
    since: float = field(default_factory=time.time)
    step: int = 0
    steps: int | None = None
    """Optimiser steps made, and in all; None where only time ends the run."""
    seconds_left: float | None = None
    measured: dict[str, float] = field(default_factory=dict)
    """The last values, by tag."""
    validated: int | None = None
    """The step of the last validation."""
    reason: str = ""
    """Why it failed."""
    written: float = 0.0
    """When, in seconds of the epoch."""


class ProgressFile:
    """Keeps `progress.json` of a run up to date, from a thread of its own: it also tells of a run that hangs.

    A context: what ends it is the run's end. A run that goes on leaves what it has said before until it `begins`: it
    may still be refused. That the file can't be written is no reason to stop a run.

    Args:
        path: where it goes.
        writes: whether this process is the one that does.
    """

    def __init__(self, path: Path, writes: bool = True) -> None:
        self.path = path
        self.writes = writes
        self.progress = Progress()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep_writing, daemon=True)

    def say(self, doing: str | None = None, **facts: Any) -> None:
        """Note what the run is at, and fields of `Progress`; it is written before long."""
        for name, value in facts.items():
            setattr(self.progress, name, value)
        if doing is not None and doing != self.progress.doing:
            self.progress.doing, self.progress.since = doing, time.time()

    def begin(self) -> None:
        """Write from here on, if it has not begun yet."""
        if self.writes and self._thread.ident is None:
            self._write()
            self._thread.start()

    def __enter__(self) -> Self:
        if not self.path.exists():
            self.begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Finished, stopped by a signal (which ends in one of these two exceptions), or failed."""
        if self._thread.ident is None:
            return
        self._ended.set()
        self._thread.join()
        if kind is None:
            self.progress.state = "finished"
        elif issubclass(kind, KeyboardInterrupt | SystemExit):
            self.progress.state = "stopped"
        else:
            self.progress.state, self.progress.reason = "failed", " ".join(str(error).split()) or kind.__name__
        self._write()

    def _keep_writing(self) -> None:
        while not self._ended.wait(EVERY):
            self._write()

    def _write(self) -> None:
        """Whole or not at all to who reads; a power cut may take it."""
        self.progress.written = time.time()
        unfinished = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        with suppress(OSError):
            unfinished.write_text(json.dumps(asdict(self.progress), indent=1) + "\n")
            unfinished.replace(self.path)


def read_progress(path: Path) -> Progress | None:
    """What a run has said last; None where it has not, or not in this form."""
    try:
        content = json.loads(path.read_text())
        said = Progress(**{name.name: content[name.name] for name in fields(Progress)})
        kinds = {"state": str, "doing": str, "since": NUMBER, "step": int, "measured": dict, "reason": str}
        kinds |= {"written": NUMBER, "steps": int | None, "seconds_left": NUMBER | None, "validated": int | None}
        is_ours = all(isinstance(getattr(said, name), kind) for name, kind in kinds.items())
        return said if is_ours and all(isinstance(value, NUMBER) for value in said.measured.values()) else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
