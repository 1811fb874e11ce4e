"""Retrofit: a model that others trained, its layers tied by `depthlab convert`, learns to go as deep as it needs."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor
from transformers import AutoModel, PreTrainedModel

from depthlab.errors import UserError
from depthlab.hub_errors import loaded
from depthlab.kinds import NOT_PREDICTED
from depthlab.models import AdaptiveAlbertForPreTraining
from depthlab.models.checkpoint import DepthSettings, load_checkpoint
from depthlab.models.heads import AdaptiveAlbertForPreTrainingOutput
from depthlab.optim import Lamb
from depthlab.tasks.losses import Loss
from depthlab.tasks.pretraining import MODEL_INPUTS, MaskedLanguageModelling


class RetrofitTask(MaskedLanguageModelling):
    """Pre-train on from a checkpoint: at fixed depth first, then with the halting unit switched on.

    Args:
        checkpoint: what to start from: a directory that `depthlab convert` or `depthlab export` wrote, a run, or an
            ALBERT of Hugging Face's.
        depth: what of the checkpoint's configuration is to differ.
        teacher: directory or hub name of the model that was converted. While depth is fixed, the iterations learn its
            layers' states: it reads the text before masking, and iteration n of L learns layer n L_teacher / L where
            that is a whole number.
        distillation_weight: weight of that loss, the mean over layers and tokens of |h - h_teacher|^2 / |h_teacher|^2.
        optimizer: the optimiser; biases and layer norms get neither weight decay nor trust ratio from any.
        warmup_steps: optimiser steps over which the learning rate rises.
        settings: as `MaskedLanguageModelling`.

    Raises:
        UserError: the checkpoint can't be loaded; the teacher can't, has another vocabulary or width, or would never
            teach; a number is negative.
    """

    def __init__(
        self,
        checkpoint: str,
        depth: DepthSettings | None = None,
        teacher: str | None = None,
        distillation_weight: float = 1.0,
        optimizer: OptimizerCallable = Lamb,
        warmup_steps: int = 100,
        **settings: Any,
    ) -> None:
        model = load_checkpoint(AdaptiveAlbertForPreTraining, checkpoint, {} if depth is None else depth.given())
        if distillation_weight < 0:
            raise UserError(f"model.distillation_weight must not be negative, got {distillation_weight}")
        if teacher is not None and not settings.get("fixed_depth_steps") and model.config.rule.adaptive:
            raise UserError("model.teacher teaches while depth is fixed: set model.fixed_depth_steps, or leave it out")
        super().__init__(model, optimizer, warmup_steps, **settings)
        self.distillation_weight = distillation_weight
        self._teacher = () if teacher is None else (self._load_teacher(teacher),)  # not one of our modules: not saved

    def _load_teacher(self, name: str) -> PreTrainedModel:
        teacher = loaded(f"model.teacher {name}", lambda: AutoModel.from_pretrained(name, dtype=torch.float32))
        teacher.eval().requires_grad_(False)
        for field in ("vocab_size", "hidden_size"):
            theirs, ours = getattr(teacher.config, field), getattr(self.model.config, field)
            if theirs != ours:
                raise UserError(
                    f"model.teacher {Path(name).name} has {field} {theirs}, the model {ours}: the teacher must be the "
                    "model that was converted"
                )
        return teacher

    @property
    def loss_weights(self) -> dict[str, float]:
        """As in pre-training, and the distillation's."""
        return super().loss_weights | {"distillation": self.distillation_weight}

    def _is_taught(self) -> bool:
        is_fixed = self.model.albert.encoder.hold_depth or not self.model.config.rule.adaptive
        return bool(self._teacher) and is_fixed and self.training

    def run_model(self, batch: dict[str, Tensor]) -> AdaptiveAlbertForPreTrainingOutput:
        """What the model says of a batch, with all states where the teacher has something to say of them."""
        return self.model(
            **{name: batch[name] for name in MODEL_INPUTS}, output_hidden_states=self._is_taught() or None
        )

    def losses(self, batch: dict[str, Tensor], outputs: AdaptiveAlbertForPreTrainingOutput) -> dict[str, Loss]:
        """As in pre-training; and the distillation, per sequence, while there is one."""
        losses = super().losses(batch, outputs)
        if self._is_taught():
            losses["distillation"] = Loss(self._distillation(batch, outputs.hidden_states))
        return losses

    def _distillation(self, batch: dict[str, Tensor], states: tuple[Tensor, ...]) -> Tensor:
        """[B], relative squared distance of the states, L + 1 x [B, T, H], from the teacher's."""
        teacher = self._teacher[0].to(self.device)
        unmasked = torch.where(batch["labels"] == NOT_PREDICTED, batch["input_ids"], batch["labels"])
        mask = batch["attention_mask"]
        with torch.no_grad():
            targets = teacher(
                unmasked, attention_mask=mask, token_type_ids=batch["token_type_ids"], output_hidden_states=True
            ).hidden_states
        layers, cap = len(targets) - 1, len(states) - 1
        distance = torch.zeros_like(mask, dtype=torch.float32)
        taught = [n for n in range(1, cap + 1) if n * layers % cap == 0]
        for n in taught:
            target = targets[n * layers // cap].float()
            distance = distance + (states[n].float() - target).square().sum(-1) / target.square().sum(-1)
        return (distance * mask).sum(dim=1) / mask.sum(dim=1) / len(taught)
