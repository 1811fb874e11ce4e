"""The iteration: one shared layer, applied to every token as often as its halting rule says.

Two executions of the same equations: `dense` computes every token until the last one has halted, as the paper does;
`compact` computes the running tokens only. With tied weights and a frozen state a halted token's key and value cannot
change any more, so leaving it out is exact, forward and backward. Where every iteration has a layer of its own (the
untied baseline), each of them computes the keys and values of halted tokens too, and nothing else of them.

What a layer does is in `layer.py`, who halts in `halting/`; both executions ask the same rule.

Shapes: B batch, T length, E embedding, H hidden, L cap; N real tokens of the batch, R of them still running. Packed
tensors, [N, ...] and [R, ...], keep the row-major order of [B, T]; a token's *position* is its row in [B * T].
"""

from collections.abc import Collection
from functools import partial

import torch
from torch import Tensor, nn

from depthlab.errors import UserError
from depthlab.models.calls import Call, EncoderOutput, Head, Iteration, Observer, each
from depthlab.models.compact import CompactLoop, Moved, Packed
from depthlab.models.halting import HaltingRule, HaltingStep, Look, State, Tokens, rule_named
from depthlab.models.hidden_states import HiddenStates
from depthlab.models.layer import Body, IteratedLayer, Memory
from depthlab.models.sharding import goes_on
from depthlab.models.sizes import pad_rows


class AdaptiveAlbertTransformer(IteratedLayer):
    """HF's ALBERT encoder, same parameter names, plus what the halting rule learns."""

    def __init__(self, config) -> None:
        super().__init__(config)
        self.halting: nn.Module | None = config.rule.unit(config.hidden_size)
        self.hold_depth: int | None = None
        """Iterations that every token takes while the halting rule rests, at most L: training at fixed depth first.
        None: the rule decides. A mode, as `training` is: it is set between calls, and no call sets it."""

    def forward(
        self,
        embeddings: Tensor,
        real: Tensor,
        attention_mask: Tensor | None,
        by_query: bool = False,
        hidden_states: Collection[int] = (),
        halting_rule: HaltingRule | None = None,
        observer: Observer | None = None,
        head: Head | None = None,
        pieces: Tensor | None = None,
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
            head: the model's, for rules that ask it.
            pieces: [B, T], number of each token's piece in the vocabulary, for the same.
            attention_kwargs: passed on to HF's attention, by the dense execution.

        Raises:
            UserError: the model is being exported or traced, and its depth depends on the data.
        """
        rule = rule_named(self.config.halting) if halting_rule is None else halting_rule
        kept, compiled = HiddenStates(hidden_states, real), torch.compiler.is_compiling()
        call = Call(halting_rule, real, attention_mask, by_query, compiled, kept, observer, head, pieces)
        if not rule.chooses(self.training) or self.hold_depth is not None:
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

    def flops(self, depths: Tensor, real: Tensor) -> Tensor:
        """As `AdaptiveAlbertModel.flops`, without the pooler."""
        rule, adapts = self.rule, self.rule.chooses(self.training) and self.hold_depth is None
        only_running = adapts and self.config.execution == "compact"
        total = super().flops(depths, real, only_running)
        if adapts and self.halting is not None:
            ran, last = depths if only_running else real * depths.max(), int(depths.max())
            asked = sum((real & (ran >= n)).sum(dim=1) for n in range(rule.first, last + 1) if rule.asks(n))
            matrices = (parameter.numel() for parameter in self.halting.parameters() if parameter.ndim > 1)
            total = total + asked * 2 * sum(matrices)
        return total

    def _step(
        self, rule: HaltingRule, head: Head | None, state: State, n: int, before: Tensor, new: Tensor
    ) -> tuple[HaltingStep, Look]:
        """Ask the rule about iteration n of tokens [..., H]. At the cap all halt."""
        look = Look(n, n == self.config.num_hidden_layers, before, new, None, head)
        if self.halting is not None and rule.asks(n):
            look = look._replace(asked=rule.ask(self.halting, look))
        step = rule.step(state, look)
        if look.at_cap:
            step = step._replace(halted=torch.ones_like(step.halted))
        if step.remainder is None:
            step = step._replace(remainder=torch.zeros_like(step.weight))
        return step, look

    def _fixed(self, embeddings: Tensor, call: Call, **attention_kwargs) -> EncoderOutput:
        """Plain ALBERT: L iterations for every token, or as many as it is held at."""
        cap, real = self.config.num_hidden_layers, call.real
        depth = cap if self.hold_depth is None else self.hold_depth
        state = call.kept.keep(self.project(embeddings))
        for n in range(1, depth + 1):
            before, new = state, self.apply_to_all(n, state, call.attention_mask, **attention_kwargs)
            state = call.kept.keep(new)
            _observe(call.observer, n, real, before, new, state)
        remainders = torch.zeros_like(real, dtype=torch.promote_types(state.dtype, torch.float32))
        return _without_padding(call, state, real.long() * depth, remainders, call.kept.all(state, cap))

    def _dense(self, embeddings: Tensor, call: Call, **attention_kwargs) -> EncoderOutput:
        """The equations as they stand: every iteration computes every token, until the last one has halted."""
        blend, cap, real = self.config.act_update == "blend", self.config.num_hidden_layers, call.real
        rule = call.rule or self.rule
        state = call.kept.keep(self.project(embeddings))  # h^{n-1}, [B, T, H]
        running = real
        position = torch.arange(real.numel(), device=real.device).view_as(real)
        remembered = rule.begin(Tokens(state, position, real.shape[1], real, call.pieces))
        remainders = torch.zeros_like(real, dtype=torch.promote_types(state.dtype, torch.float32))
        depths, mixture, costs = torch.zeros_like(real, dtype=torch.long), torch.zeros_like(state), None

        for n in range(rule.first, cap + 1):
            new = self.apply_to_all(n, state, call.attention_mask, **attention_kwargs) if n else state  # s^n
            step, look = self._step(rule, call.head, remembered, n, state, new)
            weight, moves = step.weight[..., None].to(new.dtype), running[..., None]
            if blend:
                state = torch.where(moves, torch.lerp(state, new, weight), state)
            else:
                mixture = torch.where(moves, mixture + weight * new, mixture)
                state = torch.where(moves, new, state)
            if n:
                state = call.kept.keep(state)
                _observe(call.observer, n, running, look.before, new, state, look.asked)
                depths = depths + running
            remainders = torch.where(running & step.halted, step.remainder, remainders)
            if step.cost is not None:
                costs = torch.where(running, step.cost, 0.0) + (0.0 if costs is None else costs)
            remembered = each(partial(_where, running), step.state, remembered)
            running = running & ~step.halted
            if not goes_on(bool(running.any()), self.albert_layer_groups):
                break

        hidden_states = call.kept.all(state, cap)
        return _without_padding(call, state if blend else mixture, depths, remainders, hidden_states, costs)

    @torch.compiler.disable(recursive=False)
    def _compact(self, embeddings: Tensor, call: Call) -> EncoderOutput:
        """The same, computing the running tokens only.

        The loop holds the running tokens packed, [R, H], and what the rule remembers of them; what they attend to, of
        all tokens, is the memory's. A token's rows there are written anew in the iteration after its state last
        changed, so once more when it has just halted.
        The host learns after each iteration that lets tokens halt how many still run in each sequence; nothing else
        waits for the device. So torch.compile makes one graph of an iteration, and leaves the loop to Python.
        """
        rule, bodies, loop, packed = self._start(embeddings, call)
        for n, body in enumerate(bodies, start=rule.first):
            moved = self._iterate(n, body, rule, call.head, packed, loop.memory)
            packed = loop.regroup(n, packed, moved)
            if packed is None:
                break
        return loop.output()

    @torch.compiler.disable
    def _start(self, embeddings: Tensor, call: Call) -> tuple[HaltingRule, list[Body | None], CompactLoop, Packed]:
        """All real tokens, before the first iteration."""
        rule, real = call.rule or self.rule, call.real
        position = real.flatten().nonzero().squeeze(1)  # of the running tokens, [R]
        counts = real.sum(dim=1).tolist()  # of running tokens per sequence, B
        state = embeddings.flatten(0, 1).index_select(0, position)
        state = self.project(pad_rows(state))[: len(position)]
        memory = Memory(position, real.numel(), shared=self.config.num_hidden_groups == 1)
        loop = CompactLoop(call, memory, self.albert_layer_groups, self.config.num_hidden_layers)
        state = loop.start(position, state)
        pieces = None if call.pieces is None else call.pieces.flatten()[position]
        everyone = torch.ones_like(position, dtype=torch.bool)
        remembered = rule.begin(Tokens(state, position, real.shape[1], everyone, pieces))
        mixture = None if self.config.act_update == "blend" else torch.zeros_like(state)
        bodies = [self.body(n) if n else None for n in range(rule.first, loop.cap + 1)]
        return rule, bodies, loop, loop.packed(position, counts, state, remembered, mixture)

    def _iterate(
        self, n: int, body: Body | None, rule: HaltingRule, head: Head | None, packed: Packed, memory: Memory
    ) -> Moved:
        """Iteration n of the running tokens: what the device does between two looks of the host."""
        packing, state = packed.packing, packed.state
        new = state if body is None else self.apply_to_running(body, state, memory, packed.mask, packing)  # s^n
        step, look = self._step(rule, head, packed.remembered, n, state, new)
        weight, mixture = step.weight[:, None].to(new.dtype), None
        if packed.mixture is None:
            moved = torch.lerp(state, new, weight)
        else:
            moved, mixture = new, packed.mixture + weight * new
        counts = None
        if rule.decides(n) and not look.at_cap:
            batch, _, length, _ = packing.grid.shape
            counts = torch.zeros(batch, dtype=torch.long, device=new.device)
            counts = counts.index_add(0, packing.position // length, (~step.halted).long())
        return Moved(new, moved, mixture, look.asked, step, counts)


def _observe(observer: Observer | None, n, running, before, new, after, asked=None) -> None:
    """Hand the running tokens of [B, T, ...] to the observer, if there is one."""
    if observer is not None:
        position = running.flatten().nonzero().squeeze(1)
        before, new, after = (states.flatten(0, 1)[position] for states in (before, new, after))
        asked = None if asked is None else asked.flatten(0, 1)[position]
        observer(Iteration(n, position, before, new, after, asked))


def _without_padding(call: Call, state, depths, remainders, hidden_states, costs=None) -> EncoderOutput:
    state = state.masked_fill(~call.real[..., None], 0.0)
    return EncoderOutput(state, depths, remainders, hidden_states, costs=costs)


def _where(running: Tensor, later: Tensor, earlier: Tensor) -> Tensor:
    """`torch.where` for rows [B, T] or [B, T, K]."""
    return torch.where(running.view(*running.shape, *[1] * (later.ndim - running.ndim)), later, earlier)
