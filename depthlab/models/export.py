"""A run's checkpoint as a Hugging Face directory: config, safetensors, tokenizer, model card, the run's settings."""

import json
import os
import shutil
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from transformers import AutoConfig, AutoTokenizer

from depthlab.errors import UserError
from depthlab.models import AdaptiveAlbertConfig
from depthlab.models.checkpoint import find_run, model_of, read_run, save_model
from depthlab.render.document import to_markdown
from depthlab.reports.classification import scores_table
from depthlab.reports.pretraining import table_1

Dtype = Literal["float32", "float16", "bfloat16"]

SETTINGS = "training.yaml"
"""The file of the exported directory with which `depthlab fit --config` trains such a model again."""


def export(checkpoint: str, to: str, dtype: Dtype = "float32") -> None:
    """Write a run's checkpoint as a Hugging Face directory: config, safetensors, tokenizer, model card, settings.

    Args:
        checkpoint: a run's directory, or the `last.ckpt` in it.
        to: the directory to write; it must not exist yet, or be empty.
        dtype: precision of the weights. Halting is decided in float32 whatever they are.

    Raises:
        UserError: the checkpoint is missing or not one of depthlab's; the directory is not empty or can't be written.
    """
    target = Path(to).absolute()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"--to {target} exists already: name another directory or remove it")
    write_export(find_run(checkpoint) or Path(checkpoint), target, dtype)


def write_export(checkpoint: Path, target: Path, dtype: Dtype = "float32") -> int:
    """As `export`; a directory that is there is replaced once the new one is complete.

    Returns:
        How many steps the checkpoint was trained for.
    """
    run_dir = checkpoint.parent.parent
    run = read_run(checkpoint)
    if not (run_dir / "tokenizer").is_dir():
        raise UserError(f"{run_dir / 'tokenizer'} is missing: export a checkpoint from where its run has left it")
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
                run_dir / "tokenizer",
                model_input_names=["input_ids", "token_type_ids", "attention_mask"],
                model_max_length=run.config.max_position_embeddings,
            )
            tokenizer.save_pretrained(unfinished)
            _write_settings(run_dir, unfinished)
            write_card(run_dir, unfinished, run.steps)
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


def _write_settings(run_dir: Path, directory: Path) -> None:
    """The run's configuration, less what says where it lay, went on from, and was a part of."""
    settings = run_dir / "config.yaml"
    if settings.exists():
        content = yaml.safe_load(settings.read_text())
        for name in ("base", "run_dir", "ckpt_path", "sweep"):
            content.pop(name, None)
        (directory / SETTINGS).write_text(yaml.safe_dump(content, sort_keys=False))


def write_card(run_dir: Path, directory: Path, steps: int) -> None:
    """Write the model card of an exported directory.

    Args:
        run_dir: the run, whose `results.json` the card is filled from.
        directory: the exported model.
        steps: how long it was trained; results of another step are not this model's, and are left out.
    """
    config = AutoConfig.from_pretrained(directory)
    results_file, settings_file = run_dir / "results.json", directory / SETTINGS
    results = json.loads(results_file.read_text()) if results_file.exists() else {}
    results = results if results.get("steps") == steps else {}
    settings = yaml.safe_load(settings_file.read_text()) if settings_file.exists() else {}
    parts = [
        "---\nlibrary_name: transformers\ntags: [adaptive-depth, albert, depthlab]\n---",
        f"# An adaptive-depth ALBERT, trained by depthlab for {steps:,} steps",
        f"`{config.architectures[0]}`, weights in {str(config.dtype).removeprefix('torch.')}; {_depth(config)}. After "
        "`import depthlab`, Hugging Face's `AutoModel` and its kin take this directory, and `pipeline` does.",
        f"## Data\n\n{_data(results, settings)}",
        f"## Results\n\n{_scores(results)}",
    ]
    if settings:
        parts.append(
            f"## Command\n\n`{SETTINGS}`, beside this card, holds every setting of the run; its paths are the run's "
            f"own.\n\n```sh\ndepthlab fit --config {SETTINGS} --run_dir checkpoints/runs/again\n```"
        )
    (directory / "README.md").write_text("\n\n".join(parts) + "\n")


def _depth(config: AdaptiveAlbertConfig) -> str:
    if not config.rule.adaptive:
        return f"{config.num_hidden_layers} iterations for every token"
    return (
        f"at most {config.num_hidden_layers} iterations a token (`{config.act_update}`, `{config.act_cap}`, time "
        f"penalty {config.time_penalty:g})"
    )


def _data(results: dict[str, Any], settings: dict[str, Any]) -> str:
    lines = []
    if settings.get("model", {}).get("checkpoint"):
        lines.append(f"Started from `{Path(settings['model']['checkpoint']).name}`.")
    if settings.get("data", {}).get("task"):
        lines.append(f"Task: {settings['data']['task']}.")
    corpus = settings.get("data", {}).get("corpus")
    if corpus is not None:
        sources = [source if isinstance(source, dict) else {"path": source} for source in _as_list(corpus)]
        lines.append(f"Corpus: {', '.join(Path(source['path']).name for source in sources)}.")
    data = results.get("data", {})
    if {"documents", "tokens", "validation_documents"} <= data.keys():
        lines.append(
            f"{data['documents']:,} documents and {data['tokens']:,} tokens, {data['validation_documents']} documents "
            "of it held out."
        )
    if "tokens" in results:
        whole = results["epochs"][-1]["step"] if results.get("epochs") else results["steps"]
        when = "in training" if whole == results["steps"] else f"in all {whole:,} steps of the run"
        lines.append(
            f"Seen {when}: {results['tokens']:,} tokens in {results['token_iterations']:,} token-iterations and "
            f"{results['seconds']:,.0f} s."
        )
    return " ".join(lines) or "Not known."


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _scores(results: dict[str, Any]) -> str:
    scores = {name: value for name, value in results.items() if name.startswith("val/")}
    if not scores:
        return "The run has not been evaluated at this step."
    if "val/accuracy/mlm" in scores:
        return to_markdown(table_1({"this run": scores}))
    return scores_table(results.get("task", "held out"), scores)
