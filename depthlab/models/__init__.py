"""Batches in, states and depths out: the encoder, halting rules, heads, checkpoints. Knows nothing of Lightning.

The classes are imported when they are asked for, so that what needs none of them (`import depthlab`) stays quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from depthlab.models.registration import HEADS

if TYPE_CHECKING:
    from depthlab.models.albert import AdaptiveAlbertConfig, AdaptiveAlbertModel
    from depthlab.models.heads import (
        AdaptiveAlbertForMaskedLM,
        AdaptiveAlbertForPreTraining,
        AdaptiveAlbertForSequenceClassification,
        AdaptiveAlbertForTokenClassification,
    )
    from depthlab.models.questions import AdaptiveAlbertForMultipleChoice, AdaptiveAlbertForQuestionAnswering
    from depthlab.models.untied import (
        AdaptiveBertConfig,
        AdaptiveBertForMaskedLM,
        AdaptiveBertForMultipleChoice,
        AdaptiveBertForPreTraining,
        AdaptiveBertForQuestionAnswering,
        AdaptiveBertForSequenceClassification,
        AdaptiveBertForTokenClassification,
        AdaptiveBertModel,
    )

__all__ = [f"{family}{kind}" for family in ("AdaptiveAlbert", "AdaptiveBert") for kind in ("Config", *HEADS.values())]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "untied" if name.startswith("AdaptiveBert") else "heads" if "For" in name else "albert"
    if name in ("AdaptiveAlbertForMultipleChoice", "AdaptiveAlbertForQuestionAnswering"):
        home = "questions"
    value = globals()[name] = getattr(import_module(f"{__name__}.{home}"), name)
    return value
