"""Tiny pre-training runs through the command line, for the tests of what hangs together."""

import os
import random
import signal
import string
import subprocess
import sys
from pathlib import Path

import torch
from lightning.pytorch import Callback
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import BertConfig, BertForMaskedLM, BertTokenizer

REPOSITORY = Path(__file__).parents[1]

SETTINGS = {  # beside the paper's protocol, that of experiments/pretrain/tiny.yaml
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


def arguments(run_dir: Path, corpus: Path, **changes: object) -> list[str]:
    """Of `depthlab fit`; changes name settings with `__` for the dots."""
    settings = SETTINGS | {
        "data.corpus": corpus,
        "data.cache_dir": corpus.parent / "cache",
        "run_dir": run_dir,
        **{name.replace("__", "."): value for name, value in changes.items()},
    }
    config = str(REPOSITORY / "experiments/pretrain/tiny.yaml")
    return ["fit", "--config", config, *(f"--{name}={value}" for name, value in settings.items())]


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


def scalars(run_dir: Path, tag: str) -> dict[int, float]:
    """What TensorBoard has of this tag, by step."""
    events = EventAccumulator(str(run_dir)).Reload()
    return {event.step: event.value for event in events.Scalars(tag)}


def tags(run_dir: Path) -> list[str]:
    """All scalar tags of a run."""
    return EventAccumulator(str(run_dir)).Reload().Tags()["scalars"]
