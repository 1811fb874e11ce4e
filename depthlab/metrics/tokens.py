"""What a model did with each token, kept one by one."""

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat


class TokenRecords(Metric):
    """Depth, remainder and, perhaps, loss of every token seen, on all ranks. Every rank must have seen a batch."""

    full_state_update = False
    is_differentiable = False
    places: list[Tensor]
    values: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        for state in ("places", "values"):
            self.add_state(state, [], dist_reduce_fx="cat")

    def update(
        self,
        index: Tensor,
        depths: Tensor,
        remainders: Tensor,
        losses: Tensor | None = None,
        real: Tensor | None = None,
    ) -> None:
        """Add one batch.

        Args:
            index: [B], which sequence each is.
            depths: [B, T] integer, N_t: iterations of each token, 0 on padding, which is not kept.
            remainders: [B, T], R_t.
            losses: [B, T]; in all batches or in none.
            real: [B, T] bool, False on padding; None: wherever depths are over 0, which is right unless tokens may halt
                before the first iteration.
        """
        rows, positions = (depths > 0 if real is None else real).nonzero(as_tuple=True)
        measured = [remainders] if losses is None else [remainders, losses]
        self.places.append(torch.stack([index[rows], positions, depths[rows, positions]], dim=-1))
        self.values.append(torch.stack([value[rows, positions].float() for value in measured], dim=-1))

    def compute(self) -> dict[str, Tensor]:
        """What there is of each token, on the CPU: `sentence`, `position`, `depth`, `remainder`, perhaps `loss`."""
        places, values = dim_zero_cat(self.places).cpu(), dim_zero_cat(self.values).cpu()
        named = zip(("sentence", "position", "depth", "remainder", "loss"), (*places.T, *values.T), strict=False)
        return dict(named)
