import copy
import importlib.util
import itertools
import json
from pathlib import Path

import pytest

from depthlab.data.benchmarks import labelled
from depthlab.data.benchmarks.glue import GlueDataModule
from depthlab.data.benchmarks.probing import ProbingDataModule
from depthlab.data.corpora.pretraining import PretrainingDataModule
from depthlab.data.treebanks import treebank
from depthlab.data.treebanks.treebank import TreebankDataModule
from tests.support import UNIGRAM, load_once

from .benchmarks.glue_fixtures import write_glue
from .benchmarks.probing_fixtures import write_probing
from .treebanks.treebank_fixtures import conllu

MODULES = {"pretraining": PretrainingDataModule, "glue": GlueDataModule, "probing": ProbingDataModule}
MODULES |= {"treebank": TreebankDataModule}


@pytest.fixture(autouse=True)
def quick_tokenizer(monkeypatch):
    """Loading takes longer than most of these tests. Copies, since use leaves its marks on a tokenizer."""
    for module in (labelled, treebank):
        monkeypatch.setattr(module, "load_tokenizer", lambda path: copy.deepcopy(load_once(path)))


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


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """GLUE's files."""
    return write_glue(tmp_path_factory.mktemp("glue"))


@pytest.fixture
def own_root(tmp_path: Path) -> Path:
    """As `root`, to write in."""
    return write_glue(tmp_path / "glue")


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory, corpus: Path, cache: Path, root: Path) -> dict[str, dict]:
    """Of a small data module of each kind."""
    folder = tmp_path_factory.mktemp("inputs")
    sentences = (" ".join(f"crow/NOUN/dep/{word}" for word in range(1 + number % 9)) for number in range(20))
    (folder / "made.conllu").write_text("".join(map(conllu, sentences)))
    tokenized = {"tokenizer": str(UNIGRAM), "batch_size": 16, "num_workers": 0}
    labelled = tokenized | {"cache_dir": str(cache)}
    return {
        "pretraining": {
            "corpus": str(corpus),
            "vocab_size": 600,
            "max_length": 64,
            "batch_size": 64,
            "validation_fraction": 0.2,
            "num_workers": 0,
            "prepare_workers": 1,
            "cache_dir": str(cache),
        },
        "glue": labelled | {"task": "rte", "root": str(root)},
        "probing": labelled | {"task": "tense", "root": str(write_probing(folder / "probing"))},
        "treebank": tokenized | {"treebank": str(folder / "made.conllu")},
    }


@pytest.fixture
def make_data(settings: dict[str, dict]):
    """A data module of a kind, prepared and set up; keyword arguments change its settings."""

    def make(kind: str, stage: str | None = "fit", set_up: bool = True, **changes):
        module = MODULES[kind](**(settings[kind] | changes))
        if set_up:
            module.prepare_data()
            module.setup(stage)
        return module

    return make


@pytest.fixture
def make_module(make_data):
    """Of pre-training."""

    def make(set_up: bool = True, **changes) -> PretrainingDataModule:
        return make_data("pretraining", set_up=set_up, **changes)

    return make
