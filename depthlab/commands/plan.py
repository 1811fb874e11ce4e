"""`depthlab plan`: what an experiment will take, and what of it can be checked, before it is paid for."""

import math
import shutil
import sys
from argparse import RawDescriptionHelpFormatter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from huggingface_hub import is_offline_mode
from jsonargparse import get_loader
from lightning.pytorch import LightningModule

from depthlab.analysis.costs import parameter_count
from depthlab.commands.catalogue import EXPERIMENTS
from depthlab.commands.experiment import SettingsOnly, command_of, run_experiment
from depthlab.commands.measuring import measure
from depthlab.commands.sweep import OptionParser, grids_of, read_pairs
from depthlab.commands.vocabulary import follow_tokenizer
from depthlab.data.corpora.corpus import as_sources, find_files
from depthlab.data.hub import may_be_on_hub
from depthlab.data.steps import StepDataModule, Volume
from depthlab.data.tokenization import find_tokenizer_files, load_tokenizer
from depthlab.errors import UserError
from depthlab.models.checkpoint import find_tokenizer
from depthlab.reports.plan import Example, Line, Machine, Plan, lines, sum_lines, work_out
from depthlab.run.directory import RunDirectory
from depthlab.run.logs import read_scalars
from depthlab.run.sweep.grid import Cell, axes_of, expand
from depthlab.tasks import Task

WRONG, UNKNOWN, HUB = "WRONG: ", "not checked: ", "(not here, and the Hugging Face hub is not asked)"
NO_COST = ("seed_everything", "model.optimizer.", "model.warmup_steps", "model.decay_share", "time_penalty")
"""In names of settings by which a training costs the same, or nobody knows how much more."""

DESCRIPTION = """\
Say what an experiment will take, before it is paid for. Every setting of `depthlab fit` can be given, too. Nothing is
trained or prepared, and the Hugging Face hub is not asked; with HF_HUB_OFFLINE=1 what its cache holds is looked at.
What is missing or wrong is said, and the exit status is then 1. Where the YAML has a grid, one run is planned, and then
all cells."""


def plan(arguments: Sequence[str]) -> None:
    """Print what can be checked, and what will be needed.

    Raises:
        UserError: bad options, settings or grid.
        SystemExit: with status 1 where something is missing or wrong.
    """
    options, rest = option_parser().parse_known_args(arguments)
    configs = [f"--config={config}" for config in options.config]
    all_grids, grids, shared = grids_of(configs, rest)
    found = examine([*configs, *_single(rest, axes_of(all_grids))])
    machine = Machine(options.devices or _devices(found.settings["trainer"]), options.flops, options.memory)
    _check_place(found, machine.devices)
    _show("checked", found.checks)
    if isinstance(found.task, Task) and found.data is not None:
        if options.measure:
            machine = replace(machine, flops=measure(found.settings, found.task, found.data))
        expected = {
            "machine": machine,
            "example": _example(options.like, found.settings),
            "mean_depth": options.mean_depth,
        }
        planned = work_out(found.settings, found.task, found.data, found.volume, **expected)
        _show("one run" if grids else "plan", lines(planned, volume=found.volume, **expected))
        cells = _cells([*configs, *shared], expand(grids, axes_of(all_grids)), expected)
        if grids:
            _show("sweep", [("cells", "not all can be planned")] if cells is None else sum_lines(cells))
    elif found.task is not None:
        _show("plan", [("parameters", f"{parameter_count(found.task):,}"), ("training", "none: it looks at a model")])
    if found.is_wrong:
        sys.exit(1)


def option_parser() -> OptionParser:
    """Of what is the plan's own; all other options are the experiment's settings."""
    parser = OptionParser(
        prog="depthlab plan",
        usage="depthlab plan --config FILE [--flops N] [--memory N] [--devices N] [--SETTING VALUE ...]",
        description=DESCRIPTION,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    number = partial(parser.add_argument, type=float, default=math.nan)
    parser.add_argument("-c", "--config", action="append", required=True, metavar="FILE", help="the experiment")
    number("--flops", help="floating point operations a second that a device keeps up: some 40 %% of its data sheet's")
    number("--memory", help="bytes of a device: 80e9")
    parser.add_argument("--devices", type=int, help="on how many to train (default: the trainer's)")
    parser.add_argument("--mean_depth", type=float, help="expected mean depth of a token (default: that of --like)")
    parser.add_argument(
        "--like",
        metavar="RUN",
        help="directory of a run whose depth and pace are expected (default: the experiment's own, if it has begun)",
    )
    parser.add_argument(
        "--measure", action="store_true", help="measure --flops here, in a few steps; prepares the data"
    )
    return parser


@dataclass
class Found:
    """What there is of an experiment; None where it cannot be made, or is not known."""

    settings: dict[str, Any]
    data: StepDataModule | None = None
    task: Any = None
    volume: Volume | None = None
    checks: list[Line] = field(default_factory=list)

    def note(self, what: str, said: str | None, fine: str = "fine") -> None:
        """Say of something that it is wrong, or fine."""
        self.checks.append((what, fine if said is None else said))

    @property
    def is_wrong(self) -> bool:
        return any(said.startswith(WRONG) for _, said in self.checks)


class Parts(SettingsOnly):
    """Makes the task of an experiment when asked, and never a trainer."""

    def task(self) -> LightningModule:
        """With its model.

        Raises:
            UserError: it can't be made of these settings.
        """
        return self._get(self.parser.instantiate_classes(self.config), "model")


def examine(arguments: Sequence[str]) -> Found:
    """Check what can be checked.

    Raises:
        UserError: settings are wrong.
    """
    cli = run_experiment(command_of(arguments), arguments, Parts)
    tokenizer = cli.config[cli.command].data.get("tokenizer")
    with suppress(UserError):  # the data module says it
        if not _on_hub({"tokenizer": tokenizer}):
            follow_tokenizer(cli.config[cli.command])
    settings = cli.settings()
    found = Found(settings)
    found.note("settings", None, f"all known and of their kind; task: {settings['task']}")
    names = {**settings["data"], **{name: settings["model"].get(name) for name in ("checkpoint", "teacher")}}
    if settings["model"].get("checkpoint"):
        names["tokenizer"] = find_tokenizer(settings["model"]["checkpoint"])
    away = _on_hub(names)
    try:
        kept = {**settings["data"], "tokenizer": names.get("tokenizer")}
        found.data = EXPERIMENTS[settings["task"]].data(**kept)
        found.data.check()
        found.volume = found.data.volume()
        unseen = [name for setting, name in away if setting not in ("checkpoint", "teacher")]
        found.note("data", f"{UNKNOWN}{', '.join(unseen)} {HUB}" if unseen else None)
    except UserError as error:
        found.note("data", f"{WRONG}{error}")
    models = [name for setting, name in away if setting in ("checkpoint", "teacher")]
    if models:
        found.note("model", f"{UNKNOWN}{', '.join(models)} {HUB}")
        return found
    try:
        found.task = cli.task()
        if getattr(found.task, "cannot_train", None):
            raise found.task.cannot_train
        if found.data is not None and found.data.tokenizer_path and find_tokenizer_files(found.data.tokenizer_path):
            found.task.check_data(len(load_tokenizer(found.data.tokenizer_path)), found.data.max_length)
        found.note("model", None)
    except UserError as error:
        found.note("model", f"{WRONG}{error}")
    return found


def _on_hub(names: dict[str, Any]) -> list[tuple[str, str]]:
    """Settings that name something on the hub, which may be asked only where that is its cache."""
    if is_offline_mode():
        return []
    found = [
        (setting, name)
        for setting in ("checkpoint", "teacher", "tokenizer")
        if (name := names.get(setting)) and not Path(name).expanduser().exists() and may_be_on_hub(name)
    ]
    try:
        sources = as_sources(names["corpus"]) if names.get("corpus") else []
        found += [("corpus", source.path) for source in sources if find_files(source) is None]
    except UserError:
        pass  # the data module says it
    return found + ([("root", "GLUE")] if "root" in names and names["root"] is None else [])


def _check_place(found: Found, devices: int) -> None:
    """What else may be in the way: a batch that devices cannot share, a run that is there already."""
    size, run = found.settings["data"]["batch_size"], RunDirectory(Path(found.settings["run_dir"]))
    wrong = f"{WRONG}data.batch_size {size} cannot be cut into the shares of {devices} devices"
    found.note("batch", wrong if size % devices else None, f"{size}, cut evenly")
    there = next(path for path in (run.path.absolute(), *run.path.absolute().parents) if path.exists())
    begun = "holds a run, which --ckpt_path last goes on with" if run.holds_work() else "is free"
    free = shutil.disk_usage(there).free / 1e9
    found.note("run directory", None, f"{run.path} {begun}; room for {free:,.1f} GB")


def _devices(trainer: dict[str, Any]) -> int:
    """How many the trainer's settings say; "auto" may be any number, and counts as one on each node."""
    given = trainer["devices"]
    listed = given if isinstance(given, list) else [part for part in str(given).split(",") if part]
    number = int(listed[0]) if len(listed) == 1 and str(listed[0]).isdigit() else len(listed)
    return max(1, number) * trainer["num_nodes"]


def _example(like: str | None, settings: dict[str, Any]) -> Example:
    """What a run has logged of its depth and its pace."""
    path = Path(like or settings["run_dir"])
    if not any(path.glob("events.*")):
        if like is not None:
            raise UserError(f"--like {like} has no logs of a run: name a run's directory")
        return Example()
    curves = read_scalars(path)
    named = {"depth": "train/depth/all", "steps_per_second": "throughput/steps_per_second"}
    return Example(str(path), **{name: float(curves[tag].mean()) for name, tag in named.items() if tag in curves})


def _single(arguments: Sequence[str], axes: Sequence[str]) -> list[str]:
    """The arguments for one run of a sweep: axes that have several values keep the YAML's."""
    return [
        f"--{name}={text}"
        for name, text in read_pairs(arguments)
        if name not in axes or not isinstance(get_loader("yaml")(text), list)
    ]


def _cells(arguments: Sequence[str], cells: Sequence[Cell], expected: dict[str, Any]) -> list[Plan] | None:
    """The plan of each cell; those that cost the same are worked out once. None where one cannot be."""
    known: dict[tuple[str, ...], Plan] = {}
    planned = []
    for cell in cells:
        key = tuple(one for one in cell.arguments if not any(name in one.partition("=")[0] for name in NO_COST))
        if key not in known:
            found = examine([*arguments, *key])
            if found.task is None or found.data is None:
                return None
            known[key] = work_out(found.settings, found.task, found.data, found.volume, **expected)
        planned.append(known[key])
    return planned


def _show(title: str, found: Sequence[Line]) -> None:
    """Two columns below a title."""
    width = max(len(what) for what, _ in found)
    print(f"{title}\n" + "\n".join(f"  {what.ljust(width)}  {said}" for what, said in found) + "\n", flush=True)
