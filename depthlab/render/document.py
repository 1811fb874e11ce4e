"""A report: paragraphs, tables and figures, as Markdown and as one HTML page that needs no network."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from depthlab.version import VERSION


class Strong(str):
    """Text of a cell that stands out."""


class Short(str):
    """Text of a cell that stands for a longer one, which the page shows where one points at it."""

    full: str

    def __new__(cls, text: str, full: str) -> "Short":
        """A short text and the full one."""
        short = super().__new__(cls, text)
        short.full = full
        return short


@dataclass(frozen=True)
class Table:
    """A table."""

    caption: str  # what it shows and how it came about
    header: Sequence[str]  # one text a column
    rows: Sequence[Sequence[str]]  # as many each; where the first is empty, it is that of the row above
    left: int = 1  # how many columns, from the first, are text; those after them are numbers


@dataclass(frozen=True)
class Figure:
    """A picture."""

    caption: str  # what it shows and how it came about
    file: str  # its name beside the Markdown
    png: bytes  # for that file
    svg: str  # the same for the page, as an `svg` element

    @property
    def alt(self) -> str:
        """What it shows, for who can't see it: the caption's first sentence."""
        return self.caption.partition(". ")[0].rstrip(".")


@dataclass(frozen=True)
class Heading:
    """Begins a section, or with level 3 a part of one."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Bullets:
    """A list of short texts."""

    texts: Sequence[str]


@dataclass(frozen=True)
class Rendered:
    """What has a form of its own on either side."""

    markdown: str  # as it stands
    html: str  # an element
    style: str = ""  # rules for it, which stand on the page once however many blocks have them


Block = str | Heading | Bullets | Table | Figure | Rendered
"""A text is a paragraph."""


@dataclass(frozen=True)
class Document:
    """A report."""

    title: str
    blocks: Sequence[Block]

    def to_markdown(self) -> str:
        """Readable as it is: columns are aligned."""
        return "\n\n".join([f"# {self.title}", *map(to_markdown, self.blocks), colophon()]) + "\n"


def colophon() -> str:
    """Who has made a page, and when."""
    return f"depthlab {VERSION}, {date.today()}"


def to_markdown(block: Block) -> str:
    """One block, readable as it is."""
    match block:
        case Heading(text, level):
            return f"{'#' * level} {text}"
        case Bullets(texts):
            return "\n".join(f"- {_escaped(text)}" for text in texts)
        case Table():
            return f"{_markdown_table(block)}\n\n{_escaped(block.caption)}"
        case Figure():
            return f"![{_escaped(block.alt)}]({block.file})\n\n{_escaped(block.caption)}"
        case Rendered():
            return block.markdown
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


def dashed(value: Any, form: str = ".1f") -> str:
    """A number as text; a dash where there is none."""
    return "-" if value is None or value != value else format(value, form)


def with_bounds(value: float, low: float | None, high: float | None, form: str) -> str:
    """A number and, where there are any, the bounds of its interval: "1.20 [1.10, 1.30]"; a dash for no number."""
    bounds = "" if dashed(low) == "-" or dashed(high) == "-" else f" [{low:{form}}, {high:{form}}]"
    return f"{dashed(value, form)}{bounds}"


def p_value(value: float) -> str:
    """The p of a test; a dash where there is none."""
    return "< 0.001" if value < 0.001 else dashed(value, ".3f")


def spread(low: float, high: float, form: str = ".1f") -> str:
    """The lowest and the highest of several numbers: "1.1..1.3"."""
    return f"{low:{form}}..{high:{form}}"
