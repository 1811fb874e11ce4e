"""Hidden states as Hugging Face has them: on the way to the output, and selected one by one."""

import copy

import pytest
import torch
from transformers import AlbertModel

from tests.models.variants import BASE, batch, build, every_way


def gradients_of(model, inputs):
    """Output, and the gradient of a weighted sum of its last states with respect to each hidden state."""
    output = model(**inputs, output_hidden_states=True)
    for state in output.hidden_states:
        state.retain_grad()
    weights = torch.randn(output.last_hidden_state.shape, generator=torch.Generator().manual_seed(1)).double()
    (output.last_hidden_state * weights).sum().backward()
    return output, [state.grad for state in output.hidden_states]


@every_way
def test_hidden_states_have_gradients(way):
    model, inputs = build(BASE, **way).double(), batch()
    output, gradients = gradients_of(model, inputs)
    reached = output.depths.max()
    for n, gradient in enumerate(gradients[: reached + ("accumulate" not in way.values())]):
        assert gradient is not None and gradient.isfinite().all(), n
        assert n == reached or gradient.any(), n


@pytest.mark.parametrize("act_update", ["blend", "accumulate"])
def test_gradients_are_those_of_the_dense_execution(act_update):
    """Of states of tokens that had not halted; what comes after is a repetition."""
    model, inputs = build(BASE, act_update=act_update).double(), batch()
    both = []
    for execution in ("dense", "compact"):
        model.config.execution = execution
        both.append(gradients_of(model, inputs))
    (output, dense), (_, compact) = both
    for n in range(output.depths.max()):
        runs = output.depths > n
        torch.testing.assert_close(compact[n][runs], dense[n][runs], msg=str(n))


def test_gradients_are_alberts_at_fixed_depth():
    ours, inputs = build(BASE, halting="fixed").double(), batch([9, 9])
    theirs = AlbertModel(ours.config).double().eval()
    theirs.load_state_dict(ours.state_dict())
    for mine, expected in zip(gradients_of(ours, inputs)[1], gradients_of(theirs, inputs)[1], strict=True):
        torch.testing.assert_close(mine, expected)


@every_way
def test_asking_for_states_changes_no_weights_gradient(way):
    model, inputs = build(BASE, **way).double(), batch()
    other = copy.deepcopy(model)
    (model(**inputs).last_hidden_state ** 2).sum().backward()
    (other(**inputs, output_hidden_states=True).last_hidden_state ** 2).sum().backward()
    for (name, parameter), twin in zip(model.named_parameters(), other.parameters(), strict=True):
        if parameter.grad is not None:
            torch.testing.assert_close(twin.grad, parameter.grad, msg=name)


@every_way
@pytest.mark.parametrize("wanted", [[0, 2], (-1,), 1, [0, -2, 17], []], ids=str)
def test_some_of_them(way, wanted):
    """As HF's models do: None in place of the others."""
    model, inputs = build(BASE, **way), batch()
    everything = model(**inputs, output_hidden_states=True).hidden_states
    some = model(**inputs, output_hidden_states=wanted).hidden_states
    if wanted == []:
        assert some is None
        return
    indices = {n % 6 for n in ([wanted] if wanted == 1 else wanted) if n < 6}
    assert len(some) == len(everything) == 6
    for n, (one, expected) in enumerate(zip(some, everything, strict=True)):
        assert (one is None) == (n not in indices)
        assert one is None or torch.equal(one, expected)
