"""Which runs are of one model, and what it is called: short names that show only what differs."""

import re
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote

from depthlab.analysis.records import RunRecord, hashable

Settings = dict[str, Any]

WORDS = {
    "act_epsilon": "epsilon",
    "time_penalty": "tau",
    "rule": "by",
    "halting_bias_init": "halting bias",
    "warmup_steps": "warm-up",
    "model.optimizer.class_path": "",
    "data.seed": "data seed",
    "seed_everything": "seed",
    "learning_rate": "learning rate",
    "lr": "learning rate",
    "batch_size": "batch",
    "train_examples": "training examples",
}
"""What stands before the value in a name, by the setting's name or its last part, which stands there for others."""
BY_VALUE = ("checkpoint", "task", "measured", "act_update", "act_cap", "execution", "model_type")
HALTING = {"act": "adaptive", "fixed": "fixed depth"}  # another rule by its own name
ORDER = (
    *("checkpoint", "task", "measured", "control", "halting", "num_hidden_layers", "time_penalty", "target", "rule"),
    *("act_update", "act_cap", "act_epsilon"),
)


def tell_apart(runs: Sequence[RunRecord]) -> list[Settings]:
    """The settings that make each run's model what it is: those of the model, and of training where they must.

    A setting of training (epochs, warm-up, ...) tells runs apart where a model has several values of it on one task:
    then they are as different as two models. Where it differs only between tasks, the model is still one.
    """
    trainings = [dict(hashable(run.training)) for run in runs]
    names = sorted(set().union(*trainings))
    values: dict[Any, set[Any]] = {}  # by model, task and setting
    for run, training in zip(runs, trainings, strict=True):
        for name in names:
            values.setdefault((hashable(run.model), run.task, name), set()).add(training.get(name))
    dividing = {(model, name) for (model, _, name), found in values.items() if len(found) > 1}
    return [
        run.model | {name: value for name, value in run.training.items() if (hashable(run.model), name) in dividing}
        for run in runs
    ]


def name_models(models: Sequence[Settings], always: Sequence[str] = ("checkpoint",)) -> list[str]:
    """A short name for each of some models: the settings in which they differ, equal ones for equal models.

    Settings in `always` are shown even where they are all the same.
    """
    models = [dict(hashable(model)) for model in models]
    checkpoints = shorten({model["checkpoint"] for model in models})
    settings = list(dict.fromkeys((*ORDER, *sorted(set().union(*models)))))
    shown = {name for name in settings if len({model[name] for model in models if name in model}) > 1}
    shown |= {*always}
    for name in settings:  # one that some have and others have not is shown where they differ in nothing else
        if _distinct(models, shown | {name}) > _distinct(models, shown):
            shown.add(name)
    models = [model | {"checkpoint": checkpoints[model["checkpoint"]]} for model in models]
    return [", ".join(_show(model, name) for name in settings if name in shown and name in model) for model in models]


def natural_order(name: str) -> list[tuple[float, str]]:
    """A key that sorts names by the numbers in them, as people do."""
    parts = re.split(r"(\d+(?:\.\d+)?(?:e[+-]?\d+)?)", name)
    return [(float(part) if index % 2 else 0.0, "" if index % 2 else part) for index, part in enumerate(parts)]


def _distinct(models: Sequence[Settings], names: Iterable[str]) -> int:
    """How many models there are if only these settings count."""
    return len({tuple((name, model[name]) for name in names if name in model) for model in models})


def _show(model: Settings, name: str) -> str:
    value, ending = model[name], name.rpartition(".")[2]
    text = f"{value:g}" if isinstance(value, float) else str(value)
    if ending == "halting":
        return HALTING.get(text, text)
    if ending == "num_hidden_layers":
        return {None: f"{text} layers", "fixed": f"depth {text}"}.get(model.get("halting"), f"cap {text}")
    if ending in BY_VALUE:
        return text
    return f"{WORDS.get(name, WORDS.get(ending, ending))} {text}".strip()


def shorten(checkpoints: Iterable[str]) -> dict[str, str]:
    """The last part of each path, or as many as it takes to tell them apart; of a sweep's runs in words."""
    directories = {checkpoint: run_directory(checkpoint) for checkpoint in checkpoints}
    words = _in_words(set(directories.values()))
    parts = {checkpoint: (*found.parts[:-1], words.get(found, found.name)) for checkpoint, found in directories.items()}
    for count in range(1, max(map(len, parts.values()), default=0) + 1):
        names = {checkpoint: "/".join(found[-count:]) for checkpoint, found in parts.items()}
        if len(set(names.values())) == len(names):
            return names
    return {checkpoint: checkpoint for checkpoint in parts}


def _in_words(directories: Iterable[PurePosixPath]) -> dict[PurePosixPath, str]:
    """What tells the runs of a sweep apart, by directory: `task=rte,lr=5e-05,seed_everything=0` says it all."""
    sweeps: dict[PurePosixPath, dict[PurePosixPath, Settings]] = {}
    for directory in directories:
        settings = [setting.partition("=") for setting in directory.name.split(",")]
        if all(equals for _, equals, _ in settings):
            cell = {name: unquote(value) for name, _, value in settings}
            sweeps.setdefault(directory.parent, {})[directory] = cell
    words = {}
    for cells in sweeps.values():
        names = dict.fromkeys(name for cell in cells.values() for name in cell)
        same = {name for name in names if len({cell.get(name) for cell in cells.values()}) == 1 < len(cells)}
        for directory, cell in cells.items():
            words[directory] = ", ".join(_show(cell, name) for name in cell if name not in same)
    return words


def run_directory(checkpoint: str) -> PurePosixPath:
    """A checkpoint's path without what every run has in its directory."""
    path = PurePosixPath(checkpoint)
    if path.suffix == ".ckpt" and path.parent.name == "checkpoints":
        return path.parent.parent
    return path.parent if path.name == "model" and len(path.parts) > 1 else path
