"""The iteration: one shared layer, applied to every token as often as its halting rule says.

Two executions of the same equations: `dense` computes every token until the last one has halted, as the paper does;
`compact` computes the running tokens only. With tied weights and a frozen state a halted token's key and value cannot
change any more, so leaving it out is exact, forward and backward. Where every iteration has a layer of its own (the
untied baseline), each of them computes the keys and values of halted tokens too, and nothing else of them.

What a layer does is in `layer.py`, who halts in `halting/`; both executions ask the same rule.

Shapes: B batch, T length, E embedding, H hidden, L cap; N real tokens of the batch, R of them still running. Packed
tensors, [N, ...] and [R, ...], keep the row-major order of [B, T]; a token's *position* is its row in [B * T].
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers.utils import ModelOutput

from depthlab.errors import UserError
from depthlab.models.block import mask_of_running, pack, scatter
from depthlab.models.halting import HaltingRule, HaltingStep, Look, State, Tokens
from depthlab.models.hidden_states import HiddenStates
from depthlab.models.layer import IteratedLayer
from depthlab.models.sharding import goes_on
from depthlab.models.sizes import pad_rows


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


class Call(NamedTuple):
    """What one call of the encoder asks for."""

    rule: HaltingRule
    """Decides which token halts."""
    real: Tensor
    """[B, T] bool, False on padding."""
    attention_mask: Tensor | None
    by_query: bool
    kept: HiddenStates
    observer: Observer | None


class AdaptiveAlbertTransformer(IteratedLayer):
    """HF's ALBERT encoder, same parameter names, plus what the halting rule learns."""

    def __init__(self, config) -> None:
        super().__init__(config)
        self.halting: nn.Module | None = config.rule.unit(config.hidden_size)
        self.hold_depth = False
        """While True every token takes all L iterations and the halting rule rests: training at fixed depth first.
        A mode, as `training` is: it is set between calls, and no call sets it."""

    def forward(
        self,
        embeddings: Tensor,
        real: Tensor,
        attention_mask: Tensor | None,
        by_query: bool = False,
        hidden_states: Collection[int] = (),
        halting_rule: HaltingRule | None = None,
        observer: Observer | None = None,
        **attention_kwargs,
    ) -> EncoderOutput:
        """Iterate. A call changes nothing that another one sees: threads may share a model.

        Args:
            embeddings: [B, T, E].
            real: [B, T] bool, False on padding.
            attention_mask: the same as HF's attention functions take it: broadcasting to [B, A, T, T], or None.
            by_query: whether queries of a sequence differ in what they may attend to.
            hidden_states: which of h^0..h^L to return.
            halting_rule: decides in place of the configuration's.
            observer: called after every iteration, in every execution; what it is given may be overwritten later.
            attention_kwargs: passed on to HF's attention, by the dense execution.

        Raises:
            UserError: the model is being exported or traced, and its depth depends on the data.
        """
        rule = halting_rule or self.config.rule
        call = Call(rule, real, attention_mask, by_query, HiddenStates(hidden_states, real), observer)
        if not rule.adaptive or self.hold_depth:
            return self._fixed(embeddings, call, **attention_kwargs)
        if torch.compiler.is_exporting() or torch.jit.is_tracing():
            raise UserError(
                "a model of adaptive depth can't be exported or traced yet, as its loop depends on the data: load it "
                'with halting="fixed" (every token takes all iterations)'
            )
        # Attention weights are [B, A, T, T], of all tokens.
        if self.config.execution == "dense" or attention_kwargs.get("output_attentions"):
            return self._dense(embeddings, call, **attention_kwargs)
        return self._compact(embeddings, call)

    @property
    def rule(self) -> HaltingRule:
        """Who decides which token halts, where a call does not say."""
        return self.config.rule

    def flops(self, depths: Tensor) -> Tensor:
        """As `AdaptiveAlbertModel.flops`, without the pooler."""
        rule, adapts = self.rule, self.rule.adaptive and not self.hold_depth
        only_running = adapts and self.config.execution == "compact"
        total = super().flops(depths, only_running)
        if adapts and self.halting is not None:
            ran = depths if only_running else (depths > 0) * depths.max()
            asked = sum((ran >= n).sum(dim=1) for n in range(1, int(depths.max()) + 1) if rule.decides(n))
            matrices = (parameter.numel() for parameter in self.halting.parameters() if parameter.ndim > 1)
            total = total + asked * 2 * sum(matrices)
        return total

    def _step(self, rule: HaltingRule, state: State, n: int, before: Tensor, new: Tensor) -> tuple[HaltingStep, Look]:
        """Ask the rule about iteration n of tokens [..., H]. At the cap all halt."""
        look = Look(n, n == self.config.num_hidden_layers, before, new, None)
        if self.halting is not None and rule.decides(n):
            look = look._replace(asked=rule.ask(self.halting, look))
        step = rule.step(state, look)
        if look.at_cap:
            step = step._replace(halted=torch.ones_like(step.halted))
        if step.remainder is None:
            step = step._replace(remainder=torch.zeros_like(step.weight))
        return step, look

    def _fixed(self, embeddings: Tensor, call: Call, **attention_kwargs) -> EncoderOutput:
        """Plain ALBERT: L iterations for every token."""
        cap, real = self.config.num_hidden_layers, call.real
        state = call.kept.keep(self.project(embeddings))
        for n in range(1, cap + 1):
            before, new = state, self.apply_to_all(n, state, call.attention_mask, **attention_kwargs)
            state = call.kept.keep(new)
            _observe(call.observer, n, real, before, new, state)
        remainders = torch.zeros_like(real, dtype=torch.promote_types(state.dtype, torch.float32))
        return _without_padding(call, state, real.long() * cap, remainders, call.kept.all(state, cap))

    def _dense(self, embeddings: Tensor, call: Call, **attention_kwargs) -> EncoderOutput:
        """The equations as they stand: every iteration computes every token, until the last one has halted."""
        blend, cap, rule, real = self.config.act_update == "blend", self.config.num_hidden_layers, call.rule, call.real
        state = call.kept.keep(self.project(embeddings))  # h^{n-1}, [B, T, H]
        running = real
        position = torch.arange(real.numel(), device=real.device).view_as(real)
        remembered = rule.begin(Tokens(state, position, real.shape[1], real))
        remainders = torch.zeros_like(real, dtype=torch.promote_types(state.dtype, torch.float32))
        depths, mixture = torch.zeros_like(real, dtype=torch.long), torch.zeros_like(state)

        for n in range(1, cap + 1):
            new = self.apply_to_all(n, state, call.attention_mask, **attention_kwargs)  # s^n
            step, look = self._step(rule, remembered, n, state, new)
            weight, moves = step.weight[..., None].to(new.dtype), running[..., None]
            if blend:
                state = torch.where(moves, torch.lerp(state, new, weight), state)
            else:
                mixture = torch.where(moves, mixture + weight * new, mixture)
                state = torch.where(moves, new, state)
            state = call.kept.keep(state)
            _observe(call.observer, n, running, look.before, new, state, look.asked)
            depths = depths + running
            remainders = torch.where(running & step.halted, step.remainder, remainders)
            remembered = _each(partial(_where, running), step.state, remembered)
            running = running & ~step.halted
            if not goes_on(bool(running.any()), self.albert_layer_groups):
                break

        hidden_states = call.kept.all(state, cap)
        return _without_padding(call, state if blend else mixture, depths, remainders, hidden_states)

    def _compact(self, embeddings: Tensor, call: Call) -> EncoderOutput:
        """The same, computing the running tokens only.

        The loop holds the running tokens packed, [R, H], and what the rule remembers of them; what they attend to, of
        all tokens, is the memory's. A token's rows there are written anew in the iteration after its state last
        changed, so once more when it has just halted.
        The host learns after each iteration that lets tokens halt how many still run in each sequence; nothing else
        waits for the device.
        """
        blend, cap, rule, kept = self.config.act_update == "blend", self.config.num_hidden_layers, call.rule, call.kept
        batch, length = call.real.shape
        size = batch * length

        position = call.real.flatten().nonzero().squeeze(1)  # of the running tokens, [R]
        running = call.real.sum(dim=1)  # tokens of each sequence, [B]
        counts = running.tolist()
        state = embeddings.flatten(0, 1).index_select(0, position)
        state = self.project(pad_rows(state))[: len(position)]  # h^{n-1} of the running tokens, [R, H]
        if kept.chosen:
            everyone = kept.keep(scatter(position, state, size).unflatten(0, (batch, length)))
            state = everyone.flatten(0, 1)[position]
        remembered = rule.begin(Tokens(state, position, length, torch.ones_like(position, dtype=torch.bool)))
        memory = self.new_memory(size)
        memory.refresh(position, state)
        packing = pack(position, running, counts, length)
        mixture = torch.zeros_like(state)
        finished: list[tuple[Tensor, Tensor, Tensor, int]] = []  # position, output, R, N of who halted

        for n in range(1, cap + 1):
            mask = mask_of_running(call.attention_mask, call.by_query, packing)
            new = self.apply_to_running(n, state, memory, mask, packing)  # s^n
            step, look = self._step(rule, remembered, n, state, new)
            weight = step.weight[:, None].to(new.dtype)
            moved = torch.lerp(state, new, weight) if blend else new
            if kept.chosen:
                everyone = everyone.flatten(0, 1).index_copy(0, position, moved).unflatten(0, (batch, length))
                everyone = kept.keep(everyone)
                moved = everyone.flatten(0, 1)[position]
            if not blend:
                mixture = mixture + weight * new
            output = moved if blend else mixture
            memory.refresh(position, moved)
            if call.observer is not None and len(position):
                call.observer(Iteration(n, position, state, new, moved, look.asked))

            if look.at_cap:
                finished.append((position, output, step.remainder, n))
                break
            if not rule.decides(n):
                state, remembered = moved, step.state
                continue
            running = torch.zeros_like(running).index_add(0, position // length, (~step.halted).long())
            counts = running.tolist()
            order = step.halted.byte().argsort(stable=True)  # the running first, each part in row-major order
            parts = [sum(counts), len(order) - sum(counts)]
            position, where = position.index_select(0, order).split(parts)
            goes, ends = output.index_select(0, order).split(parts)
            going, halting = order.split(parts)
            finished.append((where, ends, step.remainder.index_select(0, halting), n))
            if not goes_on(sum(counts) > 0, self.albert_layer_groups):
                break
            state, mixture = (goes, mixture) if blend else (moved.index_select(0, going), goes)
            packing = pack(position, running, counts, length)
            remembered = _each(partial(torch.index_select, dim=0, index=going), step.state)

        positions, outputs, remainders, _ = zip(*finished, strict=True)
        halted = torch.cat(positions)
        depths = torch.cat([torch.full_like(where, n) for where, _, _, n in finished])

        def unpack(rows: Tensor) -> Tensor:
            return scatter(halted, rows, size).unflatten(0, (batch, length))

        hidden_states = kept.all(everyone, cap) if kept.chosen else None
        return EncoderOutput(unpack(torch.cat(outputs)), unpack(depths), unpack(torch.cat(remainders)), hidden_states)


def _observe(observer: Observer | None, n, running, before, new, after, asked=None) -> None:
    """Hand the running tokens of [B, T, ...] to the observer, if there is one."""
    if observer is not None:
        position = running.flatten().nonzero().squeeze(1)
        before, new, after = (states.flatten(0, 1)[position] for states in (before, new, after))
        asked = None if asked is None else asked.flatten(0, 1)[position]
        observer(Iteration(n, position, before, new, after, asked))


def _without_padding(call: Call, state: Tensor, depths: Tensor, remainders: Tensor, hidden_states) -> EncoderOutput:
    return EncoderOutput(state.masked_fill(~call.real[..., None], 0.0), depths, remainders, hidden_states)


def _each(function: Callable[..., Tensor], *states: State) -> State:
    """A rule's state with every tensor changed by the function; of several states, field by field."""
    tensors = map(function, *states)
    return type(states[0])(*tensors) if states[0] else ()


def _where(running: Tensor, later: Tensor, earlier: Tensor) -> Tensor:
    """`torch.where` for rows [B, T] or [B, T, K]."""
    return torch.where(running.view(*running.shape, *[1] * (later.ndim - running.ndim)), later, earlier)
