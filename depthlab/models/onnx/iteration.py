"""One iteration of the running tokens as ONNX: the compact execution, see `depthlab.models.encoder`.

Shapes: B batch, T length, H hidden, A heads, D head size; N = B * T rows of all tokens, R of those that run.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from torch import nn

from depthlab.models.encoder import AdaptiveAlbertTransformer
from depthlab.models.onnx.graph import FLOAT, INT, Body, Graph, Value
from depthlab.models.onnx.weights import Weights, activation


class Batch(NamedTuple):
    """Values of the whole run, seen from within its loops."""

    rows: str
    """B"""
    length: str
    """T"""
    mask: str
    """[B, 1, 1, T], added to attention's scores: 0, or the least number where there is padding."""
    real: str
    """Rows of real tokens in N, int64, in row-major order."""
    first: str
    """[B], the row of each sequence's first real token; of padding alone, of its first."""


class Memory(NamedTuple):
    """What an iteration takes and leaves."""

    states: str
    """[N, H], zeros on padding."""
    keys: str
    """[N, H]"""
    values: str
    """[N, H]"""
    changed: str
    """Rows of the tokens whose states the last iteration has changed."""


class Iteration:
    """What the iterations of an encoder apply: one layer, shared or with what each has of its own, or a layer each."""

    def __init__(self, encoder: AdaptiveAlbertTransformer, weights: Weights) -> None:
        self.config = encoder.config
        self.tied = encoder.config.num_hidden_groups == 1
        self.body = encoder.body
        self.relaxation = encoder.relaxation
        self.weights = weights

    def repeat(
        self, graph: Graph, numbers: range, start: str, carried: Sequence[tuple[str, int]], body: Body
    ) -> list[str]:
        """As `Graph.loop`; layers that differ stand one after another, all are run, and each is stored once."""
        if self.tied:
            return graph.loop(numbers, start, carried, body)
        names = [name for name, _ in carried]
        for n in numbers:
            _, names = body(graph, n, names)
        return names

    def __call__(self, graph: Graph, batch: Batch, memory: Memory, position: str, n: Value) -> tuple[str, str, Memory]:
        """s^{n + 1} of the tokens at `position` [R].

        Returns:
            their states before and after, [R, H], and the memory with new keys and values.
        """
        layer = self.body(1 if self.tied else n + 1).layers.albert_layers[0]
        attention, weights = layer.attention, self.weights
        changed = memory.changed if self.tied else batch.real
        moved = graph("Gather", memory.states, changed)
        where = graph.column(changed)
        keys = graph("ScatterND", memory.keys, where, weights.linear(graph, attention.key, moved))
        values = graph("ScatterND", memory.values, where, weights.linear(graph, attention.value, moved))
        before = graph("Gather", memory.states, position)
        own = self._own_index(graph, n)
        queries = self._linear(graph, layer, "attention.query", own, before)
        context = self._attend(graph, batch, queries, keys, values, position)
        attended = graph("Add", before, self._linear(graph, layer, "attention.dense", own, context))
        attended = self._norm(graph, layer, "attention.LayerNorm", own, attended)
        inner = activation(graph, self.config.hidden_act, self._linear(graph, layer, "ffn", own, attended))
        new = graph("Add", self._linear(graph, layer, "ffn_output", own, inner), attended)
        new = self._norm(graph, layer, "full_layer_layer_norm", own, new)
        return before, new, memory._replace(keys=keys, values=values)

    def _attend(self, graph: Graph, batch: Batch, queries: str, keys: str, values: str, position: str) -> str:
        """[R, H]: queries of a sequence side by side, padded to the most that run in one."""
        heads, size = self.config.num_attention_heads, self.config.hidden_size // self.config.num_attention_heads
        ones = graph("Expand", 1, graph("Shape", position))
        everyone = graph.zeros(INT, graph("Mul", batch.rows, batch.length))
        running = graph("ScatterElements", everyone, position, ones, axis=0)
        running = graph.reshape(running, batch.rows, batch.length)
        most = graph("ReduceMax", graph("ReduceSum", running, graph.literal([1]), keepdims=0), keepdims=0)
        rank = graph("Sub", graph("CumSum", running, 1), running)
        rank = graph("Gather", graph.reshape(rank, -1), position)
        slot = graph("Add", graph("Mul", graph("Div", position, batch.length), most), rank)
        slots = graph("Mul", batch.rows, most)
        places = graph.zeros(FLOAT, slots, self.config.hidden_size)
        queries = graph("ScatterND", places, graph.column(slot), queries)
        queries = graph.reshape(queries, batch.rows, most, heads, size)
        keys, values = (graph.reshape(rows, batch.rows, batch.length, heads, size) for rows in (keys, values))
        scores = graph(
            "MatMul",
            graph("Transpose", queries, perm=[0, 2, 1, 3]),
            graph("Transpose", keys, perm=[0, 2, 3, 1]),
        )
        scores = graph("Mul", scores, graph.literal(1 / math.sqrt(size), np.float32))
        shares = graph("Softmax", graph("Add", scores, batch.mask), axis=-1)
        context = graph("MatMul", shares, graph("Transpose", values, perm=[0, 2, 1, 3]))
        context = graph("Transpose", context, perm=[0, 2, 1, 3])
        return graph("Gather", graph.reshape(context, slots, self.config.hidden_size), slot)

    def _own_index(self, graph: Graph, n: Value) -> Value:
        """Which of the differences iteration n + 1 has: those beyond have the last one's."""
        return n if self.relaxation is None else graph("Min", n, len(self.relaxation) - 1)

    def _linear(self, graph: Graph, layer: nn.Module, name: str, own: Value, rows: str) -> str:
        shared = self.weights.linear(graph, layer.get_submodule(name), rows)
        if self.relaxation is None:
            return shared
        modules = [one.get_submodule(name) for one in self.relaxation]
        return graph("Add", shared, self.weights.own_linear(graph, modules, own, rows))

    def _norm(self, graph: Graph, layer: nn.Module, name: str, own: Value, rows: str) -> str:
        shared = layer.get_submodule(name)
        if self.relaxation is None:
            return self.weights.norm(graph, shared, rows)
        modules = [one.get_submodule(name) for one in self.relaxation]
        return self.weights.own_norm(graph, shared, modules, own, rows)
