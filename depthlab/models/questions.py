"""Heads for questions: where in the text an answer stands, and which of several answers is right.

As in `heads.py`, names are those of Hugging Face's ALBERT heads, and the ponder cost is in every loss.

Shapes: B batch, T length, K answers to choose from.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import MultipleChoiceModelOutput, QuestionAnsweringModelOutput
from transformers.utils.generic import can_return_tuple

from depthlab.models.albert import (
    AdaptiveAlbertConfig,
    AdaptiveAlbertModel,
    AdaptiveAlbertPreTrainedModel,
    DepthFields,
)
from depthlab.models.heads import cross_entropy, mean_cross_entropy, passed_on


@dataclass
class AdaptiveQuestionAnsweringOutput(DepthFields, QuestionAnsweringModelOutput):
    """Of `AdaptiveAlbertForQuestionAnswering`; logits of start and end are [B, T], the lowest number on padding."""


@dataclass
class AdaptiveMultipleChoiceOutput(DepthFields, MultipleChoiceModelOutput):
    """Of `AdaptiveAlbertForMultipleChoice`; logits are [B, K], depths and states of B * K sequences."""


class AdaptiveAlbertForQuestionAnswering(AdaptiveAlbertPreTrainedModel):
    """Where the answer to a question starts and ends in a text (SQuAD).

    Labels: `start_positions` and `end_positions`, [B]; one outside the text counts for nothing.
    """

    def __init__(self, config: AdaptiveAlbertConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self.albert = AdaptiveAlbertModel(config, add_pooling_layer=False)
        self.qa_outputs = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        start_positions: Tensor | None = None,
        end_positions: Tensor | None = None,
        **kwargs: Any,
    ) -> AdaptiveQuestionAnsweringOutput:
        """Logits of what `AdaptiveAlbertModel` takes, and with positions the loss."""
        encoded = self.albert(
            input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, return_dict=True, **kwargs
        )
        logits = self.qa_outputs(encoded.last_hidden_state)
        logits = logits.masked_fill((encoded.depths == 0)[..., None], torch.finfo(logits.dtype).min)
        start, end = (one.squeeze(-1).contiguous() for one in logits.split(1, dim=-1))
        task = None
        if start_positions is not None and end_positions is not None:
            losses = [_position_loss(start, start_positions), _position_loss(end, end_positions)]
            task = sum(losses) / 2
        loss = self.total_loss(encoded, task=task)
        return AdaptiveQuestionAnsweringOutput(loss=loss, start_logits=start, end_logits=end, **passed_on(encoded))


class AdaptiveAlbertForMultipleChoice(AdaptiveAlbertPreTrainedModel):
    """Which of K answers is right; each is read with its question, as a sequence of its own.

    Inputs are [B, K, T]. Labels: [B], the number of the right one.
    """

    def __init__(self, config: AdaptiveAlbertConfig) -> None:
        super().__init__(config)
        self.albert = AdaptiveAlbertModel(config)
        self.dropout = nn.Dropout(config.classifier_dropout_prob)
        self.classifier = nn.Linear(config.hidden_size, 1)
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
        **kwargs: Any,
    ) -> AdaptiveMultipleChoiceOutput:
        """Logits of what `AdaptiveAlbertModel` takes, K times, and with labels the loss."""
        given = (input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds)
        batch, choices = (input_ids if inputs_embeds is None else inputs_embeds).shape[:2]
        flat = (None if one is None else one.flatten(0, 1) for one in given)
        encoded = self.albert(*flat, return_dict=True, **kwargs)
        logits = self.classifier(self.dropout(encoded.pooler_output)).view(batch, choices)
        loss = self.total_loss(encoded, task=None if labels is None else cross_entropy(logits, labels))
        return AdaptiveMultipleChoiceOutput(loss=loss, logits=logits, **passed_on(encoded))


def _position_loss(logits: Tensor, positions: Tensor) -> Tensor:
    """Of logits [B, T] and positions [B] or [B, 1], of which one beyond the text is no answer."""
    length = logits.shape[1]
    positions = positions.view(-1).clamp(0, length)
    inside = positions < length
    return mean_cross_entropy(logits[inside], positions[inside])
