"""What fine-tuning runs have left in their directories."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from depthlab.data.benchmarks.glue_tasks import GLUE_TASKS
from depthlab.data.benchmarks.probing import PROBING_SPLITS, PROBING_TASKS
from depthlab.errors import UserError

CONFIG, RESULTS = "config.yaml", "results.json"

SUITES = {"glue": "GLUE", "probing": "probing"}
"""Experiments that are fine-tuning on one task of several, and how to call them."""

ADAPTIVE_ONLY = ("act_update", "act_cap", "act_epsilon", "time_penalty", "halting_bias_init")
"""Settings of a model that mean nothing at fixed depth."""
ONLY_CONFIGURED = ("halting_bias_init", "execution")
"""Settings of a model that `results.json` does not have: those of the checkpoint where a run's are null."""

TRAINER = (
    *("max_epochs", "max_steps", "limit_train_batches", "limit_val_batches", "overfit_batches", "precision"),
    *("gradient_clip_val", "gradient_clip_algorithm"),
)
"""The trainer's settings on which a score depends; the others say where and how a run computes."""
NOT_TRAINING = (
    *("data.task", "data.root", "data.cache_dir", "data.num_workers", "data.batch_size", "data.train_examples"),
    *("model.checkpoint", "model.depth", "model.optimizer.lr", "model.optimizer.init_args.lr"),
    *(f"model.optimizer.init_args.{name}" for name in ("foreach", "fused", "capturable", "differentiable")),
)
"""Of the settings under `data` and `model`: those that have no influence, or are told elsewhere in a record."""


@dataclass(frozen=True)
class RunRecord:
    """A fine-tuning run that has ended.

    Attributes:
        directory: The run's.
        suite: One of :data:`SUITES`.
        task: One of the suite's.
        model: What was fine-tuned: the checkpoint, and what depth it has. Without what means nothing at fixed depth.
        training: All settings on which a score depends but those of the grid, learning rate and batch, and the seed.
        learning_rate: Highest of the schedule.
        batch_size: Examples of a step.
        seed: Of the run.
        epochs: What each validation logged, by tag, and after how many epochs and steps (`epoch`, `step`).
        data: Examples by split.
        tokens: Seen in training.
        token_iterations: Computed in training: applications of a layer to a token.
        tested: What the best state measured on the test split, by tag; empty where that has no labels.
    """

    directory: Path
    suite: str
    task: str
    model: dict[str, Any]
    training: dict[str, Any]
    learning_rate: float
    batch_size: int
    seed: int
    epochs: list[dict[str, float]]
    data: dict[str, int]
    tokens: int
    token_iterations: int
    tested: dict[str, float]


@dataclass(frozen=True)
class LeftOut:
    """A run that a report can't use, and why; or a table, by its file."""

    directory: Path
    reason: str


def read_runs(paths: Sequence[str], suite: str = "glue") -> tuple[list[RunRecord], list[LeftOut]]:
    """All runs of a suite at and under some paths, in the order of their directories.

    Args:
        paths: Run directories, or folders that hold such at any depth. Other runs that such a folder holds are passed
            over; one that is itself named is listed.
        suite: One of :data:`SUITES`.

    Raises:
        UserError: A path is no directory, or there is no finished run of the suite in any.
    """
    named = {Path(path).resolve() for path in paths}
    directories: dict[Path, Path] = {}  # what it really is: as it was named first
    for path in paths:
        if not Path(path).is_dir():
            raise UserError(f"{path}: no such directory; name run directories, or folders that hold some")
        for directory in _run_directories(Path(path)):
            directories.setdefault(directory.resolve(), directory)
    records: list[RunRecord] = []
    left_out: list[LeftOut] = []
    others: list[LeftOut] = []
    first: dict[Any, Path] = {}
    for directory in sorted(directories.values()):
        experiment = _experiment(directory)
        if experiment not in (suite, None):
            if directory.resolve() in named:
                others.append(LeftOut(directory, f"it is a run of {experiment}, not of {suite}"))
            continue
        try:
            record = read_record(directory)
        except UserError as error:
            left_out.append(LeftOut(directory, str(error)))
            continue
        settings = (hashable(record.model), hashable(record.training))
        key = (record.task, *settings, record.learning_rate, record.batch_size, record.seed)
        if key in first:
            left_out.append(LeftOut(directory, f"the same settings and seed as {first[key]}"))
        else:
            first[key] = directory
            records.append(record)
    if not records:
        reason = f"; {left_out[0].directory}: {left_out[0].reason}" if left_out else ""
        raise UserError(f"no finished run of a {SUITES[suite]} task in {', '.join(paths)}{reason}")
    return records, left_out + others


def read_record(directory: Path) -> RunRecord:
    """One run.

    Raises:
        UserError: It has not ended, is not of a suite's task, or its files are not those of a run.
    """
    if not (directory / RESULTS).is_file():
        log = Path(f"{directory}.log")
        raise UserError(f"unfinished or failed: it has no {RESULTS}{f' (see {log})' if log.is_file() else ''}")
    if not (directory / CONFIG).is_file():
        raise UserError(f"it has no {CONFIG}, so its settings are not known")
    try:
        results = json.loads((directory / RESULTS).read_text())
        config = yaml.safe_load((directory / CONFIG).read_text())
        known = {"glue": GLUE_TASKS, "probing": PROBING_TASKS}.get(config["task"], ())
        if results.get("task") not in known:
            raise UserError(f"its task is {results.get('task', config['task'])}, none of GLUE's or of probing")
        if not results.get("epochs"):
            raise UserError(f"{RESULTS} has no validated epoch")
        return _record(directory, results, config)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"cannot be read: {' '.join(str(error).split())}") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{RESULTS}, line {error.lineno}: not JSON ({error.msg})") from None
    except KeyError as error:
        raise UserError(f"{RESULTS} or {CONFIG} has no {error}: it is not a run of this version") from None
    except (AttributeError, TypeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{RESULTS} or {CONFIG} is not what a run writes ({error})") from None


def hashable(settings: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """Settings as a key: equal for equal ones, whatever their order."""
    return tuple(sorted((name, _frozen(value)) for name, value in settings.items()))


def _run_directories(folder: Path) -> Iterator[Path]:
    """Those that have a run's files, and those of which a sweep has only a log, `CELL.log` beside the directory."""
    for file in folder.rglob("*"):
        if file.name in (CONFIG, RESULTS):
            yield file.parent
        elif file.suffix == ".log" and "=" in file.name:
            yield file.with_suffix("")


def _experiment(directory: Path) -> str | None:
    """The experiment's kind, where the configuration can be read."""
    try:
        config = yaml.safe_load((directory / CONFIG).read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None
    return config.get("task") if isinstance(config, dict) else None


def _record(directory: Path, results: dict[str, Any], config: dict[str, Any]) -> RunRecord:
    model, data = dict(results["model"]), results["data"]
    if "control" in results:
        model["control"] = results["control"]
    depth = config["model"].get("depth") or {}
    model |= {name: depth[name] for name in ONLY_CONFIGURED if depth.get(name) is not None}
    if model.get("halting") == "fixed":
        model = {name: value for name, value in model.items() if name not in ADAPTIVE_ONLY}
    drawn = data.get("train_drawn", data["train"])
    for epoch in results["epochs"]:
        float(epoch["epoch"]), float(epoch["val/score"])  # or it is not a run's
    suite = config["task"]
    splits = GLUE_TASKS[results["task"]].splits if suite == "glue" else PROBING_SPLITS.values()
    data = {split: count for split, count in data.items() if split in splits}
    training = {**_training(config, results["seed"]), "train_examples": "all" if drawn == data["train"] else drawn}
    if suite == "probing":  # its files are SentEval's, or those of any treebanks; GLUE's are always the same
        training["examples"] = "/".join(map(str, data.values()))
    return RunRecord(
        directory=directory,
        suite=suite,
        task=results["task"],
        model=model,
        training=training,
        learning_rate=float(results["learning_rate"]),
        batch_size=int(results["batch_size"]),
        seed=results["seed"],
        epochs=results["epochs"],
        data=data,
        tokens=results["tokens"],
        # Without depths of their own, tokens pass all layers.
        token_iterations=results.get("token_iterations", results["tokens"] * model["num_hidden_layers"]),
        tested={tag: value for tag, value in results.items() if tag.startswith("test/")},
    )


def _training(config: dict[str, Any], seed: int) -> dict[str, Any]:
    """The settings that tell runs apart beside model, grid and seed, by their names in the YAML."""
    flat = dict(_flatten({name: config[name] for name in ("model", "data")}))
    if flat.get("data.seed") == seed:
        del flat["data.seed"]
    training = {
        name: value
        for name, value in flat.items()
        if not any(name == other or name.startswith(f"{other}.") for other in NOT_TRAINING)
    }
    return training | {f"trainer.{name}": config["trainer"].get(name) for name in TRAINER}


def _flatten(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
