"""ALBERT with adaptive depth, in Hugging Face's terms: configuration and base model; heads are in heads.py.

Parameters carry the names of `transformers.AlbertModel`, plus `encoder.halting.{weight,bias}`, so that
`from_pretrained` takes any HF ALBERT checkpoint as it is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from transformers import AlbertConfig
from transformers.generation import GenerationConfig
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.albert.modeling_albert import AlbertAttention, AlbertEmbeddings, AlbertPreTrainedModel
from transformers.utils.generic import can_return_tuple
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from depthlab.errors import UserError
from depthlab.models.encoder import AdaptiveAlbertTransformer, EncoderOutput
from depthlab.models.halting import HaltingRule, rule_named
from depthlab.models.halting.rule import did_you_mean
from depthlab.models.hidden_states import chosen_states
from depthlab.models.masks import attention_bias, real_tokens
from depthlab.models.relaxation import initialise_difference

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
        halting: the rule by which tokens stop, a name of `depthlab.models.halting`: "act" (a token stops when its
            halting unit says so), "fixed" (every token L times: plain ALBERT), or one that you have registered.
        halting_settings: settings of a rule that has no fields of its own here, checked by it.
        relaxation_rank: r: the rank by which an iteration's own query, attention output and feed-forward network differ
            from the shared ones; biases and layer norms are then its own, too. 0: all iterations are the same.
        relaxed_iterations: how many iterations have something of their own; those beyond have what the last of them
            has. None: L, also of a checkpoint whose layer was shared in full. Of no account without a rank.
        act_epsilon: slack of the halting threshold, in (0, 1): a token halts once its probabilities exceed 1 - epsilon.
        act_cap: weight of the last iteration of a token stopped by the cap: its halting probability ("truncate", the
            authors' code) or the remainder ("remainder", Graves 2016).
        act_update: "blend" (the paper: the state moves by its weight) or "accumulate" (Graves, Universal Transformer:
            the state moves by the whole layer, the output is the weighted sum of the states).
        halting_bias_init: bias of a new halting unit; 1 / sigmoid of it is about the depth that training starts from.
        time_penalty: tau, weight of the mean ponder cost in the loss.
        execution: "compact" (computes the running tokens only) or "dense" (all tokens, until the last has halted).

    Raises:
        ValueError: for a value out of range, an unknown key or rule, or adaptive halting or relaxed tying over several
            layers (see `untied.py`).
    """

    model_type = "adaptive_albert"
    keys_to_ignore_at_inference = [  # noqa: RUF012 (HF's form): what its Trainer does not gather as predictions,
        *("depths", "remainders", "ponder_cost", "mlm_loss", "sop_loss"),
        "prediction_logits",  # a row a predicted position; Trainer wants a row a sequence
    ]

    hidden_size: int = 768
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    halting: str = "act"
    halting_settings: dict[str, Any] = field(default_factory=dict)
    relaxation_rank: int = 0
    relaxed_iterations: int | None = None
    act_epsilon: int | float = 0.01
    act_cap: Literal["truncate", "remainder"] = "truncate"
    act_update: Literal["blend", "accumulate"] = "blend"
    halting_bias_init: int | float = 0.0
    time_penalty: int | float = 5e-4
    execution: Literal["compact", "dense"] = "compact"

    def __post_init__(self, **kwargs: Any) -> None:
        own = {one.name for one in fields(self)}
        known = own | _HF_KEYS | set(GenerationConfig._get_default_generation_params())
        for key in kwargs:
            if key not in known:
                raise UserError(f"unknown configuration key {key!r}{did_you_mean(key, own)}")
        kwargs.pop("model_type", None)
        if self.relaxation_rank == 0:
            self.relaxed_iterations = None
        elif self.relaxed_iterations is None:
            self.relaxed_iterations = self.num_hidden_layers
        _ = self.rule  # asked for here, an error is the user's own; from a validator it comes wrapped
        super().__post_init__(**kwargs)

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> "AdaptiveAlbertConfig":
        """As HF's; an `albert` dictionary loses the keys that ALBERT itself no longer reads (`gap_size`, ...).

        Another `halting` than the dictionary's leaves the settings of the one that was.
        """
        if config_dict.get("model_type") == "albert":
            known = {one.name for one in fields(AlbertConfig)} | _HF_KEYS
            config_dict = {key: value for key, value in config_dict.items() if key in known}
        ours = {one.name for one in fields(cls)} - {one.name for one in fields(AlbertConfig)} | {"num_hidden_layers"}
        changes = {key: value for key, value in kwargs.items() if key in ours}  # checked together with the rest
        if changes.get("halting") not in (None, config_dict.get("halting")):
            changes.setdefault("halting_settings", {})
        config_dict = config_dict | changes
        return super().from_dict(config_dict, **kwargs)

    @property
    def rule(self) -> HaltingRule:
        """The halting rule with its settings.

        Raises:
            UserError: there is no such rule, or it does not take these settings.
        """
        return rule_named(self.halting).from_config(self)

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
        if not 0 <= self.relaxation_rank <= self.hidden_size:
            raise ValueError(
                f"relaxation_rank must lie between 0 and hidden_size {self.hidden_size}, got {self.relaxation_rank}"
            )
        if self.relaxed_iterations is not None and self.relaxed_iterations < 1:
            raise ValueError(f"relaxed_iterations must be at least 1, got {self.relaxed_iterations}")
        self._check_layers()

    def _check_layers(self) -> None:
        if self.rule.adaptive and (self.num_hidden_groups, self.inner_group_num) != (1, 1):
            raise ValueError(
                f'halting="{self.halting}" needs num_hidden_groups = inner_group_num = 1: a halted token can be left '
                "out only where all iterations share one layer; got "
                f"{self.num_hidden_groups} and {self.inner_group_num}"
            )
        if self.relaxation_rank and (self.num_hidden_groups, self.inner_group_num) != (1, 1):
            raise ValueError(
                "relaxation_rank needs num_hidden_groups = inner_group_num = 1: iterations then differ from one shared "
                f"layer; got {self.num_hidden_groups} and {self.inner_group_num}"
            )


@dataclass
class DepthFields:
    """What the halting did; N_t and R_t as in Graves 2016, section 2. Every output ends in these."""

    depths: Tensor | None = None
    """N_t, [B, T] int64; 0 on padding."""
    remainders: Tensor | None = None
    """R_t, [B, T] fp32; 0 on padding, at a truncated cap, and with halting="fixed"."""
    ponder_cost: Tensor | None = None
    """[B]: sum over the real tokens of N_t + R_t; differentiable through R_t."""


@dataclass
class AdaptiveAlbertOutput(DepthFields, BaseModelOutputWithPooling):
    """Of the base model."""


class AdaptiveAlbertPreTrainedModel(AlbertPreTrainedModel):
    """What all adaptive ALBERT models share: configuration class, initialisation, what HF may switch on."""

    config_class = AdaptiveAlbertConfig
    config: AdaptiveAlbertConfig
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = False  # losses are means: HF's Trainer divides by the accumulated pieces itself
    _supports_flash_attn = False
    _supports_flex_attn = False
    _can_record_outputs = {"attentions": OutputRecorder(AlbertAttention, index=1)}  # noqa: RUF012 (HF's form)
    # A checkpoint may be loaded at fixed depth and with another head. What is missing is always reported.
    _keys_to_ignore_on_load_unexpected = [  # noqa: RUF012 (HF's form)
        *(r"encoder\.halting\.", r"^(albert\.)?pooler\.", r"^predictions\.", r"^sop_classifier\.", r"^classifier\."),
    ]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        initialise_difference(module)
        self.config.rule.initialise(module)

    def total_loss(self, encoded: DepthFields, **losses: Tensor | None) -> Tensor | None:
        """What is minimised: the losses that there are, and tau * mean ponder cost where depth has a price.

        None where there are no losses: then there were no labels. The ponder cost of a fixed depth is a constant and
        stays out.
        """
        there = {name: loss for name, loss in losses.items() if loss is not None}
        if not there:
            return None
        if self.config.rule.charges_for_depth:
            there["ponder"] = encoded.ponder_cost.mean()
        return weighted_sum(there, {"ponder": self.config.time_penalty})


def weighted_sum(losses: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """Of named losses, in their order; a weight that is not given is 1."""
    return sum(weights[name] * loss if name in weights else loss for name, loss in losses.items())


class AdaptiveAlbertModel(AdaptiveAlbertPreTrainedModel):
    """The encoder with its embeddings and pooler; `transformers.AlbertModel` with a depth per token."""

    def __init__(self, config: AdaptiveAlbertConfig, add_pooling_layer: bool = True) -> None:
        super().__init__(config)
        self.embeddings = AlbertEmbeddings(config)
        self.encoder = AdaptiveAlbertTransformer(config)
        self.pooler = nn.Linear(config.hidden_size, config.hidden_size) if add_pooling_layer else None
        self.post_init()

    def get_input_embeddings(self) -> nn.Embedding:
        return self.embeddings.word_embeddings

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        self.embeddings.word_embeddings = value

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | int | Sequence[int] | None = None,
        **kwargs: Any,
    ) -> AdaptiveAlbertOutput:
        """Run the iteration.

        The pooler reads the first real token of a sequence, from which positions are counted, too: padding may be on
        the left. A call changes nothing that another one sees, so threads may share a model.

        Args:
            input_ids: [B, T].
            attention_mask: [B, T], 0 on padding; everything is real without it. Or [B, T, T] or [B, 1 or A, T, T]: who
                attends to whom, see `masks.py`; a token is real if any attends to it.
            token_type_ids: [B, T], the segment of each token; zeros without it.
            position_ids: [B, T] or [1, T]; without it 0, 1, ... from the first real token on.
            inputs_embeds: [B, T, E] in place of `input_ids`.
            output_attentions: return the attention weights [B, A, T, T] of each iteration, L of them; zeros for
                iterations that no token of the batch took. All tokens are computed for it, by the eager implementation
                whatever the model's.
            output_hidden_states: return h^0..h^L; of some of them only, None in place of the others. The last is
                `last_hidden_state`, but for `act_update="accumulate"`, where that is the weighted sum of h^1..h^L.
            kwargs: what the encoder takes (`halting_rule`, `observer`), and HF's attention functions.

        Raises:
            ValueError: neither or both of input_ids and inputs_embeds; a sequence longer than the position embeddings;
                an attention mask of another shape.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give exactly one of input_ids and inputs_embeds")
        given = input_ids if inputs_embeds is None else inputs_embeds
        shape = given.shape[:2]
        if shape[1] > self.config.max_position_embeddings:
            raise UserError(
                f"sequences of {shape[1]} tokens do not fit the model's {self.config.max_position_embeddings} "
                "position embeddings (max_position_embeddings): shorten them"
            )
        if output_attentions is None:
            output_attentions = self.config.output_attentions
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        cap = self.config.num_hidden_layers

        real, first = torch.ones(shape, dtype=torch.bool, device=given.device), None
        if attention_mask is not None:
            real = real_tokens(attention_mask, shape)
            first = real.byte().argmax(dim=1)  # [B], where the first real token stands
            if position_ids is None:
                position_ids = (torch.arange(shape[1], device=real.device) - first[:, None]).clamp(min=0)
        embeddings = self.embeddings(
            input_ids, token_type_ids=token_type_ids, position_ids=position_ids, inputs_embeds=inputs_embeds
        )
        encode = self._recording if output_attentions else self.encoder
        encoded = encode(
            embeddings,
            real,
            attention_bias(self.config, embeddings, attention_mask, additive=output_attentions),
            by_query=attention_mask is not None and attention_mask.ndim > 2,
            hidden_states=chosen_states(output_hidden_states, cap),
            output_attentions=output_attentions,
            **kwargs,
        )
        states, pooled, attentions = encoded.last_hidden_state, None, encoded.attentions
        if self.pooler is not None:
            cls = states[:, 0] if first is None else states[torch.arange(shape[0], device=first.device), first]
            pooled = torch.tanh(self.pooler(cls))
        if attentions is not None:
            nobody = attentions[0].new_zeros(()).expand_as(attentions[0])
            attentions += (nobody,) * (cap - len(attentions))
        return AdaptiveAlbertOutput(
            last_hidden_state=states,
            pooler_output=pooled,
            hidden_states=encoded.hidden_states,
            attentions=attentions,
            depths=encoded.depths,
            remainders=encoded.remainders,
            ponder_cost=(encoded.depths + encoded.remainders).sum(dim=1),
        )

    @capture_outputs
    def _recording(self, *args: Any, **kwargs: Any) -> EncoderOutput:
        """The encoder's output with the attention weights in it."""
        return self.encoder(*args, **kwargs)

    def flops(self, depths: Tensor) -> Tensor:
        """Floating point operations of a forward pass in which tokens take these depths, by the model's execution.

        Those of matrix products and attention, a multiplication and an addition being two; norms, activations, softmax
        and all padding are left out. The compact execution computes running tokens only, and the key and value of a
        token once more after it has halted; over untied layers, all keys and values in each iteration. The dense one
        computes all tokens until the last of the batch has halted. Heads are not counted; training costs three times
        as much.

        Args:
            depths: [B, T], as the model returns them; 0 on padding.

        Returns:
            [B] int64, of each sequence.
        """
        pooler = 0 if self.pooler is None else 2 * self.pooler.weight.numel()
        return self.encoder.flops(depths) + pooler
