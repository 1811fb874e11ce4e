"""BERT's untied layers become ALBERT's shared one."""

from typing import Any, Literal

import torch

from depthlab.errors import UserError
from depthlab.models.convert.foreign import LAYER, PROJECTION, Source, Weights
from depthlab.models.convert.relaxing import relax_layers

Tie = Literal["average", "first", "last", "none"] | int

MODULES = {
    "attention.self.query": "attention.query",
    "attention.self.key": "attention.key",
    "attention.self.value": "attention.value",
    "attention.output.dense": "attention.dense",
    "attention.output.LayerNorm": "attention.LayerNorm",
    "intermediate.dense": "ffn",
    "output.dense": "ffn_output",
    "output.LayerNorm": "full_layer_layer_norm",
}
"""Of a layer: BERT's names and ALBERT's."""


def bert_to_albert(source: Source, tie: Tie, rank: int = 0) -> tuple[Weights, dict[str, Any]]:
    """BERT's weights under ALBERT's names, and the fields of ALBERT's configuration.

    E = H: the projection is the identity, and embeddings, heads and a layer are BERT's own. Where BERT has no MLM head,
    a new one hands states on as they are, to be compared with the embeddings. With a rank, iterations keep what of
    their layers that rank holds.

    Raises:
        UserError: there is no layer of that number.
    """
    config, weights = source.config, source.weights
    shared = tie_layers(weights, config.num_hidden_layers, tie)
    renamed = {
        **shared,
        **{f"al{name}": weight for name, weight in weights.items() if name.startswith("bert.embeddings.")},
    }
    which = tie if isinstance(tie, str) else f"layer {tie}"
    source.notes.append(f"tied         {which} of {config.num_hidden_layers} layers")
    if rank:
        layers = [tie_layers(weights, config.num_hidden_layers, n + 1) for n in range(config.num_hidden_layers)]
        renamed |= relax_layers(layers, shared, rank, source.notes)
    if "bert.pooler.dense.weight" in weights:
        for leaf in ("weight", "bias"):
            renamed[f"albert.pooler.{leaf}"] = weights[f"bert.pooler.dense.{leaf}"]
    dropped = sorted(name for name in weights if name.startswith("cls.seq_relationship."))
    if dropped:
        source.notes.append(f"dropped      {', '.join(dropped)} (next sentence prediction)")

    words = weights["bert.embeddings.word_embeddings.weight"]
    identity, zeros = torch.eye(words.shape[1], dtype=words.dtype), words.new_zeros(words.shape[1])
    renamed |= {f"{PROJECTION}weight": identity, f"{PROJECTION}bias": zeros}
    if "cls.predictions.bias" in weights:
        renamed["predictions.bias"] = weights["cls.predictions.bias"]
        for module in ("dense", "LayerNorm"):
            for leaf in ("weight", "bias"):
                renamed[f"predictions.{module}.{leaf}"] = weights[f"cls.predictions.transform.{module}.{leaf}"]
    else:
        renamed |= {
            "predictions.dense.weight": identity.clone(),
            "predictions.dense.bias": zeros.clone(),
            "predictions.LayerNorm.weight": torch.ones_like(zeros),
            "predictions.LayerNorm.bias": zeros.clone(),
            "predictions.bias": words.new_zeros(len(words)),
        }
        source.notes.append("new          predictions.* (a state is compared with the embeddings)")

    names = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act")
    names += ("max_position_embeddings", "type_vocab_size", "initializer_range", "layer_norm_eps")
    names += ("pad_token_id", "bos_token_id", "eos_token_id")
    source.notes.append("dropout      0 in embeddings and layers, as ALBERT's")
    sizes = {name: getattr(config, name) for name in names} | {"embedding_size": config.hidden_size}
    if rank:
        sizes |= {"relaxation_rank": rank, "relaxed_iterations": config.num_hidden_layers}
    return renamed, sizes


def tie_layers(weights: Weights, layers: int, tie: Tie) -> Weights:
    """The shared layer, out of BERT's layers; or, with "none", all of them, a group each.

    Raises:
        UserError: there is no layer of that number.
    """
    if isinstance(tie, int) and not 1 <= tie <= layers:
        raise UserError(f"--tie {tie}: SOURCE has the layers 1 to {layers}")
    everyone = list(range(layers))
    groups = {"average": [everyone], "first": [[0]], "last": [[layers - 1]], "none": [[n] for n in everyone]}
    tied = {}
    for group, members in enumerate(groups.get(tie) or [[int(tie) - 1]]):
        for theirs, ours in MODULES.items():
            for leaf in ("weight", "bias"):
                untied = torch.stack([weights[f"bert.encoder.layer.{n}.{theirs}.{leaf}"] for n in members])
                tied[f"{LAYER.format(group)}{ours}.{leaf}"] = untied.double().mean(dim=0).to(untied.dtype)
    return tied
