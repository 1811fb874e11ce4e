"""The iteration: one shared layer, applied to every token as often as its halting rule says.

Two executions of the same equations: `dense` computes every token until the last one has halted, as the paper does;
`compact` computes the running tokens only. With tied weights and a frozen state a halted token's key and value cannot
change any more, so leaving it out is exact, forward and backward. Where every iteration has a layer of its own (the
untied baseline), each of them computes the keys and values of halted tokens too, and nothing else of them.

What a layer does is in `layer.py`, who halts in `halting/`; both executions ask the same rule.

Shapes: B batch, T length, E embedding, H hidden, L cap; N real tokens of the batch, R of them still running. Packed
tensors, [N, ...] and [R, ...], keep the row-major order of [B, T]; a token's *position* is its row in [B * T].
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from depthlab.errors import UserError
from depthlab.models.halting import HaltingRule, HaltingStep, Look, State, Tokens
from depthlab.models.layer import IteratedLayer, pack, scatter
from depthlab.models.sizes import pad_rows

Head = Callable[[Tensor], Tensor] | None


@dataclass
class EncoderOutput:
    """What leaves the iteration; zeros at padding throughout."""

    last_hidden_state: Tensor
    """[B, T, H]"""
    depths: Tensor
    """N_t, [B, T] int64"""
    remainders: Tensor
    """R_t, [B, T] fp32"""
    hidden_states: tuple[Tensor, ...] | None
    """h^0..h^L, L + 1 x [B, T, H]: the states that are attended to, frozen ones repeated."""
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


class AdaptiveAlbertTransformer(IteratedLayer):
    """HF's ALBERT encoder, same parameter names, plus what the halting rule learns."""

    def __init__(self, config) -> None:
        super().__init__(config)
        self.halting: nn.Module | None = config.rule.unit(config.hidden_size)
        self.hold_depth = False
        """While True every token takes all L iterations and the halting rule rests: training at fixed depth first."""
        self.imposed: HaltingRule | None = None
        """Decides in place of the configuration's rule, where there is one."""
        self.observer: Callable[[Iteration], None] | None = None
        """Called after every iteration, in every execution; what it is given may be overwritten later."""

    @property
    def learns_everywhere(self) -> bool:
        """Whether the loss of now is taken after every iteration."""
        return self.training and self.rule.learns_everywhere and not self.hold_depth

    @property
    def rule(self) -> HaltingRule:
        """Who decides which token halts."""
        return self.config.rule if self.imposed is None else self.imposed

    def forward(
        self,
        embeddings: Tensor,
        real: Tensor,
        attention_mask: Tensor | None,
        output_hidden_states: bool = False,
        head: Head = None,
        **attention_kwargs,
    ) -> EncoderOutput:
        """Iterate.

        Args:
            embeddings: [B, T, E].
            real: [B, T] bool, False on padding.
            attention_mask: the same as HF's attention functions take it: broadcasting to [B, 1, T, T], or None.
            output_hidden_states: keep h^0..h^L.
            head: what the model predicts of states, [..., H] to logits [..., C], for rules that ask.
            attention_kwargs: passed on to HF's attention, by the dense execution.

        Raises:
            UserError: the model is being exported or traced, and its depth depends on the data.
        """
        if not self._adapts():
            return self._fixed(embeddings, real, attention_mask, output_hidden_states, **attention_kwargs)
        if torch.compiler.is_exporting() or torch.jit.is_tracing():
            raise UserError(
                "a model of adaptive depth can't be exported or traced yet, as its loop depends on the data: load it "
                'with halting="fixed" (every token takes all iterations)'
            )
        # Attention weights are [B, A, T, T] and come from HF's attention modules, which the dense execution calls.
        if self.config.execution == "dense" or attention_kwargs.get("output_attentions"):
            return self._dense(embeddings, real, attention_mask, output_hidden_states, head, **attention_kwargs)
        return self._compact(embeddings, real, attention_mask, output_hidden_states, head)

    def flops(self, depths: Tensor) -> Tensor:
        """As `AdaptiveAlbertModel.flops`, without the pooler."""
        only_running = self._adapts() and self.config.execution == "compact"
        total = super().flops(depths, only_running)
        if self._adapts() and self.halting is not None:
            ran = depths if only_running else (depths > 0) * depths.max()
            asked = sum((ran >= n).sum(dim=1) for n in range(1, int(depths.max()) + 1) if self.rule.decides(n))
            matrices = (parameter.numel() for parameter in self.halting.parameters() if parameter.ndim > 1)
            total = total + asked * 2 * sum(matrices)
        return total

    def _adapts(self) -> bool:
        return self.rule.chooses(self.training) and not self.hold_depth

    def _step(
        self, rule: HaltingRule, state: State, n: int, before: Tensor, new: Tensor, head: Head
    ) -> tuple[HaltingStep, Look]:
        """Ask the rule about iteration n of tokens [..., H]. At the cap all halt."""
        look = Look(n, n == self.config.num_hidden_layers, before, new, None, head)
        if self.halting is not None and rule.decides(n):
            look = look._replace(asked=rule.ask(self.halting, look))
        step = rule.step(state, look)
        if look.at_cap:
            step = step._replace(halted=torch.ones_like(step.halted))
        if step.remainder is None:
            step = step._replace(remainder=torch.zeros_like(step.weight))
        return step, look

    def _observe(self, n, running, before, new, after, asked=None) -> None:
        """Hand the running tokens of [B, T, ...] to the observer, if there is one."""
        if self.observer is not None:
            position = running.flatten().nonzero().squeeze(1)
            before, new, after = (states.flatten(0, 1)[position] for states in (before, new, after))
            asked = None if asked is None else asked.flatten(0, 1)[position]
            self.observer(Iteration(n, position, before, new, after, asked))

    def _fixed(self, embeddings, real, attention_mask, output_hidden_states, **attention_kwargs) -> EncoderOutput:
        """Plain ALBERT: L iterations for every token."""
        cap = self.config.num_hidden_layers
        state = self.project(embeddings)
        hidden_states = [state]
        for n in range(1, cap + 1):
            new = self.apply_to_all(n, state, attention_mask, **attention_kwargs)
            self._observe(n, real, state, new, new)
            state = new
            hidden_states.append(state)
        remainders = torch.zeros_like(real, dtype=torch.promote_types(state.dtype, torch.float32))
        return _without_padding(
            real, state, real.long() * cap, remainders, hidden_states if output_hidden_states else None
        )

    def _dense(self, embeddings, real, attention_mask, output_hidden_states, head, **attention_kwargs) -> EncoderOutput:
        """The equations as they stand: every iteration computes every token, until the last one has halted."""
        blend, cap, rule = self.config.act_update == "blend", self.config.num_hidden_layers, self.rule
        state = self.project(embeddings)  # h^{n-1}, [B, T, H]
        running = real
        position = torch.arange(real.numel(), device=real.device).view_as(real)
        remembered = rule.begin(Tokens(state, position, real.shape[1], real))
        remainders = torch.zeros_like(real, dtype=torch.promote_types(state.dtype, torch.float32))
        depths, mixture = torch.zeros_like(real, dtype=torch.long), torch.zeros_like(state)
        costs, hidden_states = None, [state]

        for n in range(1, cap + 1):
            new = self.apply_to_all(n, state, attention_mask, **attention_kwargs)  # s^n
            step, look = self._step(rule, remembered, n, state, new, head)
            weight, moves = step.weight[..., None].to(new.dtype), running[..., None]
            if blend:
                state = torch.where(moves, torch.lerp(state, new, weight), state)
            else:
                mixture = torch.where(moves, mixture + weight * new, mixture)
                state = torch.where(moves, new, state)
            self._observe(n, running, look.before, new, state, look.asked)
            depths = depths + running
            remainders = torch.where(running & step.halted, step.remainder, remainders)
            if step.cost is not None:
                costs = torch.where(running, step.cost, 0.0) + (0.0 if costs is None else costs)
            remembered = _each(partial(_where, running), step.state, remembered)
            running = running & ~step.halted
            hidden_states.append(state)
            if not running.any():
                break

        hidden_states += [state] * (cap + 1 - len(hidden_states))
        state = state if blend else mixture
        return _without_padding(real, state, depths, remainders, hidden_states if output_hidden_states else None, costs)

    def _compact(
        self, embeddings: Tensor, real: Tensor, attention_mask: Tensor | None, output_hidden_states: bool, head: Head
    ) -> EncoderOutput:
        """The same, computing the running tokens only.

        The loop holds the running tokens packed, [R, H], and what the rule remembers of them; what they attend to, of
        all tokens, is the memory's. A token's rows there are written anew in the iteration after its state last
        changed, so once more when it has just halted.
        The host learns after each iteration that lets tokens halt how many still run in each sequence; nothing else
        waits for the device.
        """
        blend, cap, rule = self.config.act_update == "blend", self.config.num_hidden_layers, self.rule
        batch, length = real.shape
        key_mask = None if attention_mask is None else attention_mask[:, :, :1]  # [B, 1, 1, T], for any query

        position = real.flatten().nonzero().squeeze(1)  # of the running tokens, [R]
        counts = real.sum(dim=1).tolist()  # of running tokens per sequence, B
        state = embeddings.flatten(0, 1)[position]
        state = self.project(pad_rows(state))[: len(position)]  # h^{n-1} of the running tokens, [R, H]
        remembered = rule.begin(Tokens(state, position, length, torch.ones_like(position, dtype=torch.bool)))
        changed, moved = position, state  # the tokens that ran in the last iteration, and their states now
        memory = self.new_memory(batch * length)
        packing = pack(position, counts, length)
        mixture, costs = torch.zeros_like(state), torch.zeros_like(position, dtype=torch.float32)
        finished: list[tuple[Tensor, Tensor, Tensor, Tensor, int]] = []  # position, output, R, costs, N of who halted
        hidden_states = [scatter(position, state, batch * length)] if output_hidden_states else []

        for n in range(1, cap + 1):
            self.remember(n, memory, changed, moved)
            new = self.apply_to_running(n, state, memory, key_mask, packing)  # s^n
            step, look = self._step(rule, remembered, n, state, new, head)
            weight = step.weight[:, None].to(new.dtype)
            if blend:
                changed, moved = position, torch.lerp(state, new, weight)
                output = moved
            else:
                changed, moved = position, new
                mixture = mixture + weight * new
                output = mixture
            if step.cost is not None:
                costs = costs + step.cost
            if self.observer is not None:
                self.observer(Iteration(n, position, state, new, moved, look.asked))
            if output_hidden_states:
                hidden_states.append(hidden_states[-1].index_copy(0, changed, moved))

            if look.at_cap:
                finished.append((position, output, step.remainder, costs, n))
                break
            if not rule.decides(n):
                state, remembered = moved, step.state
                continue
            goes_on = ~step.halted
            counts = torch.zeros(batch, dtype=torch.long, device=real.device)
            counts = counts.index_add(0, position // length, goes_on.long()).tolist()
            order = step.halted.byte().argsort(stable=True)  # the running first, each part in row-major order
            going, halting = order.split([sum(counts), len(order) - sum(counts)])
            finished.append((*(rows[halting] for rows in (position, output, step.remainder, costs)), n))
            if not len(going):
                break
            position, state, costs = position[going], moved[going], costs[going]
            packing = pack(position, counts, length)
            remembered = _each(lambda rows, going=going: rows[going], step.state)
            if not blend:
                mixture = mixture[going]

        positions, outputs, remainders, charged, _ = zip(*finished, strict=True)
        everyone = torch.cat(positions)
        depths = torch.cat([torch.full_like(where, n) for where, *_, n in finished])
        if output_hidden_states:
            hidden_states += [hidden_states[-1]] * (cap + 1 - len(hidden_states))

        def unpack(rows: Tensor) -> Tensor:
            return scatter(everyone, rows, batch * length).unflatten(0, (batch, length))

        kept = tuple(h.unflatten(0, (batch, length)) for h in hidden_states) if output_hidden_states else None
        costs = None if step.cost is None else unpack(torch.cat(charged))
        return EncoderOutput(unpack(torch.cat(outputs)), unpack(depths), unpack(torch.cat(remainders)), kept, costs)


def _without_padding(
    real: Tensor,
    state: Tensor,
    depths: Tensor,
    remainders: Tensor,
    hidden_states: list[Tensor] | None,
    costs: Tensor | None = None,
) -> EncoderOutput:
    padding = ~real[..., None]
    kept = None if hidden_states is None else tuple(h.masked_fill(padding, 0.0) for h in hidden_states)
    return EncoderOutput(state.masked_fill(padding, 0.0), depths, remainders, kept, costs)


def _each(function: Callable[..., Tensor], *states: State) -> State:
    """A rule's state with every tensor changed by the function; of several states, field by field."""
    tensors = map(function, *states)
    return type(states[0])(*tensors) if states[0] else ()


def _where(running: Tensor, later: Tensor, earlier: Tensor) -> Tensor:
    """`torch.where` for rows [B, T] or [B, T, K]."""
    return torch.where(running.view(*running.shape, *[1] * (later.ndim - running.ndim)), later, earlier)
