import importlib.util
import itertools
import json
from pathlib import Path

import pytest

from depthlab.data.corpora.pretraining import PretrainingDataModule


@pytest.fixture(scope="session")
def chapters() -> list[str]:
    """The first 24 chapters of the King James Bible, one verse a line."""
    package = Path(importlib.util.find_spec("bible").origin).parent
    with (package / "data/kjv.jsonl").open(encoding="utf-8") as file:
        verses = [json.loads(line) for line in itertools.islice(file, 900)]
    grouped = itertools.groupby(verses, key=lambda verse: (verse["book"], verse["chapter"]))
    return ["\n".join(verse["text"] for verse in chapter) for _, chapter in grouped][:24]


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory, chapters: list[str]) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    (folder / "chapters.txt").write_text("\n\n".join(chapters), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def make_module(corpus: Path, cache: Path):
    """A small data module on the chapters, prepared and set up; keyword arguments change its settings."""

    def make(set_up: bool = True, **settings) -> PretrainingDataModule:
        defaults = {
            "corpus": str(corpus),
            "vocab_size": 600,
            "max_length": 64,
            "batch_size": 64,
            "validation_fraction": 0.2,
            "num_workers": 0,
            "prepare_workers": 1,
            "cache_dir": str(cache),
        }
        module = PretrainingDataModule(**(defaults | settings))
        if set_up:
            module.prepare_data()
            module.setup()
        return module

    return make
