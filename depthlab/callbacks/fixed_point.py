"""Watches whether the states reach a fixed point, in validation."""

import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from depthlab.callbacks.watched import adaptive_model
from depthlab.files import cannot_write
from depthlab.kinds import TokenKind
from depthlab.metrics import FixedPointMetric
from depthlab.models.encoder import Iteration, Observer
from depthlab.render.fixed_point import READINGS, fixed_point_figure
from depthlab.run.directory import RunDirectory

FIGURES_EVERY = 20.0
"""Seconds of validation after which the figures, which take about half a second, are drawn again."""


LOGGED = (TokenKind.PLAIN, TokenKind.MASK_MASK, TokenKind.CLS, TokenKind.SEP)
ITERATIONS = 5
"""Most that are logged of a kind, the first and the last among them: 20 tags in all."""


class FixedPointMonitor(Callback):
    """Logs, at every validation, how much each iteration still changes the states of each kind of token.

    In the logs the authors' cosine similarity, `fixed_point/<kind>/<n>`, of few kinds and iterations. With TensorBoard,
    all readings of all of them (see :class:`depthlab.metrics.FixedPointMetric`) as rows of `fixed_point.csv` beside its
    files, and as the paper's figure in its three readings.

    It watches the encoder of any LightningModule that has one of ours in it; batches say in `kinds`, [B, T], what each
    token is. What the encoder has at hand is read while it iterates: nothing is computed twice or kept, in whatever
    execution. On a CPU that takes about a hundredth of the model's time, and logging less than 0.1 s. The figures take
    about half a second: they are drawn at the first validation, again once 20 s of validation have gone by, and in that
    after a fit. So it is less than 5 % of validations from ten seconds on; one of a few seconds takes a tenth to a
    quarter longer when it draws. Without a logger, and in training, it rests.
    """

    def __init__(self) -> None:
        self._since_figures = FIGURES_EVERY  # seconds of validation

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Make room for all iterations.

        Raises:
            UserError: the model's tokens have no depth.
        """
        model = adaptive_model(pl_module, self)
        self.encoder, self.metric = model.encoder, FixedPointMetric(model.config.num_hidden_layers)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count where the model is; at `setup` it has not been moved yet."""
        self.metric.to(pl_module.device)
        self._started_at = time.monotonic()

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: dict[str, Tensor], *place: int
    ) -> None:
        """Look into the encoder, for this batch."""
        if trainer.loggers:
            count = partial(self._count, batch["kinds"].flatten())
            self._look = self.encoder.register_forward_pre_hook(partial(_watch, count), with_kwargs=True)

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, *rest: Any) -> None:
        """Look away."""
        if trainer.loggers:
            self._look.remove()

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the means over the held-out data."""
        if not trainer.loggers:
            return
        means = {name: values.cpu() for name, values in self.metric.compute().items()}  # from all ranks
        self.metric.reset()
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        tokens = means["fixed_point_tokens"]
        step, cap = trainer.global_step, tokens.shape[1]
        readings = pd.DataFrame(
            {"step": step, "kind": kind.name.lower(), "n": n}
            | {name: of[kind, n - 1].item() for name, of in means.items()}
            for kind in TokenKind
            for n in range(1, cap + 1)
            if tokens[kind, 0]
        )
        scalars = {
            f"fixed_point/{kind.name.lower()}/{n}": means["fixed_point"][kind, n - 1].item()
            for kind in LOGGED
            for n in {*np.linspace(1, cap, ITERATIONS).round().astype(int).tolist()}
            if tokens[kind, 0]
        }
        self._since_figures += time.monotonic() - self._started_at
        draws = self._since_figures >= FIGURES_EVERY or trainer.state.fn == TrainerFn.VALIDATING
        for logger in trainer.loggers:
            logger.log_metrics(scalars, step)
            if isinstance(logger, TensorBoardLogger):
                file = RunDirectory(Path(logger.log_dir)).fixed_point
                with cannot_write(f"to {file}"):
                    readings.to_csv(file, mode="a", header=not file.exists(), index=False)
            if draws and isinstance(logger, TensorBoardLogger):
                self._since_figures = 0.0
                for reading in READINGS:
                    figure = fixed_point_figure(reading, means[reading], tokens)
                    logger.experiment.add_figure(reading, figure, step)

    def _count(self, kinds: Tensor, iteration: Iteration) -> None:
        """Kinds are [B * T]."""
        n, position, before, new, after, _ = iteration
        self.metric.update(n, kinds[position], before, new, after)


def _watch(observer: Observer, encoder: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """A call of the encoder, watched; unless who calls it has said who watches."""
    return args, {"observer": observer} | kwargs
