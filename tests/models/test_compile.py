"""`torch.compile` of the compact execution: a graph an iteration, and few of them whatever the sizes."""

import pytest
import torch

from tests.models.conftest import ragged_inputs
from tests.models.variants import BASE, build, name_of

pytestmark = [pytest.mark.full, pytest.mark.usefixtures("untraced")]  # minutes of compiling

BATCHES = 200
AROUND = 2
"""Graphs around the loop: embeddings and masks before it, the pooler after."""
MADE = 13
"""Graphs for all sizes: the first iteration, those between, and at the cap; before and after the loop, for the sizes
of the first batch, any length, any batch; and up to four where one token runs or nothing is padded."""


@pytest.mark.parametrize("way", [{}, {"act_update": "accumulate", "relaxation_rank": 2}], ids=name_of)
def test_a_graph_an_iteration_for_all_sizes(way):
    """And what comes out is what the model gives uncompiled."""
    model, made, run = build(BASE, num_hidden_layers=4, attn_implementation="sdpa", **way), [], []

    def backend(graph, examples):
        made.append(graph)
        return lambda *inputs: run.append(graph) or graph.forward(*inputs)

    compiled = torch.compile(model, backend=backend)
    generator = torch.Generator().manual_seed(0)
    for number in range(BATCHES):
        rows = int(torch.randint(2, 6, (1,), generator=generator))
        lengths = torch.randint(1, 25, (rows,), generator=generator)
        inputs = ragged_inputs(lengths.tolist(), vocab_size=120)
        run.clear()
        with torch.no_grad():
            output = compiled(**inputs)
            if number % 20 == 0:
                expected = model(**inputs)
                assert torch.equal(output.depths, expected.depths)
                torch.testing.assert_close(output.last_hidden_state, expected.last_hidden_state)
        assert len(run) <= output.depths.max() + AROUND
        if number == 0:
            assert torch._dynamo.utils.counters["graph_break"].total() <= AROUND + 1
    assert len(made) <= MADE


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # torch looks, and hides it
def test_gradients():
    """Of a training step, with dropout off."""
    model, inputs, gradients = build(BASE, num_hidden_layers=3, time_penalty=0.1), ragged_inputs([9, 4, 7]), []
    for call in (model, torch.compile(model, backend="aot_eager")):
        model.zero_grad()
        output = call(**inputs)
        (output.last_hidden_state.sum() + output.ponder_cost.sum()).backward()
        gradients.append([parameter.grad for parameter in model.encoder.parameters()])
    for expected, actual in zip(*gradients, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch's own
@pytest.mark.parametrize("halting", ["act", "capacity", "route"])
def test_as_users_call_it(halting):
    """By torch's own compiler, told that sizes differ: it has to be right about every number of a rule's."""
    model = build(BASE, num_hidden_layers=3, halting=halting, act_update="accumulate")
    inputs, compiled = ragged_inputs([9, 4], vocab_size=120), torch.compile(model, dynamic=True)
    with torch.inference_mode():
        output, expected = compiled(**inputs), model(**inputs)
    assert torch.equal(output.depths, expected.depths)
    torch.testing.assert_close(output.last_hidden_state, expected.last_hidden_state)
