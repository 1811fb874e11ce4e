"""A rule of one's own, in this one file: registered, checked, saved, and equal in both executions."""

from dataclasses import dataclass
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from depthlab.errors import UserError
from depthlab.models import AdaptiveAlbertConfig, AdaptiveAlbertModel
from depthlab.models.checkpoint import load_checkpoint
from depthlab.models.halting import RULES, HaltingRule, HaltingStep, Look, Tokens, describe, register
from tests.models.conftest import SIZES, ragged_inputs
from tests.models.test_encoder import assert_same, run
from tests.models.variants import CLASSES, differing


class Calm(NamedTuple):
    iterations: Tensor


@register("settled")
@dataclass(frozen=True)
class Settled(HaltingRule):
    """A token halts once its state has moved by less than `threshold` of its length, `patience` times in a row."""

    threshold: float = 0.1
    patience: int = 1

    def begin(self, tokens: Tokens) -> Calm:
        return Calm(torch.zeros_like(tokens.position))

    def step(self, state: Calm, look: Look) -> HaltingStep:
        moved = (look.new - look.before).norm(dim=-1)
        calm = (state.iterations + 1) * (moved < self.threshold * look.before.norm(dim=-1))
        return HaltingStep(torch.ones_like(moved), halted=calm >= self.patience, state=Calm(calm))


def config(config_class=AdaptiveAlbertConfig, **changes):
    return config_class(**SIZES | {"num_hidden_layers": 6, "halting": "settled", "initializer_range": 0.3} | changes)


@settings(max_examples=40)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    layers=st.sampled_from([*CLASSES]),
    threshold=st.floats(0.01, 2),
    patience=st.integers(1, 3),
    act_update=st.sampled_from(["blend", "accumulate"]),
    seed=st.integers(0, 2**16),
)
def test_both_executions_drive_it(lengths, layers, threshold, patience, act_update, seed):
    """Equal states, depths and gradients; and the depths are those of the plain model, read iteration by iteration."""
    torch.manual_seed(seed)
    rule = {"halting_settings": {"threshold": threshold, "patience": patience}, "act_update": act_update}
    model_class, config_class = CLASSES[layers]
    model = differing(model_class(config(config_class, **rule), add_pooling_layer=False)).double()
    inputs = ragged_inputs(lengths, extra_padding=1)
    dense, compact = run(model, "dense", inputs), run(model, "compact", inputs)
    assert_same(dense, compact, 1e-10)
    if act_update == "blend":  # what leaves the encoder is the state, which moves by the whole layer
        states = torch.stack(dense[0].hidden_states)  # frozen ones repeated
        moved = (states[1:] - states[:-1]).norm(dim=-1) / states[:-1].norm(dim=-1)
        calm, depths = torch.zeros_like(dense[0].depths), torch.zeros_like(dense[0].depths)
        for n, small in enumerate(moved < threshold, start=1):
            calm = (calm + 1) * small
            depths = torch.where((depths == 0) & ((calm >= patience) | (n == 6)), n, depths)
        assert torch.equal(dense[0].depths, depths * inputs["attention_mask"])
    assert not dense[0].remainders.any() and model.encoder.halting is None


def test_thresholds_are_the_end_points():
    model, inputs = AdaptiveAlbertModel(config()), ragged_inputs([7, 4])
    fixed = AdaptiveAlbertModel(config(halting="fixed"))
    fixed.load_state_dict(model.state_dict())
    model.config.halting_settings = {"threshold": 0.0}
    wanted = fixed(**inputs)
    torch.testing.assert_close(model(**inputs).last_hidden_state, wanted.last_hidden_state)
    assert torch.equal(model(**inputs).depths, wanted.depths)
    model.config.halting_settings = {"threshold": 1e9}
    assert torch.equal(model(**inputs).depths, inputs["attention_mask"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"halting": "setled"}, "there is no halting 'setled'; did you mean 'settled'? (there are act, fixed, "),
        ({"halting_settings": {"treshold": 1.0}}, "no setting 'treshold'; did you mean 'threshold'? (it has "),
        ({"halting_settings": {"patience": "two"}}, "'patience' expected int, got str"),
        ({"halting": "act", "halting_settings": {"patience": 2}}, "halting 'act' has no setting 'patience'"),
    ],
)
def test_a_users_mistakes(changes, message):
    with pytest.raises(UserError) as caught:
        config(**changes)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_needed_setting_and_a_taken_name():
    @dataclass(frozen=True)
    class Needs(HaltingRule):
        share: float

    try:
        register("needs")(Needs)
        with pytest.raises(UserError, match=r"'needs' needs halting_settings\.share"):
            config(halting="needs")
        assert config(halting="needs", halting_settings={"share": 1}).rule == Needs(1.0)
    finally:
        RULES.pop("needs")
    with pytest.raises(ValueError, match="there is a halting rule 'act' already"):
        register("act")(Settled)
    register("settled")(Settled)  # the same again is none


def test_saved_with_the_model_and_left_behind_with_the_rule(tmp_path):
    model, inputs = AdaptiveAlbertModel(config(halting_settings={"threshold": 0.5})), ragged_inputs([7, 4])
    model.save_pretrained(tmp_path)
    again = AdaptiveAlbertModel.from_pretrained(tmp_path)
    assert again.config.rule == Settled(0.5) and torch.equal(again(**inputs).depths, model.eval()(**inputs).depths)
    AdaptiveAlbertModel.from_pretrained(tmp_path, halting_settings={"threshold": 0.1, "patience": 2})
    for other in ("act", "fixed"):
        assert AdaptiveAlbertModel.from_pretrained(tmp_path, halting=other).config.halting_settings == {}
    assert load_checkpoint(AdaptiveAlbertModel, str(tmp_path), {"halting": "fixed"}).config.halting_settings == {}


def test_in_a_few_words():
    assert Settled(0.25).describe(6) == "cap 6, threshold 0.25, patience 1"
    model = {"num_hidden_layers": 6, "time_penalty": 5e-4}
    assert describe(model | {"halting": "act"}) == "cap 6, tau 0.0005"
    assert describe(model | {"halting": "fixed"}) == "fixed, 6"
    assert describe(model | {"halting": "settled", "patience": 2}) == "cap 6, threshold 0.1, patience 2"
    assert describe(model | {"halting": "somebody's"}) == "cap 6, somebody's"
