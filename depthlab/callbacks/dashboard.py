"""TensorBoard's logger, so arranged that TensorBoard opens on depth and loss."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from depthlab.kinds import POOLS
from depthlab.render.depth_curves import ALL, depth_curves
from depthlab.run.config import flatten
from depthlab.run.logs import read_scalars

FIRST = "at_a_glance"
"""Group of charts: TensorBoard sorts groups by name, and this one comes before those of all other tags."""
LINES = [f"depth/{name}" for name, pool in POOLS.items() if len(pool) == 1 or name == "all"]
FINAL = "final"
"""Run of what was measured in the end."""

POINTS = 300
"""About so many of a curve are drawn: more take time that nobody sees."""


class Dashboard(TensorBoardLogger):
    """Logs what a `TensorBoardLogger` does, and what is to be seen first.

    TensorBoard gives a colour to a run, not to a tag. So each kind of token is a run of its own, in `depth/<kind>`
    under the log's directory, and all write the same tags: `at_a_glance/depth_train` and `at_a_glance/depth_val`, which
    are charts with a line a kind, and one of all tokens: seven, as TensorBoard has seven colours. `at_a_glance/loss`
    has the total loss in training and in validation. The picture `depth_by_kind`, in the colours of the reports, is
    drawn at every validation from the training until then.
    """

    def __init__(self, save_dir: str | Path, **settings: Any) -> None:
        super().__init__(save_dir, **settings)
        self._lines: dict[str, SummaryWriter] = {}
        self._curves: dict[str, dict[int, float]] = {}  # of training, by tag and step
        self._goes_on = any(Path(self.log_dir).glob("events.*"))

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Tensor | float], step: int | None = None) -> None:
        """Log; and draw, when depths of a validation come."""
        super().log_metrics(metrics, step)
        for tag, value in metrics.items():
            stage, _, name = tag.partition("/")
            if stage == "train" and (name.startswith("depth/") or name == "time_penalty"):
                self._curves.setdefault(tag, {})[step] = float(value)
            if name == "loss/total":
                self._line(f"loss/{stage}").add_scalar(f"{FIRST}/loss", value, step)
            elif name in LINES:
                self._line(name).add_scalar(f"{FIRST}/depth_{stage}", value, step)
        if "val/depth/all" in metrics and ALL in self._curves:
            self._draw(step)

    @rank_zero_only
    def log_results(self, settings: Mapping[str, Any], results: Mapping[str, Any]) -> None:
        """Log what the run came to, beside its settings, for the tab *HParams* and as points of the run `final`.

        Args:
            settings: the experiment's, nested as in its YAML.
            results: as in `results.json`; measures of validation and test are taken.
        """
        trainer = settings["trainer"]
        parts = {"model": settings["model"], "data": settings["data"], "seed": settings["seed_everything"]} | {
            name: trainer[name] for name in ("max_steps", "max_epochs", "precision") if name in trainer
        }
        known = {name: value for name, value in flatten(parts).items() if value is not None}
        known = {name: value if isinstance(value, bool | int | float) else str(value) for name, value in known.items()}
        scores = {
            name: value
            for name, value in results.items()
            if name.startswith(("val/", "test/")) and "_low/" not in name and "_high/" not in name
        }
        self.experiment.add_hparams(known, scores, run_name=FINAL, global_step=results["steps"])

    @rank_zero_only
    def save(self) -> None:
        """Put what was logged on the disk, that of the lines, too."""
        for writer in self._lines.values():
            writer.flush()
        super().save()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        for writer in self._lines.values():
            writer.close()
        super().finalize(status)

    def _line(self, name: str) -> SummaryWriter:
        if name not in self._lines:
            self._lines[name] = SummaryWriter(str(Path(self.log_dir) / name))
        return self._lines[name]

    def _draw(self, step: int | None) -> None:
        if self._goes_on:  # what was logged before this process took over
            for tag, values in read_scalars(Path(self.log_dir)).items():
                if tag.startswith(("train/depth/", "train/time_penalty")):
                    self._curves[tag] = values.to_dict() | self._curves.get(tag, {})
            self._goes_on = False
        curves = {tag: pd.Series(points) for tag, points in self._curves.items()}
        curves = {tag: curve.iloc[:: -(len(curve) // POINTS + 1)] for tag, curve in curves.items()}
        self.experiment.add_figure("depth_by_kind", depth_curves(curves, Path(self.log_dir).name), step)
