"""Files and folders that have their name only once they are complete, or one process at a time."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from depthlab.errors import UserError


@contextmanager
def all_or_nothing(target: Path) -> Iterator[Path]:
    """Gives a path beside `target` to write a file or make a folder at, which takes `target`'s name in the end.

    After an exception nothing is left of it, and what was at `target` is untouched. A file is replaced, an empty folder
    as well.

    Raises:
        OSError: what is at `target` can't be replaced.
    """
    unfinished = target.with_name(f".{target.name}.unfinished-{os.getpid()}")
    try:
        yield unfinished
        unfinished.replace(target)
    finally:
        if unfinished.is_dir():
            shutil.rmtree(unfinished, ignore_errors=True)
        else:
            unfinished.unlink(missing_ok=True)


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keeps others who ask for the folder out of it, until the end or the process's; a file `.lock` stays in it.

    Raises:
        UserError: another has it.
    """
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another process is at work in {folder}: stop it, or name another directory") from None
        except OSError:
            pass  # some file systems of clusters have no locks
        try:
            yield
        finally:
            with suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_UN)  # closing is not enough: a loader's processes have inherited it
