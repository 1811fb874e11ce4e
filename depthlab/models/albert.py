"""ALBERT with adaptive depth, in Hugging Face's terms: configuration, model, heads.

Parameters carry the names of `transformers.AlbertModel`, plus `encoder.halting.{weight,bias}`, so that
`from_pretrained` takes any HF ALBERT checkpoint as it is.
"""

import difflib
from dataclasses import dataclass, fields
from typing import Any, Literal

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AlbertConfig
from transformers import initialization as init
from transformers.generation import GenerationConfig
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_outputs import BaseModelOutputWithPooling, SequenceClassifierOutput
from transformers.models.albert.modeling_albert import (
    AlbertAttention,
    AlbertEmbeddings,
    AlbertMLMHead,
    AlbertPreTrainedModel,
    AlbertSOPHead,
)
from transformers.utils import ModelOutput
from transformers.utils.generic import can_return_tuple
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from depthlab.errors import UserError
from depthlab.models.encoder import AdaptiveAlbertTransformer
from depthlab.models.halting import HaltingUnit

_HF_KEYS = {  # what PreTrainedConfig takes beside its fields
    *("model_type", "num_labels", "name_or_path", "_name_or_path", "_commit_hash", "torch_dtype"),
    *("output_attentions", "attn_implementation", "experts_implementation", "_attn_implementation_internal"),
    *("_experts_implementation_internal", "return_unused_kwargs"),
}


@strict
class AdaptiveAlbertConfig(AlbertConfig):
    """Configuration of an adaptive ALBERT. Sizes default to ALBERT-base's.

    Args:
        num_hidden_layers: L, the cap: the most iterations a token can take.
        halting: "act" (a token stops when its halting unit says so) or "fixed" (every token L times: plain ALBERT).
        act_epsilon: slack of the halting threshold, in (0, 1): a token halts once its probabilities exceed 1 - epsilon.
        act_cap: weight of the last iteration of a token stopped by the cap: its halting probability ("truncate", the
            authors' code) or the remainder ("remainder", Graves 2016).
        act_update: "blend" (the paper: the state moves by its weight) or "accumulate" (Graves, Universal Transformer:
            the state moves by the whole layer, the output is the weighted sum of the states).
        halting_bias_init: bias of a new halting unit; 1 / sigmoid of it is about the depth that training starts from.
        time_penalty: tau, weight of the mean ponder cost in the loss.
        execution: "compact" (computes the running tokens only) or "dense" (all tokens, until the last has halted).

    Raises:
        ValueError: for a value out of range, an unknown key, or halting="act" over more than one layer.
    """

    model_type = "adaptive_albert"

    hidden_size: int = 768
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    halting: Literal["act", "fixed"] = "act"
    act_epsilon: int | float = 0.01
    act_cap: Literal["truncate", "remainder"] = "truncate"
    act_update: Literal["blend", "accumulate"] = "blend"
    halting_bias_init: int | float = 0.0
    time_penalty: int | float = 5e-4
    execution: Literal["compact", "dense"] = "compact"

    def __post_init__(self, **kwargs: Any) -> None:
        own = {field.name for field in fields(self)}
        known = own | _HF_KEYS | set(GenerationConfig._get_default_generation_params())
        for key in kwargs:
            if key not in known:
                near = difflib.get_close_matches(key, own, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise UserError(f"unknown configuration key {key!r}{hint}")
        kwargs.pop("model_type", None)
        super().__post_init__(**kwargs)

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> "AdaptiveAlbertConfig":
        """As HF's; an `albert` dictionary loses the keys that ALBERT itself no longer reads (`gap_size`, ...)."""
        if config_dict.get("model_type") == "albert":
            known = {field.name for field in fields(AlbertConfig)} | _HF_KEYS
            config_dict = {key: value for key, value in config_dict.items() if key in known}
        return super().from_dict(config_dict, **kwargs)

    def validate_adaptive_depth(self) -> None:
        """Called by `@strict` once all fields are set."""
        if not 0 < self.act_epsilon < 1:
            raise ValueError(f"act_epsilon must lie in (0, 1), got {self.act_epsilon}")
        if self.time_penalty < 0:
            raise ValueError(f"time_penalty must not be negative, got {self.time_penalty}")
        for name in (
            *("vocab_size", "embedding_size", "hidden_size", "num_hidden_layers", "num_attention_heads"),
            *("intermediate_size", "max_position_embeddings"),
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} must be a multiple of num_attention_heads {self.num_attention_heads}"
            )
        if self.halting == "act" and (self.num_hidden_groups, self.inner_group_num) != (1, 1):
            raise ValueError(
                'halting="act" needs num_hidden_groups = inner_group_num = 1: a halted token can be left out only '
                f"where all iterations share one layer; got {self.num_hidden_groups} and {self.inner_group_num}"
            )


@dataclass
class AdaptiveAlbertOutput(BaseModelOutputWithPooling):
    """HF's fields, and what the halting did; N_t and R_t as in Graves 2016, section 2."""

    depths: Tensor | None = None
    """N_t, [B, T] int64; 0 on padding."""
    remainders: Tensor | None = None
    """R_t, [B, T] fp32; 0 on padding, at a truncated cap, and with halting="fixed"."""
    ponder_cost: Tensor | None = None
    """[B]: sum over the real tokens of N_t + R_t; differentiable through R_t."""


@dataclass
class AdaptiveAlbertForPreTrainingOutput(ModelOutput):
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
    depths: Tensor | None = None
    remainders: Tensor | None = None
    ponder_cost: Tensor | None = None


@dataclass
class AdaptiveSequenceClassifierOutput(SequenceClassifierOutput):
    """HF's fields, and those of `AdaptiveAlbertOutput`."""

    depths: Tensor | None = None
    remainders: Tensor | None = None
    ponder_cost: Tensor | None = None


class AdaptiveAlbertPreTrainedModel(AlbertPreTrainedModel):
    """What all adaptive ALBERT models share: configuration class, initialisation, what HF may switch on."""

    config_class = AdaptiveAlbertConfig
    config: AdaptiveAlbertConfig
    supports_gradient_checkpointing = True
    _supports_flash_attn = False
    _supports_flex_attn = False
    _can_record_outputs = {"attentions": OutputRecorder(AlbertAttention, index=1)}  # noqa: RUF012 (HF's form)
    # An adaptive checkpoint may be loaded at fixed depth.
    _keys_to_ignore_on_load_unexpected = [r"encoder\.halting\."]  # noqa: RUF012 (HF's form)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, HaltingUnit):
            init.constant_(module.bias, self.config.halting_bias_init)

    def add_time_penalty(self, loss: Tensor, ponder_cost: Tensor) -> Tensor:
        """Loss + tau * mean ponder cost; the ponder cost of a fixed depth is a constant and stays out."""
        if self.config.halting == "fixed":
            return loss
        return loss + self.config.time_penalty * ponder_cost.mean()


class AdaptiveAlbertModel(AdaptiveAlbertPreTrainedModel):
    """The encoder with its embeddings and pooler; `transformers.AlbertModel` with a depth per token."""

    def __init__(self, config: AdaptiveAlbertConfig, add_pooling_layer: bool = True) -> None:
        super().__init__(config)
        self.embeddings = AlbertEmbeddings(config)
        self.encoder = AdaptiveAlbertTransformer(config)
        self.pooler = nn.Linear(config.hidden_size, config.hidden_size) if add_pooling_layer else None
        self.post_init()

    def get_input_embeddings(self) -> nn.Embedding:
        """The word embeddings."""
        return self.embeddings.word_embeddings

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        """Replace the word embeddings."""
        self.embeddings.word_embeddings = value

    @capture_outputs
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        output_hidden_states: bool | None = None,
        **kwargs: Any,
    ) -> AdaptiveAlbertOutput:
        """Run the iteration.

        Args:
            input_ids: [B, T].
            attention_mask: [B, T], 0 on padding; everything is real without it.
            token_type_ids: [B, T], the segment of each token; zeros without it.
            position_ids: [B, T] or [1, T]; 0..T-1 without it.
            inputs_embeds: [B, T, E] in place of `input_ids`.
            output_hidden_states: return h^0..h^L.
            kwargs: what HF's attention functions take.

        Raises:
            ValueError: neither or both of input_ids and inputs_embeds; a sequence longer than the position embeddings;
                an attention mask of another shape.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give exactly one of input_ids and inputs_embeds")
        shape = input_ids.shape if inputs_embeds is None else inputs_embeds.shape[:2]
        if shape[1] > self.config.max_position_embeddings:
            raise UserError(
                f"sequences of {shape[1]} tokens do not fit the model's {self.config.max_position_embeddings} "
                "position embeddings (max_position_embeddings): shorten them"
            )
        if attention_mask is not None and attention_mask.shape != shape:
            raise ValueError(f"attention_mask must be [B, T] = {list(shape)}, got {list(attention_mask.shape)}")

        embeddings = self.embeddings(
            input_ids, token_type_ids=token_type_ids, position_ids=position_ids, inputs_embeds=inputs_embeds
        )
        real = torch.ones(shape, dtype=torch.bool, device=embeddings.device)
        if attention_mask is not None:
            real = attention_mask.bool()
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        encoded = self.encoder(
            embeddings,
            real,
            create_bidirectional_mask(config=self.config, inputs_embeds=embeddings, attention_mask=attention_mask),
            output_hidden_states=output_hidden_states,
            **kwargs,
        )
        pooled = None if self.pooler is None else torch.tanh(self.pooler(encoded.last_hidden_state[:, 0]))
        return AdaptiveAlbertOutput(
            last_hidden_state=encoded.last_hidden_state,
            pooler_output=pooled,
            hidden_states=encoded.hidden_states,
            depths=encoded.depths,
            remainders=encoded.remainders,
            ponder_cost=(encoded.depths + encoded.remainders).sum(dim=1),
        )


class AdaptiveAlbertForPreTraining(AdaptiveAlbertPreTrainedModel):
    """Masked language modelling and sentence order prediction, with the ponder cost in the loss."""

    _tied_weights_keys = {  # noqa: RUF012 (HF's form)
        "predictions.decoder.weight": "albert.embeddings.word_embeddings.weight",
        "predictions.decoder.bias": "predictions.bias",
    }

    def __init__(self, config: AdaptiveAlbertConfig) -> None:
        super().__init__(config)
        self.albert = AdaptiveAlbertModel(config)
        self.predictions = AlbertMLMHead(config)
        self.sop_classifier = AlbertSOPHead(config)
        self.post_init()

    def get_output_embeddings(self) -> nn.Linear:
        """The vocabulary projection."""
        return self.predictions.decoder

    def set_output_embeddings(self, new_embeddings: nn.Linear) -> None:
        """Replace the vocabulary projection."""
        self.predictions.decoder = new_embeddings
        self.predictions.bias = new_embeddings.bias

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
        """Predict masked tokens and sentence order.

        Args:
            input_ids: and the next four, as in `AdaptiveAlbertModel`.
            attention_mask: see there.
            token_type_ids: see there.
            position_ids: see there.
            inputs_embeds: see there.
            labels: [B, T], the original token where one is predicted, -100 elsewhere. With it the vocabulary projection
                is computed at the predicted positions only.
            sentence_order_label: [B], 1 where the two segments are swapped.
            kwargs: see there.
        """
        encoded = self.albert(
            input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            return_dict=True,
            **kwargs,
        )
        states = encoded.last_hidden_state
        sop_logits = self.sop_classifier(encoded.pooler_output)
        losses = []
        mlm_loss = sop_loss = None
        if labels is None:
            prediction_logits = self.predictions(states)
        else:
            predicted = labels != -100
            prediction_logits = self.predictions(states[predicted])
            # A batch may hold no predicted token: its loss is 0, not the 0/0 of a mean.
            summed = F.cross_entropy(prediction_logits.float(), labels[predicted], reduction="sum")
            mlm_loss = summed / predicted.sum().clamp(min=1)
            losses.append(mlm_loss)
        if sentence_order_label is not None:
            sop_loss = F.cross_entropy(sop_logits.float(), sentence_order_label)
            losses.append(sop_loss)
        return AdaptiveAlbertForPreTrainingOutput(
            loss=self.add_time_penalty(sum(losses), encoded.ponder_cost) if losses else None,
            prediction_logits=prediction_logits,
            sop_logits=sop_logits,
            mlm_loss=mlm_loss,
            sop_loss=sop_loss,
            last_hidden_state=states,
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
            depths=encoded.depths,
            remainders=encoded.remainders,
            ponder_cost=encoded.ponder_cost,
        )


class AdaptiveAlbertForSequenceClassification(AdaptiveAlbertPreTrainedModel):
    """A classifier (a regression when `num_labels` is 1) on the pooled [CLS] state; the ponder cost is in the loss."""

    def __init__(self, config: AdaptiveAlbertConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self.albert = AdaptiveAlbertModel(config)
        self.dropout = nn.Dropout(config.classifier_dropout_prob)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
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
    ) -> AdaptiveSequenceClassifierOutput:
        """Classify.

        Args:
            input_ids: and the next four, as in `AdaptiveAlbertModel`.
            attention_mask: see there.
            token_type_ids: see there.
            position_ids: see there.
            inputs_embeds: see there.
            labels: [B], classes, or values when `num_labels` is 1.
            kwargs: see there.
        """
        encoded = self.albert(
            input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            return_dict=True,
            **kwargs,
        )
        logits = self.classifier(self.dropout(encoded.pooler_output))
        loss = None
        if labels is not None:
            if self.num_labels == 1:
                loss = F.mse_loss(logits.squeeze(-1).float(), labels.float())
            else:
                loss = F.cross_entropy(logits.float(), labels)
            loss = self.add_time_penalty(loss, encoded.ponder_cost)
        return AdaptiveSequenceClassifierOutput(
            loss=loss,
            logits=logits,
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
            depths=encoded.depths,
            remainders=encoded.remainders,
            ponder_cost=encoded.ponder_cost,
        )
