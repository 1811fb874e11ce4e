"""The halting rule of adaptive computation time (Graves 2016), as Simoulin & Crabbé (2021) use it."""

from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedConfig
from transformers import initialization as init

from depthlab.models.halting.rule import HaltingRule, HaltingStep, Look, Tokens, Unit

ActCap = Literal["truncate", "remainder"]
ActCost = Literal["ponder", "expected"]


class HaltingUnit(Unit):
    """Halting probability of a token, sigmoid(w . s + b), from its new state s.

    Computed in fp32 at least, under any autocast: the sum of the probabilities is compared with a threshold. It is no
    `nn.Linear`, whose output has another shape: what adapts or quantises every linear layer leaves it alone.
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        linear = nn.Linear(hidden_size, 1)
        self.weight, self.bias = linear.weight, linear.bias

    def initialise(self, config: PreTrainedConfig) -> None:
        """Weights as everywhere else; the bias says from what depth training starts."""
        init.normal_(self.weight, std=config.initializer_range)
        init.constant_(self.bias, config.halting_bias_init)

    def forward(self, states: Tensor, shift: float = 0.0) -> Tensor:
        """[..., H] -> [...], in (0, 1); the shift is added to w . s + b."""
        dtype = torch.promote_types(states.dtype, torch.float32)
        with torch.autocast(states.device.type, enabled=False):
            logits = F.linear(states.to(dtype), self.weight.to(dtype), self.bias.to(dtype))
        return torch.sigmoid(logits.squeeze(-1) + shift)


class ActState(NamedTuple):
    """What ACT remembers of a token."""

    accumulated: Tensor
    """p^1 + ... + p^{n-1}, [...] fp32."""


@dataclass(frozen=True)
class Act(HaltingRule):
    """Adaptive computation time; its settings are public fields of the configuration.

    A token halts in the first iteration n with p^1 + ... + p^n > 1 - epsilon, and gives that iteration the remainder
    R = 1 - (p^1 + ... + p^{n-1}) as its weight. One that reaches the cap without halting gives its last iteration
    p^L ("truncate", the authors' code) or R ("remainder", Graves 2016).

    Attributes:
        act_cost: what depth is charged: "ponder", N + R of Graves, of which only R has a gradient; or "expected", the
            mean of n by the weights of the iterations, the last one's being R: sum_n (1 - p^1 - ... - p^{n-1}).
        act_shift: added to the halting logits, after training: far up, every token halts at once; far down, with
            "remainder" and act_update "accumulate", it is the model of fixed depth.
    """

    charges_for_depth: ClassVar[bool] = True
    dial: ClassVar[str] = "act_shift"

    act_epsilon: float = 0.01
    act_cap: ActCap = "truncate"
    time_penalty: float = 5e-4
    act_cost: ActCost = "ponder"
    act_shift: float = 0.0

    def unit(self, hidden_size: int) -> HaltingUnit:
        """`encoder.halting.weight` [1, H] and `encoder.halting.bias` [1]."""
        return HaltingUnit(hidden_size)

    def begin(self, tokens: Tokens) -> ActState:
        """Nothing accumulated yet."""
        dtype = torch.promote_types(tokens.states.dtype, torch.float32)
        return ActState(torch.zeros_like(tokens.position, dtype=dtype))

    def ask(self, unit: HaltingUnit, look: Look) -> Tensor:
        """The halting probability."""
        return unit(look.new, self.act_shift)

    def step(self, state: ActState, look: Look) -> HaltingStep:
        """One step; the halting probability is what was asked for."""
        probability, accumulated = look.asked, state.accumulated
        crossed = accumulated + probability > 1 - self.act_epsilon
        halted = torch.ones_like(crossed) if look.at_cap else crossed
        takes_remainder = halted if self.act_cap == "remainder" else crossed
        remainder = 1 - accumulated
        return HaltingStep(
            weight=torch.where(takes_remainder, remainder, probability),
            halted=halted,
            state=ActState(accumulated + probability),
            remainder=torch.where(takes_remainder, remainder, 0.0),
            cost=remainder if self.act_cost == "expected" else None,
        )

    def describe(self, cap: int) -> str:
        return f"cap {cap}, tau {self.time_penalty:g}" + (" of expected depth" if self.act_cost == "expected" else "")
