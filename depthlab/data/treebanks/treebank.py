"""The Lightning data module of treebanks: every sentence once, in batches of similar length, without labels."""

import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from depthlab.data.buckets import each_once
from depthlab.data.corpora.corpus import CorpusSource, as_sources, load_documents, read_texts
from depthlab.data.corpora.frequency import count_words, log_frequency
from depthlab.data.folders import files_at
from depthlab.data.steps import MicroBatches, StepDataModule, check_settings
from depthlab.data.tokenization import load_tokenizer
from depthlab.data.treebanks.alignment import AlignedTreebank, piece_rows, read_aligned
from depthlab.data.treebanks.trees import CONLLU
from depthlab.errors import UserError, say_left_out


class TreebankDataModule(StepDataModule):
    """Sentences of treebanks in CoNLL-U, for a model to run over (see `LabelledBatch`; there are no labels).

    A sentence that is not its words, or longer than `max_length`, is left out and counted.

    Args:
        treebank: A file in CoNLL-U, plain or gzipped, or a folder of such, or a list of these; with parts of speech and
            relations.
        tokenizer: Hugging Face tokenizer (folder or name), or a SentencePiece model such as ALBERT's.
        max_length: Most pieces of a sentence, [CLS] and [SEP] counted.
        batch_size: Sentences of a batch, over all ranks.
        num_workers: Processes that make batches, on each rank.
        frequencies: A corpus, as in pre-training's `data.corpus`, to count words in: the table then has the column
            `frequency`, log10 of a form's occurrences per million words there. Null leaves it out.

    Raises:
        UserError: A number is out of its range.
    """

    def __init__(
        self,
        treebank: str | list[str] | None = None,
        tokenizer: str | None = None,
        max_length: int = 128,
        batch_size: int = 32,
        num_workers: int = 0,
        frequencies: str | dict[str, Any] | list[str | dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(batch_size, num_workers, seed=0)
        check_settings(("max_length", max_length, max_length >= 3, "3 or more"))
        self.files = as_files(treebank, "data.treebank")
        self.tokenizer_path = tokenizer
        self.max_length = max_length
        self.sources = None if frequencies is None else as_sources(frequencies)
        self.tokenizer: PreTrainedTokenizerBase
        self.treebank: AlignedTreebank
        self.summary: dict[str, int]
        self._counts: Counter[str] | None = None

    def check(self) -> None:
        """The treebank, too; its files were looked for when the module was made."""
        super().check()
        if not self.files:
            raise UserError("there is no treebank: give --data.treebank FILE, in CoNLL-U")

    def prepare_data(self) -> None:
        """Count the words of the corpus, on the rank that makes the table.

        Raises:
            UserError: The corpus can't be read.
        """
        if self.sources is not None:
            self._counts = _count_words(self.sources)

    def setup(self, stage: str) -> None:
        """Read the treebanks and align words and pieces, on every rank.

        Raises:
            UserError: As `read_aligned`; there is no treebank or no tokenizer.
        """
        self.check()
        if self.tokenizer_path is None:
            raise UserError("data.tokenizer is not set: give the model's")
        self.tokenizer = load_tokenizer(self.tokenizer_path)
        self.tokenizer.padding_side = "right"  # or pieces would not stand at their positions
        self.treebank = read_aligned(self.files, self.tokenizer, self.max_length)
        report_left_out(self.treebank, self.max_length)
        self.summary = {
            "sentences": len(self.treebank.sentences),
            "words": sum(len(sentence.words) for sentence in self.treebank.sentences),
            "sentences_not_aligned": len(self.treebank.unaligned),
            "sentences_too_long": len(self.treebank.too_long),
        }

    def counts(self, ran: Sequence[int]) -> dict[str, int]:
        """What a run over these sentences was of: as `summary`, and those that it did not get to."""
        words = sum(len(self.treebank.sentences[number].words) for number in ran)
        left = self.summary["sentences"] - len(ran)
        counts = self.summary | {"sentences": len(ran), "words": words}
        return counts | ({"sentences_not_run": left} if left else {})

    def rows(self) -> pd.DataFrame:
        """As `piece_rows`; with `frequencies`, on rank 0, their column, too."""
        rows = piece_rows(self.treebank, self.tokenizer)
        if self._counts is not None:
            rows["frequency"] = log_frequency(rows["form"], self._counts)
        return rows

    def predict_dataloader(self) -> MicroBatches:
        """All sentences once, sorted by length, in as many batches on every rank."""
        input_ids = [pieces.input_ids for pieces in self.treebank.pieces]
        types = [[0] * len(ids) for ids in input_ids]
        words = [[-1 if word is None else word for word in pieces.words] for pieces in self.treebank.pieces]
        sentences = Dataset.from_dict({"input_ids": input_ids, "token_type_ids": types, "words": words})
        return each_once(self, sentences, self.tokenizer, "sentences")


def as_files(treebank: str | list[str] | None, setting: str) -> list[Path]:
    """The files that a setting names, or that lie in folders that it names.

    Raises:
        UserError: One does not exist, or is no treebank.
    """
    names = [] if treebank is None else [treebank] if isinstance(treebank, str) else treebank
    return [file for name in names for file in files_at(Path(name).expanduser(), CONLLU, setting)]


def report_left_out(treebank: AlignedTreebank, max_length: int) -> None:
    """Say which sentences were left out, the first of them by name."""
    say_left_out(treebank.unaligned, "are not the words of their text")
    say_left_out(treebank.too_long, f"have more than {max_length} pieces")


def _count_words(sources: Iterable[CorpusSource]) -> Counter[str]:
    """Of all documents, which are read once."""
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for number, source in enumerate(sources):
            try:
                counts += count_words(read_texts(source, load_documents(source, Path(folder) / str(number))))
            except UserError as error:
                raise UserError(str(error).replace("data.corpus", "data.frequencies")) from error
    return counts
