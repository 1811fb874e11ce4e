"""The Lightning data module of pre-training: which samples make which step, on which rank, in which micro-batch."""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import numpy as np
import torch
from datasets import Dataset, concatenate_datasets, load_from_disk
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerBase

from depthlab.data.corpora.corpus import as_sources, find_files
from depthlab.data.corpora.masking import IGNORED, MaskingRule, Sample, SampleRandom, make_sample
from depthlab.data.corpora.preparation import ChunkSettings, Prepared, describe, prepare, summarise
from depthlab.data.steps import MicroBatches, StepDataModule, TrainingMicroBatches, loader
from depthlab.data.tokenization import load_tokenizer
from depthlab.errors import UserError
from depthlab.kinds import TokenKind

ORDER_STREAM, TRAIN_STREAM, VALIDATION_STREAM = range(3)
"""First number of every random seed after the user's, so that no two uses draw the same numbers."""


class Batch(TypedDict):
    """B sequences padded to T tokens, the longest of them. All tensors are int64."""

    input_ids: Tensor  # [B, T]
    attention_mask: Tensor  # [B, T], 1 = real
    token_type_ids: Tensor  # [B, T]
    labels: Tensor  # [B, T], -100 = not predicted
    kinds: Tensor  # [B, T], TokenKind
    sentence_order_label: Tensor  # [B], 1 = swapped
    document: Tensor  # [B], in validation only: number of the held-out document, from 0
    window_predicted: Tensor  # [], predicted tokens of this rank's share of the optimiser step
    window_sequences: Tensor  # [], its sequences


class Window(NamedTuple):
    """One rank's share of one optimiser step: a list of micro-batches, each given by its samples."""

    epoch: int
    samples: list[np.ndarray]  # number of each sample within the epoch: what its masks are seeded with
    rows: list[np.ndarray]  # where its chunk is stored


class EpochSampler:
    """Windows of one epoch after the other.

    The order of an epoch depends on seed and epoch only. Step s takes samples s * batch_size to (s + 1) * batch_size of
    it and cuts them into world_size * accumulate pieces, so neither number changes what a step sees. What is left over
    at the end makes one smaller step, unless there is not a sample for every piece.

    Args:
        rows: Stored rows of each source.
        weights: Passes over each source that an epoch takes.
        batch_size: Samples of a step over all ranks.
        seed: Of the order.
        world_size: Ranks.
        rank: This one.
        accumulate: Micro-batches of a step on a rank.
        steps_done: Called when an iteration begins: steps of the epoch that an interrupted run has made.
    """

    def __init__(
        self,
        rows: list[np.ndarray],
        weights: list[float],
        batch_size: int,
        seed: int,
        world_size: int = 1,
        rank: int = 0,
        accumulate: int = 1,
        steps_done: Callable[[], int] = lambda: 0,
    ) -> None:
        self.rows = rows
        self.sizes = [round(len(source) * weight) for source, weight in zip(rows, weights, strict=True)]
        self.batch_size = batch_size
        self.seed = seed
        self.world_size = world_size
        self.rank = rank
        self.accumulate = accumulate
        self.steps_done = steps_done
        self.epoch = 0
        if len(self) == 0:
            raise UserError(
                f"data.corpus gives {sum(self.sizes)} training samples, fewer than the {world_size * accumulate} "
                "pieces of a step (ranks x accumulate_grad_batches); give more text"
            )

    def __len__(self) -> int:
        """Steps of a whole epoch."""
        steps, rest = divmod(sum(self.sizes), self.batch_size)
        return steps + (rest >= self.world_size * self.accumulate)

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning at the start of an epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[Window]:
        rows = np.concatenate([self._epoch_rows(source) for source in range(len(self.rows))])
        order = np.random.default_rng([self.seed, ORDER_STREAM, self.epoch]).permutation(len(rows))
        for step in range(self.steps_done(), len(self)):
            samples = order[step * self.batch_size : (step + 1) * self.batch_size]
            pieces = np.array_split(samples, self.world_size * self.accumulate)
            mine = pieces[self.rank * self.accumulate : (self.rank + 1) * self.accumulate]
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
        stream: TRAIN_STREAM or VALIDATION_STREAM.
        documents: Number of the document by stored chunk, where batches are to say it.
    """

    def __init__(
        self,
        chunks: Dataset,
        rule: MaskingRule,
        pad_id: int,
        seed: int,
        stream: int,
        documents: dict[int, int] | None = None,
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
        predicted = sum(np.count_nonzero(batch["labels"] != IGNORED) for batch in batches)
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
        batch = pad_samples(samples, self.pad_id)
        if self.documents is not None:
            batch["document"] = np.array([self.documents[row] for row in rows.tolist()])
        return batch


def pad_samples(samples: list[Sample], pad_id: int) -> dict[str, np.ndarray]:
    """Samples side by side, padded to the longest: the fields of `Batch` without the counts, in small integer types."""
    shape = len(samples), max(len(sample.input_ids) for sample in samples)
    batch = {
        "input_ids": np.full(shape, pad_id, dtype=np.int32),
        "attention_mask": np.zeros(shape, dtype=np.int8),
        "token_type_ids": np.zeros(shape, dtype=np.int8),
        "labels": np.full(shape, IGNORED, dtype=np.int32),
        "kinds": np.full(shape, TokenKind.PAD, dtype=np.int8),
        "sentence_order_label": np.array([sample.sentence_order_label for sample in samples]),
    }
    for row, sample in enumerate(samples):
        length = len(sample.input_ids)
        batch["attention_mask"][row, :length] = 1
        for name in ("input_ids", "token_type_ids", "labels", "kinds"):
            batch[name][row, :length] = getattr(sample, name)
    return batch


class PretrainingDataModule(StepDataModule):
    """Text in, batches for masked language modelling and sentence order prediction out (see `Batch`).

    What a step sees is a function of seed, epoch and step alone: workers, ranks, accumulation and interruptions change
    nothing. An interrupted run goes on after its last whole optimiser step, from Lightning's own count of steps.

    Args:
        corpus: "sample" (106 Wikipedia articles and the King James Bible), a folder or file of .txt (documents
            separated by blank lines) or .jsonl(.gz), a Hugging Face dataset name, a source with `path`, `weight`
            (passes an epoch), `name`, `split`, `text_field`, `streaming`, or a list of any of these.
        tokenizer: Hugging Face tokenizer (folder or name), or a SentencePiece model such as ALBERT's; none trains a
            lower-cased Unigram tokenizer on the corpus.
        vocab_size: Pieces of the tokenizer.
        max_length: Most tokens of a sequence, [CLS] and both [SEP] counted.
        short_sequence_probability: Share of the chunks of text that are gathered to a shorter length.
        mask_ratio: Share of the tokens to predict.
        max_predictions: Most tokens to predict of a sequence; null for no cap.
        batch_size: Sequences of an optimiser step, over all ranks and all accumulated pieces.
        validation_fraction: Share of the documents that is held out.
        num_workers: Processes that make batches, on each rank.
        prepare_workers: Processes that prepare the corpus; all cores by default.
        cache_dir: Folder for prepared text and trained tokenizers.
        seed: Of the order of the samples and of all masks.
    """

    def __init__(
        self,
        # CorpusSource itself would make the CLI read a file given here as settings.
        corpus: str | dict[str, Any] | list[str | dict[str, Any]] = "sample",
        tokenizer: str | None = None,
        vocab_size: int = 30000,
        max_length: int = 128,
        short_sequence_probability: float = 0.1,
        mask_ratio: float = 0.2,
        max_predictions: int | None = 20,
        batch_size: int = 4096,
        validation_fraction: float = 0.01,
        num_workers: int = 2,
        prepare_workers: int | None = None,
        cache_dir: str = "~/.cache/depthlab",
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, num_workers, seed)
        for name, value, valid, bounds in (
            ("vocab_size", vocab_size, vocab_size > 5, "above 5"),
            ("max_length", max_length, max_length >= 5, "5 or more"),
            (
                "short_sequence_probability",
                short_sequence_probability,
                0 <= short_sequence_probability <= 1,
                "within 0 and 1",
            ),
            ("mask_ratio", mask_ratio, 0 < mask_ratio < 1, "between 0 and 1"),
            ("max_predictions", max_predictions, max_predictions is None or max_predictions > 0, "above 0, or null"),
            ("validation_fraction", validation_fraction, 0 < validation_fraction < 1, "between 0 and 1"),
            ("prepare_workers", prepare_workers, prepare_workers is None or prepare_workers > 0, "above 0, or null"),
        ):
            if not valid:
                raise UserError(f"data.{name} is {value}; it must be {bounds}")
        self.sources = as_sources(corpus)
        self.tokenizer_path = tokenizer
        self.vocab_size = vocab_size
        self.max_length = max_length
        self.chunk_settings = ChunkSettings(max_length, short_sequence_probability, validation_fraction)
        self.mask_ratio = mask_ratio
        self.max_predictions = max_predictions
        self.prepare_workers = prepare_workers or os.cpu_count() or 1
        self.cache_dir = Path(cache_dir).expanduser()
        self.tokenizer: PreTrainedTokenizerBase
        self.summary: dict[str, int]
        self.validation_documents: int
        """How many documents are held out; `setup` counts them."""
        self._prepared: Prepared | None = None

    def check(self) -> None:
        """The corpus, too."""
        super().check()
        for source in self.sources:
            find_files(source)

    def prepare_data(self) -> None:
        """Train the tokenizer and tokenize the corpus, unless the cache has them.

        Raises:
            UserError: See `depthlab.data.corpora.preparation.prepare`.
        """
        self._prepared = prepare(
            self.sources,
            self.tokenizer_path,
            self.vocab_size,
            self.chunk_settings,
            self.cache_dir,
            self.prepare_workers,
        )
        rank_zero_info(f"Corpus: {describe(summarise(self._prepared.chunks))}")

    def setup(self, stage: str | None = None) -> None:
        """Open the prepared text, memory-mapped.

        Raises:
            UserError: All documents fell on one side of the train/validation split.
        """
        prepared = self._prepared
        if self.trainer is not None:  # only one rank has prepared; spare the others reading the corpus for its digest
            prepared = self.trainer.strategy.broadcast(prepared)
        if prepared is None:
            raise RuntimeError("PretrainingDataModule.setup() comes after prepare_data()")
        self.tokenizer = load_tokenizer(str(prepared.tokenizer))
        parts = [load_from_disk(folder) for folder in prepared.chunks]
        self.summary = summarise(prepared.chunks)
        self._chunks = concatenate_datasets(parts)
        held_out = np.asarray(self._chunks.data.column("validation"))
        sides = np.split(np.arange(len(held_out)), np.cumsum([len(part) for part in parts])[:-1])
        self._train_rows = [rows[~held_out[rows]] for rows in sides]
        self._validation_rows = np.flatnonzero(held_out)
        if len(self._validation_rows) == 0:
            raise UserError(
                f"data.validation_fraction {self.chunk_settings.validation_fraction} holds out none of the "
                f"{self.summary['documents']} documents; raise it or give more documents"
            )
        ends = np.cumsum([len(part) for part in parts])
        place = np.stack(  # source, and number of the document in it
            [
                np.searchsorted(ends, self._validation_rows, side="right"),
                np.asarray(self._chunks.data.column("document").take(self._validation_rows)),
            ]
        )
        documents, numbers = np.unique(place, axis=1, return_inverse=True)
        self._document_of = dict(zip(self._validation_rows.tolist(), numbers.tolist(), strict=True))
        self.validation_documents = documents.shape[1]
        for source, rows in zip(self.sources, self._train_rows, strict=True):
            if len(rows) == 0:
                raise UserError(
                    f"data.validation_fraction {self.chunk_settings.validation_fraction} leaves no document of "
                    f"{source.path} to train on; lower it or give more documents"
                )

    def train_dataloader(self) -> TrainingMicroBatches:
        """Micro-batches of the rest of the epoch.

        Raises:
            UserError: batch_size cannot be cut into equal pieces, or there is less text than one small step takes.
        """
        world_size, rank, accumulate = self.begin_training()
        sampler = EpochSampler(
            self._train_rows,
            [source.weight for source in self.sources],
            self.batch_size,
            self.seed,
            world_size,
            rank,
            accumulate,
            lambda: self.steps_done(accumulate),
        )
        return TrainingMicroBatches(self._loader(sampler, TRAIN_STREAM), len(sampler) * accumulate)

    def val_dataloader(self) -> MicroBatches:
        """All validation samples once, with the same masks every time, in as many batches on every rank.

        Raises:
            UserError: Fewer samples than ranks.
        """
        rows = self._validation_rows
        pieces = self.evaluation_pieces(
            np.arange(len(rows)), f"data.validation_fraction: {len(rows)} validation samples"
        )
        windows = [Window(0, [piece], [rows[piece]]) for piece in pieces]
        return MicroBatches(self._loader(windows, VALIDATION_STREAM, self._document_of), len(windows))

    def _loader(self, windows: Iterable[Window], stream: int, documents: dict[int, int] | None = None) -> DataLoader:
        rule = MaskingRule.of(self.tokenizer, self.max_length, self.mask_ratio, self.max_predictions)
        dataset = WindowDataset(self._chunks, rule, self.tokenizer.pad_token_id, self.seed, stream, documents)
        return loader(dataset, windows, self.num_workers)
