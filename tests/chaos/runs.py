"""The runs that are hit, small ones on the sample corpus and on GLUE, with dropout; and how two of them compare."""

import json
import os
import socket
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

from depthlab.data.corpora.sample import read_sample, sample_file
from depthlab.run.directory import RunDirectory
from tests.chaos.processes import Process
from tests.support import FINE_TUNING, PRETRAINING, REPOSITORY, write_bert, write_inputs

OF_TIME = ("throughput/", "val/seconds_per_example", "final/")
"""Tags that say how long something took, and the summary of a run, which has them, too."""
CHANGES: dict[str, dict[str, Any]] = {
    "pretraining": {
        "data.vocab_size": 500,
        "model.config.hidden_dropout_prob": 0.1,
        "model.config.attention_probs_dropout_prob": 0.1,
        "model.fixed_depth_steps": 4,
        "model.time_penalty_warmup_steps": 10,
        "trainer.max_steps": 16,
        "trainer.val_check_interval": 5,
        "trainer.limit_val_batches": 3,
        "checkpoint.every_n_steps": 3,
    },
    "accumulated": {"trainer.accumulate_grad_batches": 2, "data.num_workers": 1},
    "two ranks": {"trainer.devices": 2, "trainer.strategy": "ddp"},
    "glue": {
        "data.max_length": 32,
        "trainer.max_epochs": 4,
        "checkpoint.every_n_steps": 1,
        "model.optimizer.init_args.lr": 1e-3,
    },
}
KINDS = ("pretraining", "accumulated", "two ranks", "glue")


def write_data(folder: Path, documents: int = 30) -> None:
    """What all runs learn from: the beginning of the sample corpus, and a small GLUE with a BERT that has dropout."""
    write_inputs(folder)
    write_bert(folder / "bert")
    texts = islice(read_sample(sample_file()), documents)
    (folder / "corpus.txt").write_text("\n\n".join(text[:4000].replace("\n\n", "\n") for text in texts))


def as_two_ranks() -> None:
    """Go on as two processes, as `torchrun` starts them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    rank = "0" if os.fork() else "1"
    os.environ |= {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2", "NODE_RANK": "0"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}


@dataclass
class Run:
    """A run directory, and the command that fills it."""

    kind: str
    data: Path
    folder: Path
    workers: int = 0

    @property
    def directory(self) -> RunDirectory:
        return RunDirectory(self.folder / "run")

    def command(self, *more: str, name: str = "fit") -> list[str]:
        witness = ["--trainer.callbacks+=tests.chaos.processes.Witness", f"--trainer.callbacks.folder={self.folder}"]
        if self.kind == "glue":
            file, settings = "glue.yaml", FINE_TUNING | CHANGES["glue"]
            settings |= {"data.task": "rte", "data.root": self.data / "glue", "model.checkpoint": self.data / "bert"}
        else:
            file, settings = "pretrain/tiny.yaml", PRETRAINING | CHANGES["pretraining"]
            settings |= CHANGES[self.kind] | {"data.corpus": self.data / "corpus.txt"}
            settings |= {"trainer.enable_progress_bar": False, "trainer.enable_model_summary": False}
        settings |= {"data.num_workers": self.workers, "run_dir": self.directory.path}
        settings |= {"data.cache_dir": self.data / "cache"}
        config = ["--config", str(REPOSITORY / "experiments" / file)]
        return [name, *config, *(f"--{key}={value}" for key, value in settings.items()), *witness, *more]

    def start(self, *more: str, **settings: Any) -> Process:
        if self.kind == "two ranks":
            settings.setdefault("before", as_two_ranks)
        return Process(self.command(*more), self.folder, **settings)

    def finish(self, *more: str) -> Process:
        """Go on to the end."""
        process = self.start("--ckpt_path=last", *more)
        process.wait()
        return process

    def samples(self) -> dict[tuple[int, int, int], tuple[str, ...]]:
        """The rows of each batch that the run has learnt from in the end, by rank, step, and piece of the epoch."""
        lines = {}
        for file in self.folder.glob("samples.*"):
            for line in file.read_text().splitlines():
                step, batch, *rows = line.split()
                lines[int(file.suffix[1:]), int(step), int(batch)] = tuple(rows)
        return lines

    def scalars(self) -> dict[str, list[tuple[int, float]]]:
        """All points of all tags, in order; what is of time is left out."""
        points = {}
        for folder in sorted({file.parent for file in self.directory.log_files() if file.suffix != ".csv"}):
            events = EventAccumulator(str(folder), size_guidance={SCALARS: 0})
            events.Reload()
            for tag in events.Tags()[SCALARS]:
                name = str((folder / tag).relative_to(self.directory.path))
                if not name.startswith(OF_TIME):
                    points[name] = sorted((event.step, event.value) for event in events.Scalars(tag))
        return points


@dataclass
class Comparison:
    """How a run differs from one that was left alone."""

    lost: int  # samples
    repeated: int
    differences: list[str]


def compare(run: Run, reference: Run) -> Comparison:
    """Samples, weights, optimiser, random states, curves and results: all to the bit."""
    ours, theirs = (Counter(row for rows in a.samples().values() for row in rows) for a in (run, reference))
    differences = []
    if run.samples() != reference.samples():
        differences.append("samples")
    for name in ("last", "best"):
        files = [getattr(a.directory, name) for a in (run, reference)]
        if not all(file.exists() for file in files):
            differences += [name] if any(file.exists() for file in files) else []
            continue
        one, other = (torch.load(file, weights_only=True) for file in files)
        parts = ("global_step", "state_dict", "optimizer_states", "lr_schedulers", "random_states")
        differences += [f"{name}: {part}" for part in parts if not _equal(one[part], other[part])]
    one, other = run.scalars(), reference.scalars()
    differences += sorted(tag for tag in one.keys() | other.keys() if repr(one.get(tag)) != repr(other.get(tag)))
    if _measured(run) != _measured(reference):
        differences.append("results.json")
    tables = [a.directory.fixed_point for a in (run, reference)]
    if len({table.read_bytes() if table.exists() else b"" for table in tables}) > 1:
        differences.append("fixed_point.csv")
    return Comparison((theirs - ours).total(), (ours - theirs).total(), differences)


def _measured(run: Run) -> Any:
    def without_time(content: Any) -> Any:
        if isinstance(content, dict):
            return {name: without_time(value) for name, value in content.items() if "seconds" not in name}
        return [without_time(value) for value in content] if isinstance(content, list) else content

    results = run.directory.results
    return repr(without_time(json.loads(results.read_text()))) if results.exists() else None


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_equal(one[name], other[name]) for name in one)
    if isinstance(one, Sequence) and not isinstance(one, str):
        return len(one) == len(other) and all(map(_equal, one, other))
    return repr(one) == repr(other)
