"""Pre-training: masked language modelling, sentence order prediction, and the ponder cost, per global batch."""

from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torch.optim import Optimizer

from depthlab.errors import UserError
from depthlab.metrics import PretrainingMetrics
from depthlab.models import AdaptiveAlbertConfig, AdaptiveAlbertForPreTraining
from depthlab.models.heads import AdaptiveAlbertForPreTrainingOutput
from depthlab.optim import Lamb
from depthlab.tasks.base import Task

MODEL_INPUTS = ("input_ids", "attention_mask", "token_type_ids", "labels", "sentence_order_label")


class MaskedLanguageModelling(Task):
    """Train an adaptive ALBERT with MLM, SOP and the ponder cost, wherever it comes from.

    Every loss is a mean over the global batch (all ranks, all accumulated pieces): MLM over its predicted tokens, SOP
    and ponder cost over its sequences.

    Args:
        model: what to train.
        optimizer: as in `PretrainingTask`, like the following.
        warmup_steps: see there.
        time_penalty_warmup_steps: see there.
        fixed_depth_steps: see there.

    Raises:
        UserError: a number of steps is negative.
    """

    def __init__(
        self,
        model: AdaptiveAlbertForPreTraining,
        optimizer: OptimizerCallable,
        warmup_steps: int,
        time_penalty_warmup_steps: int,
        fixed_depth_steps: int,
    ) -> None:
        super().__init__(model, optimizer, warmup_steps)
        for name, value in {
            "time_penalty_warmup_steps": time_penalty_warmup_steps,
            "fixed_depth_steps": fixed_depth_steps,
        }.items():
            if value < 0:
                raise UserError(f"model.{name} must not be negative, got {value}")
        self.time_penalty_warmup_steps = time_penalty_warmup_steps
        self.fixed_depth_steps = fixed_depth_steps
        self._steps_of_checkpoint = 0  # the trainer's own count stays 0 where it only evaluates
        self.train_metrics = PretrainingMetrics(model.config.vocab_size)
        self.val_metrics = PretrainingMetrics(model.config.vocab_size)

    def setup(self, stage: str) -> None:
        """Hold the data against the model.

        Raises:
            UserError: vocabulary or length of the data do not fit the model; an epoch ends inside an optimiser step.
        """
        config, data = self.model.config, self.trainer.datamodule
        if data.vocab_size != config.vocab_size:
            raise UserError(
                f"model.config.vocab_size is {config.vocab_size}, but the tokenizer has {data.vocab_size} pieces: "
                "make model.config.vocab_size and data.vocab_size agree"
            )
        if data.max_length > config.max_position_embeddings:
            raise UserError(
                f"data.max_length {data.max_length} is over model.config.max_position_embeddings "
                f"{config.max_position_embeddings}: lower the first or raise the second"
            )
        super().setup(stage)

    @property
    def time_penalty(self) -> float:
        """Tau of this optimiser step: 0 while depth is fixed, then rising over `time_penalty_warmup_steps`."""
        step = max(self.global_step, self._steps_of_checkpoint) - self.fixed_depth_steps
        if step < 0 or not self.model.config.rule.charges_for_depth:
            return 0.0
        return self.model.config.time_penalty * min(1.0, (step + 1) / max(1, self.time_penalty_warmup_steps))

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """One piece of an optimiser step.

        Returns:
            loss: scaled so that the mean over ranks of the sums over pieces, which is what Lightning and DDP make of
                it, is the loss of the global batch.
            depths, remainders: [B, T], for who watches.
        """
        encoder = self.model.albert.encoder
        encoder.hold_depth = self.global_step < self.fixed_depth_steps
        outputs, sequence_losses = self._run_model(batch)
        _update(self.train_metrics, batch, outputs)

        totals = torch.stack([batch["window_predicted"], batch["window_sequences"]])
        predicted, sequences = self.trainer.strategy.reduce(totals, reduce_op="sum")
        loss = outputs.mlm_loss * len(outputs.prediction_logits) / predicted.clamp(min=1)
        loss = loss + sequence_losses / sequences
        if encoder.hold_depth:
            # DDP expects a gradient of every parameter; the halting unit's is dropped before the optimiser sees it.
            loss = loss + 0.0 * sum(parameter.sum() for parameter in self._halting_parameters())
        else:
            loss = loss + self.time_penalty * outputs.ponder_cost.sum() / sequences
        pieces = self.trainer.world_size * self.trainer.accumulate_grad_batches
        return {"loss": loss * pieces, "depths": outputs.depths, "remainders": outputs.remainders.detach()}

    def _run_model(self, batch: dict[str, Tensor]) -> tuple[AdaptiveAlbertForPreTrainingOutput, Tensor]:
        """The model's outputs, and the sum over sequences of what each of them is charged beside MLM and depth."""
        outputs = self.model(**{name: batch[name] for name in MODEL_INPUTS})
        return outputs, outputs.sop_loss * len(batch["input_ids"])

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Returns depths and remainders, [B, T], for who watches."""
        outputs = self.model(**{name: batch[name] for name in MODEL_INPUTS})
        _update(self.val_metrics, batch, outputs)
        return {"depths": outputs.depths, "remainders": outputs.remainders}

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """While depth is fixed nothing may move the halting unit, weight decay included."""
        if self.model.albert.encoder.hold_depth:
            for parameter in self._halting_parameters():
                parameter.grad = None

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Log what has gathered since the last time, from all ranks."""
        if self.is_logging_step(batch_idx):
            self._log_metrics("train", self.train_metrics, prog_bar=True)
            self.log("train/time_penalty", self.time_penalty)

    def on_validation_epoch_end(self) -> None:
        """Log the means over the held-out documents."""
        self._log_metrics("val", self.val_metrics)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the configuration beside the weights, and whether depth is still fixed."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["hold_depth"] = self.model.albert.encoder.hold_depth

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Hold the checkpoint's configuration against this one.

        Raises:
            UserError: they differ in what the weights were trained for, or were trained for something else.
        """
        if "hold_depth" not in checkpoint:
            raise UserError("the checkpoint of --ckpt_path is not one of depthlab's pre-training runs")
        super().on_load_checkpoint(checkpoint)
        self.model.albert.encoder.hold_depth = checkpoint["hold_depth"]
        self._steps_of_checkpoint = checkpoint["global_step"]

    def _halting_parameters(self) -> list[nn.Parameter]:
        halting = self.model.albert.encoder.halting
        return [] if halting is None else list(halting.parameters())

    def _log_metrics(self, stage: str, metrics: PretrainingMetrics, prog_bar: bool = False) -> None:
        values = {name: value.float() for name, value in metrics.compute().items()}
        metrics.reset()
        total = values["loss/mlm"] + values["loss/sop"] + self.time_penalty * values["loss/ponder"]
        self.log(f"{stage}/loss/total", total, prog_bar=prog_bar)
        self.log_dict({f"{stage}/{name}": value for name, value in values.items()})


class PretrainingTask(MaskedLanguageModelling):
    """Pre-train an adaptive ALBERT from scratch.

    Args:
        config: the model, as Hugging Face configures ALBERT, plus what decides its depth.
        optimizer: the optimiser; biases and layer norms get neither weight decay nor trust ratio from any.
        warmup_steps: optimiser steps over which the learning rate rises; it falls linearly until the last step.
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
        config: AdaptiveAlbertConfig,
        optimizer: OptimizerCallable = Lamb,
        warmup_steps: int = 3125,
        time_penalty_warmup_steps: int = 0,
        fixed_depth_steps: int = 0,
    ) -> None:
        model = AdaptiveAlbertForPreTraining(config)
        super().__init__(model, optimizer, warmup_steps, time_penalty_warmup_steps, fixed_depth_steps)


def _update(metrics: PretrainingMetrics, batch: dict[str, Tensor], outputs: Any) -> None:
    metrics.update(
        mlm_loss=outputs.mlm_loss.detach(),
        prediction_logits=outputs.prediction_logits.detach(),
        labels=batch["labels"],
        sop_loss=outputs.sop_loss.detach(),
        sop_logits=outputs.sop_logits.detach(),
        sentence_order_label=batch["sentence_order_label"],
        ponder_cost=outputs.ponder_cost.detach(),
    )
