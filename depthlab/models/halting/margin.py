"""Stop once the head is sure enough, by how far its best class is ahead of the second.

The score of confidence in adaptive language models (Schuster et al. 2022, CALM, arXiv:2207.07061, softmax response).
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from depthlab.models.halting.early import EarlyExit, logits_of
from depthlab.models.halting.rule import Look


@dataclass(frozen=True)
class Margin(EarlyExit):
    """Probability of the best class, less that of the second, over a threshold.

    Attributes:
        margin_threshold: 1: never; below 0 at once.
        halts: as `EarlyExit`.
    """

    dial: ClassVar[str] = "margin_threshold"

    margin_threshold: float = 0.9

    def judge(self, look: Look, memory: Tensor) -> tuple[Tensor, Tensor]:
        """p_first - p_second"""
        best, second = logits_of(look, "margin").softmax(dim=-1).topk(2, dim=-1).values.unbind(-1)
        return best - second > self.margin_threshold, memory
