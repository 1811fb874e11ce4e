"""An experiment: a YAML, and what Lightning's CLI makes of it (fit, validate, test, predict, and `prepare` before)."""

import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from inspect import signature
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NoReturn

import yaml
from filelock import FileLock, Timeout
from jsonargparse import set_parsing_settings
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from depthlab.callbacks import (
    BestCheckpoint,
    ExportAtEnd,
    PonderMonitor,
    PredictionWriter,
    ProgressBar,
    Resumable,
    ThroughputMonitor,
    TokenTable,
)
from depthlab.data.benchmarks.glue import GlueDataModule
from depthlab.data.benchmarks.probing import ProbingDataModule
from depthlab.data.corpora.pretraining import PretrainingDataModule
from depthlab.data.treebanks.treebank import TreebankDataModule
from depthlab.errors import UserError
from depthlab.models import AdaptiveAlbertConfig
from depthlab.models.checkpoint import find_tokenizer
from depthlab.reports.card import write_card
from depthlab.reports.measured import measured_table
from depthlab.run.config import read_yaml, with_bases
from depthlab.run.directory import RunDirectory
from depthlab.tasks import ClassificationTask, PretrainingTask, RetrofitTask, TreebankTask

STEPS = {"fit": "training_step", "validate": "validation_step", "test": "test_step", "predict": "predict_step"}
"""What a LightningModule needs for a command."""

set_parsing_settings(
    omegaconf_absolute_to_relative_paths=True,  # interpolations hold across several files
    subclasses_disabled=[AdaptiveAlbertConfig],  # its fields are options of their own, checked and documented
)


class DepthlabTrainer(Trainer):
    """Lightning's Trainer, and a step ahead of it."""

    def prepare(self, model: Any, datamodule: LightningDataModule) -> None:
        """Prepare an experiment's data ahead of time, so that fit (on a cluster, say) finds it in the cache."""
        datamodule.prepare_data()


class DepthlabParser(LightningArgumentParser):
    """Lightning's parser, with errors of one line."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Say what is wrong, not how everything is used."""
        raise UserError(f"{' '.join(message.split())} (see `{self.prog.replace(' [options]', '')} --help`)")


class SaveConfigAndTokenizer(SaveConfigCallback):
    """What a run is described by goes into its directory before it starts: an interrupted run can be exported too."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Nothing yet: settings that the checkpoint to go on from refuses are not the run's."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save, once the checkpoint is loaded."""
        super().setup(trainer, pl_module, stage="fit")

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Save the tokenizer; the configuration is saved by Lightning. A run that goes on has no results any more."""
        run_dir = RunDirectory(Path(trainer.logger.save_dir))
        trainer.datamodule.tokenizer.save_pretrained(run_dir.tokenizer)
        run_dir.results.unlink(missing_ok=True)


class DepthlabCLI(LightningCLI):
    """Lightning's CLI with a fixed run directory: logs, checkpoints and results of a run lie in one place."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Lightning's, and `prepare`."""
        return {**LightningCLI.subcommands(), "prepare": {"model", "datamodule"}}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add what belongs to an experiment beside trainer, model and data."""
        parser.add_argument("--task", type=Literal[*TASKS], default="pretraining", help="What a YAML's experiment is.")
        parser.add_argument(
            "--base", type=str | None, default=None, help="In a YAML: the file, beside it, that it builds upon."
        )
        parser.add_argument(
            "--sweep",
            type=dict | list | None,
            default=None,
            help="In a YAML: the grid that `depthlab sweep` runs; the other commands ignore it.",
        )
        parser.add_argument(
            "--run_dir",
            default="checkpoints/runs/default",
            help="Directory of the run: configuration, TensorBoard logs, checkpoints, results. A new run never "
            "overwrites another: go on with `--ckpt_path last`, or name another directory. Without a `--ckpt_path`, "
            "validate, test and predict take its best checkpoint, or the last where the task has no best.",
        )
        parser.add_lightning_class_args(Resumable, "checkpoint")
        parser.link_arguments("run_dir", "checkpoint.directory", compute_fn=_checkpoints_of)
        parameters = signature(self._model_class).parameters
        if "checkpoint" in parameters:
            parser.link_arguments("model.checkpoint", "data.tokenizer", compute_fn=find_tokenizer)
        if "labels" in parameters:
            for source, target in (("task_name", "task"), ("labels", "labels"), ("metrics", "metrics")):
                parser.link_arguments(f"data.{source}", f"model.{target}", apply_on="instantiate")

    def parse_arguments(self, parser: LightningArgumentParser, args: Sequence[str]) -> None:
        """Parse; Lightning's own warns where arguments are handed over, as `main` does.

        The run's `config.yaml` holds every setting, so it builds upon no other file.
        """
        self.config = parser.parse_args(args)
        self.config[self.config.subcommand].base = None

    def _parse_ckpt_path(self) -> None:
        """Nothing: Lightning would read the whole checkpoint here, for hyper-parameters that ours keep elsewhere."""

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Give the trainer the callbacks of every run, and its logger."""
        run_dir = self._get(self.config_init, "run_dir")
        self.resumable = self._get(self.config_init, "checkpoint")
        self.throughput = ThroughputMonitor()
        callbacks = self.trainer_defaults["callbacks"] = [
            self.throughput,
            LearningRateMonitor(logging_interval="step"),
        ]
        if self.model.cap is not None:
            callbacks.insert(0, PonderMonitor(self.model.cap))
        self.best = None
        if self.model.monitor is not None:
            last = self.resumable.path
            self.best = BestCheckpoint(last.with_name("best.ckpt"), last, self.model.monitor)
            callbacks.append(self.best)
        if self._get(self.config_init, "trainer.enable_progress_bar") is not False:
            callbacks.append(ProgressBar(leave=True))
        if self.subcommand == "predict":
            self.writer = self.make_writer()
            callbacks.append(self.writer)
        if self.subcommand == "fit":
            self.exporter = ExportAtEnd(Path(run_dir), write_card, None if self.best is None else self.best.path)
            if self.model.cap is not None:  # it knows models of ours only
                callbacks.append(self.exporter)
            kwargs.setdefault("logger", self.make_loggers(run_dir))
        else:
            kwargs.setdefault("logger", False)
            self.save_config_callback = None
        return super().instantiate_trainer(**kwargs)

    def make_loggers(self, run_dir: str) -> list[Logger]:
        """TensorBoard's, which belongs to every run, and those of `trainer.logger`.

        Raises:
            UserError: it is false.
        """
        given = self._get(self.config_init, "trainer.logger")
        if given is False:
            raise UserError("trainer.logger can't be false: every run has TensorBoard's; name those wanted beside it")
        others = [] if given in (None, True) else given if isinstance(given, list) else [given]
        return [TensorBoardLogger(run_dir, name="", version=""), *others]

    def make_writer(self) -> PredictionWriter | TokenTable:
        """The callback that keeps what is predicted."""
        return PredictionWriter(RunDirectory(Path(self._get(self.config_init, "run_dir"))).predictions)

    def before_fit(self) -> None:
        """Refuse to overwrite a run, or to resume what is not there.

        Raises:
            UserError: there is a run in the run directory, or none to resume; or the directory can't be written.
        """
        run_dir = RunDirectory(Path(self.config_init.fit.run_dir))
        checkpoint = self._find_checkpoint()
        goes_on = checkpoint is not None and checkpoint.resolve() == self.resumable.path.resolve()
        if not goes_on and run_dir.has_begun():
            raise UserError(
                f"{run_dir.path} holds a run: go on with --ckpt_path last, start another with --run_dir DIR, or "
                "remove it"
            )
        try:
            run_dir.path.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=run_dir.path).close()
        except OSError as error:
            raise UserError(f"cannot write to --run_dir {run_dir.path}: {error.strerror}") from None

    def fit(self, **arguments: Any) -> None:
        """Train, as the only one in this run directory, whose `.lock` says so.

        Raises:
            UserError: another process trains there.
        """
        run_dir = Path(self.config_init.fit.run_dir)
        with ExitStack() as stack:
            if self.trainer.is_global_zero:
                try:
                    stack.enter_context(FileLock(RunDirectory(run_dir).lock, blocking=False))
                except Timeout:
                    raise UserError(
                        f"another process trains in {run_dir}: stop it, or name another --run_dir"
                    ) from None
            self.trainer.fit(**arguments)

    def before_validate(self) -> None:
        """Take the run's best checkpoint, or the last where the task has no best, unless another is named.

        Raises:
            UserError: there is none.
        """
        options = self.config_init[self.subcommand]
        if options.ckpt_path is None:
            options.ckpt_path = "best" if self.best is not None and self.best.path.exists() else "last"
        self._find_checkpoint()

    before_test = before_predict = before_validate

    def _find_checkpoint(self) -> Path | None:
        """What `--ckpt_path` names, "last" and "best" being in this run directory; None where it names nothing."""
        options = self.config_init[self.subcommand]
        if options.ckpt_path is None:
            return None
        if options.ckpt_path == "last":
            options.ckpt_path = str(self.resumable.path)
        elif options.ckpt_path == "best" and self.best is not None:
            options.ckpt_path = str(self.best.path)
        path = Path(options.ckpt_path)
        if not path.exists():
            raise UserError(f"nothing to go on from: {path} does not exist; name another --ckpt_path or --run_dir")
        if not zipfile.is_zipfile(path):
            raise UserError(f"--ckpt_path {path} is not a checkpoint")
        return path

    def after_fit(self) -> None:
        """Evaluate what has not been, print the tables and where everything lies; an interrupted fit exits with 130.

        Where the test split has labels, `results.json` holds `test/...` of the best state, too, so that a sweep's runs
        are tested without a command for each; `depthlab test` only prints.
        """
        run_dir = RunDirectory(Path(self.config_init.fit.run_dir))
        if self.resumable.interrupted:
            _say(f"Interrupted after step {self.trainer.global_step}. Go on: the same command with --ckpt_path last")
            if self.trainer.is_global_zero:  # Lightning ends the others hastily when one of them fails
                sys.exit(130)
            return
        if self.trainer.fast_dev_run:
            return
        if self.best is None or not self.best.validated(self.trainer.global_step):
            self.trainer.validate(self.model, self.datamodule, verbose=False)
            if self.best is not None and self.model.cap is not None:
                self.exporter.on_fit_end(self.trainer, self.model)  # the best may be another now
        results = {
            "steps": self.trainer.global_step,
            **self.throughput.state_dict(),
            "data": self.datamodule.summary,
            "seed": self.config_init.fit.seed_everything,
            **self.model.facts(),
            **{name: float(value) for name, value in self.trainer.callback_metrics.items() if name.startswith("val/")},
            **({} if self.best is None else self.best.results()),
        }
        work = self.throughput.savings(self.model.cap)  # before the best state brings back the totals of its time
        is_validated = self.best is not None and self.best.epochs
        is_tested = is_validated and self.datamodule.tested_after_fit and self.datamodule.test_splits
        if is_tested:
            if not self.best.path.exists():
                raise UserError(f"{self.best.path} is gone, so the best state can't be tested: start anew")
            self.trainer.test(self.model, self.datamodule, ckpt_path=self.best.path, verbose=False)
            results |= {
                name: float(value) for name, value in self.trainer.callback_metrics.items() if name.startswith("test/")
            }
        if self.trainer.is_global_zero:
            run_dir.write_results(results)
            self.exporter.update_card()
        _say("\n" + self._table(results))
        if is_tested:
            _say("\n" + self._table(results, "test"))
        places = {
            "work": work,
            "results": run_dir.results,
            "checkpoint": self.resumable.path,
            "best": None if self.best is None else self.best.path,
            "model": self.exporter.directory,
            "TensorBoard": f"tensorboard --logdir {run_dir.path}",
        }
        shown = (
            f"{name:13}{place}"
            for name, place in places.items()
            if place is not None and (not isinstance(place, Path) or place.exists())
        )
        _say("\n" + "\n".join(shown))

    def _table(self, values: Mapping[str, Any], stage: str = "val") -> str:
        return measured_table(values, getattr(self.model, "task", ""), stage)

    def after_validate(self) -> None:
        """Print the task's table."""
        _say("\n" + self._table(self.trainer.callback_metrics))

    def after_test(self) -> None:
        """Print the task's table."""
        _say("\n" + self._table(self.trainer.callback_metrics, "test"))

    def after_predict(self) -> None:
        """Say what was found, and what was written."""
        if self.trainer.is_global_zero:
            _say(self.writer.report())


class TreebankCLI(DepthlabCLI):
    """Takes any run's model, whatever head it has, so Lightning is not to load it."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the table's file."""
        super().add_arguments_to_parser(parser)
        parser.add_argument(
            "--dump",
            type=Path | None,
            default=None,
            help="File in Parquet to write a table to, with a row for each piece of a word: sentence, word, piece, "
            "labels, depth, remainder, ...",
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: Sequence[str]) -> None:
        """Parse; what `--ckpt_path` names is the model's checkpoint.

        Raises:
            UserError: it does not exist.
        """
        super().parse_arguments(parser, args)
        options = self.config[self.config.subcommand]
        if options.ckpt_path is not None:
            if not Path(options.ckpt_path).is_file():
                raise UserError(
                    f"--ckpt_path {options.ckpt_path} does not exist: name a file, or a run by --model.checkpoint"
                )
            options.model.checkpoint, options.ckpt_path = options.ckpt_path, None
            options.data.tokenizer = find_tokenizer(options.model.checkpoint)

    def make_writer(self) -> TokenTable:
        """A table of the pieces."""
        return TokenTable(self._get(self.config_init, "dump"))

    def before_predict(self) -> None:
        """Nothing: the model is there already."""


TASKS = {
    "pretraining": (PretrainingTask, PretrainingDataModule, DepthlabCLI),
    "retrofit": (RetrofitTask, PretrainingDataModule, DepthlabCLI),
    "glue": (ClassificationTask, GlueDataModule, DepthlabCLI),
    "probing": (ClassificationTask, ProbingDataModule, DepthlabCLI),
    "treebank": (TreebankTask, TreebankDataModule, TreebankCLI),
}
"""What an experiment can be (`task` in its YAML): its LightningModule, its LightningDataModule, and its settings."""


def _checkpoints_of(run_dir: str) -> str:
    """Where a run's checkpoints lie; interpolations, which may not be resolved yet, are seen from a level below."""
    return f"{run_dir}/checkpoints".replace("${.", "${..")


@rank_zero_only
def _say(text: str) -> None:
    print(text, flush=True)


def _task(arguments: Sequence[str]) -> str:
    """The experiment's kind: the `task` of the last configuration that names one."""
    task = "pretraining"
    for flag, value in pairwise(arguments):
        if flag == "--config":
            task = read_yaml(Path(value)).get("task", task)
    if any(argument.partition("=")[0] == "--task" for argument in arguments):
        raise UserError("an experiment's task stands in its YAML, which decides what settings there are: drop --task")
    if task not in TASKS:
        raise UserError(f"unknown task {task!r}: choose from {', '.join(TASKS)}")
    return task


def run_experiment(
    arguments: Sequence[str], description: str | None = None, cli_class: type[DepthlabCLI] | None = None
) -> DepthlabCLI:
    """Run one of Lightning's commands, or `prepare`, on an experiment.

    Args:
        arguments: what follows `depthlab`.
        description: what its help begins with.
        cli_class: what to do with the settings; what their task does by default.

    Raises:
        UserError: no experiment is named, or it has no such command; settings are wrong.
    """
    arguments = with_bases(arguments)
    if arguments and arguments[0] in DepthlabCLI.subcommands() and not {"--config", "-h", "--help"} & {*arguments}:
        raise UserError(f"name an experiment: depthlab {arguments[0]} --config experiments/pretrain.yaml")
    name = _task(arguments)
    task, data, own_class = TASKS[name]
    cli_class = cli_class or own_class
    command = arguments[0] if arguments else ""
    possible = [command for command, step in STEPS.items() if getattr(task, step) is not getattr(LightningModule, step)]
    if command in STEPS and "--config" in arguments and command not in possible:
        raise UserError(f"there is nothing to {command} in {name}, only to {' or '.join(possible)}")
    return cli_class(
        task,
        data,
        trainer_class=DepthlabTrainer,
        parser_class=DepthlabParser,
        save_config_callback=SaveConfigAndTokenizer,
        trainer_defaults={"log_every_n_steps": 10, "num_sanity_val_steps": 0, "use_distributed_sampler": False},
        seed_everything_default=0,
        save_config_kwargs={"overwrite": True},
        parser_kwargs={
            "prog": "depthlab",
            "version": version("depthlab"),
            "parser_mode": "omegaconf+",
            "description": description,
            **{name: {"parser_mode": "omegaconf+"} for name in cli_class.subcommands()},
        },
        auto_configure_optimizers=False,
        load_from_checkpoint_support=False,
        args=arguments,
    )


class SettingsOnly(DepthlabCLI):
    """Reads the settings of `fit`; nothing is seeded, built or run."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """One is quicker to set up than all."""
        return {"fit": DepthlabCLI.subcommands()["fit"]}

    def _set_seed(self) -> None: ...

    def instantiate_classes(self) -> None:
        """Nothing."""

    def _run_subcommand(self, subcommand: str) -> None: ...


def read_settings(arguments: Sequence[str]) -> dict[str, Any]:
    """All settings that `depthlab fit` would run with, defaults included, interpolations resolved.

    Args:
        arguments: what follows `fit`.

    Raises:
        UserError: there is no such setting, or a value is not of its kind.
    """
    cli = run_experiment(["fit", *arguments], cli_class=SettingsOnly)
    return yaml.safe_load(cli.parser.dump(cli.config, skip_unset=False))["fit"]
