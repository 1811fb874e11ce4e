"""ALBERT with adaptive depth, in Hugging Face's terms: the base model. Heads are in heads.py and questions.py.

Parameters carry the names of `transformers.AlbertModel`, plus `encoder.halting.{weight,bias}`, so that
`from_pretrained` takes any HF ALBERT checkpoint as it is.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers.models.albert.modeling_albert import AlbertAttention, AlbertEmbeddings, AlbertPreTrainedModel
from transformers.utils import logging
from transformers.utils.generic import can_return_tuple
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from depthlab.errors import UserError
from depthlab.models.configuration import AdaptiveAlbertConfig
from depthlab.models.encoder import AdaptiveAlbertTransformer, EncoderOutput
from depthlab.models.halting import Unit, rule_named
from depthlab.models.hidden_states import chosen_states
from depthlab.models.masks import attention_bias, real_tokens
from depthlab.models.outputs import AdaptiveAlbertOutput, DepthFields, exits_of
from depthlab.models.relaxation import initialise_difference

logger = logging.get_logger(__name__)

NO_LABELS = (
    "A model that is trained got no labels: whatever loss is made of its logits, the time penalty is not in it. "
    "Trainer's label_smoothing_factor does so. Add config.time_penalty * output.ponder_cost.mean(), or give the labels."
)


class AdaptiveAlbertPreTrainedModel(AlbertPreTrainedModel):
    """What all adaptive ALBERT models share: configuration class, initialisation, what HF may switch on."""

    config_class = AdaptiveAlbertConfig
    config: AdaptiveAlbertConfig
    supports_gradient_checkpointing = True
    losses_elsewhere = False
    """Whether who trains it charges for depth, too, as depthlab's tasks do: then no labels are no mistake."""
    new_weights: tuple[str, ...] = ()
    """Names of those that its checkpoint did not have: nobody has trained them."""
    trained_as: AdaptiveAlbertConfig | None = None
    """The checkpoint's own configuration, from which settings may differ."""
    accepts_loss_kwargs = False  # losses are means: HF's Trainer divides by the accumulated pieces itself
    _supports_flash_attn = False
    _supports_flex_attn = False
    _can_record_outputs = {"attentions": OutputRecorder(AlbertAttention, index=1)}  # noqa: RUF012 (HF's form)
    # A checkpoint may be loaded at fixed depth and with another head. What is missing is always reported.
    _keys_to_ignore_on_load_unexpected = [  # noqa: RUF012 (HF's form)
        *(
            r"encoder\.halting\.",
            r"^(albert\.)?pooler\.",
            r"^predictions\.",
            r"^sop_classifier\.",
            r"^classifier\.",
            r"^qa_outputs\.",
        ),
    ]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        initialise_difference(module)
        if isinstance(module, Unit):
            module.initialise(self.config)

    def total_loss(self, encoded: DepthFields, *losses: Tensor | None) -> Tensor | None:
        """What is minimised: the losses that there are, and tau * mean ponder cost where depth has a price.

        None where there are no losses: then there were no labels, of which a model that is trained warns, as one with
        HF's `label_smoothing_factor`. The ponder cost of a fixed depth is a constant and stays out.
        """
        there = [loss for loss in losses if loss is not None]
        if not there:
            charges = self.config.rule.charges_for_depth and self.config.time_penalty > 0 and not self.losses_elsewhere
            if charges and self.training and torch.is_grad_enabled() and not torch.compiler.is_compiling():
                logger.warning_once(NO_LABELS)
            return None
        total = sum(there)
        if self.config.rule.charges_for_depth:
            costs = encoded.ponder_cost  # of an empty batch the sum: torch has nan for the mean, and no gradient of 0
            total = total + self.config.time_penalty * (costs.mean() if costs.numel() else costs.sum())
        return total


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
            kwargs: what the encoder takes (`halting_rule`, `observer`, `head`), and HF's attention functions.

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
        chosen, rule = chosen_states(output_hidden_states, cap), kwargs.get("halting_rule")
        # The configuration's class will do here: torch.compile can't follow how its settings are read.
        learns_everywhere = (rule or rule_named(self.config.halting)).learns_everywhere
        everywhere = self.training and learns_everywhere and self.encoder.hold_depth is None
        encode = self._recording if output_attentions else self.encoder
        encoded = encode(
            embeddings,
            real,
            attention_bias(self.config, embeddings, attention_mask, additive=output_attentions),
            by_query=attention_mask is not None and attention_mask.ndim > 2,
            hidden_states=range(cap + 1) if everywhere else chosen,
            output_attentions=output_attentions,
            pieces=input_ids,
            **kwargs,
        )
        attentions, states, exits, costs = encoded.attentions, encoded.hidden_states, None, encoded.costs
        if attentions is not None:
            nobody = attentions[0].new_zeros(()).expand_as(attentions[0])
            attentions += (nobody,) * (cap - len(attentions))

        def of_first(rows: Tensor) -> Tensor:
            return rows[:, 0] if first is None else rows[torch.arange(shape[0], device=first.device), first]

        def pool(states: Tensor) -> Tensor | None:
            return None if self.pooler is None else torch.tanh(self.pooler(of_first(states)))

        if everywhere:
            exits, costs = exits_of(rule or self.encoder.rule, self.encoder.halting, states, real, of_first, pool)
            states = tuple(one if n in chosen else None for n, one in enumerate(states)) if chosen else None
        return AdaptiveAlbertOutput(
            last_hidden_state=encoded.last_hidden_state,
            pooler_output=pool(encoded.last_hidden_state),
            hidden_states=states,
            attentions=attentions,
            depths=encoded.depths,
            remainders=encoded.remainders,
            ponder_cost=(encoded.depths + encoded.remainders if costs is None else costs).sum(dim=1),
            exits=exits,
        )

    @capture_outputs
    def _recording(self, *args: Any, **kwargs: Any) -> EncoderOutput:
        """The encoder's output with the attention weights in it."""
        return self.encoder(*args, **kwargs)

    def flops(self, depths: Tensor, real: Tensor | None = None) -> Tensor:
        """Floating point operations of a forward pass in which tokens take these depths, by the model's execution.

        Those of matrix products and attention, a multiplication and an addition being two; norms, activations, softmax
        and all padding are left out. The compact execution computes running tokens only, and the key and value of a
        token once more after it has halted; over untied layers, all keys and values in each iteration. The dense one
        computes all tokens until the last of the batch has halted. Heads are not counted, nor what a halting rule asks
        of them; training costs three times as much.

        Args:
            depths: [B, T], as the model returns them; 0 on padding.
            real: [B, T] bool, False on padding; None: wherever depths are over 0, which is right unless tokens may halt
                before the first iteration.

        Returns:
            [B] int64, of each sequence.
        """
        pooler = 0 if self.pooler is None else 2 * self.pooler.weight.numel()
        return self.encoder.flops(depths, depths > 0 if real is None else real) + pooler
