"""Sizes that recur: how few there are and what they cost; and that the model's matrix products have them."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from depthlab.models import AdaptiveAlbertConfig, AdaptiveAlbertForPreTraining
from depthlab.models.sizes import pad_rows, recurring_size
from tests.models.conftest import ragged_inputs
from tests.models.imposed import ImposedHalting


@given(st.integers(0, 10**6))
def test_a_size_is_large_enough_and_wastes_less_than_a_sixteenth(rows):
    size = recurring_size(rows)
    assert rows <= size <= rows * 17 / 16
    assert recurring_size(size) == size
    if rows <= 32:
        assert size == rows


def test_sixteen_sizes_to_an_octave():
    assert len({recurring_size(rows) for rows in range(1025, 2049)}) == 16


@pytest.mark.parametrize("shape", [(0, 3), (31, 3), (77, 3), (77,), (77, 2, 3)])
def test_the_first_rows_are_added_again(shape):
    """In half precision; in others nobody minds the shape."""
    rows = torch.randn(shape).bfloat16().requires_grad_()
    padded = pad_rows(rows)
    assert pad_rows(rows.float()).shape == shape
    assert len(padded) == recurring_size(len(rows))
    assert torch.equal(padded, rows[torch.arange(len(padded)) % max(1, len(rows))])
    (padded[: len(rows)] ** 2).sum().backward()
    torch.testing.assert_close(rows.grad, 2 * rows)


@pytest.mark.parametrize("tokens", [30, 33])
def test_gradients_are_finite_in_half_precision(sizes, tokens):
    sizes |= {"max_position_embeddings": 64}
    model = AdaptiveAlbertForPreTraining(AdaptiveAlbertConfig(**sizes, num_hidden_layers=3)).half().train()
    inputs = ragged_inputs([tokens])
    model(**inputs, labels=inputs["input_ids"]).loss.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


class Products(TorchDispatchMode):
    """Collects the shapes of all matrix products."""

    def __init__(self):
        super().__init__()
        self.shapes = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function in (torch.ops.aten.addmm.default, torch.ops.aten.mm.default, torch.ops.aten.bmm.default):
            self.shapes.add(tuple(tuple(arg.shape) for arg in args if isinstance(arg, torch.Tensor)))
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_products_of_a_training_step_recur(sizes, attention):
    """As many tokens running and predicted as round to the same: no product has a shape of its own but halting's."""
    sizes |= {"max_position_embeddings": 64}
    config = AdaptiveAlbertConfig(**sizes, num_hidden_layers=2, attn_implementation=attention)
    model = AdaptiveAlbertForPreTraining(config).bfloat16().train()
    model.albert.encoder.halting = None  # imposed depths need none
    inputs = ragged_inputs([64] * 16)
    shapes = []
    for most, predicted in ((41, 200), (46, 193)):
        depths = torch.ones(16, 64, dtype=torch.long)
        depths[:, :40] = depths[0, :most] = 2  # 600 tokens and `most` go on
        labels = torch.full((16 * 64,), -100)
        labels[:predicted] = 7
        with Products() as products:
            rule = ImposedHalting(depths)
            model(**inputs, labels=labels.view(16, 64), halting_rule=rule).loss.backward()
        shapes.append(products.shapes)
    assert shapes[0] == shapes[1]
    assert any(recurring_size(641) in shape for product in shapes[0] for shape in product)
