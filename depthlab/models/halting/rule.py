"""What a halting rule is: settings, a state for each running token, and a step that says who halts.

A rule is one small frozen dataclass in a file of its own, and a line of the registry (`register`). It sees tokens as
`[...]`: both executions call the same code, `dense` on [B, T] and `compact` on the [R] tokens that still run. What it
wants to remember of a token goes into its state, which the encoder packs with the tokens.
"""

import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self, get_type_hints

import torch
from huggingface_hub.dataclasses import type_validator
from torch import Tensor, nn
from transformers import PreTrainedConfig

from depthlab.errors import UserError

if TYPE_CHECKING:
    from depthlab.models.albert import AdaptiveAlbertConfig

State = tuple[Tensor, ...]
"""Of a rule: a NamedTuple of tensors [...] or [..., K], a row a token; () where there is nothing to remember."""


class Tokens(NamedTuple):
    """The tokens that a rule will decide about, before the first iteration."""

    states: Tensor
    """h^0, [..., H]"""
    position: Tensor
    """[...], the row of each in [B * T]."""
    length: int
    """T"""
    real: Tensor
    """[...] bool, False on padding, which is among [B, T]."""
    pieces: Tensor | None = None
    """[...], number of each in the vocabulary; None where the model was given embeddings."""

    @property
    def sequence(self) -> Tensor:
        """[...], each token's row in [B]; ascending."""
        return self.position // self.length


class Look(NamedTuple):
    """What a rule sees of one iteration. Tokens that have halted are among [B, T]; what is said of them is ignored."""

    n: int
    """1..L, or 0 before the first iteration"""
    at_cap: bool
    """Whether n = L: every token halts, whatever the rule says."""
    before: Tensor
    """h^{n-1}, [..., H]"""
    new: Tensor
    """s^n, the layer's output, [..., H]"""
    asked: Tensor | None
    """What the rule's unit says, such as a halting probability [...]; None where the rule has no unit."""
    head: Callable[[Tensor], Tensor] | None = None
    """The model's prediction of states, [..., H] to logits [..., C]; None where the model has no head."""


class HaltingStep(NamedTuple):
    """What one iteration decides for tokens that entered it running. All [...]."""

    weight: Tensor
    """lambda^n, fp32: how far the state moves to s^n ("blend"), or the share of s^n in the output ("accumulate")."""
    halted: Tensor
    """bool: whether this iteration n was the token's last, N = n."""
    state: State = ()
    """What the rule remembers for the next iteration."""
    remainder: Tensor | None = None
    """R where the token halted, fp32, as in Graves 2016; None: 0 everywhere."""
    cost: Tensor | None = None
    """What is charged for this iteration, fp32; None in every iteration: a token is charged N + R in all."""


def on_the_last(halted: Tensor, look: Look, act_update: str, state: State) -> HaltingStep:
    """Tokens move by the whole layer, and all weight is on their last state, whatever the configuration's update."""
    weight = torch.ones_like(halted) if act_update == "blend" else halted
    return HaltingStep(weight.to(torch.promote_types(look.new.dtype, torch.float32)), halted, state)


class Unit(nn.Module):
    """What a rule learns, if it says itself how it begins."""

    def initialise(self, config: PreTrainedConfig) -> None:
        """Called in a new model, after the usual initialisation."""
        raise NotImplementedError


@dataclass(frozen=True)
class HaltingRule:
    """The settings of a rule, and the rule. Subclasses are frozen dataclasses, too.

    A field that the model's configuration has as well (`act_epsilon`, `time_penalty`, ...) is taken from there; all
    others are the keys of its `halting_settings`.
    """

    adaptive: ClassVar[bool] = True
    """Whether tokens choose their depth. Where they do not, the encoder runs L plain iterations and never asks."""
    learns_everywhere: ClassVar[bool] = False
    """Whether the loss in training is a weighted sum of those after every iteration (`weigh`): all tokens take L."""
    charges_for_depth: ClassVar[bool] = False
    """Whether the ponder cost has a gradient, and so a place in the loss."""
    first: ClassVar[int] = 1
    """The first step's n; 0: there is one before any iteration, of h^0 before and after."""
    dial: ClassVar[str | None] = None
    """The one number to turn after training: a key of `halting_settings`, or a field of the configuration."""

    @classmethod
    def from_config(cls, config: "AdaptiveAlbertConfig") -> Self:
        """The rule that a configuration asks for.

        Raises:
            UserError: `halting_settings` has a key that the rule does not know, lacks one, or has a value of another
                type.
        """
        shared = {field.name for field in fields(config)}
        own = {field.name: field for field in fields(cls) if field.name not in shared}
        given = dict(config.halting_settings)
        for key, value in given.items():
            if key not in own:
                known = f"it has {', '.join(own)}" if own else "it has none there"
                raise UserError(f"halting {config.halting!r} has no setting {key!r}{did_you_mean(key, own)} ({known})")
            wanted = get_type_hints(cls)[key]
            if wanted in (float, float | None) and type(value) is int:
                given[key] = value = float(value)
            try:
                type_validator(key, value, wanted)
            except TypeError as error:
                raise UserError(f"halting_settings: {' '.join(str(error).split())}") from None
        for name, field in own.items():
            if name not in given and field.default is MISSING and field.default_factory is MISSING:
                raise UserError(f"halting {config.halting!r} needs halting_settings.{name}")
        return cls(**given, **{f.name: getattr(config, f.name) for f in fields(cls) if f.name in shared})

    def unit(self, hidden_size: int) -> nn.Module | None:
        """What the rule learns, states [..., H] to what `Look.asked` is: the model's `encoder.halting`."""
        return None

    @classmethod
    def chooses(cls, training: bool) -> bool:
        """Whether tokens choose their depth in this mode."""
        return cls.adaptive and not (training and cls.learns_everywhere)

    def weigh(self, unit: nn.Module | None, tokens: Tokens, states: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
        """Of a rule that learns everywhere, in training.

        Args:
            unit: the rule's, if it has one.
            tokens: [B, T]
            states: s^1..s^L, [B, T, H] each.

        Returns:
            weights: [L, B, T] fp32, of the loss after each iteration; of a whole sequence's loss that of its [CLS].
            costs: [B, T] fp32, what a token is charged in place of N + R; or None.
        """
        raise NotImplementedError

    def decides(self, n: int) -> bool:
        """Whether a token may halt in iteration n < L. Where none can, nobody is asked, and the host need not look."""
        return True

    def asks(self, n: int) -> bool:
        """Whether iteration n needs what the rule's unit says: where tokens may halt, unless a rule knows better."""
        return self.decides(n)

    def begin(self, tokens: Tokens) -> State:
        """The state before the first iteration."""
        return ()

    def ask(self, unit: nn.Module, look: Look) -> Tensor:
        """What the rule's unit says of an iteration that decides: the next look's `asked`."""
        return unit(look.new)

    def step(self, state: State, look: Look) -> HaltingStep:
        """Decide about tokens that are running."""
        raise NotImplementedError

    def describe(self, cap: int) -> str:
        """Depth, of cap L, and settings in a few words, for reports and model cards."""
        settings = (f"{field.name.replace('_', ' ')} {_short(getattr(self, field.name))}" for field in fields(self))
        return ", ".join((f"cap {cap}", *settings))


def did_you_mean(key: str, known: Iterable[str]) -> str:
    """The end of an error about an unknown key: the nearest of the known ones, or nothing."""
    near = difflib.get_close_matches(key, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
