"""Weights of others in and out: what BERT, ALBERT and the authors' albert-act trained becomes an adaptive ALBERT.

Nothing is filled in silently: what SOURCE has and we do not, or the other way round, is an error that names the weight,
but for heads and the halting unit, which may be new and are then listed.
"""

from dataclasses import fields
from typing import Any, Literal, TypedDict, Unpack

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import nn
from transformers import AlbertConfig, AlbertForPreTraining, PreTrainedModel

from depthlab.errors import UserError
from depthlab.models import (
    AdaptiveAlbertConfig,
    AdaptiveAlbertForPreTraining,
    AdaptiveBertConfig,
    AdaptiveBertForPreTraining,
)
from depthlab.models.convert.factorising import factorise_embeddings
from depthlab.models.convert.foreign import HALTING, Source, Weights, albert_sizes, read_source
from depthlab.models.convert.tying import Tie, bert_to_albert
from depthlab.models.halting.act import ActCap

As = TypedDict("As", {"as": Literal["adaptive_albert", "albert"]}, total=False)  # Python's own word

NO_JUMP = 0.1
"""The weight that a new halting unit gives away before the cap when the first depth is the cap."""


def convert(
    source: str,
    *,
    tie: Tie | None = None,
    relax: int | None = None,
    embedding_size: int | None = None,
    num_hidden_layers: int | None = None,
    halting: Literal["act", "fixed"] | None = None,
    act_update: Literal["blend", "accumulate"] | None = None,
    act_cap: ActCap | None = None,
    mean_depth: int | float | None = None,
    **kind: Unpack[As],
) -> tuple[PreTrainedModel, list[str]]:
    """A trained BERT, ALBERT or albert-act as an adaptive ALBERT.

    Args:
        source: a directory in Hugging Face's form, or a name on its hub; what kind of model it is, its files say.
        tie: a BERT: which of its layers becomes the shared one: the first (the default; see experiments/RESULTS.md),
            the last, the average of all, or the layer of that number, counted from 1; or "none", which keeps them all:
            the untied study baseline.
        relax: a BERT: the rank by which iterations may differ, outside keys and values, from the shared layer, which is
            then the average of all unless `tie` says otherwise. The differences are the nearest to BERT's layers.
        embedding_size: E. By default SOURCE's (a BERT's hidden size), which is exact; a smaller one factorises the
            embeddings, also those of a model of ours.
        num_hidden_layers: L, the cap; SOURCE's number of layers by default.
        halting: "act", or "fixed": without a halting unit, every token L times. "act" unless SOURCE is fixed already.
        act_update: "accumulate" by default, which turns a fixed depth adaptive without a jump; albert-act: "blend".
        act_cap: "remainder" by default; albert-act: "truncate".
        mean_depth: depth of every token before training, at least 2, at most L, by the bias of a new halting unit; by
            default L.
        kind: `as="albert"`: a plain ALBERT of Hugging Face's, where depth is fixed.

    Returns:
        The model; and what it is, and what became of the weights, a line each.

    Raises:
        UserError: weights are missing, left over or of another size; or a setting makes no sense for this SOURCE.
    """
    read = read_source(source)
    as_albert = kind.get("as") == "albert"
    if read.kind == "adaptive_albert" and not as_albert and embedding_size is None:
        raise UserError(
            f"{source} is an adaptive ALBERT already: `--embedding_size` factorises its embeddings, and `--as albert` "
            "makes it a plain one"
        )
    for name, setting in {"tie": tie, "relax": relax}.items():
        if read.kind != "bert" and setting is not None:
            raise UserError(f"--{name} is for BERTs; {source} is of kind {read.kind}")
    if relax is not None and (tie == "none" or as_albert):
        raise UserError("--relax is for a shared layer of ours: leave out " + ("--as" if as_albert else "--tie none"))
    if relax is not None and not 1 <= relax <= read.config.hidden_size:
        raise UserError(f"--relax must lie between 1 and SOURCE's hidden size {read.config.hidden_size}, got {relax}")

    if read.kind == "bert":
        usual = "first" if relax is None else "average"
        weights, sizes = bert_to_albert(read, usual if tie is None else tie, relax or 0)
    else:
        weights, sizes = read.weights, albert_sizes(read.config)
    widest = sizes["embedding_size"]
    if embedding_size is not None and not 2 <= embedding_size <= widest:
        raise UserError(f"--embedding_size must lie between 2 and SOURCE's {widest}, got {embedding_size}")
    if embedding_size not in (None, widest):
        weights = factorise_embeddings(weights, embedding_size, read.config.layer_norm_eps, read.notes)
        sizes["embedding_size"] = embedding_size
    settings = {"halting": halting, "act_update": act_update, "act_cap": act_cap}
    config_class = AdaptiveBertConfig if tie == "none" else AdaptiveAlbertConfig
    if tie == "none" and (as_albert or num_hidden_layers is not None):
        raise UserError("--tie none keeps BERT's layers as they are: leave --as and --num_hidden_layers out")
    config = _configure(config_class, read, sizes, settings | {"num_hidden_layers": num_hidden_layers})
    if as_albert and config.relaxation_rank:
        raise UserError(
            f"--as albert: ALBERT's iterations are all the same; those of {source} differ (relaxation_rank)"
        )
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

    model_class = AdaptiveBertForPreTraining if tie == "none" else AdaptiveAlbertForPreTraining
    model = _build(AlbertForPreTraining if as_albert else model_class, config, weights, read)
    depth = f"{config.act_update}, {config.act_cap}" if config.halting == "act" else "every token L times"
    summary = [
        f"kind         {read.kind}: {source}",
        f"sizes        V {config.vocab_size}, E {config.embedding_size}, H {config.hidden_size}, "
        f"{config.num_attention_heads} heads, FFN {config.intermediate_size}, L {config.num_hidden_layers}",
        f"halting      {config.halting} ({depth})",
    ]
    return model, summary + read.notes


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


def _configure(
    config_class: type[AdaptiveAlbertConfig], source: Source, sizes: dict[str, Any], settings: dict[str, Any]
) -> AdaptiveAlbertConfig:
    """The configuration of what is written, fields given by the user last; another rule begins without settings."""
    if source.kind in ("bert", "albert"):
        sizes = sizes | {"act_update": "accumulate", "act_cap": "remainder", "halting": "act"}
    sizes = sizes | {"tie_word_embeddings": True}  # which `_check` has seen to
    given = {name: value for name, value in settings.items() if value is not None}
    if given.get("halting", sizes["halting"]) != sizes["halting"]:
        given["halting_settings"] = {}
    known = {key.name for key in fields(config_class)}
    try:
        config = config_class(**{name: value for name, value in (sizes | given).items() if name in known})
    except StrictDataclassError as error:
        raise UserError(" ".join(str(error).split()).rpartition("ValueError: ")[2]) from None
    return config


def _build(
    model_class: type[PreTrainedModel], config: AdaptiveAlbertConfig, weights: Weights, source: Source
) -> PreTrainedModel:
    """The model with these weights; heads that are not among them come from the initialiser."""
    if model_class is AlbertForPreTraining:
        plain = {key.name for key in fields(AlbertConfig)}
        config = AlbertConfig(**{name: value for name, value in albert_sizes(config).items() if name in plain})
    with torch.random.fork_rng():
        torch.manual_seed(0)  # new heads are the same every time
        model = model_class(config)
    model.to(weights["albert.embeddings.word_embeddings.weight"].dtype)
    halting = getattr(model.base_model.encoder, "halting", None)
    if halting is not None:
        nn.init.zeros_(halting.weight)  # so that every token starts at the wished depth, whatever its state
    missing = model.load_state_dict(weights, strict=False).missing_keys
    new = [name for name in missing if name not in model._tied_weights_keys]
    if new:
        source.notes.append(f"new          {', '.join(new)}")
    return model
