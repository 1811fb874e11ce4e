"""A graph of ONNX operators, written down call by call; loops see what is outside of them."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET, IR_VERSION = 20, 10
"""Of operators, the first with GELU; and of the file."""
FLOAT, INT, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL

Value = str | int
"""Of an operator: the name of one, or a whole number."""
Body = Callable[["Graph", Value, list[str]], tuple[str | None, list[str]]]
"""Of a loop: its graph, the iteration's number, and what is carried; gives whether to go on, and that."""


class Graph:
    """Nodes of one scope. Values are called by their names; constants belong to the outermost graph, each once."""

    def __init__(self, outer: "Graph | None" = None) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {} if outer is None else outer.constants
        self._literals: dict[tuple[Any, ...], str] = {} if outer is None else outer._literals
        self._names: list[int] = [0] if outer is None else outer._names

    def __call__(self, operator: str, *inputs: Value, outputs: int = 1, **attributes: Any) -> Any:
        """Add a node: the name of what it gives, or a list of them."""
        names = [self.name(operator) for _ in range(outputs)]
        given = [value if isinstance(value, str) else self.literal(value) for value in inputs]
        self.nodes.append(helper.make_node(operator, given, names, **attributes))
        return names[0] if outputs == 1 else names

    def name(self, what: str) -> str:
        """One that nothing else has."""
        self._names[0] += 1
        return f"{what}_{self._names[0]}"

    def constant(self, name: str, value: np.ndarray) -> str:
        """A weight, under its name: stored once, however often it is asked for."""
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.array(value, order="C"), name)
        return name

    def literal(self, value: Any, dtype: type = np.int64) -> str:
        """A number or a few, such as a shape."""
        array = np.asarray(value, dtype)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._literals:
            self._literals[key] = self.constant(self.name("literal"), array)
        return self._literals[key]

    def reshape(self, value: str, *shape: str | int) -> str:
        """To a shape of numbers and names of scalars; one number may be -1."""
        return self("Reshape", value, self._shape(shape), allowzero=1)  # 0 is no more than 0

    def column(self, value: str, axis: int = 1) -> str:
        """With one more axis, of size 1."""
        return self("Unsqueeze", value, self.literal([axis]))

    def zeros(self, dtype: int, *shape: str | int) -> str:
        """Of a type of ONNX."""
        return self("ConstantOfShape", self._shape(shape), value=helper.make_tensor("zero", dtype, [1], [0]))

    def _shape(self, sizes: Sequence[str | int]) -> str:
        parts = [self.literal([size]) if isinstance(size, int) else self.column(size, 0) for size in sizes]
        return self("Concat", *parts, axis=0)

    def loop(self, numbers: range, start: str, carried: Sequence[tuple[str, int]], body: Body) -> list[str]:
        """Run a body for these numbers, while it says so: what is carried out of it.

        Args:
            numbers: one after another.
            start: a bool, whether to begin.
            carried: names with their types.
            body: writes the graph of one iteration; where it does not say whether to go on, all of them are run.
        """
        inner = Graph(self)
        names = [inner.name("carried") for _ in carried]
        number, before, after = (inner.name(what) for what in ("number", "before", "after"))
        goes_on, results = body(inner, inner("Add", number, numbers.start), names)
        inner.nodes.append(helper.make_node("Identity", [goes_on or before], [after]))
        results = [inner("Identity", result) for result in results]  # the same value may be carried twice
        types = [dtype for _, dtype in carried]
        inputs = [helper.make_tensor_value_info(number, INT, []), helper.make_tensor_value_info(before, BOOL, [])]
        inputs += [helper.make_tensor_value_info(name, t, None) for name, t in zip(names, types, strict=True)]
        outputs = [helper.make_tensor_value_info(after, BOOL, [])]
        outputs += [helper.make_tensor_value_info(name, t, None) for name, t in zip(results, types, strict=True)]
        graph = helper.make_graph(inner.nodes, inner.name("body"), inputs, outputs)
        return self("Loop", len(numbers), start, *(n for n, _ in carried), outputs=len(carried), body=graph)

    def model(self, inputs: dict[str, list[str]], outputs: dict[str, tuple[str, int, list[Any]]]) -> onnx.ModelProto:
        """The whole.

        Args:
            inputs: int64, with their axes.
            outputs: by name: the value, its type and its axes.
        """
        for name, (value, _, _) in outputs.items():
            self.nodes.append(helper.make_node("Identity", [value], [name]))
        graph = helper.make_graph(
            self.nodes,
            "depthlab",
            [helper.make_tensor_value_info(name, INT, axes) for name, axes in inputs.items()],
            [helper.make_tensor_value_info(name, dtype, axes) for name, (_, dtype, axes) in outputs.items()],
            [*self.constants.values()],
        )
        opset = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION, producer_name="depthlab")
