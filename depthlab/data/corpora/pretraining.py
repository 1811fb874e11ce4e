"""The Lightning data module of pre-training: prepared text, and the windows of samples that steps are made of."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
from datasets import concatenate_datasets, load_from_disk
from huggingface_hub import is_offline_mode
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerBase

from depthlab.data.corpora.chunks import ChunkSettings
from depthlab.data.corpora.corpus import as_sources, find_files
from depthlab.data.corpora.masking import MaskingRule
from depthlab.data.corpora.parts import Part, SplitSettings
from depthlab.data.corpora.preparation import Places, Prepared, describe, prepare, summarise
from depthlab.data.corpora.volume import look_at
from depthlab.data.corpora.windows import (
    TEST_STREAM,
    TRAIN_STREAM,
    VALIDATION_STREAM,
    EpochSampler,
    Window,
    WindowDataset,
)
from depthlab.data.steps import MicroBatches, StepDataModule, TrainingMicroBatches, Volume, check_settings, loader
from depthlab.data.tokenization import find_tokenizer_files, load_tokenizer
from depthlab.errors import UserError


class PretrainingDataModule(StepDataModule):
    """Text in, batches for masked language modelling and sentence order prediction out (see `Batch`).

    Args:
        corpus: "sample" (the King James Bible), a folder or file of .txt (documents
            separated by blank lines) or .jsonl(.gz), a Hugging Face dataset name, a source with `path`, `weight`
            (passes an epoch), `name`, `split`, `text_field`, `streaming`, `part`, or a list of any of these.
        tokenizer: Hugging Face tokenizer (folder or name), or a SentencePiece model such as ALBERT's; none trains a
            lower-cased Unigram tokenizer on the corpus.
        vocab_size: Pieces of a tokenizer that is trained; a given one has its own.
        max_length: Most tokens of a sequence, [CLS] and both [SEP] counted.
        short_sequence_probability: Share of the chunks of text that are gathered to a shorter length.
        mask_ratio: Share of the tokens to predict.
        max_predictions: Most tokens to predict of a sequence; null for no cap.
        batch_size: Sequences of an optimiser step, over all ranks and all accumulated pieces.
        device_batch_size: Most sequences that a device computes at a time; a step is accumulated out of as many as
            that takes, whatever devices there are. Null: a device's share of a step is one piece.
        validation_fraction: Share of each source's documents that is held out for development: what `validate` reads.
        test_fraction: Share of each source's documents that is held out for the test: what `test` reads.
        split_seed: Another one holds out other documents.
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
        test_fraction: float = 0.01,
        split_seed: int = 0,
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
            ("validation_fraction", validation_fraction, 0 <= validation_fraction <= 1, "within 0 and 1"),
            (
                "test_fraction",
                test_fraction,
                0 <= test_fraction <= 1 - validation_fraction,
                f"within 0 and {1 - validation_fraction:g}, what data.validation_fraction leaves",
            ),
            ("split_seed", split_seed, split_seed >= 0, "0 or more"),
            ("prepare_workers", prepare_workers, prepare_workers is None or prepare_workers > 0, "above 0, or null"),
        )
        self.sources = as_sources(corpus)
        self.tokenizer_path = tokenizer
        self.vocab_size = vocab_size
        self.max_length = max_length
        self.chunk_settings = ChunkSettings(max_length, short)
        self.split_settings = SplitSettings(validation_fraction, test_fraction, split_seed)
        self.mask_ratio = mask_ratio
        self.max_predictions = max_predictions
        self.prepare_workers = prepare_workers or os.cpu_count() or 1
        self.cache_dir = Path(cache_dir).expanduser()
        self.tokenizer: PreTrainedTokenizerBase
        self.summary: dict[str, Any]
        self.documents: dict[str, np.ndarray]
        """By stage, val and test: of which source, by its number, each held-out document is; `setup` counts them."""
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
        prepared = self._places().found()
        if prepared is not None:
            whole, how = summarise(prepared), "prepared"
            grams = (load_from_disk(str(folder)).data.column("grams") for folder in prepared.chunks)
            whole["grams"] = sum(pc.sum(pc.list_value_length(column)).as_py() for column in grams)
            chunks = [source["training"]["chunks"] for source in whole["sources"]]
        elif self.tokenizer_path is None or on_hub:
            return None
        else:
            tokenizer, how = load_tokenizer(self.tokenizer_path), "by its first documents"
            looked_at = [look_at(source, tokenizer, self.chunk_settings) for source in self.sources]
            if None in looked_at:
                return None
            whole = {name: sum(counts[name] for counts in looked_at) for name in looked_at[0]}
            share = 1 - self.split_settings.development - self.split_settings.test
            shares = [{None: share, "training": 1}.get(source.part, 0) for source in self.sources]
            chunks = [counts["chunks"] * share for counts, share in zip(looked_at, shares, strict=True)]
        samples = sum(number * source.weight for number, source in zip(chunks, self.sources, strict=True))
        text = {name: whole[name] for name in ("tokens", "sentences", "chunks", "grams")} | {
            "training_chunks": sum(chunks)
        }
        return Volume(samples, min(self.max_length, text["tokens"] / text["chunks"] + 3), how, text)

    def prepare_data(self) -> None:
        """Train the tokenizer and tokenize the corpus, unless the cache has them.

        Raises:
            UserError: See `depthlab.data.corpora.preparation.prepare`.
        """
        self._prepared = prepare(self._places(), self.prepare_workers)
        rank_zero_info(f"Corpus: {describe(summarise(self._prepared), self.source_names)}")

    def _places(self) -> Places:
        text = (self.sources, self.tokenizer_path, self.vocab_size, self.chunk_settings, self.split_settings)
        return Places(*text, self.cache_dir)

    @property
    def source_names(self) -> list[str]:
        """Of each source, its last folder or file; numbered where there are several of a name."""
        names = [Path(source.path).name.partition(".")[0] or source.path for source in self.sources]
        return [
            name if names.count(name) == 1 else f"{name}-{names[:number].count(name) + 1}"
            for number, name in enumerate(names)
        ]

    def setup(self, stage: str | None = None) -> None:
        """Open the prepared text, memory-mapped.

        Raises:
            UserError: A part that the stage needs has no document.
        """
        prepared = self._prepared
        if self.trainer is not None:  # only one rank has prepared; spare the others reading the corpus for its digest
            prepared = self.trainer.strategy.broadcast(prepared)
        if prepared is None:
            raise RuntimeError("PretrainingDataModule.setup() comes after prepare_data()")
        self._prepared = prepared
        self.tokenizer = load_tokenizer(str(prepared.tokenizer))
        self.summary = summarise(prepared)
        sources = [load_from_disk(str(folder)) for folder in prepared.chunks]
        self._chunks = concatenate_datasets(sources)
        ends = np.cumsum([len(source) for source in sources])
        parts = np.concatenate([prepared.parts_of(number) for number in range(len(sources))])
        self._train_rows = [rows[parts[rows] == Part.TRAINING] for rows in np.split(np.arange(ends[-1]), ends[:-1])]
        self._held_out = {"val": np.flatnonzero(parts == Part.DEVELOPMENT), "test": np.flatnonzero(parts == Part.TEST)}
        self.documents, self._document_of = {}, {}
        for part, rows in self._held_out.items():
            source_of = np.searchsorted(ends, rows, side="right")
            in_source = np.asarray(self._chunks.data.column("document").take(rows))
            found, self._document_of[part] = np.unique(np.stack([source_of, in_source]), axis=1, return_inverse=True)
            self.documents[part] = found[0]
        self._check_parts(stage)

    def _check_parts(self, stage: str | None) -> None:
        part, setting = ("test", "test_fraction") if stage == "test" else ("development", "validation_fraction")
        if not len(self._held_out["test" if stage == "test" else "val"]):
            raise UserError(
                f"data.{setting} {getattr(self.split_settings, part):g} holds out none of the "
                f"{self.summary['documents']} documents; raise it, give more documents, or a source with `part: {part}`"
            )
        for source, rows in zip(self.sources, self._train_rows, strict=True) if stage in ("fit", None) else ():
            if len(rows) == 0 and source.part in (None, "training"):
                raise UserError(
                    f"data.validation_fraction and data.test_fraction leave no document of {source.path} to train on; "
                    "lower them, give more documents, or say of which `part` it is"
                )
        if stage in ("fit", None) and not any(map(len, self._train_rows)):
            raise UserError("data.corpus has no document to train on: give one source more, without `part`")

    def identity(self) -> dict[str, Any]:
        """The masks, too, and what the corpus holds: folders of the cache are called by it."""
        names = ("max_length", "mask_ratio", "max_predictions")
        folders = [*self._prepared.chunks, self._prepared.parts]
        corpus = [*(folder.name for folder in folders), *(source.weight for source in self.sources)]
        return super().identity() | {name: getattr(self, name) for name in names} | {"corpus": corpus}

    def train_dataloader(self) -> TrainingMicroBatches:
        """Micro-batches of the rest of the epoch.

        Raises:
            UserError: batch_size cannot be cut into equal pieces, or there is less text than one small step takes.
        """
        trained = [number for number, rows in enumerate(self._train_rows) if len(rows)]
        weights = [self.sources[number].weight for number in trained]
        sampler = EpochSampler(
            [self._train_rows[number] for number in trained], weights, self.batch_size, *self.begin_training()
        )
        return TrainingMicroBatches(self._loader(sampler, TRAIN_STREAM), len(sampler) * sampler.accumulate)

    def val_dataloader(self) -> MicroBatches:
        """All development samples once, with the same masks every time, in as many batches on every rank.

        Raises:
            UserError: Fewer samples than ranks.
        """
        return self._evaluation("val", VALIDATION_STREAM)

    def test_dataloader(self) -> MicroBatches:
        """All test samples, likewise."""
        return self._evaluation("test", TEST_STREAM)

    def _evaluation(self, part: str, stream: int) -> MicroBatches:
        rows = self._held_out[part]
        setting = "validation_fraction" if part == "val" else "test_fraction"
        pieces = self.evaluation_pieces(np.arange(len(rows)), f"data.{setting}: {len(rows)} samples")
        windows = [Window(0, [piece], [rows[piece]]) for piece in pieces]
        return MicroBatches(self._loader(windows, stream, self._document_of[part]), len(windows))

    def _loader(self, windows: Iterable[Window], stream: int, documents: np.ndarray | None = None) -> DataLoader:
        rule = MaskingRule.of(self.tokenizer, self.max_length, self.mask_ratio, self.max_predictions)
        dataset = WindowDataset(self._chunks, rule, self.tokenizer.pad_token_id, self.seed, stream, documents)
        return loader(dataset, windows, self.num_workers)
