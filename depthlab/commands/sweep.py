"""The command: from its arguments to the grid and the queue, and what has become of it in the end."""

import signal
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import yaml
from jsonargparse import get_loader
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import URL

from depthlab.commands.experiment import read_settings
from depthlab.data.benchmarks.glue import find_folder
from depthlab.data.benchmarks.glue_tasks import TASKS
from depthlab.data.benchmarks.probing import find_file
from depthlab.errors import UserError
from depthlab.run.sweep.grid import Cell, Grid, axes_of, choose, cover, expand, read_grids
from depthlab.run.sweep.queue import Queue, cell_of, storage_errors
from depthlab.run.sweep.worker import work

PER_WORKER = {
    *("run_dir", "base", "sweep", "data.num_workers", "data.cache_dir"),
    *("trainer.accelerator", "trainer.devices", "trainer.num_nodes", "trainer.strategy"),
    *("trainer.accumulate_grad_batches", "trainer.enable_progress_bar", "trainer.enable_model_summary"),
}
"""Settings in which the workers of a sweep may differ: they change nothing of what a run learns."""

DESCRIPTION = """\
Run `depthlab fit` for every cell of the grid that an experiment's YAML has:

  sweep:
    data.task: [mrpc, rte]
    model.optimizer.init_args.lr: [5.0e-5, 3.0e-5]
    seed_everything: [0, 1, 2]

It may be a list of several grids. In a YAML that builds upon another (`base`) it replaces the other's.

Every other setting is handed on to all fits: --data.root GLUE --model.checkpoint my-model. One that is an axis of the
grid takes the axis' place, with one value or with several: --data.task '[mrpc, rte]'. Where there are several grids, a
value goes to those that have it, or to all if none has; a grid left without any is dropped. --sweep '{...}' replaces
the grid.

Stop it and start it again: it goes on where it was, and nothing runs twice. Start it once more, in another terminal or
on another machine that reaches the same --storage: the two share the work, and each keeps its run directories. What a
worker that has died was at is taken up again after three minutes. A run that fails is recorded, and stops nothing."""


class OptionParser(ArgumentParser):
    """With errors of one line."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, not how everything is used."""
        raise UserError(f"{message} (see `{self.prog} --help`)")


def sweep(arguments: Sequence[str]) -> None:
    """Run what is left of a sweep, then say what has become of it.

    Args:
        arguments: what follows `depthlab sweep`.

    Raises:
        UserError: bad options, settings or grid; there is no data; the storage or the directory can't be had, or hold
            another sweep.
        SystemExit: with status 130 at Ctrl-C.
    """
    options, rest = option_parser().parse_known_args(arguments)
    configs = [f"--config={config}" for config in options.config]
    grids, shared = _plan(configs, _pairs(rest))
    settings = read_settings([*configs, *shared])
    for cell in cover(grids):
        try:
            find_data(read_settings([*configs, *shared, *cell.arguments]))
        except UserError as error:
            raise UserError(f"the grid's cell {cell.name}: {error}") from error
    directory = Path(options.run_dir or f"checkpoints/runs/{Path(options.config[-1]).stem}")
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to --run_dir {directory}: {error.strerror}") from None
    storage = options.storage or URL.create("sqlite", database=str(directory / "sweep.db")).render_as_string()
    with storage_errors(storage), _terminable():
        queue = Queue(storage, directory.resolve().name, expand(grids))
        there = [run_dir for cell in queue.cells if (run_dir := directory / cell.name).exists()]
        if queue.is_new and there:
            raise UserError(
                f"{there[0]} is there already, but not by this sweep, of which the storage knows nothing: name another "
                "--run_dir, or remove it"
            )
        queue.begin(_common(settings, grids))
        trials = queue.trials(options.retry_failed)
        print(f"{len(trials)} cells, {_counts(trials)}; runs and their logs: {directory}", flush=True)
        try:
            work(queue, directory, partial(fit_command, configs, shared))
        except KeyboardInterrupt:
            print("Interrupted. Go on: the same command.", flush=True)
            sys.exit(130)
        print(_summary(queue.trials(), directory, settings["task"]), flush=True)


def find_data(settings: Mapping[str, Any]) -> None:
    """Look for the files of a fit's task, of which nothing is read; what comes from the hub is not looked for.

    Raises:
        UserError: they are not there, and the fit would fail.
    """
    data = settings["data"]
    if settings["task"] == "glue" and data["root"] is not None:
        find_folder(TASKS[data["task"]], data["root"])
    elif settings["task"] == "probing":
        find_file(data["task"], data["root"])


def fit_command(configs: Sequence[str], shared: Sequence[str], cell: Cell, run_dir: Path, resumes: bool) -> list[str]:
    """The command of a cell.

    Args:
        configs: arguments that name the experiment.
        shared: of the settings that all cells have.
        cell: the cell.
        run_dir: where it runs.
        resumes: whether it goes on from the last checkpoint there.
    """
    ours = ["--sweep=null", "--trainer.enable_progress_bar=false"]  # nobody watches
    where = [f"--run_dir={run_dir}", *(["--ckpt_path=last"] if resumes else [])]
    return [sys.executable, "-m", "depthlab", "fit", *configs, *ours, *shared, *cell.arguments, *where]


def option_parser() -> OptionParser:
    """Of what is the sweep's own; all other options are settings of its fits."""
    parser = OptionParser(
        prog="depthlab sweep",
        usage="depthlab sweep --config FILE [--run_dir DIR] [--storage URL] [--retry_failed] [--SETTING VALUE ...]",
        description=DESCRIPTION,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("-c", "--config", action="append", required=True, metavar="FILE", help="the experiment")
    parser.add_argument(
        "--run_dir",
        metavar="DIR",
        help="directory of the sweep, with the run directories and their logs; its name is that of the study in the "
        "storage (default: checkpoints/runs/NAME, after the experiment's file)",
    )
    parser.add_argument(
        "--storage",
        metavar="URL",
        help="the database that says what has run: sqlite:///FILE, or that of a server, such as "
        "postgresql+psycopg://USER:PASSWORD@HOST/DATABASE, for several machines (default: sweep.db in DIR)",
    )
    parser.add_argument("--retry_failed", action="store_true", help="run those again that failed, from where they were")
    return parser


def _pairs(arguments: Sequence[str]) -> list[tuple[str, str]]:
    """Names of settings and their values, as given."""
    pairs = []
    rest = iter(arguments)
    for flag in rest:
        name, equals, value = flag.partition("=")
        value = value if equals else next(rest, None)
        if not name.startswith("--") or value is None:
            raise UserError(f"{flag}: settings are given as --NAME VALUE (see `depthlab sweep --help`)")
        pairs.append((name.removeprefix("--"), value))
    return pairs


def _plan(configs: Sequence[str], pairs: Sequence[tuple[str, str]]) -> tuple[list[Grid], list[str]]:
    """The grids, as the command line changes them, and what it has for all cells."""
    replaced = [f"--sweep={value}" for name, value in pairs if name == "sweep"]
    grids = read_grids(read_settings([*configs, *replaced])["sweep"])
    axes, shared = axes_of(grids), []
    for name, text in pairs:
        if name in axes:
            try:
                values = get_loader("yaml")(text)
            except yaml.YAMLError:
                raise UserError(f"--{name} {text} is not YAML") from None
            if values == []:
                raise UserError(f"--{name} has no values")
            grids = choose(grids, name, values if isinstance(values, list) else [values])
        elif name != "sweep":
            shared.append(f"--{name}={text}")
    return grids, shared


def _common(settings: Mapping[str, Any], grids: Sequence[Grid]) -> dict[str, Any]:
    """What all cells have in common, by name, apart from what is a worker's own business."""
    axes = set.intersection(*({*grid} for grid in grids))
    return {name: value for name, value in _flatten(settings) if name not in PER_WORKER | axes}


def _flatten(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


@contextmanager
def _terminable() -> Iterator[None]:
    """Take the signals of batch systems, and of a terminal that closes, for Ctrl-C."""
    numbers = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) != signal.SIG_IGN]
    previous = {number: signal.signal(number, signal.default_int_handler) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _counts(trials: Sequence[FrozenTrial]) -> str:
    states = [trial.state for trial in trials]
    counts = {
        "finished": states.count(TrialState.COMPLETE),
        "failed": states.count(TrialState.FAIL),
        "running": states.count(TrialState.RUNNING),
    }
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count or name == "finished")


def _summary(trials: Sequence[FrozenTrial], directory: Path, task: str) -> str:
    """What has become of the cells, why those failed that did, and what comes next."""
    lines = [f"\n{len(trials)} cells, {_counts(trials)}"]
    failed = [trial for trial in trials if trial.state == TrialState.FAIL]
    for trial in failed:
        log = directory / f"{cell_of(trial).name}.log"
        lines.append(f"failed    {cell_of(trial).name}: {trial.user_attrs['error']} ({log})")
    if failed:
        lines.append("again     the same command with --retry_failed")
    if task == "glue":
        lines.append(f"next      depthlab report glue {directory}")
    return "\n".join(lines)
