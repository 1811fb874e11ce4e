"""From a function to a command: its signature and docstring are the interface; errors are one line."""

import re
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any, NoReturn

from jsonargparse import ArgumentParser, Namespace, auto_cli

from depthlab.errors import UserError, causes
from depthlab.run.config import expand_home

Command = Callable[..., None] | dict[str, Callable[..., None]]
"""A function, or functions by kind."""


AS_GIVEN = ("texts", "cache_dir")
"""No path; and one that is the same for everybody, so it stays in the settings that are kept."""


class SettingError(UserError):
    """What is wrong with a setting; the parser of a section names it without the section.

    Attributes:
        name: The setting's; nothing where it is not of one.
        said: What of it.
    """

    def __init__(self, name: str, said: str, command: str) -> None:
        super().__init__(f"{name} {said} (see `{command} --help`)".lstrip())
        self.name, self.said = name, said


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
        inner = next((cause for cause in causes(ex) if isinstance(cause, SettingError)), None)
        key = re.match(r'Parser key "([\w.]+)":\s+(\w*)', message)
        if inner is not None:  # of the parser of a section, which jsonargparse makes for itself
            section = "" if key is None else key[1] + ("" if key[2] == "Does" else ".init_args")
            name = ".".join(filter(None, (section, inner.name)))
            raise SettingError(name if inner.name else f"{name}:", inner.said, self._command())
        values = re.findall(r"(?:Given value|Got value|import path string): (.*)", message)
        if key is not None and values and (wanted := _wanted(message)):
            value = values[-1][:40]
            raise SettingError(key[1], f"is {value}; it must be {wanted.format(value)}", self._command())
        if option := re.match(r"Option '([\w.]+)' is not accepted", message):
            meant = self._meant(f"--{option[1]}").replace("--", "")
            raise SettingError(option[1], f"is no setting{meant}", self._command())
        if needed := re.match("the following arguments are required: (.*)", message):
            command = self._command(needed[1].partition(".")[0])
            names = ", ".join(map(self._as_given, needed[1].split(", ")))
            raise SettingError("", f"the following arguments are required: {names}", command)
        raise SettingError("", " ".join(message.split()) + self._meant(message), self._command())

    def _meant(self, message: str) -> str:
        """The option nearest to one in the message that there is not."""
        known = {option.lstrip("-") for parser in self._parsers().values() for option in parser._option_string_actions}
        for name in re.findall(r"(?:^|\s)(?:--|option ')([\w.]+)", message):
            if name not in known:
                return "".join(f": did you mean --{near}?" for near in get_close_matches(name, known, 1, cutoff=0.75))
        return ""

    def _parsers(self) -> dict[str, ArgumentParser]:
        """It, and those of its commands, by their names."""
        subcommands = self._subcommands_action
        return {"": self} | (subcommands._name_parser_map if subcommands else {})

    def _command(self, name: str = "") -> str:
        """Whose help to see: a command's, if there is one of that name, or only one."""
        parsers = self._parsers()
        only = [*parsers][-1] if len(parsers) == 2 else ""
        return parsers.get(name or only, self).prog.replace(" [options]", "")

    def _as_given(self, argument: str) -> str:
        """How an argument, which has its command before it, is given: `--dial`, or by its place: `SOURCE`."""
        command, _, name = argument.rpartition(".")
        parser = self._parsers().get(command, self)
        return f"--{name}" if f"--{name}" in parser._option_string_actions else name.upper()


KINDS = {
    "NoneType": "null",
    "bool": "true or false",
    "float": "a number",
    "int": "a whole number",
    "str": "a text",
    **dict.fromkeys(("list", "tuple"), "a list: '[{}]'"),
}
"""What a value may be, by its type; {} is the value."""


def _wanted(message: str) -> str:
    """What a value must be, in words, by what jsonargparse expected; nothing where it says no more than types."""
    found = []
    for choices, kind in re.findall(r"Expected a (?:typing\.Literal\[(.*?)\]|<class '(\w+)'>)", message):
        found += choices.replace("'", "").split(", ") if choices else [KINDS.get(kind, kind)]
    if "a number" in found:
        found = [one for one in found if one != "a whole number"]
    if "import path" in message and not {*found} - {"null"}:
        found = ["the path of a class (torch.optim.AdamW)", *found]
    if "subclass" in message or not found:
        return ""
    *first, last = dict.fromkeys(found)
    return f"{', '.join(first)} or {last}" if first else last


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
