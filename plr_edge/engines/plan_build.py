"""Building a TensorRT plan in a child process, since a build takes gigabytes and may be killed.

`python -m plr_edge.engines.plan_build JOB` reads the model, writes the plan and prints a line of
JSON. It needs neither torch nor onnx. `plan_cache` decides whether a plan must be built.
"""

from __future__ import annotations

import hashlib
import json
import logging
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from plr_edge.engines.tensorrt_versions import (
    load_tensorrt,
    logger_of,
    network_flags,
    precision_flags,
)
from plr_edge.errors import ConfigError, EngineError
from plr_edge.files import replace_file, write_synced
from plr_edge.graph.tensorrt import misread

_MAX_PARSER_ERRORS = 5
_SIGKILL = 9
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class BuildJob:
    """Input of a build.

    Attributes:
        onnx: path of the model, whose first dimension is the batch.
        onnx_sha256: digest of the model.
        plan: path of the plan to write.
        timing_cache: path of the timings of earlier builds; created if it is missing.
        precision: precision of the graph: fp32, fp16 or int8. Only TensorRT 8 needs it.
        max_batch: largest batch of the optimisation profile. Its smallest and its optimal batch
            are 1, as in a live stream.
        workspace_bytes: scratch memory that a layer may take.
        tactic_dram_bytes: memory that TensorRT may take to time a layer; its own default if None.
        optimization_level: 0 builds fastest, 5 searches longest.
    """

    onnx: str
    onnx_sha256: str
    plan: str
    timing_cache: str
    precision: str
    max_batch: int
    workspace_bytes: int
    tactic_dram_bytes: int | None
    optimization_level: int

    def to_json(self) -> str:
        """Return the argument of `main`."""
        return json.dumps(asdict(self))


def build(job: BuildJob) -> dict[str, Any]:
    """Build and write the plan, and update the timing cache.

    Returns:
        A dict of `outputs`, the names of the model's outputs in its order, and `build_s`, the
        seconds that TensorRT took.

    Raises:
        EngineError: TensorRT cannot parse the model or build a plan, or the disk refuses.
    """
    trt = load_tensorrt()
    log = logger_of(trt)
    log.errors = []
    try:
        builder = trt.Builder(log)
    except (TypeError, RuntimeError) as error:
        raise EngineError(
            f"TensorRT finds no GPU to build for ({error}); use --engine onnx"
        ) from None
    network = builder.create_network(network_flags(trt))
    _parse(trt, network, log, _model(job))
    config = _configured(trt, builder, network, job)
    start = time.monotonic()
    plan = builder.build_serialized_network(network, config)
    if plan is None:  # TensorRT reports failure this way
        raise EngineError(
            f"TensorRT built no plan ({log.reason()}); try a smaller --workspace or --max-batch, "
            "a lower --optimization-level, or --engine onnx"
        )
    build_s = time.monotonic() - start
    try:
        write_synced(Path(job.plan), bytes(plan))
    except OSError as error:
        raise EngineError(f"cannot write {job.plan}: {error.strerror}") from None
    _keep_timings(config, Path(job.timing_cache))
    outputs = [network.get_output(i).name for i in range(network.num_outputs)]
    return {"outputs": outputs, "build_s": round(build_s, 1)}


def _model(job: BuildJob) -> bytes:
    try:
        model = Path(job.onnx).read_bytes()
    except OSError as error:
        raise EngineError(f"cannot read {job.onnx}: {error.strerror}") from None
    if hashlib.sha256(model).hexdigest() != job.onnx_sha256:
        raise EngineError(f"{job.onnx} changed while it was opened; try again")
    return model


def _parse(trt: Any, network: Any, log: Any, model: bytes) -> None:
    """Fill the network from a serialised model.

    Raises:
        EngineError: the parser fails; the message lists its errors. Or it would read an operator
            wrongly.
    """
    wrong = misread(model) if str(trt.__version__).startswith("8.") else []
    if wrong:
        raise EngineError(
            f"TensorRT {trt.__version__} would compute {', '.join(wrong)} of this part over all "
            "axes, the batch too, as it does not read axes that are an input; export the network "
            "again, or use TensorRT 10 or --engine onnx"
        )
    parser = trt.OnnxParser(network, log)
    if parser.parse(model):
        return
    errors = [parser.get_error(i) for i in range(parser.num_errors)]
    texts = [f"node {one.node()}: {' '.join(one.desc().split())}" for one in errors]
    n_more = len(texts) - _MAX_PARSER_ERRORS
    more = f" and {n_more} more" if n_more > 0 else ""
    raise EngineError(
        f"TensorRT {trt.__version__} cannot parse this part "
        f"({'; '.join(texts[:_MAX_PARSER_ERRORS]) or log.reason()}{more}); use --engine onnx"
    )


def _configured(trt: Any, builder: Any, network: Any, job: BuildJob) -> Any:
    """Return the builder configuration of a job."""
    if network.num_inputs != 1:
        raise EngineError(
            f"the part has {network.num_inputs} inputs; it needs one; export the bundle again"
        )
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, job.workspace_bytes)
    if job.tactic_dram_bytes is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.TACTIC_DRAM, job.tactic_dram_bytes)
    config.builder_optimization_level = job.optimization_level
    for flag in precision_flags(trt, job.precision):
        config.set_flag(flag)
    tensor = network.get_input(0)
    item_shape = tuple(tensor.shape)[1:]
    profile = builder.create_optimization_profile()
    profile.set_shape(tensor.name, (1, *item_shape), (1, *item_shape), (job.max_batch, *item_shape))
    if config.add_optimization_profile(profile) < 0:
        raise EngineError(
            f"TensorRT refuses batches of 1 to {job.max_batch} for an input of shape "
            f"{tuple(tensor.shape)}; export the bundle again"
        )
    _use_timings(config, Path(job.timing_cache))
    return config


def _use_timings(config: Any, file: Path) -> None:
    """Load the timings of earlier builds; start without if they are damaged or of another GPU."""
    try:
        kept = file.read_bytes()
    except OSError:
        kept = b""
    cache = config.create_timing_cache(kept)
    if cache is None or not config.set_timing_cache(cache, False):
        _logger.info("timings in %s cannot be used here; starting without", file)
        config.set_timing_cache(config.create_timing_cache(b""), False)


def _keep_timings(config: Any, file: Path) -> None:
    try:
        replace_file(file, bytes(config.get_timing_cache().serialize()))
    except ConfigError as error:  # only makes the next build slower
        _logger.warning("%s", error)


def build_in_child(job: BuildJob) -> dict[str, Any]:
    """Build in a child process; see `build`.

    Raises:
        EngineError: the build fails, is killed, or crashes.
    """
    child = subprocess.run(
        [sys.executable, "-m", "plr_edge.engines.plan_build", job.to_json()],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
    )
    if child.returncode == -_SIGKILL:
        raise EngineError(
            "the build was killed, most likely because memory ran out; reduce --workspace "
            f"(it was {job.workspace_bytes // 2**20} MiB), use --optimization-level 0, add swap, "
            "or stop the desktop during the build"
        )
    last = (child.stderr.strip().splitlines() or ["no message"])[-1]
    if child.returncode < 0:
        raise EngineError(f"the build crashed with signal {-child.returncode} ({last[:200]})")
    if child.returncode != 0:
        raise EngineError(last)
    result: dict[str, Any] = json.loads(child.stdout.splitlines()[-1])
    return result


def main(job: str) -> None:
    """Build, and print the result of `build` as the last line."""
    print(json.dumps(build(BuildJob(**json.loads(job)))))


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except EngineError as error:
        sys.exit(str(error))
