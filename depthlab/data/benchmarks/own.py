"""The Lightning data module of your own task: texts, pairs or numbers in a table or on the hub, or tagged words."""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

from depthlab.data.benchmarks.labelled import Examples, LabelledDataModule
from depthlab.data.benchmarks.tables import TABLES, Fields, hub_rows, kind_of, load_hub_split, read_table
from depthlab.data.benchmarks.tagged import READERS, TaggedExamples
from depthlab.data.benchmarks.text_tasks import TextTask
from depthlab.errors import UserError
from depthlab.kinds import NOT_PREDICTED
from depthlab.metrics.glue import METRICS, OF_NUMBERS, OF_SPANS, WORDS

Kind = Literal["classes", "numbers", "tags"]

TEXT_COLUMNS = (("text",), ("sentence",), ("sentence1", "sentence2"), ("premise", "hypothesis"))
"""Columns of texts that need not be named; the first of them that are all there."""
SPLITS = {"train": "train", "val": "dev", "test": "test"}
"""By setting, what a split is called elsewhere."""
MOST_LABELS = 1000
"""More are not classes but numbers, or texts."""


class OwnDataModule(LabelledDataModule):
    """Your own task: steps and batches are those of `LabelledDataModule`.

    What is learnt follows from the files: a class of each text or pair (.tsv, .csv, .jsonl), or a tag of each word: its
    part of speech (.conllu), or what the last column of a .bio, .iob or .conll file says. All may be gzipped (.gz).

    Args:
        train: The file to train on, or with `hub` the name of a split. The labels are those that occur there.
        val: The file or split to validate on.
        test: The file or split to test on, and to predict; it need not have labels.
        hub: A data set on the Hugging Face hub, in place of files.
        name: Its configuration.
        text: The column of the text, or a list of the two of a pair. Null: `text`, `sentence`, or `sentence1` and
            `sentence2`, or `premise` and `hypothesis`.
        label: The column of the label.
        kind: "classes", "numbers" (a regression), "tags"; null: tags of files that have them, classes elsewhere.
        metrics: Accuracy, f1 (of the second of two classes), matthews_corrcoef, span_f1 (of spans that BIO tags
            mark), pearson, spearman: the score first. Null: what is usual for the kind.
        task: What to call it; null: as the file to train on, or the data set.
        settings: As `LabelledDataModule`.

    Raises:
        UserError: A number is out of its range, or settings do not go together. By `labels` and `read`: a file can't be
            read, or lacks a column.
    """

    suite = "Own"
    evaluated = {"validate": ("dev",), "test": ("test",), "predict": ("test",)}  # noqa: RUF012

    def __init__(
        self,
        train: str | None = None,
        val: str | None = None,
        test: str | None = None,
        hub: str | None = None,
        name: str | None = None,
        text: str | list[str] | None = None,
        label: str = "label",
        kind: Kind | None = None,
        metrics: list[str] | None = None,
        task: str | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.hub, self.configuration, self.text, self.label = hub, name, text, label
        given = {"train": train, "val": val, "test": test}
        self.places = {SPLITS[setting]: place for setting, place in given.items() if place is not None}
        self.is_on_disk = hub is None
        self.place = hub or "your data"
        if "train" not in self.places:
            raise UserError("there is nothing to learn from: give --data.train FILE and --data.val FILE")
        self.kind: Kind = kind or ("tags" if hub is None and kind_of(Path(train)) in READERS else "classes")
        if self.kind not in get_args(Kind):
            raise UserError(f"data.kind is {kind}; it must be one of {', '.join(get_args(Kind))}")
        for split, place in self.places.items() if hub is None else ():
            if Path(place).expanduser().is_dir():
                raise UserError(f"{place} is a folder; name a file in it with {_setting(split)}")
            if kind_of(Path(place)) not in (READERS if self.kind == "tags" else TABLES):
                raise UserError(
                    f"{_setting(split)} {place}: data.kind is {self.kind}; all files of tags end in "
                    f"{', '.join(READERS)}, all of classes and numbers in {', '.join(TABLES)}"
                )
        if hub is not None and self.kind == "tags":
            raise UserError("data.kind tags takes files (.conllu, .bio), not data.hub")
        self.unit = "word" if self.kind == "tags" else "text"
        self.task_name = self.title = task or _stem(hub or train)
        self._metrics = metrics

    def check(self) -> None:
        """The files, too."""
        super().check()
        for place in self.places.values() if self.hub is None else ():
            if not Path(place).expanduser().is_file():
                raise UserError(f"{place}: no such file; correct data.train, data.val or data.test")

    @property
    def labels(self) -> tuple[str, ...]:
        """Those that occur in what is trained on, numbers in their order; none of a regression."""
        return self._content[0]

    @property
    def metrics(self) -> tuple[str, ...]:
        """As given, or the usual ones.

        Raises:
            UserError: There is no such metric of such labels.
        """
        marks_spans = self.kind == "tags" and all(tag == "O" or tag[1:2] == "-" for tag in self.labels)
        usual = {"classes": ("accuracy",), "numbers": OF_NUMBERS, "tags": (OF_SPANS,) * marks_spans + ("accuracy",)}
        possible = [name for name in METRICS if (name in OF_NUMBERS) == (self.kind == "numbers")]
        possible = [name for name in possible if name == "accuracy" or self.kind == "numbers" or len(self.labels) == 2]
        possible += [OF_SPANS] * marks_spans
        for name in self._metrics or ():
            if name not in possible:
                raise UserError(f"data.metrics: {name} is none of {', '.join(possible)}, which such labels have")
        return tuple(self._metrics or usual[self.kind])

    @property
    def tested_after_fit(self) -> bool:
        """Where the test split has labels."""
        return self.read()["test"].labels is not None if "test" in self.places else False

    def read(self) -> dict[str, Examples | TaggedExamples]:
        return self._content[1]

    def way_out(self, split: str) -> str:
        return f"name it with {_setting(split)}"

    def prediction_file(self, split: str) -> str:
        """As what is predicted is called: another file's predictions are not to take the place of the run's own."""
        return f"{Path(self.places[split].removesuffix('.gz')).stem}.tsv"

    def as_written(self, prediction: float) -> str:
        """The name of the label, or the number."""
        return self.labels[int(prediction)] if self.labels else f"{prediction:.6g}"

    def predicted_lines(self, split: str, index: list[int], predictions: list[float]) -> list[str]:
        """Of words, each with its tag, and a blank line after a sentence; a word that was cut off has none ("_")."""
        if self.unit == "text":
            return super().predicted_lines(split, index, predictions)
        tags = dict(zip(index, predictions, strict=True))
        ran = {number // WORDS for number in index}
        lines = []
        for row, sentence in enumerate(self.read()[split].sentences):
            for number, word in enumerate(sentence.words if row in ran else ()):
                tag = tags.get(row * WORDS + number)
                lines.append(f"{word.form}\t{'_' if tag is None else self.labels[int(tag)]}")
            lines += [""] * (row in ran)
        return lines

    def count(self, index: list[int]) -> int:
        if self.unit == "text":
            return super().count(index)
        return len({number // WORDS for number in index})

    @cached_property
    def _content(self) -> tuple[tuple[str, ...], dict[str, Examples | TaggedExamples]]:
        self.check()
        return self._tagged() if self.kind == "tags" else self._labelled()

    def _labelled(self) -> tuple[tuple[str, ...], dict[str, Examples]]:
        rows = {split: self._rows(split) for split in self.places}
        texts = self._text_columns(rows)
        labels: tuple[str, ...] = ()
        if self.kind == "classes":
            labels = self._names(row[self.label] for _, row in rows["train"])
        advice = "; or say data.kind numbers" if all(re.fullmatch(r"-?[\d.]+", name) for name in labels) else ""
        task = TextTask(self.task_name, texts, labels=labels, label=self.label, advice=advice)
        return labels, {split: task.examples(found) for split, found in rows.items()}

    def _rows(self, split: str) -> list[tuple[str, Mapping[str, str]]]:
        """Of a split, all with the label or, of the test, none."""
        if self.hub is not None:
            way_out = "correct data.hub, data.name, or the splits in data.train, data.val and data.test"
            hub_split = load_hub_split(self.hub, self.configuration, self.places[split], way_out)
            rows = [*hub_rows(hub_split, self.hub, self.places[split])]
        else:
            rows = [*read_table(Path(self.places[split]).expanduser(), _setting(split))]
        if not rows:
            raise UserError(f"{self.places[split]}: no example in it; correct {_setting(split)}")
        has_labels = split != "test" or any(row.get(self.label) for _, row in rows)
        return [(place, self._checked(place, row, has_labels)) for place, row in rows]

    def _checked(self, place: str, row: Fields, has_label: bool) -> dict[str, str]:
        if not has_label:
            row = {name: value for name, value in row.items() if name != self.label}
        elif self.label not in row:
            raise UserError(
                f"{place}: there is no column {self.label!r} in {', '.join(row)}; say which with data.label"
            )
        elif not (label := " ".join((row[self.label] or "").split())):
            raise UserError(f"{place}: the column {self.label!r} is empty; fill it or remove the row")
        else:
            row = row | {self.label: label}
        return {name: "" if value is None else value for name, value in row.items()}

    def _text_columns(self, rows: Mapping[str, Sequence[tuple[str, Mapping[str, str]]]]) -> tuple[str, ...]:
        place, first = rows["train"][0]
        named = [self.text] if isinstance(self.text, str) else self.text
        texts = named or next((texts for texts in TEXT_COLUMNS if {*texts} <= first.keys()), ())
        if not 1 <= len(texts) <= 2:
            raise UserError(
                f"{place}: which of the columns {', '.join(first)} is the text? Say so with data.text, of two"
            )
        for place, row in (one for found in rows.values() for one in found):
            for column in texts:
                if column not in row:
                    raise UserError(f"{place}: there is no column {column!r} in {', '.join(row)}; say with data.text")
        return tuple(texts)

    def _tagged(self) -> tuple[tuple[str, ...], dict[str, TaggedExamples]]:
        files = {split: Path(place).expanduser() for split, place in self.places.items()}
        read = {split: READERS[kind_of(file)](file) for split, file in files.items()}
        labels = self._names(word.upos for sentence in read["train"].sentences for word in sentence.words if word.upos)
        numbers = {label: number for number, label in enumerate(labels)} | {None: NOT_PREDICTED}
        found = {}
        for split, (sentences, left_out) in read.items():
            tags = {word.upos for sentence in sentences for word in sentence.words}
            if unknown := sorted(tag for tag in tags - {*numbers} if tag is not None):
                raise UserError(f"{files[split]}: the tag {unknown[0]!r} does not occur in {files['train']}")
            of_words = [[numbers[word.upos] for word in sentence.words] for sentence in sentences]
            found[split] = TaggedExamples(sentences, None if tags <= {None} else of_words, len(left_out))
            if split != "test" and found[split].labels is None:
                raise UserError(f"{files[split]}: no word in it has a tag")
        return labels, found

    def _names(self, labels: Iterable[str]) -> tuple[str, ...]:
        names = sorted({*labels}, key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name))
        if len(names) < 2:
            raise UserError(f"{self.places['train']}: the labels are {names}; a task has two or more")
        if len(names) > MOST_LABELS:
            raise UserError(
                f"{self.places['train']}: there are {len(names):,} labels, {names[0]!r} and others; name another "
                "column with data.label, or say data.kind numbers"
            )
        return tuple(names)


def _setting(split: str) -> str:
    return f"data.{next(setting for setting, name in SPLITS.items() if name == split)}"


def _stem(place: str) -> str:
    """The last part of a path or name, without what it ends in."""
    return Path(place).name.partition(".")[0] or place
