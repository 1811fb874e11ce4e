"""Processes that make batches: whose signals they heed, and what is said when one is killed."""

import os
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from depthlab.errors import UserError

HELD_BACK = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
KILLED = re.compile(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) (?:is killed|exited)")
"""What torch says."""


def heed_the_parent_only(worker: int) -> None:
    """Let no signal end this process but its parent's SIGTERM.

    Terminals and batch systems send them to all processes of a run. The one that trains finishes its step then, and
    wants this one's batches for it. When it is no more torch ends this process.
    """
    if hasattr(signal, "sigwaitinfo"):  # macOS has none
        signal.pthread_sigmask(signal.SIG_BLOCK, HELD_BACK)
        threading.Thread(target=_wait_for, args=(os.getppid(),), daemon=True).start()


def _wait_for(parent: int) -> None:
    while True:
        came = signal.sigwaitinfo(HELD_BACK)
        if came.si_signo == signal.SIGTERM and came.si_pid == parent:
            os._exit(0)


@contextmanager
def named_when_killed() -> Iterator[None]:
    """Says in a line that such a process was killed.

    Raises:
        UserError: one was.
    """
    try:
        yield
    except RuntimeError as error:
        killed = KILLED.match(str(error))
        if killed is None:
            raise
        raise UserError(
            f"process {killed[1]}, which made batches, was killed: mostly that is memory that has run out; lower "
            "data.num_workers. A run goes on with --ckpt_path last"
        ) from None
