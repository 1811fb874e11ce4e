"""The halting rule against PAPER's equations, written out token by token with Python's floats."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from depthlab.models.halting import Look, Tokens
from depthlab.models.halting.act import Act, ActState, HaltingUnit
from tests.models.halting.loops import assert_is_the_loop, by_rule
from tests.models.variants import CLASSES


def reference(probabilities, new_states, embedding, epsilon, act_cap, act_update):
    """One token. N, R, the weights lambda^1..lambda^L, the output; by the equations, in their order."""
    cap = len(probabilities)
    running_sum, n_stop, crossed = 0.0, cap, False
    for n in range(1, cap + 1):
        running_sum += probabilities[n - 1]
        if running_sum > 1 - epsilon:
            n_stop, crossed = n, True
            break
    rest = 1 - sum(probabilities[: n_stop - 1])
    remainder = rest if crossed or act_cap == "remainder" else 0.0
    weights = []
    for n in range(1, cap + 1):
        if n < n_stop:
            weights.append(probabilities[n - 1])
        elif n == n_stop:
            weights.append(rest if crossed or act_cap == "remainder" else probabilities[n - 1])
        else:
            weights.append(0.0)
    if act_update == "blend":
        state = embedding
        for weight, new in zip(weights, new_states, strict=True):
            state = weight * new + (1 - weight) * state
    else:
        state = sum(weight * new for weight, new in zip(weights, new_states, strict=True))
    return n_stop, remainder, weights, state


def by_steps(probabilities, new_states, embedding, epsilon, act_cap, act_update, act_cost="ponder"):
    """The same by the rule's steps, for [T] tokens at once; probabilities and new_states are [L, T]."""
    rule = Act(act_epsilon=epsilon, act_cap=act_cap, act_cost=act_cost)
    cap = len(probabilities)
    running = torch.ones_like(embedding, dtype=torch.bool)
    remembered, state = rule.begin(Tokens(embedding, torch.arange(len(embedding)), len(embedding), running)), embedding
    mixture, remainders = torch.zeros_like(embedding), torch.zeros_like(embedding)
    depths, costs = torch.zeros_like(embedding, dtype=torch.long), torch.zeros_like(embedding)
    weights = []
    for n, (probability, new) in enumerate(zip(probabilities, new_states, strict=True), start=1):
        step = rule.step(remembered, Look(n, n == cap, state, new, probability))
        weight = torch.where(running, step.weight, 0.0)
        weights.append(weight)
        state = weight * new + (1 - weight) * state
        mixture = mixture + weight * new
        depths = depths + running
        remainders = remainders + torch.where(running, step.remainder * step.halted, 0.0)
        if step.cost is not None:
            costs = costs + torch.where(running, step.cost, 0.0)
        remembered = step.state
        running = running & ~step.halted
    assert not running.any()
    return depths, remainders, torch.stack(weights), state if act_update == "blend" else mixture, costs


def of_a_model(model, inputs):
    """One sequence, without padding. Output [T, H], depths and remainders [T], token by token."""
    config, encoder = model.config, model.encoder
    states = list(encoder.project(model.embeddings(inputs["input_ids"], inputs["token_type_ids"]))[0])
    tokens, cap = range(len(states)), config.num_hidden_layers
    running, outputs, depths = set(tokens), [torch.zeros_like(state) for state in states], [0] * len(states)
    sums, remainders = [torch.zeros((), dtype=torch.float64) for _ in tokens], [torch.zeros(()) for _ in tokens]
    for n in range(1, cap + 1):
        new = encoder.apply_to_all(n, torch.stack(states)[None], None)[0]
        for t in sorted(running):
            logit = encoder.halting.weight[0] @ new[t] + encoder.halting.bias[0] + config.rule.act_shift
            weight, crosses = torch.sigmoid(logit), sums[t] + torch.sigmoid(logit) > 1 - config.act_epsilon
            if crosses or (n == cap and config.act_cap == "remainder"):
                weight = remainders[t] = 1 - sums[t]
            sums[t], depths[t] = sums[t] + torch.sigmoid(logit), n
            if config.act_update == "blend":
                outputs[t] = states[t] = states[t] + weight * (new[t] - states[t])
            else:
                outputs[t], states[t] = outputs[t] + weight * new[t], new[t]
            if crosses:
                running.remove(t)
    return torch.stack(outputs), depths, torch.stack([one.double() for one in remainders])


@settings(max_examples=40)
@given(
    length=st.integers(1, 9),
    cap=st.integers(1, 5),
    shift=st.floats(-2, 2),
    epsilon=st.sampled_from([0.01, 0.3]),
    act_cap=st.sampled_from(["truncate", "remainder"]),
    act_update=st.sampled_from(["blend", "accumulate"]),
    layers=st.sampled_from([*CLASSES]),
    seed=st.integers(0, 2**16),
)
def test_a_model_equals_the_loop_over_tokens(length, cap, shift, epsilon, act_cap, act_update, layers, seed):
    """Its dial turned, too."""
    torch.manual_seed(seed)
    given = {"rule": {"act_shift": shift}, "act_epsilon": epsilon, "act_cap": act_cap}
    assert_is_the_loop(by_rule("act", layers, cap, act_update, **given), length, of_a_model)


unit = st.floats(0, 1, allow_subnormal=False)
value = st.floats(-3, 3, allow_subnormal=False)


@given(
    tokens=st.integers(1, 9).flatmap(
        lambda cap: st.lists(
            st.tuples(st.lists(unit, min_size=cap, max_size=cap), st.lists(value, min_size=cap, max_size=cap), value),
            min_size=1,
            max_size=5,
        )
    ),
    epsilon=st.floats(1e-4, 0.9),
    act_cap=st.sampled_from(["truncate", "remainder"]),
    act_update=st.sampled_from(["blend", "accumulate"]),
)
def test_equals_the_equations_with_gradients(tokens, epsilon, act_cap, act_update):
    tau = 0.1
    expected_grads, expected = [], []
    for probabilities, new_states, embedding in tokens:
        leaves = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (probabilities, new_states)]
        n, remainder, weights, state = reference(
            list(leaves[0]), list(leaves[1]), torch.tensor(embedding, dtype=torch.float64), epsilon, act_cap, act_update
        )
        remainder = torch.as_tensor(remainder, dtype=torch.float64)
        (state**2 + tau * (n + remainder)).backward()
        zero = torch.zeros(len(probabilities), dtype=torch.float64)
        weights = [torch.as_tensor(weight).item() for weight in weights]
        expected.append((n, remainder.item(), weights, state.item()))
        expected_grads.append([zero if leaf.grad is None else leaf.grad for leaf in leaves])

    columns = [torch.tensor(list(column), dtype=torch.float64) for column in zip(*tokens, strict=True)]
    probabilities, new_states = (column.T.clone().requires_grad_() for column in columns[:2])
    depths, remainders, weights, state, _ = by_steps(
        probabilities, new_states, columns[2], epsilon, act_cap, act_update
    )
    ponder_cost = (depths + remainders).sum()
    ((state**2).sum() + tau * ponder_cost).backward()

    assert depths.tolist() == [n for n, *_ in expected]
    close = {"rel_tol": 1e-12, "abs_tol": 1e-12}
    for t, (_, remainder, lambdas, output) in enumerate(expected):
        assert math.isclose(remainders[t].item(), remainder, **close)
        assert math.isclose(state[t].item(), output, **close)
        torch.testing.assert_close(weights[:, t].detach(), torch.tensor(lambdas, dtype=torch.float64))
        if remainder:
            assert math.isclose(sum(lambdas), 1, **close)
        for actual, wanted in zip((probabilities.grad[:, t], new_states.grad[:, t]), expected_grads[t], strict=True):
            torch.testing.assert_close(actual, wanted, rtol=1e-10, atol=1e-12)
    assert math.isclose(ponder_cost.item(), sum(n + remainder for n, remainder, *_ in expected), **close)


@given(probabilities=st.lists(unit, min_size=1, max_size=9), epsilon=st.floats(1e-4, 0.9))
def test_expected_depth_is_the_mean_by_the_weights_with_a_gradient(probabilities, epsilon):
    """sum_n n lambda^n, written out, where the last iteration has the remainder."""
    expected = torch.tensor(probabilities, dtype=torch.float64, requires_grad=True)
    zeros = torch.zeros(len(probabilities), dtype=torch.float64)
    _, _, weights, _ = reference(list(expected), list(zeros), zeros[0], epsilon, "remainder", "blend")
    wanted = sum(n * weight for n, weight in enumerate(weights, start=1))
    actual = torch.tensor(probabilities, dtype=torch.float64, requires_grad=True)
    costs = by_steps(actual[:, None], zeros[:, None], zeros[:1], epsilon, "truncate", "blend", "expected")[-1]
    torch.testing.assert_close(costs[0], torch.as_tensor(wanted, dtype=torch.float64), rtol=1e-12, atol=1e-12)
    if isinstance(wanted, torch.Tensor) and wanted.requires_grad:
        wanted.backward()
        costs[0].backward()
        torch.testing.assert_close(actual.grad, expected.grad, rtol=1e-12, atol=1e-12)


def test_depth_one_gives_the_halting_unit_no_gradient():
    probability = torch.tensor([0.995], dtype=torch.float64, requires_grad=True)
    step = Act().step(ActState(torch.zeros(1)), Look(1, False, None, None, probability))
    assert step.halted.item() and step.weight.item() == 1 and step.remainder.item() == 1
    assert not step.weight.requires_grad or torch.autograd.grad(step.weight.sum(), probability)[0].item() == 0


def test_threshold_is_strict():
    look = Look(2, False, None, None, torch.tensor([0.5, 0.75]))
    step = Act(act_epsilon=0.25).step(ActState(torch.tensor([0.25, 0.25])), look)
    assert step.halted.tolist() == [False, True]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_unit_computes_in_fp32_at_least(dtype):
    unit = HaltingUnit(64).to(dtype)
    states = torch.randn(5, 7, 64).to(dtype)
    wanted = torch.sigmoid(states.double() @ unit.weight.double().T + unit.bias.double()).squeeze(-1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = unit(states)
    assert actual.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(actual.double(), wanted, rtol=1e-5, atol=1e-6)
