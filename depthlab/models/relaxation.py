"""Relaxed tying: what an iteration may have of its own beside the shared layer, leaving halted tokens out being exact.

A halted token is attended to by its key and value, and these stay what they are as long as their projections are
shared. All else of the layer is computed for running tokens only, so it may differ from iteration to iteration. Query,
attention output and feed-forward network differ by matrices of low rank, after Bae et al. 2024, "Relaxed Recursive
Transformers" (arXiv:2410.20672); biases and layer norms by as much as they like. That keys and values stay shared is
ours.

What an iteration has of its own is a tree with the layer's names: of its `attention` the `query`, `dense` and
`LayerNorm`; `ffn`, `ffn_output` and `full_layer_layer_norm`.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import initialization as init
from transformers.models.albert.modeling_albert import AlbertLayer


class Up(nn.Linear):
    """B and b of a linear layer's difference; 0 in a new model."""


class LowRank(nn.Module):
    """The difference of a linear layer's output, B A x + b: A [r, in] is `down`, B [out, r] and b [out] are `up`."""

    def __init__(self, shared: nn.Linear, rank: int) -> None:
        super().__init__()
        self.down = nn.Linear(shared.in_features, rank, bias=False)
        self.up = Up(rank, shared.out_features)

    def forward(self, states: Tensor) -> Tensor:
        """[..., in] -> [..., out]"""
        return self.up(self.down(states))


class OwnNorm(nn.Module):
    """The difference of a layer norm's output, by that of its gain and bias."""

    def __init__(self, shared: nn.LayerNorm) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros_like(shared.weight))
        self.bias = nn.Parameter(torch.zeros_like(shared.bias))
        self.eps = shared.eps

    def forward(self, states: Tensor) -> Tensor:
        """[..., H] -> [..., H]"""
        return F.layer_norm(states, self.weight.shape, self.weight, self.bias, self.eps)


class Own:
    """What one iteration has of its own, as `differences` has made it.

    No module: it is handed to the layer's call, and what watches calls may move the modules among the arguments.
    """

    def __init__(self, parts: nn.ModuleDict) -> None:
        self.parts = parts

    def __getitem__(self, name: str) -> "Own":
        """Of a part that has parts."""
        return Own(self.parts[name])


def apply_part(owner: nn.Module, name: str, own: Own | None, states: Tensor) -> Tensor:
    """A part of the shared layer, and what an iteration has of its own beside it, if anything."""
    shared = getattr(owner, name)(states)
    return shared if own is None else shared + own.parts[name](states)


def differences(layer: AlbertLayer, rank: int) -> nn.ModuleDict:
    """What one iteration has of its own, the low rank being `rank`."""
    attention = layer.attention
    of_attention = {
        "query": LowRank(attention.query, rank),
        "dense": LowRank(attention.dense, rank),
        "LayerNorm": OwnNorm(attention.LayerNorm),
    }
    return nn.ModuleDict(
        {
            "attention": nn.ModuleDict(of_attention),
            "ffn": LowRank(layer.ffn, rank),
            "ffn_output": LowRank(layer.ffn_output, rank),
            "full_layer_layer_norm": OwnNorm(layer.full_layer_layer_norm),
        }
    )


def initialise_difference(module: nn.Module) -> None:
    """Called for every module of a new model: a difference is 0 at first. A of it is not, so that B learns."""
    if isinstance(module, Up | OwnNorm):
        init.zeros_(module.weight)
        init.zeros_(module.bias)
