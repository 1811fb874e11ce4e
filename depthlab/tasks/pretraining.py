"""Pre-training: masked language modelling, sentence order prediction, and the ponder cost, per global batch."""

from typing import Any

from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor
from transformers.utils import ModelOutput

from depthlab.errors import UserError
from depthlab.metrics import DocumentMetric, PretrainingMetrics, means_over_documents
from depthlab.metrics.documents import DocumentCounts
from depthlab.models import AdaptiveAlbertConfig, AdaptiveAlbertForPreTraining
from depthlab.models.heads import AdaptiveAlbertForPreTrainingOutput
from depthlab.optim import Lamb
from depthlab.tasks.losses import Loss
from depthlab.tasks.scheduled import ScheduledDepth

MODEL_INPUTS = ("input_ids", "attention_mask", "token_type_ids", "labels", "sentence_order_label")

LOGGED = ("accuracy/mlm", "accuracy/sop", "loss/mlm")
"""Without documents, too."""


class MaskedLanguageModelling(ScheduledDepth):
    """Train an adaptive ALBERT with MLM, SOP and the ponder cost, wherever it comes from.

    Args:
        model: what to train.
        settings: as `ScheduledDepth`.

    Raises:
        UserError: a number of steps is negative.
    """

    def __init__(self, model: AdaptiveAlbertForPreTraining, *settings: Any, **named_settings: Any) -> None:
        super().__init__(model, *settings, **named_settings)
        self.train_metrics = PretrainingMetrics(model.config.vocab_size)
        self.val_metrics = PretrainingMetrics(model.config.vocab_size)
        self.test_metrics = PretrainingMetrics(model.config.vocab_size)
        self.by_document: DocumentMetric | None = None  # in evaluation, where the data module says of documents

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
        """As for every task, and count what was right, in evaluation by document, too."""
        outputs, losses = super().compute(stage, batch)
        mlm, sop = outputs.prediction_logits.detach(), outputs.sop_logits.detach()
        self.get_submodule(f"{stage}_metrics").update(mlm, batch["labels"], sop, batch["sentence_order_label"])
        if stage != "train" and self.by_document is not None:
            where = {name: batch[name] for name in ("labels", "kinds", "document", "sentence_order_label")}
            self.by_document.update(prediction_logits=mlm, sop_logits=sop, **where)
        return outputs, losses

    def on_validation_epoch_start(self) -> None:
        """Begin to count by document, where the data module says of which source each is."""
        stage = self.trainer.state.stage.dataloader_prefix
        documents = getattr(self.data_module, "documents", {}).get(stage)
        self.by_document = None if documents is None else DocumentMetric(len(documents)).to(self.device)

    on_test_epoch_start = on_validation_epoch_start

    def log_stage(self, stage: str) -> None:
        """As for every task, and accuracies; in evaluation what is known by document.

        That is logged in total, and for each of several sources as `{val,test}/source/<name>/...`, which stays out of
        TensorBoard.
        """
        super().log_stage(stage)
        metrics = self.get_submodule(f"{stage}_metrics")
        self.log_dict({f"{stage}/{name}": value.float() for name, value in metrics.compute().items()})
        metrics.reset()
        if stage != "train" and self.by_document is not None:
            self._log_documents(stage, self.by_document.compute())

    def _log_documents(self, stage: str, counts: DocumentCounts) -> None:
        names, sources = self.data_module.source_names, self.data_module.documents[stage]
        means = means_over_documents(counts, sources)
        self.log_dict({f"{stage}/{tag}": value for tag, value in means.items() if tag not in LOGGED})
        for number, name in enumerate(names) if len(names) > 1 else ():
            means = means_over_documents(counts, sources, number)
            self.log_dict({f"{stage}/source/{name}/{tag}": value for tag, value in means.items()}, logger=False)


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
