"""What goes into a call of the encoder, what comes out, and what is seen of it on the way.

Shapes: B batch, T length, H hidden, A heads, L cap; R running tokens, packed in row-major order of [B, T].
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor
from transformers.utils import ModelOutput

from depthlab.models.halting import HaltingRule, State
from depthlab.models.hidden_states import HiddenStates


@dataclass
class EncoderOutput(ModelOutput):
    """What leaves the iteration; zeros at padding throughout."""

    last_hidden_state: Tensor | None = None
    """[B, T, H]"""
    depths: Tensor | None = None
    """N_t, [B, T] int64"""
    remainders: Tensor | None = None
    """R_t, [B, T] fp32"""
    hidden_states: tuple[Tensor | None, ...] | None = None
    """h^0..h^L, L + 1 x [B, T, H]: the states that iterations start from and end with, frozen ones repeated."""
    attentions: tuple[Tensor, ...] | None = None
    """[B, A, T, T] of each iteration that some token took, where they were recorded."""
    costs: Tensor | None = None
    """[B, T] fp32, what tokens are charged; None: N_t + R_t."""


class Iteration(NamedTuple):
    """One iteration of the tokens that ran in it, packed in row-major order, for who watches."""

    n: int
    """1..L"""
    position: Tensor
    """[R], rows in [B * T]."""
    before: Tensor
    """h^{n-1}, [R, H]"""
    new: Tensor
    """s^n, the layer's output, [R, H]"""
    after: Tensor
    """h^n, [R, H]"""
    probability: Tensor | None
    """p^n, [R] fp32, or what else the rule asked for; None where it asks for nothing."""


Observer = Callable[[Iteration], None]
Head = Callable[[Tensor], Tensor]
"""What a model predicts of states, [..., H] to logits [..., C], each by itself."""


class Call(NamedTuple):
    """What one call of the encoder asks for."""

    rule: HaltingRule | None
    """Decides which token halts in place of the configuration's, if there is one."""
    real: Tensor
    """[B, T] bool, False on padding."""
    attention_mask: Tensor | None
    by_query: bool
    compiled: bool
    """Whether torch.compile has the model."""
    kept: HiddenStates
    observer: Observer | None
    head: Head | None
    """For rules that ask it."""
    pieces: Tensor | None
    """[B, T], what was read, for the same; None where embeddings were."""


def each(function: Callable[..., Tensor], *states: State) -> State:
    """A rule's state with every tensor changed by the function; of several states, field by field."""
    tensors = map(function, *states)
    return type(states[0])(*tensors) if states[0] else ()
