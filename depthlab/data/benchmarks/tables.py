"""Tables of labelled texts: TSV, CSV, JSON lines, or a split on the Hugging Face hub; rows with columns by name."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datasets import ClassLabel, Dataset, load_dataset

from depthlab.data.lines import by_column, read_lines, read_objects, read_rows
from depthlab.errors import UserError
from depthlab.hub_errors import reason, retried

TABLES = (".tsv", ".csv", ".jsonl")
"""Each may be gzipped (.gz)."""
csv.field_size_limit(2**31 - 1)  # of characters, else 131,072

Fields = dict[str, str | None]
"""A row by column; None is null."""


def kind_of(file: Path) -> str:
    """A file's suffix, that of the compression aside, in lower case."""
    return Path(file.name.lower().removesuffix(".gz")).suffix


def read_table(file: Path, setting: str) -> Iterator[tuple[str, Fields]]:
    """Rows, each with its place: file and line.

    In TSV tabs and line ends are all the syntax there is: quotes are text. In CSV quotes go round a field with a comma,
    a quote or a line end in it. Both have a header. In JSON lines each line is an object. Blank lines are nothing.

    Args:
        file: `TABLES` lists the suffixes.
        setting: What names the file.

    Raises:
        UserError: It can't be read, or a row is not such as the header or the format wants.
    """
    read = {".jsonl": _json_lines, ".csv": _comma_separated}.get(kind_of(file), _tab_separated)
    yield from ((f"{file}, line {number}", row) for number, row in read(file, setting))


def _json_lines(file: Path, setting: str) -> Iterator[tuple[int, Fields]]:
    for number, content in read_objects(file, setting):
        yield number, {name: _as_text(value) for name, value in content.items()}


def _as_text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value)


def _comma_separated(file: Path, setting: str) -> Iterator[tuple[int, Fields]]:
    lines = csv.reader((line for _, line in read_lines(file, setting)), strict=True)
    first = 1

    def rows() -> Iterator[tuple[int, list[str]]]:
        """Each with the line where it begins: a quote that nothing closes takes in what follows."""
        nonlocal first
        for fields in lines:
            yield first, fields
            first = lines.line_num + 1

    try:
        yield from _with_header(file, rows())
    except csv.Error as error:
        raise UserError(f"{file}, line {first}: not CSV ({error}); mend the row that begins there") from None


def _tab_separated(file: Path, setting: str) -> Iterator[tuple[int, Fields]]:
    yield from _with_header(file, ((number, line.split("\t")) for number, line in read_rows(file, setting)))


def _with_header(file: Path, rows: Iterator[tuple[int, list[str]]]) -> Iterator[tuple[int, Fields]]:
    columns: list[str] = []
    for number, fields in rows:
        if not any(field.strip() for field in fields):
            continue
        if not columns:
            columns = [field.strip() for field in fields]
            ours, other = ("commas", ";\t") if kind_of(file) == ".csv" else ("tabs", ";,")
            if len(columns) == 1 and {*columns[0]} & {*other}:
                raise UserError(f"{file}, line {number}: one column, {columns[0]!r}; {ours} part columns here")
            if len({*columns}) < len(columns):
                raise UserError(f"{file}, line {number}: a column occurs twice in {', '.join(columns)}; rename one")
        else:
            yield number, by_column(f"{file}, line {number}", columns, fields)


def load_hub_split(path: str, name: str | None, split: str, way_out: str) -> Dataset:
    """A split of a data set on the Hugging Face hub.

    Raises:
        UserError: It can't be had; the message ends with the way out.
    """
    try:
        return retried(lambda: load_dataset(path, name, split=split))
    except Exception as error:  # the library raises anything from ConnectionError to ValueError here
        raise UserError(f"{path} cannot be had from the Hugging Face hub ({reason(error)}); {way_out}") from error


def hub_rows(rows: Dataset, path: str, split: str) -> Iterator[tuple[str, Fields]]:
    """Rows as `read_table` gives them, classes by their names; -1, as in test splits without labels, is null."""
    names = {name: feature.names for name, feature in rows.features.items() if isinstance(feature, ClassLabel)}
    for number, row in enumerate(rows):
        for name, known in names.items():
            row[name] = None if row[name] in (None, -1) else known[row[name]]
        yield f"{path}, {split}, row {number}", {name: _as_text(value) for name, value in row.items()}
