"""Hugging Face's ALBERT layer, its modules and hooks being HF's, for every token or for the running ones only.

Shapes: B batch, T length, H hidden, A heads, D head size; R running tokens, packed in row-major order, P of them with
the rows that pad their matrix products (see `depthlab.models.sizes`); C tokens whose states have changed.
"""

from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.albert.modeling_albert import AlbertAttention, AlbertLayer, eager_attention_forward
from transformers.pytorch_utils import apply_chunking_to_forward

from depthlab.models.masks import as_numbers
from depthlab.models.relaxation import Own, apply_part
from depthlab.models.sizes import pad_rows


class Packing(NamedTuple):
    """Where the running tokens stand."""

    position: Tensor
    """[R], rows in [B * T]."""
    slot: Tensor | None
    """[R], rows in [B * longest], where queries are padded per sequence; None where nothing needs padding."""
    grid: Tensor
    """[B, longest, T, 0], longest being the most running tokens of a sequence, rounded up. It is there for its shape:
    torch.compile takes that of a tensor as it comes, and numbers as constants."""


class Running(NamedTuple):
    """What the layer needs beside the states [R, H] of the running tokens: whatever they attend to."""

    packing: Packing
    position: Tensor
    """[C], rows in [B * T] of the tokens whose keys and values are made anew."""
    changed: Tensor
    """[C, H], their states."""
    keys: Tensor | None
    """[B * T, H], of all tokens, as they were; None where there are none yet."""
    values: Tensor | None
    """[B * T, H]"""


class AdaptiveAttention(AlbertAttention):
    """HF's attention."""

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        running: Running | None = None,
        own: Own | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor | None, ...]:
        """[B, T, H] -> [B, T, H], or of running tokens [R, H] -> [P, H]; and the weights where there are any.

        Args:
            hidden_states: [B, T, H], or [R, H].
            attention_mask: as HF's attention functions take it; for running tokens, as their queries are packed.
            running: what running tokens attend to. All keys and values, [B * T, H], are then returned, too.
            own: what the iteration has of its own.
            kwargs: what HF's attention functions take. With `output_attentions` it is the eager one, whatever the
                configuration says: the others keep their weights to themselves.
        """
        if running is None:
            batch, length = hidden_states.shape[:2]
            slot, longest = None, length
            queries = apply_part(self, "query", own, hidden_states)
            keys, values = self.key(hidden_states), self.value(hidden_states)
        else:
            position, slot, grid = running.packing
            batch, longest, length, _ = grid.shape
            keys, values = self._remember(running)
            hidden_states = pad_rows(hidden_states)
            queries = apply_part(self, "query", own, hidden_states)[: len(position)]
            if slot is not None:
                queries = scatter(slot, queries, batch * longest)
        heads = (self.num_attention_heads, self.attention_head_size)
        context, weights = self._attend(
            queries.view(batch, longest, *heads).transpose(1, 2),
            keys.view(batch, length, *heads).transpose(1, 2),
            values.view(batch, length, *heads).transpose(1, 2),
            attention_mask,
            **kwargs,
        )  # [B, longest, A, D]
        if running is None:
            context = context.reshape(batch, length, self.all_head_size)
        else:
            context = context.reshape(batch * longest, self.all_head_size)
            context = pad_rows(context if slot is None else context.index_select(0, slot))
        attended = self.output_dropout(apply_part(self, "dense", own, context))
        attended = apply_part(self, "LayerNorm", own, hidden_states + attended)
        return (attended, weights) if running is None else (attended, weights, keys, values)

    def _attend(self, queries: Tensor, keys: Tensor, values: Tensor, attention_mask: Tensor | None, **kwargs: Any):
        attend, name = eager_attention_forward, self.config._attn_implementation
        rows = queries.shape[0]  # `len` would be a constant to torch.export
        # On a CPU in half precision torch's own is three times as slow as products, or more, backwards. HF's others
        # take no empty batch.
        slow = name == "sdpa" and self.training and queries.device.type == "cpu" and queries.element_size() == 2
        if rows and not slow and not kwargs.get("output_attentions"):
            attend = ALL_ATTENTION_FUNCTIONS.get_interface(name, attend)
        elif attention_mask is not None and attention_mask.dtype == torch.bool:
            attention_mask = as_numbers(attention_mask, queries.dtype)
        dropout = self.attention_dropout.p if self.training else 0.0
        return attend(self, queries, keys, values, attention_mask, dropout=dropout, scaling=self.scaling, **kwargs)

    def _remember(self, running: Running) -> tuple[Tensor, Tensor]:
        """All keys and values, those of the tokens that have changed made anew."""
        position, changed = running.position, running.changed
        batch, _, length, _ = running.packing.grid.shape
        states, rows, size = pad_rows(changed), slice(len(position)), batch * length
        keys = written(running.keys, position, self.key(states)[rows], size)
        return keys, written(running.values, position, self.value(states)[rows], size)


class AdaptiveLayer(AlbertLayer):
    """HF's layer."""

    gradient_checkpointing = False

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        running: Running | None = None,
        own: Own | None = None,
        **kwargs: Any,
    ) -> Tensor | tuple[Tensor, Tensor, Tensor]:
        """s^n from h^{n-1}, [B, T, H] -> [B, T, H].

        Of running tokens only, [R, H] -> [R, H]: then all keys and values, [B * T, H], are returned, too.
        Arguments as `AdaptiveAttention`.
        """
        # Recomputed within the call: what has hooked itself to the layer, as FSDP2, is asked once. Whatever may have a
        # gradient is passed by position, as a reentrant checkpoint wants it.
        compute = partial(self._compute, own=own, **kwargs)
        given = (hidden_states, attention_mask, *(running or ()))
        if self.gradient_checkpointing and self.training:
            return self._gradient_checkpointing_func(compute, *given)
        return compute(*given)

    def _compute(self, states: Tensor, mask: Tensor | None, *packed: Any, own: Own | None, **kwargs: Any):
        of_attention = None if own is None else own["attention"]
        feed_forward = partial(self._feed_forward, own)
        if not packed:
            attended, _ = self.attention(states, mask, own=of_attention, **kwargs)
            refined = apply_chunking_to_forward(feed_forward, self.chunk_size_feed_forward, self.seq_len_dim, attended)
            return apply_part(self, "full_layer_layer_norm", own, refined + attended)
        attended, _, keys, values = self.attention(states, mask, Running(*packed), of_attention, **kwargs)
        refined = apply_part(self, "full_layer_layer_norm", own, feed_forward(attended) + attended)
        return refined[: len(states)], keys, values

    def _feed_forward(self, own: Own | None, states: Tensor) -> Tensor:
        return apply_part(self, "ffn_output", own, self.activation(apply_part(self, "ffn", own, states)))


def pack(position: Tensor, counts: list[int], length: int, compiled: bool = False) -> Packing:
    """Of the running tokens [R], as many of each sequence as counts says; where code is compiled, always with slots."""
    batch, most = len(counts), max(counts, default=0)
    if batch > 1 or compiled:
        most = min(length, -(-most // 8) * 8)  # so that sizes recur
    longest = max(1, most)  # HF's attention functions need a query, if of nothing but padding
    grid = position.new_empty(batch, longest, length, 0)
    if longest * batch == len(position) and not compiled:
        return Packing(position, None, grid)
    running = torch.tensor(counts, device=position.device)
    before = running.cumsum(0) - running  # running tokens of earlier sequences
    sequence = position // length
    rank = torch.arange(len(position), device=position.device) - before.index_select(0, sequence)
    return Packing(position, sequence * longest + rank, grid)


def mask_of_running(attention_mask: Tensor | None, by_query: bool, packing: Packing) -> Tensor | None:
    """The attention mask [B, A or 1, T, T] for queries as they are packed, [B, A or 1, longest or 1, T].

    One that is the same for all queries of a sequence stays so. Where no query stands, everything may be attended to.
    """
    if attention_mask is None or not by_query:
        return None if attention_mask is None else attention_mask[:, :, :1]
    batch, longest, length, _ = packing.grid.shape
    rows = attention_mask.expand(batch, -1, length, length).transpose(1, 2).flatten(0, 1)
    rows = rows.index_select(0, packing.position)
    if packing.slot is not None:
        everything = rows.new_full((batch * longest, *rows.shape[1:]), rows.dtype == torch.bool)
        rows = everything.index_copy(0, packing.slot, rows)
    return rows.unflatten(0, (batch, longest)).transpose(1, 2)


def scatter(position: Tensor, rows: Tensor, size: int) -> Tensor:
    """Rows [R, ...] to their positions in zeros [size, ...]."""
    return rows.new_zeros(size, *rows.shape[1:]).index_copy(0, position, rows)


def written(buffer: Tensor | None, position: Tensor, rows: Tensor, size: int) -> Tensor:
    """The buffer [size, H] with the rows [R, H] at these positions written anew."""
    if len(position) == size:
        return rows
    if buffer is None:
        return scatter(position, rows, size)
    # Attention keeps its keys and values for the backward pass; without one the old ones are nobody's. There may be one
    # where gradients are off, too: while a reentrant checkpoint computes forward.
    later = torch.is_grad_enabled() or buffer.requires_grad
    write = buffer.index_copy if later else buffer.index_copy_
    return write(0, position, rows)
