"""The Lightning data module of fine-tuning on SentEval's probing tasks, and reading their files.

A file has a line of `split<TAB>label<TAB>sentence` for each example. `depthlab data probing` makes such files of four
of the tasks from treebanks (see `probing_sets`).
"""

from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from depthlab.data.benchmarks.labelled import Examples, LabelledDataModule
from depthlab.data.lines import read_rows
from depthlab.errors import UserError

PROBING_TASKS = {"tense": "past_present"} | {
    name: name
    for name in (
        *("subj_number", "obj_number", "top_constituents", "sentence_length", "word_content", "tree_depth"),
        *("bigram_shift", "odd_man_out", "coordination_inversion"),
    )
}
"""SentEval's ten tasks (Conneau et al. 2018), the paper's four first, and the names of their files."""
PROBING_SPLITS = {"tr": "train", "va": "dev", "te": "test"}
"""SentEval's names of the splits, and ours."""
SENTEVAL = "https://github.com/facebookresearch/SentEval/tree/main/data/probing"


class ProbingDataModule(LabelledDataModule):
    """One of SentEval's probing tasks: steps and batches are those of `LabelledDataModule`.

    The file is looked for when the module is made, and read when its labels are asked for.

    Args:
        task: Which task, by our name or SentEval's.
        root: Folder with the tasks' files (`past_present.txt`, ...), plain or gzipped: SentEval's own, or what
            `depthlab data probing` has made of treebanks.
        settings: As `LabelledDataModule`.

    Raises:
        UserError: There is no such task, a number is out of its range, or the file is absent. By `labels` and `read`:
            the file is bad (see `read_probing`).
    """

    suite = "Probing"
    metrics = ("accuracy",)
    tested_after_fit = True
    evaluated = {"validate": ("dev",), "test": ("test",), "predict": ("test",)}  # noqa: RUF012

    def __init__(
        self, task: Literal[*PROBING_TASKS, "past_present"] = "tense", root: str | None = None, **settings: Any
    ) -> None:
        super().__init__(**settings)
        self.task_name = self.title = our_name(task)
        if self.task_name not in PROBING_TASKS:
            raise UserError(f"data.task is {task}; it must be one of {', '.join(PROBING_TASKS)}")
        self.place = str(find_file(self.task_name, root))

    @cached_property
    def _content(self) -> tuple[tuple[str, ...], dict[str, Examples]]:
        return read_probing(Path(self.place))

    @property
    def labels(self) -> tuple[str, ...]:
        """Those that occur in the file."""
        return self._content[0]

    def read(self) -> dict[str, Examples]:
        return self._content[1]


def our_name(task: str) -> str:
    """Of a task, by SentEval's name or ours; of others what they are called."""
    return {file: name for name, file in PROBING_TASKS.items()}.get(task, task)


def find_file(task: str, root: str | None) -> Path:
    """The file of a task, by SentEval's name of it or ours.

    Raises:
        UserError: There is none, or more than one.
    """
    if root is None:
        raise UserError(
            f"data.root is not set; give the folder with SentEval's probing files ({SENTEVAL}), or make them with "
            "`depthlab data probing`"
        )
    task = our_name(task)
    names = [f"{name}{suffix}" for name in dict.fromkeys((PROBING_TASKS[task], task)) for suffix in (".txt", ".txt.gz")]
    found = [file for name in names if (file := Path(root).expanduser() / name).is_file()]
    if not found:
        raise UserError(f"{root}: no {names[0]} there; set data.root to the folder that holds it")
    if len(found) > 1:
        raise UserError(f"{found[0]} and {found[1]} are both there; remove one of them")
    return found[0]


def read_probing(file: Path) -> tuple[tuple[str, ...], dict[str, Examples]]:
    """The labels of a task, sorted, and its splits.

    The first field of a line is the split, the second the label, the last the sentence; quotes are text.

    Args:
        file: `split<TAB>label<TAB>sentence` lines.

    Raises:
        UserError: The file cannot be read, or has fewer than two labels; a line lacks a field, or has another split.
    """
    rows: dict[str, tuple[list[str], list[str]]] = {name: ([], []) for name in PROBING_SPLITS.values()}
    for number, line in read_rows(file, "data.root"):
        fields = [field.strip() for field in line.split("\t")]
        if len(fields) < 3 or not fields[1] or not fields[-1]:
            raise UserError(f"{file}, line {number}: not split<TAB>label<TAB>sentence; mend or remove the line")
        if fields[0] not in PROBING_SPLITS:
            known = ", ".join(PROBING_SPLITS)
            raise UserError(f"{file}, line {number}: the split is {fields[0]!r}; it must be one of {known}")
        sentences, names = rows[PROBING_SPLITS[fields[0]]]
        sentences.append(fields[-1])
        names.append(fields[1])
    labels = tuple(sorted({name for _, names in rows.values() for name in names}))
    if len(labels) < 2:
        raise UserError(f"{file}: the labels are {list(labels)}; a task has two or more; fetch the file again")
    numbers = {label: number for number, label in enumerate(labels)}
    return labels, {
        split: Examples([sentences], [numbers[name] for name in names], skipped=0)
        for split, (sentences, names) in rows.items()
        if sentences
    }
