"""The Lightning data module of pre-training: prepared text, and the windows of samples that steps are made of."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from datasets import concatenate_datasets, load_from_disk
from huggingface_hub import is_offline_mode
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerBase

from depthlab.data.corpora.chunks import ChunkSettings
from depthlab.data.corpora.corpus import as_sources, find_files
from depthlab.data.corpora.masking import MaskingRule
from depthlab.data.corpora.preparation import Prepared, describe, find_prepared, prepare, summarise
from depthlab.data.corpora.volume import look_at
from depthlab.data.corpora.windows import TRAIN_STREAM, VALIDATION_STREAM, EpochSampler, Window, WindowDataset
from depthlab.data.steps import MicroBatches, StepDataModule, TrainingMicroBatches, Volume, check_settings, loader
from depthlab.data.tokenization import find_tokenizer_files, load_tokenizer
from depthlab.errors import UserError


class PretrainingDataModule(StepDataModule):
    """Text in, batches for masked language modelling and sentence order prediction out (see `Batch`).

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
        device_batch_size: Most sequences that a device computes at a time; a step is accumulated out of as many as
            that takes, whatever devices there are. Null: a device's share of a step is one piece.
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
        device_batch_size: int | None = None,
        validation_fraction: float = 0.01,
        num_workers: int = 2,
        prepare_workers: int | None = None,
        cache_dir: str = "~/.cache/depthlab",
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, num_workers, seed, device_batch_size)
        short = short_sequence_probability
        check_settings(
            ("vocab_size", vocab_size, vocab_size > 5, "above 5"),
            ("max_length", max_length, max_length >= 5, "5 or more"),
            ("short_sequence_probability", short, 0 <= short <= 1, "within 0 and 1"),
            ("mask_ratio", mask_ratio, 0 < mask_ratio < 1, "between 0 and 1"),
            ("max_predictions", max_predictions, max_predictions is None or max_predictions > 0, "above 0, or null"),
            ("validation_fraction", validation_fraction, 0 < validation_fraction < 1, "between 0 and 1"),
            ("prepare_workers", prepare_workers, prepare_workers is None or prepare_workers > 0, "above 0, or null"),
        )
        self.sources = as_sources(corpus)
        self.tokenizer_path = tokenizer
        self.vocab_size = vocab_size
        self.max_length = max_length
        self.chunk_settings = ChunkSettings(max_length, short, validation_fraction)
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

    def volume(self) -> Volume | None:
        """Of the prepared text if the cache has it, else by a look at the first documents of each source."""
        named = [self.tokenizer_path] if self.tokenizer_path is not None else []
        on_hub = [name for name in named if find_tokenizer_files(name) is None]
        on_hub += [source.path for source in self.sources if find_files(source) is None]
        if on_hub and not is_offline_mode():
            return None
        text = (self.sources, self.tokenizer_path, self.vocab_size, self.chunk_settings)
        prepared = find_prepared(*text, self.cache_dir)
        if prepared is not None:
            counts, how = [summarise([folder]) for folder in prepared.chunks], "prepared"
        elif self.tokenizer_path is None or on_hub:
            return None
        else:
            tokenizer = load_tokenizer(self.tokenizer_path)
            looked_at = [look_at(source, tokenizer, self.chunk_settings) for source in self.sources]
            counts, how = [count for count in looked_at if count is not None], "by its first documents"
            if len(counts) < len(self.sources):
                return None
        weights = [source.weight for source in self.sources]
        samples = sum(count["train_chunks"] * weight for count, weight in zip(counts, weights, strict=True))
        text = {name: sum(count[name] for count in counts) for name in ("tokens", "sentences", "chunks")}
        return Volume(samples, min(self.max_length, text["tokens"] / text["chunks"] + 3), how, text)

    def prepare_data(self) -> None:
        """Train the tokenizer and tokenize the corpus, unless the cache has them.

        Raises:
            UserError: See `depthlab.data.corpora.preparation.prepare`.
        """
        text = (self.sources, self.tokenizer_path, self.vocab_size, self.chunk_settings)
        self._prepared = prepare(*text, self.cache_dir, self.prepare_workers)
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
        ends = np.cumsum([len(part) for part in parts])
        self.summary = summarise(prepared.chunks)
        self._chunks = concatenate_datasets(parts)
        held_out = np.asarray(self._chunks.data.column("validation"))
        sides = np.split(np.arange(len(held_out)), ends[:-1])
        self._train_rows = [rows[~held_out[rows]] for rows in sides]
        self._validation_rows = np.flatnonzero(held_out)
        if len(self._validation_rows) == 0:
            raise UserError(
                f"data.validation_fraction {self.chunk_settings.validation_fraction} holds out none of the "
                f"{self.summary['documents']} documents; raise it or give more documents"
            )
        source_of = np.searchsorted(ends, self._validation_rows, side="right")
        in_source = np.asarray(self._chunks.data.column("document").take(self._validation_rows))
        documents, numbers = np.unique(np.stack([source_of, in_source]), axis=1, return_inverse=True)
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
        weights = [source.weight for source in self.sources]
        sampler = EpochSampler(self._train_rows, weights, self.batch_size, *self.begin_training())
        return TrainingMicroBatches(self._loader(sampler, TRAIN_STREAM), len(sampler) * sampler.accumulate)

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
