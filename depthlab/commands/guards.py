"""What is refused before a fit or an evaluation, so that no run is lost."""

import pickle
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from depthlab.errors import UserError
from depthlab.files import make_writable
from depthlab.run.checkpoints import whole_checkpoint
from depthlab.run.directory import RunDirectory, run_of
from depthlab.run.logs import cut_logs


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


def take_back_logs(run: RunDirectory, checkpoint: str | None) -> None:
    """Leave in a run's logs what was there when the checkpoint was saved that it goes on from; nothing without one.

    Raises:
        UserError: the checkpoint holds more than tensors and settings, and is not loaded.
    """
    sizes: dict[str, int] | None = {}
    if checkpoint is not None and run_of(Path(checkpoint)).path.resolve() == run.path.resolve():
        try:
            sizes = torch.load(checkpoint, map_location="cpu", mmap=True, weights_only=True).get("log_sizes")
        except (pickle.UnpicklingError, RuntimeError):
            raise UserError(f"--ckpt_path {checkpoint} is not a checkpoint of a depthlab run") from None
    if sizes is not None:  # as in checkpoints that do not say
        cut_logs(run, sizes)


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
