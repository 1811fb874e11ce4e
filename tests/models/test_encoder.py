"""The compact execution against the dense one: states, depths, remainders, hidden states and every gradient."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from depthlab.models import AdaptiveAlbertConfig, AdaptiveAlbertModel
from tests.models.conftest import SIZES, ragged_inputs
from tests.models.imposed import ImposedHalting
from tests.models.variants import CLASSES, EVERY_WAY, differing, name_of


def run(model, execution, inputs):
    """Outputs and gradients of a loss that reaches everything differentiable."""
    model = copy.deepcopy(model)
    model.config.execution = execution
    output = model(**inputs, output_hidden_states=True)
    generator = torch.Generator().manual_seed(1)
    loss = output.ponder_cost.sum()
    for states in (output.last_hidden_state, *output.hidden_states):
        loss = loss + (states * torch.randn(states.shape, generator=generator, dtype=torch.float64).to(states)).sum()
    loss.backward()
    return output, {name: parameter.grad for name, parameter in model.named_parameters()}


def assert_same(dense, compact, tolerance):
    (wanted, wanted_grads), (actual, actual_grads) = dense, compact
    assert torch.equal(wanted.depths, actual.depths)
    close = {"rtol": tolerance, "atol": tolerance}
    for name in ("last_hidden_state", "remainders", "ponder_cost"):
        torch.testing.assert_close(actual[name], wanted[name], **close)
    assert len(wanted.hidden_states) == len(actual.hidden_states)
    for one, other in zip(wanted.hidden_states, actual.hidden_states, strict=True):
        torch.testing.assert_close(other, one, **close)
    for name, gradient in wanted_grads.items():
        if gradient is None:
            assert actual_grads[name] is None
            continue
        scale = gradient.abs().max().clamp(min=1)
        torch.testing.assert_close(actual_grads[name] / scale, gradient / scale, **close, msg=name)


@settings(max_examples=60)
@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=8),
    extra_padding=st.integers(0, 3),
    cap=st.integers(1, 7),
    epsilon=st.floats(0.001, 0.6),
    bias=st.floats(-4, 4),
    spread=st.floats(0.02, 0.6),
    act_cap=st.sampled_from(["truncate", "remainder"]),
    act_update=st.sampled_from(["blend", "accumulate"]),
    attention=st.sampled_from(["sdpa", "eager"]),
    act_cost=st.sampled_from(["ponder", "expected"]),
    layers=st.sampled_from([*CLASSES]),
    seed=st.integers(0, 2**16),
)
def test_equals_dense(
    lengths, extra_padding, cap, epsilon, bias, spread, act_cap, act_update, attention, act_cost, layers, seed
):
    torch.manual_seed(seed)
    model_class, config_class = CLASSES[layers]
    config = config_class(
        **SIZES,
        num_hidden_layers=cap,
        act_epsilon=epsilon,
        act_cap=act_cap,
        act_update=act_update,
        halting_settings={"act_cost": act_cost},
        halting_bias_init=bias,
        initializer_range=spread,
        attn_implementation=attention,
    )
    model = differing(model_class(config, add_pooling_layer=False)).double()
    inputs = ragged_inputs(lengths, extra_padding=extra_padding)
    dense, compact = run(model, "dense", inputs), run(model, "compact", inputs)
    if layers != "tied" and compact[0].depths.max() < cap:  # what nobody reached has no gradient in either
        assert any(gradient is None for gradient in compact[1].values())
    assert_same(dense, compact, 1e-10)


LENGTHS = [6, 4, 1]
PATTERNS = {
    "all at once": torch.tensor([[2] * 6, [2] * 4 + [0] * 2, [2] + [0] * 5]),
    "all at the first": torch.tensor([[1] * 6, [1] * 4 + [0] * 2, [1] + [0] * 5]),
    "one token left": torch.tensor([[1, 1, 1, 5, 1, 1], [1] * 4 + [0] * 2, [1] + [0] * 5]),
    "a sequence long before the others": torch.tensor([[5, 4, 3, 5, 2, 5], [1] * 4 + [0] * 2, [4] + [0] * 5]),
    "everything at the cap": torch.tensor([[5] * 6, [5] * 4 + [0] * 2, [5] + [0] * 5]),
}


@pytest.mark.parametrize("act_update", ["blend", "accumulate"])
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_equals_dense_in_every_halting_pattern(sizes, pattern, act_update, dtype, tolerance):
    config = AdaptiveAlbertConfig(**sizes, num_hidden_layers=5, act_update=act_update, initializer_range=0.2)
    model = AdaptiveAlbertModel(config, add_pooling_layer=False).to(dtype)
    inputs = ragged_inputs(LENGTHS) | {"halting_rule": ImposedHalting(PATTERNS[pattern])}
    dense, compact = run(model, "dense", inputs), run(model, "compact", inputs)
    assert torch.equal(compact[0].depths, PATTERNS[pattern])
    assert_same(dense, compact, tolerance)


def test_attention_is_computed_by_the_implementation_asked_for(sizes, monkeypatch):
    calls = []
    original = torch.nn.functional.scaled_dot_product_attention
    counted = lambda *a, **k: calls.append(1) or original(*a, **k)  # noqa: E731
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", counted)
    for implementation in ("sdpa", "eager"):
        calls.clear()
        config = AdaptiveAlbertConfig(**sizes, attn_implementation=implementation)
        AdaptiveAlbertModel(config)(**ragged_inputs([5, 3]))
        assert bool(calls) == (implementation == "sdpa")


@pytest.mark.parametrize("execution", ["dense", "compact"])
def test_a_batch_of_nothing_but_padding(sizes, execution):
    model = AdaptiveAlbertModel(AdaptiveAlbertConfig(**sizes, execution=execution))
    inputs = ragged_inputs([4, 3])
    output = model(**inputs | {"attention_mask": torch.zeros(2, 4, dtype=torch.long)})
    assert not output.last_hidden_state.any() and not output.depths.any() and not output.ponder_cost.any()


@pytest.mark.parametrize("execution", ["dense", "compact"])
def test_autocast_keeps_halting_and_states_in_fp32(sizes, execution):
    config = AdaptiveAlbertConfig(**sizes, num_hidden_layers=4, execution=execution, act_update="accumulate")
    model = AdaptiveAlbertModel(config)
    inputs = ragged_inputs([7, 3])
    exact = model(**inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(**inputs)
    assert output.remainders.dtype == torch.float32 and output.last_hidden_state.dtype == torch.float32
    torch.testing.assert_close(output.last_hidden_state, exact.last_hidden_state, rtol=0.1, atol=0.1)
    output.last_hidden_state.sum().backward()
    half = model.bfloat16()(**inputs)
    assert half.last_hidden_state.dtype == torch.bfloat16 and half.remainders.dtype == torch.float32


@pytest.mark.parametrize("depth", [4, 2])
def test_held_depth_is_the_fixed_model(sizes, depth):
    config = AdaptiveAlbertConfig(**sizes, num_hidden_layers=4)
    model = AdaptiveAlbertModel(config).eval()
    fixed = AdaptiveAlbertModel(AdaptiveAlbertConfig(**sizes, num_hidden_layers=depth, halting="fixed")).eval()
    fixed.load_state_dict({k: v for k, v in model.state_dict().items() if "halting" not in k})
    inputs = ragged_inputs([7, 3])
    model.encoder.hold_depth = depth
    held, wanted = model(**inputs), fixed(**inputs)
    assert torch.equal(held.last_hidden_state, wanted.last_hidden_state) and torch.equal(held.depths, wanted.depths)
    model.encoder.hold_depth = None
    assert not torch.equal(model(**inputs).depths, wanted.depths)


@pytest.mark.parametrize("way", EVERY_WAY, ids=name_of)
@pytest.mark.parametrize("inputs_", ["ragged", "full"])
def test_an_observer_sees_every_iteration(sizes, way, inputs_):
    """Against the states that are returned, and HF's layer applied to them."""
    config = AdaptiveAlbertConfig(**sizes, num_hidden_layers=5, initializer_range=0.3, **way)
    model = AdaptiveAlbertModel(config, add_pooling_layer=False).double().eval()
    inputs = ragged_inputs([6, 4, 1] if inputs_ == "ragged" else [5, 5], extra_padding=inputs_ == "ragged")
    seen = []
    with torch.no_grad():
        output = model(**inputs, output_hidden_states=True, observer=seen.append)
    depths = output.depths.flatten()
    assert len(seen) == depths.max()
    states = [state.flatten(0, 1) for state in output.hidden_states]
    mask = torch.where(inputs["attention_mask"] == 1, 0.0, float("-inf")).double()[:, None, None, :]
    layer = model.encoder.albert_layer_groups[0].albert_layers[0]
    total = torch.zeros_like(depths, dtype=torch.float64)
    for n, iteration in enumerate(seen, start=1):
        assert iteration.n == n
        position = iteration.position
        assert torch.equal(position, (depths >= n).nonzero().squeeze(1))
        close = {"rtol": 1e-10, "atol": 1e-10}
        torch.testing.assert_close(iteration.before, states[n - 1][position], **close)
        torch.testing.assert_close(iteration.after, states[n][position], **close)
        with torch.no_grad():
            new = layer(output.hidden_states[n - 1], mask).flatten(0, 1)[position]
        torch.testing.assert_close(iteration.new, new, **close)
        if way.get("halting") == "fixed":
            assert iteration.probability is None
        else:
            before_last = total[position].clone()
            total[position] += iteration.probability
            assert torch.equal(total[position] > 1 - config.act_epsilon, depths[position] == n) or n == 5
            remainders = output.remainders.flatten()[position]
            ends = (depths[position] == n) & (remainders > 0)
            torch.testing.assert_close(remainders[ends], 1 - before_last[ends])
