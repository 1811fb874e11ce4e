"""How often each kind of token is refined: counts by kind and depth, and their means."""

import torch
from torch import Tensor
from torchmetrics import Metric

from depthlab.kinds import POOLS, TokenKind


class DepthMetric(Metric):
    """Counts tokens by kind and depth over everything seen since the last reset, on all ranks.

    Args:
        max_depth: L, the cap of the model. Depths run from 0 to L.

    Raises:
        ValueError: ``max_depth`` is less than 1.

    Example:
        >>> from depthlab.metrics import DepthMetric, mean_depths
        >>> metric = DepthMetric(max_depth=3)
        >>> metric.update(depths=torch.tensor([[3, 1, 2, 0]]), kinds=torch.tensor([[4, 0, 0, 6]]))
        >>> metric.compute()[TokenKind.PLAIN]
        tensor([0, 1, 1, 0])
        >>> mean_depths(metric.compute())
        {'all': 2.0, 'unmasked': 2.0, 'plain': 1.5, 'cls': 3.0}
    """

    full_state_update = False
    is_differentiable = False
    counts: Tensor

    def __init__(self, max_depth: int) -> None:
        super().__init__()
        if max_depth < 1:
            raise ValueError(f"max_depth must be at least 1, got {max_depth}")
        self.add_state("counts", torch.zeros(len(TokenKind), max_depth + 1, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, depths: Tensor, kinds: Tensor) -> None:
        """Count one batch.

        Args:
            depths: [B, T] integer, N_t: iterations of each token, 0 to L.
            kinds: [B, T] integer, the :class:`TokenKind` of each token. Padding is not counted.

        Raises:
            ValueError: The shapes differ.
            IndexError: A depth is over L, or a kind is unknown (on CUDA: a device-side assertion).
        """
        if depths.shape != kinds.shape:
            raise ValueError(f"depths are {tuple(depths.shape)}, kinds {tuple(kinds.shape)}")
        is_real = (kinds != TokenKind.PAD).to(self.counts)
        # Not bincount, which waits for the GPU to learn its length; not in place, which fails when validation reset the
        # metric in inference mode.
        self.counts = self.counts.index_put((kinds.long(), depths.long()), is_real, accumulate=True)

    def compute(self) -> Tensor:
        """The number of tokens of each kind at each depth, [kinds, L + 1] int64; the row of PAD is 0."""
        return self.counts


def mean_depths(counts: Tensor) -> dict[str, float]:
    """The mean iterations per token of every pool of :data:`depthlab.kinds.POOLS` that occurs in the counts.

    Args:
        counts: [kinds, L + 1] integer, as :class:`DepthMetric` computes them.
    """
    counts = counts.cpu()
    tokens = counts.sum(dim=1).tolist()
    iterations = (counts * torch.arange(counts.shape[1])).sum(dim=1).tolist()
    return {
        name: sum(iterations[kind] for kind in pool) / pool_tokens
        for name, pool in POOLS.items()
        if (pool_tokens := sum(tokens[kind] for kind in pool))
    }


class GroupDepthMetric(Metric):
    """Iterations and tokens of each kind in each group: a document, a class of examples, a part of speech.

    Over everything seen since the last reset, on all ranks.

    Args:
        groups: G, how many there are.
    """

    full_state_update = False
    is_differentiable = False
    iterations: Tensor
    tokens: Tensor

    def __init__(self, groups: int) -> None:
        super().__init__()
        for state in ("iterations", "tokens"):
            zeros = torch.zeros(groups, len(TokenKind), dtype=torch.int64)
            self.add_state(state, zeros, dist_reduce_fx="sum")

    def update(self, depths: Tensor, groups: Tensor, kinds: Tensor | None = None, real: Tensor | None = None) -> None:
        """Add one batch.

        Args:
            depths: any shape, integer, N_t: iterations of each token, 0 on padding.
            groups: integer, 0 to G - 1, of the same shape or broadcast to it, as [B, 1] to [B, T].
            kinds: of the same shape, the :class:`TokenKind` of each token; None where it does not matter.
            real: of the same shape, bool, False on padding; None: wherever depths are over 0, which is right unless
                tokens may halt before the first iteration.
        """
        real = depths > 0 if real is None else real
        kinds = torch.zeros_like(depths) if kinds is None else kinds
        where = (groups.long().expand_as(depths), kinds.long())
        self.iterations = self.iterations.index_put(where, depths.long(), accumulate=True)
        self.tokens = self.tokens.index_put(where, real.long(), accumulate=True)

    def compute(self) -> tuple[Tensor, Tensor]:
        """Iterations and tokens, each [G, kinds] int64."""
        return self.iterations, self.tokens


def mean_depth_by_group(iterations: Tensor, tokens: Tensor) -> Tensor:
    """Mean iterations per token, [G] fp32, of what :class:`GroupDepthMetric` computes; nan for a group without one."""
    return iterations.sum(dim=1) / tokens.sum(dim=1)
