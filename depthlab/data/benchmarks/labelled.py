"""What fine-tuning's data modules share: labelled texts, tokenized once, make batches for training and evaluation."""

import hashlib
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow.compute as pc
import torch
from datasets import Dataset, Features, List, Value
from huggingface_hub import is_offline_mode
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from depthlab.data.benchmarks.tagged import TaggedExamples
from depthlab.data.buckets import ORDER_STREAM, BucketSampler, LabelledDataset, each_once, token_counts
from depthlab.data.cache import making
from depthlab.data.steps import MicroBatches, StepDataModule, TrainingMicroBatches, Volume, check_settings, loader
from depthlab.data.tokenization import TextEncoder, find_tokenizer_files, load_tokenizer
from depthlab.errors import UserError

FORMAT = 2
"""Part of every cache key: raise it when the code below changes what is stored."""
SUBSET_STREAM = ORDER_STREAM + 1
LOOKED_AT = 1000
"""Examples by which their mean length is told before any is prepared."""


class Examples(NamedTuple):
    """A split as it was read.

    Attributes:
        texts: One list, or two for pairs.
        labels: Indices into the task's labels, scores of a regression, or None where the split has none.
        skipped: Rows that were left out.
    """

    texts: list[list[str]]
    labels: list[int] | list[float] | None
    skipped: int


class Tokenized(NamedTuple):
    """Tokenized splits: their Arrow files, and counts of examples and of what was skipped."""

    files: dict[str, Path]
    summary: dict[str, int]


class LabelledDataModule(StepDataModule, ABC):
    """Batches of labelled texts for fine-tuning and evaluation (see `LabelledBatch`).

    A task of another benchmark is a class with the attributes below and `read`.

    Evaluation takes every example once, on any number of ranks. The split to train on is "train".

    Args:
        tokenizer: Hugging Face tokenizer (folder or name), or a SentencePiece model such as ALBERT's.
        max_length: Most tokens of an example, [CLS] and every [SEP] counted; the longer of two texts is cut first.
        batch_size: Examples of an optimiser step, over all ranks and all accumulated pieces.
        device_batch_size: Most examples that a device computes at a time; a step is accumulated out of as many as
            that takes, whatever devices there are. Null: a device's share of a step is one piece.
        train_examples: Train on that many examples at most, drawn by the seed; null for all.
        num_workers: Processes that make batches, on each rank.
        cache_dir: Folder for tokenized examples.
        seed: Of the order of the examples, and of which of them to train on.

    Attributes:
        suite: Whose task it is, for messages.
        title: The task's name in its suite, for messages.
        place: Where the data comes from, for messages.
        task_name: The task's name in the settings.
        labels: Names of the classes; none for a regression.
        metrics: Names in `depthlab.metrics.glue`, the score first.
        is_on_disk: Whether `read` needs no network.
        unit: What has a label: a "text" (or pair), or each "word".
        evaluated: The splits that there may be to "validate", "test" and "predict" on.

    Raises:
        UserError: A number is out of its range.
    """

    suite: str
    title: str
    place: str
    task_name: str
    labels: tuple[str, ...]
    metrics: tuple[str, ...]
    unit: Literal["text", "word"] = "text"
    evaluated: Mapping[str, tuple[str, ...]]
    is_on_disk: bool = True

    def __init__(
        self,
        tokenizer: str | None = None,
        max_length: int = 128,
        batch_size: int = 32,
        device_batch_size: int | None = None,
        train_examples: int | None = None,
        num_workers: int = 2,
        cache_dir: str = "~/.cache/depthlab",
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, num_workers, seed, device_batch_size)
        check_settings(
            ("max_length", max_length, max_length >= 5, "5 or more"),
            ("train_examples", train_examples, train_examples is None or train_examples > 0, "above 0, or null"),
        )
        self.tokenizer_path = tokenizer
        self.max_length = max_length
        self.train_examples = train_examples
        self.cache_dir = Path(cache_dir).expanduser()
        self.tokenizer: PreTrainedTokenizerBase
        self.summary: dict[str, int]
        self._tokenized: Tokenized | None = None

    @abstractmethod
    def read(self) -> dict[str, Examples | TaggedExamples]:
        """All splits that there are, in order.

        Raises:
            UserError: There is none, or one cannot be read.
        """

    def way_out(self, split: str) -> str:
        """What to do where a split is missing, for messages."""
        return "fetch it or correct data.root"

    def prediction_file(self, split: str) -> str:
        """The name of the file for a split's predictions."""
        return f"{self.task_name}.tsv"

    def as_written(self, prediction: float) -> str:
        """A prediction, a label's number, as it stands in that file: its name. A regression's own module writes it."""
        return self.labels[int(prediction)]

    def predicted_lines(self, split: str, index: list[int], predictions: list[float]) -> list[str]:
        """The lines of that file: a header, and `index<TAB>prediction` of every example."""
        rows = zip(index, map(self.as_written, predictions), strict=True)
        return ["index\tprediction", *(f"{number}\t{prediction}" for number, prediction in rows)]

    def count(self, index: list[int]) -> int:
        """Of how many examples predictions with these indices are."""
        return len(index)

    def volume(self) -> Volume | None:
        """Of the training split, its lengths by some examples of it."""
        if self.tokenizer_path is None or not (self.is_on_disk or is_offline_mode()):
            return None
        if find_tokenizer_files(self.tokenizer_path) is None and not is_offline_mode():
            return None
        texts = self.read()["train"].texts
        rows = np.linspace(0, len(texts[0]) - 1, min(len(texts[0]), LOOKED_AT)).astype(int)
        columns = [[column[row] for row in rows] for column in texts]
        encode = TextEncoder(load_tokenizer(self.tokenizer_path), self.max_length)
        samples = min(self.train_examples or math.inf, len(texts[0]))
        lengths = [len(encoding.ids) for encoding in encode(_inputs(columns))]
        return Volume(samples, float(np.mean(lengths)), f"lengths by {len(rows)} examples")

    def prepare_data(self) -> None:
        """Read all splits that there are and tokenize them, unless the cache has them.

        Raises:
            UserError: No tokenizer, bad files (see `read`), or the cache cannot be written.
        """
        if self.tokenizer_path is None:
            raise UserError("data.tokenizer is not set; give the folder, file or hub name of the model's tokenizer")
        tokenizer = load_tokenizer(self.tokenizer_path)
        settings = repr((FORMAT, self.max_length, tokenizer.backend_tokenizer.to_str()))
        files, summary = {}, {}
        for split, examples in self.read().items():
            digest = hashlib.sha256(repr((settings, examples.texts, examples.labels)).encode()).hexdigest()[:32]
            files[split] = self.cache_dir / f"{self.suite.lower()}-{self.task_name}-{split}-{digest}.arrow"
            summary[split] = len(examples.texts[0])
            if examples.skipped:
                summary[f"{split}_skipped"] = examples.skipped
            if not files[split].exists():
                self._tokenize(examples, tokenizer, files[split])
        self._tokenized = Tokenized(files, summary)
        counts = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in summary.items())
        lengths = np.concatenate([token_counts(Dataset.from_file(str(file))) for file in files.values()])
        full = int(np.sum(lengths == self.max_length))
        cut = f"; {full:,} of {len(lengths):,} reach {self.max_length} pieces, where texts are cut (data.max_length)"
        rank_zero_info(f"{self.suite} {self.title}: {counts}{cut if full else ''}")

    def setup(self, stage: str | None = None) -> None:
        """Open the tokenized splits, memory-mapped.

        Raises:
            UserError: There is no split such as the stage needs.
        """
        tokenized = self._tokenized
        if self.trainer is not None:  # only one rank has prepared
            tokenized = self.trainer.strategy.broadcast(tokenized)
        if tokenized is None:
            raise RuntimeError(f"{type(self).__name__}.setup() comes after prepare_data()")
        self._tokenized = tokenized
        self.summary = dict(tokenized.summary)
        if self.train_examples is not None and "train" in self.summary:
            self.summary["train_drawn"] = min(self.train_examples, self.summary["train"])
        self.tokenizer = load_tokenizer(self.tokenizer_path)
        self._splits = {split: Dataset.from_file(str(file)) for split, file in tokenized.files.items()}
        needed = {
            "fit": [("train",), self.evaluated["validate"][:1]],
            **{stage: [splits] for stage, splits in self.evaluated.items()},
        }
        name = getattr(stage, "value", stage)  # Lightning's own kind of names
        for splits in needed.get(name, []):
            if not self._present(splits):
                raise UserError(
                    f"{self.place} has no {' or '.join(splits)} of {self.title}, which {name} needs, only "
                    f"{', '.join(self._splits)}; {self.way_out(splits[0])}"
                )

    @property
    def val_splits(self) -> list[str]:
        """The split of each validation dataloader."""
        return self._present(self.evaluated["validate"])

    @property
    def test_splits(self) -> list[str]:
        """The split of each test dataloader."""
        return self._present(self.evaluated["test"])

    @property
    def predict_splits(self) -> list[str]:
        """The split of each prediction dataloader."""
        return self._present(self.evaluated["predict"])

    def identity(self) -> dict[str, Any]:
        """The training split, too: its file in the cache is called by what it holds."""
        file = self._tokenized.files.get("train")
        own = {"train_examples": self.train_examples, "max_length": self.max_length}
        return super().identity() | own | {"task": self.task_name, "train": file and file.name}

    def piece_counts(self, vocab_size: int) -> Tensor:
        """How often each piece occurs in the training split, [V] int64.

        Raises:
            UserError: There is no training split.
        """
        if "train" not in self._splits:
            raise UserError(f"{self.place} has no train of {self.title}, which word frequencies come from")
        pieces = pc.list_flatten(self._splits["train"].data.column("input_ids")).to_numpy()
        return torch.from_numpy(np.bincount(pieces, minlength=vocab_size))

    def train_dataloader(self) -> TrainingMicroBatches:
        """Micro-batches of the rest of the epoch.

        Raises:
            UserError: batch_size cannot be cut into equal pieces, or there are fewer examples than pieces.
        """
        examples = self._splits["train"]
        rows = np.random.default_rng([self.seed, SUBSET_STREAM]).permutation(len(examples))[: self.train_examples]
        sampler = BucketSampler(rows, token_counts(examples), self.batch_size, *self.begin_training())
        steps = loader(LabelledDataset(examples, self.tokenizer), sampler, self.num_workers)
        return TrainingMicroBatches(steps, len(sampler) * sampler.accumulate)

    def val_dataloader(self) -> list[MicroBatches]:
        """One of each of `val_splits`."""
        return self._evaluations("validate")

    def test_dataloader(self) -> list[MicroBatches]:
        """One of each of `test_splits`."""
        return self._evaluations("test")

    def predict_dataloader(self) -> list[MicroBatches]:
        """One of each of `predict_splits`."""
        return self._evaluations("predict")

    def _present(self, splits: Iterable[str]) -> list[str]:
        return [split for split in splits if split in self._splits]

    def _evaluations(self, stage: str) -> list[MicroBatches]:
        return [
            each_once(self, self._splits[split], self.tokenizer, f"examples of {split}")
            for split in self._present(self.evaluated[stage])
        ]

    def _tokenize(self, examples: Examples | TaggedExamples, tokenizer: PreTrainedTokenizerBase, file: Path) -> None:
        """Tokenize a split into an Arrow file, which appears only when it is complete."""
        name, _, digest = file.stem.rpartition("-")
        columns = dict(zip(("text", "text_pair"), examples.texts, strict=False))
        names, encode = [*columns], TextEncoder(tokenizer, self.max_length)
        features = {"input_ids": List(Value("int32")), "token_type_ids": List(Value("int8"))}
        if examples.labels is not None:
            columns["label"] = examples.labels
            features["label"] = Value("int64" if self.labels else "float32")

        def tokenize(rows: dict[str, list[str]]) -> dict[str, list[list[int]]]:
            encodings = encode(_inputs([rows[name] for name in names]))
            return {
                "input_ids": [encode.ids(encoding) for encoding in encodings],
                "token_type_ids": [encoding.type_ids for encoding in encodings],
            }

        if isinstance(examples, TaggedExamples):
            columns, names, tokenize = examples.pieces(tokenizer, self.max_length), [], None
            features = {name: List(Value("int32")) for name in columns}
        try:
            with making(self.cache_dir) as scratch:
                Dataset.from_dict(columns).map(
                    tokenize,
                    batched=True,
                    remove_columns=names,
                    features=Features(features),
                    cache_file_name=str(scratch / file.name),
                    new_fingerprint=digest,
                    desc=f"Tokenizing {name}",
                )
                os.replace(scratch / file.name, file)
        except OSError as error:
            raise UserError(
                f"{self.cache_dir}: cannot write tokenized examples ({error.strerror or error}); free some space there "
                "or set data.cache_dir to another folder"
            ) from error


def _inputs(columns: list[list[str]]) -> list[str] | list[tuple[str, str]]:
    """Texts, or pairs of such, of the one column or two."""
    return columns[0] if len(columns) == 1 else list(zip(*columns, strict=True))
