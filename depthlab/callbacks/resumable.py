"""Keeps a run resumable: saves between two optimiser steps, regularly, at an interrupt, and when training ends."""

import os
import signal
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info

from depthlab.callbacks.random_states import State, restore, states_of_all_ranks
from depthlab.errors import UserError
from depthlab.run.directory import run_of
from depthlab.run.logs import cut_logs, log_sizes

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
"""Ctrl-C; the notices of batch systems; a terminal that closes."""


class Resumable(Checkpoint):
    """Saves `last.ckpt`, from which a run goes on as if it had never stopped.

    Ctrl-C (or SIGTERM, SIGHUP, SIGUSR1) lets the optimiser step in progress finish, saves, and stops; Ctrl-C after that
    stops at once, and what was last saved stands. Batch systems may send several of the others: they change nothing.

    Every checkpoint, whoever saves it, is of the end of an optimiser step, and has what goes beyond the weights: the
    random states of all ranks; whether validation was still to come, which a run that goes on makes up for; and how
    long the logs were, so that what was logged later is not there twice. It is saved once the step is in the logs.

    Args:
        directory: where `last.ckpt` goes; in the run directory by default.
        every_n_steps: optimiser steps between two saves.
        other_data: let a run go on with other data than its checkpoint's: another corpus, batch size, seed, or masks.

    Raises:
        UserError: `every_n_steps` is not positive.
    """

    def __init__(
        self,
        directory: str = "checkpoints/runs/default/checkpoints",
        every_n_steps: int = 500,
        other_data: bool = False,
    ) -> None:
        if every_n_steps < 1:
            raise UserError(f"checkpoint.every_n_steps must be positive, got {every_n_steps}")
        self.path = Path(directory) / "last.ckpt"
        self.run = run_of(self.path)
        self.every_n_steps = every_n_steps
        self.other_data = other_data
        self.interrupted = False
        self.validation_due = False
        """Whether validation is to come after the last step."""
        self._trains = self._is_between_steps = self._stops = self._saves = False
        self._progress: dict[str, Any] | None = None  # Lightning's count of everything, at the end of the last step
        self._states: list[State] = []  # random ones, to go on with
        self.old_logs: list[Path] = []
        """Logs that an earlier process has left, to be taken back to where they were at the state to go on from."""
        self._log_sizes: dict[str, int] | None = {}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the logs back, now that the checkpoint, if there is one, is loaded and fits."""
        if trainer.is_global_zero and self._log_sizes is not None:
            cut_logs(self.run, self.old_logs, self._log_sizes)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take over the signals for as long as training runs, and go on where the checkpoint was."""
        self._trains = True
        self._process = os.getpid()
        self._terminals = [stream for stream in (1, 2) if os.isatty(stream)]
        ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN  # by nohup
        numbers = [number for number in SIGNALS if not (ignored and number == signal.SIGHUP)]
        self._previous = {number: signal.signal(number, self._interrupt) or signal.SIG_DFL for number in numbers}
        # Lightning has had them until now, and would end with status 0 and nothing saved.
        self.interrupted = trainer.received_sigterm
        trainer._signal_connector.received_sigterm = False
        if self._states:
            restore(self._states, trainer.global_rank, pl_module.device)
        if self.validation_due:
            self._make_up(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give the signals back."""
        self._trains = False
        self._restore()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Give the signals back."""
        self._restore()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """See, where a step has ended, whether it is time to save, and to stop."""
        if trainer.fast_dev_run:
            return
        self._is_between_steps = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        self._finish_step(trainer)
        if not self._is_between_steps:
            return
        self.validation_due = _validates_next(trainer)
        # One rank may see the signal a step earlier than another.
        self.interrupted = trainer.strategy.reduce_boolean_decision(self.interrupted, all=False)
        if self.interrupted:
            trainer.should_stop = True
            trainer.limit_val_batches = 0  # Lightning would validate once more before it stops
        done = trainer.global_step == trainer.max_steps or (
            trainer.is_last_batch and trainer.current_epoch + 1 == trainer.max_epochs
        )
        self._progress = trainer.fit_loop.state_dict()
        self._saves = trainer.should_stop or done or trainer.global_step % self.every_n_steps == 0

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save before it: by now the step is in the logs. So it is at the two places below."""
        self._save_if_it_is_time(trainer)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._save_if_it_is_time(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._save_if_it_is_time(trainer)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validation is over for whoever saves now."""
        if self._trains and not trainer.sanity_checking:
            self.validation_due = False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save where it has decided that training stops."""
        if trainer.fast_dev_run or trainer.sanity_checking or not self._trains:
            return
        self._finish_step(trainer)
        if trainer.should_stop:
            trainer.save_checkpoint(self.path)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add what goes beyond the weights.

        Raises:
            UserError: the run's directory has been removed.
        """
        if trainer.is_global_zero and not self.run.path.is_dir():
            raise UserError(f"{self.run.path} is gone, and what the run had left there: nothing can be saved")
        for logger in trainer.loggers:
            logger.save()
        checkpoint["random_states"] = states_of_all_ranks(pl_module.device)
        checkpoint["validation_due"] = self.validation_due
        checkpoint["log_sizes"] = log_sizes(self.run)
        checkpoint["data"] = _identity(trainer)
        if self._progress is not None:
            # Lightning's count of now would take an epoch that was cut short for a whole one.
            checkpoint["loops"]["fit_loop"] = self._progress

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take it back; a checkpoint that was saved without this has none of it.

        Raises:
            UserError: the run would go on with other data.
        """
        if trainer.state.fn == TrainerFn.FITTING:
            ours, theirs = _identity(trainer), checkpoint.get("data", {})
            differing = [name for name in ours.keys() & theirs.keys() if ours[name] != theirs[name]]
            for name in [] if self.other_data else [name for name in ours if name in differing]:
                both = f" ({theirs[name]}, now {ours[name]})" if name not in ("corpus", "train") else ""
                raise UserError(
                    f"data.{name} is not that of the checkpoint to go on from{both}: take the run's own, start another "
                    "run, or let this one go on with --checkpoint.other_data true"
                )
            self._states = checkpoint.get("random_states", [])
            self._log_sizes = checkpoint.get("log_sizes")
            self.validation_due = checkpoint.get("validation_due", False)
            self._progress = checkpoint.get("loops", {}).get("fit_loop")

    def _save_if_it_is_time(self, trainer: Trainer) -> None:
        if self._saves and self._trains:
            self._saves = False
            trainer.save_checkpoint(self.path)

    def _finish_step(self, trainer: Trainer) -> None:
        """Who wants to stop within an optimiser step (a timer, early stopping) waits for its end."""
        self._stops = self._stops or trainer.should_stop
        trainer.should_stop = self._stops and self._is_between_steps

    def _make_up(self, trainer: Trainer) -> None:
        """Validate as Lightning would have, in the epoch and at the step that it was to come in."""
        epochs, loop = trainer.fit_loop.epoch_progress.current, trainer.fit_loop.epoch_loop.val_loop
        begun, epochs.completed = epochs.completed, self._progress["epoch_progress"]["current"]["completed"]
        loop.restarting = False
        trainer.validating = True
        loop.run()
        trainer.training = True
        epochs.completed = begun

    def _interrupt(self, number: int, frame: Any) -> None:
        if os.getpid() != self._process:
            return  # a worker that makes batches: its work is still wanted
        if number == signal.SIGHUP:  # a terminal that is gone takes no more words
            nowhere = os.open(os.devnull, os.O_WRONLY)
            for stream in self._terminals:
                os.dup2(nowhere, stream)
        rank_zero_info("Finishing this step, then saving; Ctrl-C again stops at once.")
        self.interrupted = True
        for later in self._previous:
            signal.signal(later, self._previous[later] if later == signal.SIGINT else signal.SIG_IGN)

    def _restore(self) -> None:
        for number, handler in getattr(self, "_previous", {}).items():
            signal.signal(number, handler)


def _identity(trainer: Trainer) -> dict[str, Any]:
    """Of the data, where it is of ours."""
    return trainer.datamodule.identity() if hasattr(trainer.datamodule, "identity") else {}


def _validates_next(trainer: Trainer) -> bool:
    """Whether Lightning's schedule has a validation after this step, even if training stops."""
    stops, trainer.should_stop = trainer.should_stop, False
    validates = trainer.fit_loop.epoch_loop._should_check_val_fx(trainer.fit_loop._data_fetcher)
    trainer.should_stop = stops
    return validates
