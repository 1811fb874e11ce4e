"""The YAML files of an experiment: each may build upon another beside it, and those that depthlab ships have a name."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from depthlab.errors import UserError
from depthlab.files import shipped


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
            path = None if base is None else path.parent / str(base)
        expanded += [argument for layer in layers for argument in ("--config", str(layer))]
    return expanded


def find_config(name: str) -> Path:
    """The file of that name; where there is none, the experiment that comes with depthlab: `pretrain.yaml`."""
    path = Path(name)
    return path if path.exists() else shipped(f"experiments/{name.removeprefix('experiments/')}") or path


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings by their full names: `model.optimizer.lr`."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
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
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold settings, one `name: value` a line")
    return content
