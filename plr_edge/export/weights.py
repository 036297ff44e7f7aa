"""Weights of a torch network from a safetensors or .pth file, under the names of the network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from plr_edge.backbones import read_weights
from plr_edge.errors import BackboneError, one_line

_WRAPPERS = ("state_dict", "model", "model_state_dict", "model_state", "weights")
_PREFIXES = ("module.", "_orig_mod.")
_OPTIONAL = "num_batches_tracked"


def load_weights(name: str, module: nn.Module, path: Path) -> None:
    """Load all weights of a network from a file.

    Args:
        name: name of the network, for messages.
        module: the network; its weights are replaced.
        path: a safetensors file, or a .pth file that holds tensors only.

    Raises:
        BackboneError: the file cannot be read, or a weight is missing, unknown or of another shape.
    """
    tensors = _pickled(path) if path.suffix in (".pth", ".pt", ".bin") else _safe(path)
    for prefix in _PREFIXES:
        if tensors and all(key.startswith(prefix) for key in tensors):
            tensors = {key.removeprefix(prefix): tensor for key, tensor in tensors.items()}
    own = module.state_dict()
    if all(key.startswith("block") for key in tensors):  # as blocks of an nn.Sequential are called
        short = {key.removeprefix("block"): tensor for key, tensor in tensors.items()}
        tensors = short if set(short) & set(own) else tensors
    odd = sorted(key for key in set(tensors) ^ set(own) if not key.endswith(_OPTIONAL))
    if odd:
        where = "only in the file" if odd[0] in tensors else "missing from the file"
        raise BackboneError(f"{path} does not fit {name}: {odd[0]!r} is {where} ({len(odd)} such "
                            "tensors); give weights with the names of the network")  # fmt: skip
    for key, tensor in own.items():
        if key not in tensors:
            continue
        if tensor.shape != tensors[key].shape:
            raise BackboneError(
                f"{path} does not fit {name}: {key!r} has shape {tuple(tensors[key].shape)}, not "
                f"{tuple(tensor.shape)}"
            )
        with torch.no_grad():
            tensor.copy_(tensors[key])
    for key, tensor in own.items():  # a module that is used twice has two names
        if key in tensors and tensor.is_floating_point():
            same = torch.equal(tensor, tensors[key].to(tensor.dtype))
            if not same and not bool(torch.isnan(tensors[key]).any()):
                raise BackboneError(
                    f"{path} does not fit {name}: {key!r} is used under another name too, with "
                    "other values"
                )


def _safe(path: Path) -> dict[str, torch.Tensor]:
    return {n: torch.from_numpy(np.array(a, order="C")) for n, a in read_weights(path).items()}


def _pickled(path: Path) -> dict[str, torch.Tensor]:
    """Read a .pth file without running code that it may hold."""
    try:
        found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise BackboneError(f"cannot read {path}: {error.strerror or error}") from None
    except Exception as e:  # torch raises many kinds
        reason = one_line(e, 120)
        raise BackboneError(
            f"{path} holds more than tensors, or is damaged ({reason}); save the state_dict alone: "
            "torch.save(network.state_dict(), ...)"
        ) from None
    for key in _WRAPPERS:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
            break
    if not isinstance(found, Mapping) or not all(
        isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in found.items()
    ):
        raise BackboneError(
            f"{path} does not hold a state_dict; save it with torch.save(network.state_dict(), ...)"
        )
    return dict(found)
