"""Fine-tuning: classes of texts or of pairs of texts, or a number for them, with the ponder cost in the loss."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities import rank_zero_info
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import AdamW
from torchmetrics import MeanMetric
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel
from transformers.utils import ModelOutput

from depthlab.errors import UserError
from depthlab.hub_errors import reason, retried
from depthlab.metrics import LabelDepthMetric
from depthlab.metrics.glue import GlueMetrics
from depthlab.models import AdaptiveAlbertConfig, AdaptiveAlbertForSequenceClassification
from depthlab.models.checkpoint import DepthSettings, load_checkpoint
from depthlab.models.imposed import imposed_depths
from depthlab.run.directory import find_checkpoint
from depthlab.tasks.base import Task, check_fit
from depthlab.tasks.controls import DepthControl, control_depths

OUR_TYPES = ("adaptive_albert", "adaptive_bert", "albert")
DROPOUTS = ("classifier_dropout", "seq_classif_dropout")
"""Hugging Face's names for the dropout before a classifier, ALBERT's aside."""


class ClassificationTask(Task):
    """Fine-tune a model to label texts: an adaptive ALBERT, or any sequence classifier of Hugging Face's.

    The loss is Hugging Face's, cross entropy or the squared error of a regression, and tau times the ponder cost; every
    part is a mean over the examples of the global batch (all ranks, all accumulated pieces). A model that is not an
    ALBERT has no depth: its loss has no ponder cost, and nothing of depths is logged.

    Args:
        task: name of what is learnt.
        labels: names of the classes; none for a regression.
        metrics: names in `depthlab.metrics.glue`, the score first.
        checkpoint: what to start from: a run of depthlab, a directory that `depthlab export` or `convert` wrote, or a
            directory or hub name of Hugging Face's. Its tokenizer is used, too.
        depth: what of the checkpoint's depth is to differ; for ALBERTs only.
        optimizer: the optimiser; biases and layer norms get no weight decay from any.
        warmup_steps: optimiser steps over which the learning rate rises; it falls linearly until the last step.
        classifier_dropout: dropout before the classifier; by default the checkpoint's.
        depth_control: take the depths that the model chose for the words of a text and give them to other words of it,
            in training and evaluation alike: "shuffled", or by "frequency", the rarest word the largest depth. The
            mean depth stays; what is lost tells whether it matters which token halts.

    Raises:
        UserError: the checkpoint can't be loaded, or has no such settings; a number is out of its range.
    """

    monitor = "val/score"

    def __init__(
        self,
        task: str,
        labels: Sequence[str],
        metrics: Sequence[str],
        checkpoint: str = "checkpoints/minilm-adaptive",
        depth: DepthSettings | None = None,
        optimizer: OptimizerCallable = AdamW,
        warmup_steps: int = 200,
        classifier_dropout: float | None = None,
        depth_control: DepthControl | None = None,
    ) -> None:
        if classifier_dropout is not None and not 0 <= classifier_dropout < 1:
            raise UserError(f"model.classifier_dropout must lie in [0, 1), got {classifier_dropout}")
        model = _load_model(checkpoint, labels, {} if depth is None else depth.given(), classifier_dropout)
        super().__init__(model, optimizer, warmup_steps)
        self.task, self.labels, self.metrics, self.checkpoint = task, tuple(labels), tuple(metrics), checkpoint
        self.losses = nn.ModuleDict(
            {f"{stage}/": nn.ModuleDict({"task": _mean(), "ponder": _mean()}) for stage in ("train", "val", "test")}
        )
        self.split_metrics = nn.ModuleDict()
        self.label_depths = LabelDepthMetric(len(labels)) if labels and self.cap is not None else None
        if depth_control is not None and self.time_penalty is None:
            raise UserError(
                f"model.depth_control needs tokens that choose their depth (halting act), and {checkpoint} has none"
            )
        self.depth_control = depth_control
        self._frequencies: Tensor | None = None  # [V], how often each piece occurs in the training split

    @property
    def time_penalty(self) -> float | None:
        """Tau; None where there is no ponder cost: the model has no depth, or a fixed one."""
        config = self.model.config
        return None if self.cap is None or not config.rule.charges_for_depth else config.time_penalty

    def facts(self) -> dict[str, Any]:
        """What is learnt, from what, and how."""
        config = self.model.config
        depth = ("halting", "act_update", "act_cap", "act_epsilon", "time_penalty") if self.cap is not None else ()
        return {
            "task": self.task,
            "metrics": list(self.metrics),
            "model": {
                "checkpoint": self.checkpoint,
                **{name: getattr(config, name) for name in ("model_type", "num_hidden_layers", *depth)},
                **getattr(config, "halting_settings", {}),
            },
            "learning_rate": self.trainer.optimizers[0].defaults["lr"],
            "warmup_steps": self.warmup_steps,
            "batch_size": self.trainer.datamodule.batch_size,
            **({} if self.depth_control is None else {"control": self.depth_control}),
        }

    def setup(self, stage: str) -> None:
        """Hold the data against the model.

        Raises:
            UserError: vocabulary or length of the data do not fit the model; an epoch ends inside an optimiser step.
        """
        super().setup(stage)
        config, data = self.model.config, self.trainer.datamodule
        check_fit(self.checkpoint, config, len(data.tokenizer), data.max_length)
        for split in (*data.val_splits, *data.test_splits):
            self.split_metrics[split] = GlueMetrics(self.metrics, is_regression=not self.labels)
        if self.depth_control == "frequency":
            self._frequencies = data.piece_counts(config.vocab_size)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """One piece of an optimiser step.

        Returns:
            loss: scaled so that the mean over ranks of the sums over pieces, which is what Lightning and DDP make of
                it, is the loss of the global batch.
            depths, remainders: [B, T], for who watches; absent where the model has no depth.
        """
        outputs = self._run_model(batch)
        losses = self._task_losses(outputs.logits, batch["labels"])
        self._count_losses("train", losses, outputs)
        total = losses.sum()
        if self.time_penalty is not None:
            total = total + self.time_penalty * outputs.ponder_cost.sum()
        sequences = self.trainer.strategy.reduce(batch["window_sequences"], reduce_op="sum")
        pieces = self.trainer.world_size * self.trainer.accumulate_grad_batches
        return {"loss": total / sequences * pieces, **_depths(outputs)}

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int, dataloader_idx: int = 0) -> dict[str, Tensor]:
        """Returns depths and remainders, [B, T], for who watches."""
        return self._evaluate("val", self.trainer.datamodule.val_splits[dataloader_idx], batch)

    def test_step(self, batch: dict[str, Tensor], batch_idx: int, dataloader_idx: int = 0) -> dict[str, Tensor]:
        """As in validation.

        Raises:
            UserError: the split has no labels.
        """
        split = self.trainer.datamodule.test_splits[dataloader_idx]
        if "labels" not in batch:
            raise UserError(f"{split} of {self.task} has no labels to test against: take `depthlab predict` for it")
        return self._evaluate("test", split, batch)

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int, dataloader_idx: int = 0) -> dict[str, Tensor]:
        """Returns predictions, [B]: classes, or numbers of a regression; and index, [B]: of which examples."""
        logits = self._run_model(batch).logits
        return {"predictions": logits.argmax(dim=1) if self.labels else logits[:, 0].float(), "index": batch["index"]}

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Log what has gathered since the last time, from all ranks."""
        if self.is_logging_step(batch_idx):
            self._log_losses("train", prog_bar=True)

    def on_validation_epoch_end(self) -> None:
        """Log scores, losses, and the depth of each class."""
        self._log_evaluation("val", self.trainer.datamodule.val_splits)

    def on_test_epoch_end(self) -> None:
        """Log scores, losses, and the depth of each class."""
        self._log_evaluation("test", self.trainer.datamodule.test_splits)

    def configure_optimizers(self) -> dict[str, Any]:
        """As for every task; a warm-up without end is pointed out."""
        configured = super().configure_optimizers()
        steps = int(self.trainer.estimated_stepping_batches)
        if self.warmup_steps >= steps:
            rank_zero_info(
                f"model.warmup_steps {self.warmup_steps} of {steps} steps in all: the learning rate rises to the end"
            )
        return configured

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what is learnt beside the weights."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["task"] = self.task

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Hold the checkpoint against this run.

        Raises:
            UserError: it is of another task or configuration.
        """
        if checkpoint.get("task") != self.task:
            raise UserError(
                f"--ckpt_path holds a model of {checkpoint.get('task', 'another experiment')}, not of {self.task}; to "
                "fine-tune it, give it as --model.checkpoint"
            )
        super().on_load_checkpoint(checkpoint)

    def _run_model(self, batch: dict[str, Tensor]) -> ModelOutput:
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        if getattr(self.model.config, "type_vocab_size", 0) > 1:
            inputs["token_type_ids"] = batch["token_type_ids"]
        if self.depth_control is None:
            return self.model(**inputs)
        encoder = self.model.base_model.encoder
        observer, encoder.observer = encoder.observer, None  # who watches sees the control
        with torch.no_grad():
            chosen = self.model(**inputs).depths
        encoder.observer = observer
        ranks = None if self._frequencies is None else self._frequencies.to(chosen.device)[batch["input_ids"]]
        depths = control_depths(chosen, batch["kinds"], batch["index"], ranks)
        with imposed_depths(encoder, depths):
            return self.model(**inputs)

    def _task_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """[B], of logits [B, C] or [B, 1]."""
        if self.labels:
            return F.cross_entropy(logits.float(), labels, reduction="none")
        return F.mse_loss(logits[:, 0].float(), labels, reduction="none")

    def _count_losses(self, stage: str, losses: Tensor, outputs: ModelOutput) -> None:
        self.losses[f"{stage}/"]["task"].update(losses.detach())
        if self.cap is not None:
            self.losses[f"{stage}/"]["ponder"].update(outputs.ponder_cost.detach().float())

    def _log_losses(self, stage: str, prog_bar: bool = False) -> None:
        values = {name: mean.compute() for name, mean in self.losses[f"{stage}/"].items() if mean.update_called}
        for mean in self.losses[f"{stage}/"].values():
            mean.reset()
        total = values["task"]
        if self.time_penalty is not None:
            total = total + self.time_penalty * values["ponder"]
        self.log(f"{stage}/loss/total", total, prog_bar=prog_bar)
        self.log_dict({f"{stage}/loss/{name}": value for name, value in values.items()})

    def _evaluate(self, stage: str, split: str, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        outputs = self._run_model(batch)
        self._count_losses(stage, self._task_losses(outputs.logits, batch["labels"]), outputs)
        self.split_metrics[split].update(outputs.logits, batch["labels"], batch["index"])
        if self.label_depths is not None:
            self.label_depths.update(outputs.depths, batch["labels"])
        return _depths(outputs)

    def _log_evaluation(self, stage: str, splits: Iterable[str]) -> None:
        self._log_losses(stage)
        scores = []
        for split in splits:
            values = self.split_metrics[split].compute()
            self.split_metrics[split].reset()
            suffix = "_mismatched" if split.endswith("_mismatched") else ""  # of MNLI's two
            self.log_dict({f"{stage}/{name}{suffix}": values[name].float() for name in self.metrics})
            scores.append(torch.stack([values["score"], values["glue_score"]]))
        score, glue_score = torch.stack(scores).mean(dim=0).float()
        self.log_dict({f"{stage}/score": score, f"{stage}/glue_score": glue_score}, prog_bar=True)
        if self.label_depths is not None:
            for label, depth in zip(self.labels, self.label_depths.compute(), strict=True):
                if not depth.isnan():
                    self.log(f"{stage}/depth/label/{label}", depth)
            self.label_depths.reset()


def _mean() -> MeanMetric:
    return MeanMetric(nan_strategy="disable")


def _depths(outputs: ModelOutput) -> dict[str, Tensor]:
    """What of the outputs is for who watches."""
    if "depths" not in outputs:
        return {}
    return {"depths": outputs.depths, "remainders": outputs.remainders.detach()}


def _load_model(
    checkpoint: str, labels: Sequence[str], depth: dict[str, Any], dropout: float | None
) -> PreTrainedModel:
    """A classifier with the weights of a checkpoint; a new head where it has none.

    Raises:
        UserError: it can't be loaded, or has no such settings.
    """
    names = labels or ["score"]
    settings = {
        "id2label": dict(enumerate(names)),
        "label2id": {name: index for index, name in enumerate(names)},
        "problem_type": "single_label_classification" if labels else "regression",
    }
    config = AdaptiveAlbertConfig() if find_checkpoint(checkpoint) else _read_config(checkpoint)
    if config.model_type in OUR_TYPES:
        if dropout is not None:
            settings["classifier_dropout_prob"] = dropout
        return load_checkpoint(AdaptiveAlbertForSequenceClassification, checkpoint, settings | depth)
    if depth:
        raise UserError(
            f"model.depth.{next(iter(depth))} is for ALBERTs, but {checkpoint} is of type {config.model_type!r}, whose "
            "tokens have no depth of their own"
        )
    if dropout is not None:
        settings |= {name: dropout for name in DROPOUTS if hasattr(config, name)}
        if not settings.keys() & set(DROPOUTS):
            raise UserError(f"model.classifier_dropout: a model of type {config.model_type!r} has no such setting")
    for name, value in settings.items():
        setattr(config, name, value)
    try:
        load = AutoModelForSequenceClassification.from_pretrained
        return retried(lambda: load(checkpoint, config=config, dtype=torch.float32)).train()
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise UserError(f"cannot load {checkpoint}: {reason(error)}") from error


def _read_config(checkpoint: str) -> Any:
    try:
        return retried(lambda: AutoConfig.from_pretrained(checkpoint))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot load {checkpoint}: {reason(error)}") from error
