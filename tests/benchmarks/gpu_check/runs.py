"""Whole runs of the command line: pre-training under DDP, resumed once, and a fine-tuning."""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.benchmarks.gpu_check.bench import Bench

REPOSITORY = Path(__file__).parents[3]
TOY = {  # of small.yaml, where there is no GPU
    "data.max_length": 32,
    "data.batch_size": 8,
    "model.config.hidden_size": 16,
    "model.config.num_attention_heads": 2,
    "model.config.intermediate_size": 32,
    "model.config.embedding_size": 8,
    "model.config.num_hidden_layers": 4,
    "trainer.accelerator": "cpu",
    "trainer.precision": "32-true",
}


def fit(bench: Bench) -> None:
    """A hundred steps of small.yaml with DDP on one device, interrupted at the half and resumed."""
    steps = 100 if bench.on_gpu else 10
    corpus, run_dir = bench.out / "corpus.txt", bench.out / "fit"
    _write_corpus(corpus, documents=4000 if bench.on_gpu else 40)
    settings = {
        "run_dir": run_dir,
        "seed_everything": 0,
        "data.corpus": corpus,
        "data.cache_dir": bench.out / "cache",
        "data.tokenizer": "null",
        "data.vocab_size": 1000 if bench.on_gpu else 120,
        "data.batch_size": 256,
        "data.device_batch_size": 128,
        "data.num_workers": 4 if bench.on_gpu else 0,
        "trainer.devices": 1,
        "trainer.strategy": "ddp",
        "trainer.max_steps": steps,
        "trainer.log_every_n_steps": 1,
        "trainer.val_check_interval": steps,
        "trainer.enable_progress_bar": "false",
        "checkpoint.every_n_steps": steps // 4,
        **({} if bench.on_gpu else TOY),
    }
    command = ["fit", "--config", str(REPOSITORY / "experiments/pretrain/small.yaml")]
    command += [f"--{name}={value}" for name, value in settings.items()]
    pieces = 2 if bench.on_gpu else 1  # batches of a step
    press = ["--trainer.callbacks+=tests.support.InterruptAt", f"--trainer.callbacks.batches={pieces * steps // 2}"]
    first = _run(bench, [*command, *press], "fit.log", 130)
    second = _run(bench, [*command, "--ckpt_path=last"], "fit-resumed.log", 0)
    losses = _scalars(run_dir, "train/loss/mlm")
    rates = [*_scalars(run_dir, "throughput/tokens_per_second").values()]
    missing = sorted({*range(steps)} - losses.keys())
    bench.say(
        f"small.yaml, {steps} steps of {settings['data.batch_size']} sequences of generated text, DDP on one device, "
        "interrupted and resumed once:",
        "",
        f"- took {first:.0f} s until it was interrupted and {second:.0f} s from there, both with their start;",
        f"- MLM loss {', '.join(f'{losses[n]:.3f} (step {n + 1})' for n in _some(losses))};",
        f"- steps without a loss: {missing or 'none'};",
        f"- median throughput {sorted(rates)[len(rates) // 2]:,.0f} tokens / s." if rates else "- no throughput yet.",
    )


def glue(bench: Bench) -> None:
    """MRPC by the shipped model."""
    if bench.glue is None:
        bench.say("Left out: no --glue FOLDER with MRPC/train.tsv was given.")
        return
    run_dir = bench.out / "mrpc"
    settings = {
        "run_dir": run_dir,
        "data.task": "mrpc",
        "data.root": bench.glue,
        "data.cache_dir": bench.out / "cache",
        "model.checkpoint": REPOSITORY / "checkpoints/minilm-adaptive",
        "trainer.enable_progress_bar": "false",
        **({"trainer.precision": "bf16-mixed", "data.num_workers": 4} if bench.on_gpu else {"trainer.max_steps": 3}),
    }
    command = ["fit", "--config", str(REPOSITORY / "experiments/glue.yaml")]
    seconds = _run(bench, [*command, *(f"--{name}={value}" for name, value in settings.items())], "mrpc.log", 0)
    found = json.loads((run_dir / "results.json").read_text())
    bench.say(
        f"{settings['model.checkpoint'].name}, learning rate {found['learning_rate']:g}, batch {found['batch_size']}, "
        f"{found['epochs'][-1]['step']} steps, the best after {found['steps']}: "
        f"accuracy {100 * found['val/accuracy']:.1f}, F1 {100 * found['val/f1']:.1f}, "
        f"mean depth {found['val/depth/all']:.2f}, {seconds:.0f} s with the start."
    )


def _run(bench: Bench, command: list[str], log: str, exit_code: int) -> float:
    """`depthlab` in a process of its own: the seconds it took.

    Raises:
        RuntimeError: it ended otherwise than it should, or had no time left.
    """
    start = time.monotonic()
    paths = [str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])]
    with (bench.out / log).open("w") as file:
        done = subprocess.run(
            [sys.executable, "-m", "depthlab", *command],
            cwd=REPOSITORY,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths), "TOKENIZERS_PARALLELISM": "false"},
            stdout=file,
            stderr=subprocess.STDOUT,
            timeout=max(bench.left, 1),
        )
    if done.returncode != exit_code:
        last = (bench.out / log).read_text().splitlines()[-12:]
        raise RuntimeError("\n".join([f"depthlab {command[0]} ended with {done.returncode}:", *last]))
    return time.monotonic() - start


def _write_corpus(path: Path, documents: int) -> None:
    """Documents of sentences in which each word depends on the one before it, so that there is something to learn."""
    draw = random.Random(0)
    syllables = [consonant + vowel for consonant in "bdfgklmnprst" for vowel in "aeiou"]
    words = sorted({"".join(draw.choices(syllables, k=draw.randint(1, 4))) for _ in range(1500)})
    follows = {word: draw.choices(words, k=8) for word in words}

    def sentence() -> str:
        said = [draw.choice(words)]
        for _ in range(draw.randint(4, 20)):
            said.append(draw.choice(follows[said[-1]]))
        return " ".join(said).capitalize() + "."

    texts = (" ".join(sentence() for _ in range(draw.randint(8, 30))) for _ in range(documents))
    path.write_text("\n\n".join(texts) + "\n")


def _scalars(run_dir: Path, tag: str) -> dict[int, float]:
    events = EventAccumulator(str(run_dir)).Reload()
    if tag not in events.Tags()["scalars"]:
        return {}
    return {event.step: event.value for event in events.Scalars(tag)}


def _some(curve: dict[int, float]) -> list[int]:
    """Its first step, those around the middle, its last."""
    steps = sorted(curve)
    return sorted({steps[0], steps[len(steps) // 2 - 1], steps[len(steps) // 2], steps[-1]})
