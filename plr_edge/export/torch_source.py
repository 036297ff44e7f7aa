"""A torch module as a `Network`: exported as it is called, with the names of its modules."""

from __future__ import annotations

import copy
import re

import onnx
import torch
from torch import nn

from plr_edge.errors import BackboneError
from plr_edge.export.exporter import cause, export_module
from plr_edge.export.folding import folded, untied
from plr_edge.export.network import Network, Scope
from plr_edge.export.normalise import normalised
from plr_edge.export.pools import with_pools
from plr_edge.graph.reading import read_graph

_SCOPES, _CLASSES = "pkg.torch.onnx.name_scopes", "pkg.torch.onnx.class_hierarchy"
_BATCH_TOLERANCE = 1e-3  # of the largest value
_CALL = re.compile(r"@\d+$")  # the second and later calls of a module


def network_of_module(name: str, module: nn.Module, input_shape: tuple[int, ...]) -> Network:
    """Export a module, and bring its graph into the form that can be divided.

    Args:
        name: name of the network, for messages.
        module: the module; it is not changed.
        input_shape: shape of one input.

    Raises:
        BackboneError: the module fails on this shape, or cannot be exported.
    """
    try:
        module = copy.deepcopy(module).eval()
    except Exception as error:
        raise BackboneError(
            f"{name} cannot be copied ({cause(error)}); keep only parameters, buffers and plain "
            "values in its modules"
        ) from error
    example = torch.randn(2, *input_shape, generator=torch.Generator().manual_seed(0))
    try:
        with torch.no_grad():
            output, alone = module(example), module(example[:1])
    except Exception as error:  # the user's code may raise anything
        raise BackboneError(
            f"{name} fails on an input of shape {input_shape} ({cause(error)}); give its own "
            "shape with --input-shape C,H,W"
        ) from error
    _check_output(name, output, alone)
    named = frozenset(n for n, _ in module.named_parameters(remove_duplicate=False))
    try:
        return _exported(module, example, named)
    except Exception as first:
        try:  # some networks compute with the size of the batch
            return _exported(module, example[:1], named, batch=1)
        except BackboneError:
            raise
        except Exception:
            raise BackboneError(f"torch cannot export {name} to ONNX: {cause(first)}") from first


def _check_output(name: str, output: object, alone: object) -> None:
    """Check that a network returns a float32 tensor with a row for each of two images."""
    if not isinstance(output, torch.Tensor) or not isinstance(alone, torch.Tensor):
        raise BackboneError(
            f"{name} returns a {type(output).__name__}; it must return one tensor: wrap it in a "
            "module that returns the part to go on with"
        )
    if output.dtype != torch.float32:
        kind = str(output.dtype).removeprefix("torch.")
        raise BackboneError(f"{name} returns {kind}; a network must return float32")
    if output.ndim < 2 or len(output) != 2 or alone.shape != (1, *output.shape[1:]):
        raise BackboneError(
            f"{name} returns shape {tuple(output.shape)} for a batch of 2; the first axis must be "
            "the batch"
        )
    difference = float((output[:1] - alone).abs().max())
    if difference > _BATCH_TOLERANCE * max(float(output.abs().max()), 1e-6):
        raise BackboneError(
            f"{name} answers an image differently when another is in the batch; look for layers "
            "that depend on the batch or on chance"
        )


def _exported(
    module: nn.Module, example: torch.Tensor, named: frozenset[str], batch: int | None = None
) -> Network:
    model = export_module(module, example, free_batch=batch is None)
    network = network_of_model(model, tuple(example.shape[1:]), named)
    return untied(folded(with_pools(normalised(network, batch))))


def network_of_model(
    model: onnx.ModelProto, input_shape: tuple[int, ...], parameters: frozenset[str] | None
) -> Network:
    """Return a model without functions and external data as a network."""
    scopes = scopes_of(model)
    for node in model.graph.node:
        del node.metadata_props[:]
    graph = read_graph(model.SerializeToString())
    if parameters is not None:
        parameters = parameters & set(graph.constants)
    return Network(graph=graph, input_shape=input_shape, scopes=scopes, parameters=parameters)


def scopes_of(model: onnx.ModelProto) -> dict[str, Scope]:
    """Return in which module each value is made, from what torch's exporters write."""
    found: dict[str, Scope] = {}
    for node in model.graph.node:
        facts = {one.key: one.value for one in node.metadata_props}
        if _SCOPES in facts:
            path, classes = _listed(facts[_SCOPES]), _listed(facts.get(_CLASSES, "[]"))
        elif node.name.startswith("/"):  # the exporter of torch up to 2.8
            path, classes = _cumulative(node.name.strip("/").split("/")), []
        else:
            continue
        path = [_CALL.sub("", one) for one in path[:-1]]  # the last one is the operator
        if path and path[0] == "":
            scope = Scope(path=tuple(path), classes=tuple(classes[: len(path)]))
            found.update((output, scope) for output in node.output if output)
    return found


def _cumulative(parts: list[str]) -> list[str]:
    """Return the full name of each module of a path, in which a list repeats its own name.

    Example:
        >>> _cumulative(["layer3", "layer3.1", "conv1", "Conv"])
        ['', 'layer3', 'layer3.1', 'layer3.1.conv1', 'layer3.1.conv1.Conv']
    """
    path, last = [""], ""
    for part in parts:
        if last and part.startswith(f"{last}."):
            path.append(path[-1] + part.removeprefix(last))
        else:
            path.append(f"{path[-1]}.{part}".lstrip("."))
        last = part
    return path


def _listed(text: str) -> list[str]:
    """Return the strings of a list that Python has printed."""
    return [a or b for a, b in re.findall(r"'([^']*)'|\"([^\"]*)\"", text)]
