"""Graph: a network as nodes between named values, and its division at a value. NumPy only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from plr_edge.errors import GraphError

# inputs of operators that are settings, or statistics that are never trained
_SETTINGS = {
    "BatchNormalization": (1, 2, 3, 4), "Clip": (1, 2), "Expand": (1,), "OneHot": (1, 2),
    "Pad": (1, 2, 3), "Pow": (1,), "Range": (0, 1, 2), "Resize": (1, 2, 3), "Upsample": (1,),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Node:
    """One call of an operator.

    Attributes:
        op: name of the operator; with its domain and a dot in front if that is not ONNX's own.
        inputs: names of the values that it takes; an optional one that is left out is empty.
        outputs: names of the values that it makes; one that nobody wants is empty.
        attributes: int, float, str or array, or a list of one of these, by name.
        name: name of the node, which may be empty.
    """

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""


@dataclass(frozen=True, kw_only=True)
class Graph:
    """Nodes in an order in which they can run.

    Attributes:
        nodes: the calls. A node takes only inputs, constants, and values that were made before it.
        inputs: names of the values that are given.
        outputs: names of the values that are returned.
        constants: arrays by the name of the value.
        opset: version of ONNX's operators that the nodes mean.

    Raises:
        GraphError: a value is made twice, or used before it is made.

    Example:
        >>> double = Node(op="Add", inputs=("x", "x"), outputs=("y",))
        >>> square = Node(op="Mul", inputs=("y", "y"), outputs=("z",))
        >>> graph = Graph(nodes=(double, square), inputs=("x",), outputs=("z",), constants={})
        >>> graph.cut_values
        ('y',)
        >>> [node.op for node in graph.segment("y", "z").nodes]
        ['Mul']
    """

    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    constants: Mapping[str, np.ndarray]
    opset: int = 18

    def __post_init__(self) -> None:
        known = set(self.constants)
        for names in (self.inputs, *(node.outputs for node in self.nodes)):
            for name in filter(None, names):
                if name in known:
                    raise GraphError(f"the value {name[:60]!r} is made twice")
                known.add(name)
        made = {*self.constants, *self.inputs}
        for node in self.nodes:
            for name in node.inputs:
                if name and name not in made:
                    raise GraphError(
                        f"{node.op[:40]} uses the value {name[:60]!r} before anything has made it"
                    )
            made.update(filter(None, node.outputs))
        lost = [name for name in self.outputs if name not in made]
        if lost:
            raise GraphError(f"nothing makes the output {lost[0][:60]!r}")

    @cached_property
    def computed(self) -> frozenset[str]:
        """Names of the values that depend on an input."""
        found = set(self.inputs)
        for node in self.nodes:
            if not found.isdisjoint(node.inputs):
                found.update(filter(None, node.outputs))
        return frozenset(found)

    @cached_property
    def weights(self) -> tuple[str, ...]:
        """Names of the constants that training may change, in the order of their first use.

        These are float32 arrays with more than one value. Settings of an operator, such as the
        bounds of Clip, and the statistics of BatchNormalization are not among them.
        """
        found: dict[str, None] = {}
        fixed: set[str] = set()
        for node in self.nodes:
            settings = _SETTINGS.get(node.op, ())
            for at, name in enumerate(node.inputs):
                array = self.constants.get(name)
                if at in settings:
                    fixed.add(name)
                elif array is not None and array.dtype == np.float32 and array.size > 1:
                    found[name] = None
        return tuple(name for name in found if name not in fixed)

    @cached_property
    def cut_values(self) -> tuple[str, ...]:
        """Names of the values through which everything flows from the inputs to the outputs."""
        last_use = {name: len(self.nodes) for name in self.outputs}
        for at in range(len(self.nodes) - 1, -1, -1):
            for name in self.nodes[at].inputs:
                last_use.setdefault(name, at)
        live = {name for name in self.inputs if name in last_use}
        cuts: dict[str, None] = {}
        for at, node in enumerate(self.nodes):
            live.update(n for n in node.outputs if n in self.computed and last_use.get(n, -1) > at)
            live.difference_update([n for n in node.inputs if last_use[n] <= at])
            if len(live) == 1:
                cuts.update(dict.fromkeys(live))
        return tuple(n for n in cuts if n not in self.inputs and n not in self.outputs)

    def segment(self, start: str, end: str) -> Graph:
        """Return the part between two values, with the constants that it uses.

        Args:
            start: name of the value that is its input.
            end: name of the value that is its output.

        Raises:
            GraphError: a value is unknown, or `end` does not depend on `start` alone.
        """
        for name in (start, end):
            if name not in self.computed:
                raise GraphError(f"the graph computes no value {name[:60]!r}")
        needed, kept = {end} - {start}, []
        for node in reversed(self.nodes):
            wanted = needed.intersection(node.outputs)
            if wanted:
                kept.append(node)
                needed.difference_update(wanted)
                needed.update(n for n in node.inputs if n and n != start)
        constants = {name: array for name, array in self.constants.items() if name in needed}
        others = needed - set(constants)
        if others:
            raise GraphError(
                f"{end[:60]!r} depends not only on {start[:60]!r} but also on "
                f"{min(others)[:60]!r}; divide where everything flows through one value"
            )
        nodes = tuple(reversed(kept))
        return replace(self, nodes=nodes, inputs=(start,), outputs=(end,), constants=constants)

    def segments(self, values: Sequence[str]) -> Iterator[Graph]:
        """Yield the parts between the input, the values of a sequence, and the output.

        Args:
            values: names of values in order, without input and output.

        Raises:
            GraphError: there is more than one input or output, or a part cannot be taken out.
        """
        if len(self.inputs) != 1 or len(self.outputs) != 1:
            raise GraphError(
                f"the graph has {len(self.inputs)} inputs and {len(self.outputs)} outputs; to be "
                "divided it must have one of each"
            )
        borders = [*self.inputs, *values, *self.outputs]
        for start, end in pairwise(borders):
            yield self.segment(start, end)

    def renamed(self, names: Mapping[str, str]) -> Graph:
        """Return the graph with other names for some of its values.

        Args:
            names: new names by old ones.
        """

        def new(old: Iterable[str]) -> tuple[str, ...]:
            return tuple(names.get(name, name) for name in old)

        nodes = (replace(n, inputs=new(n.inputs), outputs=new(n.outputs)) for n in self.nodes)
        constants = {names.get(name, name): array for name, array in self.constants.items()}
        return replace(
            self, nodes=tuple(nodes), inputs=new(self.inputs), outputs=new(self.outputs),
            constants=constants,
        )  # fmt: skip
