"""Named losses: means over what the global batch holds, in the gradient and in the logs."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import Strategy
from torch import Tensor

from depthlab.metrics.pretraining import SUM_DTYPE


class Loss(NamedTuple):
    """What a micro-batch is charged for one thing."""

    means: Tensor
    """Any shape; each is a mean over as many items."""
    items: int = 1
    """How many each of them is a mean over; 1: they are the items themselves."""
    per: Literal["sequences", "predicted"] = "sequences"
    """What an item is. The loss is a mean over all of them in the global batch."""


def global_mean(
    losses: Mapping[str, Loss], weights: Mapping[str, float], batch: Mapping[str, Tensor], trainer: Trainer
) -> Tensor:
    """A micro-batch's part in the weighted sum of losses, each a mean over the items of the global batch.

    Args:
        losses: of the micro-batch, by name.
        weights: by name; 1 where there is none.
        batch: `window_sequences` and `window_predicted`, [] each, are what this rank's share of the optimiser step
            holds. Where they are not there, every piece of a step is taken to hold as much as it.
        trainer: whose ranks and accumulation to take.

    Returns:
        []; scaled so that the mean over ranks of the sums over pieces is the loss of the global batch.
    """
    shares = {}
    for loss in losses.values():
        here = loss.means.numel() * loss.items * trainer.accumulate_grad_batches
        shares[loss.per] = torch.as_tensor(batch.get(f"window_{loss.per}", here), device=loss.means.device)
    held = trainer.strategy.reduce(torch.stack([*shares.values()]), reduce_op="sum").clamp(min=1)
    counts = dict(zip(shares, held, strict=True))
    total = sum(
        weights.get(name, 1.0) * (loss.means.sum() * loss.items) / counts[loss.per] for name, loss in losses.items()
    )
    return total * (trainer.world_size * trainer.accumulate_grad_batches)


class LossSums:
    """Sums of named losses since they were last read, on the device."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}  # [2] each: the sum, and over how many items

    def add(self, losses: Mapping[str, Loss]) -> None:
        for name, loss in losses.items():
            total = loss.means.detach().to(SUM_DTYPE).sum() * loss.items
            counted = torch.stack([total, torch.full_like(total, loss.means.numel() * loss.items)])
            self._sums[name] = self._sums[name] + counted if name in self._sums else counted

    def read(self, strategy: Strategy) -> dict[str, Tensor]:
        """The mean of each over all ranks, [] fp32, nan over no items; those that were not there are left out."""
        names, sums = list(self._sums), torch.stack([*self._sums.values()])
        self._sums = {}
        totals = strategy.reduce(sums, reduce_op="sum")
        return {name: (total / items).float() for name, (total, items) in zip(names, totals, strict=True)}
