"""From a model to an ONNX graph: ids in; states, depths and, with a head, logits out. Batches and lengths are free."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from torch import nn
from transformers import AutoTokenizer

from depthlab.errors import UserError
from depthlab.files import writing
from depthlab.models.albert import AdaptiveAlbertModel, AdaptiveAlbertPreTrainedModel
from depthlab.models.checkpoint import find_tokenizer, load_as_saved
from depthlab.models.heads import AdaptiveAlbertForSequenceClassification, AdaptiveAlbertForTokenClassification
from depthlab.models.inputs import check_vocabulary
from depthlab.models.onnx import halting
from depthlab.models.onnx.graph import BOOL, FLOAT, INT, Graph
from depthlab.models.onnx.iteration import Batch, Iteration
from depthlab.models.onnx.weights import Weights

OnnxDtype = Literal["float32", "int8"]
INPUTS = {name: ["batch", "length"] for name in ("input_ids", "attention_mask", "token_type_ids")}
FILE = "model.onnx"
LEAST = float(np.finfo(np.float32).min)
"""Added to the scores of padding: a sequence of nothing else has no NaN."""


@dataclass(frozen=True)
class ExportedGraph:
    """A graph that was written; as text, one line about it."""

    path: Path
    """Its folder."""
    outputs: list[str]
    dtype: OnnxDtype

    def __str__(self) -> str:
        size = -(-(self.path / FILE).stat().st_size // 1000)
        return f"{self.path / FILE} ({size:,} kB in {self.dtype}; gives {', '.join(self.outputs)})"


def write_onnx(checkpoint: str, target: Path, dtype: OnnxDtype = "float32") -> ExportedGraph:
    """Write a model's graph into a folder, with its configuration and tokenizer.

    Args:
        checkpoint: a run, a directory of Hugging Face's form with an adaptive ALBERT, or an ALBERT.
        target: the folder; it is there once all of it is.
        dtype: of matrices.

    Raises:
        UserError: there is no model or no tokenizer; the model has no form in ONNX; the folder can't be written.
    """
    model = load_as_saved(checkpoint)
    place = find_tokenizer(checkpoint)
    settings = {"model_input_names": [*INPUTS], "model_max_length": model.config.max_position_embeddings}
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, **settings)
    except (OSError, ValueError) as error:
        raise UserError(f"{place} has no tokenizer: {str(error).splitlines()[0]}") from error
    check_vocabulary(checkpoint, model.config, len(tokenizer))
    graph = to_onnx(model, dtype)
    with writing("the graph to", target) as unfinished:
        unfinished.mkdir()
        onnx.save(graph, unfinished / FILE)
        model.config.save_pretrained(unfinished)
        tokenizer.save_pretrained(unfinished)
    return ExportedGraph(target, [output.name for output in graph.graph.output], dtype)


def to_onnx(model: AdaptiveAlbertPreTrainedModel, dtype: OnnxDtype = "float32") -> onnx.ModelProto:
    """The graph of a model's compact execution, in evaluation mode.

    Inputs: `input_ids`, `attention_mask`, `token_type_ids`, [batch, length] int64. Outputs: `last_hidden_state`
    [batch, length, H], `depths` [batch, length] int64, `pooler_output` [batch, H] where the model has a pooler,
    `logits` of a classifier of sequences or tokens. Other heads are left out.

    Args:
        model: a base model, or one with a head.
        dtype: of matrices. Halting is decided in float32 whatever they are, layer norms and attention are computed in
            it.

    Raises:
        UserError: an iteration has several layers, or the halting rule or activation has no form in ONNX.
    """
    base: AdaptiveAlbertModel = model.base_model
    config = base.config
    if config.inner_group_num != 1:
        raise UserError("only a model with one layer an iteration can be exported to ONNX")
    weights = Weights({module: name for name, module in base.named_modules()}, dtype == "int8")
    graph = Graph()
    shape = graph("Shape", "input_ids")
    rows, length = (graph("Gather", shape, axis) for axis in (0, 1))
    real, embedded = _embedded(graph, base, weights, length)
    padding = graph("Sub", graph.literal(1, np.float32), graph("Cast", "attention_mask", to=FLOAT))
    mask = graph("Mul", padding, graph.literal(LEAST, np.float32))
    starts = graph("Mul", graph("Range", 0, rows, 1), length)
    first = graph("Add", starts, graph("ArgMax", "attention_mask", axis=1, keepdims=0))
    batch = Batch(rows, length, graph.column(graph.column(mask)), real, first)
    projected = weights.linear(graph, base.encoder.embedding_hidden_mapping_in, graph("Gather", embedded, real))
    nowhere = graph.zeros(FLOAT, graph("Mul", rows, length), config.hidden_size)
    states = graph("ScatterND", nowhere, graph.column(real), projected)
    states, depths = halting.run(graph, batch, base.encoder, Iteration(base.encoder, weights), states)

    outputs: dict[str, tuple[str, int, list[Any]]] = {
        "last_hidden_state": (
            graph.reshape(states, rows, length, config.hidden_size),
            FLOAT,
            ["batch", "length", config.hidden_size],
        ),
        "depths": (graph.reshape(depths, rows, length), INT, ["batch", "length"]),
    }
    if base.pooler is not None:
        pooled = weights.linear(graph, base.pooler, graph("Gather", states, first))
        pooled = graph("Tanh", pooled)
        outputs["pooler_output"] = pooled, FLOAT, ["batch", config.hidden_size]
        if isinstance(model, AdaptiveAlbertForSequenceClassification):
            outputs["logits"] = _classes(graph, weights, model.classifier, pooled), FLOAT, ["batch", config.num_labels]
    if isinstance(model, AdaptiveAlbertForTokenClassification):
        logits = graph.reshape(_classes(graph, weights, model.classifier, states), rows, length, config.num_labels)
        outputs["logits"] = logits, FLOAT, ["batch", "length", config.num_labels]
    return graph.model(INPUTS, outputs)


def _embedded(graph: Graph, base: AdaptiveAlbertModel, weights: Weights, length: str) -> tuple[str, str]:
    """Rows of the real tokens in [B * T], and the embeddings [B * T, E]; positions count from the first real token."""
    real = graph("Cast", graph.reshape("attention_mask", -1), to=BOOL)
    real = graph("Squeeze", graph("NonZero", real), graph.literal([0]))
    first = graph("ArgMax", "attention_mask", axis=1, keepdims=1)
    places = graph("Sub", graph.column(graph("Range", 0, length, 1), 0), first)
    places = graph("Max", places, 0)
    parts = base.embeddings
    embedded = graph(
        "Add",
        weights.embedding(graph, parts.word_embeddings, "input_ids"),
        weights.embedding(graph, parts.token_type_embeddings, "token_type_ids"),
    )
    embedded = graph("Add", embedded, weights.embedding(graph, parts.position_embeddings, places))
    embedded = weights.norm(graph, parts.LayerNorm, embedded)
    return real, graph.reshape(embedded, -1, base.config.embedding_size)


def _classes(graph: Graph, weights: Weights, classifier: nn.Linear, rows: str) -> str:
    weights.names[classifier] = "classifier"
    return weights.linear(graph, classifier, rows)
