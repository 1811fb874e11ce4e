"""Attention masks of queries and keys."""

import pytest
import torch
from transformers import AlbertModel

from tests.models.conftest import ragged_inputs
from tests.models.variants import BASE, batch, build, every_way


def forms(attends):
    """One mask [B, T, T] of bool in all the forms that say the same."""
    additive = torch.zeros(attends.shape).masked_fill(~attends, torch.finfo(torch.float32).min)[:, None]
    return {
        "3-D": attends,
        "3-D, integers": attends.long(),
        "4-D": attends[:, None],
        "4-D, integers": attends[:, None].int(),
        "4-D, by head": attends[:, None].expand(-1, 2, -1, -1),
        "4-D, added": additive,
        "4-D, added in half": torch.where(attends, 0.0, -1e4)[:, None].bfloat16(),
    }


@every_way
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_padding_in_every_form(way, implementation):
    model, inputs = build(BASE, attn_implementation=implementation, **way).double(), batch()
    expected = model(**inputs)
    attends = inputs["attention_mask"].bool()[:, None].expand(-1, 9, -1)
    for name, mask in forms(attends).items():
        output = model(**inputs | {"attention_mask": mask})
        assert torch.equal(output.depths, expected.depths), name
        torch.testing.assert_close(output.last_hidden_state, expected.last_hidden_state, msg=name)


@every_way
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_sentences_that_share_a_row(way, implementation):
    """Those that can't see each other are as if each had a row of its own."""
    model = build(BASE, attn_implementation=implementation, **way).double()
    alone = ragged_inputs([5, 3, 4], vocab_size=120)
    rows = [row[:n] for row, n in zip(alone["input_ids"], (5, 3, 4), strict=True)]
    types = [row[:n] for row, n in zip(alone["token_type_ids"], (5, 3, 4), strict=True)]
    together = {
        "input_ids": torch.stack([torch.cat(rows[:2]), torch.nn.functional.pad(rows[2], (0, 4))]),
        "token_type_ids": torch.stack([torch.cat(types[:2]), torch.nn.functional.pad(types[2], (0, 4))]),
        "position_ids": torch.tensor([[0, 1, 2, 3, 4, 0, 1, 2], [0, 1, 2, 3, 0, 0, 0, 0]]),
    }
    sentence = torch.tensor([[1, 1, 1, 1, 1, 2, 2, 2], [3, 3, 3, 3, 0, 0, 0, 0]])
    attends = (sentence[:, :, None] == sentence[:, None]) & (sentence[:, None] > 0)
    expected = model(**alone)
    real = alone["attention_mask"].bool()
    for name, mask in forms(attends).items():
        output = model(**together, attention_mask=mask)
        assert torch.equal(output.depths[sentence > 0], expected.depths[real]), name
        torch.testing.assert_close(output.last_hidden_state[sentence > 0], expected.last_hidden_state[real], msg=name)
        assert not output.last_hidden_state[sentence == 0].any()
    output.last_hidden_state.sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.grad is not None)


def test_as_albert_takes_them():
    """Masks by which each token sees those before it, at fixed depth."""
    ours = build(BASE, halting="fixed")
    theirs = AlbertModel(ours.config).eval()
    theirs.load_state_dict(ours.state_dict())
    inputs = batch([9, 9]) | {"attention_mask": torch.ones(9, 9).tril().bool()[None, None].repeat(2, 1, 1, 1)}
    torch.testing.assert_close(ours(**inputs).last_hidden_state, theirs(**inputs).last_hidden_state)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.ones(3, 8), "attention_mask must be"),
        (torch.ones(3, 1, 1, 9), "attention_mask must be"),
        (torch.ones(2, 9, 9, dtype=torch.bool), "attention_mask must be"),
        (torch.ones(9), "attention_mask must be"),
        (torch.ones(3, 9, 9), "may mean shares or scores"),
    ],
)
def test_refuses(mask, message):
    with pytest.raises(ValueError, match=message):
        build(BASE)(**batch() | {"attention_mask": mask})
