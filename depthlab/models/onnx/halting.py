"""The loop over iterations as ONNX, for each halting rule that has one: all that depends on data stays in the graph."""

from collections.abc import Callable

import numpy as np

from depthlab.errors import UserError
from depthlab.models.encoder import AdaptiveAlbertTransformer
from depthlab.models.halting.act import Act
from depthlab.models.halting.capacity import Capacity
from depthlab.models.halting.route import Route
from depthlab.models.onnx.graph import FLOAT, INT, Graph, Value
from depthlab.models.onnx.iteration import Batch, Iteration, Memory
from depthlab.models.onnx.weights import numbers

Found = tuple[str, str]
"""States [N, H] and depths [N]."""


def run(graph: Graph, batch: Batch, encoder: AdaptiveAlbertTransformer, iteration: Iteration, states: str) -> Found:
    """Iterate states [N, H] of all tokens.

    Raises:
        UserError: the encoder's rule has no form in ONNX.
    """
    rules: dict[type, Callable[..., Found]] = {Act: _act, Capacity: _capacity, Route: _route}
    rule = encoder.rule
    iterate = rules.get(type(rule)) if rule.chooses(training=False) else _fixed
    if iterate is None:
        raise UserError(f"halting {encoder.config.halting!r} has no form in ONNX: act, capacity, route and fixed have")
    nothing = graph("Sub", states, states)
    memory = Memory(states, nothing, nothing, batch.real)
    return iterate(graph, batch, encoder, iteration, memory)


def _act(graph: Graph, batch: Batch, encoder: AdaptiveAlbertTransformer, iteration: Iteration, memory: Memory) -> Found:
    """Tokens leave the loop as they halt; it ends with the last."""
    rule, cap, blend = encoder.rule, encoder.config.num_hidden_layers, encoder.config.act_update == "blend"
    weight = graph.constant("encoder.halting.weight", numbers(encoder.halting.weight))
    bias = graph.constant("encoder.halting.bias", numbers(encoder.halting.bias) + np.float32(rule.act_shift))
    everyone = graph("Shape", graph("Gather", memory.states, 0, axis=1))  # N
    sums = graph("ConstantOfShape", everyone)
    depths = graph("Cast", sums, to=INT)
    mixture = graph("Sub", memory.states, memory.states)

    def body(inner: Graph, n: Value, carried: list[str]) -> tuple[str, list[str]]:
        *before_it, position, sums, depths, mixture = carried
        before, new, memory = iteration(inner, batch, Memory(*before_it), position, n)
        where = inner.column(position)
        probability = inner("Sigmoid", inner("Gemm", new, weight, bias, transB=1))  # [R, 1]
        probability = inner("Squeeze", probability, inner.literal([1]))
        sum_before = inner("Gather", sums, position)
        total = inner("Add", sum_before, probability)
        crossed = inner("Greater", total, inner.literal(1 - rule.act_epsilon, np.float32))
        halted = inner("Or", crossed, inner("Equal", n, cap - 1))
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
        depths = inner("ScatterND", depths, where, inner("Expand", inner("Add", n, 1), inner("Shape", position)))
        going = inner("Compress", position, inner("Not", halted), axis=0)
        memory = memory._replace(states=states, changed=position)
        return _any(inner, going), [*memory, going, sums, depths, mixture]

    carried = [(name, FLOAT) for name in memory[:3]] + [(memory.changed, INT), (batch.real, INT)]
    carried += [(sums, FLOAT), (depths, INT), (mixture, FLOAT)]
    states, *_, depths, mixture = iteration.repeat(graph, range(cap), _any(graph, batch.real), carried, body)
    return states if blend else mixture, depths


def _capacity(
    graph: Graph, batch: Batch, encoder: AdaptiveAlbertTransformer, iteration: Iteration, memory: Memory
) -> Found:
    """Of the tokens that run, each iteration keeps those that score best."""
    rule, cap, blend = encoder.rule, encoder.config.num_hidden_layers, encoder.config.act_update == "blend"
    if rule.capacity_score in ("rarity", "both"):
        raise UserError("halting 'capacity' has a form in ONNX by state: capacity_score router or change")
    shares = graph.literal([*(rule.share(n + 1) for n in range(1, cap)), 0], np.float32)
    everyone = graph("Shape", graph("Gather", memory.states, 0, axis=1))  # N
    depths = graph("Cast", graph("ConstantOfShape", everyone), to=INT)
    gates = graph("Cast", graph("Equal", depths, 0), to=FLOAT)

    def body(inner: Graph, n: Value, carried: list[str]) -> tuple[str, list[str]]:
        *before_it, position, gates, depths = carried
        before, new, memory = iteration(inner, batch, Memory(*before_it), position, n)
        where, scores, moved = inner.column(position), _scores(inner, encoder, before, new), new
        if blend:
            gate = inner.column(inner("Gather", gates, position))
            moved = inner("Add", before, inner("Mul", gate, inner("Sub", new, before)))
        if rule.capacity_score == "router":
            gates = inner("ScatterND", gates, where, inner("Sigmoid", scores))
        states = inner("ScatterND", memory.states, where, moved)
        depths = inner("ScatterND", depths, where, inner("Expand", inner("Add", n, 1), inner("Shape", position)))
        goes_on = _best(inner, batch, position, scores, inner("Gather", shares, n))
        going = inner("Compress", position, goes_on, axis=0)
        memory = memory._replace(states=states, changed=position)
        return _any(inner, going), [*memory, going, gates, depths]

    carried = [(name, FLOAT) for name in memory[:3]] + [(memory.changed, INT), (batch.real, INT)]
    carried += [(gates, FLOAT), (depths, INT)]
    states, *_, depths = iteration.repeat(graph, range(cap), _any(graph, batch.real), carried, body)
    return states, depths


def _fixed(
    graph: Graph, batch: Batch, encoder: AdaptiveAlbertTransformer, iteration: Iteration, memory: Memory
) -> Found:
    """Every token up to the cap."""
    cap = encoder.config.num_hidden_layers
    memory = _plainly(graph, batch, iteration, memory, batch.real, range(cap))
    return memory.states, _at(graph, memory, batch.real, cap)


def _route(
    graph: Graph, batch: Batch, encoder: AdaptiveAlbertTransformer, iteration: Iteration, memory: Memory
) -> Found:
    """One decision, after iteration k: no loop depends on data."""
    rule, cap, k = encoder.rule, encoder.config.num_hidden_layers, encoder.rule.route_at
    if k == 0 or rule.route_depths is not None or rule.route_score in ("rarity", "both"):
        raise UserError("halting 'route' has a form in ONNX for one decision, after iteration 1 or later, by state")
    if k >= cap:
        return _fixed(graph, batch, encoder, iteration, memory)
    memory = _plainly(graph, batch, iteration, memory, batch.real, range(k - 1))
    before, new, memory = iteration(graph, batch, memory, batch.real, k - 1)
    scores = _scores(graph, encoder, before, new)
    if rule.route_threshold is None:
        goes_on = _best(graph, batch, batch.real, scores, graph.literal(rule.route_share, np.float32))
    else:
        goes_on = graph("Greater", scores, graph.literal(rule.route_threshold, np.float32))
    memory = memory._replace(
        states=graph("ScatterND", memory.states, graph.column(batch.real), new), changed=batch.real
    )
    going = graph("Compress", batch.real, goes_on, axis=0)
    memory = _plainly(graph, batch, iteration, memory, going, range(k, cap))
    return memory.states, _at(graph, memory, batch.real, graph("Where", goes_on, cap, k))


def _plainly(graph: Graph, batch: Batch, iteration: Iteration, memory: Memory, position: str, numbers: range) -> Memory:
    """The iterations of these numbers (of 0, 1, ...), of the same tokens; they move by the whole layer."""
    if not numbers:
        return memory

    def body(inner: Graph, n: Value, carried: list[str]) -> tuple[None, list[str]]:
        _, new, after = iteration(inner, batch, Memory(*carried), position, n)
        states = inner("ScatterND", after.states, inner.column(position), new)
        return None, [*after._replace(states=states, changed=position)]

    types = (FLOAT, FLOAT, FLOAT, INT)
    carried = [*zip(memory, types, strict=True)]
    return Memory(*iteration.repeat(graph, numbers, _any(graph, position), carried, body))


def _scores(graph: Graph, encoder: AdaptiveAlbertTransformer, before: str, new: str) -> str:
    """[R], by a learnt router or by how far an iteration has moved a token, see `halting/router.py`."""
    if encoder.halting is None:
        norms = (
            graph("ReduceL2", rows, graph.literal([1]), keepdims=0) for rows in (graph("Sub", new, before), before)
        )
        return graph("Div", *norms)
    names = ("score_weight", "score_bias")
    router = (graph.constant(f"encoder.halting.{name}", numbers(getattr(encoder.halting, name))) for name in names)
    scores = graph("Gemm", graph("Concat", before, new, axis=1), *router, transB=1)
    return graph("Squeeze", scores, graph.literal([1]))


def _best(graph: Graph, batch: Batch, position: str, scores: str, share: str) -> str:
    """[R] bool: who of those at `position` are the best of their sequence, a share of its real tokens; see
    `halting/router.py`. The first token of a sequence is always among them.

    A token's rank is the number of those of its sequence with a higher score, or the same and earlier.
    """
    leads = graph("Equal", position, graph("Gather", batch.first, graph("Div", position, batch.length)))
    scores = graph("Where", leads, graph.literal(np.inf, np.float32), scores)
    none = graph.zeros(FLOAT, graph("Mul", batch.rows, batch.length))
    none = graph("Add", none, graph.literal(-np.inf, np.float32))
    table = graph.reshape(graph("ScatterND", none, graph.column(position), scores), batch.rows, batch.length)
    mine, other = graph.column(table, 2), graph.column(table, 1)
    places = graph("Range", 0, batch.length, 1)
    earlier = graph("Greater", graph.column(places, 1), graph.column(places, 0))  # [T, T]: the other comes before
    better = graph("Or", graph("Greater", other, mine), graph("And", graph("Equal", other, mine), earlier))
    rank = graph("ReduceSum", graph("Cast", better, to=FLOAT), graph.literal([2]), keepdims=0)  # [B, T]
    count = graph("ReduceSum", graph("Cast", "attention_mask", to=FLOAT), graph.literal([1]), keepdims=1)
    at_least = graph("Ceil", share)  # one, unless the share is 0
    most = graph("Max", graph("Round", graph("Mul", count, share)), at_least)
    return graph("Gather", graph.reshape(graph("Less", rank, most), -1), position)


def _at(graph: Graph, memory: Memory, position: str, value: Value) -> str:
    """[N]: a value, or one a position, where there is a token; 0 elsewhere."""
    everyone = graph("Shape", graph("Gather", memory.states, 0, axis=1))
    nowhere = graph("Cast", graph("ConstantOfShape", everyone), to=INT)
    return graph("ScatterND", nowhere, graph.column(position), graph("Expand", value, graph("Shape", position)))


def _any(graph: Graph, position: str) -> str:
    """Whether there are any, a bool."""
    return graph("Greater", graph("Size", position), 0)
