"""What comes after a fit: what has not been evaluated is, results are written, tables and places are shown."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only

from depthlab.callbacks import BestCheckpoint, ExportAtEnd, Resumable, ThroughputMonitor
from depthlab.errors import UserError
from depthlab.reports.measured import measured_table
from depthlab.run.config import read_yaml
from depthlab.run.directory import RunDirectory


@rank_zero_only
def say(text: str) -> None:
    """Print, once for all ranks."""
    print(text, flush=True)


@dataclass
class Outcome:
    """A fit that has ended, and who watched it.

    Where the test split has labels, `results.json` holds `test/...` of the best state, too, so that a sweep's runs
    are tested without a command for each; `depthlab test` only prints.
    """

    run: RunDirectory
    trainer: Trainer
    model: LightningModule
    data: LightningDataModule
    resumable: Resumable
    best: BestCheckpoint | None
    throughput: ThroughputMonitor
    exporter: ExportAtEnd
    seed: int

    def finish(self) -> None:
        """Evaluate, write and show; an interrupted fit exits with 130.

        Raises:
            UserError: the best state is to be tested, but has been removed.
        """
        if self.resumable.interrupted:
            say(f"Interrupted after step {self.trainer.global_step}. Go on: the same command with --ckpt_path last")
            if self.trainer.is_global_zero:  # Lightning ends the others hastily when one of them fails
                sys.exit(130)
            return
        if self.trainer.fast_dev_run:
            return
        results = self._validate()
        work = self.throughput.savings(self.model.cap)  # before the best state brings back the totals of its time
        tested = self._test()
        results |= tested
        if self.trainer.is_global_zero:
            self.run.write_results(results)
            self.trainer.logger.log_results(read_yaml(self.run.config), results)
            self.exporter.update_card()
        for stage in ("val", "test") if tested else ("val",):
            say("\n" + measured_table(results, getattr(self.model, "task", ""), stage))
        say("\n" + self._places(work))

    def _validate(self) -> dict[str, Any]:
        """What the run has measured: its best state, where there is one. The last is validated first, if need be."""
        if self.best is None or not self.best.validated(self.trainer.global_step):
            self.trainer.validate(self.model, self.data, verbose=False)
            if self.best is not None and self.model.cap is not None:
                self.exporter.on_fit_end(self.trainer, self.model)  # the best may be another now
        return {
            "steps": self.trainer.global_step,
            **self.throughput.state_dict(),
            "data": self.data.summary,
            "seed": self.seed,
            "batch_size": self.data.batch_size,
            **self.model.facts(),
            **self._measured("val/"),
            **({} if self.best is None else self.best.results()),
        }

    def _test(self) -> dict[str, float]:
        """What the best state scores on test splits that have labels; nothing where there are none."""
        is_validated = self.best is not None and self.best.epochs
        if not (is_validated and self.data.tested_after_fit and self.data.test_splits):
            return {}
        if not self.best.path.exists():
            raise UserError(f"{self.best.path} is gone, so the best state can't be tested: start anew")
        self.trainer.test(self.model, self.data, ckpt_path=self.best.path, verbose=False)
        return self._measured("test/")

    def _measured(self, prefix: str) -> dict[str, float]:
        metrics = self.trainer.callback_metrics
        return {name: float(value) for name, value in metrics.items() if name.startswith(prefix)}

    def _places(self, work: str) -> str:
        """What was done, and where everything lies."""
        places = {
            "work": work,
            "results": self.run.results,
            "checkpoint": self.resumable.path,
            "best": None if self.best is None else self.best.path,
            "model": self.exporter.exported,
            "TensorBoard": f"tensorboard --logdir {self.run.path}",
        }
        return "\n".join(
            f"{name:13}{place}"
            for name, place in places.items()
            if place is not None and (not isinstance(place, Path) or place.exists())
        )
