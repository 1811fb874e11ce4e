"""The Lightning data module of distillation: prepared text, sentence by sentence, in batches of similar length."""

from typing import Any

import numpy as np

from depthlab.data.buckets import BucketSampler, LabelledDataset, sort_by_length
from depthlab.data.corpora.pretraining import PretrainingDataModule
from depthlab.data.corpora.single import Sentences
from depthlab.data.steps import MicroBatches, TrainingMicroBatches, Volume, loader
from depthlab.errors import UserError

FEWEST = 6
"""Tokens of a sentence, with [CLS] and [SEP]; what is shorter is left out: numbers, headings, initials."""


class SentenceDataModule(PretrainingDataModule):
    """Text in, sentences out, one a sequence (see `LabelledBatch`, without labels); those of the corpus's three parts.

    Args:
        corpus: As `PretrainingDataModule`; each sentence is taken once an epoch, so a source has no `weight`.
        tokenizer: Hugging Face tokenizer (folder or name) of the model that learns.
        vocab_size: Of one that is trained.
        max_length: Most tokens of a sentence, or of two, [CLS] and [SEP] counted; what is over it is cut off.
        pair_share: Share of the sentences that are read together with the next, as tasks of pairs are.
        batch_size: Sentences of an optimiser step, over all ranks and all accumulated pieces.
        num_workers: Processes that make batches, on each rank.
        settings: As `PretrainingDataModule`.
    """

    def __init__(
        self,
        corpus: str | dict[str, Any] | list[str | dict[str, Any]] = "sample",
        tokenizer: str | None = None,
        vocab_size: int = 30000,
        max_length: int = 64,
        pair_share: float = 0.0,
        batch_size: int = 48,
        num_workers: int = 1,
        **settings: Any,
    ) -> None:
        super().__init__(
            corpus=corpus,
            tokenizer=tokenizer,
            vocab_size=vocab_size,
            max_length=max_length,
            batch_size=batch_size,
            num_workers=num_workers,
            short_sequence_probability=0.0,
            mask_ratio=0.2,  # nothing is masked; these two stand in what a checkpoint says of its data
            max_predictions=20,
            **settings,
        )
        if not 0 <= pair_share <= 1:
            raise UserError(f"data.pair_share must be from 0 to 1, got {pair_share}")
        self.pair_share = pair_share
        for source in self.sources:
            if source.weight != 1:
                raise UserError(f"data.corpus: {source.path!r} has a `weight`; sentences are taken once an epoch each")

    def identity(self) -> dict[str, Any]:
        """Which sentences are read two by two, too."""
        return super().identity() | {"pair_share": self.pair_share}

    def volume(self) -> Volume | None:
        """Sentences in place of chunks; those that are too short are counted, too."""
        volume = super().volume()
        if volume is None:
            return None
        each = (1 + self.pair_share) * (volume.text["tokens"] / volume.text["sentences"] + 1) + 1
        sentences = volume.text["sentences"] * volume.text["training_chunks"] / volume.text["chunks"]
        return volume._replace(samples=sentences, length=min(self.max_length, each))

    def train_dataloader(self) -> TrainingMicroBatches:
        """Micro-batches of the rest of the epoch.

        Raises:
            UserError: batch_size cannot be cut into equal pieces, or there are fewer sentences than pieces.
        """
        sentences, numbers = self._sentences(np.concatenate(self._train_rows))
        sampler = BucketSampler(numbers, sentences.lengths, self.batch_size, *self.begin_training())
        steps = loader(LabelledDataset(sentences, self.tokenizer), sampler, self.num_workers)
        return TrainingMicroBatches(steps, len(sampler) * sampler.accumulate)

    def _evaluation(self, part: str, stream: int) -> MicroBatches:
        sentences, numbers = self._sentences(self._held_out[part], self._document_of[part])
        numbers = sort_by_length(numbers, sentences.lengths)
        windows = [[piece] for piece in self.evaluation_pieces(numbers, f"{len(numbers)} held-out sentences")]
        return MicroBatches(loader(LabelledDataset(sentences, self.tokenizer), windows, self.num_workers), len(windows))

    def _sentences(self, rows: np.ndarray, documents: np.ndarray | None = None) -> tuple[Sentences, np.ndarray]:
        """Of these chunks, and the numbers of those that are long enough."""
        sentences = Sentences(
            self._chunks, rows, self.tokenizer, self.max_length, documents, self.pair_share, self.seed
        )
        return sentences, np.flatnonzero(sentences.lengths >= FEWEST)
