"""Embeddings made narrower."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import BertConfig, BertModel

from depthlab.commands.convert import convert
from depthlab.models import AdaptiveAlbertForPreTraining, AdaptiveAlbertModel
from depthlab.models.convert.factorising import factorise
from tests.models.conftest import ragged_inputs
from tests.models.convert.conftest import BERT_SIZES, save


def embedded(model, inputs):
    return model.encoder.embedding_hidden_mapping_in(model.embeddings(**inputs))


def turn_into(embeddings, directions):
    """All their tables hold vectors in few directions, as after training on few kinds of words."""
    for table in ("word", "position", "token_type"):
        weight = getattr(embeddings, f"{table}_embeddings").weight
        weight.data = torch.randn(len(weight), len(directions)) @ directions


def test_factorised_embeddings_of_low_rank_are_exact(source, out):
    bert = save(BertModel(BertConfig(**BERT_SIZES, num_hidden_layers=1)), source)
    turn_into(bert.embeddings, torch.randn(5, 16))
    bert.save_pretrained(source)
    convert(str(source), str(out), embedding_size=6)
    ours = AdaptiveAlbertModel.from_pretrained(out, halting="fixed").eval()
    inputs = {name: value for name, value in ragged_inputs([20, 20]).items() if name != "attention_mask"}
    torch.testing.assert_close(embedded(ours, inputs), bert.embeddings(**inputs), rtol=0, atol=2e-5)
    assert ours.embeddings.word_embeddings.weight.shape == (60, 6)


def test_factorisation_is_the_least_squares_one():
    torch.manual_seed(1)
    sums = torch.randn(200, 16, dtype=torch.float64) @ torch.randn(16, 16, dtype=torch.float64) + 0.5
    importance = torch.rand(200, dtype=torch.float64)
    target = F.layer_norm(sums, (16,), eps=1e-12) @ torch.randn(16, 20, dtype=torch.float64)
    basis, weight, bias, residual = factorise(sums, target, importance, 6, 1e-12)
    target = target.numpy()
    features = F.layer_norm(sums @ basis, (6,), eps=1e-12).numpy()
    with_one = np.concatenate([features, np.ones((200, 1))], axis=1)
    root = np.sqrt(importance.numpy())[:, None]
    best = with_one @ np.linalg.lstsq(root * with_one, root * target, rcond=None)[0]
    actual = features @ weight.numpy().T + bias.numpy()
    np.testing.assert_allclose(actual, best, atol=1e-9)
    relative = np.linalg.norm(best - target) / np.linalg.norm(target - target.mean(0))
    np.testing.assert_allclose(residual, relative, rtol=1e-9)
    # the leading singular vectors of the centred, normalised, weighted rows
    rows = sums.numpy() - sums.numpy().mean(1, keepdims=True)
    _, _, vectors = np.linalg.svd(root * rows / np.linalg.norm(rows, axis=1, keepdims=True))
    np.testing.assert_allclose((basis @ basis.T).numpy(), vectors[:5].T @ vectors[:5], atol=1e-9)
    np.testing.assert_allclose((sums @ basis).mean(1).numpy(), 0, atol=1e-12)


@pytest.mark.parametrize("kind", ["albert", "adaptive_albert"])
def test_embeddings_of_an_albert_are_factorised_on(albert, source, out, tmp_path, kind):
    """What is of low rank stays the same: h^0 of every token, and what the head's first layer says of every piece."""
    directions = torch.randn(4, 8)
    turn_into(albert.albert.embeddings, directions - directions.mean(dim=1, keepdim=True))
    albert.save_pretrained(source)
    before = albert
    if kind == "adaptive_albert":
        convert(str(source), str(tmp_path / "ours"), mean_depth=3)
        before, source = AdaptiveAlbertForPreTraining.from_pretrained(tmp_path / "ours").eval(), tmp_path / "ours"
    convert(str(source), str(out), embedding_size=5)
    after = AdaptiveAlbertForPreTraining.from_pretrained(out).eval()
    assert after.albert.embeddings.word_embeddings.weight.shape == (60, 5)
    inputs = {name: value for name, value in ragged_inputs([20, 20]).items() if name != "attention_mask"}
    torch.testing.assert_close(embedded(after.albert, inputs), embedded(before.albert, inputs), rtol=0, atol=2e-5)

    def raw(model, states):
        return model.predictions.dense(states) @ model.get_input_embeddings().weight.T

    states = torch.randn(3, 16)
    torch.testing.assert_close(raw(after, states), raw(before, states), rtol=0, atol=2e-5)
    assert torch.equal(after.predictions.bias, before.predictions.bias)
    layer = "albert.encoder.albert_layer_groups.0.albert_layers.0.ffn.weight"
    assert torch.equal(after.state_dict()[layer], before.state_dict()[layer])
    if kind == "adaptive_albert":
        assert torch.equal(after.albert.encoder.halting.bias, before.albert.encoder.halting.bias)


def test_factorising_says_what_is_approximated(bert, source, out, capsys):
    convert(str(source), str(out), embedding_size=8)
    said = capsys.readouterr().out
    assert "relative residual" in said and "predictions.LayerNorm is new" in said
    assert "dropped      cls.seq_relationship.bias, cls.seq_relationship.weight" in said
    ours = AdaptiveAlbertForPreTraining.from_pretrained(out)
    assert ours.predictions.decoder.weight is ours.albert.embeddings.word_embeddings.weight
    assert torch.equal(ours.predictions.bias, bert.cls.predictions.bias)
    assert torch.equal(ours.albert.pooler.weight, bert.bert.pooler.dense.weight)
