"""Recipes: what to export, as a frozen dataclass or a TOML file."""

from __future__ import annotations

import sys
from dataclasses import dataclass, fields
from pathlib import Path

from plr_edge.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What to export; None leaves the choice to the backbone.

    Attributes:
        backbone: a built-in name, or `package.module:function`.
        weights: a safetensors file.
        cut: the first adaptive block.
        input_size: height and width of the input.
        static_feature: let the fast classifier read the feature of the network as exported too:
            better on kinds of objects, dearer by a second pass of the adaptive part.
        precision: of the frozen part: fp32, fp16 or int8.
    """

    backbone: str = "mobilenet_v2"
    weights: Path | None = None
    cut: str | None = None
    input_size: int | None = None
    static_feature: bool = False
    precision: str = "fp32"


def read_recipe(path: Path) -> Recipe:
    """Read a recipe from TOML; a path to weights in it is relative to the file.

    Raises:
        ConfigError: it cannot be read, or holds something else.
    """
    try:
        facts = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}; give a .toml recipe") from None
    except ValueError as error:
        raise ConfigError(f"{path} is no TOML ({' '.join(str(error).split())[:120]})") from None
    types = {"backbone": str, "weights": str, "cut": str, "input_size": int, "static_feature": bool,
             "precision": str}  # fmt: skip
    for name, value in facts.items():
        if name not in types or type(value) is not types[name]:
            names = ", ".join(field.name for field in fields(Recipe))
            raise ConfigError(
                f"{path}: {name[:40]} = {str(value)[:40]!r} is no part of a recipe; "
                f"it holds {names}"
            )
    if "weights" in facts:
        facts["weights"] = path.parent / facts["weights"]
    return Recipe(**facts)
