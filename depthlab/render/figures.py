"""Pictures of a report: the palette, and how one of matplotlib's stands in a page that may be light or dark."""

import io
import re
from pathlib import PurePath
from typing import Literal

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from depthlab.render.document import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's, which the colour-blind can tell apart, but for black and yellow."""
MARKERS = "osD^vPX"
LINE = "#d5dadf"
"""Of a grid."""

PAGE = {"#000000": "var(--ink)", "#ffffff": "var(--paper)", LINE: "var(--line)"}
"""What stands for a colour in the page: black and white, matplotlib's own, change places in the dark."""


def no_formula(name: str) -> str:
    """A name for matplotlib, to whom what stands between two dollars is a formula, and an error where it is none."""
    return name.replace("$", r"\$")


def plain(axes: Axes, lines: Literal["both", "x"] = "both") -> None:
    """Pale lines behind, and no frame on top and at the right."""
    axes.grid(axis=lines, color=LINE, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def embed(canvas: Canvas, caption: str, file: str) -> Figure:
    """A picture of matplotlib's as a block of a report, beside the Markdown in the file of that name, `NAME.png`.

    Whatever is black, white or of the colour :data:`LINE` has the page's colours there; nothing points to the network,
    and no name (`id`) in it clashes with one of a picture of another file.
    """
    png, svg = io.BytesIO(), io.StringIO()
    canvas.savefig(png, format="png", dpi=150, facecolor="white")
    with rc_context({"svg.hashsalt": "depthlab", "svg.fonttype": "none"}):
        canvas.savefig(svg, format="svg", transparent=True, metadata={"Date": None})
    return Figure(caption, file, png.getvalue(), _themed(svg.getvalue(), PurePath(file).stem))


def _themed(svg: str, name: str) -> str:
    """The element alone, with colours and names of its own."""
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r'( id="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    for colour, of_page in PAGE.items():
        svg = svg.replace(colour, of_page)
    return svg.replace("<svg ", '<svg style="fill: var(--ink)" ', 1)  # matplotlib leaves it out where it is black
