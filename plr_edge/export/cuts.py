"""Finding where a network can be divided: values through which everything flows, one a module."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, takewhile, zip_longest

from plr_edge.export.folding import weights_of
from plr_edge.export.network import Network, Scope
from plr_edge.graph.graph import Node

_CONTAINERS = ("torch.nn.modules.container.",)
_MAX_PARTS = 6  # divisions of a module that is still one block
_MOST = 1 / 3  # share of all divisions that one block may hold
MAX_BLOCKS = 60  # a manifest holds up to 64 levels
_RESERVED = ("classifier",)
_HEAVY = ("Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum")


@dataclass(frozen=True, kw_only=True)
class Block:
    """A part of a network between two values.

    Attributes:
        name: name of the module, or of the value at which it begins.
        start: name of the value that it takes.
        end: name of the value that it returns.
    """

    name: str
    start: str
    end: str


def find_blocks(network: Network) -> list[Block]:
    """Divide a network into blocks with weights, at values through which everything flows.

    What has no weights, such as an activation or a pool, belongs to the block before it. Blocks
    that make up one module of the author are one.
    """
    parts = _with_weights(network, _parts(network))
    parts = _by_module(network, parts)
    while len(parts) > MAX_BLOCKS:
        parts = _joined_smallest(parts)
    names: list[str] = []
    for at, part in enumerate(parts):
        name = _name(network, part)
        name = f"block{name}" if name.isdigit() else name
        taken = {*names, *_RESERVED}
        names.append(name if name not in taken else f"{name}_{at}")
    return [
        Block(name=name, start=part.start, end=part.end)
        for name, part in zip(names, parts, strict=True)
    ]


@dataclass(frozen=True)
class _Part:
    """Nodes between two values."""

    start: str
    end: str
    nodes: tuple[Node, ...]

    def joined(self, other: _Part) -> _Part:
        return _Part(self.start, other.end, (*self.nodes, *other.nodes))


def _parts(network: Network) -> list[_Part]:
    """Return the finest division."""
    graph = network.graph
    borders = [v for v in graph.cut_values if network.shapes.get(v)]
    at = {v: i for i, node in enumerate(graph.nodes) for v in node.outputs if v}
    ends = [*borders, *graph.outputs]
    parts, start, first = [], network.image, 0
    for end in ends:
        parts.append(_Part(start, end, graph.nodes[first : at[end] + 1]))
        start, first = end, at[end] + 1
    return [part for part in parts if part.nodes]


def _with_weights(network: Network, parts: list[_Part]) -> list[_Part]:
    """Join parts without weights, or that only add or scale, to the part before them."""
    weights = set(weights_of(network))

    def light(part: _Part) -> bool:
        trained = any(name in weights for node in part.nodes for name in node.inputs)
        return not trained or all(node.op not in _HEAVY for node in part.nodes)

    found: list[_Part] = []
    ahead: _Part | None = None  # light parts that belong to the part behind them
    for at, part in enumerate(parts):
        joined = part if ahead is None else ahead.joined(part)
        ahead = None
        later = at + 1 < len(parts)
        if light(joined) and later and (not found or _nearer(network, part, parts, at)):
            ahead = joined
        elif found and light(joined):
            found[-1] = found[-1].joined(joined)
        else:
            found.append(joined)
    return found


def _nearer(network: Network, part: _Part, parts: list[_Part], at: int) -> bool:
    """Return whether a part shares more modules with the part behind it than with that before."""
    own = _scope(network, part.nodes[0]).path

    def shared(other: Node) -> int:
        pairs = zip(own, _scope(network, other).path, strict=False)
        return len(list(takewhile(lambda two: two[0] == two[1], pairs)))

    return shared(parts[at + 1].nodes[0]) > shared(parts[at - 1].nodes[-1])


def _by_module(network: Network, parts: list[_Part]) -> list[_Part]:
    """Join consecutive parts that together are one module."""
    scopes = [_common(network, part) for part in parts]
    limit = max(1, min(_MAX_PARTS, int(len(parts) * _MOST)))
    found: list[_Part] = []
    at = 0
    while at < len(parts):
        best = 1
        for depth in range(1, len(scopes[at].path)):
            module = scopes[at].path[depth]
            n = 1
            while at + n < len(parts) and module in scopes[at + n].path:
                n += 1
            complete = at == 0 or module not in scopes[at - 1].path
            if complete and n <= limit and _is_block(scopes[at], depth):
                best = n
                break
        joined = parts[at]
        for part in parts[at + 1 : at + best]:
            joined = joined.joined(part)
        found.append(joined)
        at += best
    return found


def _is_block(scope: Scope, depth: int) -> bool:
    """Return whether a module is one block, and not a container of blocks."""
    kind = scope.classes[depth] if depth < len(scope.classes) else ""
    if kind:
        return not kind.startswith(_CONTAINERS)
    return bool(re.search(r"\d$", scope.path[depth]))


def _common(network: Network, part: _Part) -> Scope:
    """Return the innermost module around all convolutions and linear layers of a part."""
    found: Scope | None = None
    heavy = [node for node in part.nodes if node.op in _HEAVY]
    for node in heavy or part.nodes:
        scope = next((network.scopes[o] for o in node.outputs if o in network.scopes), None)
        if scope is None:
            continue
        if found is None:
            found = scope
        same = takewhile(lambda two: two[0] == two[1], zip(found.path, scope.path, strict=False))
        n = len(list(same))
        found = replace(found, path=found.path[:n], classes=found.classes[:n])
    return found or Scope(path=("",), classes=("",))


def _joined_smallest(parts: Sequence[_Part]) -> list[_Part]:
    """Join the two neighbours that have the fewest nodes together."""
    sizes = [len(a.nodes) + len(b.nodes) for a, b in pairwise(parts)]
    at = sizes.index(min(sizes))
    return [*parts[:at], parts[at].joined(parts[at + 1]), *parts[at + 2 :]]


def _name(network: Network, part: _Part) -> str:
    """Return the name of the module that a part is, or that it begins with, or of its value.

    Of modules that hold the same layers the outermost one that is not a container is taken.
    """
    layers = [_scope(network, node) for node in network.graph.nodes if node.op in _HEAVY]
    common = _common(network, part)
    own = sum(node.op in _HEAVY for node in part.nodes)
    whole = [
        (module, kind)
        for module, kind in zip_longest(
            common.path, common.classes[: len(common.path)], fillvalue=""
        )
        if module and sum(module in scope.path for scope in layers) == own
    ]
    blocks = [module for module, kind in whole if not kind.startswith(_CONTAINERS)]
    if whole and common.classes[:1] and common.classes[0].startswith(_CONTAINERS):
        blocks = [whole[0][0]]  # a child of the user's nn.Sequential
    if whole:
        return (blocks or [module for module, _ in whole])[0]
    if common.path[-1]:
        return common.path[-1]
    inside = [scope.path[-1] for scope in map(lambda n: _scope(network, n), part.nodes)]
    return next((name for name in inside if name), part.start)


def _scope(network: Network, node: Node) -> Scope:
    found = next((network.scopes[o] for o in node.outputs if o in network.scopes), None)
    return found or Scope(path=("",), classes=("",))
