"""Which samples make which step of pre-training, on which rank, in which micro-batch, and making them."""

from collections.abc import Iterator
from typing import Any, NamedTuple, TypedDict

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor

from depthlab.data.corpora.masking import MaskingRule, Sample, SampleRandom, make_sample
from depthlab.data.steps import StepSampler
from depthlab.errors import UserError
from depthlab.kinds import NOT_PREDICTED, TokenKind

ORDER_STREAM, TRAIN_STREAM, VALIDATION_STREAM, TEST_STREAM = range(4)
"""First number of every random seed after the user's, so that no two uses draw the same numbers."""


class Batch(TypedDict):
    """B sequences padded to T tokens, the longest of them. All tensors are int64."""

    input_ids: Tensor  # [B, T]
    attention_mask: Tensor  # [B, T], 1 = real
    token_type_ids: Tensor  # [B, T]
    labels: Tensor  # [B, T], -100 = not predicted
    kinds: Tensor  # [B, T], TokenKind
    sentence_order_label: Tensor  # [B], 1 = swapped
    index: Tensor  # [B], row of each in the prepared text
    document: Tensor  # [B], in evaluation only: number of the held-out document, from 0
    window_predicted: Tensor  # [], predicted tokens of this rank's share of the optimiser step
    window_sequences: Tensor  # [], its sequences


class Window(NamedTuple):
    """One rank's share of one optimiser step: a list of micro-batches, each given by its samples."""

    epoch: int
    samples: list[np.ndarray]  # number of each sample within the epoch: what its masks are seeded with
    rows: list[np.ndarray]  # where its chunk is stored


class EpochSampler(StepSampler):
    """Windows of one epoch after the other.

    The order of an epoch depends on seed and epoch only. Step s takes samples s * batch_size to (s + 1) * batch_size of
    it and cuts them into world_size * accumulate pieces, so neither number changes what a step sees. What is left over
    at the end makes one smaller step, unless there is not a sample for every piece.

    Args:
        rows: Stored rows of each source.
        weights: Passes over each source that an epoch takes.
        batch_size: Samples of a step over all ranks.
        settings: As `StepSampler`.
    """

    def __init__(
        self, rows: list[np.ndarray], weights: list[float], batch_size: int, *settings: Any, **named_settings: Any
    ) -> None:
        super().__init__(*settings, **named_settings)
        self.rows = rows
        self.sizes = [round(len(source) * weight) for source, weight in zip(rows, weights, strict=True)]
        self.batch_size = batch_size
        if len(self) == 0:
            raise UserError(
                f"data.corpus gives {sum(self.sizes)} training samples, fewer than the {self.pieces} "
                "pieces of a step (ranks x accumulate_grad_batches); give more text"
            )

    def __len__(self) -> int:
        """Steps of a whole epoch."""
        steps, rest = divmod(sum(self.sizes), self.batch_size)
        return steps + (rest >= self.pieces)

    def __iter__(self) -> Iterator[Window]:
        rows = np.concatenate([self._epoch_rows(source) for source in range(len(self.rows))])
        order = np.random.default_rng([self.seed, ORDER_STREAM, self.epoch]).permutation(len(rows))
        for step in range(self.steps_done(), len(self)):
            mine = self.cut(order[step * self.batch_size : (step + 1) * self.batch_size])
            yield Window(self.epoch, mine, [rows[piece] for piece in mine])

    def _epoch_rows(self, source: int) -> np.ndarray:
        """Rows that the epoch takes of a source: the next ones of an endless repetition of a fixed shuffle of it."""
        shuffle = np.random.default_rng([self.seed, ORDER_STREAM, 0, source + 1]).permutation(self.rows[source])
        size = self.sizes[source]
        return shuffle[np.arange(self.epoch * size, (self.epoch + 1) * size) % len(shuffle)]


class WindowDataset(torch.utils.data.Dataset):
    """Makes the micro-batches of a window; runs in the workers.

    Args:
        chunks: Stored chunks.
        rule: How to mask.
        pad_id: Id of the padding token.
        seed: Of all masks.
        stream: TRAIN_STREAM, VALIDATION_STREAM or TEST_STREAM.
        documents: [S], number of each sample's document, where batches are to say it.
    """

    def __init__(
        self,
        chunks: Dataset,
        rule: MaskingRule,
        pad_id: int,
        seed: int,
        stream: int,
        documents: np.ndarray | None = None,
    ) -> None:
        self.chunks = chunks.select_columns(["ids", "sentence_lengths"]).with_format("arrow")
        self.rule = rule
        self.pad_id = pad_id
        self.random = (seed, stream)
        self.documents = documents

    def __getitem__(self, window: Window) -> list[dict[str, np.ndarray]]:
        batches = [
            self._collate(window.epoch, samples, rows)
            for samples, rows in zip(window.samples, window.rows, strict=True)
        ]
        predicted = sum(np.count_nonzero(batch["labels"] != NOT_PREDICTED) for batch in batches)
        sequences = sum(len(samples) for samples in window.samples)
        for batch in batches:
            batch |= {"window_predicted": np.int64(predicted), "window_sequences": np.int64(sequences)}
        return batches

    def _collate(self, epoch: int, numbers: np.ndarray, rows: np.ndarray) -> dict[str, np.ndarray]:
        table = self.chunks[rows.tolist()]
        ids, sentence_lengths = (table.column(name).combine_chunks() for name in ("ids", "sentence_lengths"))
        random = SampleRandom(*self.random)
        samples = [
            make_sample(
                ids[index].values.to_numpy(),
                sentence_lengths[index].values.to_numpy(),
                self.rule,
                random.at(epoch, number),
            )
            for index, number in enumerate(numbers)
        ]
        batch = pad_samples(samples, self.pad_id) | {"index": rows}
        if self.documents is not None:
            batch["document"] = self.documents[numbers]
        return batch


def pad_samples(samples: list[Sample], pad_id: int) -> dict[str, np.ndarray]:
    """Samples side by side, padded to the longest: the fields of `Batch` without the counts, in small integer types."""
    shape = len(samples), max(len(sample.input_ids) for sample in samples)
    batch = {
        "input_ids": np.full(shape, pad_id, dtype=np.int32),
        "attention_mask": np.zeros(shape, dtype=np.int8),
        "token_type_ids": np.zeros(shape, dtype=np.int8),
        "labels": np.full(shape, NOT_PREDICTED, dtype=np.int32),
        "kinds": np.full(shape, TokenKind.PAD, dtype=np.int8),
        "sentence_order_label": np.array([sample.sentence_order_label for sample in samples]),
    }
    for row, sample in enumerate(samples):
        length = len(sample.input_ids)
        batch["attention_mask"][row, :length] = 1
        for name in ("input_ids", "token_type_ids", "labels", "kinds"):
            batch[name][row, :length] = getattr(sample, name)
    return batch
