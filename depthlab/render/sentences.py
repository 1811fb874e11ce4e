"""Texts with depth colours: every piece with its number below, on the page its halting probabilities on hover."""

from html import escape
from itertools import accumulate

from depthlab.analysis.inspection import Inspection, Piece
from depthlab.render.document import Rendered

STYLE = """
:root { --deep: 230 97 0; }
.sentence { margin: 2rem 0; max-width: 62rem; break-inside: avoid; }
.pieces { display: flex; flex-wrap: wrap; gap: .4rem .35rem; }
.word { display: inline-flex; flex-wrap: wrap; }
.piece { padding: .1rem .35rem; text-align: center; border: 1px solid rgb(128 128 128 / .5);
  background: rgb(var(--deep) / calc(var(--share) * .75)); print-color-adjust: exact;
  -webkit-print-color-adjust: exact; }
.piece + .piece { border-left-style: dashed; margin-left: -1px; }
.piece b, .piece i { display: block; font-size: .75rem; font-style: normal; }
.tip { display: none; position: fixed; right: 1rem; bottom: 1rem; padding: .5rem; text-align: left; font-size: .8rem;
  background: var(--paper); color: var(--ink); border: 1px solid; }
.piece:hover .tip, .piece:focus .tip { display: block; }
.tip td { padding: 0 .5rem; text-align: right; font-variant-numeric: tabular-nums; }
.bar { display: block; width: 5rem; }
.bar span { display: block; height: .6rem; background: rgb(var(--deep)); }
dt { font-weight: bold; float: left; clear: left; margin-right: .5rem; }
dd { margin: 0; white-space: pre-wrap; }
@media print { .tip { display: none !important; } }
"""
"""Over that of the page, whose colours it uses."""

SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def sentence(inspection: Inspection) -> Rendered:
    """One text, the cap in the strongest colour; in Markdown, each piece's depth is its superscript."""
    words = inspection.words
    mean = f"{inspection.mean_depth:.2f} over {len(inspection.pieces)} pieces"
    findings = [*inspection.findings, ("mean depth", mean)]
    raised = " ".join("".join(f"{piece.text}{str(piece.depth).translate(SUPERSCRIPTS)}" for piece in w) for w in words)
    markdown = "\n".join([f"> {raised}", ">", *(f"> {heading}: {finding}  " for heading, finding in findings)])
    pieces = "\n".join(
        f'<span class="word">{"".join(_piece(piece, inspection.share(piece)) for piece in word)}</span>'
        for word in words
    )
    terms = "".join(f"<dt>{escape(heading)}</dt><dd>{escape(finding)}</dd>" for heading, finding in findings)
    html = f'<section class="sentence">\n<div class="pieces">\n{pieces}\n</div>\n<dl>{terms}</dl>\n</section>'
    return Rendered(markdown, html, STYLE)


def _piece(piece: Piece, share: float) -> str:
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
