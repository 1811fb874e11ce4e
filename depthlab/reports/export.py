"""A run's checkpoint as a Hugging Face directory."""

import json
from pathlib import Path

import torch
from transformers import AutoTokenizer

from depthlab.errors import UserError
from depthlab.models import AdaptiveAlbertConfig, AdaptiveAlbertForPreTraining
from depthlab.reports.pretraining import table_1


def export(checkpoint: str, to: str) -> None:
    """Write a run's checkpoint as a Hugging Face directory: config, safetensors, tokenizer, model card.

    Args:
        checkpoint: a `last.ckpt` of a run directory.
        to: the directory to write; it must not hold a model yet.

    Raises:
        UserError: the checkpoint is missing or not one of depthlab's; the directory holds a model.
    """
    source, target = Path(checkpoint), Path(to)
    if not source.is_file():
        raise UserError(f"--checkpoint {source} does not exist")
    if (target / "config.json").exists():
        raise UserError(f"--to {target} holds a model already: name another directory or remove it")
    content = torch.load(source, map_location="cpu", weights_only=True)
    if "model_config" not in content:
        raise UserError(f"--checkpoint {source} is not a checkpoint of a depthlab run")
    model = AdaptiveAlbertForPreTraining(AdaptiveAlbertConfig.from_dict(content["model_config"]))
    prefix = "model."
    weights = {key[len(prefix) :]: value for key, value in content["state_dict"].items() if key.startswith(prefix)}
    model.load_state_dict(weights)
    run_dir = source.parent.parent
    tokenizer = AutoTokenizer.from_pretrained(run_dir / "tokenizer")
    target.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    (target / "README.md").write_text(_model_card(run_dir, content["global_step"]))


def _model_card(run_dir: Path, steps: int) -> str:
    results_file = run_dir / "results.json"
    results = json.loads(results_file.read_text()) if results_file.exists() else {}
    return f"""---
library_name: transformers
tags: [adaptive-depth, albert, depthlab]
---

# An adaptive-depth ALBERT, pre-trained by depthlab for {steps} steps

`import depthlab`, then `AutoModel.from_pretrained` takes this directory. The run's configuration is its `config.yaml`.

{table_1(results)}
"""
