"""Watches how deep each kind of token goes, in training and evaluation."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn

from depthlab.callbacks.watched import adaptive_model
from depthlab.kinds import POOLS, TokenKind
from depthlab.metrics import DepthMetric, GroupDepthMetric, depth_intervals, mean_depths
from depthlab.models.encoder import EncoderOutput
from depthlab.tasks.base import is_logging_step


class PonderMonitor(Callback):
    """Logs `{train,val,test}/depth/<kind>` and a histogram of depths, and lays out the dashboard's depth charts.

    It watches the encoder of any LightningModule that has one of ours in it; batches say in `kinds`, [B, T], what each
    token is. Counts gather on the device, from all ranks, and are read when they are logged. Where the data module says
    of the documents that it holds out (`documents`) and batches of which each sequence is (`document`, [B]), the bounds
    of 95 % intervals over documents are logged as `{val,test}/depth_low` and `{val,test}/depth_high`.
    """

    def __init__(self) -> None:
        self.depths: dict[str, DepthMetric] = {}
        self.by_document: GroupDepthMetric | None = None
        self._seen: Tensor  # [B, T], what the encoder has said last

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Listen to the encoder.

        Raises:
            UserError: the model's tokens have no depth.
        """
        model = adaptive_model(pl_module, self)
        self.depths = {stage: DepthMetric(model.config.num_hidden_layers) for stage in ("train", "val", "test")}
        self._hook = model.encoder.register_forward_hook(self._see)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._hook.remove()

    def _see(self, module: nn.Module, args: Any, output: EncoderOutput) -> None:
        self._seen = output.depths

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """One chart for the depths of all kinds, so that it is there when TensorBoard opens."""
        self.depths["train"].to(pl_module.device)
        if isinstance(trainer.logger, TensorBoardLogger) and trainer.is_global_zero:
            charts = {stage: ["Multiline", [f"{stage}/depth/{name}" for name in POOLS]] for stage in ("train", "val")}
            trainer.logger.experiment.add_custom_scalars({"depth by kind of token": charts})

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count where the model is; at `setup` it has not been moved yet."""
        self.depths[_stage(trainer)].to(pl_module.device)
        documents = getattr(trainer.datamodule, "documents", {}).get(_stage(trainer))
        self.by_document = None if documents is None else GroupDepthMetric(len(documents)).to(pl_module.device)

    on_test_start = on_validation_start

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: dict[str, Tensor], batch_idx: int
    ) -> None:
        """Count, and log at the trainer's pace."""
        self.depths["train"].update(self._seen, batch["kinds"])
        if is_logging_step(trainer, batch_idx):
            self._log("train", trainer, pl_module)

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: dict[str, Tensor], *place: int
    ) -> None:
        self.depths[_stage(trainer)].update(self._seen, batch["kinds"])
        if self.by_document is not None:
            real = batch["kinds"] != TokenKind.PAD
            self.by_document.update(self._seen, batch["document"][:, None], batch["kinds"], real)

    on_test_batch_end = on_validation_batch_end

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the means over the held-out documents or the test split, and between which bounds they lie."""
        stage = _stage(trainer)
        self._log(stage, trainer, pl_module)
        if self.by_document is not None:
            sources = trainer.datamodule.documents[stage]
            for name, (low, high) in depth_intervals(*self.by_document.compute(), sources).items():
                pl_module.log_dict({f"{stage}/depth_low/{name}": low, f"{stage}/depth_high/{name}": high})

    on_test_epoch_end = on_validation_epoch_end

    def _log(self, stage: str, trainer: Trainer, pl_module: LightningModule) -> None:
        counts = self.depths[stage].compute()
        self.depths[stage].reset()
        for name, mean in mean_depths(counts).items():
            pl_module.log(f"{stage}/depth/{name}", mean)
        if isinstance(trainer.logger, TensorBoardLogger) and trainer.is_global_zero and not trainer.sanity_checking:
            _add_depth_histogram(trainer.logger, f"{stage}/depth", counts.sum(dim=0), trainer.global_step)


def _stage(trainer: Trainer) -> str:
    """Of an evaluation: "val" or "test"."""
    return trainer.state.stage.dataloader_prefix


def _add_depth_histogram(logger: TensorBoardLogger, tag: str, counts: Tensor, step: int) -> None:
    """Counts [L + 1] of tokens by depth, as one bar a depth."""
    counts = counts.cpu().double()
    depths = torch.arange(len(counts), dtype=torch.float64)
    occurring = depths[counts > 0]
    if not len(occurring):
        return
    logger.experiment.add_histogram_raw(
        tag,
        min=occurring.min().item(),
        max=occurring.max().item(),
        num=int(counts.sum()),
        sum=(depths * counts).sum().item(),
        sum_squares=(depths.square() * counts).sum().item(),
        bucket_limits=(depths + 0.5).tolist(),
        bucket_counts=counts.tolist(),
        global_step=step,
    )
