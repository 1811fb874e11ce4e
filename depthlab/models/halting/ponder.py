"""A halting distribution that is learnt: PonderNet (Banino et al. 2021, arXiv:2107.05407)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from depthlab.errors import UserError
from depthlab.models.halting.act import HaltingUnit
from depthlab.models.halting.early import EarlyExit, EarlyState
from depthlab.models.halting.rule import HaltingStep, Look, Tokens
from depthlab.models.halting.sequences import leaders, of_leader


@dataclass(frozen=True)
class Ponder(EarlyExit):
    """The loss is its expectation over where a token, or a sequence by its [CLS], may halt.

    With q_n = sigmoid(w . s^n + b), it halts after n with the probability p_n = q_n (1 - q_1) ... (1 - q_{n-1}), and
    after L with what is left. In training all take L iterations, the loss is sum_n p_n loss_n, and the ponder cost is
    KL(p || g) of each token, or once a sequence, g_n = q (1 - q)^{n-1} being a prior, with what is left after L;
    `time_penalty` is the paper's beta (there 0.01). Afterwards a token halts in the first iteration with
    p_1 + ... + p_n over a threshold, as in PALBERT (Balagansky & Gavrilov 2022, arXiv:2204.03276), and not by chance;
    the ponder cost, of which only iterations that are not taken would tell, is 0 then.

    Attributes:
        ponder_threshold: 0 is one iteration, 1 the cap for all.
        ponder_prior: q of the prior, in (0, 1); its mean is 1 / q but for the cap.
        halts: as `EarlyExit`; "sequences" for a head that reads [CLS] only, "tokens" for one that reads tokens.
    """

    learns_everywhere: ClassVar[bool] = True
    charges_for_depth: ClassVar[bool] = True
    dial: ClassVar[str] = "ponder_threshold"

    ponder_threshold: float = 0.5
    ponder_prior: float = 0.2

    def __post_init__(self) -> None:
        if not 0 < self.ponder_prior < 1:
            raise UserError(f"halting_settings.ponder_prior must lie in (0, 1), got {self.ponder_prior}")

    def unit(self, hidden_size: int) -> HaltingUnit:
        """The same as that of `act`."""
        return HaltingUnit(hidden_size)

    def weigh(self, unit: HaltingUnit, tokens: Tokens, states: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """p_1..p_L, and the divergence from the prior."""
        leads, last = leaders(tokens), len(states)
        left = torch.ones_like(tokens.position, dtype=torch.promote_types(tokens.states.dtype, torch.float32))
        weights, costs, prior_left = [], torch.zeros_like(left), 1.0
        for n, state in enumerate(states, start=1):
            halts, prior = (unit(state), self.ponder_prior) if n < last else (torch.ones_like(left), 1.0)
            if self.halts == "sequences":
                halts = of_leader(leads, halts[leads])
            chance = left * halts
            ratio = chance.clamp(min=torch.finfo(chance.dtype).tiny) / (prior_left * prior)
            weights, costs = [*weights, chance], costs + chance * ratio.log()
            left, prior_left = left * (1 - halts), prior_left * (1 - prior)
        return torch.stack(weights), torch.where(leads if self.halts == "sequences" else tokens.real, costs, 0.0)

    def remember(self, tokens: Tokens) -> Tensor:
        """What is left of 1."""
        return torch.ones_like(tokens.states[..., :1], dtype=torch.promote_types(tokens.states.dtype, torch.float32))

    def judge(self, look: Look, memory: Tensor) -> tuple[Tensor, Tensor]:
        """By the cumulated probability."""
        left = memory * (1 - look.asked[..., None])
        over = 1 - left.squeeze(-1) > self.ponder_threshold
        return over | (self.ponder_threshold <= 0), left  # as any chance is, however small

    def step(self, state: EarlyState, look: Look) -> HaltingStep:
        """As rules for after training do; nothing is charged."""
        found = super().step(state, look)
        return found._replace(cost=torch.zeros_like(found.weight))

    def describe(self, cap: int) -> str:
        return f"cap {cap}, {self.halts} over {self.ponder_threshold:g}, prior {self.ponder_prior:g}"
