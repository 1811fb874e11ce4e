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

from depthlab.models.albert import AdaptiveAlbertConfig, AdaptiveAlbertModel, AdaptiveAlbertPreTrainedModel
from depthlab.models.heads import cross_entropy, exits_to_read, mean_cross_entropy, passed_on, plus
from depthlab.models.masks import real_tokens
from depthlab.models.outputs import DepthFields


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
        task = None
        for exit in exits_to_read(encoded):  # what is returned are the last one's logits
            logits = self.qa_outputs(exit.states)
            if attention_mask is not None:
                padding = ~real_tokens(attention_mask, logits.shape[:2])
                logits = logits.masked_fill(padding[..., None], torch.finfo(logits.dtype).min)
            start, end = (one.squeeze(-1).contiguous() for one in logits.split(1, dim=-1))
            if start_positions is not None and end_positions is not None:
                asked = ((start, start_positions), (end, end_positions))
                losses = [_position_loss(one, positions, exit.sequence_weights) for one, positions in asked]
                task = plus(task, sum(losses) / 2)
        loss = self.total_loss(encoded, task)
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
        task = None
        for exit in exits_to_read(encoded):  # of K sequences a loss counts what they do on average
            logits = self.classifier(self.dropout(exit.pooled)).view(batch, choices)
            if labels is not None:
                weights = exit.sequence_weights
                weights = None if weights is None else weights.view(batch, choices).mean(dim=1)
                task = plus(task, cross_entropy(logits, labels, weights))
        loss = self.total_loss(encoded, task)
        return AdaptiveMultipleChoiceOutput(loss=loss, logits=logits, **passed_on(encoded))


def _position_loss(logits: Tensor, positions: Tensor, weights: Tensor | None) -> Tensor:
    """Of logits [B, T], positions [B] or [B, 1], of which one beyond the text is no answer, and what each counts."""
    length = logits.shape[1]
    positions = positions.view(-1).clamp(0, length)
    inside = positions < length
    weights = None if weights is None else weights[inside]
    return mean_cross_entropy(logits[inside], positions[inside], weights)
