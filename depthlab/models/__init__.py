"""Batches in, states and depths out. Knows nothing of Lightning."""

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForPreTraining,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from depthlab.models.albert import AdaptiveAlbertConfig, AdaptiveAlbertModel
from depthlab.models.heads import (
    AdaptiveAlbertForMaskedLM,
    AdaptiveAlbertForPreTraining,
    AdaptiveAlbertForSequenceClassification,
    AdaptiveAlbertForTokenClassification,
)
from depthlab.models.untied import (
    AdaptiveBertConfig,
    AdaptiveBertForPreTraining,
    AdaptiveBertForSequenceClassification,
    AdaptiveBertModel,
)

AutoConfig.register("adaptive_albert", AdaptiveAlbertConfig)
AutoModel.register(AdaptiveAlbertConfig, AdaptiveAlbertModel)
AutoModelForMaskedLM.register(AdaptiveAlbertConfig, AdaptiveAlbertForMaskedLM)
AutoModelForPreTraining.register(AdaptiveAlbertConfig, AdaptiveAlbertForPreTraining)
AutoModelForSequenceClassification.register(AdaptiveAlbertConfig, AdaptiveAlbertForSequenceClassification)
AutoModelForTokenClassification.register(AdaptiveAlbertConfig, AdaptiveAlbertForTokenClassification)

AutoConfig.register("adaptive_bert", AdaptiveBertConfig)
AutoModel.register(AdaptiveBertConfig, AdaptiveBertModel)
AutoModelForPreTraining.register(AdaptiveBertConfig, AdaptiveBertForPreTraining)
AutoModelForSequenceClassification.register(AdaptiveBertConfig, AdaptiveBertForSequenceClassification)

__all__ = [
    "AdaptiveAlbertConfig",
    "AdaptiveAlbertForMaskedLM",
    "AdaptiveAlbertForPreTraining",
    "AdaptiveAlbertForSequenceClassification",
    "AdaptiveAlbertForTokenClassification",
    "AdaptiveAlbertModel",
    "AdaptiveBertConfig",
    "AdaptiveBertForPreTraining",
    "AdaptiveBertForSequenceClassification",
    "AdaptiveBertModel",
]
