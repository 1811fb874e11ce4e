"""How similar two sentences are to an encoder that was never told: the cosine of their mean states."""

from collections.abc import Sequence

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import MeanMetric
from transformers import AutoModel

from depthlab.errors import UserError
from depthlab.hub_errors import loaded
from depthlab.metrics.glue import GlueMetrics
from depthlab.models import AdaptiveAlbertModel
from depthlab.models.checkpoint import DepthSettings, is_ours, load_checkpoint
from depthlab.tasks.base import check_data
from depthlab.tasks.teaching import mean_state


class SimilarityTask(LightningModule):
    """Correlation of cosines with what people said, without training. Any encoder of Hugging Face's, too.

    Args:
        task: name of what is compared.
        labels: none; the data's labels are numbers.
        metrics: names in `depthlab.metrics.glue`, the score first.
        checkpoint: a run of depthlab, a directory that `depthlab export` or `convert` wrote, or a directory or hub name
            of Hugging Face's. Its tokenizer is used, too.
        depth: what of the checkpoint's depth is to differ; for models of ours only.

    Raises:
        UserError: the checkpoint can't be loaded, or has no such settings; the data has classes, not numbers.
    """

    monitor = None
    cap = None  # depths are of sentences, not of the batch's pairs: they are logged here

    def __init__(
        self,
        task: str,
        labels: Sequence[str],
        metrics: Sequence[str],
        checkpoint: str = "checkpoints/minilm-adaptive",
        depth: DepthSettings | None = None,
    ) -> None:
        super().__init__()
        if labels:
            raise UserError(f"data.task {task} has classes; similarity is held against numbers: stsb")
        self.task, self.checkpoint = task, checkpoint
        settings = {} if depth is None else depth.given()
        if settings or is_ours(checkpoint):
            self.model = load_checkpoint(AdaptiveAlbertModel, checkpoint, settings)
        else:
            self.model = loaded(checkpoint, lambda: AutoModel.from_pretrained(checkpoint, dtype=torch.float32))
        self.score = GlueMetrics(metrics, is_regression=True)
        self.depth = MeanMetric()

    def check_data(self, pieces: int, max_length: int) -> None:
        check_data(self.checkpoint, self.model, pieces, max_length)

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Compare the pairs of a batch of [CLS] first [SEP] second [SEP]."""
        first, second = (self._mean_state(batch, segment) for segment in (0, 1))
        self.score.update(F.cosine_similarity(first, second)[:, None], batch["labels"], batch["index"])

    def on_validation_epoch_end(self) -> None:
        """Log the scores, and the mean depth over all pieces where they have one."""
        values = self.score.compute()
        self.score.reset()
        self.log_dict({f"val/{name}": values[name].float() for name in (*self.score.names, "score")})
        if self.depth.weight > 0:
            self.log("val/depth/all", self.depth)

    def _mean_state(self, batch: dict[str, Tensor], segment: int) -> Tensor:
        """[B, H], of one sentence of each pair, which the model reads alone."""
        own = (batch["token_type_ids"] == segment) & batch["attention_mask"].bool()
        own[:, 0] = True  # [CLS]
        order = (~own).byte().argsort(dim=1, stable=True)[:, : own.sum(dim=1).max()]
        ids, mask = batch["input_ids"].gather(1, order), own.gather(1, order).long()
        output = self.model(input_ids=ids, attention_mask=mask)
        if "depths" in output:
            self.depth.update(output.depths[mask.bool()])
        return mean_state(output.last_hidden_state.float(), mask)
