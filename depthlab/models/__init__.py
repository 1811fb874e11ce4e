"""Batches in, states and depths out: the encoder, halting rules, heads, checkpoints. Knows nothing of Lightning.

The classes are imported when they are asked for, so that what needs none of them (`import depthlab`) stays quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "untied" if name.startswith("AdaptiveBert") else "heads" if "For" in name else "albert"
    value = globals()[name] = getattr(import_module(f"{__name__}.{home}"), name)
    return value
