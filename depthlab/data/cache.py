"""Prepared data on the disk: made by one process at a time, and there once it is complete."""

import ctypes
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from depthlab.errors import notice

SCRATCH = "preparing-"
PR_SET_PDEATHSIG = 1
"""Of Linux' prctl(2): the signal that a process gets when its parent dies."""


@contextmanager
def making(cache_dir: Path) -> Iterator[Path]:
    """A scratch folder in the cache, for the only process that makes something there; another is waited for.

    What a process has left that was killed is removed. The processes that this one starts meanwhile die with it.

    Raises:
        OSError: the folder can't be written.
    """
    cache_dir.mkdir(parents=True, exist_ok=True)
    lock = FileLock(cache_dir / ".lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        notice(f"{cache_dir}: waiting for another process, which prepares data there")
        lock.acquire()
    try:
        for left in cache_dir.glob(f"{SCRATCH}*"):
            shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=cache_dir) as scratch, _children_die_with_us():
            yield Path(scratch)
    finally:
        lock.release()


@contextmanager
def _children_die_with_us() -> Iterator[None]:
    """A pool waits for work forever when the process is gone that it had it from; on Linux the system can end it."""
    _mortal.append(os.getpid())
    try:
        yield
    finally:
        _mortal.pop()


_mortal: list[int] = []
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def _after_fork() -> None:
    if _mortal and _libc is not None:
        parent, _mortal[-1] = _mortal[-1], os.getpid()
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it has died just now
            os._exit(1)


os.register_at_fork(after_in_child=_after_fork)
