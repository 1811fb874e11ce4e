"""Models of any halting rule, and how they are held against loops over tokens, each other and the fixed depth."""

import torch

from tests.models.conftest import SIZES, ragged_inputs
from tests.models.test_encoder import assert_same, run
from tests.models.variants import CLASSES, differing


def by_rule(halting, layers="tied", cap=4, act_update="accumulate", rule=None, model_class=None, **changes):
    """In double precision, with the settings of the rule; where iterations may differ, they do, and a router routes."""
    base_class, config_class = CLASSES[layers]
    settings = {"num_hidden_layers": cap, "halting": halting, "halting_settings": rule or {}, "act_update": act_update}
    config = config_class(**SIZES | {"initializer_range": 0.3} | settings | changes)
    model = base_class(config, add_pooling_layer=False) if model_class is None else model_class(config)
    for name, parameter in model.named_parameters():
        if name.endswith("score_weight"):
            torch.nn.init.normal_(parameter)
    return differing(model).double()


def assert_gradients(model, wanted):
    """Those of all parameters are as `torch.autograd.grad` gives them."""
    for parameter, gradient in zip(model.parameters(), wanted, strict=True):
        actual, gradient = (torch.zeros_like(parameter) if one is None else one for one in (parameter.grad, gradient))
        torch.testing.assert_close(actual, gradient, rtol=1e-9, atol=1e-9)


def assert_is_the_loop(model, length, reference):
    """Output, depths, remainders where the reference has any, and gradients of one sequence, in both executions."""
    inputs, towards = ragged_inputs([length]), torch.randn(length, SIZES["hidden_size"], dtype=torch.float64)
    wanted, depths, *rest = reference(model, inputs)
    remainders = rest[0] if rest else torch.zeros(length, dtype=torch.float64)
    loss = (wanted * towards).sum() + remainders.sum()
    gradients = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
    for execution in ("dense", "compact"):
        model.config.execution = execution
        model.zero_grad()
        output = model(**inputs)
        assert output.depths[0].tolist() == depths
        torch.testing.assert_close(output.remainders[0], remainders, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(output.last_hidden_state[0], wanted, rtol=1e-10, atol=1e-10)
        ((output.last_hidden_state[0] * towards).sum() + output.remainders.sum()).backward()
        assert_gradients(model, gradients)


def assert_padding_takes_no_share(model, lengths, extra_padding, left):
    """Both executions agree, and a sequence alone is decided about as in its batch, padded on either side."""
    inputs = ragged_inputs(lengths, extra_padding=extra_padding)
    if left:
        inputs = {name: value.flip(1) for name, value in inputs.items()}
    dense = run(model, "dense", inputs)
    assert_same(dense, run(model, "compact", inputs), 1e-9)
    for row, real in enumerate(inputs["attention_mask"].bool()):
        alone = {name: value[row : row + 1, real] for name, value in inputs.items()}
        assert torch.equal(model(**alone).depths[0], dense[0].depths[row, real])
