"""The study baseline: adaptive depth over the untied layers of a BERT, one an iteration.

A halted token is still attended to, by layers that differ: each of them computes the keys and values of all tokens.
Queries, feed-forward network and norms are computed for the running tokens only, so it saves less than a shared layer.
"""

from typing import Any

from huggingface_hub.dataclasses import strict

from depthlab.models.albert import AdaptiveAlbertConfig, AdaptiveAlbertModel
from depthlab.models.heads import (
    AdaptiveAlbertForMaskedLM,
    AdaptiveAlbertForPreTraining,
    AdaptiveAlbertForSequenceClassification,
    AdaptiveAlbertForTokenClassification,
)
from depthlab.models.questions import AdaptiveAlbertForMultipleChoice, AdaptiveAlbertForQuestionAnswering


@strict
class AdaptiveBertConfig(AdaptiveAlbertConfig):
    """As `AdaptiveAlbertConfig`, but iteration n applies layer n: the cap is the number of layers.

    Under a lower cap the first layers are there: `num_hidden_groups` follows `num_hidden_layers`.

    Raises:
        ValueError: for a number of groups that is not that of the layers, or a relaxation rank.
    """

    model_type = "adaptive_bert"

    def __post_init__(self, **kwargs: Any) -> None:
        if self.num_hidden_groups == 1:  # ALBERT's default
            self.num_hidden_groups = self.num_hidden_layers
        super().__post_init__(**kwargs)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "num_hidden_layers":
            self.num_hidden_groups = value

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> "AdaptiveBertConfig":
        """As `AdaptiveAlbertConfig`'s; what the dictionary says of groups is left to follow."""
        return super().from_dict({k: v for k, v in config_dict.items() if k != "num_hidden_groups"}, **kwargs)

    def _check_layers(self) -> None:
        if (self.num_hidden_groups, self.inner_group_num) != (self.num_hidden_layers, 1):
            raise ValueError(
                f"an untied model has a layer for each of its {self.num_hidden_layers} iterations; got "
                f"{self.num_hidden_groups} groups of {self.inner_group_num}"
            )
        if self.relaxation_rank:
            raise ValueError(
                "relaxation_rank is for a shared layer, from which iterations differ; in an untied model each has a "
                "layer of its own"
            )


class AdaptiveBertModel(AdaptiveAlbertModel):
    """The encoder with its embeddings and pooler."""

    config_class = AdaptiveBertConfig


class AdaptiveBertForPreTraining(AdaptiveAlbertForPreTraining):
    """Masked language modelling and sentence order prediction."""

    config_class = AdaptiveBertConfig


class AdaptiveBertForSequenceClassification(AdaptiveAlbertForSequenceClassification):
    """Classes of sequences."""

    config_class = AdaptiveBertConfig


class AdaptiveBertForMaskedLM(AdaptiveAlbertForMaskedLM):
    """Masked language modelling, logits of every position."""

    config_class = AdaptiveBertConfig


class AdaptiveBertForTokenClassification(AdaptiveAlbertForTokenClassification):
    """Classes of tokens."""

    config_class = AdaptiveBertConfig


class AdaptiveBertForQuestionAnswering(AdaptiveAlbertForQuestionAnswering):
    """Where an answer stands in a text."""

    config_class = AdaptiveBertConfig


class AdaptiveBertForMultipleChoice(AdaptiveAlbertForMultipleChoice):
    """Which of several answers is right."""

    config_class = AdaptiveBertConfig
