"""A report: paragraphs, tables and figures, as Markdown and as one HTML page that needs no network."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from depthlab.errors import UserError


class Strong(str):
    """Text of a cell that stands out."""


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        caption: What it shows and how it came about.
        header: One text a column.
        rows: Texts, as many each; where the first is empty, it is that of the row above.
        left: How many columns, from the first, are text; those after them are numbers.
    """

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: int = 1


@dataclass(frozen=True)
class Figure:
    """A picture.

    Attributes:
        caption: What it shows and how it came about.
        file: Its name beside the Markdown.
        png: The picture, for that file.
        svg: The same for the page, as an `svg` element.
    """

    caption: str
    file: str
    png: bytes
    svg: str


@dataclass(frozen=True)
class Heading:
    """Begins a section."""

    text: str


@dataclass(frozen=True)
class Bullets:
    """A list of short texts."""

    texts: Sequence[str]


Block = str | Heading | Bullets | Table | Figure
"""A text is a paragraph."""


@dataclass(frozen=True)
class Document:
    """A report."""

    title: str
    blocks: Sequence[Block]

    def to_markdown(self) -> str:
        """Readable as it is: columns are aligned."""
        return "\n\n".join([f"# {self.title}", *map(_markdown, self.blocks)]) + "\n"


def _markdown(block: Block) -> str:
    match block:
        case Heading(text):
            return f"## {text}"
        case Bullets(texts):
            return "\n".join(f"- {_escaped(text)}" for text in texts)
        case Table():
            return f"{_markdown_table(block)}\n\n{_escaped(block.caption)}"
        case Figure():
            return f"![{block.file}]({block.file})\n\n{_escaped(block.caption)}"
    return _escaped(block)


def _markdown_table(table: Table) -> str:
    cells = [[_escaped(f"**{cell}**" if isinstance(cell, Strong) else cell) for cell in row] for row in table.rows]
    header = [_escaped(cell) for cell in table.header]
    widths = [max(3, *map(len, column)) for column in zip(header, *cells, strict=True)]
    is_left = [index < table.left for index in range(len(widths))]

    def line(row: Iterable[str]) -> str:
        padded = (f"{c:<{w}}" if left else f"{c:>{w}}" for c, w, left in zip(row, widths, is_left, strict=True))
        return f"| {' | '.join(padded)} |"

    rule = ("-" * width if left else "-" * (width - 1) + ":" for width, left in zip(widths, is_left, strict=True))
    return "\n".join([line(header), line(rule), *map(line, cells)])


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def write_report(folder: str, files: Mapping[str, str | bytes], mark: str) -> list[Path]:
    """Write a report's files, all or none; an earlier report there is replaced, nothing else is.

    Args:
        folder: Where; it is made if it is not there.
        files: Contents by name.
        mark: As the HTML file has it, which tells such a report from other files.

    Returns:
        Where they lie.

    Raises:
        UserError: A file of one of these names is there, but not from such a report; or the folder can't be written.
    """
    target = Path(folder)
    pages = [target / name for name in files if name.endswith(".html")]
    try:
        if not all(page.is_file() and f'content="{mark}"' in page.read_text(errors="replace") for page in pages):
            for name in files:
                if (target / name).exists():
                    raise UserError(f"--to {folder} has a {name} that is not an earlier report's: name another directory")
        target.mkdir(parents=True, exist_ok=True)
        unfinished = {target / f".{name}.{os.getpid()}": content for name, content in files.items()}
        try:
            for path, content in unfinished.items():
                path.write_bytes(content.encode() if isinstance(content, str) else content)
            for path, name in zip(unfinished, files, strict=True):
                path.replace(target / name)
        finally:
            for path in unfinished:
                path.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"cannot write the report to --to {folder}: {error.strerror or error}") from None
    return [target / name for name in files]


def dashed(value: Any, form: str = ".1f") -> str:
    """A number as text; a dash where there is none."""
    return "-" if value is None or value != value else format(value, form)
