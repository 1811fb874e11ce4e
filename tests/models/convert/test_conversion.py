"""Conversion against the models that the weights come from."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F
from transformers import (
    AlbertConfig,
    AlbertForPreTraining,
    AlbertModel,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertModel,
)

from depthlab.commands.convert import convert
from depthlab.errors import UserError
from depthlab.models import AdaptiveAlbertConfig, AdaptiveAlbertForPreTraining, AdaptiveAlbertModel
from depthlab.models.convert.conversion import halting_bias
from tests.models.conftest import SIZES, ragged_inputs
from tests.models.convert.conftest import BERT_SIZES, save

LAYER = "albert.encoder.albert_layer_groups.0.albert_layers.0."


def alike(bert):
    """All layers become the first one."""
    for layer in bert.base_model.encoder.layer:
        layer.load_state_dict(bert.base_model.encoder.layer[0].state_dict())
    return bert


@pytest.mark.parametrize("model_class", [BertModel, BertForMaskedLM])
@pytest.mark.parametrize("halting", ["act", "fixed"])
def test_bert_of_one_layer_repeated_stays_what_it_is(source, out, model_class, halting):
    bert = save(alike(model_class(BertConfig(**BERT_SIZES, num_hidden_layers=3))), source)
    alike(bert).save_pretrained(source)
    convert(str(source), str(out), halting=halting)
    # a bias of -40 never halts, so that `act` is the fixed depth
    ours = AdaptiveAlbertForPreTraining.from_pretrained(out).double().eval()
    if halting == "act":
        torch.nn.init.constant_(ours.albert.encoder.halting.bias, -40.0)
    bert.double()
    inputs = ragged_inputs([9, 4, 1])
    real = inputs["attention_mask"].bool()
    with torch.no_grad():
        wanted, actual = bert.base_model(**inputs), ours.albert(**inputs)
        torch.testing.assert_close(actual.last_hidden_state[real], wanted.last_hidden_state[real], rtol=0, atol=1e-11)
        if model_class is BertModel:
            torch.testing.assert_close(actual.pooler_output, wanted.pooler_output, rtol=0, atol=1e-11)
        else:
            logits, theirs = ours(**inputs).prediction_logits[real], bert(**inputs).logits[real]
            torch.testing.assert_close(logits, theirs, rtol=0, atol=1e-10)


def test_default_of_bert_hardly_jumps(source, out):
    """The halting unit gives a tenth of the weight to the iterations before the cap, and no token stops there."""
    save(BertModel(BertConfig(**BERT_SIZES, num_hidden_layers=6)), source)
    convert(str(source), str(out))
    inputs = ragged_inputs([9, 4])
    output = AdaptiveAlbertModel.from_pretrained(out).eval()(**inputs)
    real = inputs["attention_mask"].bool()
    assert (output.depths[real] == 6).all()
    torch.testing.assert_close(output.remainders[real], torch.full((13,), 0.9))


@pytest.mark.parametrize("tie", ["average", "first", "last", 2])
def test_tying_rules(bert, source, out, tie):
    convert(str(source), str(out), tie=tie)
    written = load_file(out / "model.safetensors")
    theirs = {"ffn.weight": "intermediate.dense.weight", "attention.query.bias": "attention.self.query.bias"}
    for ours, name in theirs.items():
        layers = np.stack([bert.state_dict()[f"bert.encoder.layer.{n}.{name}"].numpy() for n in range(3)])
        wanted = {"average": layers.mean(0), "first": layers[0], "last": layers[2], 2: layers[1]}[tie]
        np.testing.assert_allclose(written[LAYER + ours].numpy(), wanted, rtol=1e-6, atol=1e-7)


def test_configuration_and_tokenizer_come_along(source, out):
    config = BertConfig(**BERT_SIZES, num_hidden_layers=3, hidden_act="relu", layer_norm_eps=1e-6, type_vocab_size=3)
    save(BertModel(config), source)
    convert(str(source), str(out), num_hidden_layers=8)
    ours = AdaptiveAlbertConfig.from_pretrained(out)
    for name in (*BERT_SIZES, "hidden_act", "layer_norm_eps", "type_vocab_size", "pad_token_id", "bos_token_id"):
        assert getattr(ours, name) == getattr(config, name), name
    assert (ours.num_hidden_layers, ours.embedding_size, ours.hidden_dropout_prob) == (8, 16, 0.0)
    assert (ours.act_update, ours.act_cap, ours.halting) == ("accumulate", "remainder", "act")
    assert AutoTokenizer.from_pretrained(out).get_vocab() == AutoTokenizer.from_pretrained(source).get_vocab()


def test_a_new_head_compares_states_with_embeddings(source, out, capsys):
    save(BertModel(BertConfig(**BERT_SIZES, num_hidden_layers=1)), source)
    convert(str(source), str(out))
    ours = AdaptiveAlbertForPreTraining.from_pretrained(out).eval()
    states = torch.randn(3, 16)
    words = ours.albert.embeddings.word_embeddings.weight
    wanted = F.layer_norm(F.gelu(states), (16,), eps=1e-12) @ words.T
    torch.testing.assert_close(ours.predictions(states), wanted)
    said = capsys.readouterr().out
    assert "predictions.*" in said and "sop_classifier.classifier.weight" in said and "encoder.halting.bias" in said


@pytest.mark.parametrize("bare", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_albert_there_and_back_is_the_same(source, out, tmp_path, bare, dtype):
    model_class = AlbertModel if bare else AlbertForPreTraining
    config = AlbertConfig(**SIZES, num_hidden_layers=3, classifier_dropout_prob=0.3, num_hidden_groups=1)
    albert = save(model_class(config).to(dtype), source)
    convert(str(source), str(out), mean_depth=2)
    with pytest.raises(UserError, match="--halting fixed"):
        convert(str(out), str(tmp_path / "back"), **{"as": "albert"})
    convert(str(out), str(tmp_path / "back"), halting="fixed", **{"as": "albert"})
    content = json.loads((tmp_path / "back" / "config.json").read_text())
    assert content["model_type"] == "albert" and "act_epsilon" not in content
    back = AlbertForPreTraining.from_pretrained(tmp_path / "back")
    theirs = albert.state_dict() if not bare else {f"albert.{n}": w for n, w in albert.state_dict().items()}
    for name, weight in theirs.items():
        assert torch.equal(back.state_dict()[name], weight.float()), name  # to compute with; the file has the same
    for name in (*SIZES, "num_hidden_layers", "classifier_dropout_prob", "hidden_act"):
        assert getattr(back.config, name) == getattr(config, name)


def test_another_rule_leaves_the_settings_of_the_old(source, out, tmp_path):
    config = AdaptiveAlbertConfig(**SIZES, num_hidden_layers=3, halting_settings={"act_cost": "expected"})
    save(AdaptiveAlbertForPreTraining(config), source)
    convert(str(source), str(out), halting="fixed", **{"as": "albert"})
    for halting, kept in (("fixed", {}), (None, {"act_cost": "expected"})):
        convert(str(source), str(tmp_path / str(halting)), halting=halting, embedding_size=4)
        assert AdaptiveAlbertConfig.from_pretrained(tmp_path / str(halting)).halting_settings == kept


def test_albert_of_groups_needs_a_fixed_depth(source, out, tmp_path):
    albert = save(AlbertForPreTraining(AlbertConfig(**SIZES, num_hidden_layers=4, num_hidden_groups=2)), source)
    with pytest.raises(UserError, match="num_hidden_groups"):
        convert(str(source), str(out))
    convert(str(source), str(out), halting="fixed")
    convert(str(out), str(tmp_path / "back"), **{"as": "albert"})
    back = AlbertForPreTraining.from_pretrained(tmp_path / "back").state_dict()
    assert all(torch.equal(back[name], weight) for name, weight in albert.state_dict().items())


@pytest.mark.parametrize("act_cap", ["truncate", "remainder"])
@pytest.mark.parametrize("act_update", ["blend", "accumulate"])
@pytest.mark.parametrize(("cap", "mean_depth"), [(6, 2), (6, 3), (12, 11), (12, 12), (24, 7), (24, 24), (6, 9), (1, 1)])
def test_first_depths_are_the_wished_ones(sizes, act_update, act_cap, cap, mean_depth):
    config = AdaptiveAlbertConfig(**sizes, num_hidden_layers=cap, act_update=act_update, act_cap=act_cap)
    config.halting_bias_init = halting_bias(config, mean_depth)
    model = AdaptiveAlbertModel(config).eval()
    torch.nn.init.zeros_(model.encoder.halting.weight)
    inputs = ragged_inputs([7, 3])
    depths = model(**inputs).depths[inputs["attention_mask"].bool()]
    assert (depths == min(mean_depth, cap)).all()


def test_depths_stay_about_the_wished_one_when_probabilities_vary(sizes):
    config = AdaptiveAlbertConfig(**sizes, num_hidden_layers=24)
    for mean_depth in (3, 6, 12):
        logits = halting_bias(config, mean_depth) + 0.4 * torch.randn(2000, 24, dtype=torch.float64)
        halted = logits.sigmoid().cumsum(1) > 1 - config.act_epsilon
        depths = torch.where(halted.any(1), halted.int().argmax(1) + 1, 24)
        assert abs(depths.double().mean() - mean_depth) < 0.05 * mean_depth


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tie": 0}, "--tie 0: SOURCE has the layers 1 to 3"),
        ({"tie": 4}, "--tie 4: SOURCE has the layers 1 to 3"),
        ({"embedding_size": 17}, "--embedding_size must lie between 2 and SOURCE's 16, got 17"),
        ({"embedding_size": 1}, "--embedding_size must lie between 2"),
        ({"mean_depth": 1}, "--mean_depth must be at least 2"),
        ({"mean_depth": 2, "halting": "fixed"}, "--mean_depth sets the bias of a new halting unit"),
        ({"num_hidden_layers": 0}, "num_hidden_layers must be at least 1"),
        ({"as": "albert"}, "--halting fixed"),
        ({"relax": 0}, "--relax must lie between 1 and SOURCE's hidden size 16, got 0"),
        ({"relax": 17}, "--relax must lie between 1"),
        ({"relax": 4, "tie": "none"}, "leave out --tie none"),
        ({"relax": 4, "as": "albert", "halting": "fixed"}, "leave out --as"),
    ],
)
def test_settings_are_refused(bert, source, out, settings, message):
    with pytest.raises(UserError, match=message):
        convert(str(source), str(out), **settings)
    assert not out.exists()
