"""What happens to depth while a model trains: fixed first, then free at a price that rises."""

from typing import Any

from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers import PreTrainedModel

from depthlab.errors import UserError
from depthlab.tasks.base import Task, watched


class ScheduledDepth(Task):
    """A task whose tokens may begin at fixed depth, where they have a depth.

    Args:
        model: what to train.
        optimizer: as `Task`.
        warmup_steps: as `Task`.
        time_penalty_warmup_steps: optimiser steps over which the time penalty tau rises from 0, counted from where
            halting begins. 0 (the paper) has all of it from the start; a ramp keeps tokens from collapsing to depth 1
            before depth pays.
        fixed_depth_steps: optimiser steps for which every token takes as many iterations and the halting unit rests.
            Then it is switched on with its initial bias: with `act_update: accumulate`, `act_cap: remainder` and a low
            `halting_bias_init` the model's output does not jump.
        fixed_depth: as many as that; None: all.
        decay_share: as `Task`.

    Raises:
        UserError: a number of steps is negative, or tokens have no depth; the fixed depth is not from 1 to the cap.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        optimizer: OptimizerCallable,
        warmup_steps: int,
        time_penalty_warmup_steps: int = 0,
        fixed_depth_steps: int = 0,
        decay_share: float = 1.0,
        fixed_depth: int | None = None,
    ) -> None:
        super().__init__(model, optimizer, warmup_steps, decay_share)
        if time_penalty_warmup_steps < 0:
            raise UserError(f"model.time_penalty_warmup_steps must not be negative, got {time_penalty_warmup_steps}")
        if fixed_depth_steps < 0:
            raise UserError(f"model.fixed_depth_steps must not be negative, got {fixed_depth_steps}")
        self.time_penalty_warmup_steps = time_penalty_warmup_steps
        cap = self.cap
        if cap is None and (time_penalty_warmup_steps or fixed_depth_steps):
            raise UserError(
                "model.fixed_depth_steps and model.time_penalty_warmup_steps are of ALBERTs: here tokens have no depth"
            )
        if fixed_depth is not None and not 1 <= fixed_depth <= cap:
            raise UserError(f"model.fixed_depth must be from 1 to the cap of {cap} iterations, got {fixed_depth}")
        self.fixed_depth_steps = fixed_depth_steps
        self.fixed_depth = cap if fixed_depth is None else fixed_depth
        self._steps_of_checkpoint = 0  # the trainer's own count stays 0 where it only evaluates

    @property
    def time_penalty(self) -> float | Tensor:
        """Tau of this optimiser step: 0 while depth is fixed, then rising over `time_penalty_warmup_steps`."""
        return super().time_penalty * self._share_of_price

    @property
    def depth_has_its_price(self) -> bool:
        """Once depth is free, and its price has risen."""
        return self._held is None and self._share_of_price == 1

    @property
    def _share_of_price(self) -> float:
        step = max(self.global_step, self._steps_of_checkpoint) - self.fixed_depth_steps
        return 0.0 if step < 0 else min(1.0, (step + 1) / max(1, self.time_penalty_warmup_steps))

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """As for every task, at fixed depth first."""
        self._held = self.fixed_depth if self.global_step < self.fixed_depth_steps else None
        step = super().training_step(batch, batch_idx)
        if self._held is not None:
            # DDP expects a gradient of every parameter; the halting unit's is dropped before the optimiser sees it.
            step["loss"] = step["loss"] + 0.0 * sum(parameter.sum() for parameter in self._halting_parameters())
        return step

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Returns depths and remainders, [B, T], for who watches."""
        return watched(self.compute("val", batch)[0])

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """As `validation_step`, of the test part."""
        return watched(self.compute("test", batch)[0])

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """While depth is fixed nothing may move the halting unit, weight decay included."""
        if self._held is not None:
            for parameter in self._halting_parameters():
                parameter.grad = None

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep whether depth is still fixed, and at what, too."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["hold_depth"] = self._held

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """As for every task; and go on with depth fixed or not, as it was."""
        super().on_load_checkpoint(checkpoint)
        self._held = self.fixed_depth if checkpoint.get("hold_depth") else None
        self._steps_of_checkpoint = checkpoint["global_step"]

    @property
    def _held(self) -> int | None:
        """What every token's depth is held at."""
        return None if self.cap is None else self.model.base_model.encoder.hold_depth

    @_held.setter
    def _held(self, depth: int | None) -> None:
        if self.cap is not None:
            self.model.base_model.encoder.hold_depth = depth

    def _halting_parameters(self) -> list[nn.Parameter]:
        halting = self.model.base_model.encoder.halting
        return [] if halting is None else list(halting.parameters())
