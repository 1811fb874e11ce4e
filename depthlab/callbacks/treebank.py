"""Watches how deep the words of a treebank go while a model is trained, by part of speech and by relation."""

from collections.abc import Callable

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.nn.utils.rnn import pad_sequence

from depthlab.analysis.labels import without_subtype
from depthlab.callbacks.watched import adaptive_model
from depthlab.data.buckets import sort_by_length
from depthlab.data.tokenization import load_tokenizer
from depthlab.data.treebanks.alignment import Pieces, Word, read_aligned
from depthlab.data.treebanks.treebank import as_files, report_left_out
from depthlab.errors import UserError
from depthlab.metrics import GroupDepthMetric, mean_depth_by_group

LABELS: dict[str, Callable[[Word], str | None]] = {
    "upos": lambda word: word.upos,
    "deprel": lambda word: word.deprel and without_subtype(word.deprel),
}
"""Of a word, by field."""
NO_LABEL = -1
"""Of padding, special tokens, and words that are not annotated."""


class TreebankDepth(Callback):
    """Logs mean depths as `depth_upos/<UPOS>` and `depth_deprel/<relation>` at every validation.

    Subtypes count for their relation, as in the tables of `depthlab predict`: `nsubj:pass` is an nsubj.
    The model runs over sentences of a treebank, each on one rank; every piece of a word counts for the word's labels.
    Without a logger, and in training, it rests.

    Args:
        treebank: a file in CoNLL-U, plain or gzipped, or a list of such; with parts of speech and relations.
        sentences: at most so many of them, spread evenly over the treebank; null for all.
        batch_size: sentences that a rank computes at a time.
        max_length: most pieces of a sentence, special tokens counted; a longer one is left out.
        tokenizer: folder or name of the model's tokenizer; by default the data module's.
    """

    def __init__(
        self,
        treebank: str | list[str],
        sentences: int | None = 500,
        batch_size: int = 32,
        max_length: int = 128,
        tokenizer: str | None = None,
    ) -> None:
        self.treebank = treebank
        self.sentences = sentences
        self.batch_size = batch_size
        self.max_length = max_length
        self.tokenizer = tokenizer

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Read the treebank, as the model's tokenizer cuts it, and take this rank's share.

        Raises:
            UserError: the model has no depth or too few positions; a number is out of its range; a bad treebank.
        """
        for name in ("sentences", "batch_size", "max_length"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{type(self).__name__}: {name} is {value}; it must be 1 or more")
        positions = adaptive_model(pl_module, self).config.max_position_embeddings
        if self.max_length > positions:
            raise UserError(
                f"{type(self).__name__}: max_length {self.max_length} is over the model's {positions} position "
                "embeddings: lower it"
            )
        tokenizer = trainer.datamodule.tokenizer if self.tokenizer is None else load_tokenizer(self.tokenizer)
        files = as_files(self.treebank, f"{type(self).__name__}: treebank")
        treebank = read_aligned(files, tokenizer, self.max_length)
        report_left_out(treebank, self.max_length)
        words = [word for sentence in treebank.sentences for word in sentence.words]
        self.labels = {field: sorted({label(word) for word in words} - {None}) for field, label in LABELS.items()}
        self.metrics = {field: GroupDepthMetric(len(labels)) for field, labels in self.labels.items()}

        total = len(treebank.sentences)
        rows = np.linspace(0, total - 1, min(total, self.sentences or total)).astype(int)
        rows = sort_by_length(rows, np.array([len(pieces.input_ids) for pieces in treebank.pieces]))
        mine = rows[trainer.global_rank :: trainer.world_size]
        self.batches = [
            self._collate(
                [treebank.pieces[row] for row in mine[first : first + self.batch_size]],
                [treebank.sentences[row].words for row in mine[first : first + self.batch_size]],
                tokenizer.pad_token_id,
            )
            for first in range(0, len(mine), self.batch_size)
        ]

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.loggers or trainer.sanity_checking:
            return
        model = adaptive_model(pl_module, self)
        for metric in self.metrics.values():
            metric.to(pl_module.device)
        for batch in self.batches:
            batch = {name: tensor.to(pl_module.device) for name, tensor in batch.items()}
            output = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
            for field, metric in self.metrics.items():
                labelled = batch[field] != NO_LABEL
                metric.update(output.depths[labelled], batch[field][labelled], real=labelled[labelled])
        scalars = {}
        for field, metric in self.metrics.items():
            depths = mean_depth_by_group(*metric.compute()).tolist()  # from all ranks
            metric.reset()
            named = zip(self.labels[field], depths, strict=True)
            scalars |= {f"depth_{field}/{label}": depth for label, depth in named if depth == depth}
        for logger in trainer.loggers:
            logger.log_metrics(scalars, trainer.global_step)

    def _collate(self, pieces: list[Pieces], words: list[list[Word]], padding: int) -> dict[str, torch.Tensor]:
        """Of B sentences: `input_ids`, `attention_mask`, and the number of each piece's label by field; [B, T] each."""
        ids = [torch.tensor(sentence.input_ids) for sentence in pieces]
        batch = {
            "input_ids": pad_sequence(ids, batch_first=True, padding_value=padding),
            "attention_mask": pad_sequence([torch.ones_like(row) for row in ids], batch_first=True),
        }
        for field, labels in self.labels.items():
            numbers = {label: number for number, label in enumerate(labels)} | {None: NO_LABEL}
            of_pieces = [
                torch.tensor([NO_LABEL if w is None else numbers[LABELS[field](of_words[w])] for w in sentence.words])
                for sentence, of_words in zip(pieces, words, strict=True)
            ]
            batch[field] = pad_sequence(of_pieces, batch_first=True, padding_value=NO_LABEL)
        return batch
