"""Distillation: a model learns a trained encoder's answers at adaptive depth. No labels."""

import itertools
from collections.abc import Mapping

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor
from torch.optim import AdamW
from transformers.utils import ModelOutput

from depthlab.models import AdaptiveAlbertModel
from depthlab.models.checkpoint import DepthSettings, load_checkpoint
from depthlab.models.encoder import Iteration
from depthlab.models.halting.route import Route
from depthlab.models.halting.router import Router
from depthlab.tasks.base import check_data
from depthlab.tasks.losses import Loss
from depthlab.tasks.scheduled import ScheduledDepth
from depthlab.tasks.teaching import Answer, Teacher

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
START_BATCHES = 30
"""Micro-batches of training text from which a new router learns a score."""
SENTENCES = {"layers": 1.0, "direction": 1.0, "pairs": 10.0}


class DistillationTask(ScheduledDepth):
    """Learn what a teacher makes of texts: depth becomes the iterations that a token needs until its answer stands.

    Args:
        checkpoint: what to start from: a directory that `depthlab convert` or `depthlab export` wrote, or a run.
        teacher: directory or hub name of the model that was converted, or of another of the same vocabulary and width.
        teaches: weights of what is learnt from it, see `depthlab.tasks.teaching.Teacher`.
        depth: what of the checkpoint's configuration is to differ.
        optimizer: the optimiser; biases and layer norms get neither weight decay nor trust ratio from any.
        warmup_steps: optimiser steps over which the learning rate rises.
        time_penalty_warmup_steps: as `ScheduledDepth`.
        fixed_depth_steps: as `ScheduledDepth`.
        decay_share: as `Task`.

    Raises:
        UserError: the checkpoint can't be loaded; the teacher can't, or teaches nothing; a number is negative.
    """

    def __init__(
        self,
        checkpoint: str,
        teacher: str,
        teaches: Mapping[str, float] | None = None,
        depth: DepthSettings | None = None,
        optimizer: OptimizerCallable = AdamW,
        warmup_steps: int = 100,
        time_penalty_warmup_steps: int = 0,
        fixed_depth_steps: int = 0,
        decay_share: float = 1.0,
    ) -> None:
        depth = depth or DepthSettings()
        model = load_checkpoint(AdaptiveAlbertModel, checkpoint, depth.given())
        super().__init__(model, optimizer, warmup_steps, time_penalty_warmup_steps, fixed_depth_steps, decay_share)
        self.learn_depth(depth)
        self.checkpoint = checkpoint
        self.teacher = Teacher(teacher, model.config, SENTENCES if teaches is None else teaches)

    def on_fit_start(self) -> None:
        """A router of `route` that knows nothing starts from a score: rarity of a piece and change of its state."""
        router, rule = self.model.encoder.halting, self.model.config.rule
        if isinstance(rule, Route) and rule.route_at and isinstance(router, Router) and not router.score_weight.any():
            if self.trainer.is_global_zero:
                self._start(router)
            for parameter in router.parameters():
                parameter.data = self.trainer.strategy.broadcast(parameter.data)

    def check_data(self, pieces: int, max_length: int) -> None:
        """As the function in `base.py`."""
        check_data(self.checkpoint, self.model, pieces, max_length)

    @torch.no_grad()
    def _start(self, router: Router) -> None:
        rule = self.model.config.rule
        found: list[tuple[Tensor, Tensor, Tensor]] = []  # states before and after, and pieces

        def watch(iteration: Iteration) -> None:
            if iteration.n == rule.route_at:
                found.append((iteration.before, iteration.new, batch["input_ids"].flatten()[iteration.position]))

        for batch in itertools.islice(self.trainer.datamodule.train_dataloader(), START_BATCHES):
            batch = {name: values.to(self.device) for name, values in batch.items()}
            self.model(**{name: batch[name] for name in INPUTS}, observer=watch)
        before, new, pieces = (torch.cat(parts) for parts in zip(*found, strict=True))
        rarity = -pieces.bincount().log()
        change = (new - before).norm(dim=-1) / before.norm(dim=-1)
        scores = sum((score - score.mean()) / score.std() for score in (rarity[pieces], change))
        router.start_from(before, new, scores, rule.route_share)

    @property
    def loss_weights(self) -> dict[str, float]:
        """As for every task, and the teacher's."""
        return super().loss_weights | self.teacher.weights

    def run_model(self, batch: dict[str, Tensor]) -> ModelOutput:
        """What the model says of a batch, with all states where they are compared."""
        inputs = {name: batch[name] for name in INPUTS}
        return self.model(**inputs, output_hidden_states=self.teacher.wants_states or None)

    def losses(self, batch: dict[str, Tensor], outputs: ModelOutput) -> dict[str, Loss]:
        """What is learnt from the teacher, and the ponder cost, per sequence."""
        inputs = {name: batch[name] for name in INPUTS}
        losses = self.teacher.losses(inputs, Answer(outputs.last_hidden_state, outputs.hidden_states, outputs.depths))
        return losses | {"ponder": Loss(outputs.ponder_cost)}
