"""`depthlab fit`, `validate`, `test`, `predict`, `prepare`: what is done with an experiment, which a YAML is."""

from collections.abc import Sequence
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from depthlab.commands.catalogue import EXPERIMENTS, STEPS
from depthlab.commands.experiment_cli import ExperimentCLI
from depthlab.commands.refusals import refusals_in_a_line
from depthlab.errors import UserError
from depthlab.models.halting import RULES
from depthlab.run.config import read_yaml, with_bases, without_empty_sections

NOT_NAMED = {"depth": None, "config": "act"}
"""The halting rule where a section of `model` names none: the checkpoint's, whatever it is, or the default."""
OF_A_RULE = {"depth": {"halting_settings": "null", "dial": "null"}, "config": {"halting_settings": "{}"}}
"""What there is of a rule's own, and its value where nothing is said."""


class SettingsOnly(ExperimentCLI):
    """Reads the settings of a command; nothing is seeded, built or run."""

    def settings(self) -> dict[str, Any]:
        """All of them, defaults and interpolations included."""
        return yaml.safe_load(self.parser.dump(self.config, skip_unset=False))[self.command]

    def _set_seed(self) -> None: ...

    def instantiate_classes(self) -> None:
        """Nothing."""

    def _run_subcommand(self, subcommand: str) -> None: ...


def run_experiment(command: str, arguments: Sequence[str], cli: type[ExperimentCLI] = ExperimentCLI) -> ExperimentCLI:
    """Run a command of Lightning's, or `prepare`, on an experiment; `cli` is what to do with the settings.

    Raises:
        UserError: no experiment is named, or it has no such command; settings are wrong.
    """
    arguments = without_others_settings(with_bases(arguments))
    if not {"--config", "-h", "--help"} & {*arguments}:
        raise UserError(f"name an experiment: depthlab {command} --config experiments/pretrain.yaml")
    name = _task(arguments)
    experiment = EXPERIMENTS[name]
    possible = experiment.commands()
    if command in STEPS and "--config" in arguments and command not in possible:
        raise UserError(f"there is nothing to {command} in {name}, only to {' or '.join(possible)}")
    with refusals_in_a_line():
        return cli(command, experiment, without_empty_sections(arguments))


def without_others_settings(arguments: Sequence[str]) -> list[str]:
    """The arguments; where a `--config FILE`, or the command line, names another halting rule than what is below, what
    is below of that one's own is as if nobody had said it.

    Where no rule was named below, those settings stay which the new one has, too: they may be meant for it.
    """
    found: dict[int, list[str]] = {}
    for section, rule in NOT_NAMED.items():
        settings: dict[str, Any] = {}
        for place, layer in _layers(arguments, section):
            named = layer.get("halting", rule)
            if named != rule:
                others = OF_A_RULE[section]
                if rule is None:
                    has = {one.name for one in fields(RULES[named])} if named in list(RULES) else set()
                    others = {} if settings.keys() <= has else {"halting_settings": "null"}
                found.setdefault(place, []).extend(f"--model.{section}.{one}={value}" for one, value in others.items())
                rule = named
            given = layer.get("halting_settings")
            settings |= given if isinstance(given, dict) else {}
    return [one for place, argument in enumerate(arguments) for one in (*found.get(place, ()), argument)]


def _layers(arguments: Sequence[str], section: str) -> list[tuple[int, dict[str, Any]]]:
    """What each file says of depth and, last, the command line; with the places of the arguments that say it."""
    files: list[tuple[int, dict[str, Any]]] = []
    ours: dict[int, dict[str, Any]] = {}
    for place, (argument, following) in enumerate(pairwise([*arguments, ""])):
        name, equals, value = argument.partition("=")
        if name == "--config":
            files.append((place, (read_yaml(Path(following)).get("model") or {}).get(section) or {}))
        elif name == f"--model.{section}.halting":
            text = value if equals else following
            ours[place] = {"halting": None if text == "null" else text}
        elif name.startswith(tuple(f"--model.{section}.{one}" for one in OF_A_RULE[section])):
            ours[place] = {}
    return files + ([(min(ours), {k: v for one in ours.values() for k, v in one.items()})] if ours else [])


def read_settings(arguments: Sequence[str]) -> dict[str, Any]:
    """All settings that `depthlab fit` would run with after these arguments, defaults and interpolations included.

    Of an experiment that there is nothing to fit in, those of what there is to do.

    Raises:
        UserError: there is no such setting, or a value is not of its kind.
    """
    return run_experiment(command_of(arguments), arguments, SettingsOnly).settings()


def command_of(arguments: Sequence[str]) -> str:
    """What an experiment is for: to fit, if that is possible."""
    return EXPERIMENTS[_task(with_bases(arguments))].commands()[0]


def _task(arguments: Sequence[str]) -> str:
    """The experiment's kind: the `task` of the last configuration that names one."""
    task = "pretraining"
    for flag, value in pairwise(arguments):
        if flag == "--config":
            task = read_yaml(Path(value)).get("task", task)
    if any(argument.partition("=")[0] == "--task" for argument in arguments):
        raise UserError("an experiment's task stands in its YAML, which decides what settings there are: drop --task")
    if task not in EXPERIMENTS:
        raise UserError(f"unknown task {task!r}: choose from {', '.join(EXPERIMENTS)}")
    return task
