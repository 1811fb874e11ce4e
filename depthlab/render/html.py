"""A report as one HTML page: no network, light and dark, readable on paper."""

import re
from collections.abc import Iterable, Sequence
from html import escape

from depthlab.render.document import Block, Bullets, Document, Figure, Heading, Rendered, Short, Strong, Table, colophon

STYLE = """
:root { color-scheme: light dark; --paper: #fdfdfc; --ink: #1b1f23; --soft: #5b6570; --line: #d5dade; --band: #f2f4f5; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #15181b; --ink: #e4e7ea; --soft: #9aa4ae; --line: #333a41; --band: #1e2327; }
}
* { box-sizing: border-box; }
body { background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; margin: 0 auto;
  overflow-wrap: anywhere; max-width: 88rem; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 1rem; }
h2 { font-size: 1.25rem; margin: 3rem 0 .75rem; }
h3 { font-size: 1.05rem; margin: 2rem 0 .5rem; }
p, ul { max-width: 50rem; }
nav ul { columns: 14rem; padding-left: 1.2rem; }
nav li { break-inside: avoid; }
nav a { color: inherit; }
footer { border-top: 1px solid var(--line); color: var(--soft); font-size: .875rem; margin-top: 3rem; }
figure { margin: 1.5rem 0; }
figcaption { color: var(--soft); font-size: .875rem; margin-top: .6rem; max-width: 50rem; }
.wide { overflow-wrap: normal; overflow-x: auto; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .55rem; text-align: right; vertical-align: top; white-space: nowrap; }
th { font-weight: 600; }
thead th { border-bottom: 2px solid var(--line); vertical-align: bottom; white-space: normal; }
.text { text-align: left; }
tbody { border-bottom: 1px solid var(--line); }
tbody th { max-width: 16rem; min-width: 11rem; overflow-wrap: break-word; white-space: normal; }
tbody tr:hover { background: var(--band); }
figure svg { height: auto; max-width: 100%; min-width: 40rem; }
@media print {
  :root { color-scheme: light; --paper: #fff; --ink: #000; --soft: #444; --line: #bbb; --band: #fff; }
  html { font-size: 10pt; }
  body { font-size: 10pt; max-width: none; padding: 0; }
  table { font-size: 7.5pt; }
  th, td { padding: .1rem .25rem; }
  tbody th { min-width: 6rem; }
  .wide { overflow: visible; }
  nav { display: none; }
  figure svg { min-width: 0; }
  tbody, svg { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
}
"""
"""The colours are names, which figures use, too (`var(--ink)`)."""


def to_html(document: Document, mark: str, files: Iterable[str] = ()) -> str:
    """The page; its `mark` says what has made it, and `files` are the names of those that belong to it."""
    blocks = "\n".join(map(_block, document.blocks))
    sections = [block.text for block in document.blocks if isinstance(block, Heading) and block.level == 2]
    links = "".join(f'<li><a href="#{_anchor(text)}">{escape(text)}</a></li>' for text in sections)
    contents = f"<nav><ul>{links}</ul></nav>\n" if len(sections) > 2 else ""
    title = escape(document.title)
    styles = dict.fromkeys(block.style for block in document.blocks if isinstance(block, Rendered))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="{escape(mark)}">
<meta name="files" content="{escape("/".join(files))}">
<title>{title}</title>
<style>{STYLE}{"".join(styles)}</style>
</head>
<body>
<h1>{title}</h1>
{contents}{blocks}
<footer><p>{escape(colophon())}</p></footer>
</body>
</html>
"""


def _block(block: Block) -> str:
    match block:
        case Heading(text, level):
            anchor = f' id="{_anchor(text)}"' if level == 2 else ""
            return f"<h{level}{anchor}>{escape(text)}</h{level}>"
        case Bullets(texts):
            return "<ul>\n" + "\n".join(f"<li>{_text(text)}</li>" for text in texts) + "\n</ul>"
        case Table():
            return _figure(_table(block), block.caption)
        case Figure(caption, svg=svg):
            return _figure(svg.replace("<svg ", f'<svg role="img" aria-label="{escape(block.alt)}" ', 1), caption)
        case Rendered():
            return block.html
    return f"<p>{_text(block)}</p>"


def _text(text: str) -> str:
    """What stands between backticks is code."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", escape(text))


def _anchor(heading: str) -> str:
    return re.sub(r"\W+", "-", heading.lower()).strip("-")


def _figure(content: str, caption: str) -> str:
    return f'<figure>\n<div class="wide">{content}</div>\n<figcaption>{_text(caption)}</figcaption>\n</figure>'


def _table(table: Table) -> str:
    groups: list[list[Sequence[str]]] = []
    for row in table.rows:
        if row[0] or not groups:
            groups.append([])
        groups[-1].append(row)
    header = "".join(_cell("th", text, index < table.left, ' scope="col"') for index, text in enumerate(table.header))
    bodies = "\n".join(f"<tbody>\n{_group(rows, table.left)}\n</tbody>" for rows in groups)
    return f"<table>\n<thead><tr>{header}</tr></thead>\n{bodies}\n</table>"


def _group(rows: Sequence[Sequence[str]], left: int) -> str:
    """Rows that share their first cell."""
    lines = []
    for number, (first, *rest) in enumerate(rows):
        cells = _cell("th", first, True, f' scope="rowgroup" rowspan="{len(rows)}"') if number == 0 else ""
        cells += "".join(_cell("td", text, index < left) for index, text in enumerate(rest, start=1))
        lines.append(f"<tr>{cells}</tr>")
    return "\n".join(lines)


def _cell(tag: str, text: str, is_left: bool, attributes: str = "") -> str:
    content = f"<strong>{escape(text)}</strong>" if isinstance(text, Strong) else escape(text)
    style = ' class="text"' if is_left else ""
    attributes += f' title="{escape(text.full)}"' if isinstance(text, Short) else ""
    return f"<{tag}{style}{attributes}>{content}</{tag}>"
