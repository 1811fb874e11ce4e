"""Holds every optimiser step to finite numbers: one that is NaN or infinite ends the run, or leaves the step out."""

import math
from contextlib import suppress
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn
from torch.optim import Optimizer

from depthlab.errors import BadNumbers, UserError
from depthlab.files import writing
from depthlab.run.directory import RunDirectory
from depthlab.tasks.base import is_logging_step

OnBadStep = Literal["stop", "skip"]

IN_A_ROW = 10
"""So many bad steps, one after the other, stop a run that skips them: weights that stay as they are mend nothing."""
SHOWN = 8
"""Samples that a message names; the others are counted."""


class FiniteSteps(Callback):
    """Stops a run at the step in which a loss, a gradient or a weight is NaN or infinite; or skips that step.

    A step with a bad loss or gradient is not taken, so weights are still those of the last good step. What
    `depthlab replay` needs to run it again goes into `bad_step` of the run directory, a file a rank. Ranks stop
    together. It comes before the callbacks that save: no checkpoint has a bad weight.

    The device is asked twice a step, by one norm each: of all gradients, and of all weights after the update.

    In 16-mixed precision gradients that overflow are the loss scale's business: it leaves such a step out and sinks.
    They count here once it is down to 1.

    Args:
        run: the directory of the run.
        on_bad_step: "stop", or "skip": leave the step out and count it, as `train/skipped_steps` and in `results.json`.
            A weight that is bad after a step stops the run all the same, and so do ten bad steps in a row.
    """

    def __init__(self, run: RunDirectory, on_bad_step: OnBadStep = "stop") -> None:
        self.run = run
        self.skips = on_bad_step == "skip"
        self.skipped = self._in_a_row = 0
        self._begin_step()

    def results(self) -> dict[str, int]:
        """For `results.json`: how many steps were skipped, where they are."""
        return {"skipped_steps": self.skipped} if self.skips else {}

    def state_dict(self) -> dict[str, Any]:
        return {"skipped": self.skipped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.skipped = state_dict["skipped"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at what training begins with.

        Raises:
            BadNumbers: a weight is bad.
        """
        if bad := _bad(_weights(pl_module)):
            raise BadNumbers(f"before step {trainer.global_step + 1:,}: weights are not finite in {_some(bad)}")

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Remember what the step is made of; references only."""
        if not self._pieces:
            self._random = _random_states(pl_module.device)
        self._pieces.append(batch)

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        self._loss = self._loss + loss.detach()  # bad if one of them is

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Hold loss and gradients of all ranks against the finite; take the gradients away if they are not."""
        self._ends_step = True
        self._learning_rates = [group["lr"] for group in optimizer.param_groups]
        gradients = {name: p.grad for name, p in pl_module.named_parameters() if p.grad is not None}
        losses, norms = _on_ranks(trainer, self._loss.isfinite(), _norm_is_finite(gradients))
        if not all(losses):
            self._bad, self._rank = f"the loss is {self._loss.item():g}", losses.index(False)
        elif not all(norms):
            bad = _bad(gradients)
            (finite,) = _on_ranks(trainer, torch.tensor(not bad, device=pl_module.device))
            if not all(finite) and not _rescales(trainer):
                self._bad, self._rank = f"gradients are not finite in {_some(bad)}", finite.index(False)
        if self._bad:
            for parameter in pl_module.parameters():
                parameter.grad = None  # optimisers pass over it

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """After the last piece of a step: stop or skip, where it was bad; hold the weights against the finite.

        Raises:
            BadNumbers: the step was bad, or a weight is.
        """
        if isinstance(outputs, dict) and "depths" in outputs:
            self._depths.append(outputs["depths"])
        if self._ends_step:
            self._judge(trainer, pl_module)
            self._begin_step()
        if self.skips and is_logging_step(trainer, batch_idx):
            pl_module.log("train/skipped_steps", float(self.skipped))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Hold the loss of a validation against the finite.

        Raises:
            BadNumbers: it is not.
        """
        loss = float(trainer.callback_metrics.get("val/loss/total", 0.0))
        if trainer.state.fn == "fit" and not trainer.sanity_checking and not self.skips and not math.isfinite(loss):
            raise BadNumbers(f"the validation after step {trainer.global_step:,}: its loss is {loss:g}")

    def _judge(self, trainer: Trainer, pl_module: LightningModule) -> None:
        was_taken = self._bad is None
        if was_taken:
            weights = _weights(pl_module)
            if all(*_on_ranks(trainer, _norm_is_finite(weights))):
                self._in_a_row = 0
                return
            bad = _bad(weights)
            (finite,) = _on_ranks(trainer, torch.tensor(not bad, device=pl_module.device))
            if all(finite):
                return
            largest = max((p.grad.abs().max().item() for p in pl_module.parameters() if p.grad is not None), default=0)
            self._rank = finite.index(False)
            of_step = f"after the optimiser's update, with gradients of {largest:.3g} at most"
            self._bad = f"weights are not finite in {_some(bad)} {of_step}"
        message = trainer.strategy.broadcast(self._message(trainer), src=self._rank)
        if self.skips and not was_taken:
            self.skipped += 1
            self._in_a_row += 1
        stops = was_taken or not self.skips or self._in_a_row == IN_A_ROW
        is_kept = self._keep(trainer, pl_module, message, weights_are_before=not was_taken)
        if not stops:
            rank_zero_info(f"Skipped {message}")
            return
        places = [f"the last good checkpoint is {self.run.last}"] if self.run.last.exists() else []
        places += [f"`depthlab replay {self.run.path}` runs the step again"] if is_kept else []
        raise BadNumbers("; ".join([message, *places]))

    def _message(self, trainer: Trainer) -> str:
        """What was bad, of which step, as this rank knows it."""
        rates = sorted({f"{rate:.3g}" for rate in self._learning_rates})
        facts = [f"step {trainer.global_step:,}: {self._bad}", f"learning rate {' and '.join(rates)}"]
        facts += [f"rank {trainer.global_rank}"] if trainer.world_size > 1 else []
        samples = [n for piece in self._pieces if "index" in piece for n in piece["index"].tolist()]
        if samples:
            more = f" and {len(samples) - SHOWN} more" if len(samples) > SHOWN else ""
            facts.append(f"samples {', '.join(map(str, samples[:SHOWN]))}{more}")
        if self._depths:
            depths = torch.cat([depths[depths > 0] for depths in self._depths])
            facts.append(f"depths {depths.min()} to {depths.max()}, {depths.double().mean():.2f} on average")
        return "; ".join(facts)

    def _keep(self, trainer: Trainer, pl_module: LightningModule, message: str, weights_are_before: bool) -> bool:
        """Write what the step was made of; whether that has worked, as a full disk is not what is to be told here."""
        content = {
            "step": trainer.global_step,
            "message": message,
            "learning_rates": self._learning_rates,
            "random": self._random,
            "pieces": self._pieces,
            "weights": pl_module.state_dict() if weights_are_before and trainer.is_global_zero else None,
            "depth_target": getattr(getattr(pl_module, "depth_target", None), "state", None),
        }
        with suppress(UserError), writing("to", self.run.bad_step / f"{trainer.global_rank}.pt") as unfinished:
            torch.save(content, unfinished)
            return True
        return False

    def _begin_step(self) -> None:
        self._pieces: list[Any] = []
        self._depths: list[Tensor] = []  # [B, T] of each piece
        self._loss = torch.zeros(())
        self._ends_step = False
        self._bad: str | None = None
        self._rank = 0


def _weights(module: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach() for name, parameter in module.named_parameters()}


def _norm_is_finite(tensors: dict[str, Tensor]) -> Tensor:
    """[] bool, without waiting for the device: if so all numbers are finite; if not, squares may have overflowed."""
    return torch.nn.utils.get_total_norm(list(tensors.values())).isfinite()


def _bad(tensors: dict[str, Tensor]) -> list[str]:
    """Names of those with a number that is NaN or infinite; waits for the device again and again."""
    return [name for name, tensor in tensors.items() if not tensor.isfinite().all()]


def _some(names: list[str]) -> str:
    """The first by its name, the others by their number."""
    return ", ".join([*names[:1], *([f"and in {len(names) - 1} more"] if len(names) > 1 else [])])


def _on_ranks(trainer: Trainer, *flags: Tensor) -> list[list[bool]]:
    """Each flag, [] bool, as it is on every rank."""
    device = trainer.strategy.root_device
    here = torch.stack([flag.to(device) for flag in flags]).int()
    everywhere = trainer.strategy.all_gather(here).view(trainer.world_size, len(flags)).tolist()
    return [[bool(flag) for flag in of_ranks] for of_ranks in zip(*everywhere, strict=True)]


def _rescales(trainer: Trainer) -> bool:
    """Whether a loss scale can still sink, and so mend gradients that have overflowed."""
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    return scaler is not None and scaler.get_scale() > 1


def _random_states(device: torch.device) -> dict[str, Tensor]:
    """What dropout will draw from."""
    states = {"cpu": torch.get_rng_state()}
    if device.type != "cpu":
        states[device.type] = torch.get_device_module(device).get_rng_state(device)
    return states
