"""What iteration n is made of: its layer, applied to every token or to the running ones only, and what that costs.

Whatever differs between iterations is decided here; which tokens run, and for how long, is not (`encoder.py`). All
iterations share one layer (ALBERT), or share it and differ outside keys and values (relaxed tying, `relaxation.py`), or
each has its own (the untied baseline).

Shapes: B batch, T length, E embedding, H hidden, A heads, D head size, L cap; R running tokens, packed in row-major
order. They are padded for their matrix products, see `depthlab.models.sizes`.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers.models.albert.modeling_albert import AlbertLayerGroup, AlbertTransformer

from depthlab.models.block import AdaptiveAttention, AdaptiveLayer, Packing, Running, scatter, written
from depthlab.models.relaxation import Own, differences


class Memory:
    """What the running tokens attend to, of all tokens: what halted ones have left behind, too.

    Keys and values [B * T, H] where iterations share the projections: a halted token's cannot change any more, so its
    rows are written once after it has halted, and stay. Over untied layers the states of all real tokens are kept, and
    each layer makes all keys and values of them.

    Args:
        real: [N], positions of the real tokens.
        size: B * T.
        shared: whether iterations share the projections.
    """

    def __init__(self, real: Tensor, size: int, shared: bool) -> None:
        self.keys: Tensor | None = None
        self.values: Tensor | None = None
        self.position = real
        self.states: Tensor | None = None
        self._row: Tensor | None = None
        """Of untied layers: [B * T], where in `states` a token is."""
        if not shared:
            self._row = scatter(real, torch.arange(len(real), device=real.device), size)

    def refresh(self, position: Tensor, states: Tensor) -> None:
        """The last iteration has changed the states [C, H] of the tokens at these positions."""
        if self._row is None:
            self.position, self.states = position, states
        else:
            self.states = written(self.states, self._row[position], states, len(self.position))
            self.keys = self.values = None


class Body(NamedTuple):
    """What an iteration applies. Iterations are the same program, whatever weights are in it."""

    layers: AlbertLayerGroup
    own: Own | None


class IteratedLayer(AlbertTransformer):
    """HF's ALBERT encoder, same parameter names, called iteration by iteration."""

    def __init__(self, config) -> None:
        super().__init__(config)
        for group in self.albert_layer_groups:
            for layer in group.albert_layers:  # made by HF; how they are called is ours
                layer.__class__, layer.attention.__class__ = AdaptiveLayer, AdaptiveAttention
                if config.hidden_act == "gelu_new":  # the same function as one kernel instead of eight
                    layer.activation = nn.GELU(approximate="tanh")
        self.relaxation: nn.ModuleList | None = None
        """What each iteration has of its own; those beyond the last of them have what that one has."""
        if config.relaxation_rank:
            layer, iterations = self.albert_layer_groups[0].albert_layers[0], range(config.relaxed_iterations)
            self.relaxation = nn.ModuleList(differences(layer, config.relaxation_rank) for _ in iterations)

    def project(self, embeddings: Tensor) -> Tensor:
        """h^0, [..., E] -> [..., H]; kept in the embeddings' precision, so that autocast does not round the states."""
        return self.embedding_hidden_mapping_in(embeddings).to(embeddings.dtype)

    def apply_to_all(self, n: int, states: Tensor, attention_mask: Tensor | None, **attention_kwargs) -> Tensor:
        """s^n of every token, [B, T, H] -> [B, T, H]."""
        return self._group(n)(states, attention_mask, own=self._own(n), **attention_kwargs)

    def body(self, n: int) -> Body:
        """What iteration n applies."""
        return Body(self._group(n), self._own(n))

    def apply_to_running(
        self, body: Body, states: Tensor, memory: Memory, attention_mask: Tensor | None, packing: Packing
    ) -> Tensor:
        """s^n of the running tokens, [R, H] -> [R, H]; what the memory was told of is written into it."""
        running = Running(packing, memory.position, memory.states, memory.keys, memory.values)
        new, memory.keys, memory.values = body.layers(states, attention_mask, running=running, own=body.own)
        return new

    def flops(self, depths: Tensor, real: Tensor, only_running: bool) -> Tensor:
        """[B] int64, floating point operations of a forward pass for these depths; see `AdaptiveAlbertModel.flops`.

        Halted tokens are left out if only running ones are computed; else every iteration computes all tokens.
        """
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
                own = (module for module in self._own(n).parts.modules() if isinstance(module, nn.Linear))
                total = total + running * _flops(*own)
        return total

    def _group(self, n: int) -> AlbertLayerGroup:
        return self.albert_layer_groups[(n - 1) * self.config.num_hidden_groups // self.config.num_hidden_layers]

    def _own(self, n: int) -> Own | None:
        """What iteration n has of its own."""
        return None if self.relaxation is None else Own(self.relaxation[min(n, len(self.relaxation)) - 1])


def _flops(*projections: nn.Linear) -> int:
    """Of these for one token."""
    return 2 * sum(projection.weight.numel() for projection in projections)
