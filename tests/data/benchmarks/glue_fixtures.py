"""Invented examples of every GLUE task, 20 each, written in the layout of GLUE's own files."""

import gzip
import random
from collections.abc import Iterable, Sequence
from pathlib import Path

VOCABULARY = """
the a crow tower river baker lake of on under old green sold paints crosses heard he She never 4 percent , and Tarn 's
Corvale "amber ""light" don't two
"""
"""Of all sentences; quotes are text, and need not match."""


def invented(labels: Sequence[str], texts: int = 1, rows: int = 20) -> list[list[str]]:
    """So many rows of a label and its texts, always the same; the labels in blocks, in the order given."""
    draw = random.Random(str((labels, texts, rows)))

    def sentence() -> str:
        return " ".join(draw.choices(VOCABULARY.split(), k=draw.randint(3, 9)))

    return [[labels[row * len(labels) // rows], *(sentence() for _ in range(texts))] for row in range(rows)]


ENTAILMENT = ("entailment", "not_entailment")
ROWS = {
    "cola": invented(("1", "0")),
    "sst2": invented(("1", "0")),
    "mrpc": invented(("1", "0"), texts=2),
    "stsb": invented([f"{5 - 0.25 * row:.3f}" for row in range(20)], texts=2),
    "qqp": invented(("1", "0"), texts=2),
    "mnli": invented(("entailment", "neutral", "contradiction"), texts=2),
    "qnli": invented(ENTAILMENT, texts=2),
    "rte": invented(ENTAILMENT, texts=2),
    "wnli": invented(("0", "1"), texts=2),
}
"""Label and the one or two texts of each row."""
SERVERS_ROWS = {"CoLA.tsv": 1063, "SST-2.tsv": 1821, "MRPC.tsv": 1725, "STS-B.tsv": 1379, "QQP.tsv": 390965}
SERVERS_ROWS |= {"MNLI-m.tsv": 9796, "MNLI-mm.tsv": 9847, "AX.tsv": 1104, "QNLI.tsv": 5463, "RTE.tsv": 3000}
SERVERS_ROWS |= {"WNLI.tsv": 146}
"""Of the test sets that are submitted, by file."""
_PAIR, _MRPC, _STSB = "index|sentence1|sentence2", "#1 ID|#2 ID", "index|genre|filename|year|old_index|source1|source2"
_MNLI = "index|promptID|pairID|genre|sentence1_binary_parse|sentence2_binary_parse|sentence1_parse|sentence2_parse"
LAYOUT = {  # folder; columns where there are labels, and where there are none
    "cola": ("CoLA", "source|label|mark|sentence", "index|sentence"),
    "sst2": ("SST-2", "sentence|label", "index|sentence"),
    "mrpc": ("MRPC", f"Quality|{_MRPC}|#1 String|#2 String", f"index|{_MRPC}|#1 String|#2 String"),
    "stsb": ("STS-B", f"{_STSB}|sentence1|sentence2|score", f"{_STSB}|sentence1|sentence2"),
    "qqp": ("QQP", "id|qid1|qid2|question1|question2|is_duplicate", "id|question1|question2"),
    "mnli": ("MNLI", f"{_MNLI}|sentence1|sentence2|label1|gold_label", f"{_MNLI}|sentence1|sentence2"),
    "qnli": ("QNLI", "index|question|sentence|label", "index|question|sentence"),
    "rte": ("RTE", f"{_PAIR}|label", _PAIR),
    "wnli": ("WNLI", f"{_PAIR}|label", _PAIR),
}
TEXTS = ("sentence", "sentence1", "sentence2", "question", "question1", "question2", "#1 String", "#2 String")
LABELS = ("label", "label1", "label2", "label3", "label4", "label5", "gold_label", "Quality", "score", "is_duplicate")


def write_tsv(file: Path, rows: Iterable[Iterable[object]], ends: str = "\n", bom: bool = False) -> Path:
    text = "".join("\t".join(map(str, row)) + ends for row in rows)
    file.parent.mkdir(parents=True, exist_ok=True)
    data = text.encode("utf-8-sig" if bom else "utf-8")
    file.write_bytes(gzip.compress(data) if file.suffix == ".gz" else data)
    return file


def write_glue(root: Path) -> Path:
    """All tasks into a folder. Train and dev are the same 20 rows; test has them in reverse, without labels.

    MNLI's mismatched splits and the diagnostic set have only the first five of those.
    """
    for task, (folder, labelled, unlabelled) in LAYOUT.items():
        rows, five = ROWS[task], slice(5)
        if task == "mnli":
            votes = labelled.replace("label1", "label1|label2|label3|label4|label5")
            _write(root / f"{folder}/train.tsv", labelled, rows)
            for kind, some in (("matched", slice(None)), ("mismatched", five)):
                _write(root / f"{folder}/dev_{kind}.tsv", votes, rows[some])
                _write(root / f"{folder}/test_{kind}.tsv", unlabelled, rows[::-1][some])
            _write(root / "diagnostic/diagnostic.tsv", _PAIR, rows[::-1][five])
        else:
            for split in ("train", "dev"):
                _write(root / f"{folder}/{split}.tsv", labelled, rows)
            _write(root / f"{folder}/test.tsv", unlabelled, rows[::-1])
    return root


def _write(file: Path, header: str, rows: list[list[str]]) -> None:
    """Of columns that are neither label nor text nobody reads more than that they differ."""
    columns = header.split("|")
    lines = []
    for number, (label, *texts) in enumerate(rows):
        rest = iter(texts)
        lines.append([label if c in LABELS else next(rest) + " " if c in TEXTS else number for c in columns])
    is_microsofts = file.parent.name == "MRPC" and "Quality" in columns
    has_header = "mark" not in columns  # CoLA's train and dev
    write_tsv(file, [columns, *lines] if has_header else lines, "\r\n" if is_microsofts else "\n", is_microsofts)
