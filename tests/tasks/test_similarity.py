"""Similarity without training, against Hugging Face's model on one sentence at a time and scipy's correlation."""

import pytest
import torch
from scipy.stats import spearmanr
from torch.nn import functional as F
from transformers import BertConfig, BertModel

from depthlab.cli import main
from depthlab.data.tokenization import load_tokenizer
from tests.data.benchmarks.glue_fixtures import ROWS, write_glue
from tests.support import arguments, error_of, write_bert


def validate(places, checkpoint, **changes):
    root = places / "glue"
    data = {"data.max_length": 128, "data.root": root, "data.cache_dir": root / "cache"}
    return arguments("validate", "similarity", data | {"model.checkpoint": places / checkpoint}, **changes)


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    folder = tmp_path_factory.mktemp("similarity")
    write_glue(folder / "glue")
    write_bert(folder / "bert")  # a piece a letter: pairs are long
    torch.manual_seed(0)
    BertModel(BertConfig.from_pretrained(folder / "bert", max_position_embeddings=128)).save_pretrained(folder / "bert")
    return folder


def printed_score(text, row):
    return float(next(line for line in text.splitlines() if f"| {row}" in line).split("|")[2])


def test_equals_sentences_read_alone(places, capsys):
    bert, tokenizer = BertModel.from_pretrained(places / "bert").eval(), load_tokenizer(str(places / "bert"))
    cosines, numbers = [], []
    for number, *sentences in ROWS["stsb"]:
        states = []
        for sentence in sentences:
            with torch.no_grad():
                states.append(bert(**tokenizer(sentence, return_tensors="pt")).last_hidden_state[0].mean(dim=0))
        cosines.append(F.cosine_similarity(*states, dim=0).item())
        numbers.append(float(number))
    main(["convert", str(places / "bert"), str(places / "untied"), "--tie", "none", "--halting", "fixed"])
    capsys.readouterr()
    for checkpoint in ("bert", "untied"):
        main(validate(places, checkpoint))
        text = capsys.readouterr().out
        assert printed_score(text, "Spearman") == pytest.approx(100 * spearmanr(cosines, numbers)[0], abs=0.006)
    assert printed_score(text, "mean depth, all") == 4


def test_depth_can_be_turned(places, capsys):
    """By what is known without training; a new router would choose by chance."""
    main(["convert", str(places / "bert"), str(places / "turned"), "--tie", "none", "--halting", "fixed"])
    capsys.readouterr()
    capacity = {"model__depth__halting": "capacity", "model__depth__act_update": "accumulate"}
    settings = '{"capacity": 0.0, "capacity_score": "change"}'
    main(validate(places, "turned", **capacity, model__depth__halting_settings=settings))
    assert printed_score(capsys.readouterr().out, "mean depth, all") == 1
    refused = error_of(capsys, validate(places, "turned", **capacity))
    assert "has no encoder.halting.score_bias" in refused and "by its own rule or one that learns nothing" in refused


def test_classes_are_refused(places, capsys):
    assert "has classes" in error_of(capsys, validate(places, "bert", data__task="sst2"))
