"""What transformers' common tests are run on: every class of ours in every variant, and ALBERT's as the control.

Named so that `make test` does not collect it: it needs what `source.py` fetches.
"""

import unittest
from importlib import import_module
from inspect import getsource
from typing import Any, ClassVar

import torch
import transformers
from transformers import AlbertConfig, PreTrainedConfig

import depthlab.models
from depthlab.models import AdaptiveAlbertConfig, AdaptiveBertConfig
from depthlab.models.block import AdaptiveAttention, AdaptiveLayer
from tests.hugging_face.source import common_tests

THEIRS = common_tests()
modeling = import_module(f"{THEIRS}.test_modeling_common")
ConfigTester = import_module(f"{THEIRS}.test_configuration_common").ConfigTester
TrainingTesterMixin = import_module(f"{THEIRS}.test_training_mixin").TrainingTesterMixin
# Ours checkpoints itself as theirs do, without being one: it has more to recompute from than its positional arguments.
# Earlier versions count how often its `forward` runs, within which ours recomputes: there its attention is counted.
counting = getsource(modeling.ModelTesterMixin.check_training_gradient_checkpointing)
counted = AdaptiveLayer if "_gradient_checkpointing_func" in counting else AdaptiveAttention
modeling.GradientCheckpointingLayer = (modeling.GradientCheckpointingLayer, counted)

SIZES = {
    **{"vocab_size": 32, "embedding_size": 8, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4},
    **{"intermediate_size": 20, "max_position_embeddings": 64, "num_hidden_groups": 1},
    **{"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "initializer_range": 0.2},
}
SPLIT = 4.6
"""A new halting unit with this bias stops about half of the tokens after the first iteration, the others at the cap."""


class Inputs:
    """Makes configurations and inputs; its attributes are those that the common tests ask for."""

    batch_size, seq_length, num_choices, is_training = 2, 7, 4, True
    hidden_size, num_hidden_layers, num_attention_heads = 16, 2, 4

    def __init__(self, config_class: type[PreTrainedConfig], changes: dict[str, Any], classes: tuple[type, ...]):
        self.config_class, self.changes = config_class, changes
        heads = (one for name in ("ForMaskedLM", "ForPreTraining") for one in classes if one.__name__.endswith(name))
        self.causal_lm_class = next(heads)  # what the training mixin trains: it has `labels` [B, T]

    def get_config(self) -> PreTrainedConfig:
        return self.config_class(**SIZES | self.changes)

    def prepare_config_and_inputs_for_common(self) -> tuple[PreTrainedConfig, dict[str, torch.Tensor]]:
        shape = [self.batch_size, self.seq_length]
        return self.get_config(), {
            "input_ids": modeling.ids_tensor(shape, SIZES["vocab_size"]),
            "token_type_ids": modeling.ids_tensor(shape, 2),
            "attention_mask": modeling.random_attention_mask(shape),
        }


class CommonTests(modeling.ModelTesterMixin, TrainingTesterMixin):
    """ModelTesterMixin, ConfigTester and the training mixin, of a variant."""

    config_class: type[PreTrainedConfig] = AdaptiveAlbertConfig
    changes: ClassVar[dict[str, Any]] = {}

    def setUp(self):
        self.model_tester = Inputs(self.config_class, self.changes, self.all_model_classes)
        self.config_tester = ConfigTester(self, config_class=self.config_class, hidden_size=36)

    training_overfit_learning_rate = 5e-3  # ALBERT of this size needs it

    def _prepare_for_class(self, inputs_dict, model_class, return_labels=False):
        inputs = super()._prepare_for_class(inputs_dict, model_class, return_labels)
        if return_labels and model_class.__name__.endswith("ForPreTraining"):
            inputs["labels"] = torch.zeros(self.model_tester.batch_size, self.model_tester.seq_length, dtype=torch.long)
            inputs["sentence_order_label"] = torch.zeros(self.model_tester.batch_size, dtype=torch.long)
        return inputs

    def test_config(self):
        self.config_tester.run_common_tests()


def classes(family: str) -> tuple[type, ...]:
    """All models of a family of ours, "AdaptiveAlbert" or "AdaptiveBert"."""
    names = sorted(name for name in depthlab.models.__all__ if name.startswith(family))
    return tuple(getattr(depthlab.models, name) for name in names if not name.endswith("Config"))


OURS = classes("AdaptiveAlbert")


class TestAlbert(CommonTests, unittest.TestCase):
    """The control."""

    config_class = AlbertConfig
    all_model_classes = tuple(getattr(transformers, one.__name__.removeprefix("Adaptive")) for one in OURS)


class TestActCompact(CommonTests, unittest.TestCase):
    all_model_classes = OURS
    changes: ClassVar = {"halting_bias_init": SPLIT, "execution": "compact"}


class TestActDense(CommonTests, unittest.TestCase):
    all_model_classes = OURS
    changes: ClassVar = {"halting_bias_init": SPLIT, "execution": "dense"}


class TestAccumulate(CommonTests, unittest.TestCase):
    all_model_classes = OURS
    changes: ClassVar = {"halting_bias_init": SPLIT, "act_update": "accumulate", "act_cap": "remainder"}


class TestFixed(CommonTests, unittest.TestCase):
    all_model_classes = OURS
    changes: ClassVar = {"halting": "fixed"}


class TestUntied(CommonTests, unittest.TestCase):
    all_model_classes = classes("AdaptiveBert")
    config_class = AdaptiveBertConfig
    # A layer that no token reaches has no gradient: of the few tokens some must go on, whatever weights are drawn.
    changes: ClassVar = {"halting_bias_init": SPLIT - 1, "num_hidden_groups": 2}
