"""`depthlab sweep`: from its arguments to the runs of a grid, and what has become of them in the end."""

import signal
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import yaml
from jsonargparse import get_loader

from depthlab.analysis.records import SUITES
from depthlab.errors import UserError
from depthlab.run.config import flatten
from depthlab.run.sweep.grid import Cell, Grid, axes_of, choose, cover, expand, read_grids
from depthlab.run.sweep.state import CellRun, begin
from depthlab.run.sweep.worker import work

PER_WORKER = {
    *("run_dir", "base", "sweep", "data.num_workers", "data.cache_dir", "data.device_batch_size"),
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

Stop it and start it again: it goes on where it was, and nothing runs twice. Start it once more, in another terminal, or
on another machine that sees the same directory: they share the work. Who works at what is said by locks on the logs, so
the file system must have locks. What a worker that has died was at is taken up by another, once its run has ended, too.
A run that fails is recorded, and stops nothing."""


class OptionParser(ArgumentParser):
    """argparse's, which passes over what it does not know; with errors of one line."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, not how everything is used."""
        raise UserError(f"{message} (see `{self.prog} --help`)")


def sweep(arguments: Sequence[str]) -> None:
    """Run what is left of a sweep, then say what has become of it.

    Raises:
        UserError: bad options, settings or grid; there is no data; the directory can't be had, or holds another sweep.
        SystemExit: with status 130 at Ctrl-C.
    """
    options, rest = option_parser().parse_known_args(arguments)
    from depthlab.commands.catalogue import EXPERIMENTS
    from depthlab.commands.experiment import read_settings  # slow to import

    configs = [f"--config={config}" for config in options.config]
    all_grids, grids, shared = grids_of(configs, rest)
    read_grids(all_grids)  # there must be one
    settings = read_settings([*configs, *shared])
    for cell in cover(grids):
        try:
            of_cell = read_settings([*configs, *shared, *cell.arguments])
            EXPERIMENTS[of_cell["task"]].data(**of_cell["data"]).check()
        except UserError as error:
            raise UserError(f"the grid's cell {cell.name}: {error}") from error
    directory = Path(options.run_dir or f"checkpoints/runs/{Path(options.config[-1]).stem}").expanduser()
    runs = [CellRun(cell, directory) for cell in expand(grids, axes_of(all_grids))]
    try:
        with _terminable():
            directory.mkdir(parents=True, exist_ok=True)
            begin(directory, runs, _common(settings, all_grids))
            for run in runs if options.retry_failed else []:
                run.forget_failure()
            print(f"{_counts(runs)}; runs and their logs: {directory}", flush=True)
            work(runs, partial(fit_command, configs, shared))
    except OSError as error:
        wanted = "it must be a directory to write to, on a file system with locks"
        raise UserError(f"--run_dir {directory}: {error.strerror}; {wanted}") from error
    except KeyboardInterrupt:
        print("Interrupted. Go on: the same command.", flush=True)
        sys.exit(130)
    print(_summary(runs, directory, settings["task"]), flush=True)


def grids_of(configs: Sequence[str], rest: Sequence[str]) -> tuple[list[Grid], list[Grid], list[str]]:
    """All grids that an experiment has, those that the command line leaves of them, and its settings for all cells.

    Raises:
        UserError: settings or a grid are wrong.
    """
    from depthlab.commands.experiment import read_settings

    pairs = read_pairs(rest)
    replaced = [f"--sweep={text}" for name, text in pairs if name == "sweep"]
    sweep = read_settings([*configs, *replaced])["sweep"]
    all_grids = read_grids(sweep) if sweep else []
    return (all_grids, *_plan(all_grids, pairs))


def fit_command(configs: Sequence[str], shared: Sequence[str], cell: Cell, run_dir: Path, resumes: bool) -> list[str]:
    """The command of a cell: the experiment's files, what all cells share, the cell's own, where, and from where."""
    ours = ["--sweep=null", "--trainer.enable_progress_bar=false"]  # nobody watches
    where = [f"--run_dir={run_dir}", *(["--ckpt_path=last"] if resumes else [])]
    return [sys.executable, "-m", "depthlab", "fit", *configs, *ours, *shared, *cell.arguments, *where]


def option_parser() -> OptionParser:
    """Of what is the sweep's own; all other options are settings of its fits."""
    parser = OptionParser(
        prog="depthlab sweep",
        usage="depthlab sweep --config FILE [--run_dir DIR] [--retry_failed] [--SETTING VALUE ...]",
        description=DESCRIPTION,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("-c", "--config", action="append", required=True, metavar="FILE", help="the experiment")
    parser.add_argument(
        "--run_dir",
        metavar="DIR",
        help="directory of the sweep, with the run directories and their logs, which all workers must see (default: "
        "checkpoints/runs/NAME, after the experiment's file)",
    )
    parser.add_argument("--retry_failed", action="store_true", help="run those again that failed, from where they were")
    return parser


def read_pairs(arguments: Sequence[str]) -> list[tuple[str, str]]:
    """Names of settings and their values, as given."""
    pairs = []
    rest = iter(arguments)
    for flag in rest:
        name, equals, value = flag.removeprefix("--").partition("=")
        meant = get_close_matches(name, ("config", "run_dir", "retry_failed"), 1, 0.8)
        if meant and meant[0] != name:
            raise UserError(f"there is no --{name}: did you mean --{meant[0]}?")
        value = value if equals else next(rest, None)
        if not flag.startswith("--") or value is None:
            raise UserError(f"{flag}: settings are given as --NAME VALUE (see `depthlab sweep --help`)")
        pairs.append((name, value))
    return pairs


def _plan(grids: list[Grid], pairs: Sequence[tuple[str, str]]) -> tuple[list[Grid], list[str]]:
    """The grids, as the command line changes them, and what it has for all cells."""
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
    return {name: value for name, value in flatten(settings).items() if name not in PER_WORKER | axes}


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


def _counts(runs: Sequence[CellRun]) -> str:
    states = Counter(finished=0)
    for run in runs:
        outcome = run.outcome()
        if outcome is None:
            states["running" if run.is_running() else "waiting"] += 1
        else:
            states["failed" if isinstance(outcome, str) else "finished"] += 1
    return f"{len(runs)} cells, " + ", ".join(f"{count} {state}" for state, count in states.items())


def _summary(runs: Sequence[CellRun], directory: Path, task: str) -> str:
    """What has become of the cells, why those failed that did, and what comes next."""
    failed = [(run, error) for run in runs if isinstance(error := run.outcome(), str)]
    lines = [f"\n{_counts(runs)}", *(f"failed    {run.cell.name}: {error} ({run.log})" for run, error in failed)]
    if failed:
        lines.append("again     the same command with --retry_failed")
    if task in SUITES:
        lines.append(f"next      depthlab report {task} {directory}")
    return "\n".join(lines)
