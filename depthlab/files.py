"""Files and folders that have their name only once they are complete."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
