"""Masked language modelling and sentence order by document, and how sure their means are.

Shapes: B batch, T length, P predicted tokens of the batch, V vocabulary, D documents.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import Metric

from depthlab.kinds import NOT_PREDICTED, TokenKind, bound_of
from depthlab.metrics.intervals import bootstrap_intervals
from depthlab.metrics.pretraining import SUM_DTYPE

PREDICTED_KINDS = (TokenKind.MASK_MASK, TokenKind.MASK_RANDOM, TokenKind.MASK_ORIGINAL)


class DocumentCounts(NamedTuple):
    """Sums over what was seen of each document."""

    predicted: Tensor  # [D, kinds] int64, tokens
    correct: Tensor  # [D, kinds] int64, of those
    losses: Tensor  # [D], nats over predicted tokens
    sequences: Tensor  # [D] int64
    in_order: Tensor  # [D] int64, sequences whose order was told right


class DocumentMetric(Metric):
    """Counts for the means and intervals of :func:`means_over_documents`, on all ranks.

    Args:
        documents: D, how many there are.
    """

    full_state_update = False
    is_differentiable = False

    def __init__(self, documents: int) -> None:
        super().__init__()
        shapes = {"predicted": (documents, len(TokenKind)), "correct": (documents, len(TokenKind))}
        for name in DocumentCounts._fields:
            dtype = SUM_DTYPE if name == "losses" else torch.int64
            zeros = torch.zeros(shapes.get(name, (documents,)), dtype=dtype)
            self.add_state(name, zeros, dist_reduce_fx="sum")

    def update(
        self,
        prediction_logits: Tensor,
        labels: Tensor,
        kinds: Tensor,
        document: Tensor,
        sop_logits: Tensor,
        sentence_order_label: Tensor,
    ) -> None:
        """Add one batch.

        Args:
            prediction_logits: [P, V], in row-major order of the predicted positions.
            labels: [B, T] integer, -100 where nothing is predicted.
            kinds: [B, T], TokenKind.
            document: [B] integer, 0 to D - 1.
            sop_logits: [B, 2].
            sentence_order_label: [B] integer, 1 = swapped.
        """
        is_predicted = labels != NOT_PREDICTED
        targets = labels[is_predicted]
        owner = document[:, None].expand_as(labels)[is_predicted]
        where = owner, kinds[is_predicted].long()
        right = (prediction_logits.max(dim=-1).indices == targets).long()
        losses = F.cross_entropy(prediction_logits.float(), targets, reduction="none").to(SUM_DTYPE)
        told = (sop_logits.argmax(dim=-1) == sentence_order_label).long()
        self.predicted = self.predicted.index_put(where, torch.ones_like(right), accumulate=True)
        self.correct = self.correct.index_put(where, right, accumulate=True)
        self.losses = self.losses.index_put((owner,), losses, accumulate=True)
        self.sequences = self.sequences.index_put((document,), torch.ones_like(told), accumulate=True)
        self.in_order = self.in_order.index_put((document,), told, accumulate=True)

    def compute(self) -> DocumentCounts:
        return DocumentCounts(*(getattr(self, name) for name in DocumentCounts._fields))


def means_over_documents(counts: DocumentCounts, sources: np.ndarray, source: int | None = None) -> dict[str, float]:
    """Means over tokens and sequences of some documents, and their 95 % intervals from the bootstrap over documents.

    Args:
        counts: As :class:`DocumentMetric` computes them.
        sources: [D], the number of each document's source. Resamples have as many documents of each.
        source: The one to take; all by default. Documents that were not seen do not count.

    Returns:
        ``accuracy/mlm`` and its parts ``accuracy/mlm_mask_mask``, ``..._mask_random`` and ``..._mask_original``,
        ``loss/mlm`` and ``accuracy/sop``; the bounds of each as ``accuracy_low/...``, ``accuracy_high/...``, where
        there are enough documents of each source; ``documents/seen``; and ``documents/effective``: as many documents of
        equal length would leave as much to chance, (sum n)^2 / sum n^2 over their predicted tokens n (Kish 1965, 11.7).
        A mean over no token is left out.
    """
    chosen = np.arange(len(sources)) if source is None else np.flatnonzero(sources == source)
    predicted, correct, losses, sequences, in_order = (
        np.atleast_1d(values.cpu().double().numpy())[chosen]  # torchmetrics makes a scalar of one document's
        for values in counts
    )
    seen = sequences > 0
    if not seen.any():
        return {"documents/seen": 0.0}
    tokens = predicted.sum(axis=1)
    pairs = {"accuracy/mlm": (correct.sum(axis=1), tokens)}
    pairs |= {f"accuracy/mlm_{kind.name.lower()}": (correct[:, kind], predicted[:, kind]) for kind in PREDICTED_KINDS}
    pairs |= {"loss/mlm": (losses, tokens), "accuracy/sop": (in_order, sequences)}
    sums, totals = (np.stack(column, axis=1)[seen] for column in zip(*pairs.values(), strict=True))
    found = {
        tag: total / count
        for tag, total, count in zip(pairs, sums.sum(axis=0).tolist(), totals.sum(axis=0).tolist(), strict=True)
        if count
    }
    intervals = bootstrap_intervals(sums, totals, sources[chosen][seen])
    for tag, (low, high) in zip(pairs, intervals.tolist(), strict=True):
        if low == low:
            found |= {bound_of(tag, "low"): low, bound_of(tag, "high"): high}
    squares = np.square(tokens).sum()
    effective = {"documents/effective": tokens.sum() ** 2 / squares} if squares else {}
    return found | {"documents/seen": float(seen.sum())} | effective
