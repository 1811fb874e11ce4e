"""Fine-tuning: classes of texts, pairs or words, or a number for a text, with the ponder cost in the loss."""

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import AdamW
from transformers.utils import ModelOutput

from depthlab.errors import UserError
from depthlab.kinds import NOT_PREDICTED
from depthlab.metrics import GroupDepthMetric, mean_depth_by_group
from depthlab.metrics.glue import WORDS, GlueMetrics
from depthlab.models.checkpoint import DepthSettings
from depthlab.models.classifier import Unit, load_classifier
from depthlab.tasks.base import check_data, watched
from depthlab.tasks.controls import DepthControl, run_controlled
from depthlab.tasks.losses import Loss
from depthlab.tasks.scheduled import ScheduledDepth


class ClassificationTask(ScheduledDepth):
    """Fine-tune a model to label texts or their words: an adaptive ALBERT, or any classifier of Hugging Face's.

    The loss is Hugging Face's, cross entropy or the squared error of a regression, per example or per word, and tau
    times the ponder cost, per example. A model that is not an ALBERT has no depth: its loss has no ponder cost, and
    nothing of depths is logged.

    Args:
        task: name of what is learnt.
        labels: names of the classes; none for a regression.
        metrics: names in `depthlab.metrics.glue`, the score first.
        unit: what has a label: a "text" (or pair), or each "word".
        checkpoint: what to start from: a run of depthlab, a directory that `depthlab export` or `convert` wrote, or a
            directory or hub name of Hugging Face's. Its tokenizer is used, too.
        depth: what of the checkpoint's depth is to differ; for ALBERTs only.
        optimizer: the optimiser; biases and layer norms get no weight decay from any.
        warmup_steps: optimiser steps over which the learning rate rises.
        time_penalty_warmup_steps: as `ScheduledDepth`.
        fixed_depth_steps: as `ScheduledDepth`.
        decay_share: as `Task`.
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
        time_penalty_warmup_steps: int = 0,
        fixed_depth_steps: int = 0,
        decay_share: float = 1.0,
        classifier_dropout: float | None = None,
        depth_control: DepthControl | None = None,
        unit: Unit = "text",
    ) -> None:
        if classifier_dropout is not None and not 0 <= classifier_dropout < 1:
            raise UserError(f"model.classifier_dropout must lie in [0, 1), got {classifier_dropout}")
        depth = depth or DepthSettings()
        model = load_classifier(checkpoint, labels, depth.given(), classifier_dropout, unit)
        self.unit = unit
        super().__init__(model, optimizer, warmup_steps, time_penalty_warmup_steps, fixed_depth_steps, decay_share)
        self.learn_depth(depth)
        self.task, self.labels, self.metrics, self.checkpoint = task, tuple(labels), tuple(metrics), checkpoint
        self.scores = nn.ModuleDict()  # by stage and number of the loader
        self.label_depths = GroupDepthMetric(len(labels)) if labels and self.cap is not None else None
        if depth_control is not None and (self.cap is None or not model.config.rule.adaptive):
            raise UserError(
                f"model.depth_control needs tokens that choose their depth (halting act), and {checkpoint} has none"
            )
        self.depth_control = depth_control
        self._frequencies: Tensor | None = None  # [V], how often each piece occurs in the training split

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
            **({} if self.depth_control is None else {"control": self.depth_control}),
        }

    def check_data(self, pieces: int, max_length: int) -> None:
        check_data(self.checkpoint, self.model, pieces, max_length)

    def setup(self, stage: str) -> None:
        """As for every task, and see which words are frequent, where depths follow it.

        Raises:
            UserError: there are no words to count; an epoch ends inside an optimiser step.
        """
        super().setup(stage)
        if self.depth_control == "frequency":
            if not hasattr(self.data_module, "piece_counts"):
                raise UserError("model.depth_control frequency needs a data module that counts pieces (`piece_counts`)")
            self._frequencies = self.data_module.piece_counts(self.model.config.vocab_size)

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int, dataloader_idx: int = 0) -> dict[str, Tensor]:
        """Returns depths and remainders, [B, T], for who watches."""
        return self._evaluate("val", dataloader_idx, batch)

    def test_step(self, batch: dict[str, Tensor], batch_idx: int, dataloader_idx: int = 0) -> dict[str, Tensor]:
        """As in validation; a split without labels is a UserError."""
        if "labels" not in batch:
            split = self._split("test", dataloader_idx)
            raise UserError(f"{split} of {self.task} has no labels to test against: take `depthlab predict` for it")
        return self._evaluate("test", dataloader_idx, batch)

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int, dataloader_idx: int = 0) -> dict[str, Tensor]:
        """Returns predictions, [N]: classes, or numbers of a regression; and index, [N]: of which examples or words."""
        logits, index = self._answers(self.run_model(batch).logits, batch)
        return {"predictions": logits.argmax(dim=1) if self.labels else logits[:, 0].float(), "index": index}

    def configure_optimizers(self) -> dict[str, Any]:
        """As for every task; a warm-up without end is pointed out, and depth that is never free."""
        configured = super().configure_optimizers()
        steps = self.trainer.estimated_stepping_batches
        until = self.fixed_depth_steps + self.time_penalty_warmup_steps
        if self.fixed_depth_steps >= steps or until > steps + 1:
            rank_zero_info(
                f"model.fixed_depth_steps and time_penalty_warmup_steps take {until} of {steps} steps: depth is never "
                "free at its price, and there is no best state, which is one that is"
            )
        if self.warmup_steps >= steps:
            rank_zero_info(
                f"model.warmup_steps {self.warmup_steps} of {steps} steps in all: the learning rate rises to the end"
            )
        return configured

    def run_model(self, batch: dict[str, Tensor]) -> ModelOutput:
        """What the model says of a batch, at the control's depths where there is one."""
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        if getattr(self.model.config, "type_vocab_size", 0) > 1:
            inputs["token_type_ids"] = batch["token_type_ids"]
        if self.depth_control is None:
            return self.model(**inputs)
        return run_controlled(self.model, inputs, batch["kinds"], batch["index"], self._frequencies)

    def losses(self, batch: dict[str, Tensor], outputs: ModelOutput) -> dict[str, Loss]:
        """The task's and, where tokens have depths, the ponder cost; per example."""
        labels = batch["labels"]
        if "exit_logits" in outputs:  # a rule that learns after every iteration
            exits = zip(outputs.exit_weights, outputs.exit_logits, strict=True)
            counted = slice(None) if self.unit == "text" else labels != NOT_PREDICTED
            task = sum(weights[counted] * self._per_example(logits, labels) for weights, logits in exits)
        else:
            task = self._per_example(outputs.logits, labels)
        ponder = {} if self.cap is None else {"ponder": Loss(outputs.ponder_cost)}
        return {"task": Loss(task, per="predicted" if self.unit == "word" else "sequences")} | ponder

    def _per_example(self, logits: Tensor, labels: Tensor) -> Tensor:
        """[B] of logits [B, C]; of tagged words, [W] of [B, T, C]."""
        if self.unit == "word":
            tagged = labels != NOT_PREDICTED
            logits, labels = logits[tagged], labels[tagged]
        if self.labels:
            return F.cross_entropy(logits.float(), labels, reduction="none")
        return F.mse_loss(logits[:, 0].float(), labels, reduction="none")

    def log_stage(self, stage: str) -> None:
        """As for every task; of an evaluation scores and the depth of each class, too."""
        super().log_stage(stage)
        if stage == "train":
            return
        scores = []
        for number in range(sum(name.startswith(stage) for name in self.scores)):
            metric = self.scores[f"{stage} {number}"]
            values = metric.compute()
            metric.reset()
            suffix = "_mismatched" if self._split(stage, number).endswith("_mismatched") else ""  # of MNLI's two
            self.log_dict({f"{stage}/{name}{suffix}": values[name].float() for name in self.metrics})
            scores.append(torch.stack([values["score"], values["glue_score"]]))
        score, glue_score = torch.stack(scores).mean(dim=0).float()
        self.log_dict({f"{stage}/score": score, f"{stage}/glue_score": glue_score}, prog_bar=True)
        if self.label_depths is not None:
            depths = mean_depth_by_group(*self.label_depths.compute())
            named = zip(self.labels, depths, strict=True)
            self.log_dict({f"{stage}/depth/label/{label}": depth for label, depth in named if not depth.isnan()})
            self.label_depths.reset()

    def _evaluate(self, stage: str, number: int, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        outputs, _ = self.compute(stage, batch)
        name = f"{stage} {number}"
        if name not in self.scores:
            tags = self.labels if self.unit == "word" else ()
            self.scores[name] = GlueMetrics(self.metrics, not self.labels, tags).to(self.device)
        labels = batch["labels"]
        logits, index = self._answers(outputs.logits, batch)
        if self.unit == "word":
            tagged = labels[batch["words"] >= 0] != NOT_PREDICTED
            logits, index = logits[tagged], index[tagged]
        self.scores[name].update(logits, labels[labels != NOT_PREDICTED] if self.unit == "word" else labels, index)
        if self.label_depths is not None:
            if self.unit == "word":
                self.label_depths.update(outputs.depths[labels >= 0], labels[labels >= 0])
            else:
                real = batch["attention_mask"].bool()
                self.label_depths.update(outputs.depths, labels[:, None], real=real)
        return watched(outputs)

    def _answers(self, logits: Tensor, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Logits [N, C] of the examples of a batch or, at first pieces, of its words; and the index of each, [N]."""
        if self.unit == "text":
            return logits, batch["index"]
        words = batch["words"]
        index = batch["index"][:, None] * WORDS + words
        return logits[words >= 0], index[words >= 0]

    def _split(self, stage: str, number: int) -> str:
        """The name of what a loader loads: its number, where the data has no name for it."""
        splits = getattr(self.data_module, f"{stage}_splits", ())
        return splits[number] if number < len(splits) else str(number)
