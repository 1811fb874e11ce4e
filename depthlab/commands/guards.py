"""What is refused before a fit or an evaluation, so that no run is lost."""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from transformers import PreTrainedModel

from depthlab.errors import UserError
from depthlab.files import make_writable
from depthlab.models.albert import AdaptiveAlbertPreTrainedModel
from depthlab.models.trained import READABLE, check_unit
from depthlab.run.checkpoints import whole_checkpoint
from depthlab.run.directory import RunDirectory

SELDOM_THERE = ("pooler.", "sop_classifier.")


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


def refuse_untrained(checkpoint: str, model: PreTrainedModel) -> None:
    """What a model says of a task by weights that its checkpoint does not have is said by chance.

    Sentence order is asked of a pooler and a head that few models have; what else is measured beside it stands.

    Raises:
        UserError: there are such weights; or what decides was trained by another rule.
    """
    new = [name for name in getattr(model, "new_weights", ()) if not any(part in name for part in SELDOM_THERE)]
    if new:
        raise UserError(f"{checkpoint} has no {new[0]}: name what was trained for the task, {READABLE}")
    if isinstance(model, AdaptiveAlbertPreTrainedModel):
        check_unit(checkpoint, model)


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
