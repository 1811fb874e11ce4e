"""The configuration of an adaptive ALBERT, in Hugging Face's terms."""

from dataclasses import field, fields
from typing import Any, Literal

from huggingface_hub.dataclasses import strict
from transformers import AlbertConfig
from transformers.generation import GenerationConfig
from transformers.utils import logging

from depthlab.errors import UserError
from depthlab.models.dial import turn
from depthlab.models.halting import HaltingRule, rule_named
from depthlab.models.halting.rule import did_you_mean

logger = logging.get_logger(__name__)

_HF_KEYS = {  # what PreTrainedConfig takes beside its fields
    *("model_type", "num_labels", "name_or_path", "_name_or_path", "_commit_hash", "torch_dtype"),
    *("output_attentions", "attn_implementation", "experts_implementation", "_attn_implementation_internal"),
    *("_experts_implementation_internal", "return_unused_kwargs"),
    *("auto_map", "quantization_config", "tokenizer_class", "transformers.js_config"),  # and what its tools write
}


def _known_keys(config_class: type["AdaptiveAlbertConfig"]) -> set[str]:
    own = {one.name for one in fields(config_class)}
    return own | _HF_KEYS | {*GenerationConfig._get_default_generation_params()}


@strict
class AdaptiveAlbertConfig(AlbertConfig):
    """Configuration of an adaptive ALBERT. Sizes default to ALBERT-base's.

    Args:
        num_hidden_layers: L, the cap: the most iterations a token can take.
        halting: the rule by which tokens stop, a name of `depthlab.models.halting`: "act" (a token stops when its
            halting unit says so), "fixed" (every token L times: plain ALBERT), another, or one that you registered.
        halting_settings: settings of a rule beside the fields here, checked by it.
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
        dial = kwargs.pop("dial", None)
        known = _known_keys(type(self))
        for key in kwargs:
            if key not in known:
                own = [one.name for one in fields(self)]
                raise UserError(f"unknown configuration key {key!r}{did_you_mean(key, own)}")
        kwargs.pop("model_type", None)
        if self.relaxation_rank == 0:
            self.relaxed_iterations = None
        elif self.relaxed_iterations is None:
            self.relaxed_iterations = self.num_hidden_layers
        if dial is not None:
            turn(self, dial)
        _ = self.rule  # asked for here, an error is the user's own; from a validator it comes wrapped
        super().__post_init__(**kwargs)

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> "AdaptiveAlbertConfig":
        """As HF's; an `albert` dictionary loses the keys that ALBERT itself no longer reads (`gap_size`, ...).

        Keys that nobody here knows are others' (`auto_map`, a note): they are attributes, and written back. Of one that
        is nearly a key of ours, it warns. Another `halting` than the dictionary's leaves the settings of the one that
        was. `dial` is the one number of the halting rule that is turned after training, whatever its name.
        """
        if config_dict.get("model_type") == "albert":
            known = {one.name for one in fields(AlbertConfig)} | _HF_KEYS
            config_dict = {key: value for key, value in config_dict.items() if key in known}
        ours = {one.name for one in fields(cls)} - {one.name for one in fields(AlbertConfig)}
        ours |= {"num_hidden_layers", "dial"}
        changes = {key: value for key, value in kwargs.items() if key in ours}  # checked together with the rest
        if changes.get("halting") not in (None, config_dict.get("halting")):
            changes.setdefault("halting_settings", {})
        config_dict = config_dict | changes
        kwargs = {key: value for key, value in kwargs.items() if key not in changes}  # HF would set them once more
        known = _known_keys(cls) | {"dial"}
        foreign = {key: config_dict.pop(key) for key in [*config_dict] if key not in known}
        found = super().from_dict(config_dict, **kwargs)
        config = found[0] if isinstance(found, tuple) else found  # with `return_unused_kwargs`
        for key, value in foreign.items():
            if near := did_you_mean(key, ours):
                logger.warning_once(f"configuration key {key!r} is nobody's and is kept as it is{near}")
            setattr(config, key, value)
        return found

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
