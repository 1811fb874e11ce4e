"""Sizes that recur. How many tokens still run differs with every iteration of every batch.

oneDNN, which multiplies bfloat16 on CPUs, builds a kernel for each new shape of a matrix product, in 1 to 20 ms: a
quarter of a training step. With a few rows more, the shapes are so few that its cache has them.
"""

import torch
from torch import Tensor


def recurring_size(rows: int) -> int:
    """The next of the sizes that recur: at least `rows`, by less than a sixteenth more, and up to 32 the same."""
    step = 1 << max(0, rows.bit_length() - 5)
    return -(-rows // step) * step


def pad_rows(rows: Tensor) -> Tensor:
    """Rows [R, ...] and after them as many of the first again as the size that recurs needs.

    Not zeros: behind a layer norm these have an infinite derivative in half precision, and 0 times that is nan. Nothing
    is read of what becomes of them, so they pass no gradient. Where nobody minds the shape, rows as they are: in other
    precisions, elsewhere than on a CPU, and compiled.
    """
    half = rows.element_size() == 2 or torch.is_autocast_enabled("cpu")
    if torch.compiler.is_compiling() or rows.device.type != "cpu" or not half:
        return rows
    missing = recurring_size(len(rows)) - len(rows)
    return torch.cat([rows, rows[:missing].detach()]) if missing else rows
