"""Networks by name: built-in, of torchvision or timm, of a user's function, or an .onnx file."""

from __future__ import annotations

import importlib
import logging
import os
import sys
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from plr_edge.backbones import BACKBONES, Backbone, from_sequential, load_backbone
from plr_edge.backbones.base import fold_batch_norm
from plr_edge.backbones.checks import check_finite
from plr_edge.errors import BackboneError, ConfigError, PlrEdgeError, one_line
from plr_edge.export.divided import divide
from plr_edge.export.libraries import LIBRARIES, Made
from plr_edge.export.onnx_source import network_of_file
from plr_edge.export.source import (
    Source,
    check_source,
    graph_options,
    preprocessing_of,
    refuse_graph_options,
)
from plr_edge.export.split import block_costs, split
from plr_edge.export.torch_source import network_of_module
from plr_edge.export.trainable import trouble_above
from plr_edge.export.weights import load_weights

_log = logging.getLogger(__name__)
_SIZE = 224


def load_network(source: Source, *, seed: int = 0) -> Backbone:
    """Return a network as a backbone.

    Args:
        source: where it comes from.
        seed: random seed of random weights.

    Raises:
        BackboneError: it is unknown, cannot be read or exported, or the weights do not fit.
        ConfigError: an option is not allowed, or not for this kind of network.
        MissingExtraError: torchvision or timm is not installed.
    """
    backbone = _loaded(source, seed)
    known = {n: v for n, v in vars(source).items() if v not in (None, False) and n != "weights"}
    return replace(backbone, source=known)


def _loaded(source: Source, seed: int) -> Backbone:
    name = source.backbone
    check_source(source)
    if name.endswith(".onnx"):
        return _of_file(source)
    library, _, model = name.partition(":")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if library in LIBRARIES and model:
            made = LIBRARIES[library](model, source.pretrained)
            if source.weights is None and not source.pretrained:
                _log.warning("%s has random weights; give --weights FILE or --pretrained", name)
        elif model and name not in BACKBONES:
            given = _called(name)
            if isinstance(given, Backbone):
                refuse_graph_options(source, "returns a Backbone")
                return load_backbone(name, weights=source.weights, input_size=source.input_size)
            made = Made(module=given)
        else:
            refuse_graph_options(source, "is built in")
            return load_backbone(
                name, weights=source.weights, input_size=source.input_size, seed=seed
            )
    return _of_module(source, made)


def _of_module(source: Source, made: Made) -> Backbone:
    name, module = source.backbone, made.module.eval()
    if source.weights is not None:
        load_weights(name, module, source.weights)
    if type(module) is nn.Sequential and not graph_options(source):
        return _of_sequential(source, made)
    return _of_graph(source, made)


def _of_sequential(source: Source, made: Made) -> Backbone:
    """Take the children of an `nn.Sequential` as blocks if they can be, else its graph."""
    assert isinstance(made.module, nn.Sequential)
    size = _SIZE if source.input_size is None else source.input_size
    try:
        backbone = from_sequential(source.backbone, made.module, size)
    except BackboneError as first:
        try:
            return _of_graph(source, made)
        except BackboneError as error:
            raise first from error
    check_finite(backbone.name, backbone.blocks)
    trouble = _trouble_with(backbone)
    if not trouble:
        return backbone
    try:
        return _of_graph(source, made)
    except BackboneError as error:
        _log.debug("the graph of %s cannot be used either: %s", source.backbone, error)
        return backbone  # the export says what is wrong with it


def _trouble_with(backbone: Backbone) -> bool:
    """Return whether blocks lose what the network does between them, or cannot all be trained."""
    folded = replace(backbone, blocks=fold_batch_norm(backbone.blocks))
    shape = backbone.preprocessing.input_shape
    x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    assert isinstance(backbone.reference, nn.Module)
    with torch.no_grad():
        want, got = backbone.reference(x), folded.blocks(x)
    want = want.mean((2, 3)) if want.ndim == 4 else want
    _, shapes = block_costs(folded)
    cuts = folded.block_names[1:]
    return not torch.allclose(got, want, rtol=1e-3, atol=1e-5) or any(
        trouble_above(split(folded, cut)[1], shapes[cut]) for cut in cuts
    )


def _of_graph(source: Source, made: Made) -> Backbone:
    name, module = source.backbone, made.module
    preprocessing = preprocessing_of(source, made, None)
    network = network_of_module(name, module, preprocessing.input_shape)
    return divide(name, network, preprocessing, lambda x: _first(name, module(x)), source.feature)


def _of_file(source: Source) -> Backbone:
    for option, value in (("weights", source.weights), ("pretrained", source.pretrained)):
        if value:
            raise ConfigError(f"--{option} is not for an .onnx file, which holds its weights")
    wanted = source.input_shape
    if source.input_size is not None:
        wanted = (3, source.input_size, source.input_size)
    path = Path(source.backbone)
    file = network_of_file(path, wanted, source.layout)
    if file.half:
        _log.warning("%s holds float16 weights; they are exported as float32", path)
    preprocessing = preprocessing_of(source, Made(module=nn.Identity()), file.network.input_shape)
    return divide(path.name, file.network, preprocessing, file.run, source.feature)


def _called(name: str) -> nn.Module | Backbone:
    """Return what a user's function returns."""
    module_name, _, function = name.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        made = getattr(importlib.import_module(module_name), function)()
    except PlrEdgeError:
        raise
    except (Exception, SystemExit) as error:  # the user's code may raise anything
        reason = one_line(f"{type(error).__name__}: {error}", 200)
        raise BackboneError(f"cannot get a backbone from {name!r} ({reason})") from error
    if isinstance(made, nn.Sequential) and not len(made):
        raise BackboneError(f"{name!r} returned an empty nn.Sequential; give at least one block")
    if not isinstance(made, (nn.Module, Backbone)):
        raise BackboneError(
            f"{name!r} returned a {type(made).__name__}; return an nn.Module or a Backbone"
        )
    return made


def _first(name: str, output: object) -> torch.Tensor:
    """Return the first tensor of what a network returns."""
    while isinstance(output, (tuple, list, dict)) and output:
        output = next(iter(output.values())) if isinstance(output, dict) else output[0]
    if not isinstance(output, torch.Tensor):
        raise BackboneError(f"{name} returns a {type(output).__name__}; it must return a tensor")
    return output
