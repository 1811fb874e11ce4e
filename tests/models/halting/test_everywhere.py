"""Losses after every iteration: PABEE's and PonderNet's, against loops over iterations and tokens; random depth."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from depthlab.errors import UserError
from depthlab.models import (
    AdaptiveAlbertConfig,
    AdaptiveAlbertForMaskedLM,
    AdaptiveAlbertForPreTraining,
    AdaptiveAlbertForSequenceClassification,
    AdaptiveAlbertForTokenClassification,
    AdaptiveAlbertModel,
)
from depthlab.models.halting import Tokens
from depthlab.models.halting.random import Random
from tests.models.conftest import ragged_inputs
from tests.models.halting.loops import assert_gradients, by_rule
from tests.models.test_encoder import assert_same, run
from tests.models.variants import CLASSES, HEADS, labels_for

TAU = 0.03


def build(model_class, halting, layers="tied", cap=4, act_update="blend", **own):
    changes = {"vocab_size": 120, "time_penalty": TAU, "num_labels": 2, "classifier_dropout_prob": 0.0}
    return by_rule(halting, layers, cap, act_update, own, model_class, **changes)


def states_of(model, inputs):
    """s^1..s^L of one sequence without padding, [T, H] each."""
    base = getattr(model, "albert", model)
    state = base.encoder.project(base.embeddings(inputs["input_ids"], inputs["token_type_ids"]))
    states = []
    for n in range(1, model.config.num_hidden_layers + 1):
        state = base.encoder.apply_to_all(n, state, None)
        states.append(state[0])
    return states


def losses_of(model, states, labels):
    """By state: the sum of a sequence's losses and of how many, of tokens; and the loss of the sequence, or None."""
    tokens, sequence = [], None
    if isinstance(model, AdaptiveAlbertForSequenceClassification):
        logits = model.classifier(torch.tanh(model.albert.pooler(states[0])))
        return tokens, F.cross_entropy(logits, labels["labels"])
    for t, label in enumerate(labels["labels"].tolist()):
        if label != -100:
            token_head = isinstance(model, AdaptiveAlbertForTokenClassification)
            logits = model.classifier(states[t]) if token_head else model.predictions(states[t])
            tokens.append((t, -logits.log_softmax(-1)[label]))
    if isinstance(model, AdaptiveAlbertForPreTraining):
        logits = model.sop_classifier(torch.tanh(model.albert.pooler(states[0])))
        sequence = F.cross_entropy(logits, labels["sentence_order_label"])
    return tokens, sequence


def chances(model, states, t):
    """p_1..p_L of a token, and its divergence from the prior, by the paper's formulae."""
    rule, cap = model.config.rule, len(states)
    if model.config.halting == "every":
        return [n / (cap * (cap + 1) / 2) for n in range(1, cap + 1)], None
    weight, bias = model.albert.encoder.halting.weight[0], model.albert.encoder.halting.bias[0]
    chosen, prior = [], []
    for n in range(cap):
        q = 1 / (1 + torch.exp(-(states[n][t] @ weight + bias))) if n < cap - 1 else 1.0
        for before in range(n):
            q = q * (1 - 1 / (1 + torch.exp(-(states[before][t] @ weight + bias))))
        chosen.append(torch.as_tensor(q, dtype=torch.float64))
        prior.append((1 - rule.ponder_prior) ** n * (rule.ponder_prior if n < cap - 1 else 1.0))
    return chosen, sum(p * (torch.log(p) - math.log(g)) for p, g in zip(chosen, prior, strict=True))


rules = st.one_of(
    st.just({"halting": "every"}),
    st.fixed_dictionaries(
        {
            "halting": st.just("ponder"),
            "halts": st.sampled_from(["tokens", "sequences"]),
            "ponder_prior": st.floats(0.05, 0.9),
        }
    ),
)


@settings(max_examples=30)
@given(
    rule=rules,
    model_class=st.sampled_from(HEADS),
    layers=st.sampled_from([*CLASSES]),
    execution=st.sampled_from(["dense", "compact"]),
    lengths=st.lists(st.integers(1, 6), min_size=3, max_size=3),
    cap=st.integers(1, 5),
    seed=st.integers(0, 2**16),
)
def test_the_loss_is_that_of_a_loop_with_gradients(rule, model_class, layers, execution, lengths, cap, seed):
    torch.manual_seed(seed)
    model = build(model_class, layers=layers, cap=cap, **rule)
    model.config.execution = execution
    inputs = ragged_inputs(lengths, vocab_size=120)
    labels = labels_for(model_class, inputs)
    by_sequence = rule.get("halts") == "sequences"

    of_tokens, of_sequences, divergence = [], [], 0.0
    for row, length in enumerate(lengths):
        alone = {name: value[row : row + 1, :length] for name, value in inputs.items()}
        own = {name: value[row, :length] if value.ndim == 2 else value[row] for name, value in labels.items()}
        states = states_of(model, alone)
        per_state = [losses_of(model, state, own) for state in states]
        for number, (t, _) in enumerate(per_state[0][0]):
            weights, _ = chances(model, states, 0 if by_sequence else t)
            of_tokens.append(sum(w * tokens[number][1] for w, (tokens, _) in zip(weights, per_state, strict=True)))
        if per_state[0][1] is not None:
            weights, _ = chances(model, states, 0)
            of_sequences.append(sum(w * loss for w, (_, loss) in zip(weights, per_state, strict=True)))
        if rule["halting"] == "ponder":
            divergence = divergence + sum(chances(model, states, t)[1] for t in range(1 if by_sequence else length))
    wanted = sum(sum(losses) / len(losses) for losses in (of_tokens, of_sequences) if losses)
    wanted = wanted + TAU * divergence / len(lengths)
    gradients = torch.autograd.grad(wanted, list(model.parameters()), allow_unused=True)

    output = model(**inputs, **labels)
    assert torch.equal(output.depths, cap * inputs["attention_mask"])
    torch.testing.assert_close(output.loss, wanted, rtol=1e-10, atol=1e-10)
    output.loss.backward()
    assert_gradients(model, gradients)


def test_at_its_end_a_threshold_of_ponder_is_one_iteration():
    """Whatever rounding says of a chance of 1e-9."""
    model = build(AdaptiveAlbertModel, "ponder", halts="tokens", ponder_threshold=0.0).eval()
    torch.nn.init.constant_(model.encoder.halting.bias, -20.0)
    inputs = ragged_inputs([5, 3])
    assert torch.equal(model(**inputs).depths, inputs["attention_mask"])


@settings(max_examples=30)
@given(
    halts=st.sampled_from(["tokens", "sequences"]),
    threshold=st.floats(0.05, 0.99),
    layers=st.sampled_from([*CLASSES]),
    act_update=st.sampled_from(["blend", "accumulate"]),
    lengths=st.lists(st.integers(1, 7), min_size=1, max_size=4),
    seed=st.integers(0, 2**16),
)
def test_ponder_halts_where_its_cumulated_probability_crosses(halts, threshold, layers, act_update, lengths, seed):
    torch.manual_seed(seed)
    own = {"halts": halts, "ponder_threshold": threshold}
    model = build(AdaptiveAlbertModel, "ponder", layers, 5, act_update, **own).eval()
    model.pooler = None
    inputs = ragged_inputs(lengths, extra_padding=1)
    dense, compact = (run(model, execution, inputs) for execution in ("dense", "compact"))
    assert_same(dense, compact, 1e-10)
    assert not dense[0].ponder_cost.any() and not compact[0].ponder_cost.any()
    for row, length in enumerate(lengths):
        state = model.encoder.project(
            model.embeddings(
                inputs["input_ids"][row : row + 1, :length], inputs["token_type_ids"][row : row + 1, :length]
            )
        )[0]
        running, left, depths = set(range(length)), [1.0] * length, [0] * length
        for n in range(1, 6):
            new = model.encoder.apply_to_all(n, state[None], None)[0]
            state = torch.stack([new[t] if t in running else state[t] for t in range(length)])
            for t in sorted(running):
                depths[t] = n
                left[t] *= 1 - model.encoder.halting(state[t]).item()
            crossed = {t for t in running if 1 - left[0 if halts == "sequences" else t] > threshold}
            running -= crossed
        assert dense[0].depths[row, :length].tolist() == depths
        torch.testing.assert_close(dense[0].last_hidden_state[row, :length], state, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("halting", ["every", "random"])
def test_in_evaluation_it_is_the_fixed_model(halting):
    model = build(AdaptiveAlbertForMaskedLM, halting).eval()
    fixed = build(AdaptiveAlbertForMaskedLM, "fixed").eval()
    fixed.load_state_dict(model.state_dict())
    inputs = ragged_inputs([7, 4])
    labels = labels_for(AdaptiveAlbertForMaskedLM, inputs)
    actual, wanted = model(**inputs, **labels), fixed(**inputs, **labels)
    assert torch.equal(actual.logits, wanted.logits) and torch.equal(actual.loss, wanted.loss)
    assert torch.equal(actual.depths, wanted.depths)


def test_while_depth_is_held_the_loss_is_the_last_ones():
    model = build(AdaptiveAlbertForMaskedLM, "every")
    inputs = ragged_inputs([7, 4])
    labels = labels_for(AdaptiveAlbertForMaskedLM, inputs)
    everywhere = model(**inputs, **labels).loss
    model.albert.encoder.hold_depth = model.config.num_hidden_layers
    held = model(**inputs, **labels).loss
    assert held != everywhere and held == model.eval()(**inputs, **labels).loss


@settings(max_examples=15)
@given(
    layers=st.sampled_from([*CLASSES]),
    act_update=st.sampled_from(["blend", "accumulate"]),
    lengths=st.lists(st.integers(1, 7), min_size=1, max_size=3),
    seed=st.integers(0, 2**16),
)
def test_random_depth_is_the_fixed_model_of_that_depth(layers, act_update, lengths, seed):
    model = build(AdaptiveAlbertModel, "random", layers, 5, act_update, random_mean=2.0)
    model.pooler, inputs = None, ragged_inputs(lengths)
    outputs = []
    for execution in ("dense", "compact"):
        torch.manual_seed(seed)
        outputs.append(run(model, execution, inputs))
    assert_same(*outputs, 1e-10)
    depth = int(outputs[0][0].depths.max())
    assert torch.equal(outputs[0][0].depths, depth * inputs["attention_mask"])
    states = model.eval()(**inputs, output_hidden_states=True).hidden_states
    torch.testing.assert_close(outputs[0][0].last_hidden_state, states[depth], rtol=1e-10, atol=1e-10)


def test_random_depths_are_distributed_as_drawn():
    """Against the log-normal mixture of Poisson distributions, integrated numerically."""
    rule, draws, counts = Random("blend", random_mean=2.0, random_spread=0.5), 4000, torch.zeros(5)
    tokens = Tokens(torch.zeros(1, 2), torch.arange(2), 2, torch.ones(2, dtype=torch.bool))
    for _ in range(draws):
        depth = rule.begin(tokens).depth
        assert depth[0] == depth[1] >= 1
        counts[min(int(depth[0]), 4)] += 1
    z = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    density = torch.exp(-(z**2) / 2) / math.sqrt(2 * math.pi) * (z[1] - z[0])
    rate = torch.exp(math.log(2.0) - 0.125 + 0.5 * z)
    wanted = [float((density * torch.exp(-rate) * rate**k / math.factorial(k)).sum()) for k in range(3)]
    wanted.append(1 - sum(wanted))
    for depth, chance in enumerate(wanted, start=1):
        assert abs(counts[depth] / draws - chance) < 4 * math.sqrt(chance * (1 - chance) / draws)


@pytest.mark.parametrize(
    ("halting", "own", "message"),
    [
        ("ponder", {"ponder_prior": 1.0}, "halting_settings.ponder_prior must lie in (0, 1), got 1.0"),
        ("random", {"random_mean": 0}, "halting_settings.random_mean must be above 0, got 0.0"),
        ("random", {"random_spread": -1}, "halting_settings.random_spread must be 0 or more, got -1.0"),
    ],
)
def test_a_users_mistakes(halting, own, message):
    with pytest.raises(UserError) as caught:
        AdaptiveAlbertConfig(halting=halting, halting_settings=own)
    assert message in str(caught.value)
