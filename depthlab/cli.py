"""The `depthlab` command: fit and validate on layered YAML, `prepare` ahead of them, and the small commands."""

import json
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Sequence
from importlib.metadata import version
from inspect import signature
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NoReturn

import yaml
from huggingface_hub.errors import StrictDataclassError
from jsonargparse import auto_cli, set_parsing_settings
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from depthlab.callbacks import PonderMonitor, ProgressBar, Resumable, ThroughputMonitor
from depthlab.data.pretraining import PretrainingDataModule
from depthlab.errors import UserError
from depthlab.models import AdaptiveAlbertConfig
from depthlab.models.checkpoint import find_tokenizer
from depthlab.models.convert import convert
from depthlab.reports.export import export
from depthlab.reports.pretraining import table_1
from depthlab.tasks import PretrainingTask, RetrofitTask

TASKS = {
    "pretraining": (PretrainingTask, PretrainingDataModule),
    "retrofit": (RetrofitTask, PretrainingDataModule),
}
"""What an experiment can be (`task` in its YAML): its LightningModule and its LightningDataModule."""

COMMANDS = {"export": export, "convert": convert}
"""Commands that need no trainer."""

DESCRIPTION = f"""Adaptive depth for ALBERT: pre-train, evaluate, look inside.

An experiment is a YAML: `depthlab fit --config experiments/pretrain.yaml`. Every setting of it can be given on the
command line too (`--data.corpus FOLDER`), and `depthlab fit --help` explains each.

Beside the subcommands below: {", ".join(f"`depthlab {name} --help`" for name in COMMANDS)}."""

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
        raise UserError(f"{' '.join(message.split())} (see `{self.prog} --help`)")


class SaveConfigAndTokenizer(SaveConfigCallback):
    """What a run is described by goes into its directory before it starts: an interrupted run can be exported too."""

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Save the tokenizer; the configuration is saved by Lightning."""
        trainer.datamodule.tokenizer.save_pretrained(Path(trainer.logger.save_dir) / "tokenizer")


class DepthlabCLI(LightningCLI):
    """Lightning's CLI with a fixed run directory: logs, checkpoints and results of a run lie in one place."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Those of Lightning's that there is something to do for, and `prepare`."""
        lightning = LightningCLI.subcommands()
        return {"fit": lightning["fit"], "validate": lightning["validate"], "prepare": {"model", "datamodule"}}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add what belongs to an experiment beside trainer, model and data."""
        parser.add_argument("--task", type=Literal[*TASKS], default="pretraining", help="What a YAML's experiment is.")
        parser.add_argument(
            "--base", type=str | None, default=None, help="In a YAML: the file, beside it, that it builds upon."
        )
        parser.add_argument(
            "--run_dir",
            default="checkpoints/runs/default",
            help="Directory of the run: configuration, TensorBoard logs, checkpoints, results. A new run never "
            "overwrites another: go on with `--ckpt_path last`, or name another directory.",
        )
        parser.add_lightning_class_args(Resumable, "checkpoint")
        parser.link_arguments("run_dir", "checkpoint.directory", compute_fn=lambda run_dir: f"{run_dir}/checkpoints")
        if "checkpoint" in signature(self._model_class).parameters:
            parser.link_arguments("model.checkpoint", "data.tokenizer", compute_fn=find_tokenizer)

    def parse_arguments(self, parser: LightningArgumentParser, args: Sequence[str]) -> None:
        """Parse; Lightning's own warns where arguments are handed over, as `main` does."""
        self.config = parser.parse_args(args)

    def _parse_ckpt_path(self) -> None:
        """Nothing: Lightning would read the whole checkpoint here, for hyper-parameters that ours keep elsewhere."""

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Give the trainer the callbacks of every run, and its logger."""
        run_dir = self._get(self.config_init, "run_dir")
        self.resumable = self._get(self.config_init, "checkpoint")
        self.throughput = ThroughputMonitor()
        self.trainer_defaults["callbacks"] = [
            PonderMonitor(self.model.model.config.num_hidden_layers),
            self.throughput,
            LearningRateMonitor(logging_interval="step"),
        ]
        if self._get(self.config_init, "trainer.enable_progress_bar") is not False:
            self.trainer_defaults["callbacks"].append(ProgressBar(leave=True))
        if self.subcommand == "fit":
            kwargs.setdefault("logger", TensorBoardLogger(run_dir, name="", version=""))
        else:
            kwargs.setdefault("logger", False)
            self.save_config_callback = None
        return super().instantiate_trainer(**kwargs)

    def before_fit(self) -> None:
        """Refuse to overwrite a run, or to resume what is not there.

        Raises:
            UserError: there is a run in the run directory, or none to resume; or the directory can't be written.
        """
        run_dir = Path(self.config_init.fit.run_dir)
        checkpoint = self._find_checkpoint()
        goes_on = checkpoint is not None and checkpoint.resolve() == self.resumable.path.resolve()
        if not goes_on and ((run_dir / "config.yaml").exists() or self.resumable.path.exists()):
            raise UserError(
                f"{run_dir} holds a run: go on with --ckpt_path last, start another with --run_dir DIR, or remove it"
            )
        try:
            run_dir.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=run_dir).close()
        except OSError as error:
            raise UserError(f"cannot write to --run_dir {run_dir}: {error.strerror}") from None

    def before_validate(self) -> None:
        """Take the run's last checkpoint unless another is named.

        Raises:
            UserError: there is none.
        """
        self.config_init.validate.ckpt_path = self.config_init.validate.ckpt_path or "last"
        self._find_checkpoint()

    def _find_checkpoint(self) -> Path | None:
        """What `--ckpt_path` names, "last" being that of this run directory; None where it names nothing."""
        options = self.config_init[self.subcommand]
        if options.ckpt_path is None:
            return None
        if options.ckpt_path == "last":
            options.ckpt_path = str(self.resumable.path)
        path = Path(options.ckpt_path)
        if not path.exists():
            raise UserError(f"nothing to go on from: {path} does not exist; name another --ckpt_path or --run_dir")
        if not zipfile.is_zipfile(path):
            raise UserError(f"--ckpt_path {path} is not a checkpoint")
        return path

    def after_fit(self) -> None:
        """Evaluate on the held-out documents, print the table and where everything lies."""
        run_dir = Path(self.config_init.fit.run_dir)
        if self.resumable.interrupted:
            _say(f"Interrupted after step {self.trainer.global_step}. Go on: the same command with --ckpt_path last")
            return
        self.trainer.validate(self.model, self.datamodule, verbose=False)
        results = {
            "steps": self.trainer.global_step,
            **self.throughput.state_dict(),
            "data": self.datamodule.summary,
            **{name: float(value) for name, value in self.trainer.callback_metrics.items() if name.startswith("val/")},
        }
        if self.trainer.is_global_zero:
            (run_dir / "results.json").write_text(json.dumps(results, indent=2) + "\n")
        self.after_validate()
        _say(
            f"\nwork         {self.throughput.savings(self.model.model.config.num_hidden_layers)}\n"
            f"results      {run_dir / 'results.json'}\n"
            f"checkpoint   {self.resumable.path}\n"
            f"TensorBoard  tensorboard --logdir {run_dir}"
        )

    def after_validate(self) -> None:
        """Print Table 1."""
        _say("\n" + table_1(self.trainer.callback_metrics))


@rank_zero_only
def _say(text: str) -> None:
    print(text, flush=True)


def _with_bases(arguments: Sequence[str]) -> list[str]:
    """Put before every `--config FILE` the files that it builds upon (its `base`), the lowest first.

    Raises:
        UserError: a file is missing, is not YAML, or builds upon itself.
    """
    expanded: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        flag, separator, value = argument.partition("=")
        if flag not in ("--config", "-c"):
            expanded.append(argument)
            continue
        value = value if separator else next(rest, None)
        if value is None:
            raise UserError("--config needs a file: --config experiments/pretrain.yaml")
        path = Path(value)
        layers: list[Path] = []
        while True:
            if path in layers:
                raise UserError(f"{path}: its `base` leads back to itself")
            layers.insert(0, path)
            base = _read_yaml(path).get("base")
            if base is None:
                break
            path = path.parent / str(base)
        for layer in layers:
            expanded += ["--config", str(layer)]
    return expanded


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text()) or {}
    except OSError as error:
        raise UserError(f"cannot read --config {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold settings, one `name: value` a line")
    return content


def _task(arguments: Sequence[str]) -> str:
    """The experiment's kind: the `task` of the last configuration that names one."""
    task = "pretraining"
    for flag, value in pairwise(arguments):
        if flag == "--config":
            task = _read_yaml(Path(value)).get("task", task)
    if task not in TASKS:
        raise UserError(f"unknown task {task!r}: choose from {', '.join(TASKS)}")
    return task


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line.

    Args:
        arguments: what follows `depthlab`; that of the process by default.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # Lightning's own, about what torch has deprecated
    try:
        if arguments and arguments[0] in COMMANDS:
            auto_cli(
                COMMANDS[arguments[0]],
                args=arguments[1:],
                prog=f"depthlab {arguments[0]}",
                as_positional=arguments[0] == "convert",
            )
            return
        arguments = _with_bases(arguments)
        if arguments and arguments[0] in DepthlabCLI.subcommands() and not {"--config", "-h", "--help"} & {*arguments}:
            raise UserError(f"name an experiment: depthlab {arguments[0]} --config experiments/pretrain.yaml")
        task, data = TASKS[_task(arguments)]
        DepthlabCLI(
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
                "description": DESCRIPTION,
                **{name: {"parser_mode": "omegaconf+"} for name in DepthlabCLI.subcommands()},
            },
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            args=arguments,
        )
    except (UserError, StrictDataclassError) as error:
        message = " ".join(str(error).split())
        print("depthlab: error:", message.rpartition("ValueError: ")[2], file=sys.stderr)  # without what HF wraps it in
        sys.exit(2)
