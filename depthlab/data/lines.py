"""Numbered lines of text files, and one line about what is wrong with one."""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

from depthlab.errors import UserError


def read_lines(file: Path, setting: str = "data.corpus") -> Iterator[tuple[int, str]]:
    """Numbered lines of a plain or gzipped file, which the setting names.

    Raises:
        UserError: It cannot be read, or is not UTF-8.
    """
    number = 0
    try:
        with gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb") as stream:
            for number, line in enumerate(stream, 1):
                yield number, line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{file}, line {number}: not valid UTF-8; convert the file (iconv -t utf-8) or mend it"
        ) from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{file}, after line {number}: broken gzip data ({error}); fetch the file again") from error
    except OSError as error:
        raise unreadable(file, error, setting) from error


def unreadable(path: Path, error: OSError, setting: str = "data.corpus") -> UserError:
    """For a user: that a file that a setting names can't be read."""
    return UserError(f"{path}: cannot be read ({error.strerror or error}); make it readable or correct {setting}")
