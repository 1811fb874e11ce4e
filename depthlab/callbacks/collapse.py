"""Says once that depth has collapsed, with advice: all tokens stop at once, or none does, or none can learn to."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from torch.optim import Optimizer

from depthlab.callbacks.watched import adaptive_model
from depthlab.models.encoder import EncoderOutput
from depthlab.tasks.base import is_logging_step

STEPS = 300
"""For so many optimiser steps it must have been so before it is told: to start at either end is nothing special."""
AT_ONCE = "every token has stopped after one iteration"
AT_THE_CAP = "every token has taken all iterations"
NO_GRADIENT = "the gradient of the halting unit has been 0: the loss does not say when to stop, so depth stays as it is"
PAGE = "`Against depth collapse` in depthlab/tasks/README.md"
ADVICE = {
    AT_ONCE: f"let tau (time_penalty) rise slowly, make it smaller, or train at fixed depth first: see {PAGE}",
    AT_THE_CAP: "if tau (time_penalty) is not rising any more, make it larger, or halting_bias_init higher",
    NO_GRADIENT: f"begin at another depth, by halting_bias_init or at fixed depth first: see {PAGE}",
}
"""Where depth costs something; elsewhere the settings of the rule decide."""


class DepthCollapse(Callback):
    """Tells, once each, what has been so for 300 optimiser steps: all tokens at depth 1, all at the cap, no gradient.

    It rests while depth is held or imposed, where the rule does not choose depths, and at a cap of 1. Of the gradient
    it says nothing where the rule has no unit, or one that is not trained. It sees the tokens of rank 0; the device is
    asked at the trainer's pace.
    """

    def __init__(self) -> None:
        self.said: dict[str, int] = {}
        """What was told, and after which step."""
        self._since: dict[str, int] = {}  # the step before that from which on it holds

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Listen to the encoder.

        Raises:
            UserError: the model's tokens have no depth.
        """
        self._encoder = adaptive_model(pl_module, self).encoder
        self._hook = self._encoder.register_forward_hook(self._see, with_kwargs=True)
        self._forget()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._hook.remove()

    def _see(self, module: Any, args: Any, kwargs: dict[str, Any], output: EncoderOutput) -> None:
        """Lowest and highest depth since the last look; where there is nothing to collapse, no look counts."""
        encoder = self._encoder
        if not encoder.training:
            return
        chooses = encoder.config.rule.chooses(training=True) and kwargs.get("halting_rule") is None
        if encoder.hold_depth is not None or not chooses:
            self._chose = False
            return
        cap = encoder.config.num_hidden_layers
        lowest = torch.where(output.depths > 0, output.depths, cap).min()
        self._depths.append(torch.stack([lowest, output.depths.max()]))

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """The halting unit's largest gradient."""
        if self._encoder.halting is not None:
            gradients = [p.grad for p in self._encoder.halting.parameters() if p.requires_grad and p.grad is not None]
            self._gradients += [gradient.abs().max() for gradient in gradients]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._last = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look at what has been since the last time."""
        if not is_logging_step(trainer, batch_idx):
            return
        rule, cap = self._encoder.config.rule, self._encoder.config.num_hidden_layers
        holds = dict.fromkeys((AT_ONCE, AT_THE_CAP, NO_GRADIENT), False)
        if self._chose and self._depths and cap > 1:
            low, high = torch.stack(self._depths).T
            lowest, highest = low.min().item(), high.max().item()
            holds[AT_ONCE], holds[AT_THE_CAP] = highest == 1, lowest == cap
            holds[NO_GRADIENT] = bool(self._gradients) and not torch.stack(self._gradients).any().item()
        for text, is_so in holds.items():
            if not is_so:
                self._since.pop(text, None)
            elif trainer.global_step - self._since.setdefault(text, self._last) >= STEPS and text not in self.said:
                self.said[text] = trainer.global_step
                advice = ADVICE[text] if rule.charges_for_depth else "the settings of the halting rule decide that"
                rank_zero_info(f"Depth: for {STEPS} steps, up to step {trainer.global_step:,}, {text}; {advice}.")
        self._last = trainer.global_step
        self._forget()

    def _forget(self) -> None:
        self._depths: list[Tensor] = []  # [2] each
        self._gradients: list[Tensor] = []
        self._chose = True
