"""One early decision a token: against loops over tokens that read the equations, in states, depths and gradients."""

import math

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from depthlab.errors import UserError
from depthlab.models import AdaptiveAlbertConfig
from tests.models.conftest import SIZES, ragged_inputs
from tests.models.halting.loops import assert_is_the_loop, assert_padding_takes_no_share, by_rule
from tests.models.variants import CLASSES


def build(layers="tied", cap=4, **rule):
    return by_rule("route", layers, cap, rule=rule)


def reference(model, inputs):
    """One sequence, without padding. Output [T, H] and depths, token by token."""
    rule, encoder, cap = model.config.rule, model.encoder, model.config.num_hidden_layers
    embedded = model.embeddings(inputs["input_ids"], token_type_ids=inputs["token_type_ids"])
    states = list(encoder.project(embedded)[0])
    tokens = range(len(states))
    going, gates, depths, decided = set(tokens), [1.0] * len(states), [cap] * len(states), list(states)
    ends = rule.route_depths or [cap]
    for n in range(cap + 1):
        new = torch.stack(states)
        if n > 0:
            layer = encoder.albert_layer_groups[0 if len(encoder.albert_layer_groups) == 1 else n - 1]
            new = layer(new[None], None, own=encoder.body(n).own)[0]
        if n == rule.route_at and n < cap:
            rare = [math.log(1 + piece) for piece in inputs["input_ids"][0].tolist()]
            if rule.route_score == "router":
                weight, bias = encoder.halting.score_weight[0], encoder.halting.score_bias[0]
                scores = [torch.cat([states[t], new[t]]) @ weight + bias for t in tokens]
            elif rule.route_score == "rarity":
                scores = torch.tensor(rare)
            else:
                scores = [(new[t] - states[t]).square().sum().sqrt() / states[t].square().sum().sqrt() for t in tokens]
                if rule.route_score == "both":
                    scores = [moved * one for moved, one in zip(scores, rare, strict=True)]
            if rule.route_threshold is None:
                most = round(rule.route_share * len(states))
                most = max(most, 1) if rule.route_share > 0 else 0
                ranked = sorted(tokens, key=lambda t: (t > 0, -scores[t].item(), t))[:most]
            else:
                ranked = sorted(tokens, key=lambda t: (-scores[t].item(), t))
                ranked = [t for t in ranked if scores[t] > rule.route_threshold]
            going, most = set(ranked), len(ranked)
            for t in ranked:  # equal parts, what is left over going deeper
                reached = [end for k, end in enumerate(ends) if ranked.index(t) < most - most * k // len(ends)]
                depths[t] = min(cap, reached[-1])
            decided = list(new)
            for t in tokens:
                if t not in going:
                    gates[t], depths[t] = 0.0, n
                elif rule.route_score == "router":
                    probability = torch.sigmoid(scores[t])
                    gates[t] = 1 + probability - probability.item()
            states = list(new)
        else:
            going = {t for t in going if n <= depths[t]}
            states = [new[t] if t in going else states[t] for t in tokens]
    return torch.stack([decided[t] + gates[t] * (states[t] - decided[t]) for t in tokens]), depths


layers, share, threshold = st.sampled_from([*CLASSES]), st.floats(0, 1), st.floats(-1, 2)
rules = st.one_of(
    st.fixed_dictionaries(
        {"route_at": st.integers(1, 4), "route_score": st.sampled_from(["router", "change", "rarity", "both"])},
        optional={"route_share": share, "route_threshold": threshold},
    ),
    st.fixed_dictionaries(
        {"route_at": st.just(0), "route_score": st.sampled_from(["router", "rarity"])},
        optional={"route_share": share, "route_threshold": threshold},
    ),
    st.fixed_dictionaries(
        {"route_at": st.integers(0, 1), "route_depths": st.sampled_from([[2], [2, 4], [3, 9], [2, 3, 4]])},
        optional={"route_share": share, "route_threshold": threshold},
    ),
)


@settings(max_examples=40)
@given(length=st.integers(1, 9), rule=rules, layers=layers, seed=st.integers(0, 2**16))
@example(length=5, rule={"route_at": 4, "route_score": "rarity"}, layers="tied", seed=0)  # at the cap
def test_equals_the_loop_over_tokens(length, rule, layers, seed):
    torch.manual_seed(seed)
    assert_is_the_loop(build(layers, **rule), length, reference)


@settings(max_examples=40)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    extra_padding=st.integers(0, 2),
    rule=rules,
    layers=layers,
    left=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_both_executions_agree_and_padding_takes_no_share(lengths, extra_padding, rule, layers, left, seed):
    torch.manual_seed(seed)
    assert_padding_takes_no_share(build(layers, **rule), lengths, extra_padding, left)


def test_what_halts_before_the_first_iteration_is_real_all_the_same():
    """It is its embedding, it is attended to, and it costs no more than its key and value."""
    model, inputs = build(cap=3, route_at=0, route_share=0.5), ragged_inputs([16])
    model.config._attn_implementation = "eager"
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        output = model(**inputs)
    assert output.depths.unique().tolist() == [0, 3]
    real = inputs["attention_mask"].bool()
    assert model.flops(output.depths, real).sum() == counter.get_total_flops() > model.flops(output.depths).sum()
    embedded = model.encoder.project(model.embeddings(inputs["input_ids"], inputs["token_type_ids"]))
    halted = output.depths == 0
    torch.testing.assert_close(output.last_hidden_state[halted], embedded[halted])


def test_the_router_learns_what_going_on_is_worth():
    """The gradient of a score is that of sigmoid times what the last state brings: none where a token has halted."""
    model, inputs = build(cap=3, route_share=0.5), ragged_inputs([6])
    scores = []
    model.encoder.halting.register_forward_hook(lambda module, given, output: scores.append(output))
    towards = torch.randn(6, SIZES["hidden_size"], dtype=torch.float64)
    output = model(**inputs, output_hidden_states=True)
    (gradient,) = torch.autograd.grad((output.last_hidden_state[0] * towards).sum(), scores[0])
    first, last = output.hidden_states[1][0], output.hidden_states[-1][0]
    probability = torch.sigmoid(scores[0].detach())
    wanted = ((last - first) * towards).sum(-1) * probability * (1 - probability) * (output.depths[0] == 3)
    torch.testing.assert_close(gradient.flatten(), wanted)


def test_rarity_is_of_pieces():
    model, inputs = build(route_score="rarity"), ragged_inputs([5])
    embedded = model.embeddings.word_embeddings(inputs.pop("input_ids"))
    with pytest.raises(UserError, match="a score of rarity reads input_ids, and the model was given embeddings"):
        model(inputs_embeds=embedded, **inputs)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"act_update": "blend"}, 'halting "route" needs act_update "accumulate", not \'blend\''),
        ({"halting_settings": {"route_share": 1.5}}, "halting_settings.route_share must lie in [0, 1], got 1.5"),
        (
            {"halting_settings": {"route_at": 0, "route_score": "change"}},
            "halting_settings.route_score change needs route_at",
        ),
        ({"halting_settings": {"route_at": -1}}, "halting_settings.route_at must not be negative, got -1"),
        ({"halting_settings": {"route_depths": [3, 1]}}, "route_depths must ascend from over route_at, got [3, 1]"),
        ({"halting_settings": {"route_depths": [1]}}, "route_depths must ascend from over route_at, got [1]"),
        ({"halting_settings": {"route_score": "luck"}}, "route_score"),
    ],
)
def test_a_users_mistakes(changes, message):
    with pytest.raises(UserError) as caught:
        AdaptiveAlbertConfig(**{"halting": "route", "act_update": "accumulate"} | changes)
    assert message in str(caught.value) and "\n" not in str(caught.value)
