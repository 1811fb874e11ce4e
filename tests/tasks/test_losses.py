"""Named losses, however a global batch is cut, against means taken at once."""

import functools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from depthlab.tasks.losses import Loss, LossSums, global_mean
from tests.support import quiet_trainer

WEIGHTS = {"ponder": 0.5}


def charge(values, predicted):
    """Of sequences: a loss each, and one that is a mean over predicted tokens."""
    return {"mlm": Loss(values.mean() ** 2, predicted, "predicted"), "ponder": Loss(values)}


def pieces(cuts, seed):
    values = torch.randn(6, generator=torch.Generator().manual_seed(seed), requires_grad=True)
    parts = [part for part in values.tensor_split(sorted(cuts)) if len(part)]
    return values, [(charge(part, predicted), len(part), predicted) for predicted, part in enumerate(parts, start=2)]


@functools.cache
def trainer(accumulate):
    return quiet_trainer(accumulate_grad_batches=accumulate)


@given(cuts=st.sets(st.integers(1, 5)), seed=st.integers(0, 2**16))
def test_gradient_and_logs_are_those_of_the_global_batch(cuts, seed):
    values, cut = pieces(cuts, seed)
    sequences, predicted = (torch.tensor(sum(piece[n] for piece in cut)) for n in (1, 2))
    window = {"window_sequences": sequences, "window_predicted": predicted}
    # Lightning divides by the pieces of a step before it sums their gradients
    parts = [global_mean(losses, WEIGHTS, window, trainer(len(cut))) / len(cut) for losses, _, _ in cut]
    mlm = sum(losses["mlm"].means * count for losses, _, count in cut) / predicted
    expected = mlm + 0.5 * values.mean()
    torch.testing.assert_close(sum(parts), expected)
    (actual,) = torch.autograd.grad(sum(parts), values, retain_graph=True)
    torch.testing.assert_close(actual, torch.autograd.grad(expected, values)[0])

    sums = LossSums()
    for losses, _, _ in cut:
        sums.add(losses)
    means = sums.read(trainer(1).strategy)
    assert {name: mean.item() for name, mean in means.items()} == pytest.approx(
        {"mlm": mlm.item(), "ponder": values.mean().item()}, rel=1e-5, abs=1e-6
    )


def test_batches_that_say_nothing_of_their_step_count_the_same():
    losses = [charge(torch.tensor([1.0, 2.0]), 3), charge(torch.tensor([3.0, 5.0]), 3)]
    parts = [global_mean(loss, WEIGHTS, {}, trainer(2)) / 2 for loss in losses]
    assert sum(parts).item() == pytest.approx((1.5**2 + 4**2) / 2 + 0.5 * 11 / 4)


def test_a_loss_that_is_gone_is_left_out_and_one_of_nothing_is_nan():
    sums, strategy = LossSums(), trainer(1).strategy
    sums.add({"a": Loss(torch.ones(2)), "b": Loss(torch.tensor(0.0), 0)})
    means = sums.read(strategy)
    assert means["a"] == 1 and means["b"].isnan()
    sums.add({"a": Loss(torch.ones(2, dtype=torch.bfloat16))})
    assert sums.read(strategy).keys() == {"a"}
