"""BERT's untied layers become ALBERT's shared one, and its embeddings may be factorised.

Shapes: V vocabulary, E embedding, H hidden, N embedding sums.
"""

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from depthlab.errors import UserError
from depthlab.models.foreign import LAYER, PROJECTION, Source, Weights

Tie = Literal["average", "first", "last", "none"] | int


def bert_to_albert(source: Source, tie: Tie, embedding_size: int | None) -> tuple[Weights, dict[str, Any]]:
    """BERT's weights under ALBERT's names, and the fields of ALBERT's configuration; heads only where BERT has them.

    With E = H the projection is the identity, and the embeddings, heads and a layer are BERT's own.

    With E < H they are approximated, and of an MLM head only the bias stays.

    Raises:
        UserError: there is no layer of that number, or the embedding size is not in [2, H].
    """
    config, weights = source.config, source.weights
    hidden = config.hidden_size
    width = hidden if embedding_size is None else embedding_size
    if not 2 <= width <= hidden:
        raise UserError(f"--embedding_size must lie between 2 and the hidden size {hidden}, got {width}")
    renamed = {
        **tie_layers(weights, config.num_hidden_layers, tie),
        **{f"al{name}": weight for name, weight in weights.items() if name.startswith("bert.embeddings.")},
    }
    which = tie if isinstance(tie, str) else f"layer {tie}"
    source.notes.append(f"tied         {which} of {config.num_hidden_layers} layers")
    if "bert.pooler.dense.weight" in weights:
        for leaf in ("weight", "bias"):
            renamed[f"albert.pooler.{leaf}"] = weights[f"bert.pooler.dense.{leaf}"]
    dropped = sorted(name for name in weights if name.startswith("cls.seq_relationship."))
    if dropped:
        source.notes.append(f"dropped      {', '.join(dropped)} (next sentence prediction)")

    # A head's last layer norm is of width H and cannot be one of width E: factorised, only its bias stays.
    has_head = "cls.predictions.bias" in weights and width == hidden
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
        if "cls.predictions.bias" in weights:
            renamed["predictions.bias"] = weights["cls.predictions.bias"]
            source.notes.append("dropped      cls.predictions.transform.* (of width H, not E)")
        source.notes.append("new          predictions.* (started from the embeddings: dense inverts the projection)")

    names = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act")
    names += ("max_position_embeddings", "type_vocab_size", "initializer_range", "layer_norm_eps")
    names += ("pad_token_id", "bos_token_id", "eos_token_id")
    source.notes.append("dropout      0 in embeddings and layers, as ALBERT's")
    return renamed, {**{name: getattr(config, name) for name in names}, "embedding_size": width}


def tie_layers(weights: Weights, layers: int, tie: Tie) -> Weights:
    """The shared layer, out of BERT's layers; or, with "none", all of them, a group each.

    Raises:
        UserError: there is no layer of that number.
    """
    if isinstance(tie, int) and not 1 <= tie <= layers:
        raise UserError(f"--tie {tie}: SOURCE has the layers 1 to {layers}")
    everyone = list(range(layers))
    groups = {"average": [everyone], "first": [[0]], "last": [[layers - 1]], "none": [[n] for n in everyone]}
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
    tied = {}
    for group, members in enumerate(groups.get(tie) or [[int(tie) - 1]]):
        for theirs, ours in modules.items():
            for leaf in ("weight", "bias"):
                untied = torch.stack([weights[f"bert.encoder.layer.{n}.{theirs}.{leaf}"] for n in members])
                tied[f"{LAYER.format(group)}{ours}.{leaf}"] = untied.double().mean(dim=0).to(untied.dtype)
    return tied


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
    """Replace embeddings of width H by those of width E, in place, and note the residual."""
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
