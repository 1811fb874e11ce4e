"""The files of a kind that a path names: itself, or all that a folder holds."""

from collections.abc import Sequence
from pathlib import Path

from depthlab.data.lines import unreadable
from depthlab.errors import UserError, notice_once
from depthlab.files import files_in


def files_at(path: Path, suffixes: Sequence[str], setting: str) -> list[Path]:
    """The file itself, or the files of a folder whose names end so, in upper or lower case, in order.

    What else the folder holds is counted and said, once.

    Raises:
        UserError: There is none, or it can't be read; the setting named it.
    """
    ends = ", ".join(suffixes)
    try:
        if not path.is_dir():
            path.stat()
            if not is_of(path, suffixes):
                raise UserError(f"{path}: cannot read this kind of file; {setting} takes {ends}, and folders of such")
            return [path]
        found, hidden = files_in(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file or folder; correct {setting}") from None
    except OSError as error:
        raise unreadable(path, error, setting) from error
    files = [file for file in found if is_of(file, suffixes)]
    if not files:
        raise UserError(f"{path}: no file ends in {ends}; point {setting} to a folder that has some")
    counts = {"hidden": hidden, "of other kinds": len(found) - len(files)}
    skipped = [f"{count} {kind}" for kind, count in counts.items() if count]
    if skipped:
        notice_once(f"{path}: {len(files)} files; left out: {', '.join(skipped)}")
    return files


def is_of(file: Path, suffixes: Sequence[str]) -> bool:
    """Whether a file's name ends so, in upper or lower case."""
    return file.name.lower().endswith(tuple(suffixes))
