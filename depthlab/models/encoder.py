"""The iteration: one shared layer, applied to every token as often as its halting unit asks.

Two executions of the same equations: `dense` computes every token until the last one has halted, as the paper does;
`compact` computes the running tokens only. With tied weights and a frozen state a halted token's key and value cannot
change any more, so leaving it out is exact, forward and backward. Where every iteration has a layer of its own (the
untied baseline), each of them computes the keys and values of halted tokens too, and nothing else of them.

Shapes: B batch, T length, H hidden, A heads, D head size, L cap; N real tokens of the batch, R of them still running.
Packed tensors, [N, ...] and [R, ...], keep the row-major order of [B, T]; a token's *position* is its row in [B * T].
They are padded for their matrix products, see `depthlab.models.sizes`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.albert.modeling_albert import (
    AlbertLayer,
    AlbertLayerGroup,
    AlbertTransformer,
    eager_attention_forward,
)

from depthlab.models.halting.act import HaltingUnit, halting_step
from depthlab.models.sizes import pad_rows


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
    """p^n, [R] fp32; None at fixed depth."""


class AdaptiveAlbertTransformer(AlbertTransformer):
    """HF's ALBERT encoder, same parameter names, plus the halting unit where halting is "act"."""

    def __init__(self, config) -> None:
        super().__init__(config)
        if config.hidden_act == "gelu_new":  # the same function as one kernel instead of eight
            for group in self.albert_layer_groups:
                for layer in group.albert_layers:
                    layer.activation = nn.GELU(approximate="tanh")
        self.halting = HaltingUnit(config.hidden_size) if config.halting == "act" else None
        self.gradient_checkpointing = False
        self.hold_depth = False
        """While True every token takes all L iterations and the halting unit rests: training at fixed depth first."""
        self.observer: Callable[[Iteration], None] | None = None
        """Called after every iteration, in every execution; what it is given may be overwritten later."""

    def forward(
        self,
        embeddings: Tensor,
        real: Tensor,
        attention_mask: Tensor | None,
        output_hidden_states: bool = False,
        **attention_kwargs,
    ) -> EncoderOutput:
        """Iterate.

        Args:
            embeddings: [B, T, E].
            real: [B, T] bool, False on padding.
            attention_mask: the same as HF's attention functions take it: broadcasting to [B, 1, T, T], or None.
            output_hidden_states: keep h^0..h^L.
            attention_kwargs: passed on to HF's attention, by the dense execution.
        """
        if self.halting is None or self.hold_depth:
            return self._fixed(embeddings, real, attention_mask, output_hidden_states, **attention_kwargs)
        # Attention weights are [B, A, T, T] and come from HF's attention modules, which the dense execution calls.
        if self.config.execution == "dense" or attention_kwargs.get("output_attentions"):
            return self._dense(embeddings, real, attention_mask, output_hidden_states, **attention_kwargs)
        return self._compact(embeddings, real, attention_mask, output_hidden_states)

    def _project(self, embeddings: Tensor) -> Tensor:
        """h^0, [..., E] -> [..., H]; kept in the embeddings' precision, so that autocast does not round the states."""
        return self.embedding_hidden_mapping_in(embeddings).to(embeddings.dtype)

    def _call(self, function: Callable[..., Tensor], *args, **kwargs) -> Tensor:
        """Call an iteration's body, recomputing it in the backward pass where gradient checkpointing is on."""
        if self.gradient_checkpointing and self.training:
            return self._gradient_checkpointing_func(function, *args, **kwargs)
        return function(*args, **kwargs)

    def _layers_of(self, n: int) -> AlbertLayerGroup:
        """The group of layers that iteration n = 1..L applies."""
        return self.albert_layer_groups[(n - 1) * self.config.num_hidden_groups // self.config.num_hidden_layers]

    def _observe(self, n, running, before, new, after, probability=None) -> None:
        """Hand the running tokens of [B, T, ...] to the observer, if there is one."""
        if self.observer is not None:
            position = running.flatten().nonzero().squeeze(1)
            before, new, after = (states.flatten(0, 1)[position] for states in (before, new, after))
            probability = None if probability is None else probability.flatten()[position]
            self.observer(Iteration(n, position, before, new, after, probability))

    def _fixed(self, embeddings, real, attention_mask, output_hidden_states, **attention_kwargs) -> EncoderOutput:
        """Plain ALBERT: L iterations for every token."""
        cap = self.config.num_hidden_layers
        state = self._project(embeddings)
        hidden_states = [state]
        for n in range(1, cap + 1):
            new = self._call(self._layers_of(n), state, attention_mask, **attention_kwargs)
            self._observe(n, real, state, new, new)
            state = new
            hidden_states.append(state)
        padding = ~real[..., None]
        return EncoderOutput(
            last_hidden_state=state.masked_fill(padding, 0.0),
            depths=real.long() * cap,
            remainders=torch.zeros_like(real, dtype=torch.promote_types(state.dtype, torch.float32)),
            hidden_states=tuple(h.masked_fill(padding, 0.0) for h in hidden_states) if output_hidden_states else None,
        )

    def _dense(self, embeddings, real, attention_mask, output_hidden_states, **attention_kwargs) -> EncoderOutput:
        """The equations as they stand: every iteration computes every token, until the last one has halted."""
        config = self.config
        blend, cap = config.act_update == "blend", config.num_hidden_layers
        state = self._project(embeddings)  # h^{n-1}, [B, T, H]
        running = real
        accumulated = torch.zeros_like(real, dtype=torch.promote_types(state.dtype, torch.float32))
        depths, remainders, mixture = torch.zeros_like(real, dtype=torch.long), accumulated, torch.zeros_like(state)
        hidden_states = [state]

        for n in range(1, cap + 1):
            new = self._call(self._layers_of(n), state, attention_mask, **attention_kwargs)  # s^n
            probability = self.halting(new)
            step = halting_step(
                probability, accumulated, at_cap=n == cap, epsilon=config.act_epsilon, act_cap=config.act_cap
            )
            weight, moves = step.weight[..., None].to(new.dtype), running[..., None]
            before = state
            if blend:
                state = torch.where(moves, torch.lerp(state, new, weight), state)
            else:
                mixture = torch.where(moves, mixture + weight * new, mixture)
                state = torch.where(moves, new, state)
            self._observe(n, running, before, new, state, probability)
            depths = depths + running
            remainders = torch.where(running & step.halted, step.remainder, remainders)
            accumulated = torch.where(running, accumulated + probability, accumulated)
            running = running & ~step.halted
            hidden_states.append(state)
            if not running.any():
                break

        hidden_states += [state] * (cap + 1 - len(hidden_states))
        padding = ~real[..., None]
        return EncoderOutput(
            last_hidden_state=(state if blend else mixture).masked_fill(padding, 0.0),
            depths=depths,
            remainders=remainders,
            hidden_states=tuple(h.masked_fill(padding, 0.0) for h in hidden_states) if output_hidden_states else None,
        )

    def _compact(
        self, embeddings: Tensor, real: Tensor, attention_mask: Tensor | None, output_hidden_states: bool
    ) -> EncoderOutput:
        """The same, computing the running tokens only.

        The loop holds the running tokens packed, [R, H]. Keys and values of all tokens live in [B * T, H]; a token's
        rows are written anew in the iteration after its state last changed, so once more when it has just halted.
        Over untied layers it is the states that are kept so, and each layer makes all keys and values of them.
        The host learns once an iteration how many tokens still run in each sequence; nothing else waits for the device.
        """
        config = self.config
        blend, cap = config.act_update == "blend", config.num_hidden_layers
        batch, length = real.shape
        tied = config.num_hidden_groups == 1
        key_mask = None if attention_mask is None else attention_mask[:, :, :1]  # [B, 1, 1, T], for any query

        position = real.flatten().nonzero().squeeze(1)  # of the running tokens, [R]
        counts = real.sum(dim=1).tolist()  # of running tokens per sequence, B
        state = embeddings.flatten(0, 1)[position]
        state = self._project(pad_rows(state))[: len(position)]  # h^{n-1} of the running tokens, [R, H]
        changed, moved = position, state  # the tokens that ran in the last iteration, and their states now
        states = keys = values = None  # of all tokens, [B * T, H]
        accumulated = torch.zeros(
            len(position), dtype=torch.promote_types(state.dtype, torch.float32), device=real.device
        )
        mixture = torch.zeros_like(state)
        finished: list[tuple[Tensor, Tensor, Tensor, int]] = []  # position, output, R, N of who halted
        hidden_states = [_scatter(position, state, batch * length)] if output_hidden_states else []

        for n in range(1, cap + 1):
            layer = self._layers_of(n).albert_layers[0]
            if tied:
                moved, rows = pad_rows(moved), slice(len(changed))
                keys = _refresh(keys, changed, layer.attention.key(moved)[rows], batch * length)
                values = _refresh(values, changed, layer.attention.value(moved)[rows], batch * length)
            else:
                states = _refresh(states, changed, moved, batch * length)
                keys, values = layer.attention.key(states), layer.attention.value(states)
            slot, longest = _slots(position, counts, length)
            new = self._call(_iterate, layer, state, keys, values, key_mask, slot, (batch, length, longest))  # s^n
            probability = self.halting(new)
            step = halting_step(
                probability, accumulated, at_cap=n == cap, epsilon=config.act_epsilon, act_cap=config.act_cap
            )
            weight = step.weight[:, None].to(new.dtype)
            if blend:
                changed, moved = position, torch.lerp(state, new, weight)
                output = moved
            else:
                changed, moved = position, new
                mixture = mixture + weight * new
                output = mixture
            if self.observer is not None:
                self.observer(Iteration(n, position, state, new, moved, probability))
            if output_hidden_states:
                hidden_states.append(hidden_states[-1].index_copy(0, changed, moved))

            goes_on = ~step.halted
            counts = torch.zeros(batch, dtype=torch.long, device=real.device)
            counts = counts.index_add(0, position // length, goes_on.long()).tolist()
            order = step.halted.byte().argsort(stable=True)  # the running first, each part in row-major order
            going, halting = order.split([sum(counts), len(order) - sum(counts)])
            finished.append((position[halting], output[halting], step.remainder[halting], n))
            if not len(going):
                break
            position, state, accumulated = position[going], moved[going], (accumulated + probability)[going]
            if not blend:
                mixture = mixture[going]

        positions, outputs, remainders, _ = zip(*finished, strict=True)
        everyone = torch.cat(positions)
        depths = torch.cat([torch.full_like(where, n) for where, _, _, n in finished])
        if output_hidden_states:
            hidden_states += [hidden_states[-1]] * (cap + 1 - len(hidden_states))

        def unpack(rows: Tensor) -> Tensor:
            return _scatter(everyone, rows, batch * length).unflatten(0, (batch, length))

        return EncoderOutput(
            last_hidden_state=unpack(torch.cat(outputs)),
            depths=unpack(depths),
            remainders=unpack(torch.cat(remainders)),
            hidden_states=tuple(h.unflatten(0, (batch, length)) for h in hidden_states)
            if output_hidden_states
            else None,
        )


def _scatter(position: Tensor, rows: Tensor, size: int) -> Tensor:
    """Rows [N, ...] to their positions in zeros [size, ...]."""
    return rows.new_zeros(size, *rows.shape[1:]).index_copy(0, position, rows)


def _refresh(buffer: Tensor | None, position: Tensor, rows: Tensor, size: int) -> Tensor:
    """The buffer [size, H] with the rows [N, H] at these positions written anew."""
    if len(position) == size:
        return rows
    if buffer is None:
        return _scatter(position, rows, size)
    # Attention keeps its keys and values for the backward pass; without one the old ones are nobody's.
    return buffer.index_copy(0, position, rows) if torch.is_grad_enabled() else buffer.index_copy_(0, position, rows)


def _slots(position: Tensor, counts: list[int], length: int) -> tuple[Tensor | None, int]:
    """Where the running queries [R] go in [B * longest], padded per sequence to the longest running count, rounded up.

    None in place of the slots where nothing needs padding.
    """
    # A multiple of 8, so that sizes recur; never 0: HF's attention functions need a query, if of nothing but padding.
    longest = min(length, max(8, -(-max(counts) // 8) * 8))
    if longest * len(counts) == len(position):
        return None, longest
    running = torch.tensor(counts, device=position.device)
    before = running.cumsum(0) - running  # running tokens of earlier sequences
    sequence = position // length
    rank = torch.arange(len(position), device=position.device) - before[sequence]
    return sequence * longest + rank, longest


def _iterate(
    layer: AlbertLayer,
    state: Tensor,
    keys: Tensor,
    values: Tensor,
    key_mask: Tensor | None,
    slot: Tensor | None,
    sizes: tuple[int, int, int],
) -> Tensor:
    """`AlbertLayer` for the running tokens: s^n [R, H] from h^{n-1} [R, H] and all keys and values [B * T, H]."""
    batch, length, longest = sizes
    attention = layer.attention
    heads = (attention.num_attention_heads, attention.attention_head_size)

    running = slice(len(state))
    state = pad_rows(state)
    queries = attention.query(state)[running]
    if slot is not None:
        queries = _scatter(slot, queries, batch * longest)
    attend = ALL_ATTENTION_FUNCTIONS.get_interface(attention.config._attn_implementation, eager_attention_forward)
    context, _ = attend(
        attention,
        queries.view(batch, longest, *heads).transpose(1, 2),
        keys.view(batch, length, *heads).transpose(1, 2),
        values.view(batch, length, *heads).transpose(1, 2),
        key_mask,
        dropout=attention.attention_dropout.p if layer.training else 0.0,
        scaling=attention.scaling,
    )  # [B, longest, A, D]
    context = context.reshape(batch * longest, attention.all_head_size)
    if slot is not None:
        context = context[slot]
    attended = attention.LayerNorm(state + attention.output_dropout(attention.dense(pad_rows(context))))
    return layer.full_layer_layer_norm(layer.ff_chunk(attended) + attended)[running]
