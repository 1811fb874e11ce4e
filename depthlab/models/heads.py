"""What an adaptive ALBERT is trained for: pre-training, masked language modelling, classes of sequences and tokens.

Parameters and forward arguments carry the names of Hugging Face's ALBERT heads. Every loss has the ponder cost in it.

Shapes: B batch, T length, P predicted positions, V vocabulary, C labels.
"""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F
from transformers.modeling_outputs import MaskedLMOutput, SequenceClassifierOutput, TokenClassifierOutput
from transformers.models.albert.modeling_albert import AlbertMLMHead, AlbertSOPHead
from transformers.utils import ModelOutput
from transformers.utils.generic import can_return_tuple

from depthlab.kinds import NOT_PREDICTED
from depthlab.models.albert import (
    AdaptiveAlbertConfig,
    AdaptiveAlbertModel,
    AdaptiveAlbertOutput,
    AdaptiveAlbertPreTrainedModel,
    DepthFields,
)
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


@dataclass
class AdaptiveTokenClassifierOutput(DepthFields, TokenClassifierOutput):
    """Of `AdaptiveAlbertForTokenClassification`; logits are [B, T, num_labels]."""


class _VocabularyHead(AdaptiveAlbertPreTrainedModel):
    """A model with ALBERT's `predictions`, whose projection is the word embeddings."""

    _tied_weights_keys = {  # noqa: RUF012 (HF's form)
        "predictions.decoder.weight": "albert.embeddings.word_embeddings.weight",
        "predictions.decoder.bias": "predictions.bias",
    }

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
        encoded = self.albert(
            input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, return_dict=True, **kwargs
        )
        states = encoded.last_hidden_state
        sop_logits = self.sop_classifier(encoded.pooler_output)
        mlm_loss = sop_loss = None
        if labels is None:
            prediction_logits = self.predictions(states)
        else:
            predicted = labels != NOT_PREDICTED
            predicted_states = states[predicted]
            prediction_logits = self.predictions(pad_rows(predicted_states))[: len(predicted_states)]
            mlm_loss = mean_cross_entropy(prediction_logits, labels[predicted])
        if sentence_order_label is not None:
            sop_loss = cross_entropy(sop_logits, sentence_order_label)
        return AdaptiveAlbertForPreTrainingOutput(
            loss=self.total_loss(encoded, mlm=mlm_loss, sop=sop_loss),
            prediction_logits=prediction_logits,
            sop_logits=sop_logits,
            mlm_loss=mlm_loss,
            sop_loss=sop_loss,
            last_hidden_state=states,
            **passed_on(encoded),
        )


class _LabelledModel(AdaptiveAlbertPreTrainedModel):
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
        encoded = self.albert(
            input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, return_dict=True, **kwargs
        )
        logits = self._logits(encoded)
        loss = self.total_loss(encoded, task=None if labels is None else self._task_loss(logits, labels))
        return self.output_class(loss=loss, logits=logits, **passed_on(encoded))

    def _logits(self, encoded: AdaptiveAlbertOutput) -> Tensor:
        raise NotImplementedError

    def _task_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Of logits [B, T, C] where labels [B, T] are not -100."""
        labelled = labels != NOT_PREDICTED
        return mean_cross_entropy(logits[labelled], labels[labelled])


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

    def _logits(self, encoded: AdaptiveAlbertOutput) -> Tensor:
        return self.predictions(encoded.last_hidden_state)


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

    def _logits(self, encoded: AdaptiveAlbertOutput) -> Tensor:
        return self.classifier(self.dropout(encoded.pooler_output if self.pooled else encoded.last_hidden_state))


class AdaptiveAlbertForSequenceClassification(_Classifier):
    """A classifier (a regression when `num_labels` is 1) on the pooled [CLS] state; the ponder cost is in the loss.

    Labels: [B] classes; [B, C] zeros and ones for several classes at once; [B] or [B, C] values for a regression. Which
    of them is `config.problem_type`; where that is None, HF's rule decides: a regression when C is 1, else classes when
    the labels are integers, else several classes.
    """

    output_class = AdaptiveSequenceClassifierOutput
    pooled = True

    def _task_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        logits = logits.float()
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
        if self.config.problem_type == "regression":
            return F.mse_loss(logits, labels.float().view_as(logits))
        if self.config.problem_type == "multi_label_classification":
            return F.binary_cross_entropy_with_logits(logits, labels.float())
        return cross_entropy(logits, labels.flatten())


class AdaptiveAlbertForTokenClassification(_Classifier):
    """A classifier of every token; the ponder cost is in the loss.

    Labels: [B, T], the class, -100 where there is none.
    """

    output_class = AdaptiveTokenClassifierOutput
    pooled = False


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over logits [B, C] and labels [B]; of an empty batch 0, with a gradient of 0, not the 0/0 of a mean."""
    logits = logits.float()
    return F.cross_entropy(logits, labels) if len(labels) else logits.sum()


def mean_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Of logits [P, C] and labels [P]; a batch may hold no label: its loss is 0, not the 0/0 of a mean."""
    return F.cross_entropy(logits.float(), labels, reduction="sum") / max(1, len(labels))


def passed_on(encoded: AdaptiveAlbertOutput) -> dict[str, Any]:
    """What every head hands on from the encoder."""
    names = ("hidden_states", "attentions", "depths", "remainders", "ponder_cost")
    return {name: getattr(encoded, name) for name in names}
