"""The states that a call is asked to return, kept where they are computed, so that they have gradients."""

from collections.abc import Collection, Sequence

from torch import Tensor


class HiddenStates:
    """Those of h^0..h^L that are asked for.

    What comes after an iteration is computed from what was kept of it, as Hugging Face has it: `retain_grad` works.
    Of a token's states up to its depth, gradients are the same in every execution; repetitions share out the rest.
    """

    def __init__(self, chosen: Collection[int], real: Tensor) -> None:
        self.chosen = chosen
        self.real = real
        self.states: list[Tensor | None] = []

    def keep(self, state: Tensor) -> Tensor:
        """The next of them, [B, T, H], as it is to be used from here on."""
        if not self.chosen:
            return state
        state = state.masked_fill(~self.real[..., None], 0.0)
        self.states.append(state if len(self.states) in self.chosen else None)
        return state

    def all(self, state: Tensor, cap: int) -> tuple[Tensor | None, ...] | None:
        """L + 1 of them, the last state repeated; None for one that was not asked for, or for all if none was."""
        if not self.chosen:
            return None
        frozen = (state if n in self.chosen else None for n in range(len(self.states), cap + 1))
        return (*self.states, *frozen)


def chosen_states(wanted: bool | int | Sequence[int] | None, cap: int) -> Collection[int]:
    """The n of h^n that `output_hidden_states` asks for: all, none, one, or some; from the last, if negative."""
    if wanted is None or isinstance(wanted, bool):
        return range(cap + 1) if wanted else ()
    wanted = [wanted] if isinstance(wanted, int) else wanted
    return {n % (cap + 1) for n in wanted if -cap - 1 <= n <= cap}
