"""The loop over iterations as ONNX, for each halting rule that has one: all that depends on data stays in the graph."""

from collections.abc import Callable

import numpy as np

from depthlab.errors import UserError
from depthlab.models.encoder import AdaptiveAlbertTransformer
from depthlab.models.halting.act import Act
from depthlab.models.halting.fixed import Fixed
from depthlab.models.halting.route import Route
from depthlab.models.onnx.graph import FLOAT, INT, Graph
from depthlab.models.onnx.iteration import Batch, Iteration, Memory
from depthlab.models.onnx.weights import numbers

Found = tuple[str, str]
"""States [N, H] and depths [N]."""


def run(graph: Graph, batch: Batch, encoder: AdaptiveAlbertTransformer, iteration: Iteration, states: str) -> Found:
    """Iterate states [N, H] of all tokens.

    Raises:
        UserError: the encoder's rule has no form in ONNX.
    """
    rules: dict[type, Callable[..., Found]] = {Act: _act, Fixed: _fixed, Route: _route}
    rule = encoder.rule
    if type(rule) not in rules:
        raise UserError(f"halting {encoder.config.halting!r} has no form in ONNX: act, route and fixed have")
    nothing = graph("Sub", states, states)
    memory = Memory(states, nothing, nothing, batch.real)
    return rules[type(rule)](graph, batch, encoder, iteration, memory)


def _act(graph: Graph, batch: Batch, encoder: AdaptiveAlbertTransformer, iteration: Iteration, memory: Memory) -> Found:
    """Tokens leave the loop as they halt; it ends with the last."""
    rule, cap, blend = encoder.rule, encoder.config.num_hidden_layers, encoder.config.act_update == "blend"
    weight = graph.constant("encoder.halting.weight", numbers(encoder.halting.weight))
    bias = graph.constant("encoder.halting.bias", numbers(encoder.halting.bias) + np.float32(rule.act_shift))
    everyone = graph("Shape", graph("Gather", memory.states, graph.literal(0), axis=1))  # N
    sums = graph("ConstantOfShape", everyone)
    depths = graph("Cast", sums, to=INT)
    mixture = graph("Sub", memory.states, memory.states)

    def body(inner: Graph, n: str, carried: list[str]) -> tuple[str, list[str]]:
        *before_it, position, sums, depths, mixture = carried
        before, new, memory = iteration(inner, batch, Memory(*before_it), position, n)
        where = inner.column(position)
        probability = inner("Sigmoid", inner("Gemm", new, weight, bias, transB=1))  # [R, 1]
        probability = inner("Squeeze", probability, inner.literal([1]))
        sum_before = inner("Gather", sums, position)
        total = inner("Add", sum_before, probability)
        crossed = inner("Greater", total, inner.literal(1 - rule.act_epsilon, np.float32))
        halted = inner("Or", crossed, inner("Equal", n, inner.literal(cap - 1)))
        remainder = inner("Sub", inner.literal(1, np.float32), sum_before)
        share = inner("Where", halted if rule.act_cap == "remainder" else crossed, remainder, probability)
        share = inner.column(share)
        if blend:
            moved = inner("Add", before, inner("Mul", share, inner("Sub", new, before)))
        else:
            moved = new
            mixed = inner("Add", inner("Gather", mixture, position), inner("Mul", share, new))
            mixture = inner("ScatterND", mixture, where, mixed)
        states = inner("ScatterND", memory.states, where, moved)
        sums = inner("ScatterND", sums, where, total)
        number = inner("Expand", inner("Add", n, inner.literal(1)), inner("Shape", position))
        depths = inner("ScatterND", depths, where, number)
        going = inner("Compress", position, inner("Not", halted), axis=0)
        memory = memory._replace(states=states, changed=position)
        return _any(inner, going), [*memory, going, sums, depths, mixture]

    carried = [(name, FLOAT) for name in memory[:3]] + [(memory.changed, INT), (batch.real, INT)]
    carried += [(sums, FLOAT), (depths, INT), (mixture, FLOAT)]
    states, *_, depths, mixture = graph.loop(cap, _any(graph, batch.real), carried, body)
    return states if blend else mixture, depths


def _fixed(
    graph: Graph, batch: Batch, encoder: AdaptiveAlbertTransformer, iteration: Iteration, memory: Memory
) -> Found:
    """Every token up to the cap."""
    cap = encoder.config.num_hidden_layers
    memory = _plainly(graph, batch, iteration, memory, batch.real, 0, cap)
    return memory.states, _at(graph, memory, batch.real, graph.literal(cap))


def _route(
    graph: Graph, batch: Batch, encoder: AdaptiveAlbertTransformer, iteration: Iteration, memory: Memory
) -> Found:
    """One decision, after iteration k: no loop depends on data."""
    rule, cap, k = encoder.rule, encoder.config.num_hidden_layers, encoder.rule.route_at
    if k == 0 or rule.route_depths is not None or rule.route_score in ("rarity", "both"):
        raise UserError("halting 'route' has a form in ONNX for one decision, after iteration 1 or later, by state")
    if k >= cap:
        return _fixed(graph, batch, encoder, iteration, memory)
    memory = _plainly(graph, batch, iteration, memory, batch.real, 0, k - 1)
    before, new, memory = iteration(graph, batch, memory, batch.real, graph.literal(k - 1))
    if rule.route_score == "router":
        weight = graph.constant("encoder.halting.score_weight", numbers(encoder.halting.score_weight))
        bias = graph.constant("encoder.halting.score_bias", numbers(encoder.halting.score_bias))
        scores = graph("Gemm", graph("Concat", before, new, axis=1), weight, bias, transB=1)
        scores = graph("Squeeze", scores, graph.literal([1]))
    else:
        norms = (
            graph("ReduceL2", rows, graph.literal([1]), keepdims=0) for rows in (graph("Sub", new, before), before)
        )
        scores = graph("Div", *norms)
    if rule.route_threshold is None:
        leads = graph("Equal", batch.real, graph("Gather", batch.first, graph("Div", batch.real, batch.length)))
        scores = graph("Where", leads, graph.literal(np.inf, np.float32), scores)
        goes_on = _best(graph, batch, scores, rule.route_share)
    else:
        goes_on = graph("Greater", scores, graph.literal(rule.route_threshold, np.float32))
    memory = memory._replace(
        states=graph("ScatterND", memory.states, graph.column(batch.real), new), changed=batch.real
    )
    going = graph("Compress", batch.real, goes_on, axis=0)
    memory = _plainly(graph, batch, iteration, memory, going, k, cap - k)
    depths = _at(graph, memory, batch.real, graph("Where", goes_on, graph.literal(cap), graph.literal(k)))
    return memory.states, depths


def _plainly(
    graph: Graph, batch: Batch, iteration: Iteration, memory: Memory, position: str, first: int, count: int
) -> Memory:
    """So many iterations, from number `first` (of 0, 1, ...) on, of the same tokens; they move by the whole layer."""
    if not count:
        return memory

    def body(inner: Graph, n: str, carried: list[str]) -> tuple[None, list[str]]:
        _, new, after = iteration(inner, batch, Memory(*carried), position, inner("Add", n, inner.literal(first)))
        states = inner("ScatterND", after.states, inner.column(position), new)
        return None, [*after._replace(states=states, changed=position)]

    types = (FLOAT, FLOAT, FLOAT, INT)
    return Memory(*graph.loop(count, _any(graph, position), [*zip(memory, types, strict=True)], body))


def _best(graph: Graph, batch: Batch, scores: str, share: float) -> str:
    """[R] bool: of each sequence's real tokens the share with the highest scores, see `halting/route.py`.

    A token's rank is the number of those of its sequence with a higher score, or the same and earlier.
    """
    none = graph.zeros(FLOAT, graph("Mul", batch.rows, batch.length))
    none = graph("Add", none, graph.literal(-np.inf, np.float32))
    table = graph.reshape(graph("ScatterND", none, graph.column(batch.real), scores), batch.rows, batch.length)
    mine, other = graph.column(table, 2), graph.column(table, 1)
    places = graph("Range", graph.literal(0), batch.length, graph.literal(1))
    earlier = graph("Greater", graph.column(places, 1), graph.column(places, 0))  # [T, T]: the other comes before
    better = graph("Or", graph("Greater", other, mine), graph("And", graph("Equal", other, mine), earlier))
    rank = graph("ReduceSum", graph("Cast", better, to=FLOAT), graph.literal([2]), keepdims=0)  # [B, T]
    real = graph("Cast", graph("Greater", table, graph.literal(-np.inf, np.float32)), to=FLOAT)
    count = graph("ReduceSum", real, graph.literal([1]), keepdims=1)
    most = graph("Round", graph("Mul", count, graph.literal(share, np.float32)))
    most = graph("Max", most, graph.literal(float(share > 0), np.float32))
    return graph("Gather", graph.reshape(graph("Less", rank, most), -1), batch.real)


def _at(graph: Graph, memory: Memory, position: str, value: str) -> str:
    """[N]: a value, or one a position, where there is a token; 0 elsewhere."""
    everyone = graph("Shape", graph("Gather", memory.states, graph.literal(0), axis=1))
    nowhere = graph("Cast", graph("ConstantOfShape", everyone), to=INT)
    return graph("ScatterND", nowhere, graph.column(position), graph("Expand", value, graph("Shape", position)))


def _any(graph: Graph, position: str) -> str:
    """Whether there are any, a bool."""
    return graph("Greater", graph("Size", position), graph.literal(0))
