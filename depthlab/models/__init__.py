"""Batches in, states and depths out. Knows nothing of Lightning."""

from transformers import AutoConfig, AutoModel, AutoModelForPreTraining, AutoModelForSequenceClassification

from depthlab.models.albert import (
    AdaptiveAlbertConfig,
    AdaptiveAlbertForPreTraining,
    AdaptiveAlbertForSequenceClassification,
    AdaptiveAlbertModel,
)

AutoConfig.register("adaptive_albert", AdaptiveAlbertConfig)
AutoModel.register(AdaptiveAlbertConfig, AdaptiveAlbertModel)
AutoModelForPreTraining.register(AdaptiveAlbertConfig, AdaptiveAlbertForPreTraining)
AutoModelForSequenceClassification.register(AdaptiveAlbertConfig, AdaptiveAlbertForSequenceClassification)

__all__ = [
    "AdaptiveAlbertConfig",
    "AdaptiveAlbertForPreTraining",
    "AdaptiveAlbertForSequenceClassification",
    "AdaptiveAlbertModel",
]
