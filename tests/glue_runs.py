"""Tiny fine-tuning runs through the command line, for the tests of what hangs together."""

import copy
import functools
import json
from pathlib import Path

import torch

from depthlab.data.tokenization import load_tokenizer
from depthlab.models import AdaptiveAlbertConfig, AdaptiveAlbertForPreTraining
from tests.data.benchmarks.glue_fixtures import write_glue
from tests.runs import REPOSITORY

NANO = REPOSITORY / "checkpoints/nano"
load_once = functools.cache(load_tokenizer)

SETTINGS = {
    "data.batch_size": 8,
    "data.max_length": 48,
    "data.num_workers": 0,
    "model.optimizer.init_args.lr": 3e-3,
    "model.warmup_steps": 0,
    "trainer.accelerator": "cpu",
    "trainer.max_epochs": 2,
    "trainer.log_every_n_steps": 1,
    "trainer.enable_progress_bar": False,
    "trainer.enable_model_summary": False,
}


def write_checkpoint(folder: Path, **changes: object) -> Path:
    """An exported run that has learnt nothing: small, with random weights."""
    torch.manual_seed(0)
    tokenizer = copy.deepcopy(load_once(str(NANO)))
    tokenizer.save_pretrained(folder)
    config = {
        "vocab_size": len(tokenizer),
        "embedding_size": 32,
        "hidden_size": 32,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "num_hidden_layers": 4,
        "max_position_embeddings": 64,
        "initializer_range": 0.2,
        "act_update": "accumulate",
        "act_cap": "remainder",
        "halting_bias_init": -1.0,
        "classifier_dropout_prob": 0.0,
        **changes,
    }
    AdaptiveAlbertForPreTraining(AdaptiveAlbertConfig(**config)).save_pretrained(folder)
    return folder


def write_inputs(folder: Path) -> Path:
    """A folder with a checkpoint and all tasks' data."""
    write_checkpoint(folder / "checkpoint")
    write_glue(folder / "glue")
    return folder


def arguments(
    inputs: Path, run_dir: Path, command: str = "fit", task: str = "rte", suite: str = "glue", **changes: object
) -> list[str]:
    """Of a `depthlab` command; changes name settings with `__` for the dots."""
    settings = SETTINGS | {
        "data.task": task,
        "data.root": inputs / suite,
        "data.cache_dir": inputs / "cache",
        "model.checkpoint": inputs / "checkpoint",
        "run_dir": run_dir,
        **{name.replace("__", "."): value for name, value in changes.items()},
    }
    config = str(REPOSITORY / f"experiments/{suite}.yaml")
    return [command, "--config", config, *(f"--{name}={value}" for name, value in settings.items())]


def results(run_dir: Path) -> dict:
    """What a run has left in `results.json`."""
    return json.loads((run_dir / "results.json").read_text())
