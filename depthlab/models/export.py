"""A run's checkpoint as a Hugging Face directory: config, safetensors, tokenizer, model card, the run's settings."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
import yaml
from transformers import AutoTokenizer

from depthlab.errors import UserError
from depthlab.models.checkpoint import model_of, read_run, save_model
from depthlab.run.directory import RunDirectory, run_of

Dtype = Literal["float32", "float16", "bfloat16"]
WriteCard = Callable[[Path, Path, int], None]
"""Takes the run's directory, the exported one, and how many steps the model was trained for."""

SETTINGS = "training.yaml"
"""The file of the exported directory with which `depthlab fit --config` trains such a model again."""


def write_export(checkpoint: Path, target: Path, write_card: WriteCard, dtype: Dtype = "float32") -> int:
    """Write a run's checkpoint; a directory that is there is replaced once the new one is complete.

    Args:
        checkpoint: of a run, where the run has left it.
        target: the directory.
        write_card: puts the model card into it.
        dtype: precision of the weights.

    Returns:
        How many steps the checkpoint was trained for.

    Raises:
        UserError: the checkpoint is not one of depthlab's, or the directory can't be written.
    """
    run_dir = run_of(checkpoint)
    run = read_run(checkpoint)
    if not run_dir.tokenizer.is_dir():
        raise UserError(f"{run_dir.tokenizer} is missing: export a checkpoint from where its run has left it")
    model = model_of(run).to(getattr(torch, dtype))
    unfinished, replaced = (
        target.with_name(f".{target.name}.{state}-{os.getpid()}") for state in ("unfinished", "replaced")
    )
    try:
        unfinished.mkdir(parents=True)
        try:
            save_model(model, unfinished)
            # What Hugging Face's tools need to know: that segments matter, and where to truncate.
            tokenizer = AutoTokenizer.from_pretrained(
                run_dir.tokenizer,
                model_input_names=["input_ids", "token_type_ids", "attention_mask"],
                model_max_length=run.config.max_position_embeddings,
            )
            tokenizer.save_pretrained(unfinished)
            _write_settings(run_dir, unfinished)
            write_card(run_dir.path, unfinished, run.steps)
            if target.exists():
                target.rename(replaced)
            try:
                unfinished.rename(target)
            except OSError:
                if replaced.exists():
                    replaced.rename(target)
                raise
            shutil.rmtree(replaced, ignore_errors=True)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    except OSError as error:
        raise UserError(f"cannot write the model to {target}: {error.strerror or error}") from None
    return run.steps


def _write_settings(run_dir: RunDirectory, directory: Path) -> None:
    """The run's configuration, less what says where it lay, went on from, and was a part of."""
    if run_dir.config.exists():
        content = yaml.safe_load(run_dir.config.read_text())
        for name in ("base", "run_dir", "ckpt_path", "sweep"):
            content.pop(name, None)
        (directory / SETTINGS).write_text(yaml.safe_dump(content, sort_keys=False))
