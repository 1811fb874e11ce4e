"""A text in the terminal: every piece coloured by its depth, the number below."""

from collections.abc import Iterator

from rich.cells import cell_len
from rich.color import Color
from rich.console import Console
from rich.style import Style
from rich.text import Text

from depthlab.analysis.inspection import Inspection, Piece

SHALLOW, DEEP = (255, 243, 224), (230, 97, 0)
"""One hue from pale to strong, which the colour-blind see as well; black on either is easily read."""
JOINT = "·"
"""Between the pieces of one word."""


def print_inspection(console: Console, inspection: Inspection) -> None:
    """Print a text, as wide as the console, the cap in the strongest colour; and what was found.

    Where there are no colours the numbers remain.
    """
    for line in _lines(inspection.words, console.width):
        for row in range(len(_cells(line[0]))):
            text = Text()
            for number, piece in enumerate(line):
                if number:
                    text.append(" " if piece.starts_word or row else JOINT, "dim")
                cell = _cells(piece)[row]
                padded = cell + " " * (_width(piece) - cell_len(cell))
                text.append(padded, None if row else _colour(inspection.share(piece)))
            text.rstrip()
            console.print(text, soft_wrap=True)
        console.print()
    for heading, finding in inspection.findings:
        console.print(Text.assemble((f"{heading}: ", "bold"), finding))
    console.print(Text(f"mean depth {inspection.mean_depth:.2f} over {len(inspection.pieces)} pieces", "dim"))


def _cells(piece: Piece) -> list[str]:
    """What stands in a piece's column."""
    return [piece.text, str(piece.depth), *([] if piece.label is None else [piece.label])]


def _width(piece: Piece) -> int:
    return max(cell_len(cell) for cell in _cells(piece))


def _colour(share: float) -> Style:
    red, green, blue = (round(low + share * (high - low)) for low, high in zip(SHALLOW, DEEP, strict=True))
    return Style(color=Color.from_rgb(0, 0, 0), bgcolor=Color.from_rgb(red, green, blue))


def _lines(words: list[list[Piece]], width: int) -> Iterator[list[Piece]]:
    """Break between words; within one only where it is wider than a line."""
    line: list[Piece] = []
    used = 0
    for word in words:
        needed = sum(_width(piece) + 1 for piece in word)
        if line and used + needed - 1 > width:
            yield line
            line, used = [], 0
        for piece in word:
            if line and used + _width(piece) > width:
                yield line
                line, used = [], 0
            line.append(piece)
            used += _width(piece) + 1
    yield line
