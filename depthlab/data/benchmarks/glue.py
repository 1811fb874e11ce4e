"""The Lightning data module of fine-tuning on GLUE: where its tasks come from, and what evaluates them."""

from pathlib import Path
from typing import Any, Literal

from depthlab.data.benchmarks.glue_tasks import GLUE_TASKS, GlueTask, read_split
from depthlab.data.benchmarks.labelled import Examples, LabelledDataModule
from depthlab.data.benchmarks.tables import load_hub_split
from depthlab.data.hub import announce
from depthlab.errors import UserError

HUB = "nyu-mll/glue"


class GlueDataModule(LabelledDataModule):
    """One of GLUE's tasks: steps and batches are those of `LabelledDataModule`.

    Args:
        task: Which task.
        root: Folder with the tasks' folders (`CoLA/train.tsv`, ...): GLUE's own files, plain, gzipped or in numbered
            pieces; null takes them from the Hugging Face hub.
        settings: As `LabelledDataModule`.

    Raises:
        UserError: There is no such task, or a number is out of its range.
    """

    suite = "GLUE"

    def __init__(
        self,
        task: Literal["cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli"] = "sst2",
        root: str | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        if task not in GLUE_TASKS:
            raise UserError(f"data.task is {task}; it must be one of {', '.join(GLUE_TASKS)}")
        self.task: GlueTask = GLUE_TASKS[task]
        self.task_name, self.labels, self.metrics = self.task.name, self.task.labels, self.task.metrics
        self.root, self.is_on_disk = root, root is not None
        self.title, self.place = self.task.folder, root or HUB
        tests = tuple(self.task.submissions)
        self.evaluated = {
            "validate": self.task.dev,
            "test": tuple(split for split in tests if split != "ax"),
            "predict": tests,  # and the diagnostic set with MNLI
        }

    def check(self) -> None:
        """The task's folder, too."""
        super().check()
        if self.root is not None:
            find_folder(self.task, self.root)

    def read(self) -> dict[str, Examples]:
        return read_task(self.task, self.root)

    def prediction_file(self, split: str) -> str:
        """As the GLUE server wants it."""
        return self.task.submissions[split].file

    def as_written(self, prediction: float) -> str:
        """As the GLUE server wants it."""
        return self.task.as_submitted(prediction)


def read_task(task: GlueTask, root: str | None) -> dict[str, Examples]:
    """All splits that there are, in the order of `GlueTask.splits`; from the hub where there is no root.

    Raises:
        UserError: There is none, or one cannot be read (see `read_split`) or be had from the hub.
    """
    if root is None:
        announce(HUB)
        return {split: _load_hub_split(task, split) for split in task.splits}
    folder = find_folder(task, root)
    splits = {split: read_split(task, folder.parent, split) for split in task.splits}
    found = {split: examples for split, examples in splits.items() if examples is not None}
    if not found:
        raise UserError(f"{folder}: none of {', '.join(f'{split}.tsv' for split in splits)} is there; fetch them")
    return found


def find_folder(task: GlueTask, root: str) -> Path:
    """The folder of a task.

    Raises:
        UserError: There is none.
    """
    folder = Path(root).expanduser() / task.folder
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; set data.root to the folder that holds {task.folder}")
    return folder


def _load_hub_split(task: GlueTask, split: str) -> Examples:
    name, hub_split = ("ax", "test") if split == "ax" else (task.name, split.replace("dev", "validation"))
    rows = load_hub_split(HUB, name, hub_split, "set data.root to a folder with GLUE's files")
    columns = [column for column in rows.column_names if column not in ("label", "idx")]
    for column in (*columns, "label"):
        if None in (values := list(rows[column])):
            raise UserError(f"{HUB}: row {values.index(None)} of {name}, {hub_split}, has no {column}; set data.root")
    texts, labels = [[text.strip() for text in rows[column]] for column in columns], list(rows["label"])
    return Examples(texts, None if -1 in labels else labels, skipped=0)
