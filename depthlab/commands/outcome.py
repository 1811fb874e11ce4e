"""What comes after a fit: what has not been evaluated is, results are written, tables and places are shown.

Where the test split has labels, `results.json` holds `test/...` of the best state, too, so that a sweep's runs are
tested without a command for each; `depthlab test` only prints.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_only

from depthlab.commands.beside import measure_beside, show_sentence
from depthlab.errors import UserError
from depthlab.files import told
from depthlab.reports.measured import measured_table
from depthlab.run.checkpoints import damage
from depthlab.run.config import read_yaml
from depthlab.tasks.pretraining import MaskedLanguageModelling

if TYPE_CHECKING:
    from depthlab.commands.experiment_cli import ExperimentCLI


@rank_zero_only
def say(text: str) -> None:
    """Print, once for all ranks."""
    print(text, flush=True)


def finish(fit: "ExperimentCLI") -> None:
    """Evaluate, write and show, after a fit; one that was interrupted exits with 130.

    Raises:
        UserError: the best state is to be tested, but has been removed.
    """
    trainer = fit.trainer
    if fit.resumable.interrupted:
        say(f"Interrupted after step {trainer.global_step}. Go on: the same command with --ckpt_path last")
        if trainer.is_global_zero:  # Lightning ends the others hastily when one of them fails
            sys.exit(130)
        return
    if trainer.fast_dev_run:
        return
    results = _validate(fit)
    work = fit.throughput.savings(fit.model.cap)  # before the best state brings back the totals of its time
    tested = _test(fit)
    results |= tested | ({"batches": taken} if (taken := batches_taken(trainer)) else {})
    if trainer.is_global_zero:
        fit.run.write_results(results)
        trainer.logger.log_results(read_yaml(fit.run.config), results)
        fit.exporter.update_card()
    for stage in ("val", "test") if tested else ("val",):
        show_table(fit, stage, results)
    if trainer.is_global_zero and isinstance(fit.model, MaskedLanguageModelling):
        say("\nThe beginning of a held-out document, depth below:\n")
        show_sentence(fit)
    say("\n" + _places(fit, work))


def show_table(experiment: "ExperimentCLI", stage: str, measured: Mapping[str, Any]) -> None:
    """Print what was measured in a stage, in the task's own form, and of how much where that is not all."""
    table = measured_table(measured, getattr(experiment.model, "task", ""), stage, measure_beside(experiment, stage))
    say("\n" + table + of_a_part(experiment.trainer, stage))


def predictions_folder(experiment: "ExperimentCLI") -> Path:
    """Where predictions go: of a run's best state as it was trained, to where they are looked for; else a folder below.

    So those that another state makes, or a dial that was turned, never pass for the run's.
    """
    run, state = experiment.run, experiment.options.ckpt_path
    if not run.config.exists():
        return run.predictions
    trained = read_yaml(run.config)["model"].get("depth") or {}
    now = experiment.config[experiment.command].model.depth.as_dict()
    other = {name: value for name, value in now.items() if name in trained and trained[name] != value}
    if state not in (None, "best") and Path(state).resolve() != run.best.resolve():
        other["state"] = Path(state).stem
    return run.predictions / ",".join(told(other))


def of_a_part(trainer: Trainer, stage: str) -> str:
    """What stands below a table of what was measured on some batches of a stage alone; "" where it was all of them."""
    limited = batches_taken(trainer).get(stage)
    return "" if limited is None else f"\n\nOf {limited} batches alone (trainer.limit_{stage}_batches)."


def _validate(fit: "ExperimentCLI") -> dict[str, Any]:
    """What the run has measured: its best state, where there is one. The last is validated first, if need be."""
    trainer, best = fit.trainer, fit.best
    validated = best is not None and best.validated(trainer.global_step)
    if fit.resumable.validation_due:  # the run was left with nothing but that to come
        trainer.validate(fit.model, fit.datamodule, verbose=False)
    loop = trainer.fit_loop
    if loop.epoch_loop._batches_that_stepped < trainer.global_step:  # it went on where no step was left to take
        loop.epoch_loop._batches_that_stepped += 1  # what follows is logged as after the last step, and its epoch
        loop.epoch_progress.increment_processed()
        loop.epoch_progress.increment_completed()
    if best is None or not best.validated(trainer.global_step):
        trainer.validate(fit.model, fit.datamodule, verbose=False)
    if best is not None and not validated and fit.model.cap is not None:
        fit.exporter.on_fit_end(trainer, fit.model)  # the best may be another now
    return {
        "steps": trainer.global_step,
        **fit.throughput.state_dict(),
        **fit.finite.results(),
        "data": fit.datamodule.summary,
        "seed": fit.options.seed_everything,
        "batch_size": fit.datamodule.batch_size,
        **fit.model.facts(),
        **_measured(trainer, "val/"),
        **({} if best is None else best.results()),
    }


def _test(fit: "ExperimentCLI") -> dict[str, float]:
    """What the best state scores on test splits that have labels; nothing where there are none."""
    is_validated = fit.best is not None and fit.best.epochs
    if not (is_validated and fit.datamodule.tested_after_fit and fit.datamodule.test_splits):
        return {}
    if not fit.best.path.exists() or damage(fit.best.path):
        raise UserError(f"{fit.best.path} is gone or damaged, so the best state can't be tested: start anew")
    fit.trainer.test(fit.model, fit.datamodule, ckpt_path=fit.best.path, verbose=False)
    return _measured(fit.trainer, "test/")


def batches_taken(trainer: Trainer) -> dict[str, str]:
    """By stage, how many of its batches were taken, where `limit_*_batches` or `overfit_batches` leave some out."""
    found = {}
    for stage in ("train", "val", "test"):
        limit = getattr(trainer, f"limit_{stage}_batches")
        loaders = getattr(trainer, f"{stage}_dataloader{'' if stage == 'train' else 's'}")
        lengths = [
            len(loader) for loader in (loaders if isinstance(loaders, list) else [loaders]) if loader is not None
        ]
        taken = [min(limit, length) if isinstance(limit, int) else int(limit * length) for length in lengths]
        if taken != lengths:
            found[stage] = f"{sum(taken)} of {sum(lengths)}"
    return found


def _measured(trainer: Trainer, prefix: str) -> dict[str, float]:
    return {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith(prefix)}


def _places(fit: "ExperimentCLI", work: str) -> str:
    """What was done, and where everything lies."""
    places = {
        "work": work,
        "results": fit.run.results,
        "checkpoint": fit.resumable.path,
        "best": None if fit.best is None else fit.best.path,
        "model": fit.exporter.exported,
        "TensorBoard": f"tensorboard --logdir {fit.run.path}",
    }
    there = {name: place for name, place in places.items() if not isinstance(place, Path) or place.exists()}
    return "\n".join(f"{name:13}{place}" for name, place in there.items() if place is not None)
