"""Recipe: what to export, read from a TOML file."""

from __future__ import annotations

import sys
from dataclasses import dataclass, fields
from pathlib import Path

from plr_edge.errors import ConfigError, one_line

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What to export. None leaves the choice to the backbone.

    Attributes:
        backbone: built-in name, `torchvision:NAME`, `timm:NAME`, `package.module:function`, or an
            .onnx file, whose path is relative to the recipe.
        weights: safetensors or .pth file.
        cut: name of the first adaptive block.
        input_size: height and width of the input in pixels.
        static_feature: let the fast classifier also read the feature of the network as exported.
            More accurate for categories of objects, but costs a second pass of the adaptive part.
        precision: precision of the frozen part: fp32, fp16 or int8.
        pretrained: let torchvision or timm load their own weights.
        input_shape: shape of the input, `C,H,W` or `C,T`.
        mean: mean of each channel, separated by commas, in units of `range`.
        std: standard deviation of each channel, in the same units.
        range: values of black and white, such as `0..1`.
        bgr: the network takes blue, green and red.
        layout: `nchw` or `nhwc`.
        feature: value or module whose output is the feature.
    """

    backbone: str = "mobilenet_v2"
    weights: Path | None = None
    cut: str | None = None
    input_size: int | None = None
    static_feature: bool = False
    precision: str = "fp32"
    pretrained: bool = False
    input_shape: str | None = None
    mean: str | None = None
    std: str | None = None
    range: str | None = None
    bgr: bool = False
    layout: str | None = None
    feature: str | None = None


def read_recipe(path: Path) -> Recipe:
    """Read a recipe from a TOML file. The path of the weights is relative to that file.

    Raises:
        ConfigError: the file cannot be read, or is not a recipe.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}; give a .toml recipe") from None
    except ValueError as error:
        raise ConfigError(f"{path} is not valid TOML ({one_line(error, 120)})") from None
    types = {"backbone": str, "weights": str, "cut": str, "input_size": int, "static_feature": bool,
             "precision": str, "pretrained": bool, "input_shape": str, "mean": str, "std": str,
             "range": str, "bgr": bool, "layout": str, "feature": str}  # fmt: skip
    for name, value in values.items():
        if name not in types or type(value) is not types[name]:
            names = ", ".join(field.name for field in fields(Recipe))
            raise ConfigError(
                f"{path}: {name[:40]} = {str(value)[:40]!r} is not allowed; "
                f"a recipe may set {names}"
            )
    if "weights" in values:
        values["weights"] = path.parent / values["weights"]
    if values.get("backbone", "").endswith(".onnx"):
        values["backbone"] = str(path.parent / values["backbone"])
    return Recipe(**values)
