"""A classifier of texts or of words with the weights of a checkpoint: one of ours, or any that Hugging Face knows."""

import copy
from collections.abc import Sequence
from typing import Any, Literal

from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedModel,
)

from depthlab.errors import UserError
from depthlab.hub_errors import loaded, quietly
from depthlab.models.checkpoint import LOADING, is_ours, load_checkpoint, new_weights
from depthlab.models.heads import AdaptiveAlbertForSequenceClassification, AdaptiveAlbertForTokenClassification

Unit = Literal["text", "word"]
"""What has a label."""
DROPOUTS = ("classifier_dropout", "seq_classif_dropout")
"""Hugging Face's names for the dropout before a classifier, ALBERT's aside."""


def load_classifier(
    checkpoint: str, labels: Sequence[str], depth: dict[str, Any], dropout: float | None, unit: Unit = "text"
) -> PreTrainedModel:
    """A classifier with the weights of a checkpoint, in fp32; a new head where it has none.

    Args:
        checkpoint: as in `load_checkpoint`; or a directory or hub name of any model of Hugging Face's.
        labels: names of the classes; none for a regression.
        depth: fields of the configuration that differ from the checkpoint's; for ALBERTs only.
        dropout: before the classifier; None for the checkpoint's.
        unit: what it is that has a class.

    Raises:
        UserError: it can't be loaded, or has no such settings.
    """
    names = labels or ["score"]
    settings = {
        "id2label": dict(enumerate(names)),
        "label2id": {name: index for index, name in enumerate(names)},
    }
    if unit == "text":
        settings["problem_type"] = "single_label_classification" if labels else "regression"
    if is_ours(checkpoint):
        if dropout is not None:
            settings["classifier_dropout_prob"] = dropout
        ours = {"text": AdaptiveAlbertForSequenceClassification, "word": AdaptiveAlbertForTokenClassification}
        return load_checkpoint(ours[unit], checkpoint, settings | depth)
    config = loaded(checkpoint, lambda: AutoConfig.from_pretrained(checkpoint))
    own = copy.deepcopy(config)
    if depth:
        raise UserError(
            f"model.depth.{next(iter(depth))} is for ALBERTs, but {checkpoint} is of type {config.model_type!r}, whose "
            "tokens have no depth of their own"
        )
    if dropout is not None:
        settings |= {name: dropout for name in DROPOUTS if hasattr(config, name)}
        if not settings.keys() & set(DROPOUTS):
            raise UserError(f"model.classifier_dropout: a model of type {config.model_type!r} has no such setting")
    for name, value in settings.items():
        setattr(config, name, value)
    theirs = {"text": AutoModelForSequenceClassification, "word": AutoModelForTokenClassification}
    with quietly():
        model, info = loaded(checkpoint, lambda: theirs[unit].from_pretrained(checkpoint, config=config, **LOADING))
    model.new_weights, model.trained_as = new_weights(checkpoint, info), own  # as ours say it
    return model.train()
