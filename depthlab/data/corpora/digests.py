"""Digests of files, kept in the cache beside prepared text: what has not changed is not read again."""

import hashlib
import json
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from depthlab.data.lines import unreadable
from depthlab.files import all_or_nothing

INDEX = ".digests.json"
"""By a file's real path: its size, the times of its last change (of content, and of anything), and the digest."""
SETTLED = 2_000_000_000
"""Nanoseconds. What was changed more shortly before it was read may change once more and show the same times, which
some file systems keep in steps of two seconds: it is read again the next time."""


def digest_files(files: Sequence[Path], cache_dir: Path) -> list[str]:
    """SHA-256 (hexadecimal) of each file's content, from the cache where size and times are as when it was read.

    A cache that can't be written is none here; processes that write to it at once may each lose what others found.

    Raises:
        UserError: A file cannot be read.
    """
    known, found, digests = _read(cache_dir), {}, []
    for file in files:
        place = os.path.realpath(file)
        try:
            with file.open("rb") as stream:  # known or not: a network's file system looks anew at what is opened
                now, state = time.time_ns(), _state(stream.fileno())
                if known.get(place, [])[:-1] != state:
                    known[place] = [*state, hashlib.file_digest(stream, "sha256").hexdigest()]
                    if max(state[1:]) < now - SETTLED:
                        found[place] = known[place]
        except OSError as error:
            raise unreadable(file, error) from error
        digests.append(known[place][-1])
    if found:
        with suppress(OSError):
            cache_dir.mkdir(parents=True, exist_ok=True)
            with all_or_nothing(cache_dir / INDEX) as unfinished:
                unfinished.write_text(json.dumps(_read(cache_dir) | found))
    return digests


def _state(descriptor: int) -> list[int]:
    """The second time can't be set back, as `cp -p` and `rsync -t` do with the first."""
    found = os.fstat(descriptor)
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def _read(cache_dir: Path) -> dict[str, list[Any]]:
    try:
        return json.loads((cache_dir / INDEX).read_text())
    except (OSError, ValueError):
        return {}
