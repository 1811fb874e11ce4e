"""What all tasks share: named losses, the optimiser and its schedule, the configuration beside the weights."""

import math
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from depthlab.errors import UserError, notice
from depthlab.models import AdaptiveAlbertConfig
from depthlab.models.checkpoint import DepthSettings, fit_to_depth
from depthlab.models.inputs import check_vocabulary, most_tokens
from depthlab.models.trained import check_rule
from depthlab.optim import parameter_groups, warmup_polynomial_decay
from depthlab.tasks.losses import Loss, LossSums, global_mean
from depthlab.tasks.steering import DepthTarget, target_of

FREE_TO_CHANGE = {
    *("execution", "time_penalty", "halting_bias_init", "transformers_version", "dtype", "architectures"),
    "_name_or_path",
}
"""Fields of the configuration in which a run may differ from the checkpoint it goes on from."""
DEPTH = {
    *("act_epsilon", "act_cap", "act_update", "halting", "halting_settings", "num_hidden_layers"),
    "num_hidden_groups",  # as many, where they are not tied
}
"""Those in which an evaluation may differ, too: how deep the same weights go."""


def check_data(checkpoint: str, model: PreTrainedModel, pieces: int, max_length: int) -> None:
    """Hold the data against the model of a checkpoint.

    Raises:
        UserError: the tokenizer is not the model's own; a sequence may be longer than the model can read.
    """
    check_vocabulary(checkpoint, model.config, pieces)
    most = most_tokens(model)
    if most is not None and max_length > most:
        raise UserError(
            f"data.max_length {max_length} is over the {most} position embeddings of {checkpoint}: lower it"
        )


def ends_step(trainer: Trainer, batch_idx: int) -> bool:
    """Whether training batch `batch_idx` ended an optimiser step."""
    return (batch_idx + 1) % trainer.accumulate_grad_batches == 0


def is_logging_step(trainer: Trainer, batch_idx: int) -> bool:
    """Whether it ended one after which statistics are logged."""
    every = trainer.log_every_n_steps
    return ends_step(trainer, batch_idx) and every > 0 and trainer.global_step % every == 0


class Task(LightningModule):
    """A model in training: what it is charged is a sum of named losses.

    A task says how to run the model and what to charge for a batch (`run_model`, `losses`). All else follows from the
    names: weights, means over the global batch (all ranks, all accumulated pieces), the total, and
    `{train,val,test}/loss/{<name>,total}` in the logs. A loss that is there in some steps only, as a teacher's, is
    logged for those. Any loaders do: batches say in `window_sequences` and `window_predicted` how much a rank's share
    of the optimiser step holds, or each piece of it counts the same.

    Args:
        model: of Hugging Face's kind.
        optimizer: the optimiser; biases and layer norms get neither weight decay nor trust ratio from any.
        warmup_steps: optimiser steps over which the learning rate rises.
        decay_share: share of the budget, `trainer.max_steps` (or `max_epochs`) or `max_time`, over which the learning
            rate falls linearly to 0 at the end. 1 is ALBERT's: it falls from the warm-up on. With less, such as 0.2, it
            is constant until then, so that a run that is given more goes on as if it had had that from the start.

    Raises:
        UserError: a number of steps is negative; a share is none.
    """

    halting_lr_factor: float = 1.0
    """Times the learning rate: that of what the halting rule learns."""
    new_unit: bool = False
    """Whether that begins anew where training begins."""
    depth_target: DepthTarget | None = None
    """Steers tau; None where it is what it is."""
    cannot_train: UserError | None = None
    """Why settings of depth are none to train by; whoever evaluates by another rule need not mind."""
    task: str | None = None
    """Name of what is learnt, where an experiment has several such."""
    monitor: str | None = None
    """What validation logs that is highest for the state of a run to keep; None where the last one counts."""

    def __init__(
        self, model: PreTrainedModel, optimizer: OptimizerCallable, warmup_steps: int, decay_share: float = 1.0
    ) -> None:
        super().__init__()
        if warmup_steps < 0:
            raise UserError(f"model.warmup_steps must not be negative, got {warmup_steps}")
        if not 0 < decay_share <= 1:
            raise UserError(f"model.decay_share must lie in (0, 1], got {decay_share}")
        self.model = model
        model.losses_elsewhere = True
        self.optimizer = optimizer
        self.warmup_steps = warmup_steps
        self.decay_share = decay_share
        self.loss_sums = {stage: LossSums() for stage in ("train", "val", "test")}

    def run_model(self, batch: dict[str, Tensor]) -> ModelOutput:
        """What the model says of a batch."""
        raise NotImplementedError

    def losses(self, batch: dict[str, Tensor], outputs: ModelOutput) -> dict[str, Loss]:
        """What a batch is charged, by name; on all ranks the same names."""
        raise NotImplementedError

    @property
    def loss_weights(self) -> dict[str, float | Tensor]:
        """In the total; a loss that is not named here counts once."""
        return {"ponder": self.time_penalty}

    @property
    def time_penalty(self) -> float | Tensor:
        """Tau; 0 where depth costs nothing: there is none, or the rule does not charge for it."""
        config = self.model.config
        given = 0.0 if self.cap is None or not config.rule.charges_for_depth else config.time_penalty
        return given if self.depth_target is None else given * self.depth_target.factor

    @property
    def data_module(self) -> LightningDataModule | None:
        """The trainer's, where it has one: it may know more of the data than batches say."""
        return self.trainer.datamodule

    @property
    def cap(self) -> int | None:
        """L of the model; None where its tokens have no depth of their own."""
        config = self.model.config
        return config.num_hidden_layers if isinstance(config, AdaptiveAlbertConfig) else None

    def learn_depth(self, settings: DepthSettings) -> None:
        """Take over what settings of depth say of training; `cannot_train` is what is wrong with them."""
        self.halting_lr_factor, self.new_unit = settings.halting_lr_factor, settings.new_unit
        try:
            if self.cap is None and (settings.halting_lr_factor != 1 or settings.new_unit):
                raise UserError("model.depth is of ALBERTs: here no halting unit begins anew, or has a learning rate")
            if settings.target is not None:
                self.depth_target = target_of(self.model.config, self.cap, settings.target)
        except UserError as error:
            self.cannot_train = error

    @property
    def depth_has_its_price(self) -> bool:
        """Whether tau is there in full, and depth can answer to it."""
        return True

    def facts(self) -> dict[str, Any]:
        """What `results.json` says of a run beside its numbers."""
        return {}

    def setup(self, stage: str) -> None:
        """Hold the trainer's settings against each other; a new halting unit is new where training begins, only there.

        Raises:
            UserError: an epoch ends inside an optimiser step; settings of depth are none that it can be trained by.
        """
        if stage == "fit" and self.cannot_train is not None:
            raise self.cannot_train
        new = getattr(self.model, "new_weights", ())
        if stage == "fit" and new and self.trainer.ckpt_path is None:  # a run that goes on has them
            notice(f"new, and to be trained: {', '.join(new)}")
        if stage == "fit" and self.new_unit:
            encoder = self.model.base_model.encoder
            encoder.halting = encoder.rule.unit(self.model.config.hidden_size)
            if encoder.halting is not None:
                encoder.halting.apply(self.model._init_weights)
        limit, accumulate = self.trainer.limit_train_batches, self.trainer.accumulate_grad_batches
        # A share of an epoch, but for all of it, may be any number.
        is_whole = limit % accumulate == 0 if isinstance(limit, int) else accumulate == 1 or limit == 1.0
        if not is_whole and not self.trainer.fast_dev_run:
            raise UserError(
                f"trainer.limit_train_batches {limit} would cut an optimiser step short: make it a multiple of "
                f"trainer.accumulate_grad_batches {accumulate}"
            )

    def compute(self, stage: str, batch: dict[str, Tensor]) -> tuple[ModelOutput, dict[str, Loss]]:
        """Run the model, and count what it is charged."""
        outputs = self.run_model(batch)
        if stage == "train" and self.depth_target is not None and self.depth_has_its_price:
            self.depth_target.add(outputs.depths, batch["attention_mask"])
        losses = self.losses(batch, outputs)
        self.loss_sums[stage].add(losses)
        return outputs, losses

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """One piece of an optimiser step.

        Returns:
            loss: scaled so that the mean over ranks of the sums over pieces, which is what Lightning and DDP make of
                it, is the loss of the global batch.
            depths, remainders: [B, T], for who watches; absent where the model has no depth.
        """
        outputs, losses = self.compute("train", batch)
        return {"loss": global_mean(losses, self.loss_weights, batch, self.trainer), **watched(outputs)}

    def on_validation_epoch_end(self) -> None:
        self.log_stage("val")

    def on_test_epoch_end(self) -> None:
        self.log_stage("test")

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Steer, and log what has gathered since the last time, from all ranks."""
        if self.depth_target is not None and ends_step(self.trainer, batch_idx):
            self.depth_target.steer(self.trainer.strategy)
        if is_logging_step(self.trainer, batch_idx):
            self.log_stage("train")

    def log_stage(self, stage: str) -> None:
        """Log the means of all losses since the last time, and their total."""
        means = self.loss_sums[stage].read(self.trainer.strategy)
        weights = self.loss_weights
        total = sum(weights.get(name, 1.0) * mean for name, mean in means.items())
        logged = {f"{stage}/loss/{name}": mean for name, mean in means.items()}
        is_training = stage == "train"
        by_itself = False if is_training else None
        self.log(f"{stage}/loss/total", total, prog_bar=is_training, logger=by_itself)
        self.log_dict(logged, logger=by_itself)
        if is_training:  # `self.log` would repeat the last value of a loss that is there no more until the epoch ends
            for logger in self.loggers:
                logger.log_metrics({"train/loss/total": total} | logged, self.global_step - 1)
            if self.cap is not None:
                self.log("train/time_penalty", self.time_penalty)

    def configure_optimizers(self) -> dict[str, Any]:
        """The optimiser over the groups of `parameter_groups`, and the schedule over the trainer's steps and time.

        Raises:
            UserError: the trainer has no end.
        """
        steps = self.trainer.estimated_stepping_batches
        if math.isinf(steps) and self._timer is None:
            raise UserError(
                "set trainer.max_epochs, trainer.max_steps or trainer.max_time: the learning rate falls until the end"
            )
        is_steered = self.depth_target is not None
        halting = self.model.base_model.encoder.halting if is_steered or self.halting_lr_factor != 1 else None
        if halting is not None and not any(parameter.requires_grad for parameter in halting.parameters()):
            halting = None  # a rule of yours may learn nothing; a unit may be frozen
        optimizer = self.optimizer(parameter_groups(self.model, apart=halting))
        lasting = set()
        if halting is not None:
            optimizer.param_groups[-1]["lr"] *= self.halting_lr_factor
            if is_steered:  # the unit still has to come to the target while all else comes to rest
                lasting = {len(optimizer.param_groups) - 1}
        budget = (self.warmup_steps, steps, self.decay_share, self._time_used)
        schedule = warmup_polynomial_decay(optimizer, *budget, lasting)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    @property
    def _timer(self) -> Timer | None:
        """What Lightning makes of `trainer.max_time`; checkpoints hold the time that has passed."""
        timers = (callback for callback in self.trainer.callbacks if isinstance(callback, Timer))
        return next((timer for timer in timers if timer.time_remaining() is not None), None)

    def _time_used(self) -> float:
        """Share of the time that has passed, on rank 0: ranks must not learn at different rates."""
        if self._timer is None:
            return 0.0
        elapsed = self._timer.time_elapsed()
        return self.trainer.strategy.broadcast(elapsed / (elapsed + self._timer.time_remaining()))

    @property
    def _config_name(self) -> str:
        """Where a checkpoint has the configuration: who looks for a model of ours takes no other for one."""
        return "other_config" if self.cap is None else "model_config"

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what is learnt and the configuration beside the weights, and what the price of depth has come to."""
        if self.task is not None:
            checkpoint["task"] = self.task
        checkpoint[self._config_name] = self.model.config.to_dict()
        if self.depth_target is not None:
            checkpoint["depth_target"] = self.depth_target.state

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Hold the checkpoint's task and configuration against these. Weights may be evaluated at other depths.

        Raises:
            UserError: they differ in what the weights were trained for, or these know nothing of such depths.
        """
        if checkpoint.get("task") != self.task:
            theirs, ours = (name or "another experiment" for name in (checkpoint.get("task"), self.task))
            raise UserError(
                f"--ckpt_path holds a model of {theirs}, not of {ours}; to train it on, give it as --model.checkpoint"
            )
        ours, theirs = self.model.config.to_dict(), checkpoint.get(self._config_name)
        if theirs is None:
            raise UserError("the checkpoint of --ckpt_path is not one of depthlab's, or of another kind of model")
        fits = self.trainer.state.fn == TrainerFn.FITTING
        for name in ours.keys() & theirs.keys() - FREE_TO_CHANGE - (set() if fits or self.cap is None else DEPTH):
            if ours[name] != theirs[name]:
                raise UserError(
                    f"model.config.{name} is {ours[name]!r}, but the checkpoint of --ckpt_path has {theirs[name]!r}: "
                    "use the configuration that it was trained with"
                )
        if self.depth_target is not None and "depth_target" in checkpoint:
            self.depth_target.state = checkpoint["depth_target"]
        if not fits and self.cap is not None:
            check_rule("the checkpoint of --ckpt_path", theirs.get("halting", "act"), ours["halting"])
            weights, prefix = checkpoint["state_dict"], "model."
            of_model = {name.removeprefix(prefix): w for name, w in weights.items() if name.startswith(prefix)}
            kept = fit_to_depth(of_model, self.model, "the checkpoint of --ckpt_path")
            for name in of_model.keys() - kept.keys():
                del weights[prefix + name]


def watched(outputs: ModelOutput) -> dict[str, Tensor]:
    """What of a model's outputs is for who watches: depths and remainders, [B, T] each, where it has them."""
    if "depths" not in outputs:
        return {}
    return {"depths": outputs.depths, "remainders": outputs.remainders.detach()}
