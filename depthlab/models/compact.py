"""What the compact execution does between two iterations: who goes on, and what those leave behind who halt.

All of it is Python's, and eager: torch.compile makes a graph of an iteration, and none of this.

Shapes: B batch, T length, H hidden, L cap; R running tokens, packed in row-major order of [B, T]. A token's *position*
is its row in [B * T].
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from depthlab.models.block import Packing, mask_of_running, pack, scatter
from depthlab.models.calls import Call, EncoderOutput, Iteration, each
from depthlab.models.halting import HaltingStep, State
from depthlab.models.layer import Memory
from depthlab.models.sharding import goes_on


class Packed(NamedTuple):
    """The running tokens before an iteration."""

    packing: Packing
    mask: Tensor | None
    """What their queries may attend to."""
    state: Tensor
    """h^{n-1}, [R, H]"""
    remembered: State
    """By the halting rule."""
    mixture: Tensor | None
    """[R, H], the weighted sum of their states so far, where the output is one."""


class Moved(NamedTuple):
    """What an iteration has made of them."""

    new: Tensor
    """s^n, [R, H]"""
    state: Tensor
    """h^n, [R, H]"""
    mixture: Tensor | None
    asked: Tensor | None
    """Of the rule's unit, as in `Look`."""
    step: HaltingStep
    counts: Tensor | None
    """[B], how many of a sequence go on; None where nobody is decided about: all do, or at the cap none."""


class CompactLoop:
    """Of one call: what is kept of all tokens while fewer and fewer run."""

    def __init__(self, call: Call, memory: Memory, layers: nn.Module, cap: int) -> None:
        self.call, self.memory, self.layers, self.cap = call, memory, layers, cap
        self.shape = call.real.shape
        self.everyone: Tensor | None = None
        """h^n of all tokens, [B, T, H], where hidden states are asked for."""
        self.costs: Tensor | None = None
        """What the running tokens were charged, [R], where the rule says."""
        self.finished: list[tuple[Tensor, Tensor, Tensor, Tensor | None, int]] = []
        """Position, output, remainder, charge and depth of who halted, iteration by iteration."""

    def start(self, position: Tensor, state: Tensor) -> Tensor:
        """h^0 [R, H] of all real tokens, as it is to be used."""
        if self.call.kept.chosen:
            everyone = scatter(position, state, self.shape.numel()).unflatten(0, self.shape)
            self.everyone = self.call.kept.keep(everyone)
            state = self._of(position)
        self.memory.refresh(position, state)
        return state

    def packed(
        self, position: Tensor, counts: list[int], state: Tensor, remembered: State, mixture: Tensor | None
    ) -> Packed:
        """The running tokens, as many of each sequence as counts says."""
        packing = pack(position, counts, self.shape[1], self.call.compiled)
        mask = mask_of_running(self.call.attention_mask, self.call.by_query, packing)
        return self._ready(Packed(packing, mask, state, remembered, mixture))

    @torch.compiler.disable
    def regroup(self, n: int, packed: Packed, moved: Moved) -> Packed | None:
        """Note what iteration n has done; who goes on, None if nobody does. Here the host waits for the device."""
        position, step, state = packed.packing.position, moved.step, moved.state
        if n and self.everyone is not None:
            everyone = self.everyone.flatten(0, 1).index_copy(0, position, state).unflatten(0, self.shape)
            self.everyone = self.call.kept.keep(everyone)
            state = self._of(position)
        output = state if moved.mixture is None else moved.mixture
        self.memory.refresh(position, state)
        if step.cost is not None:
            self.costs = step.cost if self.costs is None else self.costs + step.cost
        if n and self.call.observer is not None and len(position):
            self.call.observer(Iteration(n, position, packed.state, moved.new, state, moved.asked))
        counts = None if moved.counts is None or n == self.cap else moved.counts.tolist()
        going = len(position) if counts is None else sum(counts)
        if n == self.cap or (counts is not None and not goes_on(going > 0, self.layers)):
            self.finished.append((position, output, step.remainder, self.costs, n))
            return None
        # Where nobody has halted, all stays; but one tensor in two places would be a graph of its own to torch.compile.
        if counts is None or (going == len(position) and not self.call.compiled):
            return self._ready(packed._replace(state=state, remembered=step.state, mixture=moved.mixture))
        parts, order = [going, len(position) - going], step.halted.byte().argsort(stable=True)

        def part(rows: Tensor) -> tuple[Tensor, Tensor]:
            """Of those who go on, and of those who halt. Backward, `index_select` is fast; indexing is not."""
            return rows.index_select(0, order).split(parts)

        (position, where), (output, ended), (_, remainder) = map(part, (position, output, step.remainder))
        self.costs, charged = (None, None) if self.costs is None else part(self.costs)
        self.finished.append((where, ended, remainder, charged, n))
        remembered = each(lambda rows: part(rows)[0], step.state)
        state, mixture = (output, None) if moved.mixture is None else (part(state)[0], output)
        return self.packed(position, counts, state, remembered, mixture)

    @torch.compiler.disable
    def output(self) -> EncoderOutput:
        """Of all tokens, in their places."""
        positions, outputs, remainders, charged, _ = zip(*self.finished, strict=True)
        position = torch.cat(positions)
        depths = torch.cat([torch.full_like(where, n) for where, *_, n in self.finished])

        def unpack(rows: Tensor) -> Tensor:
            return scatter(position, rows, self.shape.numel()).unflatten(0, self.shape)

        hidden_states = None if self.everyone is None else self.call.kept.all(self.everyone, self.cap)
        outputs, remainders = (unpack(torch.cat(rows)) for rows in (outputs, remainders))
        costs = None if charged[0] is None else unpack(torch.cat(charged))
        return EncoderOutput(outputs, unpack(depths), remainders, hidden_states, costs=costs)

    def _ready(self, packed: Packed) -> Packed:
        if self.call.compiled:
            memory = (self.memory.keys, self.memory.values, self.memory.states, self.memory.position)
            _sizes_vary(packed, memory)
        return packed

    def _of(self, position: Tensor) -> Tensor:
        return self.everyone.flatten(0, 1).index_select(0, position)


def _sizes_vary(*inputs: Any) -> None:
    """Say so to torch.compile, which else makes a graph of the first sizes that it meets, and then another."""
    for tensor in tree_leaves(inputs):
        if tensor is not None:  # a row a token, or for each of them; the width of a state is the model's
            varying = range(1) if tensor.ndim < 3 else range(tensor.ndim)
            for dimension in varying:
                torch._dynamo.maybe_mark_dynamic(tensor, dimension)
