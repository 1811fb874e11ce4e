"""Retrofit: a model that others trained, its layers tied by `depthlab convert`, learns to go as deep as it needs."""

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from depthlab.kinds import NOT_PREDICTED
from depthlab.models import AdaptiveAlbertForPreTraining
from depthlab.models.checkpoint import DepthSettings, load_checkpoint
from depthlab.models.heads import AdaptiveAlbertForPreTrainingOutput
from depthlab.optim import Lamb
from depthlab.tasks.losses import Loss
from depthlab.tasks.pretraining import MODEL_INPUTS, MaskedLanguageModelling
from depthlab.tasks.teaching import Answer, Teacher


class RetrofitTask(MaskedLanguageModelling):
    """Pre-train on from a checkpoint: at fixed depth first, then with the halting unit switched on.

    Args:
        checkpoint: what to start from: a directory that `depthlab convert` or `depthlab export` wrote, a run, or an
            ALBERT of Hugging Face's.
        depth: what of the checkpoint's configuration is to differ.
        teacher: directory or hub name of the model that was converted. It reads the text before masking.
        teaches: weights of what is learnt from it, see `depthlab.tasks.teaching.Teacher`; by default its layers.
        optimizer: the optimiser; biases and layer norms get neither weight decay nor trust ratio from any.
        warmup_steps: optimiser steps over which the learning rate rises.
        settings: as `MaskedLanguageModelling`.

    Raises:
        UserError: the checkpoint can't be loaded; the teacher can't, has another vocabulary or width, or
            teaches nothing; a number is negative.
    """

    def __init__(
        self,
        checkpoint: str,
        depth: DepthSettings | None = None,
        teacher: str | None = None,
        teaches: Mapping[str, float] | None = None,
        optimizer: OptimizerCallable = Lamb,
        warmup_steps: int = 100,
        **settings: Any,
    ) -> None:
        depth = depth or DepthSettings()
        model = load_checkpoint(AdaptiveAlbertForPreTraining, checkpoint, depth.given())
        super().__init__(model, optimizer, warmup_steps, **settings)
        self.learn_depth(depth)
        teaches = {"layers": 1.0} if teaches is None else teaches
        self.teacher = None if teacher is None else Teacher(teacher, model.config, teaches)

    @property
    def loss_weights(self) -> dict[str, float]:
        """As in pre-training, and the teacher's."""
        return super().loss_weights | ({} if self.teacher is None else self.teacher.weights)

    def _is_taught(self) -> bool:
        return self.teacher is not None and self.training

    def run_model(self, batch: dict[str, Tensor]) -> AdaptiveAlbertForPreTrainingOutput:
        """What the model says of a batch, with all states where they are compared."""
        compares = self._is_taught() and self.teacher.wants_states
        return self.model(**{name: batch[name] for name in MODEL_INPUTS}, output_hidden_states=compares or None)

    def losses(self, batch: dict[str, Tensor], outputs: AdaptiveAlbertForPreTrainingOutput) -> dict[str, Loss]:
        """As in pre-training; and what is learnt from the teacher, per sequence, in training."""
        losses = super().losses(batch, outputs)
        if self._is_taught():
            unmasked = torch.where(batch["labels"] == NOT_PREDICTED, batch["input_ids"], batch["labels"])
            inputs = {"input_ids": unmasked, **{name: batch[name] for name in ("attention_mask", "token_type_ids")}}
            losses |= self.teacher.losses(
                inputs, Answer(outputs.last_hidden_state, outputs.hidden_states, outputs.depths)
            )
        return losses
