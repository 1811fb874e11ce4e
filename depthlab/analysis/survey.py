"""What lies at and under some paths: runs that have ended, tables of treebanks, and what can't be used of either."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from depthlab.errors import UserError
from depthlab.files import files_in
from depthlab.run.directory import FinishedRun, RunDirectory, hold, read_file, read_run


@dataclass(frozen=True)
class LeftOut:
    """A run or a table that a report can't use."""

    path: Path
    reason: str
    task: str | None = None  # the experiment's kind, where that can be told


@dataclass(frozen=True)
class Survey:
    """What was found, in the order of the directories; each once, however often and by whatever links it is named."""

    paths: Sequence[str]  # as the user named them
    named: set[Path]  # the same, resolved
    runs: list[FinishedRun]
    left_out: list[LeftOut]
    tables: list[Path]  # files in Parquet, whatever they hold
    dials: list[Path]  # of `depthlab dial`


def survey(paths: Sequence[str]) -> Survey:
    """Look through run directories, folders that hold such at any depth, and files in Parquet; each folder once.

    Hidden files and folders are passed over.

    Raises:
        UserError: A path does not exist.
    """
    directories: dict[Path, Path] = {}  # what it really is: as it was named first
    tables: dict[Path, Path] = {}
    dials: dict[Path, Path] = {}
    for path in map(Path, paths):
        if not path.exists():
            raise UserError(f"{path} does not exist; name run directories, folders that hold some, or tables")
        for file in [path] if path.is_file() else files_in(path)[0]:
            run = RunDirectory(file.parent)
            if file in (run.config, run.results):
                directories.setdefault(run.path.resolve(), run.path)
            elif file.suffix == ".json" and file.parent.name == run.dials.name:
                dials.setdefault(file.resolve(), file)
            elif file.suffix == ".parquet" or file == path:
                tables.setdefault(file.resolve(), file)
            elif file.suffix == ".log" and "=" in file.name:  # a sweep's run that failed may have nothing else
                directories.setdefault(file.with_suffix("").resolve(), file.with_suffix(""))
    runs, left_out = [], []
    for directory in sorted(directories.values()):
        try:
            runs.append(read_run(directory))
        except UserError as error:
            left_out.append(LeftOut(directory, str(error), _task(directory)))
    named = {Path(path).resolve() for path in paths}
    return Survey(paths, named, runs, left_out, list(tables.values()), list(dials.values()))


def _task(directory: Path) -> str | None:
    """The experiment's kind, where the configuration can be read."""
    try:
        return hold(read_file(RunDirectory(directory).config), {"task": str}, "config.yaml")["task"]
    except UserError:
        return None
