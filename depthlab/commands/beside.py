"""What stands beside a language model's own figures: other checkpoints on the same held-out documents; one sentence."""

from pathlib import Path
from typing import TYPE_CHECKING

from lightning.pytorch import Trainer
from rich.console import Console
from torch.optim import AdamW
from transformers.utils import logging

from depthlab.analysis.inspection import Inspector
from depthlab.callbacks import PonderMonitor
from depthlab.data.corpora.pretraining import PretrainingDataModule
from depthlab.data.hub import may_be_on_hub
from depthlab.errors import UserError
from depthlab.models import AdaptiveAlbertForPreTraining
from depthlab.models.checkpoint import find_tokenizer, load_as_saved
from depthlab.render.terminal import print_inspection
from depthlab.tasks.pretraining import MaskedLanguageModelling

if TYPE_CHECKING:
    from depthlab.commands.experiment_cli import ExperimentCLI


def check_beside(experiment: "ExperimentCLI") -> None:
    """Load each, before anything is trained: the end is no place for a mistyped name.

    Raises:
        UserError: one is not there, or has no head for masked words; or there are several ranks, which would each
            measure them.
    """
    if _named(experiment) and experiment.trainer.world_size > 1:
        raise UserError("beside is for a single device: leave it out here, and validate the run with it afterwards")
    for checkpoint in _named(experiment):
        if not Path(checkpoint).exists() and not may_be_on_hub(checkpoint):
            raise UserError(f"beside: {checkpoint} does not exist")
        _load(checkpoint)


def measure_beside(experiment: "ExperimentCLI", stage: str) -> dict[str, dict[str, float]]:
    """By name, the values by tag that other checkpoints log on the held-out documents, each in its own pieces.

    The documents are the same: which are held out follows from their text alone. Masks are drawn at the same rate.
    """
    settings = experiment.config[experiment.command]
    measured = {}
    for checkpoint in _named(experiment):
        task = MaskedLanguageModelling(_load(checkpoint), AdamW, 0)
        own = {"tokenizer": find_tokenizer(checkpoint), "vocab_size": task.model.config.vocab_size}
        data = PretrainingDataModule(**settings.data.as_dict() | own)
        trainer = Trainer(
            **{name: settings.trainer[name] for name in ("accelerator", "precision", f"limit_{stage}_batches")},
            devices=1,
            callbacks=[PonderMonitor()],
            use_distributed_sampler=False,
            **dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False),
        )
        evaluate = trainer.validate if stage == "val" else trainer.test
        evaluate(task, data, verbose=False)
        measured[checkpoint] = {name: float(value) for name, value in trainer.callback_metrics.items()}
    return measured


def show_sentence(experiment: "ExperimentCLI") -> None:
    """Print the beginning of the first held-out sample, masked words and all, every piece coloured by its depth."""
    data, tokenizer = experiment.datamodule, experiment.datamodule.tokenizer
    pieces = next(iter(data.val_dataloader()))["input_ids"][0].tolist()
    text = tokenizer.decode(pieces[1 : pieces.index(tokenizer.sep_token_id)]).replace(tokenizer.mask_token, "[MASK]")
    print_inspection(
        Console(highlight=False, markup=False, emoji=False), Inspector(experiment.model.model.eval(), tokenizer)(text)
    )


def _named(experiment: "ExperimentCLI") -> list[str]:
    return experiment.options.get("beside") or []


def _load(checkpoint: str) -> AdaptiveAlbertForPreTraining:
    logging.disable_progress_bar()
    model = load_as_saved(checkpoint)
    if not isinstance(model, AdaptiveAlbertForPreTraining):
        raise UserError(f"beside: {checkpoint} has no head for masked words (it is a {type(model).__name__})")
    return model
