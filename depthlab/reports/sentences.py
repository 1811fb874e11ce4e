"""Texts with depth colours as HTML: every piece with its number below, its halting probabilities on hover."""

from collections.abc import Sequence
from html import escape
from itertools import accumulate

from depthlab.inspection import Inspection, Piece

MARK = '<meta name="generator" content="depthlab inspect">'
"""In every page of ours: only such a file may be replaced."""

STYLE = """
:root { color-scheme: light dark; --deep: 230 97 0; }
body { font: 16px/1.4 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.3rem; }
.text { margin: 2rem 0; break-inside: avoid; }
.pieces { display: flex; flex-wrap: wrap; gap: .4rem .35rem; }
.word { display: inline-flex; flex-wrap: wrap; }
.piece { padding: .1rem .35rem; text-align: center; border: 1px solid rgb(128 128 128 / .5);
  background: rgb(var(--deep) / calc(var(--share) * .75)); print-color-adjust: exact;
  -webkit-print-color-adjust: exact; }
.piece + .piece { border-left-style: dashed; margin-left: -1px; }
.piece b, .piece i { display: block; font-size: .75rem; font-style: normal; }
.tip { display: none; position: fixed; right: 1rem; bottom: 1rem; padding: .5rem; text-align: left; font-size: .8rem;
  background: Canvas; color: CanvasText; border: 1px solid; }
.piece:hover .tip, .piece:focus .tip { display: block; }
.tip td { padding: 0 .5rem; text-align: right; font-variant-numeric: tabular-nums; }
.bar { display: block; width: 5rem; }
.bar span { display: block; height: .6rem; background: rgb(var(--deep)); }
dt { font-weight: bold; float: left; clear: left; margin-right: .5rem; }
dd { margin: 0; white-space: pre-wrap; }
@media print { .tip { display: none !important; } }
"""


def page(title: str, introduction: str, inspections: Sequence[Inspection], deepest: int) -> str:
    """A page that needs nothing but itself.

    Args:
        title: of the page.
        introduction: a sentence below it.
        inspections: the texts.
        deepest: the depth of the strongest colour.
    """
    texts = "\n".join(sentence(inspection, deepest) for inspection in inspections)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
{MARK}
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<h1>{escape(title)}</h1>
<p>{escape(introduction)}</p>
{texts}
</body>
</html>
"""


def sentence(inspection: Inspection, deepest: int) -> str:
    """One text as a section, to be styled by `STYLE`."""
    words: list[list[str]] = []
    for piece in inspection.pieces:
        if piece.starts_word or not words:
            words.append([])
        words[-1].append(_piece(piece, deepest))
    pieces = "\n".join(f'<span class="word">{"".join(word)}</span>' for word in words)
    mean = f"{inspection.mean_depth:.2f} over {len(inspection.pieces)} pieces"
    findings = "".join(
        f"<dt>{escape(heading)}</dt><dd>{escape(finding)}</dd>"
        for heading, finding in [*inspection.findings, ("mean depth", mean)]
    )
    return f'<section class="text">\n<div class="pieces">\n{pieces}\n</div>\n<dl>{findings}</dl>\n</section>'


def _piece(piece: Piece, deepest: int) -> str:
    share = (piece.depth - 1) / max(deepest - 1, 1)
    label = "" if piece.label is None else f"<i>{escape(piece.label)}</i>"
    return (
        f'<span class="piece" tabindex="0" style="--share: {share:.3f}">{escape(piece.text)}<b>{piece.depth}</b>{label}'
        f'<span class="tip">{_tip(piece)}</span></span>'
    )


def _tip(piece: Piece) -> str:
    """Halting probability of each iteration, and their sum so far."""
    if not piece.halting:
        return f"{escape(piece.text)}: {piece.depth} iterations, a fixed depth"
    rows = "".join(
        f'<tr><td>{n}</td><td>{probability:.3f}</td><td><span class="bar"><span style="width: {probability:.1%}">'
        f"</span></span></td><td>{total:.3f}</td></tr>"
        for n, (probability, total) in enumerate(zip(piece.halting, accumulate(piece.halting), strict=True), start=1)
    )
    return f"{escape(piece.text)}<table><tr><td>iteration</td><td>halting</td><td></td><td>sum</td></tr>{rows}</table>"
