"""Rules for after training, against the plain model's layer in a loop over iterations and tokens."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AlbertConfig, AlbertForSequenceClassification

from depthlab.errors import UserError
from depthlab.models import (
    AdaptiveAlbertForMaskedLM,
    AdaptiveAlbertForSequenceClassification,
    AdaptiveAlbertForTokenClassification,
    AdaptiveAlbertModel,
)
from depthlab.models.checkpoint import load_checkpoint
from depthlab.models.untied import AdaptiveBertConfig
from tests.models.conftest import SIZES, ragged_inputs
from tests.models.halting.loops import by_rule
from tests.models.test_encoder import assert_same, run
from tests.models.variants import CLASSES

CAP = 5


def build(model_class, rule, layers="tied", num_labels=3, act_update="blend", **own):
    return by_rule(rule, layers, CAP, act_update, own, model_class, num_labels=num_labels).eval()


def logits_of(model, state):
    """Of one token, as a list of numbers."""
    if isinstance(model, AdaptiveAlbertForMaskedLM):
        return model.predictions(state).tolist()
    if isinstance(model, AdaptiveAlbertForSequenceClassification):
        state = torch.tanh(model.albert.pooler(state))
    return model.classifier(state).tolist()


def stands(model, rule, n, before, new, memory):
    """Whether one token stops, in scalar terms; memory is a dictionary of its own."""
    own, name = model.config.rule, rule
    if name == "change":
        step = [b - a for a, b in zip(before.tolist(), new.tolist(), strict=True)]
        last = memory.get("step", [0.0] * len(step))
        memory["step"] = step
        moved = step if own.change_order == 1 else [a - b for a, b in zip(step, last, strict=True)]
        return math.hypot(*moved) / math.hypot(*before.tolist()) < own.change_threshold
    logits = logits_of(model, new)
    odds = [math.exp(x - max(logits)) for x in logits]
    chances = sorted((odd / sum(odds) for odd in odds), reverse=True)
    if name == "entropy":
        return -sum(p * math.log(p) for p in chances) < own.entropy_threshold
    if name == "margin":
        return chances[0] - chances[1] > own.margin_threshold
    if len(logits) == 1:
        same = "said" in memory and abs(logits[0] - memory["said"]) < own.patience_within
        memory["said"] = logits[0]
    else:
        same = memory.get("said") == logits.index(max(logits))
        memory["said"] = logits.index(max(logits))
    memory["stood"] = memory.get("stood", 0) + 1 if same else 0
    return memory["stood"] >= own.patience


def reference(model, rule, inputs):
    """One sequence, without padding: last states [T, H] and depths."""
    base = model.albert
    embedded = base.embeddings(inputs["input_ids"], token_type_ids=inputs["token_type_ids"])
    states = list(base.encoder.project(embedded)[0])
    running, depths = set(range(len(states))), [0] * len(states)
    memories = [{} for _ in states]
    for n in range(1, CAP + 1):
        new = base.encoder.apply_to_all(n, torch.stack(states)[None], None)[0]
        judged = [0] if model.config.rule.halts == "sequences" else sorted(running)
        stopped = {t for t in judged if stands(model, rule, n, states[t], new[t], memories[t])}
        for t in running:
            states[t], depths[t] = new[t], n
        if model.config.rule.halts == "sequences" and stopped:
            stopped = set(running)
        running = running - stopped
        if not running:
            break
    return torch.stack(states), depths


rules = st.one_of(
    st.tuples(
        st.just("change"),
        st.fixed_dictionaries({"change_threshold": st.floats(0.05, 2), "change_order": st.sampled_from([1, 2])}),
    ),
    st.tuples(st.just("entropy"), st.fixed_dictionaries({"entropy_threshold": st.floats(0.01, 1.2)})),
    st.tuples(st.just("margin"), st.fixed_dictionaries({"margin_threshold": st.floats(0, 1)})),
    st.tuples(st.just("patience"), st.fixed_dictionaries({"patience": st.integers(0, 3)})),
)
heads = st.sampled_from(
    [AdaptiveAlbertForSequenceClassification, AdaptiveAlbertForTokenClassification, AdaptiveAlbertForMaskedLM]
)


@settings(max_examples=60)
@given(
    rule=rules,
    halts=st.sampled_from(["tokens", "sequences"]),
    model_class=heads,
    layers=st.sampled_from([*CLASSES]),
    act_update=st.sampled_from(["blend", "accumulate"]),
    lengths=st.lists(st.integers(1, 7), min_size=1, max_size=4),
    left=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_equals_the_plain_model_read_iteration_by_iteration(
    rule, halts, model_class, layers, act_update, lengths, left, seed
):
    """Each sequence of a batch leaves it as it would alone, whatever else is there; both executions agree."""
    torch.manual_seed(seed)
    name, own = rule
    model = build(model_class, name, layers, act_update=act_update, halts=halts, **own)
    inputs = ragged_inputs(lengths, extra_padding=1)
    alone = [
        {key: value[row : row + 1, :length] for key, value in inputs.items()} for row, length in enumerate(lengths)
    ]
    if left:
        inputs = {key: value.flip(1) for key, value in inputs.items()}
        alone = [{key: value.flip(1) for key, value in one.items()} for one in alone]
    dense, compact = (run(Headed(model), execution, inputs) for execution in ("dense", "compact"))
    assert_same(dense, compact, 1e-10)
    real = inputs["attention_mask"].bool()
    for row, one in enumerate(alone):
        states, depths = reference(model, name, one)
        assert dense[0].depths[row, real[row]].tolist() == depths
        torch.testing.assert_close(dense[0].last_hidden_state[row, real[row]], states, rtol=1e-10, atol=1e-10)


class Headed(torch.nn.Module):
    """The base model's output of a model with a head, which rules may ask."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    @property
    def config(self):
        return self.model.config

    def forward(self, **inputs):
        return self.model.albert(**inputs, head=self.model.read)


@settings(max_examples=20)
@given(
    within=st.floats(0, 1),
    patience=st.integers(0, 3),
    lengths=st.lists(st.integers(1, 7), min_size=1, max_size=4),
    seed=st.integers(0, 2**16),
)
def test_patience_of_a_regression(within, patience, lengths, seed):
    torch.manual_seed(seed)
    own = {"patience": patience, "patience_within": within}
    model = build(AdaptiveAlbertForSequenceClassification, "patience", num_labels=1, **own)
    inputs = ragged_inputs(lengths)
    output = model(**inputs)
    for row, length in enumerate(lengths):
        one = {key: value[row : row + 1, :length] for key, value in inputs.items()}
        assert output.depths[row, :length].tolist() == reference(model, "patience", one)[1]


def test_any_checkpoint(tmp_path):
    """A run's model that halted otherwise, relaxed or not, and the untied baseline; plain ALBERT is the next test."""
    inputs = ragged_inputs([7, 4])
    for layers in CLASSES:
        trained = build(AdaptiveAlbertForSequenceClassification, "act", layers).float()
        trained.save_pretrained(tmp_path / layers)
        again = load_checkpoint(
            AdaptiveAlbertForSequenceClassification,
            str(tmp_path / layers),
            {"halting": "patience", "halting_settings": {"patience": 1}},
        )
        assert isinstance(again.config, AdaptiveBertConfig) == (layers == "untied")
        depths = again(**inputs).depths
        assert ((depths == depths[:, :1]) | (depths == 0)).all() and (depths[:, 0] >= 2).all()


def test_a_plain_albert(tmp_path):
    albert = AlbertForSequenceClassification(AlbertConfig(**SIZES, num_hidden_layers=CAP)).eval()
    albert.save_pretrained(tmp_path)
    rule = {"halting": "entropy", "halting_settings": {"entropy_threshold": 9.0}}
    ours = load_checkpoint(AdaptiveAlbertForSequenceClassification, str(tmp_path), rule).eval()
    inputs = ragged_inputs([7, 4])
    wanted = albert(**inputs, output_hidden_states=True).hidden_states[1]
    actual = ours(**inputs, output_hidden_states=True)
    torch.testing.assert_close(actual.hidden_states[1][0], wanted[0])
    assert torch.equal(actual.depths, inputs["attention_mask"])


def test_a_users_mistakes():
    inputs = ragged_inputs([3])
    config = build(AdaptiveAlbertForSequenceClassification, "entropy", num_labels=1).config
    with pytest.raises(UserError, match='"entropy" needs classes, and the head says one number: take "patience"'):
        AdaptiveAlbertForSequenceClassification(config)(**inputs)
    with pytest.raises(UserError, match='"entropy" reads a head of words or classes, and this model has none'):
        AdaptiveAlbertModel(config)(**inputs)
    with pytest.raises(UserError, match="halts"):
        build(AdaptiveAlbertModel, "change", halts="words")
