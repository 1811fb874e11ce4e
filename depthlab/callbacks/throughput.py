"""Watches how fast training goes, and how much of the fixed-depth model's work it needs."""

import time
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from depthlab.tasks.base import is_logging_step


class ThroughputMonitor(Callback):
    """Logs `throughput/{tokens,token_iterations,steps}_per_second` of training, validation excluded, over all ranks.

    A token-iteration is one application of the layer to one real token; a model whose tokens have no depth has none.
    With several ranks, `throughput/imbalance` is the most token-iterations (or tokens) of a rank over the mean of all
    ranks, per step: a step waits for its slowest rank. The totals of the run are kept with its checkpoints, so that
    they hold after resuming.

    `val/seconds_per_example` is the time that the model itself takes for an example in validation, on one device, at
    the batches and lengths there are: without loading, losses and metrics. `val/token_iterations_per_example` and
    `val/flops_per_example` (of the layers) are what is computed in it, where tokens have a depth.
    """

    def __init__(self) -> None:
        self.tokens = 0  # seen in training so far, all ranks
        self.token_iterations = 0
        self.seconds = 0.0
        self._work: list[Tensor] = []  # tokens, and token-iterations, of each piece since the last time: [2] or [1]

    def state_dict(self) -> dict[str, Any]:
        """The totals, up to this step."""
        if self._work:
            self._collect(self._trainer)
        iterations = {"token_iterations": self.token_iterations} if self.token_iterations else {}
        return {"tokens": self.tokens, **iterations, "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from these totals."""
        self.__dict__.update(state_dict)

    def savings(self, cap: int | None) -> str:
        """What stopping early has saved against a model that takes all `cap` iterations, in one sentence.

        Without a cap tokens have no depth, and nothing is saved.
        """
        if not self.tokens or not self.seconds:
            return "no training step was counted"
        if cap is None:
            return f"{self.tokens:,} tokens in {self.seconds:,.0f} s"
        fixed = self.tokens * cap
        saved = fixed - self.token_iterations
        pace = self.token_iterations / self.seconds
        return (
            f"{self.token_iterations:,} token-iterations computed in {self.seconds:,.0f} s, {fixed:,} at depth {cap}: "
            f"{saved / fixed:.0%} saved, up to {saved / pace:,.0f} s at this pace (the rest of a step costs the same)"
        )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._trainer = trainer
        self._started_at = time.monotonic()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock of training, and time the model."""
        self._paused_at = time.monotonic()
        self._forward = ForwardTimer(getattr(pl_module, "model", pl_module), pl_module.device)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the time and the work of an example."""
        measured = torch.tensor([*self._forward.stop(), *self._forward.work], device=pl_module.device)
        seconds, examples, *work = trainer.strategy.reduce(measured, reduce_op="sum")
        pl_module.log("val/seconds_per_example", seconds / examples)
        for name, amount in zip(("token_iterations", "flops"), work, strict=False):
            pl_module.log(f"val/{name}_per_example", amount / examples)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the validation's time out."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._started_at += time.monotonic() - self._paused_at

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: dict[str, Tensor], batch_idx: int
    ) -> None:
        """Count on the device; read the counts at the trainer's pace."""
        work = [batch["attention_mask"].sum()]
        if isinstance(outputs, dict) and "depths" in outputs:
            work.append(outputs["depths"].sum())
        self._work.append(torch.stack(work))
        if is_logging_step(trainer, batch_idx):
            pl_module.log_dict({f"throughput/{name}": value for name, value in self._collect(trainer).items()})

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the last steps into the totals."""
        if self._work:
            self._collect(trainer)

    def _collect(self, trainer: Trainer) -> dict[str, float]:
        """Add what was counted since the last time to the totals; its rates."""
        pieces = trainer.strategy.all_gather(torch.stack(self._work)).view(trainer.world_size, len(self._work), -1)
        seconds = time.monotonic() - self._started_at
        self._work, self._started_at = [], time.monotonic()
        totals = dict(zip(("tokens", "token_iterations"), pieces.sum(dim=(0, 1)).tolist(), strict=False))
        self.tokens += totals["tokens"]
        self.token_iterations += totals.get("token_iterations", 0)
        self.seconds += seconds
        accumulate = trainer.accumulate_grad_batches
        whole_steps = pieces.shape[1] // accumulate  # Lightning may cut the last step of an epoch short
        per_step = pieces[:, : whole_steps * accumulate, -1].unflatten(1, (whole_steps, accumulate)).sum(dim=2).double()
        rates = {
            **{f"{name}_per_second": total / seconds for name, total in totals.items()},
            "steps_per_second": pieces.shape[1] / accumulate / seconds,
        }
        if trainer.world_size > 1 and whole_steps:
            rates["imbalance"] = (per_step.amax(dim=0) / per_step.mean(dim=0)).mean().item()
        return rates


class ForwardTimer:
    """Times the calls of a model from now on, without waiting for the device between them, and counts their work.

    Args:
        model: Hugging Face's kind, called with `input_ids` [B, T] by name.
        device: Where it is. Accelerators keep the time themselves; they run behind the process.
    """

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        self.device = device
        self.examples = 0
        self._times: list[Any] = []  # of starts and ends, in turn
        self._work: list[Tensor] = []  # token-iterations and FLOPs of each call, [2], of a model of ours
        self._hooks = (
            model.register_forward_pre_hook(self._start, with_kwargs=True),
            model.register_forward_hook(self._end, with_kwargs=True),
        )

    def stop(self) -> tuple[float, int]:
        """Seconds of all calls, and examples in them."""
        for hook in self._hooks:
            hook.remove()
        pairs = zip(self._times[::2], self._times[1::2], strict=True)
        if self.device.type == "cpu":
            return sum(end - start for start, end in pairs), self.examples
        torch.accelerator.synchronize(self.device)
        return sum(start.elapsed_time(end) for start, end in pairs) / 1000, self.examples

    @property
    def work(self) -> list[float]:
        """Token-iterations and floating point operations of all calls; nothing where tokens have no depth."""
        return torch.stack(self._work).sum(dim=0).tolist() if self._work else []

    def _end(self, model: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        self._times.append(self._now())
        depths = getattr(output, "depths", None)
        if depths is not None:
            flops = model.base_model.encoder.flops(depths, kwargs["attention_mask"].bool())
            self._work.append(torch.stack([depths.sum(), flops.sum()]))

    def _start(self, model: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        self.examples += len(kwargs["input_ids"])
        self._times.append(self._now())

    def _now(self) -> Any:
        if self.device.type == "cpu":
            return time.perf_counter()
        event = torch.Event(self.device, enable_timing=True)
        event.record()
        return event
