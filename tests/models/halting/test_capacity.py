"""Expert choice: against a loop over iterations and tokens, in states, depths and gradients."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from depthlab.errors import UserError
from tests.models.conftest import ragged_inputs
from tests.models.halting.loops import assert_is_the_loop, assert_padding_takes_no_share, by_rule
from tests.models.variants import CLASSES


def build(layers="tied", cap=4, act_update="accumulate", **rule):
    return by_rule("capacity", layers, cap, act_update, rule)


def shares(capacity, cap):
    """c_1..c_L: one for all; the paper's line at 0.5; straight on from there to depth 1 and to the cap for all."""
    line = [(cap - n + 1) / cap for n in range(1, cap + 1)]
    if capacity <= 0.5:
        return [1.0] + [capacity / 0.5 * share for share in line[1:]]
    return [1.0] + [share + (capacity - 0.5) / 0.5 * (1 - share) for share in line[1:]]


def reference(model, inputs):
    """One sequence, without padding. Output [T, H] and depths, token by token."""
    rule, encoder, cap = model.config.rule, model.encoder, model.config.num_hidden_layers
    states = list(encoder.project(model.embeddings(inputs["input_ids"], inputs["token_type_ids"]))[0])
    running, wanted = list(range(len(states))), shares(rule.capacity, cap)
    depths, gates, outputs = [0] * len(states), [1.0] * len(states), [0.0] * len(states)
    for n in range(1, cap + 1):
        new = encoder.apply_to_all(n, torch.stack(states)[None], None)[0]
        scores, before = {}, list(states)
        for t in running:
            if rule.capacity_score == "router":
                weight, bias = encoder.halting.score_weight[0], encoder.halting.score_bias[0]
                scores[t] = torch.cat([before[t], new[t]]) @ weight + bias
            elif rule.capacity_score == "rarity":
                scores[t] = torch.tensor(math.log(1 + inputs["input_ids"][0, t].item()))
            else:
                scores[t] = (new[t] - before[t]).square().sum().sqrt() / before[t].square().sum().sqrt()
            depths[t] = n
            if model.config.act_update == "blend":
                outputs[t] = states[t] = before[t] + gates[t] * (new[t] - before[t])
            else:
                outputs[t] = new[t] if n == 1 else outputs[t] + gates[t] * (new[t] - before[t])
                states[t] = new[t]
        if n == cap:
            break
        most = round(wanted[n] * len(states)) if wanted[n] > 0 else 0
        most = max(most, 1) if wanted[n] > 0 else 0
        running = sorted(running, key=lambda t: (t > 0, -scores[t].item(), t))[:most]
        for t in running:
            chance = torch.sigmoid(scores[t]) if rule.capacity_score == "router" else torch.ones(())
            gates[t] = chance if model.config.act_update == "blend" else 1 + chance - chance.item()
        running.sort()
    return torch.stack(outputs), depths


rules = st.fixed_dictionaries(
    {"capacity": st.floats(0, 1), "capacity_score": st.sampled_from(["router", "router", "change", "rarity"])}
)
updates = st.sampled_from(["blend", "accumulate"])


@settings(max_examples=40)
@given(
    length=st.integers(1, 9),
    cap=st.integers(1, 5),
    rule=rules,
    act_update=updates,
    layers=st.sampled_from([*CLASSES]),
    seed=st.integers(0, 2**16),
)
def test_equals_the_loop_over_tokens(length, cap, rule, act_update, layers, seed):
    torch.manual_seed(seed)
    assert_is_the_loop(build(layers, cap, act_update, **rule), length, reference)


@settings(max_examples=40)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    extra_padding=st.integers(0, 2),
    rule=rules,
    act_update=updates,
    layers=st.sampled_from([*CLASSES]),
    left=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_both_executions_agree_and_padding_takes_no_share(lengths, extra_padding, rule, act_update, layers, left, seed):
    torch.manual_seed(seed)
    assert_padding_takes_no_share(build(layers, act_update=act_update, **rule), lengths, extra_padding, left)


@pytest.mark.parametrize("capacity", [0.1, 0.25, 0.5, 0.7, 1.0])
def test_the_mean_depth_is_what_was_asked_for(capacity):
    model, inputs = build(cap=5, capacity=capacity), ragged_inputs([20, 20])
    for depths in model(**inputs).depths:
        assert depths.double().mean().item() == pytest.approx(1 + 4 * capacity, abs=4 * 0.5 / 20)


def test_a_users_mistake():
    with pytest.raises(UserError, match=r"halting_settings\.capacity must lie in \[0, 1\], got 1.5"):
        build(capacity=1.5)
