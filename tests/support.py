"""What several tests share: tiny runs through the command line, one rank of several, what a run leaves behind."""

import contextlib
import copy
import functools
import io
import json
import os
import random
import signal
import string
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule, Trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import distributed
from transformers import BertConfig, BertForMaskedLM, BertTokenizer

from depthlab.cli import main
from depthlab.data.tokenization import load_tokenizer
from depthlab.models import AdaptiveAlbertConfig, AdaptiveAlbertForPreTraining
from tests.data.benchmarks.glue_fixtures import write_glue

REPOSITORY = Path(__file__).parents[1]
SHARED = REPOSITORY.parent / "shared/data"
"""What is too big for the repository; only tests marked `full` need it."""
UNIGRAM = REPOSITORY / "tests/unigram"
load_once = functools.cache(load_tokenizer)

PRETRAINING = {  # beside the paper's protocol, that of experiments/pretrain/tiny.yaml
    "data.tokenizer": "null",
    "data.vocab_size": 120,
    "data.max_length": 32,
    "data.max_predictions": "null",
    "data.batch_size": 8,
    "data.validation_fraction": 0.2,
    "data.num_workers": 0,
    "model.config.hidden_size": 16,
    "model.config.num_attention_heads": 2,
    "model.config.intermediate_size": 32,
    "model.config.embedding_size": 8,
    "model.config.max_position_embeddings": 32,
    "model.config.num_hidden_layers": 5,
    "model.config.initializer_range": 0.2,
    "model.config.halting_bias_init": -1.0,
    "model.optimizer.lr": 0.01,
    "model.warmup_steps": 3,
    "trainer.accelerator": "cpu",
    "trainer.precision": "32-true",
    "trainer.accumulate_grad_batches": 1,
    "trainer.max_steps": 20,
    "trainer.log_every_n_steps": 1,
    "trainer.val_check_interval": 4,
}
RETROFIT = {"data.vocab_size": 58, "data.max_length": 32, "data.batch_size": 8, "data.num_workers": 0}
RETROFIT |= {"data.validation_fraction": 0.2}
FINE_TUNING = {
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


def write_corpus(path: Path) -> None:
    """Documents of 3 to 12 sentences of very different lengths, out of a small vocabulary; always the same."""
    draw = random.Random(0)
    syllables = [consonant + vowel for consonant in "bdfgklmnprst" for vowel in "aeiou"]
    words = ["".join(draw.choices(syllables, k=draw.randint(1, 4))) for _ in range(150)]
    documents = []
    for _ in range(24):
        sentences = []
        for _ in range(draw.randint(3, 12)):
            sentence = " ".join(draw.choice(words) for _ in range(draw.randint(2, 14)))
            sentences.append(sentence.capitalize() + ".")
        documents.append(" ".join(sentences))
    path.write_text("\n\n".join(documents) + "\n")


def write_bert(folder: Path, hidden_size: int = 16) -> None:
    """A small BERT as Hugging Face saves one, with a WordPiece vocabulary of single letters: 58 pieces."""
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", *string.ascii_lowercase]
    pieces += [f"##{letter}" for letter in string.ascii_lowercase]
    BertTokenizer(vocab={piece: index for index, piece in enumerate(pieces)}).save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": hidden_size, "num_attention_heads": 2, "intermediate_size": 32, "num_hidden_layers": 4}
    config = BertConfig(**sizes, vocab_size=len(pieces), max_position_embeddings=32, initializer_range=0.2)
    BertForMaskedLM(config).save_pretrained(folder)


def arguments(command: str, experiment: str, settings: dict[str, Any], **changes: object) -> list[str]:
    """Of `depthlab` on an experiment as it ships; changes name settings with `__` for the dots."""
    settings = settings | {name.replace("__", "."): value for name, value in changes.items()}
    config = str(REPOSITORY / f"experiments/{experiment}.yaml")
    return [command, "--config", config, *(f"--{name}={value}" for name, value in settings.items())]


def pretraining(run_dir: Path, corpus: Path, **changes: object) -> list[str]:
    """Arguments of `depthlab fit` for a tiny pre-training."""
    places = {"data.corpus": corpus, "data.cache_dir": corpus.parent / "cache", "run_dir": run_dir}
    return arguments("fit", "pretrain/tiny", PRETRAINING | places, **changes)


def write_checkpoint(folder: Path, **changes: object) -> Path:
    """An exported run that has learnt nothing: small, with random weights."""
    torch.manual_seed(0)
    tokenizer = copy.deepcopy(load_once(str(UNIGRAM)))
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


def fine_tuning(
    inputs: Path, run_dir: Path, command: str = "fit", task: str = "rte", suite: str = "glue", **changes: object
) -> list[str]:
    """Arguments of a `depthlab` command for a tiny fine-tuning."""
    settings = FINE_TUNING | {
        "data.task": task,
        "data.root": inputs / suite,
        "data.cache_dir": inputs / "cache",
        "model.checkpoint": inputs / "checkpoint",
        "run_dir": run_dir,
    }
    return arguments(command, suite, settings, **changes)


def quiet_trainer(**settings: Any) -> Trainer:
    """A trainer on the CPU that prints nothing and leaves nothing behind."""
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    return Trainer(accelerator="cpu", **quiet | settings)


class InterruptAt(Callback):
    """Presses Ctrl-C when this many batches have begun."""

    def __init__(self, batches: int) -> None:
        self.batches = batches

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        self.batches -= 1
        if self.batches == 0:
            os.kill(os.getpid(), signal.SIGINT)


class StopAt(Callback):
    """Wants to stop after this many batches, as Lightning's timer does: within an optimiser step, too."""

    def __init__(self, batches: int) -> None:
        self.batches = batches

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.batches -= 1
        trainer.should_stop = trainer.should_stop or self.batches <= 0


class BadNumbersAt(Callback):
    """Spoils a number in this optimiser step, the first being 1, and in those after it.

    Args:
        step: the first.
        steps: how many.
        where: what is spoilt: "loss" (nan leaves the feed-forward layer), "gradient" or "weight" (inf), the last after
            the optimiser's update.
        rank: on which rank.
    """

    def __init__(self, step: int, steps: int = 1, where: str = "loss", rank: int = 0) -> None:
        self.steps = range(step - 1, step - 1 + steps)
        self.where = where
        self.rank = rank

    def is_due(self, trainer, where, step) -> bool:
        return where == self.where and step in self.steps and trainer.global_rank == self.rank

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if self.is_due(trainer, "loss", trainer.global_step):
            layer = pl_module.model.base_model.encoder.albert_layer_groups[0].albert_layers[0]
            self.hook = layer.ffn.register_forward_hook(lambda module, args, output: output * float("nan"))

    def on_before_backward(self, trainer, pl_module, loss) -> None:
        if self.is_due(trainer, "loss", trainer.global_step):
            self.hook.remove()

    def on_after_backward(self, trainer, pl_module) -> None:
        if self.is_due(trainer, "gradient", trainer.global_step):
            next(pl_module.parameters()).grad[2, 1] = float("inf")

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        if self.is_due(trainer, "weight", trainer.global_step - 1):
            next(pl_module.parameters()).data[2, 1] = float("inf")


def run(command: list[str], seconds: int = 300, exit_code: int = 0) -> str:
    """`depthlab` in a process of its own: what it prints; it must end with this code."""
    done = subprocess.run(
        [sys.executable, "-m", "depthlab", *command],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds,
    )
    assert done.returncode == exit_code, done.stdout
    return done.stdout


def printed_by(command: list[str]) -> str:
    """`depthlab` in this process: what it prints."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        main(command)
    return printed.getvalue()


def interrupted(command: list[str], batches: int) -> str:
    """A run that is interrupted when so many batches have begun: what it prints."""
    press = ["--trainer.callbacks+=tests.support.InterruptAt", f"--trainer.callbacks.batches={batches}"]
    with contextlib.redirect_stdout(io.StringIO()) as printed, pytest.raises(SystemExit) as ended:
        main([*command, *press])
    assert ended.value.code == 130
    return printed.getvalue()


def compare_runs(run_dir: Path, reference: Path, tags: Iterable[str], tolerance: float, weights: float) -> None:
    """Two runs have the same curves and end with the same weights, within these tolerances."""
    for tag in tags:
        assert scalars(run_dir, tag) == pytest.approx(scalars(reference, tag), rel=tolerance, abs=1e-5), tag
    last, expected = (torch.load(run / "checkpoints/last.ckpt", weights_only=True) for run in (run_dir, reference))
    assert last["global_step"] == expected["global_step"]
    for name, weight in expected["state_dict"].items():
        # Attention does not depend on the keys' bias: its gradient is rounding, which the optimiser blows up.
        if not name.endswith("key.bias"):
            torch.testing.assert_close(last["state_dict"][name], weight, rtol=10 * weights, atol=weights, msg=name)


def scalars(run_dir: Path, tag: str) -> dict[int, float]:
    """What TensorBoard has of this tag, by step."""
    events = EventAccumulator(str(run_dir)).Reload()
    return {event.step: event.value for event in events.Scalars(tag)}


def tags(run_dir: Path) -> list[str]:
    """All scalar tags of a run."""
    return EventAccumulator(str(run_dir)).Reload().Tags()["scalars"]


def results(run_dir: Path) -> dict:
    """What a run has left in `results.json`."""
    return json.loads((run_dir / "results.json").read_text())


def error_of(capsys: pytest.CaptureFixture[str], command: Sequence[str]) -> str:
    """The one line that a command fails with."""
    with pytest.raises(SystemExit) as exit_:
        main(command)
    assert exit_.value.code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(lines) == 1, lines
    return lines[0]


def table(output: str) -> list[str]:
    """The lines of what was printed that are a table's."""
    return [line for line in output.splitlines() if line.startswith("|")]


def as_rank(
    module: LightningDataModule, world_size: int = 1, rank: int = 0, accumulate: int = 1
) -> LightningDataModule:
    """The data module as one rank of a run sees it."""
    progress = SimpleNamespace(batch_progress=SimpleNamespace(current=SimpleNamespace(ready=0)))
    fit_loop = SimpleNamespace(is_resuming=False, epoch_loop=progress)
    ranks = {"world_size": world_size, "global_rank": rank, "accumulate_grad_batches": accumulate, "overfit_batches": 0}
    module.trainer = SimpleNamespace(**ranks, fit_loop=fit_loop)
    return module


def epoch_of(module: LightningDataModule, epoch: int = 0) -> list[dict]:
    """The training batches of an epoch."""
    loader = module.train_dataloader()
    loader.sampler.set_epoch(epoch)
    batches = list(loader)
    assert len(batches) == len(loader)
    return batches


def sequences(batches: Iterable[dict[str, torch.Tensor]]) -> list[tuple]:
    """Each sequence of batches with all that they say of it, without its padding."""
    found = []
    for batch in batches:
        fields = [batch[name] for name in sorted(batch) if batch[name].ndim]
        for row, length in enumerate(batch["attention_mask"].sum(1).tolist()):
            found.append(tuple(tuple(f[row, :length].tolist()) if f.ndim == 2 else f[row].item() for f in fields))
    return found


def fork_ranks(function: Callable[..., None], *arguments: Any) -> None:
    """Calls a function on each of two ranks, with its number first; forked, since most of a process is its imports."""
    torch.multiprocessing.start_processes(function, args=arguments, nprocs=2, start_method="fork")


def by_two_processes(measure: Callable[[int], Any], folder: Path) -> list[Any]:
    """What a module's function gives on each of two gloo ranks."""
    fork_ranks(_on_rank, measure, folder)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


def _on_rank(rank: int, measure: Callable[[int], Any], folder: Path) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    torch.save(measure(rank), folder / f"{rank}.pt")
    distributed.destroy_process_group()
