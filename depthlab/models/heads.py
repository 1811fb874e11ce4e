"""What an adaptive ALBERT is trained for: pre-training, masked language modelling, classes of sequences and tokens.

Parameters and forward arguments carry the names of Hugging Face's ALBERT heads. Every loss has the ponder cost in it.

Shapes: B batch, T length, P predicted positions, V vocabulary, C labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.modeling_outputs import MaskedLMOutput, SequenceClassifierOutput, TokenClassifierOutput
from transformers.models.albert.modeling_albert import AlbertMLMHead, AlbertSOPHead
from transformers.utils import ModelOutput
from transformers.utils.generic import can_return_tuple

from depthlab.kinds import NOT_PREDICTED
from depthlab.models.albert import AdaptiveAlbertConfig, AdaptiveAlbertModel, AdaptiveAlbertPreTrainedModel
from depthlab.models.outputs import AdaptiveAlbertOutput, DepthFields, Exit
from depthlab.models.sizes import pad_rows


@dataclass
class PreTrainingFields(ModelOutput):
    """Losses and logits of pre-training; P predicted positions, in row-major order."""

    loss: Tensor | None = None
    """mlm + sop + time_penalty * mean ponder cost, of what labels are given."""
    prediction_logits: Tensor | None = None
    """[P, V] with labels, [B, T, V] without."""
    sop_logits: Tensor | None = None
    """[B, 2]"""
    mlm_loss: Tensor | None = None
    """Mean cross entropy over the P predicted positions, in nats; 0 where P is 0."""
    sop_loss: Tensor | None = None
    """Mean cross entropy over the sequences, in nats."""
    last_hidden_state: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclass
class AdaptiveAlbertForPreTrainingOutput(DepthFields, PreTrainingFields):
    """Of `AdaptiveAlbertForPreTraining`."""


@dataclass
class AdaptiveMaskedLMOutput(DepthFields, MaskedLMOutput):
    """Of `AdaptiveAlbertForMaskedLM`; logits are [B, T, V]."""


@dataclass
class AdaptiveSequenceClassifierOutput(DepthFields, SequenceClassifierOutput):
    """Of `AdaptiveAlbertForSequenceClassification`; logits are [B, num_labels]."""

    exit_logits: Tensor | None = None
    """[L, B, num_labels], after every iteration, in training by a rule that learns everywhere: `loss` is of them."""
    exit_weights: Tensor | None = None
    """[L, B], what the loss of each counts."""


@dataclass
class AdaptiveTokenClassifierOutput(DepthFields, TokenClassifierOutput):
    """Of `AdaptiveAlbertForTokenClassification`; logits are [B, T, num_labels]."""

    exit_logits: Tensor | None = None
    """[L, B, T, num_labels], as for sequences."""
    exit_weights: Tensor | None = None
    """[L, B, T]"""


class _Head(AdaptiveAlbertPreTrainedModel):
    """A model that predicts something of states."""

    def read(self, states: Tensor) -> Tensor:
        """Logits [..., C] of states [..., H], each by itself, without dropout: what halting rules ask."""
        raise NotImplementedError

    def _encode(self, *inputs: Tensor | None, **kwargs: Any) -> AdaptiveAlbertOutput:
        """What the base model makes of its inputs, with the head at hand."""
        return self.albert(*inputs, head=self.read, return_dict=True, **kwargs)


class _VocabularyHead(_Head):
    """A model with ALBERT's `predictions`, whose projection is the word embeddings."""

    _tied_weights_keys = {  # noqa: RUF012 (HF's form)
        "predictions.decoder.weight": "albert.embeddings.word_embeddings.weight",
        "predictions.decoder.bias": "predictions.bias",
    }

    def read(self, states: Tensor) -> Tensor:
        """Of the vocabulary."""
        return self.predictions(states)

    def get_output_embeddings(self) -> nn.Linear:
        return self.predictions.decoder

    def set_output_embeddings(self, new_embeddings: nn.Linear) -> None:
        self.predictions.decoder = new_embeddings
        self.predictions.bias = new_embeddings.bias


class AdaptiveAlbertForPreTraining(_VocabularyHead):
    """Masked language modelling and sentence order prediction, with the ponder cost in the loss.

    Labels: `labels` [B, T] is the original token where one is predicted, -100 elsewhere; with it the vocabulary
    projection is computed at the predicted positions only. `sentence_order_label` [B] is 1 where segments are swapped.
    """

    def __init__(self, config: AdaptiveAlbertConfig) -> None:
        super().__init__(config)
        self.albert = AdaptiveAlbertModel(config)
        self.predictions = AlbertMLMHead(config)
        self.sop_classifier = AlbertSOPHead(config)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        sentence_order_label: Tensor | None = None,
        **kwargs: Any,
    ) -> AdaptiveAlbertForPreTrainingOutput:
        """Predict masked tokens and sentence order, of what `AdaptiveAlbertModel` takes."""
        encoded = self._encode(input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, **kwargs)
        mlm_loss = sop_loss = None
        for exit in exits_to_read(encoded):  # what is returned are the last one's logits
            sop_logits = self.sop_classifier(exit.pooled)
            if labels is not None:
                predicted = labels != NOT_PREDICTED
                states, weights = exit.states[predicted], _at(predicted, exit.token_weights)
                prediction_logits = self.predictions(pad_rows(states))[: len(states)]
                mlm_loss = plus(mlm_loss, mean_cross_entropy(prediction_logits, labels[predicted], weights))
            if sentence_order_label is not None:
                sop_loss = plus(sop_loss, cross_entropy(sop_logits, sentence_order_label, exit.sequence_weights))
        if labels is None:
            prediction_logits = self.predictions(encoded.last_hidden_state)
        return AdaptiveAlbertForPreTrainingOutput(
            loss=self.total_loss(encoded, mlm_loss, sop_loss),
            prediction_logits=prediction_logits,
            sop_logits=sop_logits,
            mlm_loss=mlm_loss,
            sop_loss=sop_loss,
            last_hidden_state=encoded.last_hidden_state,
            **passed_on(encoded),
        )


class _LabelledModel(_Head):
    """A model with one kind of `labels`; who derives from it says what becomes of the encoder's output."""

    output_class: type[ModelOutput]

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs: Any,
    ) -> ModelOutput:
        """Logits of what `AdaptiveAlbertModel` takes, and with labels the loss."""
        encoded = self._encode(input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, **kwargs)
        exits = exits_to_read(encoded)
        logits, task = [self._logits(exit) for exit in exits], None
        if labels is not None:
            task = sum(self._task_loss(one, labels, exit) for one, exit in zip(logits, exits, strict=True))
        everywhere = {} if encoded.exits is None else self._everywhere(logits, exits)
        loss = self.total_loss(encoded, task)
        return self.output_class(loss=loss, logits=logits[-1], **everywhere, **passed_on(encoded))

    def _logits(self, exit: Exit) -> Tensor:
        raise NotImplementedError

    def _task_loss(self, logits: Tensor, labels: Tensor, exit: Exit) -> Tensor:
        """Of logits [B, T, C] where labels [B, T] are not -100."""
        labelled = labels != NOT_PREDICTED
        return mean_cross_entropy(logits[labelled], labels[labelled], _at(labelled, exit.token_weights))

    def _everywhere(self, logits: list[Tensor], exits: Sequence[Exit]) -> dict[str, Tensor]:
        """What the output says of a loss that is taken after every iteration."""
        return {}


class AdaptiveAlbertForMaskedLM(_LabelledModel, _VocabularyHead):
    """Masked language modelling as Hugging Face's tools know it: logits of every position, with labels or without.

    `AdaptiveAlbertForPreTraining` computes less when it trains; its checkpoints load here, without pooler and SOP.

    Labels: [B, T], the original token where one is predicted, -100 elsewhere.
    """

    output_class = AdaptiveMaskedLMOutput

    def __init__(self, config: AdaptiveAlbertConfig) -> None:
        super().__init__(config)
        self.albert = AdaptiveAlbertModel(config, add_pooling_layer=False)
        self.predictions = AlbertMLMHead(config)
        self.post_init()

    def _logits(self, exit: Exit) -> Tensor:
        return self.predictions(exit.states)


class _Classifier(_LabelledModel):
    """A linear classifier after dropout."""

    pooled: bool

    def __init__(self, config: AdaptiveAlbertConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self.albert = AdaptiveAlbertModel(config, add_pooling_layer=self.pooled)
        self.dropout = nn.Dropout(config.classifier_dropout_prob)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def read(self, states: Tensor) -> Tensor:
        """Of the classes; where they are those of sequences, of each state as if it were that of [CLS]."""
        return self.classifier(torch.tanh(self.albert.pooler(states)) if self.pooled else states)

    def _logits(self, exit: Exit) -> Tensor:
        return self.classifier(self.dropout(exit.pooled if self.pooled else exit.states))

    def _everywhere(self, logits: list[Tensor], exits: Sequence[Exit]) -> dict[str, Tensor]:
        weights = [exit.sequence_weights if self.pooled else exit.token_weights for exit in exits]
        return {"exit_logits": torch.stack(logits), "exit_weights": torch.stack(weights)}


class AdaptiveAlbertForSequenceClassification(_Classifier):
    """A classifier (a regression when `num_labels` is 1) on the pooled [CLS] state; the ponder cost is in the loss.

    Labels: [B] classes; [B, C] zeros and ones for several classes at once; [B] or [B, C] values for a regression. Which
    of them is `config.problem_type`; where that is None, HF's rule decides: a regression when C is 1, else classes when
    the labels are integers, else several classes.
    """

    output_class = AdaptiveSequenceClassifierOutput
    pooled = True

    def _task_loss(self, logits: Tensor, labels: Tensor, exit: Exit) -> Tensor:
        logits, weights = in_fp32(logits), exit.sequence_weights
        if self.config.problem_type is None:  # kept, as HF does: what loads the model later reads it there
            self.config.problem_type = (
                "regression"
                if self.num_labels == 1
                else "multi_label_classification"
                if labels.is_floating_point()
                else "single_label_classification"
            )
        if not len(logits):
            return logits.sum()
        if self.config.problem_type == "single_label_classification":
            return cross_entropy(logits, labels.flatten(), weights)
        is_regression = self.config.problem_type == "regression"
        function = F.mse_loss if is_regression else F.binary_cross_entropy_with_logits
        losses = function(logits, labels.to(logits.dtype).view_as(logits), reduction="none")
        return (losses if weights is None else losses * weights[:, None]).mean()


class AdaptiveAlbertForTokenClassification(_Classifier):
    """A classifier of every token; the ponder cost is in the loss.

    Labels: [B, T], the class, -100 where there is none.
    """

    output_class = AdaptiveTokenClassifierOutput
    pooled = False


def cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean over logits [B, C], labels [B] and what each counts, [B]; of an empty batch 0, with a gradient of 0."""
    if weights is not None:
        return mean_cross_entropy(logits, labels, weights)
    logits = in_fp32(logits)
    return F.cross_entropy(logits, labels) if len(labels) else logits.sum()


def mean_cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Of logits [P, C], labels [P] and what each counts, [P]; without any label it is 0, not the 0/0 of a mean."""
    logits = in_fp32(logits)
    if weights is None:
        total = F.cross_entropy(logits, labels, reduction="sum")
    else:
        total = (F.cross_entropy(logits, labels, reduction="none") * weights).sum()
    return total / max(1, len(labels))


def in_fp32(logits: Tensor) -> Tensor:
    """At least."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def exits_to_read(encoded: AdaptiveAlbertOutput) -> Sequence[Exit]:
    """After every iteration, where a rule learns there; else the end."""
    return encoded.exits or (Exit(encoded.last_hidden_state, encoded.pooler_output),)


def plus(total: Tensor | None, loss: Tensor) -> Tensor:
    """A sum that begins with nothing."""
    return loss if total is None else total + loss


def _at(chosen: Tensor, weights: Tensor | None) -> Tensor | None:
    return None if weights is None else weights[chosen]


def passed_on(encoded: AdaptiveAlbertOutput) -> dict[str, Any]:
    """What every head hands on from the encoder."""
    names = ("hidden_states", "attentions", "depths", "remainders", "ponder_cost")
    return {name: getattr(encoded, name) for name in names}
