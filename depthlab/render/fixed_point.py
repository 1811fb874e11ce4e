"""The paper's fixed-point figure: do the states settle, and those of which tokens first?"""

from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from depthlab.kinds import TokenKind

READINGS = {  # name of the means: title, and what is compared
    "fixed_point": ("All tokens, frozen ones as 1", r"$h^{n-1}$ and $h^n$"),
    "fixed_point_running": ("Tokens that still run", r"$h^{n-1}$ and $h^n$"),
    "fixed_point_layer": ("The layer's output against its input", r"$h^{n-1}$ and $s^n$"),
}
"""Of the cosine similarity, by the names of :class:`depthlab.metrics.FixedPointMetric`."""

STYLES = {  # colours of Okabe and Ito, and a marker of its own for each, for whoever sees no colours
    TokenKind.PLAIN: ("#0072B2", "o"),
    TokenKind.MASK_MASK: ("#D55E00", "s"),
    TokenKind.MASK_RANDOM: ("#E69F00", "^"),
    TokenKind.MASK_ORIGINAL: ("#009E73", "v"),
    TokenKind.CLS: ("#CC79A7", "D"),
    TokenKind.SEP: ("#000000", "P"),
}

AREA = "area of a point: tokens left that run"


def fixed_point_figure(reading: str, similarity: Tensor, tokens: Tensor) -> Figure:
    """Mean cosine similarity of consecutive states against the iteration, one line per kind of token.

    Args:
        reading: which of :data:`READINGS`.
        similarity: [kinds, L] on the CPU, nan where there is no token.
        tokens: [kinds, L] on the CPU, how many ran in each iteration. The legend has those of the first, which are all;
            where a mean is over running tokens, the size of a point shows how many of them are left.
    """
    figure = Figure(figsize=(6, 4.2), dpi=100)
    axes = figure.add_axes((0.12, 0.12, 0.86, 0.8))  # in half the time of an automatic layout
    _draw(axes, reading, similarity, tokens)
    axes.legend(title=None if reading == "fixed_point" else AREA)
    return figure


def fixed_point_panels(similarities: Mapping[str, Tensor], tokens: Tensor) -> Figure:
    """All readings side by side, with one legend; similarities by reading, as for :func:`fixed_point_figure`."""
    figure = Figure(figsize=(5 * len(similarities), 5), dpi=100, layout="constrained")
    panels = figure.subplots(1, len(similarities), squeeze=False)[0]
    for axes, (reading, similarity) in zip(panels, similarities.items(), strict=True):
        _draw(axes, reading, similarity, tokens)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, title=AREA)
    return figure


def _draw(axes: Axes, reading: str, similarity: Tensor, tokens: Tensor) -> None:
    title, compared = READINGS[reading]
    iterations = range(1, similarity.shape[1] + 1)
    for kind, (colour, marker) in STYLES.items():
        total = int(tokens[kind, 0])
        if not total:
            continue
        share = tokens[kind] / total if reading != "fixed_point" else 1.0
        axes.plot(iterations, similarity[kind], color=colour)
        axes.scatter(iterations, similarity[kind], s=40 * share, color=colour, marker=marker)
        axes.plot([], [], color=colour, marker=marker, label=f"{kind.name.lower()} ({total:,} tokens)")
    axes.set(xlabel="iteration $n$", ylabel=f"mean cosine similarity of {compared}", title=title)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
