"""What the pages and the Markdown of reports hold."""

import re
from html.parser import HTMLParser
from pathlib import Path


class Page(HTMLParser):
    """What a browser would fetch, and how many cells each row of a table has."""

    def __init__(self, file: Path) -> None:
        """Read a page, which must be whole and need no network."""
        super().__init__()
        self.text = file.read_text()
        self.fetched, self.tables, self.open = [], [], []
        self.feed(self.text)
        self.close()
        assert not self.open and all(target.startswith("#") for target in self.fetched)
        assert self.text.count("<figure>") == self.text.count('<div class="wide">'), "what is wider than a page scrolls"
        assert not re.search(r"(src|href)=\"http|url\((?!#)|@import", self.text)

    def handle_starttag(self, tag, attributes):
        self.fetched += [value for name, value in attributes if name in ("src", "href", "xlink:href", "data")]
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append(0)
        elif tag in ("td", "th"):
            self.tables[-1][-1] += 1
        if tag not in ("meta", "link", "br", "wbr"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def sections(markdown: str) -> dict[str, str]:
    """Text by heading."""
    parts = markdown.rpartition("\n\ndepthlab ")[0].split("\n## ")[1:]
    return {part.partition("\n")[0]: part.partition("\n")[2].strip() for part in parts}


def split(line: str) -> list[str]:
    """Cells of a line of a table."""
    return [cell.strip() for cell in line.strip("|").split("|")]


def cells(markdown: str, row: str) -> list[str]:
    """Those of the first row that begins so."""
    return split(next(line for line in markdown.splitlines() if line.startswith(f"| {row} ")))


def rows(markdown: str) -> dict[tuple[str, str], list[str]]:
    """Of the first table, whose rows have two names: cells by these, the header's too."""
    table = re.search(r"^\|.*?(?=\n\n)", markdown, flags=re.DOTALL | re.MULTILINE)[0]
    found, model = {}, ""
    header, _, *lines = table.splitlines()
    for line in (header, *lines):
        first, second, *others = split(line)
        model = first or model
        found[model, second] = others
    return found
