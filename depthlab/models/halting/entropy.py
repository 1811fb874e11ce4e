"""Stop once the head is sure enough, by the entropy of its prediction.

As DeeBERT (Xin et al. 2020, arXiv:2004.12993) for sequences, but with one head for all iterations.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from depthlab.models.halting.early import EarlyExit, logits_of
from depthlab.models.halting.rule import Look


@dataclass(frozen=True)
class Entropy(EarlyExit):
    """Entropy of the prediction below a threshold.

    Attributes:
        entropy_threshold: in nats; 0: never, and over log C at once.
        halts: as `EarlyExit`.
    """

    dial: ClassVar[str] = "entropy_threshold"

    entropy_threshold: float = 0.2

    def judge(self, look: Look, memory: Tensor) -> tuple[Tensor, Tensor]:
        """- sum_c p_c log p_c"""
        surprise = -logits_of(look, "entropy").log_softmax(dim=-1)
        entropy = torch.linalg.vecdot(surprise.neg().exp(), surprise)
        return entropy < self.entropy_threshold, memory
