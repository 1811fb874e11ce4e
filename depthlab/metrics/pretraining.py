"""Accuracies of pre-training, and the entropy that an MLM loss has to beat.

Shapes: B batch, T length, P predicted tokens of the batch, V vocabulary.
"""

import torch
from torch import Tensor
from torchmetrics import Metric

from depthlab.kinds import NOT_PREDICTED

# Long sums of losses lose digits in fp32; Apple's GPUs have nothing better.
SUM_DTYPE = torch.float32 if torch.backends.mps.is_available() else torch.float64


class PretrainingMetrics(Metric):
    """Accuracies over everything seen since the last reset, on all ranks.

    Args:
        vocab_size: V.

    Raises:
        ValueError: ``vocab_size`` is less than 1.

    Example:
        >>> metric = PretrainingMetrics(vocab_size=3)
        >>> metric.update(
        ...     prediction_logits=torch.tensor([[0.0, 9.0, 0.0], [9.0, 0.0, 0.0]]),
        ...     labels=torch.tensor([[-100, 1, 2, -100]]),
        ...     sop_logits=torch.tensor([[0.0, 1.0]]),
        ...     sentence_order_label=torch.tensor([1]),
        ... )
        >>> {name: round(value.item(), 4) for name, value in metric.compute().items()}
        {'accuracy/mlm': 0.5, 'accuracy/sop': 1.0, 'unigram_entropy': 0.6931}
    """

    full_state_update = False
    is_differentiable = False
    mlm_correct: Tensor
    label_counts: Tensor
    sop_correct: Tensor
    sequences: Tensor

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        if vocab_size < 1:
            raise ValueError(f"vocab_size must be at least 1, got {vocab_size}")
        for name in ("mlm_correct", "sop_correct", "sequences"):
            self.add_state(name, torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("label_counts", torch.zeros(vocab_size, dtype=torch.int64), dist_reduce_fx="sum")

    def update(
        self, prediction_logits: Tensor, labels: Tensor, sop_logits: Tensor, sentence_order_label: Tensor
    ) -> None:
        """Add one batch.

        Args:
            prediction_logits: [P, V], in row-major order of the predicted positions.
            labels: [B, T] integer, -100 where nothing is predicted; P others.
            sop_logits: [B, 2].
            sentence_order_label: [B] integer, 1 = swapped.

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
        if sentence_order_label.shape != (batch_size,):
            raise ValueError(f"sentence_order_label is {tuple(sentence_order_label.shape)}, expected {(batch_size,)}")

        # labels[labels != -100], but without waiting for the GPU: how many they are is known already.
        positions = (labels.flatten() == NOT_PREDICTED).byte().argsort(stable=True)[:predicted]
        targets = labels.flatten()[positions]
        # `max` and `argmax` agree, but on a CPU argmax takes two to three times as long.
        self.mlm_correct = self.mlm_correct + (prediction_logits.max(dim=-1).indices == targets).sum()
        self.label_counts = self.label_counts.index_put((targets,), torch.ones_like(targets), accumulate=True)
        self.sop_correct = self.sop_correct + (sop_logits.argmax(dim=-1) == sentence_order_label).sum()
        self.sequences = self.sequences + batch_size

    def compute(self) -> dict[str, Tensor]:
        """Each a scalar; nan where there was nothing to average.

        Returns:
            ``accuracy/mlm`` and ``accuracy/sop``, fractions; ``unigram_entropy``, in nats: the entropy of the
            distribution of the predicted labels seen, which is the lowest MLM loss that a predictor blind to the
            context can reach on these very tokens.
        """
        predicted = self.label_counts.sum()
        return {
            "accuracy/mlm": self.mlm_correct / predicted,
            "accuracy/sop": self.sop_correct / self.sequences,
            "unigram_entropy": torch.special.entr(self.label_counts.to(SUM_DTYPE) / predicted).sum(),
        }
