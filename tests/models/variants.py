"""The models in all their variants, what goes into them, and how outputs are compared."""

from functools import partial

import pytest
import torch
import transformers
from transformers import PreTrainedModel

from depthlab.models import (
    AdaptiveAlbertConfig,
    AdaptiveAlbertForMaskedLM,
    AdaptiveAlbertForPreTraining,
    AdaptiveAlbertForSequenceClassification,
    AdaptiveAlbertForTokenClassification,
    AdaptiveAlbertModel,
    AdaptiveBertConfig,
    AdaptiveBertModel,
)
from tests.models.conftest import SIZES, ragged_inputs

BASE = AdaptiveAlbertModel
CLASSES = {
    "tied": (AdaptiveAlbertModel, AdaptiveAlbertConfig),
    "relaxed": (AdaptiveAlbertModel, partial(AdaptiveAlbertConfig, relaxation_rank=3)),
    "untied": (AdaptiveBertModel, AdaptiveBertConfig),
}
HEADS = [
    AdaptiveAlbertForPreTraining,
    AdaptiveAlbertForMaskedLM,
    AdaptiveAlbertForSequenceClassification,
    AdaptiveAlbertForTokenClassification,
]
VOCABULARY_HEADS = HEADS[:2]
EVERY_WAY = [  # to run the iteration
    {"halting": "fixed"},
    {"execution": "dense"},
    {"execution": "compact"},
    {"execution": "compact", "act_update": "accumulate", "act_cap": "remainder"},
    {"execution": "dense", "relaxation_rank": 3, "relaxed_iterations": 2},
    {"execution": "compact", "relaxation_rank": 3, "relaxed_iterations": 2},
]
LENGTHS = [9, 4, 7]
CHECKPOINTING = "activation" if hasattr(PreTrainedModel, "activation_checkpointing_enable") else "gradient"
CHECKPOINTING += "_checkpointing"
"""As transformers calls it; its earlier versions had the second name."""


def name_of(value):
    return "-".join(map(str, value.values())) if isinstance(value, dict) else getattr(value, "__name__", str(value))


every_model = pytest.mark.parametrize("model_class", [BASE, *HEADS], ids=name_of)
every_head = pytest.mark.parametrize("model_class", HEADS, ids=name_of)
every_way = pytest.mark.parametrize("way", EVERY_WAY, ids=name_of)


def tiny_sizes(**changes) -> dict:
    """Of a model whose tokens halt at different depths."""
    return SIZES | {"vocab_size": 120, "num_hidden_layers": 5, "initializer_range": 0.3} | changes


def tiny_config(**changes) -> AdaptiveAlbertConfig:
    return AdaptiveAlbertConfig(**tiny_sizes(**changes))


def loaded(model: PreTrainedModel) -> PreTrainedModel:
    """The model with its weights copied out of the file they were mapped from.

    There they lie at any address, and matrix products on a CPU round differently where memory is not aligned: the
    weights are the saved ones to the bit, outputs only are so after this.
    """
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()
    return model


def build(model_class, **changes):
    return differing(model_class(tiny_config(**changes)).eval())


def differing(model: PreTrainedModel) -> PreTrainedModel:
    """The model; where its iterations may differ, they do. In a new model they are all the same."""
    for name, parameter in model.named_parameters():
        if "encoder.relaxation." in name:
            torch.nn.init.normal_(parameter, std=0.3)
    return model


def set_checkpointing(model: PreTrainedModel, enabled: bool, **arguments) -> None:
    """Switches it; the arguments are those of `torch.utils.checkpoint`."""
    if enabled:
        getattr(model, f"{CHECKPOINTING}_enable")(arguments or None)
    else:
        getattr(model, f"{CHECKPOINTING}_disable")()
    assert getattr(model, f"is_{CHECKPOINTING}") == enabled


def batch(lengths=LENGTHS):
    return ragged_inputs(lengths, vocab_size=120)


def labels_for(model_class, inputs):
    if model_class is AdaptiveAlbertForSequenceClassification:
        return {"labels": torch.tensor([1, 0, 1])}
    classes = 2 if model_class is AdaptiveAlbertForTokenClassification else 120
    tokens = torch.randint(classes, inputs["input_ids"].shape)
    labels = {"labels": torch.where(inputs["attention_mask"] == 1, tokens, -100)}
    if model_class is AdaptiveAlbertForPreTraining:
        labels["sentence_order_label"] = torch.tensor([1, 0, 1])
    return labels


def hf_class(model_class):
    return getattr(transformers, model_class.__name__.replace("AdaptiveAlbert", "Albert"))


def assert_equal_outputs(actual, expected):
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(actual[name], value, rtol=0, atol=0, msg=name)
