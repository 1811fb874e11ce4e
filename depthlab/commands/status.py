"""The command `depthlab status`: how far runs and sweeps are, of what they have written; no model is loaded."""

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from depthlab.errors import UserError
from depthlab.render.progress import duration, how_far, throughput, values
from depthlab.run.directory import RunDirectory, is_locked
from depthlab.run.progress import EVERY, Progress, read_progress
from depthlab.run.sweep.state import planned, why_failed

GO_ON = "go on: the same command with --ckpt_path last"


def status(runs: list[str]) -> None:
    """Show how far runs and sweeps are: state, step, time left, losses, depths, throughput.

    A run says so itself, every ten seconds, in its `progress.json`; whether it still runs its lock says. To go on
    looking: `watch depthlab status RUN`.

    Args:
        runs: Directories of runs or sweeps, or folders that hold some.

    Raises:
        UserError: a directory is neither.
    """
    for path in map(Path, runs):
        print("\n".join(_of(path)), flush=True)


def _of(path: Path) -> Iterator[str]:
    if _is_sweep(path):
        yield from _sweep(path)
    elif _is_run(path):
        yield from _run(path)
    else:
        inside = sorted(place for place in path.glob("*") if _is_sweep(place) or _is_run(place))
        if not inside:
            raise UserError(f"{path} holds neither a run nor a sweep")
        for place in inside:
            yield f"{place}  {_in_short(place)}"


def _is_sweep(path: Path) -> bool:
    return (path / "sweep.json").is_file()


def _is_run(path: Path) -> bool:
    run = RunDirectory(path)
    return any(file.is_file() for file in (run.config, run.progress, run.last))


def _state(run: RunDirectory, progress: Progress | None) -> str:
    """One word, and what is to be known beside it."""
    if is_locked(run.lock):
        if progress is None:
            return "running"
        silent = time.time() - progress.written
        at = f"{progress.doing}, for {duration(time.time() - progress.since)}"
        return f"running: {at}" + (f"; it has said nothing for {duration(silent)}" if silent > 6 * EVERY else "")
    if run.results.is_file():
        return "finished"
    if progress is not None and progress.state == "failed":
        return f"failed: {progress.reason}"
    if progress is not None and progress.state == "running":
        return f"killed, or its machine went down, {duration(time.time() - progress.written)} ago ({progress.doing})"
    return "stopped"


def _in_short(path: Path) -> str:
    """A run or a sweep in one line."""
    if _is_sweep(path):
        return _counts(path)
    run = RunDirectory(path)
    progress = read_progress(run.progress)
    state = _state(run, progress)
    return state if progress is None or state == "finished" else f"{state}; {how_far(progress)}"


def _run(path: Path) -> Iterator[str]:
    run = RunDirectory(path)
    progress = read_progress(run.progress)
    yield f"{path}  {_state(run, progress)}"
    if progress is not None:
        if not is_locked(run.lock):
            progress.seconds_left = None
        validated = [] if progress.validated is None else [f"after step {progress.validated:,}"]
        rate = [f"learning rate {progress.measured['lr']:.3g}"] if "lr" in progress.measured else []
        told = {
            "done": [how_far(progress)],
            "train": values(progress.measured, "train"),
            "val": [*values(progress.measured, "val"), *validated],
            "speed": [*throughput(progress.measured), *rate],
        }
        yield from (f"  {name:12}{', '.join(parts)}" for name, parts in told.items() if parts)
    files = [file for file in (run.last, run.best) if file.is_file()]
    saved = [f"{file.name} of {duration(time.time() - file.stat().st_mtime)} ago" for file in files]
    yield f"  {'checkpoint':12}{', '.join(saved) or 'none yet'}"
    if run.bad_step.is_dir():
        yield f"  {'bad step':12}depthlab replay {path}"
    if run.last.is_file() and not run.results.is_file() and not is_locked(run.lock):
        yield f"  {'next':12}{GO_ON}"


def _sweep(path: Path) -> Iterator[str]:
    yield f"{path}  {_counts(path)}"
    for name in planned(path):
        if is_locked(path / f"{name}.log"):
            yield f"  {name}  {_in_short(path / name) if _is_run(path / name) else 'running: starting'}"
        elif reason := why_failed(path / f"{name}.log"):
            yield f"  {name}  failed: {reason}"


def _counts(path: Path) -> str:
    """Cells of a sweep by state."""
    states = Counter(finished=0)
    for name in planned(path):
        if is_locked(path / f"{name}.log"):
            states["running"] += 1
        elif why_failed(path / f"{name}.log"):
            states["failed"] += 1
        else:
            states["finished" if RunDirectory(path / name).results.is_file() else "waiting"] += 1
    return f"{states.total()} cells, " + ", ".join(f"{count} {state}" for state, count in states.items())
