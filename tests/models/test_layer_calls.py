"""The layer is a module as any: what hooks, wraps or replaces modules gets at it in every execution."""

from collections import Counter

import pytest
import torch
from accelerate.hooks import attach_align_device_hook
from torch import nn
from transformers.models.albert.modeling_albert import AlbertAttention, AlbertLayer

from depthlab.models import AdaptiveAlbertForMaskedLM
from depthlab.models.untied import AdaptiveBertConfig, AdaptiveBertModel
from tests.models.conftest import SIZES, ragged_inputs
from tests.models.variants import BASE, batch, build, every_way


@every_way
def test_hooks_fire_in_every_iteration(way):
    """And may change what the layer returns."""
    model, inputs, calls = build(BASE, **way), batch(), Counter()
    for name, module in model.encoder.named_modules():
        if isinstance(module, AlbertLayer | AlbertAttention | nn.Linear) and "relaxation" not in name:
            module.register_forward_hook(lambda *_, name=name: calls.update([name]))
    output = model(**inputs)
    layers = {name: count for name, count in calls.items() if name.startswith("albert_layer_groups")}
    assert len(layers) == 8 and set(layers.values()) == {output.depths.max().item()}


def test_hooks_fire_over_untied_layers():
    model, called = AdaptiveBertModel(AdaptiveBertConfig(**SIZES, num_hidden_layers=4)), []
    for index, group in enumerate(model.encoder.albert_layer_groups):
        group.albert_layers[0].register_forward_hook(lambda *_, index=index: called.append(index))
    assert called == [*range(model(**ragged_inputs([5, 3])).depths.max())]


@every_way
@pytest.mark.parametrize("whole", [True, False], ids=["by layer", "by part"])
def test_weights_that_lie_elsewhere(way, whole):
    """accelerate's offloading: they are fetched when a module is called, the whole layer's at once or part by part."""
    model, inputs = build(BASE, **way), batch()
    expected = model(**inputs)
    weights = {name: weight.clone() for name, weight in model.state_dict().items()}
    classes = ["AdaptiveLayer"] if whole else None
    attach_align_device_hook(model, "cpu", offload=True, weights_map=weights, preload_module_classes=classes)
    assert model.encoder.albert_layer_groups[0].albert_layers[0].ffn.weight.is_meta
    with torch.no_grad():
        output = model(**inputs)
    torch.testing.assert_close(output.last_hidden_state, expected.last_hidden_state)


class Adapted(nn.Module):
    """A linear layer and a trainable product of low rank beside it, as LoRA has it."""

    def __init__(self, linear):
        super().__init__()
        self.linear = linear.requires_grad_(False)
        self.down = nn.Linear(linear.in_features, 2, bias=False)
        self.up = nn.Linear(2, linear.out_features, bias=False)

    def forward(self, states):
        return self.linear(states) + self.up(self.down(states))


@every_way
def test_every_linear_layer_may_be_replaced(way):
    model, inputs = build(AdaptiveAlbertForMaskedLM, **way), batch()
    for owner in [*model.modules()]:
        for name, module in [*owner.named_children()]:
            if isinstance(module, nn.Linear) and name != "decoder":
                setattr(owner, name, Adapted(module))
    output = model.train()(**inputs, labels=inputs["input_ids"])
    output.loss.backward()
    adapted = {name for name, module in model.named_modules() if isinstance(module, Adapted)}
    assert {name.rsplit(".", 1)[1] for name in adapted} >= {"query", "key", "value", "dense", "ffn", "ffn_output"}
    assert not any("halting" in name for name in adapted)
    assert all(module.up.weight.grad.any() for module in model.modules() if isinstance(module, Adapted))
