"""A run's checkpoint as a Hugging Face directory: weights, code, tokenizer, model card, the run's settings."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from transformers import AutoTokenizer

from depthlab.errors import UserError
from depthlab.files import writing
from depthlab.models.carried import save_model
from depthlab.models.checkpoint import model_of, read_run
from depthlab.models.sentences import write_sentence_modules
from depthlab.run.directory import RunDirectory, hold, read_file, run_of

Dtype = Literal["float32", "float16", "bfloat16"]

SETTINGS = "training.yaml"
"""The file of the exported directory with which `depthlab fit --config` trains such a model again."""

OF_SENTENCES = {"direction", "pairs"}
"""What `model.teaches` names where a model learns mean states."""


@dataclass(frozen=True)
class Exported:
    """A model that was written; as text, one line about it."""

    path: Path
    steps: int
    """Optimiser steps that it was trained for."""
    parameters: int
    dtype: Dtype

    def __str__(self) -> str:
        return f"{self.path} ({self.parameters:,} parameters in {self.dtype}, after {self.steps:,} steps)"

    def files(self) -> str:
        """What lies there, and how large it is; its code is one of them."""
        sizes = {file.name: file.stat().st_size for file in sorted(self.path.iterdir()) if file.suffix != ".py"}
        sizes["code"] = sum(file.stat().st_size for file in self.path.glob("*.py"))
        return ", ".join(f"{name} ({-(-size // 1000):,} kB)" for name, size in sizes.items())


WriteCard = Callable[[Path, Exported], None]
"""Takes the run's directory and what was exported of it."""


def write_export(checkpoint: Path, target: Path, write_card: WriteCard, dtype: Dtype = "float32") -> Exported:
    """Write a run's checkpoint, where the run has left it; a directory that is there is replaced once it is complete.

    Raises:
        UserError: the checkpoint is not one of depthlab's, or the directory can't be written.
    """
    run_dir = run_of(checkpoint)
    run = read_run(checkpoint)
    if not run_dir.tokenizer.is_dir():
        raise UserError(f"{run_dir.tokenizer} is missing: export a checkpoint from where its run has left it")
    model = model_of(run).to(getattr(torch, dtype))
    with writing("the model to", target, replaces_folder=True) as unfinished:
        save_model(model, unfinished)
        # What Hugging Face's tools need to know: that segments matter, and where to truncate.
        tokenizer = AutoTokenizer.from_pretrained(
            run_dir.tokenizer,
            model_input_names=["input_ids", "token_type_ids", "attention_mask"],
            model_max_length=run.config.max_position_embeddings,
        )
        tokenizer.save_pretrained(unfinished)
        settings = _write_settings(run_dir, unfinished)
        if OF_SENTENCES & set(settings.get("model", {}).get("teaches") or ()):
            write_sentence_modules(unfinished, run.config.hidden_size)
        exported = Exported(unfinished, run.steps, model.num_parameters(), dtype)
        write_card(run_dir.path, exported)
    return replace(exported, path=target)


def _write_settings(run_dir: RunDirectory, directory: Path) -> dict[str, Any]:
    """The run's configuration, if it has one, less what says where it lay, went on from, and was a part of."""
    if not run_dir.config.exists():
        return {}
    content = hold(read_file(run_dir.config), {}, str(run_dir.config))
    for name in ("base", "run_dir", "ckpt_path", "sweep"):
        content.pop(name, None)
    (directory / SETTINGS).write_text(yaml.safe_dump(content, sort_keys=False))
    return content
