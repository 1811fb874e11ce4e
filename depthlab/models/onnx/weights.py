"""Linear layers, layer norms and embeddings of a model as ONNX, in float32 or in eight bits.

Eight bits: a weight is stored as int8 with a scale for each output channel, w = scale * q. What goes in is quantised to
uint8 when it is known, each token by its own least and most, x = least + width * u, so that no text depends on what
else is in its batch: x W = width * (u W) + least * (sums of W). Products are summed as int32: rounding is all there is.
A weight that is used in several places is quantised once, as it is stored once.
"""

import numpy as np
from torch import Tensor, nn

from depthlab.errors import UserError
from depthlab.models.onnx.graph import FLOAT, Graph
from depthlab.models.relaxation import LowRank, OwnNorm

ACTIVATIONS = {"gelu": ("Gelu", {}), "gelu_new": ("Gelu", {"approximate": "tanh"}), "relu": ("Relu", {})}
"""By Hugging Face's names."""


def numbers(tensor: Tensor) -> np.ndarray:
    """In float32."""
    return tensor.detach().float().cpu().numpy()


def quantised(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """int8 [..., out, in], symmetric, and the scale [..., out] of each output channel."""
    scale = np.abs(weight).max(axis=-1) / 127
    scale = np.where(scale == 0, 1, scale).astype(np.float32)
    return np.rint(weight / scale[..., None]).astype(np.int8), scale


class Weights:
    """Writes the layers of a model into graphs.

    Args:
        names: of its modules.
        int8: whether matrices are quantised.
    """

    def __init__(self, names: dict[nn.Module, str], int8: bool) -> None:
        self.names = names
        self.int8 = int8

    def linear(self, graph: Graph, module: nn.Linear, rows: str) -> str:
        """[R, in] -> [R, out]"""
        name, weight = self.names[module], numbers(module.weight)
        bias = None if module.bias is None else graph.constant(f"{name}.bias", numbers(module.bias))
        if not self.int8:
            matrix = graph.constant(f"{name}.weight", weight)
            return graph("Gemm", rows, matrix, *([bias] if bias else []), transB=1)
        return self._product(graph, rows, *self._quantised(graph, name, weight), bias)

    def norm(self, graph: Graph, module: nn.LayerNorm, rows: str) -> str:
        """[R, H] -> [R, H]"""
        name = self.names[module]
        gain, bias = (graph.constant(f"{name}.{leaf}", numbers(getattr(module, leaf))) for leaf in ("weight", "bias"))
        return graph("LayerNormalization", rows, gain, bias, axis=-1, epsilon=module.eps)

    def embedding(self, graph: Graph, module: nn.Embedding, ids: str) -> str:
        """[...] -> [..., E]"""
        name, table = self.names[module], numbers(module.weight)
        if not self.int8:
            return graph("Gather", graph.constant(f"{name}.weight", table), ids)
        table, scale = quantised(table)
        rows = graph("Gather", graph.constant(f"{name}.weight_int8", table), ids)
        scales = graph("Gather", graph.constant(f"{name}.scale", scale[:, None]), ids)
        return graph("Mul", graph("Cast", rows, to=FLOAT), scales)

    def own_linear(self, graph: Graph, modules: list[LowRank], index: str, rows: str) -> str:
        """What iteration `index`, from 0 on, adds to a linear layer: [R, in] -> [R, out]"""
        for part in ("down", "up"):
            layers = [getattr(module, part) for module in modules]
            rows = self._stacked_product(graph, layers, index, rows)
        return graph("Add", rows, self._of(graph, [module.up for module in modules], "bias", index))

    def own_norm(self, graph: Graph, shared: nn.LayerNorm, modules: list[OwnNorm], index: str, rows: str) -> str:
        """The shared layer norm with an iteration's own gain and bias: [R, H] -> [R, H]"""
        both = []
        for leaf in ("weight", "bias"):
            common = graph.constant(f"{self.names[shared]}.{leaf}", numbers(getattr(shared, leaf)))
            both.append(graph("Add", common, self._of(graph, modules, leaf, index)))
        return graph("LayerNormalization", rows, *both, axis=-1, epsilon=shared.eps)

    def _stacked_product(self, graph: Graph, layers: list[nn.Linear], index: str, rows: str) -> str:
        """By the matrix of one iteration; they lie in one tensor."""
        if not self.int8:
            return graph("Gemm", rows, self._of(graph, layers, "weight", index), transB=1)
        name = self.names[layers[0]]
        stacks = self._quantised(graph, f"{name}.all", np.stack([numbers(layer.weight) for layer in layers]))
        return self._product(graph, rows, *(graph("Gather", stack, index) for stack in stacks))

    def _of(self, graph: Graph, modules: list[nn.Module], leaf: str, index: str) -> str:
        """A parameter of one iteration."""
        stack = np.stack([numbers(getattr(module, leaf)) for module in modules])
        return graph("Gather", graph.constant(f"{self.names[modules[0]]}.all.{leaf}", stack), index)

    def _quantised(self, graph: Graph, name: str, weight: np.ndarray) -> tuple[str, str, str]:
        """Weights [..., out, in] as int8 [..., in, out], their scales [..., out] and sums over `in` [..., 1, out]."""
        matrix, scale = quantised(weight)
        sums = scale * matrix.sum(axis=-1, dtype=np.float32)
        stored = {"weight_int8": matrix.swapaxes(-1, -2), "scale": scale, "sums": sums[..., None, :]}
        return tuple(graph.constant(f"{name}.{leaf}", value) for leaf, value in stored.items())

    def _product(self, graph: Graph, rows: str, matrix: str, scale: str, sums: str, bias: str | None = None) -> str:
        """[R, in] -> [R, out] by a quantised matrix."""
        least, most = (graph(operator, rows, graph.literal([-1])) for operator in ("ReduceMin", "ReduceMax"))
        width = graph("Sub", most, least)
        width = graph("Max", width, graph.literal(1e-30, np.float32))  # of a token that is the same everywhere
        # From 0 to 1 is now every token, so one scale serves all; and onnxruntime makes one kernel of four operators.
        inputs, step, zero = graph("DynamicQuantizeLinear", graph("Div", graph("Sub", rows, least), width), outputs=3)
        products = graph("MatMulInteger", inputs, matrix, zero, graph.literal(0, np.int8))
        products = graph("Mul", graph("Cast", products, to=FLOAT), graph("Mul", step, scale))
        return graph("Add", graph("Mul", products, width), graph("Gemm", least, sums, *([bias] if bias else [])))


def activation(graph: Graph, name: str, rows: str) -> str:
    """By Hugging Face's name.

    Raises:
        UserError: ONNX has no such operator.
    """
    if name not in ACTIVATIONS:
        raise UserError(f"hidden_act {name!r} has no form in ONNX here: {', '.join(ACTIVATIONS)} have")
    operator, settings = ACTIVATIONS[name]
    return graph(operator, rows, **settings)
