"""Call: what an operator is given once, before it runs. Needs torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from plr_edge.errors import GraphError
from plr_edge.graph.graph import Node

Run = Callable[..., Any]  # takes the inputs of a node as tensors, None for one left out


@dataclass(frozen=True)
class Call:
    """A node, and which of its inputs are constants.

    Attributes:
        node: the node.
        constants: the constant of each input, None where the value is computed.
        opset: version of ONNX's operators.
    """

    node: Node
    constants: tuple[np.ndarray | None, ...]
    opset: int

    def get(self, name: str, default: Any = None) -> Any:
        """Return an attribute."""
        return self.node.attributes.get(name, default)

    def has(self, at: int) -> bool:
        """Return whether an input is given."""
        return at < len(self.node.inputs) and bool(self.node.inputs[at])

    def constant(self, at: int) -> np.ndarray | None:
        """Return an input if it is a constant."""
        return self.constants[at] if at < len(self.constants) else None

    def ints(self, at: int, name: str = "") -> list[int] | None:
        """Return integers that are an attribute, or a constant input. None if neither is there."""
        if name and name in self.node.attributes:
            value = self.node.attributes[name]
            return [int(n) for n in value] if isinstance(value, list) else [int(value)]
        array = self.constant(at)
        return None if array is None else [int(n) for n in array.reshape(-1)]

    def number(self, at: int, name: str, default: float | None = None) -> float | None:
        """Return a number that is an attribute, or a constant input.

        Raises:
            GraphError: the input is computed.
        """
        if name in self.node.attributes:
            return float(self.node.attributes[name])
        if not self.has(at):
            return default
        array = self.constant(at)
        if array is None or array.size != 1:
            raise self.refuses(f"{name} is not one constant number")
        return float(array.reshape(-1)[0])

    def refuses(self, what: str) -> GraphError:
        """Return the error for a node that cannot be run."""
        return GraphError(f"{self.node.op} with {what}")


def ints_of(fixed: list[int] | None, given: torch.Tensor | None) -> list[int]:
    """Return integers that are fixed, or else those of a computed tensor."""
    if fixed is not None:
        return fixed
    return [] if given is None else [int(n) for n in given.reshape(-1).tolist()]
