import logging

import pytest
import torch
from hypothesis import settings

from depthlab.data.tokenization import load_tokenizer
from tests.support import write_bert, write_corpus

logging.getLogger("lightning.pytorch").propagate = True  # imported before pytest's handlers are there, it keeps its own
torch.set_num_threads(1)  # the tests' tensors are tiny, and tests may run beside other work
settings.register_profile("shared machine", deadline=None)  # no assertion is on wall-clock time
settings.load_profile("shared machine")


def pytest_addoption(parser):
    parser.addoption("--update-golden", action="store_true", help="write tests/golden anew from this run")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus") / "corpus.txt"
    write_corpus(path)
    return path


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bert")
    write_bert(folder)
    return folder


@pytest.fixture(scope="module")
def letters(bert):
    """A WordPiece vocabulary of letters: quick to copy, and whatever else a word has in it makes all of it unknown."""
    return load_tokenizer(str(bert))


@pytest.fixture
def untraced():
    """For torch.compile: where tests catch logs, torch writes down all that it traces, for minutes."""
    logging.getLogger("torch.__trace").disabled = True
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield
    torch._dynamo.reset()
    logging.getLogger("torch.__trace").disabled = False
