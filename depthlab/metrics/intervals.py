"""How sure the mean depths are: 95 % intervals from resampling whole documents, whose tokens are not independent."""

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from depthlab.kinds import POOLS, TokenKind

RESAMPLES = 2000


class DocumentDepthMetric(Metric):
    """Iterations and tokens of each kind in each document, over everything seen since the last reset, on all ranks.

    Args:
        documents: D, how many documents there are.
    """

    full_state_update = False
    is_differentiable = False
    iterations: Tensor
    tokens: Tensor

    def __init__(self, documents: int) -> None:
        super().__init__()
        for state in ("iterations", "tokens"):
            zeros = torch.zeros(documents, len(TokenKind), dtype=torch.int64)
            self.add_state(state, zeros, dist_reduce_fx="sum")

    def update(self, depths: Tensor, kinds: Tensor, document: Tensor) -> None:
        """Add one batch.

        Args:
            depths: [B, T] integer, N_t: iterations of each token, 0 on padding.
            kinds: [B, T] integer, the :class:`TokenKind` of each token.
            document: [B] integer, 0 to D - 1: where each sequence comes from.
        """
        where = (document[:, None].expand_as(kinds), kinds)
        self.iterations = self.iterations.index_put(where, depths.long(), accumulate=True)
        self.tokens = self.tokens.index_put(where, (depths > 0).long(), accumulate=True)

    def compute(self) -> tuple[Tensor, Tensor]:
        """Iterations and tokens, each [D, kinds] int64."""
        return self.iterations, self.tokens


def depth_intervals(iterations: Tensor, tokens: Tensor) -> dict[str, tuple[float, float]]:
    """The 95 % interval of the mean depth of every pool of kinds: percentiles of the bootstrap over documents.

    Args:
        iterations: [D, kinds] integer, as :class:`DocumentDepthMetric` computes them.
        tokens: [D, kinds] integer.

    Returns:
        Lower and upper bound by the names in :data:`depthlab.kinds.POOLS`; pools that occur in fewer than two documents
        are left out.
    """
    drawn = np.random.default_rng(0).multinomial(len(tokens), np.full(len(tokens), 1 / len(tokens)), size=RESAMPLES)
    intervals = {}
    for name, pool in POOLS.items():
        kinds = list(pool)
        counted, seen = (values.cpu().numpy()[:, kinds].sum(axis=1) for values in (iterations, tokens))  # [D]
        if np.count_nonzero(seen) < 2:
            continue
        totals = drawn @ seen  # of each resample
        means = (drawn @ counted)[totals > 0] / totals[totals > 0]
        low, high = np.quantile(means, [0.025, 0.975])
        intervals[name] = (float(low), float(high))
    return intervals
