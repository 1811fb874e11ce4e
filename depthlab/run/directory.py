"""A run's directory: what lies in it, and under which names. Nobody else knows these names."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from depthlab.files import all_or_nothing


@dataclass(frozen=True)
class RunDirectory:
    """Where everything of a run lies; nothing of it need be there."""

    path: Path

    @property
    def config(self) -> Path:
        """All settings of the run."""
        return self.path / "config.yaml"

    @property
    def results(self) -> Path:
        """What a run that has ended measured; written last."""
        return self.path / "results.json"

    @property
    def checkpoints(self) -> Path:
        """Folder of the states that training goes on from."""
        return self.path / "checkpoints"

    @property
    def last(self) -> Path:
        """The last state."""
        return self.checkpoints / "last.ckpt"

    @property
    def best(self) -> Path:
        """The state of the best score, where the task has one."""
        return self.checkpoints / "best.ckpt"

    @property
    def tokenizer(self) -> Path:
        """Folder of the tokenizer, in Hugging Face's form."""
        return self.path / "tokenizer"

    @property
    def model(self) -> Path:
        """Folder of the exported model, in Hugging Face's form."""
        return self.path / "model"

    @property
    def predictions(self) -> Path:
        """Folder of what was predicted for the test splits."""
        return self.path / "predictions"

    @property
    def fixed_point(self) -> Path:
        """Table of how much each iteration still changed the states, at every validation that watched it."""
        return self.path / "fixed_point.csv"

    @property
    def lock(self) -> Path:
        """Locked by the process that trains here."""
        return self.path / ".lock"

    def has_begun(self) -> bool:
        """Whether there is a run, finished or not."""
        return any(path.exists() for path in (self.config, self.last, self.model))

    def write_results(self, results: dict[str, Any]) -> None:
        """Say that the run has ended, and what it measured.

        Raises:
            OSError: the file can't be written.
        """
        with all_or_nothing(self.results) as unfinished:
            unfinished.write_text(json.dumps(results, indent=2) + "\n")


def run_of(checkpoint: Path) -> RunDirectory:
    """The run that a checkpoint lies in."""
    return RunDirectory(checkpoint.parent.parent)


def find_checkpoint(path: str) -> Path | None:
    """The checkpoint that a path names: itself, or a run directory's best, or last; None where it names no run."""
    run = RunDirectory(Path(path))
    return next((candidate for candidate in (run.path, run.best, run.last) if candidate.is_file()), None)
