"""Which attention function a call takes: torch's own, but in training on a CPU in half precision."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.models.conftest import ragged_inputs
from tests.models.variants import BASE, build


class Fused(TorchDispatchMode):
    """Counts the calls of torch's fused attention."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.calls += "scaled_dot_product" in str(function)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("execution", ["dense", "compact"])
@pytest.mark.parametrize(
    ("dtype", "training", "lengths", "fused"),
    [
        (torch.float32, True, [9, 4], True),
        (torch.bfloat16, True, [9, 4], False),
        (torch.bfloat16, True, [9], False),
        (torch.bfloat16, False, [9, 4], True),
    ],
)
def test_fused_where_it_is_fast(execution, dtype, training, lengths, fused):
    """And it is the same function: with the mask of padding, and under `eager`."""
    model, inputs = build(BASE, execution=execution, attn_implementation="sdpa"), ragged_inputs(lengths, vocab_size=120)
    model.to(dtype).train(training)
    with Fused() as counted:
        output = model(**inputs)
    assert counted.calls == fused * output.depths.max()
    model.set_attn_implementation("eager")
    tolerance = 1e-5 if dtype == torch.float32 else 0.05
    torch.testing.assert_close(model(**inputs).last_hidden_state, output.last_hidden_state, rtol=0, atol=tolerance)
