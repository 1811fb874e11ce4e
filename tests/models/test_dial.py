"""The dial of every halting rule: its ends are the model of fixed depth and depth 1; and who takes it."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, pipeline

from depthlab.errors import UserError
from depthlab.models import AdaptiveAlbertConfig, AdaptiveAlbertForSequenceClassification
from depthlab.models.checkpoint import DepthSettings, load_as_saved, load_checkpoint
from depthlab.models.dial import turn_model
from depthlab.models.halting import RULES
from tests.models.conftest import SIZES
from tests.models.exported import tiny_tokenizer
from tests.models.variants import CLASSES, batch, differing

CAP = 4
ENDS = {  # at which every token goes to the cap, and at which it stops after one iteration
    "act": (-80.0, 80.0),
    "capacity": (1.0, 0.0),
    "change": (0.0, 1e9),
    "entropy": (0.0, 1e9),
    "every": (CAP, 1),
    "fixed": (CAP, 1),
    "margin": (1.0, -1.0),
    "patience": (CAP, 0),
    "ponder": (1.0, 0.0),
    "random": (CAP, 1),
    "route": (1.0, 0.0),
}
OWN = {  # settings of a rule that make its dial another
    "change": [{"halts": "tokens"}, {"halts": "sequences"}, {"change_order": 2}],
    **dict.fromkeys(("entropy", "margin", "patience", "ponder"), ({"halts": "tokens"}, {"halts": "sequences"})),
    "route": [{}, {"route_threshold": 0.0}],
}
RULES_OF_OURS = sorted(name for name, rule in RULES.items() if rule.__module__.startswith("depthlab."))


def build(layers, halting, **changes):
    torch.manual_seed(0)
    sizes = SIZES | {"vocab_size": 120, "num_hidden_layers": CAP, "initializer_range": 0.3}
    settings = {"act_update": "accumulate", "act_cap": "remainder", "num_labels": 3}
    config = CLASSES[layers][1](**sizes | settings | changes, halting=halting)
    return differing(AutoModelForSequenceClassification.from_config(config)).eval()


@pytest.mark.parametrize("layers", CLASSES)
@pytest.mark.parametrize(("halting", "own"), [(rule, own) for rule in RULES_OF_OURS for own in OWN.get(rule, [{}])])
def test_its_ends_are_fixed_depth_and_depth_1(halting, own, layers):
    model, plain = build(layers, halting, halting_settings=own), build(layers, "fixed")
    plain.load_state_dict(model.state_dict(), strict=False)
    inputs, ends = batch(), (-1e9, 1e9) if "route_threshold" in own else ENDS[halting]
    for dial, depth in zip(ends, (CAP, 1), strict=True):
        turn_model(model, dial)
        turn_model(plain, depth)
        with torch.no_grad():
            found, wanted = model(**inputs), plain(**inputs)
        assert torch.equal(found.depths, depth * inputs["attention_mask"])
        torch.testing.assert_close(found.logits, wanted.logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("halting", ["act", "capacity"])
def test_where_states_are_blended_no_end_of_it_is_fixed_depth(halting):
    """As README says: a state moves by its weight, also where every token goes to the cap."""
    model, plain = build("tied", halting, act_update="blend"), build("tied", "fixed")
    plain.load_state_dict(model.state_dict(), strict=False)
    turn_model(model, ENDS[halting][0])
    inputs = batch()
    found, wanted = model(**inputs), plain(**inputs)
    assert torch.equal(found.depths, wanted.depths) and not torch.allclose(found.logits, wanted.logits, atol=0.1)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dial")
    tiny_tokenizer(folder).save_pretrained(folder)
    build("tied", "act", halting_bias_init=-1.0).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("groups", [2, CAP])
def test_groups_of_layers_keep_their_depth(groups):
    """An ALBERT's: under another cap iterations would be of other groups."""
    model = build("tied", "fixed", num_hidden_groups=groups)
    turn_model(model, CAP)
    for settings in ({"dial": groups // 2}, {"dial": CAP + 1}):
        with pytest.raises(UserError, match=f"the depth of {CAP} is shared out among {groups} groups"):
            turn_model(model, **settings)
        assert model.config.num_hidden_layers == CAP


def test_who_loads_a_model_can_turn_it(saved):
    config = AdaptiveAlbertForSequenceClassification.from_pretrained(saved, dial=2.5).config
    assert config.halting_settings == {"act_shift": 2.5} and "dial" not in config.to_dict()
    by_name = AutoModelForSequenceClassification.from_pretrained(saved, halting="change", dial=0.3)
    assert by_name.config.halting_settings == {"change_threshold": 0.3}
    assert pipeline("text-classification", saved, model_kwargs={"dial": 80.0}).model.config.rule.act_shift == 80
    settings = DepthSettings(halting="patience", dial=2.0).given()
    assert load_checkpoint(AdaptiveAlbertForSequenceClassification, saved, settings).config.rule.patience == 2
    both = AdaptiveAlbertConfig.from_pretrained(saved, halting="patience", halting_settings={"halts": "tokens"}, dial=1)
    assert both.halting_settings == {"halts": "tokens", "patience": 1}
    assert AdaptiveAlbertConfig(**SIZES, halting="fixed", dial=3).num_hidden_layers == 3
    assert AdaptiveAlbertConfig(**SIZES, halting="act", dial=np.float32(0.5)).halting_settings == {"act_shift": 0.5}
    for dial in (1e30, "much"):
        with pytest.raises(UserError, match="the dial of halting 'patience' is patience, a"):
            AutoModelForSequenceClassification.from_pretrained(saved, halting="patience", dial=dial)


def test_a_tied_model_goes_beyond_its_cap(saved):
    """As the same layer, applied once more often."""
    model = load_as_saved(saved)
    turn_model(model, -80.0, max_depth=CAP + 2)
    inputs = batch()
    with torch.no_grad():
        states = model(**inputs, output_hidden_states=True).hidden_states
        after = model.albert.encoder.apply_to_all(CAP + 2, states[CAP + 1][:1], None)
    assert len(states) == CAP + 3
    torch.testing.assert_close(states[-1][:1], after)


@pytest.mark.parametrize(
    ("layers", "halting", "dial", "max_depth", "message"),
    [
        ("tied", "patience", 1.5, None, "is patience, a whole number, 100,000 at most, got 1.5"),
        ("tied", "patience", 1e30, None, "a whole number, 100,000 at most, got 1e.30"),
        ("tied", "fixed", float("inf"), None, "a whole number, 100,000 at most, got inf"),
        ("tied", "every", float("nan"), None, "is num_hidden_layers, a number, got nan"),
        ("tied", "act", float("nan"), None, "is act_shift, a number, got nan"),
        ("tied", "act", None, 10**30, "a depth of 1000000000000000000000000000000: it must be 1 or more, and 100,000"),
        ("tied", "capacity", 2.0, None, r"capacity must lie in \[0, 1\]"),
        ("untied", "fixed", 5, None, "a depth of 5 is over the 4 layers"),
        ("untied", "act", None, 6, "a depth of 6 is over the 4 layers"),
        ("untied", "every", 2, 4, "the dial of halting 'every' is the depth itself: leave max_depth out"),
        ("tied", "fixed", 0, None, "a depth of 0: it must be 1 or more, and"),
        ("tied", "act", 0.5, 2.5, "a depth of 2.5: it must be 1 or more, and 100,000 at most, a whole number"),
        ("tied", "patience", -1, None, "halting_settings.patience must be 0 or more, got -1"),
        ("tied", "capacity", 2.0, 6, r"capacity must lie in \[0, 1\]"),
    ],
)
def test_what_can_not_be_turned(layers, halting, dial, max_depth, message):
    """And the model stays what it was."""
    model = build(layers, halting)
    before = model.config.to_dict()
    with pytest.raises(UserError, match=message):
        turn_model(model, dial, max_depth)
    assert model.config.to_dict() == before
