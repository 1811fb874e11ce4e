"""Pre-training: masked language modelling, sentence order prediction, and the ponder cost, per global batch."""

from typing import Any

from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers.utils import ModelOutput

from depthlab.errors import UserError
from depthlab.metrics import PretrainingMetrics
from depthlab.models import AdaptiveAlbertConfig, AdaptiveAlbertForPreTraining
from depthlab.models.heads import AdaptiveAlbertForPreTrainingOutput
from depthlab.optim import Lamb
from depthlab.tasks.base import Task, watched
from depthlab.tasks.losses import Loss

MODEL_INPUTS = ("input_ids", "attention_mask", "token_type_ids", "labels", "sentence_order_label")


class MaskedLanguageModelling(Task):
    """Train an adaptive ALBERT with MLM, SOP and the ponder cost, wherever it comes from.

    Args:
        model: what to train.
        optimizer: as `Task`.
        warmup_steps: as `Task`.
        decay_share: as `Task`.
        time_penalty_warmup_steps: optimiser steps over which the time penalty tau rises from 0, counted from where
            halting begins. 0 (the paper) has all of it from the start; a ramp keeps tokens from collapsing to depth 1
            before depth pays.
        fixed_depth_steps: optimiser steps for which every token takes all iterations and the halting unit rests. Then
            it is switched on with its initial bias: with `act_update: accumulate`, `act_cap: remainder` and a low
            `halting_bias_init` the model's output does not jump.

    Raises:
        UserError: a number of steps is negative.
    """

    def __init__(
        self,
        model: AdaptiveAlbertForPreTraining,
        optimizer: OptimizerCallable,
        warmup_steps: int,
        decay_share: float = 1.0,
        time_penalty_warmup_steps: int = 0,
        fixed_depth_steps: int = 0,
    ) -> None:
        super().__init__(model, optimizer, warmup_steps, decay_share)
        if time_penalty_warmup_steps < 0:
            raise UserError(f"model.time_penalty_warmup_steps must not be negative, got {time_penalty_warmup_steps}")
        if fixed_depth_steps < 0:
            raise UserError(f"model.fixed_depth_steps must not be negative, got {fixed_depth_steps}")
        self.time_penalty_warmup_steps = time_penalty_warmup_steps
        self.fixed_depth_steps = fixed_depth_steps
        self._steps_of_checkpoint = 0  # the trainer's own count stays 0 where it only evaluates
        self.train_metrics = PretrainingMetrics(model.config.vocab_size)
        self.val_metrics = PretrainingMetrics(model.config.vocab_size)

    def check_data(self, pieces: int, max_length: int) -> None:
        """As the function in `base.py`, for a vocabulary that is the user's to choose, and must be the same."""
        config = self.model.config
        if pieces != config.vocab_size:
            raise UserError(
                f"model.config.vocab_size is {config.vocab_size}, but the tokenizer has {pieces} pieces: "
                "make model.config.vocab_size and data.vocab_size agree"
            )
        if max_length > config.max_position_embeddings:
            raise UserError(
                f"data.max_length {max_length} is over model.config.max_position_embeddings "
                f"{config.max_position_embeddings}: lower the first or raise the second"
            )

    @property
    def time_penalty(self) -> float:
        """Tau of this optimiser step: 0 while depth is fixed, then rising over `time_penalty_warmup_steps`."""
        step = max(self.global_step, self._steps_of_checkpoint) - self.fixed_depth_steps
        if step < 0:
            return 0.0
        return super().time_penalty * min(1.0, (step + 1) / max(1, self.time_penalty_warmup_steps))

    def run_model(self, batch: dict[str, Tensor]) -> AdaptiveAlbertForPreTrainingOutput:
        """What the model says of a batch, with all losses."""
        return self.model(**{name: batch[name] for name in MODEL_INPUTS})

    def losses(self, batch: dict[str, Tensor], outputs: AdaptiveAlbertForPreTrainingOutput) -> dict[str, Loss]:
        """MLM per predicted token; SOP and the ponder cost per sequence."""
        return {
            "mlm": Loss(outputs.mlm_loss, len(outputs.prediction_logits), "predicted"),
            "sop": Loss(outputs.sop_loss, len(batch["input_ids"])),
            "ponder": Loss(outputs.ponder_cost),
        }

    def compute(self, stage: str, batch: dict[str, Tensor]) -> tuple[ModelOutput, dict[str, Loss]]:
        """As for every task, and count what was right."""
        outputs, losses = super().compute(stage, batch)
        mlm, sop = outputs.prediction_logits.detach(), outputs.sop_logits.detach()
        self.get_submodule(f"{stage}_metrics").update(mlm, batch["labels"], sop, batch["sentence_order_label"])
        return outputs, losses

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """As for every task, at fixed depth first."""
        encoder = self.model.albert.encoder
        encoder.hold_depth = self.global_step < self.fixed_depth_steps
        step = super().training_step(batch, batch_idx)
        if encoder.hold_depth:
            # DDP expects a gradient of every parameter; the halting unit's is dropped before the optimiser sees it.
            step["loss"] = step["loss"] + 0.0 * sum(parameter.sum() for parameter in self._halting_parameters())
        return step

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Returns depths and remainders, [B, T], for who watches."""
        return watched(self.compute("val", batch)[0])

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """While depth is fixed nothing may move the halting unit, weight decay included."""
        if self.model.albert.encoder.hold_depth:
            for parameter in self._halting_parameters():
                parameter.grad = None

    def log_stage(self, stage: str) -> None:
        """As for every task, and accuracies; in training tau, too."""
        super().log_stage(stage)
        metrics = self.get_submodule(f"{stage}_metrics")
        self.log_dict({f"{stage}/{name}": value.float() for name, value in metrics.compute().items()})
        metrics.reset()
        if stage == "train":
            self.log("train/time_penalty", self.time_penalty)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep whether depth is still fixed, too."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["hold_depth"] = self.model.albert.encoder.hold_depth

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """As for every task; and go on with depth fixed or not, as it was."""
        if "hold_depth" not in checkpoint:
            raise UserError("the checkpoint of --ckpt_path is not one of depthlab's pre-training runs")
        super().on_load_checkpoint(checkpoint)
        self.model.albert.encoder.hold_depth = checkpoint["hold_depth"]
        self._steps_of_checkpoint = checkpoint["global_step"]

    def _halting_parameters(self) -> list[nn.Parameter]:
        halting = self.model.albert.encoder.halting
        return [] if halting is None else list(halting.parameters())


class PretrainingTask(MaskedLanguageModelling):
    """Pre-train an adaptive ALBERT from scratch.

    Args:
        config: the model, as Hugging Face configures ALBERT, plus what decides its depth.
        optimizer: the optimiser; biases and layer norms get neither weight decay nor trust ratio from any.
        warmup_steps: optimiser steps over which the learning rate rises.
        settings: as `MaskedLanguageModelling`.

    Raises:
        UserError: a number of steps is negative.
    """

    def __init__(
        self,
        config: AdaptiveAlbertConfig,
        optimizer: OptimizerCallable = Lamb,
        warmup_steps: int = 3125,
        **settings: Any,
    ) -> None:
        super().__init__(AdaptiveAlbertForPreTraining(config), optimizer, warmup_steps, **settings)
