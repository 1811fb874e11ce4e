"""A look at the files of a data module before anything is read."""

import pytest

from depthlab.data.benchmarks.glue import GlueDataModule
from depthlab.data.benchmarks.probing import ProbingDataModule
from depthlab.data.corpora.pretraining import PretrainingDataModule
from depthlab.data.treebanks.treebank import TreebankDataModule
from depthlab.errors import UserError


def test_what_may_be_on_the_hub_is_not_looked_for(monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    GlueDataModule("rte", tokenizer="albert/albert-base-v2").check()
    PretrainingDataModule(["wikitext", {"path": "org/books", "weight": 0.5}], tokenizer="org/name").check()


def test_what_is_there_is_not_read(tmp_path):
    (tmp_path / "RTE").mkdir()
    for name in ("past_present.txt", "text.txt", "tokenizer.model", "bank.conllu"):
        (tmp_path / name).write_bytes(b"\xff\xfe nothing of the kind")
    settings = {"tokenizer": str(tmp_path / "tokenizer.model")}
    GlueDataModule("rte", str(tmp_path), **settings).check()
    ProbingDataModule("tense", str(tmp_path), **settings).check()
    PretrainingDataModule(str(tmp_path / "text.txt"), **settings).check()
    TreebankDataModule(str(tmp_path / "bank.conllu"), **settings).check()


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (GlueDataModule("rte", "nowhere"), "nowhere/RTE: no such folder; set data.root"),
        (GlueDataModule("rte", tokenizer="no/such/tokenizer"), "no/such/tokenizer: no such file or folder"),
        (PretrainingDataModule(["sample", "no/such/folder"]), "no/such/folder: no such file or folder"),
        (TreebankDataModule(), "there is no treebank"),
    ],
)
def test_what_is_missing(module, expected):
    with pytest.raises(UserError, match=expected):
        module.check()
