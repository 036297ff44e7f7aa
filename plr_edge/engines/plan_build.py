"""Build one TensorRT plan; run as a child process, since a build takes gigabytes and may be killed.

`python -m plr_edge.engines.plan_build JOB`: reads the model, writes the plan, prints one line of
JSON. Neither torch nor onnx is needed. Whether to build at all is `plan_cache`'s business.
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
    log_of,
    network_flags,
    precision_flags,
)
from plr_edge.errors import ConfigError, EngineError
from plr_edge.files import replace_file, write_synced

_MOST_PARSER_ERRORS = 5
_SIGKILL = 9
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class BuildJob:
    """What a build is told.

    Attributes:
        onnx: the model, a file; its first dimension is the batch.
        onnx_sha256: of it.
        plan: where to write.
        timing_cache: what builds of before measured; made where it is missing.
        precision: of the graph: fp32, fp16 or int8; only TensorRT 8 must be told.
        max_batch: of the optimisation profile, whose min and opt are 1, the batch of a stream.
        workspace_bytes: scratch that a layer may take.
        tactic_dram_bytes: memory that trying out a layer may take; None leaves it to TensorRT.
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
        """Return what `main` takes."""
        return json.dumps(asdict(self))


def build(job: BuildJob) -> dict[str, Any]:
    """Build and write the plan, and write the timing cache back.

    Returns:
        outputs: names of the model's outputs, in its order.
        build_s: seconds that TensorRT took.

    Raises:
        EngineError: the parser does not take the model, TensorRT builds nothing, or the disk
            refuses.
    """
    trt = load_tensorrt()
    log = log_of(trt)
    log.errors = []
    try:
        builder = trt.Builder(log)
    except (TypeError, RuntimeError) as error:
        raise EngineError(f"TensorRT finds no GPU to build for ({error})") from None
    network = builder.create_network(network_flags(trt))
    _parse(trt, network, log, _model(job))
    config = _configured(trt, builder, network, job)
    start = time.monotonic()
    plan = builder.build_serialized_network(network, config)
    if plan is None:  # this is how TensorRT says that it failed
        raise EngineError(
            f"TensorRT built no plan ({log.why()}); try a smaller --workspace or --max-batch, "
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
    """Fill the network; every complaint of the parser goes into one error."""
    parser = trt.OnnxParser(network, log)
    if parser.parse(model):
        return
    complaints = [parser.get_error(i) for i in range(parser.num_errors)]
    said = [f"node {one.node()}: {' '.join(one.desc().split())}" for one in complaints]
    more = f" and {len(said) - _MOST_PARSER_ERRORS} more" if len(said) > _MOST_PARSER_ERRORS else ""
    raise EngineError(
        f"TensorRT {trt.__version__} cannot parse this part "
        f"({'; '.join(said[:_MOST_PARSER_ERRORS]) or log.why()}{more}); use --engine onnx"
    )


def _configured(trt: Any, builder: Any, network: Any, job: BuildJob) -> Any:
    if network.num_inputs != 1:
        raise EngineError(f"the part has {network.num_inputs} inputs; one is needed; export again")
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
            f"TensorRT takes no batch of 1 to {job.max_batch} for an input of "
            f"{tuple(tensor.shape)}; export the bundle again"
        )
    _use_timings(config, Path(job.timing_cache))
    return config


def _use_timings(config: Any, file: Path) -> None:
    """Start from the timings of before; damaged ones, or those of another GPU, are no loss."""
    try:
        kept = file.read_bytes()
    except OSError:
        kept = b""
    cache = config.create_timing_cache(kept)
    if cache is None or not config.set_timing_cache(cache, False):
        _logger.info("timings in %s are of no use here; starting anew", file)
        config.set_timing_cache(config.create_timing_cache(b""), False)


def _keep_timings(config: Any, file: Path) -> None:
    try:
        replace_file(file, bytes(config.get_timing_cache().serialize()))
    except ConfigError as error:  # the next build is slow, no more
        _logger.warning("%s", error)


def build_in_child(job: BuildJob) -> dict[str, Any]:
    """Build in a child process; see `build`, which this process never needs the memory for.

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
            "the build was killed, most likely because memory ran out; give it less with "
            f"--workspace (it was {job.workspace_bytes // 2**20} MiB) or --optimization-level 0, "
            "add swap, and stop the desktop while it builds"
        )
    last = (child.stderr.strip().splitlines() or ["it says nothing"])[-1]
    if child.returncode < 0:
        raise EngineError(f"the build crashed with signal {-child.returncode} ({last[:200]})")
    if child.returncode != 0:
        raise EngineError(last)
    facts: dict[str, Any] = json.loads(child.stdout.splitlines()[-1])
    return facts


def main(job: str) -> None:
    """Build, and print what `build` returns on the last line."""
    print(json.dumps(build(BuildJob(**json.loads(job)))))


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except EngineError as error:
        sys.exit(str(error))
