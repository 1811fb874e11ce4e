"""Models as others wrote them: configuration and weights, under Hugging Face's names, nothing missing or left over."""

import json
import pickle
import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub.errors import HFValidationError, StrictDataclassError
from safetensors.torch import load_file
from torch import Tensor
from transformers import (
    AlbertConfig,
    AlbertForPreTraining,
    BertConfig,
    BertForPreTraining,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.utils import cached_file
from transformers.utils.hub import get_checkpoint_shard_files

from depthlab.errors import UserError
from depthlab.models import AdaptiveAlbertConfig, AdaptiveAlbertForPreTraining

Kind = Literal["bert", "albert", "albert-act", "adaptive_albert"]
Weights = dict[str, Tensor]

LAYER = "albert.encoder.albert_layer_groups.{}.albert_layers.0."
PROJECTION = "albert.encoder.embedding_hidden_mapping_in."
HALTING = "albert.encoder.halting."

BERT_HEADS = ("bert.pooler.", "cls.predictions.", "cls.seq_relationship.")
ALBERT_HEADS = ("albert.pooler.", "predictions.", "sop_classifier.")
"""Heads that SOURCE may lack; a head is there as a whole or not at all."""

TIED = {
    "predictions.decoder.weight": "albert.embeddings.word_embeddings.weight",
    "predictions.decoder.bias": "predictions.bias",
    "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}
"""Weights that are another's: the vocabulary projection."""


@dataclass
class Source:
    """A model as it was read; the weights carry HF's names, prefix included."""

    kind: Kind
    config: PreTrainedConfig
    weights: Weights
    notes: list[str] = field(default_factory=list)
    """What happened to it, for the user to know."""


def read_source(source: str, kind: Kind | None = None) -> Source:
    """A model's configuration and weights, checked to be all there and nothing else.

    Raises:
        UserError: there is no model, it is of another kind, or its weights are not what its configuration asks for.
    """
    path = Path(source)
    if not path.is_dir() and (path.exists() or path.is_absolute() or source.startswith(".") or source.count("/") > 1):
        raise UserError(f"SOURCE {source} is not a directory")
    content = _read_config(source)
    weights = _read_weights(source)
    actual = _recognise(source, content, weights)
    if kind not in (None, actual):
        raise UserError(f"--from {kind}, but {source} is of kind {actual}: leave --from out or name another SOURCE")
    if content.get("position_embedding_type", "absolute") != "absolute":
        raise UserError(f"{source}/config.json: position_embedding_type must be absolute, as ALBERT's is")
    weights = RENAME[actual](weights)
    model_class, config_class = {
        "bert": (BertForPreTraining, BertConfig),
        "albert": (AlbertForPreTraining, AlbertConfig),
        "albert-act": (AdaptiveAlbertForPreTraining, AlbertConfig),
        "adaptive_albert": (AdaptiveAlbertForPreTraining, AdaptiveAlbertConfig),
    }[actual]
    try:
        config = _known_fields(config_class, content)
        if actual == "albert-act":  # what its configuration leaves out is ALBERT's default
            epsilon = {"act_epsilon": content.get("act_epsilon", 0.01)}
            config = AdaptiveAlbertConfig(**albert_sizes(config), **epsilon, act_update="blend", act_cap="truncate")
    except StrictDataclassError as error:
        raise UserError(f"{source}/config.json: {' '.join(str(error).split())}") from None
    _check(source, weights, model_class, config, BERT_HEADS if actual == "bert" else ALBERT_HEADS)
    return Source(actual, config, {name: weight for name, weight in weights.items() if name not in TIED})


def albert_sizes(config: PreTrainedConfig) -> dict[str, Any]:
    """The fields of an ALBERT's configuration, without what transformers adds when it writes one."""
    return {key.name: getattr(config, key.name) for key in fields(type(config)) if key.name != "transformers_version"}


def _read_config(source: str) -> dict[str, Any]:
    try:
        file = cached_file(source, "config.json", _raise_exceptions_for_missing_entries=False)
    except (OSError, HFValidationError) as error:
        raise UserError(f"cannot find SOURCE {source}: {str(error).strip().splitlines()[0]}") from None
    if file is None:
        raise UserError(f"SOURCE {source} holds no config.json")
    try:
        content = json.loads(Path(file).read_text())
    except ValueError as error:
        raise UserError(f"{source}/config.json is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{source}/config.json must hold settings")
    return content


def _read_weights(source: str) -> Weights:
    """All tensors of the model, from safetensors or, where there is none, from PyTorch's own format; sharded or not."""
    for name, load in (("model.safetensors", load_file), ("pytorch_model.bin", _load_pickle)):
        files = [cached_file(source, name, _raise_exceptions_for_missing_entries=False)]
        if files[0] is None:
            index = cached_file(source, f"{name}.index.json", _raise_exceptions_for_missing_entries=False)
            files = [] if index is None else get_checkpoint_shard_files(source, index)[0]
        if files:
            weights: Weights = {}
            for file in files:
                try:
                    weights |= load(file)
                except Exception as error:  # safetensors and pickle each have their own
                    raise UserError(f"cannot read {file}: {str(error).strip().splitlines()[0]}") from None
            return weights
    raise UserError(f"SOURCE {source} holds no weights (model.safetensors or pytorch_model.bin)")


def _load_pickle(file: str) -> Weights:
    content = torch.load(file, map_location="cpu", weights_only=True)
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise pickle.UnpicklingError("it holds no named tensors")
    return content


def _recognise(source: str, content: dict[str, Any], weights: Weights) -> Kind:
    kind = content.get("model_type")
    if kind == "adaptive_albert":
        return kind
    if "act_epsilon" in content or any(".act.dense." in name for name in weights):
        return "albert-act"
    if kind in ("bert", "albert"):
        return kind
    raise UserError(f"{source} is a model of type {kind!r}: convert takes bert, albert, albert-act and adaptive_albert")


def _known_fields(config_class: type[PreTrainedConfig], content: dict[str, Any]) -> PreTrainedConfig:
    """The configuration, without keys that others wrote and nobody reads here."""
    known = {key.name for key in fields(config_class)} - {"transformers_version", "architectures", "dtype"}
    return config_class(**{name: value for name, value in content.items() if name in known})


def _rename_bert(weights: Weights) -> Weights:
    # gamma and beta are what the first BERTs, written by TensorFlow, call a layer norm's weight and bias
    renamed = {
        name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias"): weight
        for name, weight in weights.items()
    }
    return _with_prefix("bert.", renamed)


def _rename_albert_act(weights: Weights) -> Weights:
    renamed = {}
    for name, weight in _with_prefix("albert.", weights).items():
        name = re.sub(r"^albert\.encoder\.albert_layer\.act\.dense\.", HALTING, name)
        name = re.sub(r"^albert\.encoder\.albert_layer\.LayerNorm\.", f"{LAYER.format(0)}attention.LayerNorm.", name)
        renamed[re.sub(r"^albert\.encoder\.albert_layer\.", LAYER.format(0), name)] = weight
    return renamed


def _with_prefix(prefix: str, weights: Weights) -> Weights:
    """The names as a model with heads has them (those of a bare encoder lack the prefix), without buffers."""
    bare = ("embeddings.", "encoder.", "pooler.")
    return {
        f"{prefix}{name}" if name.startswith(bare) else name: weight
        for name, weight in weights.items()
        if not name.endswith(("embeddings.position_ids", "embeddings.token_type_ids"))
    }


RENAME: dict[Kind, Callable[[Weights], Weights]] = {
    "bert": _rename_bert,
    "albert": lambda weights: _with_prefix("albert.", weights),
    "albert-act": _rename_albert_act,
    "adaptive_albert": lambda weights: _with_prefix("albert.", weights),
}
"""From the names in a file to those of HF's model for pre-training."""


def _check(
    source: str, weights: Weights, model_class: type[PreTrainedModel], config: PreTrainedConfig, heads: tuple[str, ...]
) -> None:
    """Refuse weights that are missing, left over, of another size, or untied where they are to be one.

    Args:
        source: for the message.
        weights: under the names of `model_class`.
        model_class: the model that has all of them.
        config: its sizes.
        heads: prefixes of what may be missing as a whole.
    """
    with torch.device("meta"):
        wanted = {name: weight.shape for name, weight in model_class(config).state_dict().items()}
    absent = tuple(head for head in heads if not any(name.startswith(head) for name in weights))
    problems = {
        "lacks": [n for n in wanted if n not in weights and n not in TIED and not n.startswith(absent)],
        "has weights that nobody here reads:": [name for name in weights if name not in wanted],
    }
    for problem, names in problems.items():
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise UserError(f"{source} {problem} {', '.join(sorted(names)[:3])}{more}")
    for name, weight in weights.items():
        if weight.shape != wanted[name]:
            raise UserError(f"{source}: {name} is {list(weight.shape)}, its config.json asks for {list(wanted[name])}")
        if name in TIED and not torch.equal(weight, weights[TIED[name]]):
            raise UserError(f"{source}: {name} must be {TIED[name]}; here they differ, and ALBERT ties them")
