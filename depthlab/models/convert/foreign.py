"""Models as others wrote them: configuration and weights, under Hugging Face's names, nothing missing or left over."""

import json
import pickle
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub.errors import HFValidationError, StrictDataclassError
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import (
    AlbertConfig,
    BertConfig,
    BertForPreTraining,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.utils import cached_file

from depthlab.errors import UserError
from depthlab.hub_errors import quietly, reason, retried
from depthlab.models import AdaptiveAlbertConfig, AdaptiveAlbertForPreTraining

Kind = Literal["bert", "albert", "albert-act", "adaptive_albert"]
Weights = dict[str, Tensor]

LAYER = "albert.encoder.albert_layer_groups.{}.albert_layers.0."
PROJECTION = "albert.encoder.embedding_hidden_mapping_in."
HALTING = "albert.encoder.halting."

BERT_HEADS = ("bert.pooler.", "cls.predictions.", "cls.seq_relationship.")
ALBERT_HEADS = ("albert.pooler.", "predictions.", "sop_classifier.")
"""What SOURCE may lack; each is there as a whole or not at all."""

OF_ALBERT_ACT = {
    r"encoder\.albert_layer\.act\.dense\.": "encoder.halting.",
    r"encoder\.albert_layer\.LayerNorm\.": "encoder.albert_layer_groups.0.albert_layers.0.attention.LayerNorm.",
    r"encoder\.albert_layer\.": "encoder.albert_layer_groups.0.albert_layers.0.",
}
"""The authors' names and ours; the first that fits."""

PICKLED = "pytorch_model.bin"
"""Where weights lay before safetensors."""
BUFFERS = ("embeddings.position_ids", "embeddings.token_type_ids")
"""What earlier versions of transformers wrote beside the weights."""


@dataclass
class Source:
    """A model as it was read; the weights carry HF's names, prefix included."""

    kind: Kind
    config: PreTrainedConfig
    weights: Weights
    notes: list[str] = field(default_factory=list)
    """What happened to it, for the user to know."""


class _Reader(AdaptiveAlbertForPreTraining):
    """Reads every ALBERT, with a halting unit or without; what is left over is not ignored here."""

    def __init__(self, config: AdaptiveAlbertConfig) -> None:
        super().__init__(config)
        self._keys_to_ignore_on_load_unexpected = None


def read_source(source: str) -> Source:
    """A model's configuration and weights, checked to be all there and nothing else.

    Raises:
        UserError: there is no model, or of another kind, or its weights are not what its configuration asks for.
    """
    path = Path(source)
    if not path.is_dir() and (path.exists() or path.is_absolute() or source.startswith(".") or source.count("/") > 1):
        raise UserError(f"SOURCE {source} is not a directory")
    try:
        content, _ = retried(lambda: PreTrainedConfig.get_config_dict(source))
    except (OSError, HFValidationError) as error:
        raise UserError(f"cannot read SOURCE {source}: {reason(error)}") from None
    if not content:
        raise UserError(f"SOURCE {source} holds no config.json")
    if content.get("position_embedding_type", "absolute") != "absolute":
        raise UserError(f"{source}/config.json: position_embedding_type must be absolute, as ALBERT's is")
    try:
        kind, config = _recognise(source, content)
    except StrictDataclassError as error:
        raise UserError(f"{source}/config.json: {' '.join(str(error).split())}") from None
    model_class = BertForPreTraining if kind == "bert" else _Reader
    try:
        with quietly():
            settings = {"config": config, "dtype": "auto", "key_mapping": OF_ALBERT_ACT}
            settings |= {"ignore_mismatched_sizes": True, "output_loading_info": True}
            model, info = retried(lambda: model_class.from_pretrained(source, **settings))
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise UserError(f"cannot read the weights of SOURCE {source}: {reason(error)}") from None
    optional = {"bert": BERT_HEADS, "albert": (*ALBERT_HEADS, HALTING)}.get(kind, ALBERT_HEADS)
    absent = _check(source, model, info, optional)
    weights = {n: w for n, w in model.state_dict().items() if n not in model_class._tied_weights_keys}
    if kind == "albert" and HALTING not in absent and f"{HALTING}weight" in weights:
        kind = "albert-act"
    return Source(kind, config, {n: w for n, w in weights.items() if not n.startswith(absent)})


def albert_sizes(config: PreTrainedConfig) -> dict[str, Any]:
    """The fields of an ALBERT's configuration, without what transformers adds when it writes one."""
    return {key.name: getattr(config, key.name) for key in fields(type(config)) if key.name != "transformers_version"}


def _recognise(source: str, content: dict[str, Any]) -> tuple[Kind, PreTrainedConfig]:
    """What kind of model it is, and a configuration to read it with."""
    kind = content.get("model_type") or _kind_by_weights(source)
    if kind in ("bert", "adaptive_albert"):
        return kind, _known_fields(BertConfig if kind == "bert" else AdaptiveAlbertConfig, content)
    if kind != "albert" and "act_epsilon" not in content:
        raise UserError(
            f"{source} is a model of type {kind!r}: convert takes bert, albert, albert-act and adaptive_albert"
        )
    sizes = albert_sizes(_known_fields(AlbertConfig, content))  # what it leaves out is ALBERT's default, not ours
    alone = sizes["num_hidden_groups"] == sizes["inner_group_num"] == 1
    depth = {"halting": "act" if alone else "fixed", "act_update": "blend", "act_cap": "truncate"}
    config = AdaptiveAlbertConfig(**sizes, **depth, act_epsilon=content.get("act_epsilon", 0.01))
    return "albert-act" if "act_epsilon" in content else "albert", config


def _kind_by_weights(source: str) -> str | None:
    """What the names of the weights say a model is: early ones were saved without a `model_type`."""
    names = _names_of_weights(source)
    if any(".albert_layer" in name for name in names):
        return "adaptive_albert" if any(".halting." in name for name in names) else "albert"
    others = {name.partition(".")[0] for name in names} - {"bert", "cls", "embeddings", "encoder", "pooler"}
    return "bert" if not others and any("encoder.layer.0.attention.self." in name for name in names) else None


def _names_of_weights(source: str) -> list[str]:
    """In whichever of Hugging Face's files they lie; none where they can't be read: who loads them says why."""
    for name in ("model.safetensors", "model.safetensors.index.json", PICKLED):
        try:
            file = retried(lambda name=name: cached_file(source, name, _raise_exceptions_for_missing_entries=False))
            if file is None:
                continue
            if name.endswith(".json"):
                return [*json.loads(Path(file).read_text())["weight_map"]]
            if name == PICKLED:
                return [*torch.load(file, map_location="meta", weights_only=True)]
            with safe_open(file, "pt") as weights:
                return [*weights.keys()]
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, pickle.UnpicklingError, SafetensorError):
            return []
    return []


def _known_fields(config_class: type[PreTrainedConfig], content: dict[str, Any]) -> PreTrainedConfig:
    """The configuration, without keys that others wrote and nobody reads here; the vocabulary projection is tied."""
    known = {key.name for key in fields(config_class)} - {"transformers_version", "architectures", "dtype"}
    given = {name: value for name, value in content.items() if name in known}
    return config_class(**given | {"tie_word_embeddings": True})


def _check(source: str, model: PreTrainedModel, info: dict[str, Any], optional: tuple[str, ...]) -> tuple[str, ...]:
    """Refuse weights that are missing, left over, of another size, or untied where they are to be one.

    What is `optional`, by prefix, may be missing as a whole; what of it is, is returned.
    """
    tied = model._tied_weights_keys
    own = [name for name in model.state_dict() if name not in tied]
    missing = info["missing_keys"] - tied.keys()
    absent = tuple(head for head in optional if all(name in missing for name in own if name.startswith(head)))
    problems = {
        "lacks": [name for name in missing if not name.startswith(absent)],
        "has weights that nobody here reads:": [n for n in info["unexpected_keys"] if not n.endswith(BUFFERS)],
    }
    for problem, names in problems.items():
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise UserError(f"{source} {problem} {', '.join(sorted(names)[:3])}{more}")
    for name, theirs, wanted in info["mismatched_keys"]:
        raise UserError(f"{source}: {name} is {list(theirs)}, its config.json asks for {list(wanted)}")
    for name, other in tied.items():  # transformers leaves them apart where they differ in the file
        if model.get_parameter(name) is not model.get_parameter(other):
            raise UserError(f"{source}: {name} must be {other}; here they differ, and ALBERT ties them")
    return absent
