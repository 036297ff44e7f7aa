"""What plr_edge uses of TensorRT, cuda-python and torch, read from its source with `ast`.

No types are written in the source, so the names of variables are the types: `NAMES` says which.
What this misses is found elsewhere: the fakes have exactly these names, and every line runs on
them.
"""

from __future__ import annotations

import ast
from pathlib import Path

import plr_edge.engines

ENGINES = Path(plr_edge.engines.__file__).parent
TENSORRT_FILES = ("tensorrt_engine.py", "tensorrt_versions.py", "plan_build.py", "plan_cache.py")
MODULES = {"trt", "_trt", "tensorrt"}
NAMES = {
    "builder": "Builder",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "one": "ParserError",
    "config": "IBuilderConfig",
    "profile": "IOptimizationProfile",
    "tensor": "ITensor",
    "engine": "ICudaEngine",
    "_engine": "ICudaEngine",
    "context": "IExecutionContext",
    "_context": "IExecutionContext",
    "_runtime": "Runtime",
    "severities": "ILogger.Severity",
}
RETURNS = {
    "IBuilderConfig.get_timing_cache": "ITimingCache",
    "INetworkDefinition.get_output": "ITensor",
}
ENUMS = {
    "MemoryPoolType",
    "TensorIOMode",
    "DataType",
    "NetworkDefinitionCreationFlag",
    "BuilderFlag",
    "ILogger.Severity",
}


def tensorrt_names() -> set[str]:
    """Return `Class.attribute` for everything that is used, and `__version__`."""
    found: set[str] = set()
    for name in TENSORRT_FILES:
        for node in ast.walk(ast.parse((ENGINES / name).read_text())):
            if isinstance(node, ast.Attribute):
                where = _type_of(node.value)
                if where is not None:
                    found.add(f"{where}.{node.attr}".lstrip("."))
    return found


def _type_of(node: ast.expr) -> str | None:
    """Return the TensorRT class that an expression is or is of; "" for the module."""
    if isinstance(node, ast.Name):
        return "" if node.id in MODULES else NAMES.get(node.id)
    if isinstance(node, ast.Attribute):
        where = _type_of(node.value)
        if where is not None:
            return f"{where}.{node.attr}".lstrip(".")
        return "" if node.attr in MODULES else NAMES.get(node.attr)
    if isinstance(node, ast.Call):
        return RETURNS.get(_type_of(node.func) or "")
    return None


def chains(file: str, roots: set[str]) -> set[str]:
    """Return dotted names below a module that a file calls `runtime`, `_runtime`, `torch` ..."""
    found = set()
    for node in ast.walk(ast.parse((ENGINES / file).read_text())):
        names: list[str] = []
        while isinstance(node, ast.Attribute):
            if node.attr in roots and names:
                break
            names.insert(0, node.attr)
            node = node.value
        root = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", None)
        if names and root in roots:
            found.add(".".join(names))
    return {name for name in found if not any(other.startswith(f"{name}.") for other in found)}
