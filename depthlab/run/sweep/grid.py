"""What a grid of settings holds: its cells, and what each is called."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any
from urllib.parse import quote

from depthlab.errors import UserError

Grid = dict[str, list[Any]]
"""Names of settings, the axes, and the values that each takes."""

NOT_AXES = ("run_dir", "ckpt_path", "config", "sweep", "base", "task")
"""What is the sweep's own to set, or decides what settings there are."""


CUT_LETTER = re.compile("(%[0-9A-F]{0,2})+$")
"""Escapes of a letter, or a part of them, at the end of what is cut off."""
LONGEST_VALUE, LONGEST_NAME = 60, 180
"""Characters in the name of a cell; a file's name has 255 at most, its suffix and what is unfinished included."""


@dataclass(frozen=True)
class Cell:
    """One choice of values."""

    settings: dict[str, Any]
    name: str  # shows the values; a file name

    @property
    def arguments(self) -> list[str]:
        """For the command line."""
        return [f"--{axis}={_as_text(value)}" for axis, value in self.settings.items()]


def read_grids(sweep: Any) -> list[Grid]:
    """The grids under a YAML's `sweep`: one, or a list of them.

    Raises:
        UserError: there are none, or it has another form.
    """
    if not sweep:
        raise UserError("there is no grid: a YAML to sweep over has one, such as `sweep: {data.batch_size: [16, 32]}`")
    grids = sweep if isinstance(sweep, list) else [sweep]
    for grid in grids:
        if not isinstance(grid, dict) or not grid:
            raise UserError(f"sweep: {grid!r} is no grid: it must have lists of values, by name of the setting")
        for axis, values in grid.items():
            if axis in NOT_AXES:
                raise UserError(f"sweep: {axis} is not a setting to sweep over")
            if not isinstance(values, list) or not values:
                raise UserError(f"sweep: {axis} must be a list of values, such as [{values or ''}], got {values!r}")
    return grids


def choose(grids: Sequence[Grid], axis: str, values: Sequence[Any]) -> list[Grid]:
    """The grids with other values on an axis, which one of them at least has.

    A value goes to the grids that have it; one that none has goes to all of them. Grids left without any are dropped.
    """
    known = [value for grid in grids for value in grid.get(axis, [])]
    chosen = []
    for grid in grids:
        taken = [value for value in values if value in grid.get(axis, []) or value not in known]
        chosen += [{**grid, axis: taken}] if taken else []
    return chosen


def axes_of(grids: Sequence[Grid]) -> list[str]:
    """All axes, each once."""
    return list(dict.fromkeys(axis for grid in grids for axis in grid))


def expand(grids: Sequence[Grid], axes: Sequence[str] | None = None) -> list[Cell]:
    """All cells, each once; the last axis varies fastest.

    A cell is called by its values, under the last part of each setting's name: `task=rte,lr=5e-05`. Where two of the
    axes, by default those of the grids, end alike they are named in full. What is long is shortened, with a digest.
    """
    axes = axes or axes_of(grids)
    endings = {axis: axis.rpartition(".")[2] for axis in axes}
    times = Counter(endings.values())
    names = {axis: ending if times[ending] == 1 else axis for axis, ending in endings.items()}
    cells: dict[str, Cell] = {}
    for grid in grids:
        for values in product(*grid.values()):
            settings = dict(zip(grid, values, strict=True))
            said = ",".join(f"{names[axis]}={_in_name(settings[axis])}" for axis in axes if axis in settings)
            name = _shortened(said, LONGEST_NAME)
            cells.setdefault(name, Cell(settings, name))
    return list(cells.values())


def cover(grids: Sequence[Grid]) -> list[Cell]:
    """A few cells among which every value of every axis is at least once: those to try before all."""
    few = []
    for grid in grids:
        for index in range(max(map(len, grid.values()))):
            few += expand([{axis: [values[min(index, len(values) - 1)]] for axis, values in grid.items()}])
    return few


def _in_name(value: Any) -> str:
    """A value in a file name: 1 and 1.0 are the same setting, so they have the same name."""
    if isinstance(value, dict):
        return _shortened("+".join(f"{name}={_in_name(value[name])}" for name in sorted(value)), LONGEST_VALUE)
    text = quote(_as_text(int(value) if isinstance(value, float) and value.is_integer() else value), safe="+")
    return _shortened(text, LONGEST_VALUE)


def _shortened(text: str, longest: int) -> str:
    """A text's beginning and a digest of all of it, where it is too long."""
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return text if len(text) <= longest else f"{CUT_LETTER.sub('', text[: longest - 10])}..{digest}"


def _as_text(value: Any) -> str:
    """A value as the command line takes it."""
    return value if isinstance(value, str) else json.dumps(value)
