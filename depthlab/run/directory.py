"""A run's directory: what lies in it, under which names, and what a run that has ended says. Nobody else knows."""

import fcntl
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from depthlab.errors import UserError
from depthlab.files import writing

Shape = Mapping[str, type | tuple[type, None]]
"""Names of what a file must hold, and of which kind each is; with None beside it, it may be missing or null. float
stands for any number, object for anything."""
CONFIG: Shape = {"task": str, "model": dict, "data": dict, "trainer": dict}
CONFIG_OF_MODEL: Shape = {"checkpoint": (str, None), "depth": (dict, None)}
RESULTS: Shape = {"steps": int, "tokens": int, "seconds": float, "data": dict, "task": (str, None)}
RESULTS |= {"token_iterations": (int, None), "epochs": (list, None), "model": (dict, None), "metrics": (list, None)}
EPOCH: Shape = {"epoch": float, "step": int}
"""Of each validation; what has a tag (`val/score`) is a number."""
MODEL: Shape = {"num_hidden_layers": int, "halting": str, "time_penalty": float}
MODEL |= {"halting_settings": (dict, None), "num_hidden_groups": (int, None), "act_epsilon": (float, None)}
LARGEST = 2**63
"""Of whole numbers: what is beyond is no count."""


class RunDirectory:
    """Where everything of a run lies; nothing of it need be there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"  # all settings
        self.results = path / "results.json"  # what a run that has ended measured; written last
        self.checkpoints = path / "checkpoints"  # the states that training goes on from
        self.last = self.checkpoints / "last.ckpt"
        self.previous = self.checkpoints / "previous.ckpt"  # the last one before that
        self.best = self.checkpoints / "best.ckpt"  # of the highest score, where the task has one
        self.tokenizer = path / "tokenizer"  # in Hugging Face's form, as is
        self.model = path / "model"  # the exported model
        self.predictions = path / "predictions"  # for the test splits
        self.dials = path / "dial"  # what `depthlab dial` has measured of its model, a file a rule
        self.fixed_point = path / "fixed_point.csv"  # how much each iteration still changed, at every validation
        self.bad_step = path / "bad_step"  # a step whose numbers went bad, as `depthlab replay` runs it again
        self.progress = path / "progress.json"  # how far the run is, as it says itself
        self.lock = path / ".lock"  # of the process that trains here

    def holds_work(self) -> bool:
        """Whether there is something that another run would lose: a state to go on from, or what has come of it."""
        return any(self.checkpoints.glob("*.ckpt")) or self.model.exists() or self.results.exists()

    def can_go_on(self) -> bool:
        """Whether there is a state to go on from."""
        return self.last.exists() or self.previous.exists()

    def was_begun(self) -> bool:
        """Whether a run has begun here, even if it was killed before it had anything to keep."""
        return self.lock.exists() or self.config.exists()

    def log_files(self) -> list[Path]:
        """What is only ever appended to: TensorBoard's files, those of its `Dashboard`'s lines, and a table."""
        folders = ("", "depth/*/", "loss/*/", "final/")
        events = [file for folder in folders for file in self.path.glob(f"{folder}events.out.tfevents.*")]
        return sorted(events) + ([self.fixed_point] if self.fixed_point.exists() else [])

    def write_results(self, results: dict[str, Any]) -> None:
        """Say that the run has ended, and what it measured.

        Raises:
            UserError: the file can't be written.
        """
        with writing("the results to", self.results) as unfinished:
            unfinished.write_text(json.dumps(results, indent=2) + "\n")


@dataclass(frozen=True)
class FinishedRun:
    """What a run that has ended has left."""

    directory: RunDirectory
    config: dict[str, Any]  # its settings
    results: dict[str, Any]  # what it measured
    model: dict[str, Any]  # configuration of the exported model; empty where there is none, as tokens have no depth


def read_run(path: Path) -> FinishedRun:
    """A run that has ended.

    Raises:
        UserError: it has not, or its files are not such as a run writes; the message does not name the directory.
    """
    run, log = RunDirectory(path), Path(f"{path}.log")
    if not run.results.is_file():
        seen = f" (see {log})" if log.is_file() else ""
        raise UserError(f"unfinished or failed: it has no {run.results.name}{seen}")
    if not run.config.is_file():
        raise UserError(f"it has no {run.config.name}, so its settings are not known")
    config = hold(read_file(run.config), CONFIG, run.config.name)
    hold(config["model"], CONFIG_OF_MODEL, run.config.name)
    hold(config["trainer"], {"log_every_n_steps": (int, None)}, run.config.name)
    results = hold(read_file(run.results), RESULTS, run.results.name)
    validations = [hold(epoch, EPOCH, run.results.name) for epoch in results.get("epochs") or []]
    for values in (results, *validations):
        hold(values, {name: (float, None) for name in values if "/" in name}, run.results.name)
    counts = {name: float for name, value in results["data"].items() if not isinstance(value, list)}
    hold(results["data"], counts, run.results.name)
    exported = run.model / "config.json"
    model = hold(read_file(exported), MODEL, "model/config.json") if exported.is_file() else {}
    return FinishedRun(run, config, results, model)


def hold(content: Any, shape: Shape, name: str) -> dict[str, Any]:
    """Hold what a file, or a part of it, says against what it must say; messages name the file.

    Raises:
        UserError: something is not there, or of another kind.
    """
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise UserError(f"{name} is not what a run writes (it holds no names)")
    for key, given in shape.items():
        kind = given[0] if isinstance(given, tuple) else given
        value = content.get(key)
        if value is None and isinstance(given, tuple):
            continue
        if key not in content:
            raise UserError(f"{name} has no {key!r}: it is not a run of this version")
        is_kind = isinstance(value, (int, float) if kind is float else kind) and not isinstance(value, bool)
        if not is_kind or (isinstance(value, int) and abs(value) > LARGEST):
            raise UserError(f"{name} is not what a run writes ({key} is {repr(value)[:40]})")
    return content


def read_file(file: Path) -> Any:
    """What a file of a run's says, in JSON or YAML.

    Raises:
        UserError: it can't be read; the message does not name the directory.
    """
    try:
        text = file.read_text()
        content = json.loads(text) if file.suffix == ".json" else yaml.safe_load(text)
        json.dumps(content, ensure_ascii=False, default=str, skipkeys=True).encode()  # half a surrogate pair can't be
        return content
    except json.JSONDecodeError as error:
        raise UserError(f"{file.name}, line {error.lineno}: not JSON ({error.msg})") from None
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise UserError(f"{file.name} cannot be read: {' '.join(str(error).split())}") from None


def is_locked(path: Path) -> bool:
    """Whether a process, on any machine that sees the file, has it locked as `filelock` and sweeps do."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: who else asks is no holder
            return False
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True


def run_of(checkpoint: Path) -> RunDirectory:
    """The run that a checkpoint lies in."""
    return RunDirectory(checkpoint.parent.parent)


def find_checkpoint(path: str) -> Path | None:
    """The checkpoint that a path names: itself, or a run directory's best, or last; None where it names no run.

    `depthlab.run.checkpoints.whole_checkpoint` looks into it, too.
    """
    run = RunDirectory(Path(path).expanduser())
    candidates = (run.path, run.best, run.last, run.previous)
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def best_epoch(epochs: Sequence[dict[str, float]], monitor: str) -> dict[str, float]:
    """The epoch of the highest score, the first of equals; one that is nan is lower than any other."""
    return max(epochs, key=lambda epoch: (not math.isnan(epoch[monitor]), epoch[monitor]))
