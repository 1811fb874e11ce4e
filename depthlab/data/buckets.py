"""Batches of labelled texts of similar length, so that they carry little padding."""

from collections.abc import Iterator
from typing import Any, NotRequired, TypedDict

import numpy as np
import pyarrow.compute as pc
import torch
from datasets import Dataset
from torch import Tensor
from transformers import DataCollatorWithPadding, PreTrainedTokenizerBase

from depthlab.data.steps import MicroBatches, StepDataModule, StepSampler, loader
from depthlab.errors import UserError
from depthlab.kinds import NOT_PREDICTED, TokenKind

BATCHES_SORTED_TOGETHER = 50
"""As in transformers' `LengthGroupedSampler`: more leaves less padding, and less chance in what makes a batch."""
ORDER_STREAM = 1
"""Second number of every random seed of the order, so that no other use draws the same numbers."""


class LabelledBatch(TypedDict):
    """B examples padded to T tokens, the longest of them. All tensors are int64, but for the labels of a regression."""

    input_ids: Tensor  # [B, T]
    attention_mask: Tensor  # [B, T], 1 = real
    token_type_ids: Tensor  # [B, T], 1 = second text
    kinds: Tensor  # [B, T], TokenKind: CLS, SEP, PLAIN, PAD
    labels: NotRequired[Tensor]  # [B], fp32 for a regression; of tags [B, T], NOT_PREDICTED where a piece has none
    words: NotRequired[Tensor]  # [B, T], each piece's word in its sentence, of tags at its first alone; else -1
    index: Tensor  # [B], row within the split, rows that were skipped not counted
    window_sequences: Tensor  # [], examples of this rank's share of the optimiser step
    window_predicted: NotRequired[Tensor]  # [], tags of them


class BucketSampler(StepSampler):
    """Optimiser steps of one epoch after the other: the rows of each micro-batch of this rank.

    An epoch is shuffled, then each `BATCHES_SORTED_TOGETHER` batches of it are sorted by length and cut again, and the
    batches shuffled; it depends on seed and epoch only. What does not divide by batch_size makes all batches a little
    smaller, not one of them small. A batch is cut into world_size * accumulate pieces, so neither number changes what
    a step sees.

    Args:
        rows: To sample.
        lengths: Of every row there is.
        batch_size: Examples of a step over all ranks at most, unless a piece would be left empty.
        settings: As `StepSampler`.

    Raises:
        UserError: There are fewer examples than pieces of a step.
    """

    def __init__(
        self, rows: np.ndarray, lengths: np.ndarray, batch_size: int, *settings: Any, **named_settings: Any
    ) -> None:
        super().__init__(*settings, **named_settings)
        self.rows = rows
        self.lengths = lengths
        self.steps = min(-(-len(rows) // batch_size), len(rows) // self.pieces)
        if self.steps == 0:
            raise UserError(
                f"the {len(rows)} training examples are fewer than the {self.pieces} pieces of a step (ranks x "
                "accumulate_grad_batches); lower trainer.accumulate_grad_batches"
            )

    def __len__(self) -> int:
        """Steps of a whole epoch."""
        return self.steps

    def __iter__(self) -> Iterator[list[np.ndarray]]:
        random = np.random.default_rng([self.seed, ORDER_STREAM, self.epoch])
        drawn = np.array_split(random.permutation(self.rows), self.steps)
        batches: list[np.ndarray] = []
        for first in range(0, self.steps, BATCHES_SORTED_TOGETHER):
            together = drawn[first : first + BATCHES_SORTED_TOGETHER]
            batches += np.array_split(sort_by_length(np.concatenate(together), self.lengths), len(together))
        for step in random.permutation(self.steps)[self.steps_done() :]:
            yield self.cut(batches[step])


def sort_by_length(rows: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The rows from the shortest to the longest, by the lengths of all rows; among equals the order stays."""
    return rows[np.argsort(lengths[rows], kind="stable")]


def token_counts(examples: Dataset) -> np.ndarray:
    """Tokens of each example."""
    return pc.list_value_length(examples.data.column("input_ids")).to_numpy()


class LabelledDataset(torch.utils.data.Dataset):
    """Pads the micro-batches of a step; runs in the workers.

    Args:
        examples: Tokenized split.
        tokenizer: Whose padding to use.
    """

    def __init__(self, examples: Dataset, tokenizer: PreTrainedTokenizerBase) -> None:
        self.examples = examples
        self.pad = DataCollatorWithPadding(tokenizer, return_tensors="np")
        self.kinds = {tokenizer.cls_token_id: TokenKind.CLS, tokenizer.sep_token_id: TokenKind.SEP}

    def __getitem__(self, window: list[np.ndarray]) -> list[dict[str, np.ndarray]]:
        held = {"window_sequences": np.int64(sum(len(rows) for rows in window))}
        batches = [self._collate(rows) for rows in window]
        if all("labels" in batch and batch["labels"].ndim == 2 for batch in batches):
            predicted = sum(np.count_nonzero(batch["labels"] != NOT_PREDICTED) for batch in batches)
            held["window_predicted"] = np.int64(predicted)
        return [batch | held for batch in batches]

    def _collate(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        columns = self.examples[rows]
        by_piece = {"words": columns.pop("words", None)}
        if (labels := columns.get("label")) and isinstance(labels[0], list):
            by_piece["labels"] = columns.pop("label")
        batch = dict(self.pad(columns))
        kinds = np.where(batch["attention_mask"], TokenKind.PLAIN, TokenKind.PAD)
        for piece, kind in self.kinds.items():
            kinds[(batch["input_ids"] == piece) & (kinds != TokenKind.PAD)] = kind
        for name, of_texts in by_piece.items():
            if of_texts is not None:
                batch[name] = np.full(kinds.shape, NOT_PREDICTED if name == "labels" else -1)
                for row, numbers in zip(batch[name], of_texts, strict=True):
                    row[: len(numbers)] = numbers
        return batch | {"kinds": kinds, "index": rows}


def each_once(module: StepDataModule, examples: Dataset, tokenizer: PreTrainedTokenizerBase, name: str) -> MicroBatches:
    """All examples once, sorted by length, in as many batches on every rank.

    Ranks, batch size and workers are the module's; the error names the examples.

    Raises:
        UserError: Fewer examples than ranks.
    """
    rows = sort_by_length(np.arange(len(examples)), token_counts(examples))
    windows = [[piece] for piece in module.evaluation_pieces(rows, f"the {len(rows)} {name}")]
    return MicroBatches(loader(LabelledDataset(examples, tokenizer), windows, module.num_workers), len(windows))
