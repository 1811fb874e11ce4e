"""From a function to a command: its signature and docstring are the interface; errors are one line."""

import re
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any, NoReturn

from jsonargparse import ArgumentParser, Namespace, auto_cli

from depthlab.errors import UserError
from depthlab.run.config import expand_home

Command = Callable[..., None] | dict[str, Callable[..., None]]
"""A function, or functions by kind."""


AS_GIVEN = ("texts", "cache_dir")
"""No path; and one that is the same for everybody, so it stays in the settings that are kept."""


class OneLineErrors(ArgumentParser):
    """jsonargparse's, with errors of one line that know what was meant."""

    def parse_args(self, *arguments: Any, **settings: Any) -> Namespace:
        """Parse; `~` in a path is the user's folder, wherever it stands: the shell sees to a word's beginning only."""
        parsed = super().parse_args(*arguments, **settings)
        for name, value in parsed.items(branches=False):
            if name.rpartition(".")[2] not in AS_GIVEN:
                parsed[name] = expand_home(value)
        return parsed

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Say what is wrong, not how everything is used."""
        command = self.prog.replace(" [options]", "")
        message = re.sub(r"Expected a <class 'tuple'>\. Got value: (\S+)", r"it takes a list: '[\1]'", message)
        raise UserError(f"{' '.join(message.split())}{self._meant(message)} (see `{command} --help`)")

    def _meant(self, message: str) -> str:
        """The option nearest to one in the message that there is not."""
        subcommands = self._subcommands_action
        parsers = [self, *(subcommands._name_parser_map.values() if subcommands else ())]
        known = {option.lstrip("-") for parser in parsers for option in parser._option_string_actions}
        for name in re.findall(r"(?:^|\s)(?:--|option ')([\w.]+)", message):
            if name not in known:
                return "".join(f": did you mean --{near}?" for near in get_close_matches(name, known, 1, cutoff=0.75))
        return ""


class CommandParser(OneLineErrors):
    """The parser of a function, some of whose arguments are lists of strings: each takes any number of values, once.

    One that is optional is positional all the same; none are enough for it. What is false unless it is given is a flag.
    """

    def add_argument(self, *names: str, **settings: Any) -> Any:
        """As jsonargparse's, to whom a list is one argument each time, as positional and as `--name`, `--name+`."""
        hint = getattr(settings.get("action"), "_typehint", None)
        if hint in (list[str], list[str] | None):
            name, settings = names[0], {"type": str, "nargs": "+", "help": settings["help"]}
            if hint != list[str]:
                name = name.removeprefix("--")
                settings |= {"nargs": "*", "default": []}
            settings |= {"required": True} if name.startswith("-") else {"metavar": name.upper()}
            names = (name,)
        elif settings.get("type") is bool and settings.get("default") is False:
            settings = {"action": "store_true", "default": False, "help": settings["help"]}
        return super().add_argument(*names, **settings)


def run(name: str, command: Command, arguments: Sequence[str]) -> None:
    """Run a command: its function, or one of several by kind.

    What a function needs is given by position, by name where it is keyword-only; the rest is options.

    Raises:
        UserError: of the command; or there is no such option, a value is not of its kind, an argument is missing.
    """
    auto_cli(command, args=[*arguments], prog=f"depthlab {name}", as_positional=True, parser_class=CommandParser)
