"""The YAML files of an experiment: each may build upon another beside it, and those that depthlab ships have a name."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from depthlab.errors import UserError
from depthlab.files import shipped

SECTIONS = ("data", "model", "trainer", "checkpoint", "model.config", "model.depth", "model.optimizer")
"""Settings that hold others."""


def with_bases(arguments: Sequence[str]) -> list[str]:
    """Put before every `--config FILE` the files that it builds upon (its `base`), the lowest first.

    A FILE that is not there is one that depthlab ships, if it has that name.

    Raises:
        UserError: a file is missing, is not YAML, or builds upon itself.
    """
    expanded: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        flag, separator, value = argument.partition("=")
        if flag not in ("--config", "-c"):
            expanded.append(argument)
            continue
        value = value if separator else next(rest, None)
        if value is None:
            raise UserError("--config needs a file: --config experiments/pretrain.yaml")
        path: Path | None = find_config(value)
        layers: list[Path] = []
        while path is not None:
            if path in layers:
                raise UserError(f"{path}: its `base` leads back to itself")
            layers.insert(0, path)
            base = read_yaml(path).get("base")
            path = None if base is None else path.parent / Path(str(base)).expanduser()
        expanded += [argument for layer in layers for argument in ("--config", str(layer))]
    return expanded


def find_config(name: str) -> Path:
    """The file of that name; where there is none, the experiment that comes with depthlab: `pretrain.yaml`."""
    path = Path(name).expanduser()
    return path if path.exists() else shipped(f"experiments/{name.removeprefix('experiments/')}") or path


def without_empty_sections(arguments: Sequence[str]) -> list[str]:
    """The arguments, a `--config FILE` with a section that nothing stands in (`data:`) as the rest of that file's text.

    Such a section would take all that the files below say in it for nothing.
    """
    given = iter(arguments)
    kept: list[str] = []
    for argument in given:
        if argument != "--config":
            kept.append(argument)
            continue
        value = next(given)
        text = rest = Path(value).read_text()
        while empty := _empty_sections(rest):  # a section that held nothing else is empty then, too
            lines = rest.splitlines(keepends=True)
            rest = "".join(line for number, line in enumerate(lines) if number not in empty)
        if rest == text:
            kept += ["--config", value]
        elif yaml.safe_load(rest):
            kept += ["--config", rest]
    return kept


def _empty_sections(text: str) -> set[int]:
    """The lines, from 0, that only begin a section."""
    tree = yaml.compose(text)
    pairs = [(key.value, key, value) for key, value in tree.value] if isinstance(tree, yaml.MappingNode) else []
    for name, _, section in list(pairs):
        if name == "model" and isinstance(section, yaml.MappingNode):
            pairs += [(f"model.{key.value}", key, value) for key, value in section.value]
    return {
        key.start_mark.line
        for name, key, value in pairs
        if name in SECTIONS and isinstance(value, yaml.ScalarNode) and value.value == "" and value.style is None
    }


def expand_home(value: Any) -> Any:
    """A setting, with the user's folder in place of the `~` that a path in it begins with."""
    if isinstance(value, str):
        return os.path.expanduser(value) if value == "~" or value.startswith("~/") else value
    if isinstance(value, list):
        return [expand_home(one) for one in value]
    return {name: expand_home(one) for name, one in value.items()} if isinstance(value, dict) else value


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings by their full names: `model.optimizer.lr`."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat


def read_yaml(path: Path) -> dict[str, Any]:
    """The settings in a file.

    Raises:
        UserError: it is missing or does not hold settings.
    """
    try:
        content = yaml.safe_load(path.read_text()) or {}
    except OSError as error:
        raise UserError(f"cannot read --config {path}: {error.strerror}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold settings, one `name: value` a line")
    for section in SECTIONS:  # jsonargparse takes what is none for an empty one
        value: Any = content
        for part in section.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if value is not None and not isinstance(value, dict):
            raise UserError(f"{path}: `{section}` is {value!r}; it must hold settings, one `name: value` a line")
    return content
