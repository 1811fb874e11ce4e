"""Losses and accuracies of pre-training, and the entropy that an MLM loss has to beat.

Shapes: B batch, T length, P predicted tokens of the batch, V vocabulary.
"""

import torch
from torch import Tensor
from torchmetrics import Metric

from depthlab.kinds import NOT_PREDICTED

# Long sums of losses lose digits in fp32; Apple's GPUs have nothing better.
SUM_DTYPE = torch.float32 if torch.backends.mps.is_available() else torch.float64


class PretrainingMetrics(Metric):
    """Means over everything seen since the last reset, on all ranks; every predicted token or sequence weighs the same.

    Args:
        vocab_size: V.

    Raises:
        ValueError: ``vocab_size`` is less than 1.

    Example:
        >>> metric = PretrainingMetrics(vocab_size=3)
        >>> metric.update(
        ...     mlm_loss=torch.tensor(0.5),
        ...     prediction_logits=torch.tensor([[0.0, 9.0, 0.0], [9.0, 0.0, 0.0]]),
        ...     labels=torch.tensor([[-100, 1, 2, -100]]),
        ...     sop_loss=torch.tensor(0.25),
        ...     sop_logits=torch.tensor([[0.0, 1.0]]),
        ...     sentence_order_label=torch.tensor([1]),
        ...     ponder_cost=torch.tensor([9.5]),
        ... )
        >>> {name: round(value.item(), 4) for name, value in metric.compute().items()}  # doctest: +NORMALIZE_WHITESPACE
        {'loss/mlm': 0.5, 'loss/sop': 0.25, 'loss/ponder': 9.5, 'accuracy/mlm': 0.5, 'accuracy/sop': 1.0,
         'unigram_entropy': 0.6931}
    """

    full_state_update = False
    is_differentiable = False
    mlm_loss_sum: Tensor
    mlm_correct: Tensor
    label_counts: Tensor
    sop_loss_sum: Tensor
    sop_correct: Tensor
    ponder_cost_sum: Tensor
    sequences: Tensor

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        if vocab_size < 1:
            raise ValueError(f"vocab_size must be at least 1, got {vocab_size}")
        for name in ("mlm_loss_sum", "sop_loss_sum", "ponder_cost_sum"):
            self.add_state(name, torch.zeros((), dtype=SUM_DTYPE), dist_reduce_fx="sum")
        for name in ("mlm_correct", "sop_correct", "sequences"):
            self.add_state(name, torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("label_counts", torch.zeros(vocab_size, dtype=torch.int64), dist_reduce_fx="sum")

    def update(
        self,
        mlm_loss: Tensor,
        prediction_logits: Tensor,
        labels: Tensor,
        sop_loss: Tensor,
        sop_logits: Tensor,
        sentence_order_label: Tensor,
        ponder_cost: Tensor,
    ) -> None:
        """Add one batch.

        Args:
            mlm_loss: [], mean cross-entropy over the P predicted tokens, in nats; ignored when P is 0.
            prediction_logits: [P, V], in row-major order of the predicted positions.
            labels: [B, T] integer, -100 where nothing is predicted; P others.
            sop_loss: [], mean cross-entropy over the sequences, in nats.
            sop_logits: [B, 2].
            sentence_order_label: [B] integer, 1 = swapped.
            ponder_cost: [B], sum of N_t + R_t over the real tokens of each sequence.

        Raises:
            ValueError: The shapes do not fit together.
        """
        batch_size = len(labels)
        predicted = len(prediction_logits)
        vocab_size = len(self.label_counts)
        if prediction_logits.shape != (predicted, vocab_size):
            raise ValueError(f"prediction_logits are {tuple(prediction_logits.shape)}, expected [P, {vocab_size}]")
        if sop_logits.shape != (batch_size, 2):
            raise ValueError(f"sop_logits are {tuple(sop_logits.shape)}, expected {(batch_size, 2)}")
        for name, values in (("sentence_order_label", sentence_order_label), ("ponder_cost", ponder_cost)):
            if values.shape != (batch_size,):
                raise ValueError(f"{name} is {tuple(values.shape)}, expected {(batch_size,)}")

        if predicted:  # the mean loss of no tokens is nan
            # labels[labels != -100], but without waiting for the GPU: how many they are is known already.
            positions = (labels.flatten() == NOT_PREDICTED).byte().argsort(stable=True)[:predicted]
            targets = labels.flatten()[positions]
            self.mlm_loss_sum = self.mlm_loss_sum + mlm_loss.to(SUM_DTYPE) * predicted
            # `max` and `argmax` agree, but on a CPU argmax takes two to three times as long.
            self.mlm_correct = self.mlm_correct + (prediction_logits.max(dim=-1).indices == targets).sum()
            self.label_counts = self.label_counts.index_put((targets,), torch.ones_like(targets), accumulate=True)
        self.sop_loss_sum = self.sop_loss_sum + sop_loss.to(SUM_DTYPE) * batch_size
        self.sop_correct = self.sop_correct + (sop_logits.argmax(dim=-1) == sentence_order_label).sum()
        self.ponder_cost_sum = self.ponder_cost_sum + ponder_cost.to(SUM_DTYPE).sum()
        self.sequences = self.sequences + batch_size

    def compute(self) -> dict[str, Tensor]:
        """The means, each a scalar; nan where there was nothing to average.

        Returns:
            ``loss/mlm`` per predicted token and ``loss/sop`` per sequence, in nats; ``loss/ponder``, the ponder cost
            per sequence, without tau; ``accuracy/mlm`` and ``accuracy/sop``, fractions; ``unigram_entropy``, in nats:
            the entropy of the distribution of the predicted labels seen, which is the lowest MLM loss that a predictor
            blind to the context can reach on these very tokens.
        """
        predicted = self.label_counts.sum()
        return {
            "loss/mlm": self.mlm_loss_sum / predicted,
            "loss/sop": self.sop_loss_sum / self.sequences,
            "loss/ponder": self.ponder_cost_sum / self.sequences,
            "accuracy/mlm": self.mlm_correct / predicted,
            "accuracy/sop": self.sop_correct / self.sequences,
            "unigram_entropy": torch.special.entr(self.label_counts.to(SUM_DTYPE) / predicted).sum(),
        }
