"""What a training takes before it has begun: floating point operations, memory, disk. All formulas of `depthlab plan`.

Shapes: T tokens of a sequence, R of them running; H hidden, I intermediate, E embedding, V vocabulary, L cap.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers import PreTrainedModel

from depthlab.models import AdaptiveAlbertConfig
from depthlab.optim import parameter_groups

BACKWARD = 2
"""A backward pass costs as much as two forward passes: a product for the inputs' gradient, one for the weights'."""
FP32 = 4
"""Bytes of a number; weights, gradients and optimiser states have it under mixed precision, too."""


def spread_depths(mean: float, cap: int, length: int) -> Tensor:
    """Depths of a sequence of which only the mean is known: evenly spread, from 1 or to the cap. [1, T] int64."""
    low, high = (1.0, 2 * mean - 1) if 2 * mean - 1 <= cap else (2 * mean - cap, float(cap))
    return torch.linspace(low, high, length).round().long().clamp(1, cap)[None]


def parameter_count(model: nn.Module) -> int:
    """Each parameter once, however many places it is tied to."""
    return sum(parameter.numel() for parameter in model.parameters())


def training_flops(model: PreTrainedModel, depths: Tensor, predicted: float = 0, forwards: int = 1) -> float:
    """Floating point operations that training takes for a sequence: a forward and a backward pass.

    Of a model without depths, two for each parameter of its matrices and each token; its attention is left out.

    Args:
        model: with its heads.
        depths: [1, T], of its tokens.
        predicted: positions that the vocabulary is predicted at.
        forwards: forward passes, where more than one is made for each backward pass.
    """
    base = model.base_model
    if isinstance(model.config, AdaptiveAlbertConfig):
        forward = float(base.flops(depths))
    else:
        forward = 2.0 * depths.numel() * _matrices(base)
    for name, head in model.named_children():
        if model is not base and head is not base:
            forward += 2.0 * (predicted if name == "predictions" else 1) * _matrices(head)
    return forward * (forwards + BACKWARD)


def activation_bytes(
    model: PreTrainedModel, depths: Tensor, predicted: float = 0, mixed: bool = False, on_cpu: bool = False
) -> float:
    """Bytes that the forward pass of a sequence keeps for the backward pass; nan for a model that is not an ALBERT.

    An iteration keeps queries, keys, values and attention's output, [T, H] each, as among many sequences there is one
    that runs on; both sides of the activation, [R, I] each; and in rows [R, H] what norms, residuals and halting need:
    counted of what torch saves, see `_rows`. Attention by plain products keeps its weights, too: eager, and in mixed
    precision on a CPU. Dropout, which our models have none of, is left out.

    Args:
        model: with its heads.
        depths: [1, T], of its tokens.
        predicted: positions that the vocabulary is predicted at.
        mixed: products in two bytes (`bf16-mixed`), or everything in four.
        on_cpu: whether a CPU trains it.
    """
    config = model.config
    if not isinstance(config, AdaptiveAlbertConfig):
        return float("nan")
    low = 2 if mixed else FP32
    hidden, inner, length = config.hidden_size, config.intermediate_size, depths.numel()
    kept, before = 2.0 * FP32 * length * config.embedding_size, length
    by_products = config._attn_implementation == "eager" or (mixed and on_cpu)
    for n in range(1, int(depths.max()) + 1):
        running = int((depths >= n).sum())
        compact = config.rule.adaptive and config.execution == "compact"
        rows = running if compact else length
        of_products, of_states = _rows(config, mixed, shrinks=running < before)
        kept += rows * (hidden * (of_products * low + of_states * FP32) + 2 * inner * low)
        kept += 4 * length * hidden * low
        if by_products:
            kept += config.num_attention_heads * rows * length * low
        before = running
    if hasattr(model, "predictions"):
        kept += predicted * (config.vocab_size * FP32 + hidden * low + 8 * config.embedding_size * low)
    return kept


def _rows(config: AdaptiveAlbertConfig, mixed: bool, shrinks: bool) -> tuple[int, int]:
    """Rows [R, H] that an iteration keeps: of products, in their precision, and of states, in fp32."""
    if not config.rule.adaptive:
        return (4, 2) if mixed else (0, 4)
    if config.execution == "dense":
        return (4, 3) if mixed else (0, 5)
    copies = 4 if shrinks else 0  # states, queries and context are gathered from more rows
    if mixed:
        return 4 + copies, 3
    return 0, (6 if config.act_update == "blend" else 5) + copies


def cast_bytes(model: nn.Module, mixed: bool) -> int:
    """Of the copies of matrices in two bytes that autocast keeps while a batch is computed."""
    return 2 * _matrices(model) if mixed else 0


def optimizer_bytes(model: nn.Module, optimizer: Callable[[Iterable[Any]], Optimizer]) -> int:
    """Of an optimiser's state after its first step, which is made of tensors without values: any optimiser's."""
    twins: dict[nn.Parameter, nn.Parameter] = {}
    groups = parameter_groups(model)
    for group in groups:
        group["params"] = [twins.setdefault(p, _without_values(p)) for p in group["params"]]
    made = optimizer([group for group in groups if group["params"]])
    made.step()
    states = (value for state in made.state.values() for value in state.values())
    return sum(value.numel() * value.element_size() for value in states if isinstance(value, Tensor))


def corpus_bytes(tokens: float, sentences: float, chunks: float, grams: float, vocab_size: int) -> float:
    """Of a prepared corpus on the disk: Arrow's columns of ids, lengths of sentences, sampled 13-grams, and documents.

    Of a document there are its number and its digest. A list takes an offset of 4 bytes more than its items.
    """
    return tokens * (2 if vocab_size <= 2**16 else 4) + sentences * 4 + grams * 8 + chunks * (3 * 4 + 2 * 8)


def _matrices(module: nn.Module) -> int:
    """Parameters of the linear layers of a module, each once."""
    weights = {layer.weight for layer in module.modules() if isinstance(layer, nn.Linear)}
    return sum(weight.numel() for weight in weights)


def _without_values(parameter: nn.Parameter) -> nn.Parameter:
    twin = nn.Parameter(torch.empty_like(parameter, device="meta"))
    twin.grad = torch.empty_like(twin)
    return twin
