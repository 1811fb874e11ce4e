"""What Lightning's CLI makes of an experiment: its settings, the callbacks and loggers of a run."""

import logging
import sys
from argparse import SUPPRESS
from collections.abc import Sequence
from inspect import signature
from pathlib import Path
from typing import Any, Literal

from jsonargparse import Namespace, set_parsing_settings
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from depthlab.callbacks import (
    BestCheckpoint,
    Dashboard,
    DataCheck,
    DepthCollapse,
    ExportAtEnd,
    FiniteSteps,
    PonderMonitor,
    PredictionWriter,
    ProgressBar,
    Reporter,
    Resumable,
    SizeLine,
    ThroughputMonitor,
    TokenTable,
    WholeCheckpoints,
)
from depthlab.callbacks.finite import OnBadStep
from depthlab.commands.beside import check_beside
from depthlab.commands.catalogue import EXPERIMENTS, Experiment
from depthlab.commands.guards import existing_checkpoint, only_one, refuse_to_overwrite, refuse_untrained
from depthlab.commands.outcome import finish, predictions_folder, say, show_table
from depthlab.commands.parser import OneLineErrors
from depthlab.commands.trainer import ExperimentTrainer
from depthlab.commands.vocabulary import follow_tokenizer
from depthlab.data.workers import named_when_killed
from depthlab.errors import BadNumbers, UserError, notice
from depthlab.files import writing
from depthlab.models import AdaptiveAlbertConfig
from depthlab.models.checkpoint import find_tokenizer
from depthlab.reports.card import write_card
from depthlab.reports.labels import predicted_document
from depthlab.run.directory import RunDirectory
from depthlab.run.progress import ProgressFile
from depthlab.tasks.pretraining import MaskedLanguageModelling

NOISE = ("💡 Tip: ", "`weights_only` was not set")
"""How Lightning's lines begin that say nothing of the run."""
for logger in (
    "fabric.utilities.rank_zero",
    "pytorch.utilities.rank_zero",
    "pytorch.trainer.connectors.checkpoint_connector",
):
    logging.getLogger(f"lightning.{logger}").addFilter(lambda said: not said.getMessage().startswith(NOISE))

set_parsing_settings(
    omegaconf_absolute_to_relative_paths=True,  # interpolations hold across several files
    subclasses_disabled=[AdaptiveAlbertConfig],  # its fields are options of their own, checked and documented
)


class ExperimentParser(OneLineErrors, LightningArgumentParser):
    """Lightning's parser, with errors of one line."""

    def add_argument(self, *names: str, **settings: Any) -> Any:
        """As jsonargparse's; a seed is a number: of `true` Lightning would draw one that nobody chose."""
        if names == ("--seed_everything",):
            settings["type"] = int
        return super().add_argument(*names, **settings)


class SaveConfigAndTokenizer(SaveConfigCallback):
    """What a run is described by goes into its directory before it starts: an interrupted run can be exported too."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Nothing yet: settings that the checkpoint to go on from refuses are not the run's."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save, once the checkpoint is loaded."""
        super().setup(trainer, pl_module, stage="fit")

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Save both. A run that goes on has no results any more.

        Raises:
            UserError: they can't be written.
        """
        run = RunDirectory(Path(trainer.logger.save_dir))
        with writing("the settings to", run.config) as unfinished:
            self.parser.save(self.config, unfinished, skip_none=False, multifile=False)
        with writing("the tokenizer to", run.tokenizer, replaces_folder=True) as unfinished:
            trainer.datamodule.tokenizer.save_pretrained(unfinished)
        run.results.unlink(missing_ok=True)


class ExperimentCLI(LightningCLI):
    """Lightning's CLI with a fixed run directory: logs, checkpoints and results of a run lie in one place.

    Only the parser of the command is built, as each takes its time.
    """

    def __init__(self, command: str, experiment: Experiment, arguments: Sequence[str]) -> None:
        self.command = command
        self.experiment = experiment
        self.best: BestCheckpoint | None = None
        mode = "omegaconf+"
        super().__init__(
            experiment.task,
            experiment.data,
            trainer_class=ExperimentTrainer,
            parser_class=ExperimentParser,
            save_config_callback=SaveConfigAndTokenizer if command == "fit" else None,
            trainer_defaults={"log_every_n_steps": 10, "num_sanity_val_steps": 0, "use_distributed_sampler": False},
            seed_everything_default=0,
            save_config_kwargs={"save_to_log_dir": False},
            parser_kwargs={"prog": "depthlab", "parser_mode": mode, command: {"parser_mode": mode}},
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            args=[command, *arguments],
        )

    def subcommands(self) -> dict[str, set[str]]:
        """The one command, and what of its Trainer method's arguments is no option."""
        return {self.command: LightningCLI.subcommands().get(self.command, {"model", "datamodule"})}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add what belongs to an experiment beside trainer, model and data."""
        kinds = Literal[*EXPERIMENTS]
        parser.add_argument("--task", type=kinds, default="pretraining", help="What a YAML's experiment is.")
        parser.add_argument("--base", type=str | None, help="In a YAML: the file, beside it, that it builds upon.")
        parser.add_argument(
            "--sweep",
            type=dict | list | None,
            help="In a YAML: the grid that `depthlab sweep` runs; the other commands ignore it.",
        )
        parser.add_argument(
            "--run_dir",
            default="checkpoints/runs/default",
            help="Directory of the run: configuration, TensorBoard logs, checkpoints, results. A new run never "
            "overwrites another: go on with `--ckpt_path last`, or name another directory. Without a `--ckpt_path`, "
            "validate, test and predict take its best checkpoint, or the last where the task has no best; with "
            "`--ckpt_path model` the weights that `model.checkpoint` names, whether or not there is a run.",
        )
        parser.add_argument(
            "--on_bad_step",
            type=OnBadStep,
            default="stop",
            help="What a loss, gradient or weight that is NaN or infinite does to a fit: it stops at that step; or the "
            "step is skipped and counted.",
        )
        asked = signature(getattr(ExperimentTrainer, self.command)).parameters
        for name in (name for name in ("ckpt_path", "weights_only") if name not in asked):
            # A run's config.yaml says that it began from none: who does not ask takes its settings all the same.
            parser.add_argument(f"--{name}", type=type(None), help=SUPPRESS)
        parser.add_lightning_class_args(Resumable, "checkpoint")
        parser.link_arguments("run_dir", "checkpoint.directory", compute_fn=_checkpoints_of)
        table = self.experiment.table
        if issubclass(self.experiment.task, MaskedLanguageModelling):
            parser.add_argument(
                "--beside",
                type=list[str] | None,
                help="Checkpoints with a head for masked words, whose figures on the same held-out documents stand "
                "beside those of the run.",
            )
        self.table_options = [] if table is None else parser.add_class_arguments(table, instantiate=False)
        parameters = signature(self._model_class).parameters
        if "checkpoint" in parameters:
            parser.link_arguments("model.checkpoint", "data.tokenizer", compute_fn=find_tokenizer)
        if "labels" in parameters:
            links = (("task_name", "task"), ("labels", "labels"), ("metrics", "metrics"), ("unit", "unit"))
            for source, target in (link for link in links if link[1] in parameters):
                parser.link_arguments(f"data.{source}", f"model.{target}", apply_on="instantiate")

    def parse_arguments(self, parser: LightningArgumentParser, args: Sequence[str]) -> None:
        """Parse; Lightning's own warns where arguments are handed over, as `main` does.

        The run's `config.yaml` holds every setting, so it builds upon no other file. What it says of a new halting unit
        is of training alone: what is evaluated has its own.
        """
        self.config = parser.parse_args(args)
        options = self.config[self.command]
        options.base = None
        if self.command != "fit" and options.model.get("depth") is not None:
            options.model.depth.halting_bias_init = None
        if not self.experiment.is_trained and options.ckpt_path is not None:
            _take_as_model(options)

    def instantiate_classes(self) -> None:
        """The settings' classes."""
        follow_tokenizer(self.config[self.command])
        super().instantiate_classes()

    def _parse_ckpt_path(self) -> None:
        """Nothing: Lightning would read the whole checkpoint here, for hyper-parameters that ours keep elsewhere."""

    @property
    def options(self) -> Namespace:
        """All settings, and what was made of them."""
        return self.config_init[self.command]

    @property
    def run(self) -> RunDirectory:
        """The run's directory."""
        return RunDirectory(Path(self.options.run_dir))

    def _run_subcommand(self, subcommand: str) -> None:
        with named_when_killed():
            super()._run_subcommand(subcommand)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Give the trainer the callbacks of every run, and its logger."""
        self.resumable, self.throughput = self.options.checkpoint, ThroughputMonitor()
        self.finite = FiniteSteps(self.run, self.options.on_bad_step)
        callbacks: list[Callback] = [DataCheck(), self.throughput, self.finite]
        self.trainer_defaults["callbacks"] = callbacks
        if self.model.cap is not None:
            callbacks.insert(0, PonderMonitor())
        if self.model.monitor is not None:
            self.best = BestCheckpoint(self.run.best, self.run.last, self.model.monitor)
            callbacks.append(self.best)
        has_bar = self.options.trainer.enable_progress_bar is not False and sys.stdout.isatty()
        kwargs |= {"enable_progress_bar": has_bar, "enable_model_summary": False}
        callbacks += [] if self.options.trainer.enable_model_summary is False else [SizeLine()]
        if has_bar:
            callbacks.append(ProgressBar(leave=True))
        if self.command == "predict":
            self.writer = self.make_writer()
            callbacks.append(self.writer)
        if self.command == "fit":
            self.progress = ProgressFile(self.run.progress, writes=rank_zero_only.rank == 0)
            callbacks.append(Reporter(self.progress, prints=not has_bar))
            self.exporter = ExportAtEnd(self.run.path, write_card, None if self.best is None else self.best.path)
            if self.model.cap is not None:  # they know models of ours only
                callbacks += [DepthCollapse(), self.exporter]
            kwargs.setdefault("logger", self.make_loggers())
        else:
            kwargs.setdefault("logger", False)
        if self.options.trainer.enable_checkpointing is False:
            raise UserError(
                "trainer.enable_checkpointing false: a run keeps its state; checkpoint.every_n_steps is how often"
            )
        kwargs["plugins"] = [WholeCheckpoints(), *_listed(self.options.trainer.plugins)]
        trainer = super().instantiate_trainer(**kwargs)
        trainer.count_steps(self.datamodule)
        if trainer.loggers:  # after `Resumable`: what it logs as a step begins is not of the step that is being saved
            trainer.callbacks.append(LearningRateMonitor(logging_interval="step"))
        return trainer

    def make_loggers(self) -> list[Logger]:
        """TensorBoard's, which belongs to every run, and those of `trainer.logger`, which can't be false."""
        given = self.options.trainer.logger
        if given is False:
            raise UserError("trainer.logger can't be false: every run has TensorBoard's; name those wanted beside it")
        return [Dashboard(self.run.path, name="", version=""), *([] if given is True else _listed(given))]

    def make_writer(self) -> PredictionWriter | TokenTable:
        """The callback that keeps what is predicted, and reports on it."""
        if self.experiment.table is None:
            return PredictionWriter(predictions_folder(self))
        return self.experiment.table(**{name: self.options[name] for name in self.table_options})

    def before_fit(self) -> None:
        """Refuse to overwrite a run, or to resume what is not there."""
        self.resumable.old_logs = self.run.log_files() if self.run.was_begun() else []
        if self.options.ckpt_path == "last" and self.run.was_begun() and not self.run.holds_work():
            notice(f"{self.run.path} holds a run that ended before its first save: starting it anew")
            self.options.ckpt_path = None
        checkpoint = self._find_checkpoint()
        ours = {self.run.last.resolve(), self.run.previous.resolve()}
        refuse_to_overwrite(self.run, goes_on=checkpoint is not None and checkpoint.resolve() in ours)
        check_beside(self)

    def fit(self, **arguments: Any) -> None:
        """Train, as the only one in this run directory; then evaluate what has not been, and say what became of it."""
        with only_one(self.run, self.trainer.is_global_zero), self.progress:
            try:
                self.trainer.fit(**arguments)
            except BadNumbers:
                if self.trainer.is_global_zero:
                    raise
                sys.exit(0)  # rank 0 says so; it would be ended hastily if another failed
            finish(self)

    def before_validate(self) -> None:
        """Take the run's best checkpoint, or the last where the task has no best, unless another is named."""
        check_beside(self)
        self.trainer.refuse_no_batches(self.command)
        if self.options.ckpt_path == "model":
            if "checkpoint" not in signature(self._model_class).parameters:
                raise UserError("--ckpt_path model needs a model.checkpoint, which this experiment does not have")
            refuse_untrained(self.config[self.command].model.checkpoint, self.model.model)
            self.options.ckpt_path = None  # its weights are loaded already
        elif not self.experiment.is_trained:
            refuse_untrained(self.config[self.command].model.checkpoint, self.model.model)
        else:
            if self.options.ckpt_path is None:
                self.options.ckpt_path = "best" if self.best is not None and self.best.path.exists() else "last"
            self._find_checkpoint()

    before_test = before_predict = before_validate

    def _find_checkpoint(self) -> Path | None:
        """What `--ckpt_path` names, "last" and "best" being in this run directory; None where it names nothing."""
        if self.options.ckpt_path is None:
            return None
        named = {"last": self.resumable.path} | ({} if self.best is None else {"best": self.best.path})
        path = existing_checkpoint(named.get(self.options.ckpt_path, Path(self.options.ckpt_path)))
        self.options.ckpt_path = str(path)
        return path

    def after_validate(self) -> None:
        """Print the task's table."""
        show_table(self, "test" if self.command == "test" else "val", self.trainer.callback_metrics)

    after_test = after_validate

    def after_predict(self) -> None:
        """Say what was found, and what was written."""
        if not self.trainer.is_global_zero:
            return
        if self.experiment.table is None:
            say(self.writer.report())
        else:
            counts = self.datamodule.counts(self.writer.table["sentence"].unique())
            say(predicted_document(self.writer.table, counts).to_markdown() + self.writer.report())


def _listed(given: Any) -> list[Any]:
    """What may be given as one, as several, or not at all."""
    return given if isinstance(given, list) else [given] if given else []


def _checkpoints_of(run_dir: str) -> str:
    """Where a run's checkpoints lie; interpolations, which may not be resolved yet, are seen from a level below."""
    return str(RunDirectory(Path(run_dir)).checkpoints).replace("${.", "${..")


def _take_as_model(options: Namespace) -> None:
    """Where nothing is trained, `--ckpt_path` names the model's checkpoint, whatever head it has."""
    if not Path(options.ckpt_path).is_file():
        raise UserError(f"--ckpt_path {options.ckpt_path} does not exist: name a file, or a run by --model.checkpoint")
    options.model.checkpoint, options.ckpt_path = options.ckpt_path, None
    options.data.tokenizer = find_tokenizer(options.model.checkpoint)
