"""How long a sweep will still take."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def time_left(
    finished: Sequence[tuple[Mapping[str, Any], float]],
    unfinished: Sequence[tuple[Mapping[str, Any], float]],
    workers: int,
) -> float | None:
    """Seconds until all cells are done, by those that are.

    Runs of a grid differ a hundredfold, by task above all. So a cell is expected to take the geometric mean of what
    others took, times a factor of each of its values: the least-squares fit in the logarithms, the smallest of all
    where several fit. A value not seen yet has the factor 1.

    Args:
        finished: the cells that are done, and how many seconds each took.
        unfinished: the others, and for how many seconds each has been running.
        workers: how many share them.

    Returns:
        None where nothing can be said: none is done, or nobody works.
    """
    if not finished or not workers:
        return None
    values = sorted({value for cell, _ in finished for value in _values(cell)})
    logarithms = np.log([max(seconds, 1e-3) for _, seconds in finished])
    factors, *_ = np.linalg.lstsq(
        _indicators([cell for cell, _ in finished], values), logarithms - logarithms.mean(), rcond=None
    )
    expected = np.exp(logarithms.mean() + _indicators([cell for cell, _ in unfinished], values) @ factors)
    elapsed = np.array([seconds for _, seconds in unfinished])
    return float(np.maximum(expected - elapsed, 0).sum()) / workers


def _values(cell: Mapping[str, Any]) -> set[str]:
    return {f"{axis}={value}" for axis, value in cell.items()}


def _indicators(cells: Sequence[Mapping[str, Any]], values: Sequence[str]) -> np.ndarray:
    """[cells, values]: 1 where a cell has the value."""
    return np.array([[value in _values(cell) for value in values] for cell in cells], float).reshape(-1, len(values))
