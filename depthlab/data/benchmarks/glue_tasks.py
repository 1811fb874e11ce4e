"""GLUE's nine tasks and its diagnostic set: what their files look like, how they are scored, and reading them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from depthlab.data.benchmarks.labelled import Examples
from depthlab.data.benchmarks.text_tasks import Row, TextTask
from depthlab.data.lines import by_column, read_rows
from depthlab.errors import UserError

COLA_COLUMNS = ["source", "label", "mark", "sentence"]
"""Of CoLA's train and dev, which have no header."""
MSR_FILES = {"train": "msr_paraphrase_train.txt", "test": "msr_paraphrase_test.txt"}
"""MRPC as its authors distribute it; their training file holds GLUE's dev set too."""
NO_LABEL = "-"
"""MNLI's gold label where the annotators did not agree; such rows are left out, as everybody does."""
HIGHEST_SCORE = 5.0
"""Of STS-B; the lowest is 0."""


class Submission(NamedTuple):
    """What the GLUE server wants of a test split: the name of a file, and how many rows."""

    file: str
    rows: int


@dataclass(frozen=True, kw_only=True)
class GlueTask(TextTask):
    """A task of GLUE; its labels are GLUE's names, in the order of the hub's numbers.

    Attributes:
        folder: Of its files.
        columns: All that its files may have.
        submissions: By test split.
        dev: Splits to evaluate on.
    """

    folder: str
    columns: tuple[str, ...]
    submissions: dict[str, Submission]
    dev: tuple[str, ...] = ("dev",)

    @property
    def splits(self) -> tuple[str, ...]:
        """All that there may be."""
        return ("train", *self.dev, *self.submissions)

    def as_submitted(self, prediction: float) -> str:
        """As the GLUE server wants it: the name of the label that is predicted, or a score within the bounds."""
        if self.is_regression:
            return f"{min(max(prediction, self.bounds[0]), self.bounds[1]):.3f}"
        return self.labels[int(prediction)]


PAIR = ("sentence1", "sentence2")
SENTENCES = ("index", *PAIR, "label")
ENTAILMENT = ("entailment", "not_entailment")
GLUE_TASKS = {
    task.name: task
    for task in (
        GlueTask(
            name="cola",
            folder="CoLA",
            columns=("index", *COLA_COLUMNS),
            texts=("sentence",),
            submissions={"test": Submission("CoLA.tsv", 1063)},
            metrics=("matthews_corrcoef",),
        ),
        GlueTask(
            name="sst2",
            folder="SST-2",
            columns=("index", "sentence", "label"),
            texts=("sentence",),
            submissions={"test": Submission("SST-2.tsv", 1821)},
        ),
        GlueTask(
            name="mrpc",
            folder="MRPC",
            columns=("index", "Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"),
            texts=("#1 String", "#2 String"),
            submissions={"test": Submission("MRPC.tsv", 1725)},
            label="Quality",
            metrics=("f1", "accuracy"),
        ),
        GlueTask(
            name="stsb",
            folder="STS-B",
            columns=("index", "genre", "filename", "year", "old_index", "source1", "source2", *PAIR, "score"),
            texts=PAIR,
            submissions={"test": Submission("STS-B.tsv", 1379)},
            label="score",
            labels=(),
            bounds=(0.0, HIGHEST_SCORE),
            metrics=("spearman", "pearson"),
        ),
        GlueTask(
            name="qqp",
            folder="QQP",
            columns=("id", "qid1", "qid2", "question1", "question2", "is_duplicate"),
            texts=("question1", "question2"),
            submissions={"test": Submission("QQP.tsv", 390965)},
            label="is_duplicate",
            may_be_empty=True,
            metrics=("f1", "accuracy"),
        ),
        GlueTask(
            name="mnli",
            folder="MNLI",
            columns=(
                *("index", "promptID", "pairID", "genre", "sentence1_binary_parse", "sentence2_binary_parse"),
                *("sentence1_parse", "sentence2_parse", *PAIR),
                *("label1", "label2", "label3", "label4", "label5", "gold_label"),
            ),
            texts=PAIR,
            submissions={
                "test_matched": Submission("MNLI-m.tsv", 9796),
                "test_mismatched": Submission("MNLI-mm.tsv", 9847),
                "ax": Submission("AX.tsv", 1104),
            },
            label="gold_label",
            labels=("entailment", "neutral", "contradiction"),
            dev=("dev_matched", "dev_mismatched"),
        ),
        GlueTask(
            name="qnli",
            folder="QNLI",
            columns=("index", "question", "sentence", "label"),
            texts=("question", "sentence"),
            submissions={"test": Submission("QNLI.tsv", 5463)},
            labels=ENTAILMENT,
        ),
        GlueTask(
            name="rte",
            folder="RTE",
            columns=SENTENCES,
            texts=PAIR,
            submissions={"test": Submission("RTE.tsv", 3000)},
            labels=ENTAILMENT,
        ),
        GlueTask(
            name="wnli",
            folder="WNLI",
            columns=SENTENCES,
            texts=PAIR,
            submissions={"test": Submission("WNLI.tsv", 146)},
        ),
    )
}
"""By name. The diagnostic set, `ax`, is a test split of MNLI: GLUE has the model of that task answer it."""


def read_split(task: GlueTask, root: Path, split: str) -> Examples | None:
    """A split in GLUE's own files, or None where there is none of them.

    `SPLIT.tsv` or `SPLIT.tsv.gz` in the task's folder, or numbered pieces of either, `SPLIT-0.tsv` and so on, each with
    the header if there is one. Left out and counted are rows of QQP's train and dev that lack fields, rows of MNLI
    without a gold label, and, if MRPC's train is Microsoft's file, the pairs in dev.

    Raises:
        UserError: There are several such files, or a piece is missing; a file is not the task's, or cannot be read;
            a row lacks a field, has a label that is not the task's, or an empty text (QQP has such).
    """
    files = _find(task, root, split)
    held_out = _id_pairs(task, root) if [file.name for file in files] == [MSR_FILES["train"]] else set()

    def rows() -> Iterator[Row]:
        for file in files:
            for number, row in _read_rows(task, split, file):
                without_label = task.name == "mnli" and row is not None and row.get(task.label) == NO_LABEL
                is_out = row is None or without_label or (row.get("#1 ID"), row.get("#2 ID")) in held_out
                yield f"{file}, line {number}", None if is_out else row

    examples = task.examples(rows())
    if files and not examples.texts[0]:
        raise UserError(f"{files[0]}: no example in it; fetch the file again or remove it")
    return examples if files else None


def _find(task: GlueTask, root: Path, split: str) -> list[Path]:
    """The file of a split, or its pieces in order; empty where there is none."""
    places = [root / "AX/AX", root / "diagnostic/diagnostic"] if split == "ax" else [root / task.folder / split]
    whole: list[Path] = []
    pieces: list[tuple[int, Path]] = []
    for place in places:
        for file in sorted(place.parent.glob(f"{place.name}*")):
            if match := re.fullmatch(rf"{place.name}(?:-(\d+))?\.tsv(?:\.gz)?", file.name):
                whole += [] if match[1] else [file]
                pieces += [(int(match[1]), file)] if match[1] else []
    if task.name == "mrpc" and not whole + pieces and (file := root / task.folder / MSR_FILES.get(split, "")).is_file():
        whole = [file]
    pieces.sort()
    numbers, parts = [number for number, _ in pieces], [file for _, file in pieces]
    if len(whole) > 1 or (whole and parts):
        first, second = [*whole, *parts][:2]
        raise UserError(f"{first} and {second} are both there; remove one of them")
    if numbers != list(range(len(pieces))):
        raise UserError(f"{places[0]}-*: there are pieces {numbers}; they must run from 0, each once")
    return whole or parts


def _id_pairs(task: GlueTask, root: Path) -> set[tuple[str, str]]:
    """MRPC's pairs in dev."""
    pairs = set()
    for file in _find(task, root, "dev"):
        pairs |= {(row.get("#1 ID"), row.get("#2 ID")) for _, row in _read_rows(task, "dev", file)}
        if any(None in pair for pair in pairs):
            raise UserError(
                f"{file}: it has no #1 ID and #2 ID, by which to leave its pairs out of {MSR_FILES['train']}; fetch "
                "GLUE's train.tsv or dev.tsv"
            )
    return pairs


def _read_rows(task: GlueTask, split: str, file: Path) -> Iterator[tuple[int, dict[str, str] | None]]:
    """Numbered rows by column; None for one that lacks fields where the official file has such.

    Tabs and line ends are all the syntax there is: quotes are text.
    """
    may_lack_fields = task.name == "qqp" and split not in task.submissions
    has_header = task.name != "cola" or split in task.submissions
    columns: list[str] = []
    for number, line in read_rows(file, "data.root"):
        fields = line.split("\t")
        if number == 1:
            columns = _columns(task, split, file, fields, has_header)
            if has_header:
                continue
        if len(fields) < len(columns) and may_lack_fields:
            yield number, None
        else:
            yield number, by_column(f"{file}, line {number}", columns, fields)


def _columns(task: GlueTask, split: str, file: Path, first: list[str], has_header: bool) -> list[str]:
    """The columns of a file with that first line, if it is the task's."""
    if not has_header:
        if len(first) == len(COLA_COLUMNS) and first[1] in task.labels:
            return COLA_COLUMNS
        expected = f"no header and the columns {', '.join(COLA_COLUMNS)}"
    else:
        needed = {*task.texts, *(() if split in task.submissions else (task.label,))}
        if needed <= set(first) <= set(task.columns) and len(set(first)) == len(first):
            return first
        expected = f"a header with {', '.join(column for column in task.columns if column in needed)}"
        if others := [column for column in task.columns if column not in needed]:
            expected += f" (and perhaps {', '.join(others)})"
    found = ", ".join(first)
    raise UserError(
        f"{file}: not {split} of {task.folder}, which has {expected}; its first line is {found[:100]!r}; correct "
        "data.task or data.root"
    )
