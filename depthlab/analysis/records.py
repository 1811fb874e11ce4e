"""What fine-tuning runs have left in their directories."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from depthlab.analysis.scores import SCORES
from depthlab.analysis.survey import LeftOut, Survey
from depthlab.data.benchmarks.glue_tasks import GLUE_TASKS
from depthlab.data.benchmarks.probing import PROBING_SPLITS, PROBING_TASKS
from depthlab.errors import UserError
from depthlab.run.config import flatten
from depthlab.run.directory import FinishedRun, Shape, hold

SUITES = {"glue": "GLUE", "probing": "probing", "own": "your own"}
"""Experiments that are fine-tuning on one task of several, and how to call them."""
KNOWN = {"glue": GLUE_TASKS, "probing": PROBING_TASKS}
"""The tasks of a suite; of your own there is any."""

FINE_TUNING: Shape = {"model": dict, "learning_rate": float, "batch_size": int, "seed": int, "epochs": list}
EPOCH: Shape = {"val/score": float}
"""What `results.json` has of fine-tuning, and of each validation beside its step."""

ADAPTIVE_ONLY = ("act_update", "act_cap", "act_epsilon", "time_penalty", "halting_bias_init")
"""Settings of a model that mean nothing at fixed depth."""
ONLY_CONFIGURED = ("halting_bias_init", "execution", "halting_lr_factor", "new_unit", "target")
"""Settings of a model that `results.json` does not have: those of the checkpoint where a run's are null."""

TRAINER = (
    *("max_epochs", "max_steps", "limit_train_batches", "limit_val_batches", "overfit_batches", "precision"),
    *("gradient_clip_val", "gradient_clip_algorithm"),
)
"""The trainer's settings on which a score depends; the others say where and how a run computes."""
NOT_TRAINING = (
    *("data.task", "data.root", "data.cache_dir", "data.num_workers", "data.batch_size", "data.train_examples"),
    *("data.val", "data.test"),
    *("model.checkpoint", "model.depth", "model.optimizer.lr", "model.optimizer.init_args.lr"),
    *(f"model.optimizer.init_args.{name}" for name in ("foreach", "fused", "capturable", "differentiable")),
)
"""Of the settings under `data` and `model`: those that have no influence, or are told elsewhere in a record."""
UNLESS_GIVEN = ("model.fixed_depth_steps", "model.time_penalty_warmup_steps")
"""Those that runs of before do not have, and that at 0 are as if they were not there."""


@dataclass(frozen=True)
class RunRecord:
    """A fine-tuning run that has ended."""

    directory: Path
    suite: str  # one of SUITES
    task: str  # one of the suite's
    metric: str  # what its score is
    model: dict[str, Any]  # the checkpoint, and what depth it has, without what means nothing at fixed depth
    training: dict[str, Any]  # all on which a score depends but the grid, learning rate and batch, and the seed
    learning_rate: float  # highest of the schedule
    batch_size: int  # examples of a step
    seed: int
    epochs: list[dict[str, float]]  # what each validation logged, by tag, after which `epoch` and `step`
    data: dict[str, int]  # examples by split
    tokens: int  # seen in training
    token_iterations: int  # computed in training: applications of a layer to a token
    tested: dict[str, float]  # of the best state, by tag; empty where the test split has no labels


def read_records(survey: Survey, *suites: str, dials: bool = False) -> tuple[list[RunRecord], list[LeftOut]]:
    """All runs of suites, keys of :data:`SUITES`, in the order of their directories; and those that can't be used.

    Runs of other experiments that a folder holds are passed over; one that is itself named is listed. With `dials`,
    what `depthlab dial` has measured of models is there, too, a record a point.

    Raises:
        UserError: There is no finished run of the suite.
    """
    records: list[RunRecord] = []
    left_out = [other for other in survey.left_out if other.task in (*suites, None)]
    others: list[LeftOut] = []
    first: dict[Any, Path] = {}
    for run in survey.runs:
        directory, task = run.directory.path, run.config["task"]
        if task not in suites:
            if directory.resolve() in survey.named:
                others.append(LeftOut(directory, f"it is a run of {task}, not of {' or '.join(suites)}"))
            continue
        try:
            record = as_record(run)
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
    for file in survey.dials if dials else []:
        try:
            records += read_dial(file)
        except UserError as error:
            left_out.append(LeftOut(file, str(error)))
    if not records:
        reason = f"; {left_out[0].path}: {left_out[0].reason}" if left_out else ""
        what = " or ".join(f"a {SUITES[one]} task" if one != "own" else "your own task" for one in suites)
        raise UserError(f"no finished run of {what} in {', '.join(survey.paths)}{reason}")
    return records, left_out + others


def read_dial(file: Path) -> list[RunRecord]:
    """The points of a file of `depthlab dial`: each as a run that was validated once, `dial` being one of its settings.

    Raises:
        UserError: It is no such file.
    """
    try:
        return [
            RunRecord(**record | {"directory": Path(record["directory"])}) for record in json.loads(file.read_text())
        ]
    except (OSError, ValueError, TypeError, KeyError):
        raise UserError("it is not what `depthlab dial` writes") from None


def as_record(run: FinishedRun) -> RunRecord:
    """One run as one of fine-tuning.

    Raises:
        UserError: It is not of a suite's task, or its files are not those of such a run.
    """
    config, results = run.config, run.results
    suite, name = config["task"], run.directory.results.name
    task = results.get("task")
    if suite not in SUITES or not isinstance(task, str) or task not in KNOWN.get(suite, [task]):
        raise UserError(f"its task is {results.get('task', suite)}, none of GLUE's or of probing, or of your own")
    hold(results, FINE_TUNING, name)
    usual = GLUE_TASKS[task].metrics[0] if suite == "glue" else "accuracy"  # of runs of before, which do not say
    metrics = results.get("metrics") or [usual]
    if not isinstance(metrics, list) or not isinstance(metrics[0], str) or metrics[0] not in SCORES:
        raise UserError(f"{name} is not what a run writes (metrics is {str(metrics)[:40]!r})")
    if not results["epochs"]:
        raise UserError(f"{name} has no validated epoch")
    for epoch in results["epochs"]:
        hold(epoch, EPOCH, name)
    hold(results["model"], {"checkpoint": str, "num_hidden_layers": int}, name)
    hold(results["data"], {"train": int} | dict.fromkeys(results["data"], int), name)
    model, data = dict(results["model"]), results["data"]
    if "control" in results:
        model["control"] = results["control"]
    depth = config["model"].get("depth") or {}
    model |= {name: depth[name] for name in ONLY_CONFIGURED if depth.get(name) is not None}
    if model.get("halting") == "fixed":
        model = {name: value for name, value in model.items() if name not in ADAPTIVE_ONLY}
    drawn = data.get("train_drawn", data["train"])
    splits = GLUE_TASKS[task].splits if suite == "glue" else PROBING_SPLITS.values()
    data = {split: count for split, count in data.items() if split in splits}
    training = {**_training(config, results["seed"]), "train_examples": "all" if drawn == data["train"] else drawn}
    # Files are SentEval's, or those of any treebanks; GLUE's are always the same, yours are named.
    if suite == "probing":
        training["examples"] = "/".join(map(str, data.values()))
    return RunRecord(
        directory=run.directory.path,
        suite=suite,
        metric=metrics[0],
        model=model,
        training=training,
        learning_rate=float(results["learning_rate"]),
        data=data,
        # Without depths of their own, tokens pass all layers.
        token_iterations=results.get("token_iterations", results["tokens"] * model["num_hidden_layers"]),
        tested={tag: value for tag, value in results.items() if tag.startswith("test/")},
        epochs=[{tag: value for tag, value in epoch.items() if value is not None} for epoch in results["epochs"]],
        **{name: results[name] for name in ("task", "batch_size", "seed", "tokens")},
    )


def hashable(value: Any) -> Any:
    """Settings, or one of them, as a key: equal for equal ones, whatever their order."""
    if isinstance(value, Mapping):
        return tuple(sorted((str(name), hashable(one)) for name, one in value.items()))
    return tuple(map(hashable, value)) if isinstance(value, list) else value


def _training(config: dict[str, Any], seed: int) -> dict[str, Any]:
    """The settings that tell runs apart beside model, grid and seed, by their names in the YAML."""
    flat = flatten({name: config[name] for name in ("model", "data")})
    if flat.get("data.seed") == seed:
        del flat["data.seed"]
    training = {
        name: value
        for name, value in flat.items()
        if not any(name == other or name.startswith(f"{other}.") for other in NOT_TRAINING)
        and (value or name not in UNLESS_GIVEN)
    }
    return training | {f"trainer.{name}": config["trainer"].get(name) for name in TRAINER}
