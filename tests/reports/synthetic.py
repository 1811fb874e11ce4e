"""Directories such as `depthlab fit` leaves them, with made-up results."""

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from depthlab.data.benchmarks.glue_tasks import GLUE_TASKS

MODEL = {
    "checkpoint": "checkpoints/nano",
    "model_type": "adaptive_albert",
    "num_hidden_layers": 12,
    "halting": "act",
    "act_update": "accumulate",
    "act_cap": "remainder",
    "act_epsilon": 0.01,
    "time_penalty": 0.001,
}
CONFIG: dict[str, Any] = {
    "seed_everything": 0,
    "trainer": {"accelerator": "cpu", "max_epochs": 4, "max_steps": -1, "precision": "32-true", "callbacks": None},
    "model": {
        "checkpoint": "checkpoints/nano",
        "depth": {"halting": None, "halting_bias_init": None, "time_penalty": 0.001},
        "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 3e-5, "betas": [0.9, 0.999]}},
        "warmup_steps": 200,
        "classifier_dropout": None,
    },
    "data": {
        "task": "rte",
        "root": "GLUE",
        "max_length": 128,
        "batch_size": 32,
        "train_examples": None,
        "num_workers": 1,
        "cache_dir": "~/.cache",
        "seed": 0,
    },
    "task": "glue",
    "base": None,
}


def write_run(
    directory: Path,
    scores: Sequence[float],
    task: str = "rte",
    learning_rate: float = 3e-5,
    batch_size: int = 32,
    seed: int = 0,
    model: Mapping[str, Any] | None = None,
    depth: float = 5.0,
    first_epoch: float = 1,
    settings: Mapping[str, Any] | None = None,
    epoch_values: Mapping[str, float] | None = None,
    **results: Any,
) -> Path:
    """A run with a validation every epoch.

    Args:
        directory: Where.
        scores: Of each epoch, from 0 to 1. Depth falls by a tenth every epoch, and GLUE's own score is 0.01 lower.
        task: What was learnt.
        learning_rate: Of the grid.
        batch_size: Of the grid.
        seed: Of the run.
        model: What differs from `MODEL`; None takes a fact away.
        depth: Mean depth of all tokens after the first epoch.
        first_epoch: Number of the first of the epochs.
        settings: What differs in the configuration, by name (`trainer.max_epochs`).
        epoch_values: What every epoch has beside that.
        results: What differs in `results.json`.
    """
    facts = {name: value for name, value in (MODEL | dict(model or {})).items() if value is not None}
    config = copy.deepcopy(CONFIG)
    config["seed_everything"] = config["data"]["seed"] = seed
    config["data"] |= {"task": task, "batch_size": batch_size}
    config["model"]["optimizer"]["init_args"]["lr"] = learning_rate
    for name, value in (settings or {}).items():
        *path, last = name.split(".")
        place = config
        for part in path:
            place = place[part]
        place[last] = value
    mismatched = {"val/accuracy_mismatched": 0.5} if task == "mnli" else {}
    epochs = [
        {
            "epoch": first_epoch + number,
            "step": 10 * (number + 1),
            "val/score": score,
            "val/glue_score": score - 0.01,
            f"val/{GLUE_TASKS[task].metrics[0]}": score,
            **mismatched,
            "val/depth/all": depth - 0.1 * number,
            "val/depth/cls": depth + 1,
            **(epoch_values or {}),
        }
        for number, score in enumerate(scores)
    ]
    content = {
        "steps": 40,
        "tokens": 1000,
        "token_iterations": 5000 + seed,
        "seconds": 1.0,
        "data": {"train": 2490, "dev": 277},
        "seed": seed,
        "task": task,
        "metrics": list(GLUE_TASKS[task].metrics),
        "model": facts,
        "learning_rate": learning_rate,
        "warmup_steps": 200,
        "batch_size": batch_size,
        "best_epoch": 1,
        "epochs": epochs,
        **results,
    }
    directory.mkdir(parents=True)
    (directory / "config.yaml").write_text(yaml.safe_dump(config))
    (directory / "results.json").write_text(json.dumps(content))
    return directory


def edit_results(run: Path, *without: str, **changes: Any) -> None:
    """Names that a run's results lack, and what differs in them."""
    file = run / "results.json"
    results = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({name: value for name, value in results.items() if name not in without}))
