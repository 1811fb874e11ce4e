"""Checkpoints of a run: which is whole, and which stands in for one that is not."""

import os
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO

from depthlab.errors import UserError, notice
from depthlab.run.directory import RunDirectory, run_of

SEAL = b"crc32 %08x"
"""The comment of a checkpoint's zip archive: the checksum of all that comes before it."""
SEAL_BYTES = len(SEAL % 0)
END_OF_ARCHIVE = b"PK\x05\x06"
"""How the last record of a zip archive begins: 22 bytes, the last two of which are the length of the comment."""


def seal(file: Path) -> None:
    """Make a zip archive say what it should hold. Checksums of its members miss what their directory says of them.

    Raises:
        ValueError: it is no archive, or has a comment already.
    """
    with file.open("r+b") as archive:
        archive.seek(-22, os.SEEK_END)
        if not (end := archive.read()).startswith(END_OF_ARCHIVE) or end[-2:] != b"\0\0":
            raise ValueError(f"{file} is no zip archive without a comment")
        archive.seek(-2, os.SEEK_END)
        archive.write(SEAL_BYTES.to_bytes(2, "little"))
        size = archive.tell()
        archive.write(SEAL % _checksum(archive, size))


def damage(file: Path) -> str | None:
    """What is wrong with a checkpoint's file, in a few words; None if every bit is as it was written.

    Of a file without a seal the members are checked, whose checksums are the archive's own.
    """
    size = file.stat().st_size
    if size == 0:
        return "it is empty"
    try:
        with zipfile.ZipFile(file) as archive, file.open("rb") as stream:
            if archive.comment:
                sealed = archive.comment == SEAL % _checksum(stream, size - SEAL_BYTES)
                return None if sealed else "its checksum differs"
            stream.seek(-2, os.SEEK_END)
            if stream.read() != b"\0\0":
                return "it is cut short"  # just before its seal
            return "a checksum differs" if archive.testzip() else None
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    except Exception:  # zipfile raises anything over bytes that are not what they were
        return "it is cut short, or no checkpoint"


def whole_checkpoint(path: Path) -> Path | None:
    """The checkpoint that a path names, or the one that stands in for it where it is damaged; None where there is none.

    A run's directory names its best checkpoint. The last stands in for the best, and the one before it for the last.
    That one is damaged is said in a line.

    Raises:
        UserError: none is left.
    """
    run = RunDirectory(path) if path.is_dir() else run_of(path)
    order = [run.best, run.last, run.previous]
    if path.is_file() and path not in order and not zipfile.is_zipfile(path):
        return path  # nothing of a run's: who reads it says what it is not
    candidates = order if path.is_dir() else order[order.index(path) :] if path in order else [path]
    there = [candidate for candidate in candidates if candidate.is_file()]
    for candidate, *others in (there[number:] for number in range(len(there))):
        wrong = damage(candidate)
        if wrong is None:
            return candidate
        if not others:
            raise UserError(f"{candidate} is damaged ({wrong}), and there is no other to take in its place")
        notice(f"{candidate} is damaged ({wrong}): taking {others[0].name} in its place")
    return None


def _checksum(stream: BinaryIO, size: int) -> int:
    """Of the first so many bytes; the stream stands behind them then."""
    stream.seek(0)
    checksum = 0
    while size > 0 and (block := stream.read(min(size, 2**20))):
        checksum = zlib.crc32(block, checksum)
        size -= len(block)
    return checksum
