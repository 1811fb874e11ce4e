"""Depths of the pieces of texts as a table on the disk, in bounded memory: CSV, JSON lines or Parquet."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import pandas as pd
import pyarrow as pa
from pyarrow import parquet

from depthlab.analysis.inspection import Inspection
from depthlab.errors import UserError
from depthlab.files import check_own, writing

SCHEMA = pa.schema(
    {
        "text": pa.int64(),  # number of the text, or of its line in a file, from 0
        "position": pa.int64(),  # of the piece in the model's input, where [CLS] is 0
        "token": pa.string(),  # the piece
        "word": pa.int64(),  # number of the word in the text, special tokens counted
        "depth": pa.int64(),  # N_t, iterations
        "label": pa.string(),  # the class that a tagger gives the piece
    }
)
"""The columns."""
BEGINNINGS = {".csv": b"text,position,token", ".jsonl": b'{"text":', ".parquet": b"PAR1"}
"""How a file begins that we have written, by its suffix."""
TOGETHER = 1000
"""Texts whose rows are in memory at a time."""


def check_table(file: Path) -> None:
    """Hold the place for a table against what is there: nothing, or one of before.

    Raises:
        UserError: the suffix is none of `BEGINNINGS`, there is no such folder, or something else lies there.
    """
    if file.suffix not in BEGINNINGS:
        raise UserError(f"--to {file}: a table is one of {', '.join(BEGINNINGS)}")
    check_own("--to", file, BEGINNINGS[file.suffix], "table of depths")


def write_depths(inspections: Iterable[tuple[int, Inspection]], file: Path) -> tuple[int, float]:
    """Write a row for each piece of numbered texts; the file appears once it is complete.

    Returns:
        The number of pieces, and their mean depth.

    Raises:
        UserError: it can't be written.
    """
    pieces = iterations = 0
    with writing("--to", file) as unfinished, _writer(unfinished, file.suffix) as write:
        inspections = iter(inspections)
        while some := [*islice(inspections, TOGETHER)]:
            rows = pd.DataFrame([row for number, one in some for row in _rows(number, one)], columns=SCHEMA.names)
            pieces += len(rows)
            iterations += int(rows["depth"].sum())
            write(rows)
    return pieces, iterations / pieces


def _rows(number: int, inspection: Inspection) -> Iterator[tuple[int, int, str, int, int, str | None]]:
    position = 0
    for word, pieces in enumerate(inspection.words):
        for piece in pieces:
            yield number, position, piece.text, word, piece.depth, piece.label
            position += 1


@contextmanager
def _writer(file: Path, suffix: str) -> Iterator[Callable[[pd.DataFrame], object]]:
    """What adds rows to the file."""
    if suffix == ".parquet":
        with parquet.ParquetWriter(file, SCHEMA) as table:
            yield lambda rows: table.write_table(pa.Table.from_pandas(rows, SCHEMA, preserve_index=False))
    else:
        with file.open("w", encoding="utf-8", newline="") as stream:
            if suffix == ".csv":
                yield lambda rows: rows.to_csv(stream, index=False, header=stream.tell() == 0)
            else:
                yield lambda rows: rows.to_json(stream, orient="records", lines=True, force_ascii=False)
