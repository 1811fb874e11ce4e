import gzip

import numpy as np
import pytest

from depthlab.data.benchmarks.glue import read_task
from depthlab.data.benchmarks.glue_tasks import GLUE_TASKS, read_split
from depthlab.errors import UserError
from tests.support import SHARED

from .glue_fixtures import ROWS, SERVERS_ROWS, write_tsv


@pytest.mark.parametrize("name", GLUE_TASKS)
def test_reads_the_layout_of_every_task(root, name):
    task = GLUE_TASKS[name]
    rows = ROWS[name]
    texts = [list(column) for column in zip(*(row[1:] for row in rows), strict=True)]
    labels = [float(row[0]) if task.is_regression else task.labels.index(row[0]) for row in rows]
    for split in ("train", task.dev[0]):
        assert read_split(task, root, split) == (texts, labels, 0)
    test = next(iter(task.submissions))
    assert read_split(task, root, test) == ([column[::-1] for column in texts], None, 0)
    assert len(texts) == len(task.texts)


def test_mnli_has_more_splits(root):
    for split in ("dev_mismatched", "test_mismatched", "ax"):
        assert len(read_split(GLUE_TASKS["mnli"], root, split).texts[1]) == 5


def test_registry():
    """What the server wants: https://gluebenchmark.com/faq."""
    rows = {file: count for task in GLUE_TASKS.values() for file, count in task.submissions.values()}
    assert rows == SERVERS_ROWS
    metrics = {name: task.metrics[0] for name, task in GLUE_TASKS.items() if task.metrics != ("accuracy",)}
    assert metrics == {"cola": "matthews_corrcoef", "mrpc": "f1", "qqp": "f1", "stsb": "spearman"}
    assert [task.num_labels for task in GLUE_TASKS.values()] == [2, 2, 2, 1, 2, 3, 2, 2, 2]


def test_gzip_and_numbered_pieces(own_root):
    folder = own_root / "QQP"
    whole = read_split(GLUE_TASKS["qqp"], own_root, "train")
    header, *lines = (folder / "train.tsv").read_bytes().splitlines(keepends=True)
    pieces = [lines[:2], *([line] for line in lines[2:11]), lines[11:]]  # 11 of them: 10 comes after 2
    (folder / "train.tsv").unlink()
    for number, piece in enumerate(pieces):
        (folder / f"train-{number}.tsv.gz").write_bytes(gzip.compress(header + b"".join(piece)))
    assert read_split(GLUE_TASKS["qqp"], own_root, "train") == whole
    (folder / "train-3.tsv.gz").unlink()
    with pytest.raises(UserError, match=r"train-\*: there are pieces \[0, 1, 2, 4,"):
        read_split(GLUE_TASKS["qqp"], own_root, "train")
    (folder / "train.tsv").write_bytes(header + lines[0])
    with pytest.raises(UserError, match=r"train\.tsv and .*train-0\.tsv\.gz are both there"):
        read_split(GLUE_TASKS["qqp"], own_root, "train")


def test_a_blank_last_line_is_nothing(own_root):
    file = own_root / "RTE/train.tsv"
    whole = read_split(GLUE_TASKS["rte"], own_root, "train")
    content = file.read_bytes().rstrip(b"\n")
    for more in (b"", b"\n\n", b"\r\n \r\n", b"\n\n\n"):
        file.write_bytes(content + more)
        assert read_split(GLUE_TASKS["rte"], own_root, "train") == whole
    file.write_bytes(content.replace(b"\n", b"\r"))
    assert read_split(GLUE_TASKS["rte"], own_root, "train") == whole, "lines may end as on an old Macintosh"
    file.write_bytes(content.replace(b"\n", b"\n\n", 1))
    with pytest.raises(UserError, match="line 2: 1 columns"):
        read_split(GLUE_TASKS["rte"], own_root, "train")


def test_mrpc_as_microsoft_has_it(own_root):
    """Their training file holds dev, which must not be trained on, and their test has labels."""
    folder = own_root / "MRPC"
    header, *lines = (folder / "train.tsv").read_text("utf-8-sig").splitlines()
    (folder / "train.tsv").rename(folder / "msr_paraphrase_train.txt")
    (folder / "dev.tsv").write_text("\n".join([header, *lines[:6]]) + "\n")
    (folder / "test.tsv").unlink()
    (folder / "msr_paraphrase_test.txt").write_text("\n".join([header, *lines[:3]]) + "\n", "utf-8-sig")
    train, dev, test = (read_split(GLUE_TASKS["mrpc"], own_root, split) for split in ("train", "dev", "test"))
    assert (len(train.texts[0]), train.skipped, len(dev.texts[0])) == (14, 6, 6)
    assert test.labels == [1, 1, 1]


def test_mrpc_dev_without_ids(own_root):
    """Nothing tells its pairs in Microsoft's training file."""
    folder = own_root / "MRPC"
    (folder / "train.tsv").rename(folder / "msr_paraphrase_train.txt")
    write_tsv(folder / "dev.tsv", [["Quality", "#1 String", "#2 String"], [1, "a", "b"]])
    with pytest.raises(UserError, match=r"dev\.tsv: it has no #1 ID and #2 ID"):
        read_split(GLUE_TASKS["mrpc"], own_root, "train")


def test_quotes_are_text(root):
    """They need not match, and may be at both ends of a field: `test_reads_the_layout_of_every_task` compares them."""
    columns = read_split(GLUE_TASKS["mrpc"], root, "train").texts + read_split(GLUE_TASKS["qqp"], root, "train").texts
    texts = [text for column in columns for text in column]
    assert any(text.count('"') % 2 for text in texts) and any(text.startswith('"') for text in texts)


def test_rows_that_everybody_leaves_out(own_root):
    """QQP's lines that lack fields, MNLI's without gold label. QQP's empty questions stay, as in other code."""
    header = ["id", "qid1", "qid2", "question1", "question2", "is_duplicate"]
    rows = [[0, 1, 2, "a", "b", 1], [1, 3, 4, "half"], [""], [2, 5, 6, "", "c", 0]]
    write_tsv(own_root / "QQP/dev.tsv", [header, *rows])
    assert read_split(GLUE_TASKS["qqp"], own_root, "dev") == ([["a", ""], ["b", "c"]], [1, 0], 2)
    header = ["index", "sentence1", "sentence2", "gold_label"]
    write_tsv(own_root / "MNLI/train.tsv", [header, [0, "a", "b", "-"], [1, "c", "d", "neutral"]])
    assert read_split(GLUE_TASKS["mnli"], own_root, "train") == ([["c"], ["d"]], [1], 1)


@pytest.mark.parametrize(
    ("task", "file", "rows", "message"),
    [
        ("rte", "train.tsv", [["0", "a", "b", "entailment"], ["1", "a", "b"]], r"train\.tsv, line 3: 3 columns, not"),
        ("rte", "train.tsv", [["0", "a", "b", "maybe"]], r"line 2: the label is 'maybe'; it must be one of entailment"),
        ("rte", "train.tsv", [["0", "a", " ", "entailment"]], r"line 2: the column 'sentence2' is empty"),
        ("rte", "train.tsv", [], r"train\.tsv: no example in it"),
        ("wnli", "dev.tsv", [["0", "a", "b", "-"]], r"dev\.tsv, line 2: the label is '-'"),
        ("sst2", "test.tsv", [["0", ""]], r"test\.tsv, line 2: the column 'sentence' is empty"),
        ("cola", "test.tsv", [["0", "a"], ["1"]], r"test\.tsv, line 3: 1 columns"),
        ("cola", "dev.tsv", [["a", "2", "", "Fine."]], r"dev\.tsv, line 2: the label is '2'; it must be one of 0, 1$"),
        ("qqp", "test.tsv", [["0", "a"]], r"test\.tsv, line 2: 2 columns"),
        ("stsb", "dev.tsv", [[*"01234567", "a", "5.1"]], r"line 2: the score is '5\.1'; it must be a number from 0"),
        ("stsb", "dev.tsv", [[*"01234567", "a", "nan"]], r"line 2: the score is 'nan'"),
        ("stsb", "dev.tsv", [[*"01234567", "a", "good"]], r"line 2: the score is 'good'"),
    ],
)
def test_broken_rows(own_root, task, file, rows, message):
    path = own_root / GLUE_TASKS[task].folder / file
    header = path.read_text().split("\n")[0].split("\t")
    write_tsv(path, [header, *rows])
    with pytest.raises(UserError, match=message):
        read_split(GLUE_TASKS[task], own_root, file.removesuffix(".tsv"))


@pytest.mark.parametrize("task", GLUE_TASKS)
def test_files_of_other_tasks_are_refused(root, own_root, task):
    """By columns, or by labels where the columns are the same (RTE and WNLI)."""
    file = own_root / GLUE_TASKS[task].folder / "train.tsv"
    for other in GLUE_TASKS.keys() - {task}:
        file.write_bytes((root / GLUE_TASKS[other].folder / "train.tsv").read_bytes())
        message = f"{file}(: not train of|, line 2: the label)"
        if (task, other) == ("stsb", "sst2"):
            header = "sentence1, sentence2, score"
            message = rf"not train of STS-B, which has a header with {header} .*first line is 'sentence, label'"
        with pytest.raises(UserError, match=message):
            read_split(GLUE_TASKS[task], own_root, "train")


def test_files_that_cannot_be_read(own_root):
    file = own_root / "RTE/train.tsv"
    file.write_bytes(file.read_bytes() + b"20\t\xff")
    with pytest.raises(UserError, match=r"train\.tsv, line 22: not valid UTF-8"):
        read_split(GLUE_TASKS["rte"], own_root, "train")
    file.rename(file.with_suffix(".tsv.gz"))
    with pytest.raises(UserError, match=r"train\.tsv\.gz, after line 0: broken gzip"):
        read_split(GLUE_TASKS["rte"], own_root, "train")
    file.mkdir()
    file.with_suffix(".tsv.gz").unlink()
    with pytest.raises(UserError, match=r"train\.tsv: cannot be read \(Is a directory\).*data\.root"):
        read_split(GLUE_TASKS["rte"], own_root, "train")


def test_submitted_scores_stay_within_bounds():
    assert [GLUE_TASKS["stsb"].as_submitted(score) for score in (-0.2, 2.34567, 7.0)] == ["0.000", "2.346", "5.000"]


COUNTS = {  # MANIFEST.md
    "cola": {"train": 8551, "dev": 1043, "test": 1063},
    "sst2": {"train": 67349, "dev": 872, "test": 1821},
    "mrpc": {"train": 3668, "dev": 408, "test": 1725},
    "stsb": {"train": 5749, "dev": 1500, "test": 1379},
    "qqp": {"train": 363599, "dev": 40399},
    "mnli": {"train": 9999, "dev_matched": 9815},
    "qnli": {"train": 9999, "dev": 5463},
    "rte": {"train": 2490, "dev": 277, "test": 3000},
    "wnli": {"train": 635, "dev": 71, "test": 146},
}


@pytest.mark.full
@pytest.mark.parametrize("task", GLUE_TASKS)
def test_counts_of_the_development_data(task):
    splits = read_task(GLUE_TASKS[task], str(SHARED / "glue"))
    assert {split: len(examples.texts[0]) for split, examples in splits.items()} == COUNTS[task]
    assert all(examples.skipped == 0 for examples in splits.values())
    for split, examples in splits.items():
        assert examples.labels is None or len(examples.labels) == COUNTS[task][split]
        assert (examples.labels is None) == (split in GLUE_TASKS[task].submissions and task != "mrpc")
        if split in GLUE_TASKS[task].submissions:
            assert COUNTS[task][split] == GLUE_TASKS[task].submissions[split].rows
    if task == "mnli":
        assert np.bincount(splits["dev_matched"].labels).tolist() == [3479, 3123, 3213]
