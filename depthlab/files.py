"""Files and folders that have their name only once they are complete, and what the user hears where they can't be."""

import errno
import os
import platform
import re
import shutil
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from depthlab.errors import UserError

UNFINISHED, REPLACED = "unfinished", "old"


def shipped(name: str) -> Path | None:
    """What comes with depthlab, as `experiments/pretrain.yaml`: in a checkout, or where pip put it, or None."""
    roots = Path(__file__).parents[1], Path(sysconfig.get_path("data"), "share", "depthlab")
    return next((root / name for root in roots if (root / name).exists()), None)


@contextmanager
def all_or_nothing(target: Path, replaces_folder: bool = False) -> Iterator[Path]:
    """Gives a path beside `target` to write a file or make a folder at, which takes `target`'s name in the end.

    It is on the disk before it has the name, so that a power cut leaves the old or the new, too. After an exception
    nothing is left of it, and what was at `target` is untouched. What a killed process has left in the folder, the next
    one takes away. A file is replaced, an empty folder as well.

    Args:
        target: the name.
        replaces_folder: whether a folder with something in it is replaced, too.

    Raises:
        OSError: what is at `target` can't be replaced.
    """
    unfinished, replaced = (beside(target, state) for state in (UNFINISHED, REPLACED))
    _remove_leftovers(target.parent)
    try:
        yield unfinished
        for path in (unfinished, *unfinished.rglob("*")):
            _to_disk(path)
        if replaces_folder and target.is_dir():
            target.rename(replaced)
        try:
            unfinished.replace(target)
        except OSError:
            if replaced.exists():
                replaced.rename(target)
            raise
        _to_disk(target.parent)
        shutil.rmtree(replaced, ignore_errors=True)
    finally:
        if unfinished.is_dir():
            shutil.rmtree(unfinished, ignore_errors=True)
        else:
            unfinished.unlink(missing_ok=True)


@contextmanager
def cannot_write(what: str) -> Iterator[None]:
    """Turns the system's errors into the user's: "cannot write WHAT: no space left on device".

    Raises:
        UserError: there was one.
    """
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write {what}: {error.strerror or error}") from error


def told(settings: Mapping[str, Any]) -> list[str]:
    """Settings in a fixed order, each as a part of the name of a file or folder."""
    return [f"{name}={value}".replace("/", "%2F") for name, value in sorted(settings.items())]


@contextmanager
def writing(what: str, target: Path, replaces_folder: bool = False) -> Iterator[Path]:
    """As `all_or_nothing`, in a folder that is made if it is not there, with errors of one line.

    Raises:
        UserError: it can't be written; it says `what` before the name, as in "the report to --to".
    """
    with cannot_write(f"{what} {target}"):
        target.parent.mkdir(parents=True, exist_ok=True)
        with all_or_nothing(target, replaces_folder) as unfinished:
            yield unfinished


def check_new(option: str, target: Path) -> None:
    """Hold a place for something new, which `option` names, against what is there: nothing, or an empty folder.

    Raises:
        UserError: there is something.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        kind = "directory" if target.is_dir() else "file"
        raise UserError(f"{option} {target} exists already: name another {kind} or remove it")


def check_own(option: str, file: Path, mark: bytes, what: str) -> None:
    """Hold a file's place, which `option` names, against what is there: a folder, and in it nothing, or a file like it.

    Such a file, which is called `what` and begins with the bytes `mark`, is to be replaced.

    Raises:
        UserError: there is no folder, or something else lies there.
    """
    if not file.parent.is_dir():
        raise UserError(f"{option} {file}: there is no folder {file.parent}")
    try:
        with file.open("rb") as there:
            is_own = mark in there.read(1000)
    except FileNotFoundError:
        return
    except OSError:  # a folder, say
        is_own = False
    if not is_own:
        raise UserError(f"{option} {file} exists and is no {what}: name another file")


def replacing(file: Path) -> str:
    """What to add to the name of a file that is about to be written, so that none goes unseen: that there is one."""
    return ", in place of the one of before" if file.exists() else ""


def make_writable(what: str, folder: Path) -> None:
    """Make a folder, if it is not there, and see now, rather than after hours of work, that it can be written.

    Raises:
        UserError: it can't; `what` names it.
    """
    with cannot_write(f"{what} {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()


def files_in(folder: Path) -> tuple[list[Path], int]:
    """All files at any depth, sorted, those of linked folders too, each folder once; and how many hidden ones are left.

    Raises:
        OSError: a folder can't be read.
    """
    found, hidden, seen = [], 0, {os.path.realpath(folder)}

    def fail(error: OSError) -> None:
        raise error

    for place, folders, names in os.walk(folder, onerror=fail, followlinks=True):
        inside, folders[:] = sorted(folders), []
        for name in inside:
            real = os.path.realpath(os.path.join(place, name))
            if not name.startswith(".") and real not in seen:
                seen.add(real)
                folders.append(name)
        hidden += sum(name.startswith(".") for name in (*inside, *names))
        found += [file for name in names if not name.startswith(".") and (file := Path(place, name)).is_file()]
    return sorted(found), hidden


def beside(target: Path, state: str) -> Path:
    """The hidden name of something in the making at a place, or of what it replaces: it says whose it is."""
    return target.with_name(f".{target.name}.{state}-{platform.node()}-{os.getpid()}")


def _remove_leftovers(folder: Path) -> None:
    """Take away what processes of this machine that are no more were making; what they were replacing comes back."""
    name = re.compile(rf"\.(.+)\.({UNFINISHED}|{REPLACED})-{re.escape(platform.node())}-(\d+)")
    for path in folder.iterdir():
        if not (match := name.fullmatch(path.name)) or _lives(int(match[3])):
            continue
        with suppress(FileNotFoundError):  # another process does the same
            if match[2] == REPLACED and not path.with_name(match[1]).exists():
                path.rename(path.with_name(match[1]))
            elif path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        pass
    return True


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that knows no such thing
            raise
    finally:
        os.close(descriptor)
