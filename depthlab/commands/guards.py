"""What is refused before a fit or an evaluation, so that no run is lost."""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from depthlab.errors import UserError
from depthlab.files import make_writable
from depthlab.run.checkpoints import whole_checkpoint
from depthlab.run.directory import RunDirectory


def refuse_to_overwrite(run: RunDirectory, goes_on: bool) -> None:
    """Make the directory of a run that begins, or goes on from its own last state.

    Raises:
        UserError: another run is there, and has left something; or the directory can't be written.
    """
    if not goes_on and run.holds_work():
        raise UserError(
            f"{run.path} holds a run: go on with --ckpt_path last, start another with --run_dir DIR, or remove it"
        )
    make_writable("to --run_dir", run.path)


@contextmanager
def only_one(run: RunDirectory, is_global_zero: bool) -> Iterator[None]:
    """Be the only one who trains here: the run's lock says so, which rank 0 holds.

    Raises:
        UserError: another process trains here.
    """
    lock = FileLock(run.lock, blocking=False)
    try:
        if is_global_zero:
            lock.acquire()
    except Timeout:
        raise UserError(f"another process trains in {run.path}: stop it, or name another --run_dir") from None
    try:
        yield
    finally:
        lock.release()


def existing_checkpoint(path: Path) -> Path:
    """The checkpoint at a path, or what stands in for it where it is damaged.

    Raises:
        UserError: there is nothing, or something else.
    """
    found = whole_checkpoint(path)
    if found is None:
        raise UserError(f"nothing to go on from: {path} does not exist; name another --ckpt_path or --run_dir")
    if not zipfile.is_zipfile(found):
        raise UserError(f"--ckpt_path {path} is not a checkpoint")
    return found
