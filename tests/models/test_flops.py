"""`model.flops` against what torch counts of a forward pass."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from depthlab.models import AdaptiveAlbertConfig, AdaptiveAlbertModel
from tests.models.conftest import SIZES, ragged_inputs
from tests.models.halting.loops import by_rule
from tests.models.imposed import ImposedHalting
from tests.models.variants import CLASSES


def counted(model, depths, **changes):
    """By torch, of whole sequences."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        output = model(**ragged_inputs([depths.shape[1]] * len(depths)), **changes)
    assert torch.equal(output.depths, depths)
    return counter.get_total_flops()


@pytest.mark.parametrize("layers", CLASSES)
@pytest.mark.parametrize("execution", ["dense", "compact"])
@pytest.mark.parametrize("pooler", [True, False])
def test_equals_what_torch_counts(layers, execution, pooler):
    """So few tokens are not padded; in every iteration 8, 16 or no queries of a sequence run, so these are not, too."""
    model_class, config_class = CLASSES[layers]
    config = config_class(**SIZES, num_hidden_layers=6, execution=execution, attn_implementation="eager")
    model = model_class(config, add_pooling_layer=pooler)
    depths = torch.tensor([[5, 1, 5, 5, 1, 5, 5, 5, 5, 1, 1, 1, 5, 1, 1, 1]])
    assert model.flops(depths).sum() == counted(model, depths, halting_rule=ImposedHalting(depths))


@pytest.mark.parametrize("layers", CLASSES)
@pytest.mark.parametrize(
    "rule", [{"route_share": 0.5, "route_score": "rarity"}, {"route_share": 1.0, "route_depths": [4, 5]}]
)
def test_a_rule_costs_what_its_depths_cost(layers, rule):
    """Half of 16 tokens go on, or go further: 8 queries of a sequence, 16 or none."""
    model = by_rule("route", layers, 5, rule=rule, attn_implementation="eager").eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        depths = model(**ragged_inputs([16] * 6)).depths
    assert len(depths.unique()) > 1
    assert counter.get_total_flops() == model.flops(depths).sum()


@pytest.mark.parametrize("halting", ["fixed", "held", "act"])
def test_every_token_to_the_cap(halting):
    config = AdaptiveAlbertConfig(
        **SIZES,
        num_hidden_layers=3,
        halting="fixed" if halting == "fixed" else "act",
        halting_bias_init=-9.0,
        attn_implementation="eager",
    )
    model = AdaptiveAlbertModel(config)
    model.encoder.hold_depth = 3 if halting == "held" else None
    depths = torch.full((2, 8), 3)
    assert model.flops(depths).sum() == counted(model, depths)


def test_padding_costs_nothing_and_depth_does():
    model = AdaptiveAlbertModel(AdaptiveAlbertConfig(**SIZES, num_hidden_layers=6))
    alone, beside = model.flops(torch.tensor([[4, 2]])), model.flops(torch.tensor([[4, 2, 0, 0], [4, 4, 4, 4]]))
    assert alone.dtype == torch.long and alone[0] == beside[0] < beside[1]
    assert model.flops(torch.tensor([[4, 1]])) < alone
