"""Texts of GLUE's train parts as a corpus, without labels: `python -m tests.benchmarks.glue_text GLUE FILE [TASK...]`.

Not of STS-B, by which similarity is measured without training, nor of MRPC, whose texts STS-B shares, unless named.
Texts of a pair stay together; ten pairs, or ten texts, are a document.
"""

import csv
import gzip
import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path

COLUMNS = {"QQP": (3, 4), "MNLI": (1, 2), "QNLI": (1, 2), "RTE": (1, 2), "SST-2": (0,), "CoLA": (3,)}
ONLY_NAMED = {"STS-B": (7, 8), "MRPC": (3, 4)}
"""The columns of each task's texts; of tasks that must be named."""
MOST = 60_000
"""Pairs, or texts, of one task."""


def texts(folder: Path, columns: tuple[int, ...], has_header: bool) -> Iterator[str]:
    """The texts of a task's files, one a line; those of a pair together."""
    for file in sorted(folder.glob("train*")):
        with gzip.open(file, "rt") if file.suffix == ".gz" else open(file) as lines:
            rows = list(csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))[has_header:]
        for row in rows:
            if len(row) > max(columns):
                yield "\n".join(" ".join(row[column].strip('"').replace('""', '"').split()) for column in columns)


def main(glue: str, file: str, *tasks: str) -> None:
    """Write the corpus."""
    drawn: list[str] = []
    for task in tasks or COLUMNS:
        columns = (COLUMNS | ONLY_NAMED)[task]
        of_task = list(dict.fromkeys(texts(Path(glue) / task, columns, task != "CoLA")))
        random.Random(0).shuffle(of_task)
        drawn += of_task[:MOST]
    random.Random(1).shuffle(drawn)
    with open(file, "w") as lines:
        for first in range(0, len(drawn), 10):
            print(json.dumps({"text": "\n".join(drawn[first : first + 10])}), file=lines)


if __name__ == "__main__":
    main(*sys.argv[1:])
