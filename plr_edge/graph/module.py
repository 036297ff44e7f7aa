"""GraphModule: a graph of ONNX operators as a torch module that can be trained. Needs torch."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from plr_edge.errors import GraphError
from plr_edge.graph.fusing import fused
from plr_edge.graph.graph import Graph
from plr_edge.graph.operators import build, unsupported

_HOLDER = "_constants"  # child that holds the constants which are not trained


class GraphModule(nn.Module):
    """Runs the nodes of a graph. Its weights are called as the constants of the graph.

    Weights are parameters under their own names, of which a dot divides the parts, so that the keys
    of `state_dict` are the names of the constants. Other constants are buffers that `state_dict`
    leaves out.

    Example:
        >>> from plr_edge.graph.graph import Node
        >>> node = Node(op="Mul", inputs=("x", "scale.weight"), outputs=("y",))
        >>> weights = {"scale.weight": np.array([2, 3], np.float32)}
        >>> graph = Graph(nodes=(node,), inputs=("x",), outputs=("y",), constants=weights)
        >>> module = GraphModule(graph)
        >>> module(torch.ones(2)), list(module.state_dict())
        (tensor([2., 3.], grad_fn=<MulBackward0>), ['scale.weight'])
    """

    def __init__(self, graph: Graph, weights: Collection[str] | None = None) -> None:
        """Build what runs each node.

        Args:
            graph: the graph.
            weights: names of the constants to train; `graph.weights` by default.

        Raises:
            GraphError: the graph holds what cannot be run; all of it is named.
        """
        super().__init__()
        missing = unsupported(graph)
        if missing:
            raise GraphError(f"the trainer cannot run {'; '.join(missing)[:400]}; cut above it")
        trained = set(graph.weights if weights is None else weights)
        self.weight_names = tuple(name for name in graph.constants if name in trained)
        holder = nn.Module()
        self._places = [self._place(name) for name in self.weight_names]
        for name, (parent, leaf) in zip(self.weight_names, self._places, strict=True):
            # put there directly, as torch refuses names that are also those of its methods
            parent._parameters[leaf] = nn.Parameter(_tensor(graph.constants[name]))
        self._modules[_HOLDER] = holder
        self._fixed = tuple(name for name in graph.constants if name not in trained)
        for at, name in enumerate(self._fixed):
            holder.register_buffer(str(at), _tensor(graph.constants[name]), persistent=False)
        self._compile(graph)
        self._nodes, self._inputs, self._opset = graph.nodes, graph.inputs, graph.opset
        self._names = graph.outputs

    @property
    def graph(self) -> Graph:
        """The graph, with the weights as they are now."""
        weights = {
            name: parent._parameters[leaf].detach().contiguous().numpy()  # type: ignore[union-attr]
            for name, (parent, leaf) in zip(self.weight_names, self._places, strict=True)
        }
        fixed = (buffer.contiguous().numpy() for buffer in self._modules[_HOLDER].buffers())  # type: ignore[union-attr]
        return Graph(
            nodes=self._nodes,
            inputs=self._inputs,
            outputs=self._names,
            constants={**weights, **dict(zip(self._fixed, fixed, strict=True))},
            opset=self._opset,
        )

    def _place(self, name: str) -> tuple[nn.Module, str]:
        """Return the child that holds a weight, and the last part of its name; makes the child."""
        *path, leaf = name.split(".")
        parent: nn.Module = self
        for part in path:
            child = parent._modules.get(part)
            parent._modules[part] = child = nn.Module() if child is None else child
            parent = child
        return parent, leaf

    def _compile(self, graph: Graph) -> None:
        """Number the values, and list the steps with the values that each takes, makes and frees.

        Constants come first, the value 0 is the input that is left out.
        """
        nodes = fused(graph)
        numbers = {"": 0}
        for name in (*self.weight_names, *self._fixed, *graph.inputs):
            numbers[name] = len(numbers)
        n_constants = 1 + len(graph.constants)
        for name in (name for node in nodes for name in node.outputs if name):
            numbers[name] = len(numbers)
        outputs = [numbers[name] for name in graph.outputs]
        last = {n: at for at, node in enumerate(nodes) for n in map(numbers.get, node.inputs)}
        self._n_values, self._outputs, self._steps = len(numbers), outputs, []
        for at, node in enumerate(nodes):
            takes = [numbers[name] for name in node.inputs]
            makes = [numbers[name] for name in node.outputs]
            kept = {n for n in {*takes, *makes} if n < n_constants or last.get(n, at) > at}
            frees = [n for n in {*takes, *makes} - kept if n not in outputs]
            self._steps.append((build(node, graph), takes, makes, frees))

    def forward(self, *inputs: torch.Tensor) -> Any:
        """Run the graph.

        Args:
            inputs: one tensor for each input of the graph.

        Returns:
            The output, or a tuple of them if the graph has several.
        """
        values: list[Any] = [None]
        values.extend(parent._parameters[leaf] for parent, leaf in self._places)
        values.extend(self._modules[_HOLDER].buffers())  # type: ignore[union-attr]
        values.extend(inputs)
        values.extend([None] * (self._n_values - len(values)))
        for run, takes, makes, frees in self._steps:
            result = run(*[values[n] for n in takes])
            if len(makes) == 1:
                values[makes[0]] = result[0] if isinstance(result, tuple) else result
            else:
                for n, one in zip(makes, result, strict=False):
                    values[n] = one
            for n in frees:
                values[n] = None
        values[0] = None
        if len(self._outputs) == 1:
            return values[self._outputs[0]]
        return tuple(values[n] for n in self._outputs)


class GraphBlocks(nn.Sequential):
    """Graphs one after the other, whose weights keep the names of the constants.

    In `nn.Sequential` the name of a child comes before that of its weight. Here it does not, so
    that what is trained fits adaptive.onnx whatever its parts are called.
    """

    def __init__(self, blocks: Mapping[str, nn.Module]) -> None:
        """Take the blocks in order, by name; a name may contain dots."""
        super().__init__()
        self._modules.update(blocks)

    def __getitem__(self, index: Any) -> Any:
        """Return one block, or `GraphBlocks` of a slice."""
        if isinstance(index, slice):
            return GraphBlocks(OrderedDict(list(self._modules.items())[index]))
        return list(self._modules.values())[index]

    def state_dict(
        self, *args: Any, destination: Any = None, prefix: str = "", keep_vars: bool = False
    ) -> Any:
        """Return the weights by the names of the constants."""
        found = OrderedDict() if destination is None else destination
        for block in self:
            block.state_dict(destination=found, prefix=prefix, keep_vars=keep_vars)
        return found

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, metadata: Any, strict: bool, missing: list[str],
        unexpected: list[str], errors: list[str],
    ) -> None:  # fmt: skip
        """Give each block the keys that torch looks for in it."""
        given = {key: state_dict.pop(key) for key in list(state_dict) if key.startswith(prefix)}
        for name, block in self._modules.items():
            for key in block.state_dict() if block is not None else ():
                if f"{prefix}{key}" in given:
                    state_dict[f"{prefix}{name}.{key}"] = given[f"{prefix}{key}"]
        known = {f"{prefix}{key}" for key in self.state_dict()}
        unexpected += [key for key in given if strict and key not in known]


def _tensor(array: np.ndarray) -> torch.Tensor:
    """Return a copy of an array as a tensor."""
    if array.dtype.kind == "u" and array.dtype.itemsize > 1:
        array = array.astype(np.int64)  # torch 2.3 computes with no others
    return torch.from_numpy(np.array(array, order="C"))
