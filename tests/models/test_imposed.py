import pytest
import torch

from depthlab.models.imposed import impose
from tests.models.variants import BASE, batch, build


def model_and_inputs(**changes):
    return build(BASE, act_cap="remainder", **changes).double(), batch()


@pytest.mark.parametrize("execution", ["dense", "compact"])
@pytest.mark.parametrize("act_update", ["blend", "accumulate"])
def test_its_own_depths_change_nothing(execution, act_update):
    model, inputs = model_and_inputs(execution=execution, act_update=act_update)
    own = model(**inputs)
    assert len(own.depths.unique()) > 2
    again = model(**inputs, halting_rule=impose(model.config.rule, own.depths))
    for name in ("depths", "remainders", "last_hidden_state"):
        assert torch.equal(again[name], own[name]), name
    assert torch.equal(model(**inputs).depths, own.depths)


@pytest.mark.parametrize("bias", [-6.0, 6.0])
@pytest.mark.parametrize("act_update", ["blend", "accumulate"])
def test_any_depths_whatever_the_halting_unit_says(act_update, bias):
    """Weights still sum to 1, so remainders lie in (0, 1], and both executions agree."""
    model, inputs = model_and_inputs(act_update=act_update, halting_bias_init=bias)
    depths = torch.randint(1, 6, (3, 9)) * inputs["attention_mask"]
    outputs = {}
    for execution in ("dense", "compact"):
        model.config.execution = execution
        outputs[execution] = model(**inputs, halting_rule=impose(model.config.rule, depths))
        assert torch.equal(outputs[execution].depths, depths)
    remainders = outputs["dense"].remainders[depths > 0]
    assert remainders.min() > 0 and remainders.max() <= 1
    assert (remainders[depths[depths > 0] == 1] == 1).all()
    torch.testing.assert_close(outputs["compact"].last_hidden_state, outputs["dense"].last_hidden_state)
    torch.testing.assert_close(outputs["compact"].remainders, outputs["dense"].remainders)


def test_the_halting_unit_still_learns():
    model, inputs = model_and_inputs()
    depths = torch.full((3, 9), 3) * inputs["attention_mask"]
    model(**inputs, halting_rule=impose(model.config.rule, depths)).last_hidden_state.sum().backward()
    assert model.encoder.halting.weight.grad.any()
