"""The `depthlab` command: experiments (see `experiment.py`), sweeps over them, and the small commands."""

import sys
import warnings
from collections.abc import Sequence
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from jsonargparse import ArgumentParser, auto_cli

from depthlab.commands.data import make_probing_sets
from depthlab.commands.experiment import DepthlabCLI, DepthlabParser, run_experiment
from depthlab.commands.export import export
from depthlab.commands.inspect import inspect
from depthlab.commands.report import KINDS as REPORTS
from depthlab.commands.submission import submission
from depthlab.errors import UserError
from depthlab.models.convert.conversion import convert

COMMANDS = {
    "export": export,
    "convert": convert,
    "inspect": inspect,
    "report": REPORTS,
    "submission": submission,
    "data": {"probing": make_probing_sets},
}
"""Commands that need no trainer; those with kinds of their own by kind."""

DESCRIPTION = f"""Adaptive depth for ALBERT: pre-train, start from what others trained, fine-tune, evaluate.

An experiment is a YAML: `depthlab fit --config experiments/pretrain.yaml`. Every setting of it can be given on the
command line too (`--data.corpus FOLDER`), and `depthlab fit --help` explains each.

Beside the subcommands below: {", ".join(f"`depthlab {name} --help`" for name in ("sweep", *COMMANDS))}."""


class CommandParser(ArgumentParser):
    """The parser of the small commands, some of which take any number of values of one kind."""

    error = DepthlabParser.error

    def add_argument(self, *names: str, **settings: Any) -> Any:
        """As jsonargparse's, to whom a list is one argument each time, as positional and as `--name`, `--name+`."""
        if names in (("runs",), ("tables",)):
            settings = {"type": str, "nargs": "+", "metavar": names[0].upper(), "help": settings["help"]}
        elif names == ("texts",):
            settings = {"type": str, "nargs": "*", "default": [], "metavar": "TEXT", "help": settings["help"]}
        elif names[-1].endswith("+"):
            names, settings = names[:1], {"type": str, "nargs": "+", "required": True, "help": settings["help"]}
        return super().add_argument(*names, **settings)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line.

    Args:
        arguments: what follows `depthlab`; that of the process by default.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # Lightning's own, about what torch has deprecated
    try:
        if arguments and arguments[0] == "sweep":
            from depthlab.commands.sweep import sweep

            sweep(arguments[1:])
        elif arguments and arguments[0] in COMMANDS:
            if arguments[0] == "report" and arguments[1:] and arguments[1] not in (*COMMANDS["report"], "-h", "--help"):
                arguments.insert(1, "page")  # `depthlab report RUN ...`
            auto_cli(
                COMMANDS[arguments[0]],
                args=arguments[1:],
                prog=f"depthlab {arguments[0]}",
                as_positional=arguments[0] in ("convert", "inspect", "report", "submission"),
                parser_class=CommandParser,
            )
        elif not arguments or (not arguments[0].startswith("-") and arguments[0] not in DepthlabCLI.subcommands()):
            commands = ", ".join((*DepthlabCLI.subcommands(), "sweep", *COMMANDS))
            what = f"there is no command {arguments[0]!r}" if arguments else "a command is missing"
            raise UserError(f"{what}: it is one of {commands} (see `depthlab --help`)")
        else:
            run_experiment(arguments, DESCRIPTION)
    except (UserError, StrictDataclassError) as error:
        message = " ".join(str(error).split())
        print("depthlab: error:", message.rpartition("ValueError: ")[2], file=sys.stderr)  # without what HF wraps it in
        sys.exit(2)
