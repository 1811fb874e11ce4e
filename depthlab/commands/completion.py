"""What a shell completes: all commands and their options, in a script that jsonargparse and shtab write."""

from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec

from jsonargparse import ArgumentParser, Namespace

from depthlab.commands import plan, sweep
from depthlab.commands.catalogue import EXPERIMENTS
from depthlab.commands.experiment import SettingsOnly
from depthlab.commands.parser import Command, CommandParser
from depthlab.errors import UserError

SHELLS = ("bash", "zsh", "tcsh")


class ParserOnly(SettingsOnly):
    """Has the parser of a command, and reads nothing."""

    def parse_arguments(self, parser: ArgumentParser, args: Sequence[str]) -> None:
        """Nothing."""
        self.config = Namespace(subcommand=self.command)


def print_script(kind: str, experiments: Iterable[str], functions: Mapping[str, Command]) -> None:
    """Print the script of a kind, "shtab-bash" and the like as jsonargparse calls them.

    Commands of experiments have the options of all kinds of them together.

    Raises:
        UserError: there is no such shell, or shtab is not installed.
    """
    kinds = [f"shtab-{shell}" for shell in SHELLS]
    if kind not in kinds:
        raise UserError(f"--print_completion takes one of {', '.join(kinds)}")
    if not find_spec("shtab"):
        raise UserError("--print_completion needs shtab: pip install shtab")
    parser = CommandParser(prog="depthlab")
    subcommands = parser.add_subcommands()
    for name in experiments:
        subcommands.add_subcommand(name, _of_experiments(name))
    for name, function in functions.items():
        subparser = CommandParser()
        subcommands.add_subcommand(name, subparser)  # before it gets any of its own
        _add(subparser, function)
    print(parser.get_completion_script(kind))


def _of_experiments(command: str) -> ArgumentParser:
    """A parser with the options that any kind of experiment has."""
    own = {"plan": plan.option_parser, "sweep": sweep.option_parser}.get(command)
    name = command if own is None else "fit"  # whose settings it takes
    first, *others = (ParserOnly(name, experiment, [])._parser(name) for experiment in EXPERIMENTS.values())
    for other in others if own is None else (*others, own()):
        for action in other._actions:
            if not first._option_string_actions.keys() & {*action.option_strings}:
                first._add_action(action)
    return first


def _add(parser: ArgumentParser, function: Command) -> None:
    """Add a function's arguments; of functions by kind a subcommand each."""
    if isinstance(function, dict):
        subcommands = parser.add_subcommands()
        for kind, of_kind in function.items():
            subparser = CommandParser()
            _add(subparser, of_kind)
            subcommands.add_subcommand(kind, subparser)
    else:
        parser.add_function_arguments(function, as_positional=True)
