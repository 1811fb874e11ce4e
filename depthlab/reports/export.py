"""A run's checkpoint as a Hugging Face directory."""

import json
import zipfile
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
        UserError: the checkpoint is missing or not one of depthlab's; the directory holds a model or can't be written.
    """
    source, target = Path(checkpoint), Path(to)
    run_dir = source.parent.parent
    if not source.is_file():
        raise UserError(f"--checkpoint {source} does not exist")
    if not zipfile.is_zipfile(source):
        raise UserError(f"--checkpoint {source} is not a checkpoint")
    if not (run_dir / "tokenizer").is_dir():
        raise UserError(f"{run_dir / 'tokenizer'} is missing: export a checkpoint from where its run has left it")
    if (target / "config.json").exists():
        raise UserError(f"--to {target} holds a model already: name another directory or remove it")
    content = torch.load(source, map_location="cpu", weights_only=True)
    if "model_config" not in content:
        raise UserError(f"--checkpoint {source} is not a checkpoint of a depthlab run")
    config = AdaptiveAlbertConfig.from_dict(content["model_config"])
    weights = {name.removeprefix("model."): value for name, value in content["state_dict"].items()}
    if content["hold_depth"]:  # the halting unit has not been trained yet
        config.halting = "fixed"
        weights = {name: value for name, value in weights.items() if ".halting." not in name}
    model = AdaptiveAlbertForPreTraining(config)
    model.load_state_dict(weights)
    try:
        target.mkdir(parents=True, exist_ok=True)
        model.save_pretrained(target)
        AutoTokenizer.from_pretrained(run_dir / "tokenizer").save_pretrained(target)
        (target / "README.md").write_text(_model_card(run_dir, content["global_step"]))
    except OSError as error:
        raise UserError(f"cannot write to --to {target}: {error.strerror or error}") from None


def _model_card(run_dir: Path, steps: int) -> str:
    results_file = run_dir / "results.json"
    results = json.loads(results_file.read_text()) if results_file.exists() else {}
    seen = "The run has not been evaluated."
    if results:
        data = results["data"]
        seen = (
            f"It has seen {results['tokens']:,} tokens in {results['token_iterations']:,} token-iterations and "
            f"{results['seconds']:,.0f} s of training, out of a corpus of {data['documents']:,} documents and "
            f"{data['tokens']:,} tokens, {data['validation_documents']} documents of it held out."
        )
    return f"""---
library_name: transformers
tags: [adaptive-depth, albert, depthlab]
---

# An adaptive-depth ALBERT, pre-trained by depthlab for {steps:,} steps

{seen} After `import depthlab`, `AutoModel.from_pretrained` takes this directory.

{table_1(results)}
"""
