"""Weights of others in and out: what BERT, ALBERT and the authors' albert-act trained becomes an adaptive ALBERT.

Nothing is filled in silently: what SOURCE has and we do not, or the other way round, is an error that names the weight,
but for heads and the halting unit, which may be new and are then listed.

Shapes: V vocabulary, E embedding, H hidden, P positions.
"""

import json
import os
import pickle
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack

import torch
from huggingface_hub.errors import HFValidationError, StrictDataclassError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    AlbertConfig,
    AlbertForPreTraining,
    AutoTokenizer,
    BertConfig,
    BertForPreTraining,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.utils import cached_file
from transformers.utils.hub import get_checkpoint_shard_files

from depthlab.errors import UserError
from depthlab.models.albert import AdaptiveAlbertConfig, AdaptiveAlbertForPreTraining
from depthlab.models.halting import ActCap

Kind = Literal["bert", "albert", "albert-act", "adaptive_albert"]
Target = Literal["adaptive_albert", "albert"]
Tie = Literal["average", "first", "last"] | int
Weights = dict[str, Tensor]

Kinds = TypedDict("Kinds", {"from": Kind | None, "as": Target}, total=False)  # both are Python's own words

LAYER = "albert.encoder.albert_layer_groups.0.albert_layers.0."
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

NO_JUMP = 0.1
"""The weight that a new halting unit gives away before the cap when the first depth is the cap."""


@dataclass
class Source:
    """A model as it was read; the weights carry HF's names, prefix included."""

    kind: Kind
    config: PreTrainedConfig
    weights: Weights
    notes: list[str] = field(default_factory=list)
    """What happened to it, for the user to know."""


def convert(
    source: str,
    out: str,
    *,
    tie: Tie | None = None,
    embedding_size: int | None = None,
    num_hidden_layers: int | None = None,
    halting: Literal["act", "fixed"] | None = None,
    act_update: Literal["blend", "accumulate"] | None = None,
    act_cap: ActCap | None = None,
    mean_depth: int | float | None = None,
    **kinds: Unpack[Kinds],
) -> None:
    """Turn a trained BERT, ALBERT or albert-act into an adaptive ALBERT: config, safetensors and tokenizer in OUT.

    `--from bert|albert|albert-act|adaptive_albert` is what SOURCE is, recognised when not given. `--as albert` writes
    a plain Hugging Face ALBERT, where depth is fixed; `--as adaptive_albert` is the default. Weights that are new,
    dropped or approximated are listed; weights that are missing, left over or of another size are refused.

    Args:
        source: a directory in Hugging Face's form, tokenizer included, or a name on its hub.
        out: the directory to write; it must not exist yet, or be empty.
        tie: bert: which of its layers becomes the shared one: their average (the default), the first, the last, or
            the layer of that number, counted from 1.
        embedding_size: bert: E. By default its hidden size, which is exact; a smaller one factorises the embeddings.
        num_hidden_layers: L, the cap; SOURCE's number of layers by default.
        halting: "act", or "fixed": without a halting unit, every token L times. "act" unless SOURCE is fixed already.
        act_update: "accumulate" by default, which turns a fixed depth adaptive without a jump; albert-act: "blend".
        act_cap: "remainder" by default; albert-act: "truncate".
        mean_depth: depth of every token before training, at least 2, at most L, by the bias of a new halting unit; by
            default L.
        kinds: `from` and `as`.

    Raises:
        UserError: see above; or a setting makes no sense for this SOURCE, or OUT can't be written.
    """
    target = Path(out)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"OUT {target} exists already: name another directory or remove it")
    read = read_source(source, kinds.get("from"))
    as_albert = kinds.get("as") == "albert"
    if read.kind == "adaptive_albert" and not as_albert:
        raise UserError(f"{source} is an adaptive ALBERT already: there is only `--as albert` to convert it to")
    if read.kind != "bert":
        for name, value in (("tie", tie), ("embedding_size", embedding_size)):
            if value is not None:
                raise UserError(f"--{name} is for --from bert; {source} is of kind {read.kind}")

    if read.kind == "bert":
        weights, sizes = bert_to_albert(read, "average" if tie is None else tie, embedding_size)
    else:
        weights, sizes = read.weights, _albert_sizes(read.config)
    settings = {"halting": halting, "act_update": act_update, "act_cap": act_cap}
    config = _configure(read, sizes, settings | {"num_hidden_layers": num_hidden_layers})
    if as_albert and config.halting == "act":
        raise UserError(
            "--as albert needs a fixed depth: `--halting fixed` drops the halting unit, and every token then takes all "
            f"{config.num_hidden_layers} iterations"
        )
    brings_unit = f"{HALTING}weight" in weights
    if mean_depth is not None and (brings_unit or config.halting == "fixed"):
        raise UserError("--mean_depth sets the bias of a new halting unit; here there is none")
    if config.halting == "fixed" and brings_unit:
        weights = {name: weight for name, weight in weights.items() if not name.startswith(HALTING)}
        read.notes.append("dropped      the halting unit")
    if config.halting == "act" and not brings_unit:
        config.halting_bias_init = halting_bias(config, config.num_hidden_layers if mean_depth is None else mean_depth)

    model = _build(AlbertForPreTraining if as_albert else AdaptiveAlbertForPreTraining, config, weights, read)
    _write(model, source, target)
    depth = f"{config.act_update}, {config.act_cap}" if config.halting == "act" else "every token L times"
    summary = [
        f"kind         {read.kind}: {source}",
        f"sizes        V {config.vocab_size}, E {config.embedding_size}, H {config.hidden_size}, "
        f"{config.num_attention_heads} heads, FFN {config.intermediate_size}, L {config.num_hidden_layers}",
        f"halting      {config.halting} ({depth})",
        *read.notes,
        f"written to   {target}",
    ]
    print("\n".join(summary))


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
            config = AdaptiveAlbertConfig(**_albert_sizes(config), **epsilon, act_update="blend", act_cap="truncate")
    except StrictDataclassError as error:
        raise UserError(f"{source}/config.json: {' '.join(str(error).split())}") from None
    _check(source, weights, model_class, config, BERT_HEADS if actual == "bert" else ALBERT_HEADS)
    return Source(actual, config, {name: weight for name, weight in weights.items() if name not in TIED})


def halting_bias(config: AdaptiveAlbertConfig, mean_depth: int | float) -> float:
    """The bias b with which tokens take `mean_depth` iterations (at most the cap) as long as the halting weights are 0.

    A constant probability p halts in the first n with n p > 1 - epsilon. p = (1 - epsilon) / (m - 1/2) puts that in the
    middle between m - 1 and m, so that N = m, and stays about m on average when the probabilities start to vary.

    Where every token is to reach the cap, and the cap's weight is the remainder of an accumulated output, p is small
    instead: the iterations before the cap get `NO_JUMP` of the weight together, and the output hardly differs from that
    of the fixed depth.

    Raises:
        UserError: the depth is less than 2; at depth 1 a halting unit gets no gradient.
    """
    cap = config.num_hidden_layers
    if mean_depth < 2 and cap > 1:
        raise UserError(
            f"--mean_depth must be at least 2 (a token of depth 1 teaches its halting unit nothing), got {mean_depth}"
        )
    if cap == 1:
        return 0.0
    if mean_depth >= cap and (config.act_update, config.act_cap) == ("accumulate", "remainder"):
        probability = NO_JUMP / (cap - 1)
    else:
        probability = (1 - config.act_epsilon) / (min(mean_depth, cap) - 0.5)
    return torch.logit(torch.tensor(probability, dtype=torch.float64)).item()


def bert_to_albert(source: Source, tie: Tie, embedding_size: int | None) -> tuple[Weights, dict[str, Any]]:
    """BERT's weights under ALBERT's names, and the fields of ALBERT's configuration; heads only where BERT has them.

    With E = H the projection is the identity, and the embeddings, heads and a layer are BERT's own.

    Raises:
        UserError: there is no layer of that number, or the embedding size is not in [2, H].
    """
    config, weights = source.config, source.weights
    hidden = config.hidden_size
    width = hidden if embedding_size is None else embedding_size
    if not 2 <= width <= hidden:
        raise UserError(f"--embedding_size must lie between 2 and the hidden size {hidden}, got {width}")
    renamed = {
        **_tie(weights, config.num_hidden_layers, tie),
        **{f"al{name}": weight for name, weight in weights.items() if name.startswith("bert.embeddings.")},
    }
    source.notes.append(
        f"tied         {tie if isinstance(tie, str) else f'layer {tie}'} of {config.num_hidden_layers} layers"
    )
    if "bert.pooler.dense.weight" in weights:
        for leaf in ("weight", "bias"):
            renamed[f"albert.pooler.{leaf}"] = weights[f"bert.pooler.dense.{leaf}"]
    dropped = sorted(name for name in weights if name.startswith("cls.seq_relationship."))
    if dropped:
        source.notes.append(f"dropped      {', '.join(dropped)} (next sentence prediction)")

    has_head = "cls.predictions.bias" in weights
    if has_head:
        head = "cls.predictions.transform."
        renamed["predictions.bias"] = weights["cls.predictions.bias"]
        for module in ("dense", "LayerNorm"):
            for leaf in ("weight", "bias"):
                renamed[f"predictions.{module}.{leaf}"] = weights[f"{head}{module}.{leaf}"]
    if width == hidden:
        dtype = weights["bert.embeddings.word_embeddings.weight"].dtype
        renamed[f"{PROJECTION}weight"] = torch.eye(hidden, dtype=dtype)
        renamed[f"{PROJECTION}bias"] = torch.zeros(hidden, dtype=dtype)
    else:
        _factorise_embeddings(renamed, width, config.layer_norm_eps, source.notes)
    if not has_head:
        renamed |= _head_from_embeddings(renamed)
        source.notes.append("new          predictions.* (started from the embeddings: dense inverts the projection)")

    names = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act")
    names += ("max_position_embeddings", "type_vocab_size", "initializer_range", "layer_norm_eps")
    names += ("pad_token_id", "bos_token_id", "eos_token_id")
    source.notes.append("dropout      0 in embeddings and layers, as ALBERT's")
    return renamed, {**{name: getattr(config, name) for name in names}, "embedding_size": width}


def _tie(weights: Weights, layers: int, tie: Tie) -> Weights:
    """The shared layer, out of BERT's layers."""
    if isinstance(tie, int) and not 1 <= tie <= layers:
        raise UserError(f"--tie {tie}: SOURCE has the layers 1 to {layers}")
    chosen = {"average": range(layers), "first": [0], "last": [layers - 1]}.get(tie) or [int(tie) - 1]
    modules = {
        "attention.self.query": "attention.query",
        "attention.self.key": "attention.key",
        "attention.self.value": "attention.value",
        "attention.output.dense": "attention.dense",
        "attention.output.LayerNorm": "attention.LayerNorm",
        "intermediate.dense": "ffn",
        "output.dense": "ffn_output",
        "output.LayerNorm": "full_layer_layer_norm",
    }
    shared = {}
    for theirs, ours in modules.items():
        for leaf in ("weight", "bias"):
            untied = torch.stack([weights[f"bert.encoder.layer.{n}.{theirs}.{leaf}"] for n in chosen])
            shared[f"{LAYER}{ours}.{leaf}"] = untied.double().mean(dim=0).to(untied.dtype)
    return shared


def factorise(
    sums: Tensor, importance: Tensor, gain: Tensor, shift: Tensor, width: int, eps: float
) -> tuple[Tensor, Tensor, Tensor, float]:
    """LN_H(x) ~ projection(LN_E(x B)) for embedding sums x: the basis B and the projection.

    LN_H sees x less the mean of its components, relative to its length. So B holds the E - 1 leading right singular
    vectors of those directions, turned such that x B has components of mean 0, too: LN_E takes nothing away. Weight and
    bias of the projection are the least squares solution. Exact where the directions are of rank E - 1.

    Args:
        sums: [N, H], word + position + type embeddings.
        importance: [N], the weight of each in both fits.
        gain: [H], weight of LN_H.
        shift: [H], its bias.
        width: E.
        eps: of both layer norms; LN_E has weight 1 and bias 0.

    Returns:
        B [H, E]; weight [H, E] and bias [H] of the projection; and the residual over all sums alike, relative to the
        target's deviation from its mean.
    """
    hidden = sums.shape[1]
    directions = F.normalize(sums - sums.mean(dim=1, keepdim=True), dim=1)
    ascending = torch.linalg.eigh(directions.T * importance @ directions).eigenvectors
    leading = ascending.flip(1)[:, : width - 1]  # [H, E - 1]
    frame = torch.eye(width, dtype=sums.dtype)
    frame[:, 0] = 1.0
    of_mean_zero = torch.linalg.qr(frame).Q[:, 1:]  # [E, E - 1]
    basis = (leading - leading.mean(dim=0)) @ of_mean_zero.T
    target = F.layer_norm(sums, (hidden,), gain, shift, eps)
    features = F.pad(F.layer_norm(sums @ basis, (width,), eps=eps), (0, 1), value=1.0)
    scale = importance.sqrt()[:, None]
    # the features sum to 0, so of all solutions the shortest is wanted
    solution = torch.linalg.lstsq(scale * features, scale * target, rcond=1e-10, driver="gelsd").solution  # [E + 1, H]
    error, deviation = features @ solution - target, target - target.mean(dim=0)
    residual = (torch.linalg.norm(error) / torch.linalg.norm(deviation)).item()
    return basis, solution[:-1].T, solution[-1], residual


def _factorise_embeddings(weights: Weights, width: int, eps: float, notes: list[str]) -> None:
    """Replace embeddings of width H by those of width E, in place; a head goes through the same basis."""
    names = {part: f"albert.embeddings.{part}_embeddings.weight" for part in ("word", "position", "token_type")}
    norm = "albert.embeddings.LayerNorm."
    dtype = weights[names["word"]].dtype
    word, position, token_type = (weights[name].double() for name in names.values())
    token = torch.arange(len(word))
    # Every token once, at a position and in a segment that have nothing to do with its frequency. Vocabularies are
    # listed by falling frequency; Zipf's weights bring down the residual over running text (MiniLM, E = 128: 0.70 to
    # 0.66, E = 256: 0.50 to 0.44) at 0.01 over the vocabulary.
    sums = word + position[token * 31 % len(position)] + token_type[token % len(token_type)]
    gain, shift = weights[f"{norm}weight"].double(), weights[f"{norm}bias"].double()
    importance = 1 / (token.double() + 100)
    basis, weight, bias, residual = factorise(sums, importance, gain, shift, width, eps)
    for name in names.values():
        weights[name] = (weights[name].double() @ basis).to(dtype)
    weights[f"{norm}weight"], weights[f"{norm}bias"] = torch.ones(width, dtype=dtype), torch.zeros(width, dtype=dtype)
    weights[f"{PROJECTION}weight"], weights[f"{PROJECTION}bias"] = weight.to(dtype), bias.to(dtype)
    notes.append(f"approximated embeddings factorised to E = {width}, relative residual {residual:.3f}")
    if "predictions.bias" in weights:
        gain, shift = weights["predictions.LayerNorm.weight"].double(), weights["predictions.LayerNorm.bias"].double()
        dense, offset = weights["predictions.dense.weight"].double(), weights["predictions.dense.bias"].double()
        weights["predictions.dense.weight"] = (basis.T * gain @ dense).to(dtype)
        weights["predictions.dense.bias"] = (basis.T @ (gain * offset + shift)).to(dtype)
        weights["predictions.LayerNorm.weight"] = torch.ones(width, dtype=dtype)
        weights["predictions.LayerNorm.bias"] = torch.zeros(width, dtype=dtype)
        notes.append("approximated predictions.* through the basis of the embeddings")


def _head_from_embeddings(weights: Weights) -> Weights:
    """An MLM head that undoes the projection: a state that is still a token's embedding predicts this token."""
    weight, bias = weights[f"{PROJECTION}weight"], weights[f"{PROJECTION}bias"]
    # LN's output sums to 0, and so, but for rounding, do the rows of a factorised projection: that direction stays 0
    inverse = torch.linalg.pinv(weight.double(), rtol=1e-5)  # [E, H]
    vocabulary, width = weights["albert.embeddings.word_embeddings.weight"].shape
    return {
        "predictions.dense.weight": inverse.to(weight.dtype),
        "predictions.dense.bias": -(inverse @ bias.double()).to(weight.dtype),
        "predictions.LayerNorm.weight": torch.ones(width, dtype=weight.dtype),
        "predictions.LayerNorm.bias": torch.zeros(width, dtype=weight.dtype),
        "predictions.bias": torch.zeros(vocabulary, dtype=weight.dtype),
    }


def _albert_sizes(config: PreTrainedConfig) -> dict[str, Any]:
    """The fields of an ALBERT's configuration, without what transformers adds when it writes one."""
    return {key.name: getattr(config, key.name) for key in fields(type(config)) if key.name != "transformers_version"}


def _configure(source: Source, sizes: dict[str, Any], settings: dict[str, Any]) -> AdaptiveAlbertConfig:
    """The configuration of what is written, fields given by the user last."""
    if source.kind in ("bert", "albert"):
        sizes = sizes | {"act_update": "accumulate", "act_cap": "remainder", "halting": "act"}
    sizes = sizes | {"tie_word_embeddings": True}  # which `_check` has seen to
    given = {name: value for name, value in settings.items() if value is not None}
    known = {key.name for key in fields(AdaptiveAlbertConfig)}
    try:
        config = AdaptiveAlbertConfig(**{name: value for name, value in (sizes | given).items() if name in known})
    except StrictDataclassError as error:
        raise UserError(" ".join(str(error).split()).rpartition("ValueError: ")[2]) from None
    return config


def _build(
    model_class: type[PreTrainedModel], config: AdaptiveAlbertConfig, weights: Weights, source: Source
) -> PreTrainedModel:
    """The model with these weights; heads that are not among them come from the initialiser."""
    if model_class is AlbertForPreTraining:
        plain = {key.name for key in fields(AlbertConfig)}
        config = AlbertConfig(**{name: value for name, value in _albert_sizes(config).items() if name in plain})
    with torch.random.fork_rng():
        torch.manual_seed(0)  # new heads are the same every time
        model = model_class(config)
    model.to(weights["albert.embeddings.word_embeddings.weight"].dtype)
    halting = getattr(model.base_model.encoder, "halting", None)
    if halting is not None:
        nn.init.zeros_(halting.weight)  # so that every token starts at the wished depth, whatever its state
    new = [name for name in model.load_state_dict(weights, strict=False).missing_keys if name not in TIED]
    if new:
        source.notes.append(f"new          {', '.join(new)}")
    return model


def _write(model: PreTrainedModel, source: str, target: Path) -> None:
    """Model and tokenizer, under another name until all of it is there."""
    # Where there is none of these files, AutoTokenizer makes up a tokenizer of five tokens.
    files = ("tokenizer.json", "spiece.model", "vocab.txt")
    if not any(cached_file(source, file, _raise_exceptions_for_missing_entries=False) for file in files):
        raise UserError(f"SOURCE {source} holds no tokenizer ({', '.join(files)})")
    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"cannot read the tokenizer of {source}: {str(error).strip().splitlines()[0]}") from None
    if len(tokenizer) > model.config.vocab_size:
        raise UserError(
            f"the tokenizer of {source} has {len(tokenizer)} tokens, its model has embeddings for "
            f"{model.config.vocab_size}"
        )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_name(f".{target.name}.unfinished-{os.getpid()}")
        unfinished.mkdir()
        try:
            model.save_pretrained(unfinished)
            tokenizer.save_pretrained(unfinished)
            unfinished.replace(target)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
    except OSError as error:
        raise UserError(f"cannot write to OUT {target}: {error.strerror or error}") from None


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
        name = re.sub(r"^albert\.encoder\.albert_layer\.LayerNorm\.", f"{LAYER}attention.LayerNorm.", name)
        renamed[re.sub(r"^albert\.encoder\.albert_layer\.", LAYER, name)] = weight
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
