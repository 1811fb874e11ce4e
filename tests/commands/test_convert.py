"""The command `depthlab convert`."""

import json

import pytest
from transformers import BertConfig, BertForPreTraining

from depthlab.cli import main
from depthlab.commands.convert import convert
from depthlab.errors import UserError
from tests.disk import files_of_at_most
from tests.models.convert.conftest import BERT_SIZES, save
from tests.support import printed_by


@pytest.fixture
def source(tmp_path):
    save(BertForPreTraining(BertConfig(**BERT_SIZES, num_hidden_layers=3)), tmp_path / "source")
    return tmp_path / "source"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "nested" / "out"


def test_command_line(source, out, capsys):
    said = printed_by(["convert", str(source), str(out), "--tie", "2", "--embedding_size", "8", "--mean_depth=2"])
    for part in ("bert:", "E 8, H 16", "layer 2 of 3", "relative residual 0.", "encoder.halting.weight", str(out)):
        assert part in said
    capsys.readouterr()  # what loading shows
    with pytest.raises(SystemExit) as stopped:
        main(["convert", str(source), str(out)])
    assert stopped.value.code == 2
    message = f"OUT {out} exists already: name another directory or remove it"
    assert capsys.readouterr().err == f"depthlab: error: {message}\n"
    main(["convert", str(out), f"{out}-albert", "--as", "albert", "--halting", "fixed"])
    assert json.loads((out.parent / "out-albert" / "config.json").read_text())["model_type"] == "albert"


def test_nothing_half_written(source, out):
    with files_of_at_most(5000), pytest.raises(UserError, match=rf"cannot write to OUT {out}: .*File too large"):
        convert(str(source), str(out))
    assert not list(out.parent.iterdir())
