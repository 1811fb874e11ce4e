"""Do the states reach a fixed point? How much each iteration still changes them, by kind of token.

Shapes: R running tokens of a batch, H hidden, L cap.
"""

import torch
from torch import Tensor
from torchmetrics import Metric

from depthlab.kinds import TokenKind
from depthlab.metrics.pretraining import SUM_DTYPE

MEASURES = 4  # of a token in an iteration: similarity and change in norm, of its state and of the layer


class FixedPointMetric(Metric):
    """Means, by kind and iteration, of how alike a state and the next one are, over all tokens seen, on all ranks.

    Two measures: the cosine similarity of a and b, and the relative change in norm, abs(|b| - |a|) / |a|. In three
    readings:

    - `fixed_point`, the authors': h^{n-1} and h^n of all tokens. A frozen token counts as similarity 1 and change 0, so
      that the mean approaches these by construction.
    - `fixed_point_running`: the same of the tokens that still run in iteration n.
    - `fixed_point_layer`: h^{n-1} and s^n, the input and the output of the layer, of the tokens that still run. It is
      the one before where states move by the whole layer (`act_update: accumulate`).

    Args:
        max_depth: L, the cap of the model.

    Raises:
        ValueError: ``max_depth`` is less than 1.

    Example:
        >>> metric = FixedPointMetric(max_depth=2)
        >>> before, new = torch.tensor([[3.0, 4.0]]), torch.tensor([[4.0, 3.0]])
        >>> metric.update(1, kinds=torch.tensor([TokenKind.CLS]), before=before, new=new, after=2 * before)
        >>> means = metric.compute()
        >>> means["fixed_point_layer"][TokenKind.CLS]
        tensor([0.9600,    nan], dtype=torch.float64)
        >>> means["fixed_point_norm"][TokenKind.CLS]  # the token is frozen in the second iteration
        tensor([1., 0.], dtype=torch.float64)
    """

    full_state_update = False
    is_differentiable = False
    running: Tensor
    sums: Tensor

    def __init__(self, max_depth: int) -> None:
        super().__init__()
        if max_depth < 1:
            raise ValueError(f"max_depth must be at least 1, got {max_depth}")
        sizes = (len(TokenKind), max_depth)
        self.add_state("running", torch.zeros(sizes, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("sums", torch.zeros(*sizes, MEASURES, dtype=SUM_DTYPE), dist_reduce_fx="sum")

    def update(self, n: int, kinds: Tensor, before: Tensor, new: Tensor, after: Tensor) -> None:
        """Add one iteration of one batch: the tokens that run in it. All real tokens run in the first.

        Args:
            n: which iteration, 1..L.
            kinds: [R] integer, the :class:`TokenKind` of each token.
            before: h^{n-1}, [R, H].
            new: s^n, [R, H], what the layer makes of it.
            after: h^n, [R, H].
        """
        before, new, after = (h.to(torch.promote_types(h.dtype, torch.float32)) for h in (before, new, after))
        norm = before.norm(dim=-1)
        state = _similarity_and_change(before, norm, after)
        layer = state if new is after else _similarity_and_change(before, norm, new)
        where = (kinds.long(), torch.full_like(kinds, n - 1, dtype=torch.long))
        # Not in place, which fails when validation has reset the metric in inference mode.
        self.running = self.running.index_put(where, self.running.new_ones(()), accumulate=True)
        self.sums = self.sums.index_put(where, torch.stack([*state, *layer], dim=-1).to(SUM_DTYPE), accumulate=True)

    def compute(self) -> dict[str, Tensor]:
        """Each mean by its name, [kinds, L]; nan where there is no token.

        Returns:
            the cosine similarities ``fixed_point``, ``fixed_point_running`` and ``fixed_point_layer``; the relative
            changes in norm ``fixed_point_norm``, ``fixed_point_norm_running`` and ``fixed_point_norm_layer``; and
            ``fixed_point_tokens``, how many tokens ran in iteration n: those behind each mean over running tokens, and
            in the first iteration those behind the means over all.
        """
        tokens = self.running[:, :1]
        similarity, change, layer_similarity, layer_change = self.sums.unbind(dim=-1)
        return {
            "fixed_point": (similarity + tokens - self.running) / tokens,
            "fixed_point_running": similarity / self.running,
            "fixed_point_layer": layer_similarity / self.running,
            "fixed_point_norm": change / tokens,
            "fixed_point_norm_running": change / self.running,
            "fixed_point_norm_layer": layer_change / self.running,
            "fixed_point_tokens": self.running,
        }


def _similarity_and_change(before: Tensor, norm: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
    """[R] each, of states [R, H] and the norms [R] of the first; `F.cosine_similarity` costs several times as much."""
    new_norm = after.norm(dim=-1)
    return torch.linalg.vecdot(before, after) / (norm * new_norm), (new_norm - norm).abs() / norm
