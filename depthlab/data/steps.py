"""What data modules share: batches cut into the pieces of ranks and accumulation, and taken up after an interrupt."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from depthlab.data.tokenization import find_tokenizer_files
from depthlab.data.workers import heed_the_parent_only
from depthlab.errors import UserError

GOLDEN = (5**0.5 - 1) / 2


class MicroBatches:
    """The micro-batches of a loader of windows, one after the other: what Lightning sees.

    A window is one rank's share of one optimiser step, a list of micro-batches of NumPy arrays; a list of one in
    evaluation. Not a DataLoader, so Lightning puts no sampler of its own in under DDP.
    """

    def __init__(self, loader: DataLoader, micro_batches: int) -> None:
        self.loader = loader
        self.micro_batches = micro_batches

    @property
    def _iterator(self) -> Any:
        """As in a DataLoader: Lightning ends its workers through it. Left to the collector they hang for 10 s."""
        return self.loader._iterator

    @_iterator.setter
    def _iterator(self, iterator: None) -> None:
        self.loader._iterator = iterator

    def __len__(self) -> int:
        """Micro-batches of a whole epoch."""
        return self.micro_batches

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        """Tensors: int64, and fp32 of what are fractions."""
        for window in self.loader:
            for batch in window:
                # Workers send NumPy arrays: a tensor each would take a file descriptor.
                yield {
                    name: torch.as_tensor(array, dtype=torch.float32 if array.dtype.kind == "f" else torch.int64)
                    for name, array in batch.items()
                }


class TrainingMicroBatches(MicroBatches):
    """Micro-batches that begin where Lightning's progress stands.

    Iteration starts at the first `next`, when Lightning has set the epoch and restored its progress. That progress is
    all the state there is; the empty one here tells Lightning that the loader can resume.
    """

    @property
    def sampler(self) -> Any:
        """The sampler, whose epoch Lightning sets."""
        return self.loader.sampler

    def state_dict(self) -> dict[str, Any]:
        """Empty."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to load."""


def loader(dataset: Dataset, windows: Iterable[Any], num_workers: int) -> DataLoader:
    """A loader of windows, of which the dataset makes micro-batches in so many workers."""
    return DataLoader(
        dataset,
        batch_size=None,
        sampler=windows,
        collate_fn=_unchanged,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        worker_init_fn=heed_the_parent_only,
        generator=torch.Generator(),  # else it draws a seed from what dropout draws from, at every start
    )


def _unchanged(window: list[dict[str, np.ndarray]]) -> list[dict[str, np.ndarray]]:
    """The dataset has collated already."""
    return window


class StepSampler:
    """Steps of one epoch after the other, each cut into a piece for every micro-batch of every rank.

    Args:
        seed: Of the order.
        world_size: Ranks.
        rank: This one.
        accumulate: Micro-batches of a step on a rank.
        steps_done: Called when an iteration begins: steps of the epoch that an interrupted run has made.
        repeats: Whether every epoch is the first one again, as to overfit a batch.
    """

    def __init__(
        self,
        seed: int,
        world_size: int = 1,
        rank: int = 0,
        accumulate: int = 1,
        steps_done: Callable[[], int] = lambda: 0,
        repeats: bool = False,
    ) -> None:
        self.seed = seed
        self.pieces = world_size * accumulate
        self.mine = slice(rank * accumulate, (rank + 1) * accumulate)
        self.accumulate = accumulate
        self.steps_done = steps_done
        self.repeats = repeats
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning at the start of an epoch."""
        self.epoch = 0 if self.repeats else epoch

    def cut(self, step: np.ndarray) -> list[np.ndarray]:
        """The micro-batches of a step that are this rank's."""
        return np.array_split(step, self.pieces)[self.mine]


def spread(count: int) -> np.ndarray:
    """The numbers below `count`, in an order whose every beginning is spread evenly: multiples of the golden ratio."""
    return (np.arange(1, count + 1) * GOLDEN % 1).argsort().argsort()


class Volume(NamedTuple):
    """What there is to train on, as far as the disk tells before anything is prepared."""

    samples: float
    """Of an epoch."""
    length: float
    """Tokens of a sample, on average."""
    how: str
    """How that is known."""
    text: Mapping[str, float] = {}
    """Of a corpus as it is stored: its tokens, sentences, chunks, and the 13-grams that its split needs."""


def check_settings(*settings: tuple[str, Any, bool, str]) -> None:
    """Refuse a setting that is out of its range: name, value, whether that is valid, and what it must be."""
    for name, value, valid, bounds in settings:
        if not valid:
            raise UserError(f"data.{name} is {value}; it must be {bounds}")


class StepDataModule(LightningDataModule):
    """A data module whose steps are the same however ranks and accumulation cut them, and whole after an interrupt.

    What a step sees is a function of seed, epoch and step alone: workers, ranks, accumulation and interruptions change
    nothing. An interrupted run goes on after its last whole optimiser step, from Lightning's own count of steps.

    Args:
        batch_size: Samples of an optimiser step, over all ranks and all accumulated pieces.
        device_batch_size: Most samples that a device computes at a time; a step is accumulated out of as many as
            that takes, whatever devices there are. None: a device's share of a step is one piece.
        num_workers: Processes that make batches, on each rank.
        seed: Of the order of the samples.

    Attributes:
        tokenizer_path: Where the tokenizer is; null where it is made of the data, or not known yet.
        tested_after_fit: Whether a fit ends with a test of its best state: the test split has labels.

    Raises:
        UserError: A number is out of its range.
    """

    tested_after_fit = False
    tokenizer_path: str | None = None

    def __init__(self, batch_size: int, num_workers: int, seed: int, device_batch_size: int | None = None) -> None:
        super().__init__()
        check_settings(
            ("batch_size", batch_size, batch_size >= 1, "1 or more"),
            ("device_batch_size", device_batch_size, device_batch_size is None or device_batch_size >= 1, "1 or more"),
            ("num_workers", num_workers, num_workers >= 0, "0 or more"),
            ("seed", seed, seed >= 0, "0 or more"),
        )
        self.batch_size = batch_size
        self.device_batch_size = device_batch_size
        self.num_workers = num_workers
        self.seed = seed

    def check(self) -> None:
        """Look for the files that the data is made of; nothing is read, nor asked of the Hugging Face hub.

        Raises:
            UserError: One is not there.
        """
        if self.tokenizer_path is not None:
            find_tokenizer_files(self.tokenizer_path)

    def volume(self) -> Volume | None:
        """What there is to train on; None where that cannot be told. The Hugging Face hub is not asked.

        Raises:
            UserError: A file is missing or malformed.
        """
        return None

    def pieces(self, world_size: int) -> int:
        """Micro-batches that each of so many ranks makes of a step: as few as `device_batch_size` allows."""
        share = max(1, self.batch_size // world_size)
        most = self.device_batch_size or share
        return next(n for n in range(1, share + 1) if share % n == 0 and share // n <= most)

    def split(self) -> tuple[int, int, int]:
        """World size, rank and micro-batches of a step.

        Raises:
            UserError: batch_size cannot be cut into equal pieces.
        """
        if self.trainer is None:
            return 1, 0, 1
        world_size, accumulate = self.trainer.world_size, self.trainer.accumulate_grad_batches
        if self.batch_size % (world_size * accumulate):
            raise UserError(
                f"data.batch_size {self.batch_size} cannot be cut into {world_size} ranks x {accumulate} accumulated "
                "pieces; make it a multiple, or change the devices or trainer.accumulate_grad_batches"
            )
        return world_size, self.trainer.global_rank, accumulate

    def identity(self) -> dict[str, Any]:
        """What decides which samples a step sees, by the setting's name: a run that goes on has to have the same."""
        return {"batch_size": self.batch_size, "seed": self.seed}

    def begin_training(self) -> tuple[int, int, int, int, Callable[[], int], bool]:
        """What a `StepSampler` takes; a resumed run goes on from whole steps.

        Raises:
            UserError: As `split`.
        """
        world_size, rank, accumulate = self.split()
        if self.trainer is not None and self.trainer.fit_loop.is_resuming:
            self._rewind_to_whole_steps(accumulate)
        repeats = self.trainer is not None and self.trainer.overfit_batches > 0
        return self.seed, world_size, rank, accumulate, lambda: self._steps_done(accumulate), repeats

    def _steps_done(self, accumulate: int) -> int:
        if self.trainer is None:
            return 0
        return self.trainer.fit_loop.epoch_loop.batch_progress.current.ready // accumulate

    def evaluation_pieces(self, rows: np.ndarray, name: str) -> list[np.ndarray]:
        """The rows of each batch of this rank: every row once, in as many batches on every rank.

        A batch holds rows that follow each other in the order given. The first batches are spread evenly over all, so
        that a run that stops after some of them has seen a fair sample.

        Raises:
            UserError: Fewer rows than ranks; it says their name.
        """
        world_size, rank, accumulate = self.split()
        if len(rows) < world_size:
            raise UserError(f"{name} cannot feed {world_size} ranks; take fewer ranks or more data")
        micro_batch = self.batch_size // (world_size * accumulate)
        batches = min(-(-len(rows) // (micro_batch * world_size)), len(rows) // world_size)
        mine = np.array_split(rows, batches * world_size)[rank::world_size]
        return [mine[number] for number in spread(batches)]

    def _rewind_to_whole_steps(self, accumulate: int) -> None:
        """Make Lightning's restored count of micro-batches say what was really learnt: whole optimiser steps.

        A checkpoint saved inside an accumulation has lost its gradients, and one saved with another accumulation counts
        in other units. Lightning counts optimiser steps beside it, in units that never change. A checkpoint saved
        between two epochs begins the second; Lightning, under `max_steps`, would count the first one twice.
        """
        fit_loop = self.trainer.fit_loop
        epochs, epoch_loop = fit_loop.epoch_progress, fit_loop.epoch_loop
        batches, steps = epoch_loop.batch_progress, epoch_loop.automatic_optimization.optim_progress.optimizer.step
        # A checkpoint saved in `on_train_batch_end` has that batch not completed; Lightning completes it on restart.
        pending = batches.total.processed - batches.total.completed
        batches.is_last_batch &= batches.total.processed == batches.total.ready
        for count, done in ((batches.current, steps.current.completed), (batches.total, steps.total.completed)):
            count.ready = count.started = count.processed = done * accumulate
            count.completed = count.ready - pending
        if epochs.total.started == epochs.total.processed:
            epochs.total.completed, epochs.current.completed = epochs.total.processed, epochs.current.processed
            batches.reset_on_run()
            epoch_loop.restarting = False
