"""The command `depthlab replay`: a step whose numbers went bad runs again, and is looked through."""

import warnings
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from torch.utils.data import DataLoader

from depthlab.callbacks.bad_numbers import BadNumberSearch, Found
from depthlab.commands.experiment import run_experiment
from depthlab.commands.experiment_cli import ExperimentCLI
from depthlab.commands.outcome import say
from depthlab.errors import UserError
from depthlab.run.checkpoints import whole_checkpoint
from depthlab.run.directory import RunDirectory


def replay(run: str, accelerator: str = "auto") -> None:
    """Run the step again in which a run's numbers went bad, and say where they first did.

    A fit that stops for a NaN or an infinity leaves its batch, the random state and, where the loss or a gradient was
    bad, the weights from before the step. Where only the optimiser's update has spoilt the weights, the batch runs on
    those of the last checkpoint. torch's anomaly detection watches. The run itself stays as it is.

    Args:
        run: Directory of the run.
        accelerator: Where to run it: auto, cpu, gpu, ...; one device does for all ranks.

    Raises:
        UserError: there is no run, or no bad step in it.
    """
    directory = RunDirectory(Path(run))
    if not directory.config.is_file():
        raise UserError(f"{run} holds no run")
    if not (directory.bad_step / "0.pt").is_file():
        raise UserError(f"{run} has no step whose numbers went bad: {directory.bad_step} holds none")
    run_experiment(
        "fit", ["--config", str(directory.config), f"--run_dir={run}", f"--trainer.accelerator={accelerator}"], Replay
    )


class Replay(ExperimentCLI):
    """A fit of one step, on what the run has left of it, that writes nothing."""

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """A trainer like the run's, for this step on one device."""
        files = sorted(self.run.bad_step.glob("*.pt"), key=lambda file: int(file.stem))
        ranks = [torch.load(file, map_location="cpu", weights_only=True) for file in files]
        self.ranks = [rank for rank in ranks if rank["step"] == ranks[0]["step"]]
        self.state = BadStepState(self.run, self.ranks)
        self.search = BadNumberSearch()
        self.save_config_callback = None
        self.trainer_defaults["callbacks"] = [self.state, self.search]
        off = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary"), False)
        whole = {"limit_train_batches": 1.0, "limit_val_batches": 0, "overfit_batches": 0}
        whole |= {"val_check_interval": 1.0, "check_val_every_n_epoch": 1, "max_epochs": -1, "max_time": None}
        one = {"devices": 1, "num_nodes": 1, "strategy": "auto"}
        trainer = super(ExperimentCLI, self).instantiate_trainer(
            **off,
            **whole,
            **one,
            detect_anomaly=True,
            max_steps=self.ranks[0]["step"],
            accumulate_grad_batches=len(self.state.pieces),
            **kwargs,
        )
        trainer.callbacks = [callback for callback in trainer.callbacks if not isinstance(callback, Checkpoint)]
        return trainer

    def before_fit(self) -> None:
        """Nothing is begun."""

    def fit(self, model: LightningModule, **arguments: Any) -> None:
        """Run the step as far as its numbers are good."""
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            try:
                self.trainer.fit(model, train_dataloaders=DataLoader(self.state.pieces, batch_size=None))
            except Found:
                pass
            except RuntimeError as error:
                self.search.explain(error, said)

    def after_fit(self) -> None:
        """Say what was found."""
        other = "another device, other ranks or other weights than the step's may be why"
        found = self.search.found or f"nothing: all numbers are finite this time; {other}"
        say(f"then   {self.ranks[0]['message']}\nnow    from the weights {self.state.origin}\nfirst  {found}")


class BadStepState(Callback):
    """Sets up a trainer of one step as it was at a bad step of a run: weights, learning rate, random state, count.

    Args:
        run: the directory of the run.
        ranks: what each of its ranks has left.
    """

    def __init__(self, run: RunDirectory, ranks: list[dict[str, Any]]) -> None:
        self.first = ranks[0]
        self.pieces = [piece for rank in ranks for piece in rank["pieces"]]
        """Micro-batches of all ranks, one after the other."""
        self._random = [rank["random"] if n == 0 else None for rank in ranks for n in range(len(rank["pieces"]))]
        self._checkpoint = None
        self.origin = f"before step {self.first['step']:,}"
        """Of which state the weights are."""
        last = whole_checkpoint(run.last) if self.first["weights"] is None else None
        if last is not None:
            self._checkpoint = torch.load(last, map_location="cpu", weights_only=True)
            self.origin = f"after step {self._checkpoint['global_step']:,}, of {last}"
        elif self.first["weights"] is None:
            self.origin = "that the run began with, as it has saved no others"

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The weights, how many steps were made, which fixed depth and tau follow, and what has steered tau."""
        weights = self.first["weights"] if self._checkpoint is None else self._checkpoint["state_dict"]
        if weights is not None:
            pl_module.load_state_dict(weights)
        if (steered := self.first.get("depth_target")) is not None:
            pl_module.depth_target.state = steered
        trainer.fit_loop.epoch_loop.automatic_optimization.optim_progress.optimizer.step.total.completed = (
            self.first["step"] - 1
        )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The optimiser's state, if it is known, and learning rates."""
        (optimizer,) = trainer.optimizers
        if self._checkpoint is not None:
            optimizer.load_state_dict(self._checkpoint["optimizer_states"][0])
        for group, rate in zip(optimizer.param_groups, self.first["learning_rates"], strict=True):
            group["lr"] = rate

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """What a rank's dropout drew from."""
        random = self._random[batch_idx]
        if random is not None:
            torch.set_rng_state(random["cpu"])
            if pl_module.device.type in random and pl_module.device.type != "cpu":
                torch.get_device_module(pl_module.device).set_rng_state(random[pl_module.device.type])
