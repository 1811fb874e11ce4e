"""What iteration n is made of: its layer, applied to every token or to the running ones only, and what that costs.

Whatever differs between iterations is decided here; which tokens run, and for how long, is not (`encoder.py`). All
iterations share one layer (ALBERT), or share it and differ outside keys and values (relaxed tying, `relaxation.py`), or
each has its own (the untied baseline).

Shapes: B batch, T length, E embedding, H hidden, A heads, D head size, L cap; R running tokens, packed in row-major
order. They are padded for their matrix products, see `depthlab.models.sizes`.
"""

from collections.abc import Callable
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

from depthlab.models.relaxation import differences, relaxed
from depthlab.models.sizes import pad_rows


class Packing(NamedTuple):
    """Where the running tokens stand."""

    position: Tensor
    """[R], rows in [B * T]."""
    slot: Tensor | None
    """[R], rows in [B * longest], where queries are padded per sequence; None where nothing needs padding."""
    batch: int
    length: int
    """T"""
    longest: int
    """The longest running count of a sequence, rounded up."""


class Memory:
    """What the running tokens attend to, of all tokens: what halted ones have left behind, too.

    Keys and values [B * T, H] where iterations share the projections: a halted token's cannot change any more, so its
    rows are written once after it has halted, and stay. Over untied layers the states are kept, and each layer makes
    all keys and values of them.
    """

    def __init__(self, size: int, shared: bool) -> None:
        self.size, self.shared = size, shared
        self.keys: Tensor | None = None
        self.values: Tensor | None = None
        self.states: Tensor | None = None

    def refresh(self, layer: AlbertLayer, position: Tensor, states: Tensor) -> None:
        """Write the rows of the tokens whose states [R, H] the last iteration has changed."""
        if self.shared:
            states, rows = pad_rows(states), slice(len(position))
            self.keys = self._written(self.keys, position, layer.attention.key(states)[rows])
            self.values = self._written(self.values, position, layer.attention.value(states)[rows])
        else:
            self.states = self._written(self.states, position, states)
            self.keys, self.values = layer.attention.key(self.states), layer.attention.value(self.states)

    def _written(self, buffer: Tensor | None, position: Tensor, rows: Tensor) -> Tensor:
        """The buffer [B * T, H] with the rows [R, H] at these positions written anew."""
        if len(position) == self.size:
            return rows
        if buffer is None:
            return scatter(position, rows, self.size)
        # Attention keeps its keys and values for the backward pass; without one the old ones are nobody's.
        write = buffer.index_copy if torch.is_grad_enabled() else buffer.index_copy_
        return write(0, position, rows)


class IteratedLayer(AlbertTransformer):
    """HF's ALBERT encoder, same parameter names, called iteration by iteration."""

    def __init__(self, config) -> None:
        super().__init__(config)
        if config.hidden_act == "gelu_new":  # the same function as one kernel instead of eight
            for group in self.albert_layer_groups:
                for layer in group.albert_layers:
                    layer.activation = nn.GELU(approximate="tanh")
        self.relaxation: nn.ModuleList | None = None
        """What each iteration has of its own; those beyond the last of them have what that one has."""
        if config.relaxation_rank:
            layer, iterations = self.albert_layer_groups[0].albert_layers[0], range(config.relaxed_iterations)
            self.relaxation = nn.ModuleList(differences(layer, config.relaxation_rank) for _ in iterations)
        self.gradient_checkpointing = False

    def project(self, embeddings: Tensor) -> Tensor:
        """h^0, [..., E] -> [..., H]; kept in the embeddings' precision, so that autocast does not round the states."""
        return self.embedding_hidden_mapping_in(embeddings).to(embeddings.dtype)

    def apply_to_all(self, n: int, states: Tensor, attention_mask: Tensor | None, **attention_kwargs) -> Tensor:
        """s^n of every token, [B, T, H] -> [B, T, H]."""
        body = self._group(n) if self.relaxation is None else self._layer(n)
        return self._call(body, states, attention_mask, **attention_kwargs)

    def new_memory(self, size: int) -> Memory:
        """Of B * T tokens."""
        return Memory(size, shared=self.config.num_hidden_groups == 1)

    def remember(self, n: int, memory: Memory, position: Tensor, states: Tensor) -> None:
        """Before iteration n: the states [R, H] of the tokens at these positions have changed in the last one."""
        memory.refresh(self._layer(n), position, states)

    def apply_to_running(
        self, n: int, states: Tensor, memory: Memory, key_mask: Tensor | None, packing: Packing
    ) -> Tensor:
        """s^n of the running tokens, [R, H] -> [R, H]."""
        return self._call(_apply, self._layer(n), states, memory.keys, memory.values, key_mask, packing)

    def flops(self, depths: Tensor, only_running: bool) -> Tensor:
        """[B] int64, floating point operations of a forward pass for these depths; see `AdaptiveAlbertModel.flops`.

        Halted tokens are left out if only running ones are computed; else every iteration computes all tokens.
        """
        real = depths > 0
        tokens = real.sum(dim=1)
        total = tokens * _flops(self.embedding_hidden_mapping_in)
        for n in range(1, int(depths.max()) + 1):
            running = (depths >= n).sum(dim=1) if only_running else tokens
            shared = only_running and self.config.num_hidden_groups == 1
            changed = (real & (depths >= n - 1)).sum(dim=1) if shared else tokens
            for layer in self._group(n).albert_layers:
                attention = layer.attention
                total = total + changed * _flops(attention.key, attention.value)
                total = total + running * _flops(attention.query, attention.dense, layer.ffn, layer.ffn_output)
                total = total + running * tokens * 4 * attention.all_head_size  # queries and keys, weights and values
            if self.relaxation is not None:
                own = (module for module in self._own(n).modules() if isinstance(module, nn.Linear))
                total = total + running * _flops(*own)
        return total

    def _group(self, n: int) -> AlbertLayerGroup:
        return self.albert_layer_groups[(n - 1) * self.config.num_hidden_groups // self.config.num_hidden_layers]

    def _layer(self, n: int) -> AlbertLayer:
        layer = self._group(n).albert_layers[0]
        return layer if self.relaxation is None else relaxed(layer, self._own(n))

    def _own(self, n: int) -> nn.ModuleDict:
        """What iteration n has of its own."""
        return self.relaxation[min(n, len(self.relaxation)) - 1]

    def _call(self, function: Callable[..., Tensor], *args, **kwargs) -> Tensor:
        """Call an iteration's body, recomputing it in the backward pass where gradient checkpointing is on."""
        if self.gradient_checkpointing and self.training:
            return self._gradient_checkpointing_func(function, *args, **kwargs)
        return function(*args, **kwargs)


def pack(position: Tensor, counts: list[int], length: int) -> Packing:
    """Of the running tokens [R], as many of each sequence as counts says."""
    batch = len(counts)
    # A multiple of 8, so that sizes recur; never 0: HF's attention functions need a query, if of nothing but padding.
    longest = min(length, max(8, -(-max(counts) // 8) * 8))
    if longest * batch == len(position):
        return Packing(position, None, batch, length, longest)
    running = torch.tensor(counts, device=position.device)
    before = running.cumsum(0) - running  # running tokens of earlier sequences
    sequence = position // length
    rank = torch.arange(len(position), device=position.device) - before[sequence]
    return Packing(position, sequence * longest + rank, batch, length, longest)


def scatter(position: Tensor, rows: Tensor, size: int) -> Tensor:
    """Rows [R, ...] to their positions in zeros [size, ...]."""
    return rows.new_zeros(size, *rows.shape[1:]).index_copy(0, position, rows)


def _apply(
    layer: AlbertLayer, states: Tensor, keys: Tensor, values: Tensor, key_mask: Tensor | None, packing: Packing
) -> Tensor:
    """`AlbertLayer` for the running tokens: s^n [R, H] from h^{n-1} [R, H] and all keys and values [B * T, H]."""
    batch, length, longest = packing.batch, packing.length, packing.longest
    attention = layer.attention
    heads = (attention.num_attention_heads, attention.attention_head_size)

    running = slice(len(states))
    states = pad_rows(states)
    queries = attention.query(states)[running]
    if packing.slot is not None:
        queries = scatter(packing.slot, queries, batch * longest)
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
    if packing.slot is not None:
        context = context[packing.slot]
    attended = attention.LayerNorm(states + attention.output_dropout(attention.dense(pad_rows(context))))
    return layer.full_layer_layer_norm(layer.ff_chunk(attended) + attended)[running]


def _flops(*projections: nn.Linear) -> int:
    """Of these for one token."""
    return 2 * sum(projection.weight.numel() for projection in projections)
