"""torch's exporter to ONNX, called so that it neither prints nor warns. Needs torch and onnx."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import warnings
from collections.abc import Iterator, Sequence

import onnx
import torch
from torch import nn

from plr_edge.errors import one_line

OPSET = 18  # read by TensorRT 8.6 to 11 and by ONNX Runtime from 1.14
_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


def cause(error: BaseException) -> str:
    """Return the first cause of an error of the exporter, which wraps it in pages of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = _ESCAPES.sub("", str(error)) or type(error).__name__
    return one_line(text, 300)


def export_module(
    module: nn.Module, example: torch.Tensor, input_name: str = "image",
    output_names: Sequence[str] | None = None, *, free_batch: bool = True, optimise: bool = False,
) -> onnx.ModelProto:  # fmt: skip
    """Export a module as a whole.

    Args:
        module: the module, in eval mode.
        example: (n, ...) float32 input. With n = 1 the exporter may fix the batch axis to 1.
        input_name: name of the graph's input.
        output_names: names of the graph's outputs; those of the exporter by default.
        free_batch: leave the size of the batch free.
        optimise: let the exporter rewrite the graph, which merges equal weights.

    Raises:
        Exception: whatever the exporter raises.
    """
    names = None if output_names is None else list(output_names)
    with quiet(), torch.no_grad():
        if tuple(int(x) for x in torch.__version__.split("+")[0].split(".")[:2]) >= (2, 6):
            batch = {0: torch.export.Dim("batch", min=1, max=4096)}
            program = torch.onnx.export(
                module, (example,), input_names=[input_name], output_names=names,
                dynamic_shapes=(batch,) if free_batch else None, opset_version=OPSET,
                dynamo=True, external_data=False, verbose=False, optimize=optimise,
            )  # fmt: skip
            assert program is not None
            return program.model_proto
        buffer = io.BytesIO()
        free = (
            {name: {0: "batch"} for name in (input_name, *([] if names is None else names))}
            if free_batch
            else None
        )
        torch.onnx.export(  # torch 2.3 to 2.5, as on Jetsons: the older exporter
            module,
            (example,),
            buffer,  # type: ignore[arg-type]
            input_names=[input_name],
            output_names=names,
            dynamic_axes=free,
            opset_version=17,
        )
    return onnx.version_converter.convert_version(onnx.load_from_string(buffer.getvalue()), OPSET)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence the progress and the warnings of the exporter."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
